"""What can be done in a cluster. Every change is one JSON patch that tests what it was planned upon.

A patch tests the uid and the generation (or the count) that was read just before: the same patch sent twice,
or one that arrives late, is turned away by the API server itself. The resource version is not tested, since
status writes move it all the time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

from activities.k8s.models import (
    ACTION,
    RESTARTED_AT,
    REVISION,
    Autoscaler,
    DeploymentState,
    History,
    InCluster,
    InDeployment,
    KubernetesObject,
    LimitsState,
    RestartDeployment,
    RollBackDeployment,
    RollBackState,
    ScaleDeployment,
    ScaleState,
    Seen,
    SetAutoscalerLimits,
    SetSync,
    SyncState,
    bare_template,
    images,
    last_manager,
    marks,
    own_annotations,
    room,
    same_template,
    template_differences,
    waiting,
)
from contracts.actions import Action, RequestT
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.outcomes import Progress, Reached
from contracts.plans import Difference, Observation, Reach, Risk

Patch = list[dict[str, Any]]
StateT = TypeVar("StateT", bound=Seen)


class KubernetesApi(Protocol):
    """What actions and probes need of the clusters. Its errors are those that ``Action`` tells of."""

    def read(self, at: InCluster, subresource: str = "") -> KubernetesObject:
        """Read one object, or a subresource of it."""

    def items(
        self, at: InCluster, what: str, *, selected_by: KubernetesObject | None = None, fields: str = ""
    ) -> list[KubernetesObject]:
        """Read the objects of a kind in the same namespace.

        Args:
            at: Where.
            what: One of ``RESOURCES``.
            selected_by: Only those that this object's ``spec.selector`` selects.
            fields: A field selector.
        """

    def may_patch(self, at: InCluster, subresource: str = "") -> bool:
        """Ask whether our credential may patch the object, or a subresource of it."""

    def patch(
        self, at: InCluster, patch: Patch, *, subresource: str = "", action_id: str, dry_run: bool = False
    ) -> None:
        """Send one JSON patch, once; a failed test in it is a ``PreconditionFailedError``."""


def read_deployment(api: KubernetesApi, at: InDeployment) -> tuple[KubernetesObject, DeploymentState]:
    """Read a deployment, and while its rollout is not complete why its pods do not start."""
    found = api.read(at)
    state = DeploymentState.read(at, found)
    seen = state.observed_generation >= state.generation
    if not seen or state.progress(at.where).reached is Reached.YES:
        return found, state
    try:
        pods = api.items(at, "pod", selected_by=found, fields="status.phase=Pending")
    except ActionRefusedError:  # without that right the rollout's own deadline has to tell
        return found, state
    return found, state.model_copy(update={"waiting": waiting(state.template, pods)})


def read_history(api: KubernetesApi, at: InDeployment) -> tuple[KubernetesObject, DeploymentState, History]:
    """Read a deployment and its former revisions."""
    found, state = read_deployment(api, at)
    kept_in = "replica_set" if at.kind == "deployment" else "controller_revision"
    history = History.read(at, state, api.items(at, kept_in, selected_by=found))
    number = next((one.number for one in history.revisions if one.current), 0)
    return found, state.model_copy(update={"revision": state.revision or number}), history


class _Patches(ABC, Generic[RequestT, StateT]):
    """What the actions share: each sends one patch to one object, if there is something to change.

    Class attributes:
        state_type: What ``observe`` reads.
        guarded: The fields of the state that void an approval when they change.
        subresource: Of the object, that is patched instead of it.
    """

    state_type: type[StateT]
    guarded: ClassVar[tuple[str, ...]]
    subresource: ClassVar[str] = ""

    def __init__(self, api: KubernetesApi, clock: Callable[[], datetime]) -> None:
        self._api = api
        self._clock = clock

    def observe(self, request: RequestT) -> Observation:
        """Read the target, and who set what is not as it should be."""
        plain = self._look(request).model_dump(mode="json")
        if plain["changed_by"] is None:
            del plain["changed_by"]
        return Observation(state=plain, guard={name: plain[name] for name in self.guarded}, at=self._clock())

    def change(self, request: RequestT, observed: Observation) -> tuple[Difference, ...]:
        """Give the exact difference that it would make."""
        return self._change(request, self._state(observed))

    def preflight(self, request: RequestT, observed: Observation) -> tuple[str, ...]:
        """Find what stands against it, a missing permission, and whatever a dry run tells."""
        state = self._state(observed)
        if not self._change(request, state):
            return ()
        return self._stops(request, state) or self._refusals(request, state)

    def apply(self, request: RequestT, observed: Observation, *, action_id: str) -> None:
        """Send the patch, if there is something to change."""
        state = self._state(observed)
        if self._change(request, state):
            patch = self._patch(request, state, action_id)
            self._api.patch(self._at(request), patch, subresource=self.subresource, action_id=action_id)

    def is_reached(self, request: RequestT, observed: Observation) -> Progress:
        """Compare the target with what is asked for, then look at what serves."""
        state = self._state(observed)
        reached = Reached.NO if self._change(request, state) else Reached.YES
        return self._progress(request, state, reached)

    def undo(self, request: RequestT, observed: Observation) -> tuple[RequestT | None, str]:
        """Give the request that brings the observed state back, or why there is none."""
        return self._undo(request, self._state(observed))

    def blast_radius(self, request: RequestT, observed: Observation) -> str:
        """Say who and what is touched, and who may put it back."""
        state = self._state(observed)
        return self._touched(request, state) + "".join(f" {owner.note}" for owner in state.owners)

    def reach(self, request: RequestT, observed: Observation) -> Reach:
        """Give the cluster."""
        return Reach(region=self._at(request).cluster)

    def _state(self, observed: Observation) -> StateT:
        return self.state_type.model_validate(observed.state)

    def _at(self, request: RequestT) -> InCluster:
        return cast(InCluster, request)

    def _refusals(self, request: RequestT, state: StateT) -> tuple[str, ...]:
        at, sub = self._at(request), self.subresource
        what = f"{at.resource.name}/{sub}" if sub else at.resource.name
        try:
            if not self._api.may_patch(at, sub):
                return (f"{at.where}: the credential may not patch {what} in namespace {at.namespace}",)
            patch = self._patch(request, state, "dry-run")
            self._api.patch(at, patch, subresource=sub, action_id="dry-run", dry_run=True)
        except ActionRefusedError as error:
            # Some admission webhooks cannot be asked; the real call still passes through them.
            return () if "does not support dry run" in str(error) else (str(error),)
        return ()

    def _limited(self, at: InDeployment, state: DeploymentState) -> dict[str, Any]:
        """Look at what limits the number of its pods: autoscalers and quotas."""
        unknown = []

        def items(what: str, doubt: str) -> list[KubernetesObject]:
            try:
                return self._api.items(at, what)
            except ActionRefusedError as error:
                unknown.append(f"{at.where}: it is unknown whether {doubt}: {error}")
                return []

        autoscalers = Autoscaler.of(at, items("autoscaler", "an autoscaler owns its count"))
        left = room(at, state.template, items("quota", "a quota leaves room for it"))
        return {"autoscalers": autoscalers, "room": left, "unknown": tuple(unknown)}

    @abstractmethod
    def _look(self, request: RequestT) -> StateT:
        """Read the target."""

    @abstractmethod
    def _change(self, request: RequestT, state: StateT) -> tuple[Difference, ...]:
        """Give the exact difference that it would make."""

    @abstractmethod
    def _stops(self, request: RequestT, state: StateT) -> tuple[str, ...]:
        """Say why the change would do nothing, or would not last, or would do harm."""

    @abstractmethod
    def _patch(self, request: RequestT, state: StateT, action_id: str) -> Patch:
        """Give the patch, with the tests of what it was planned upon."""

    @abstractmethod
    def _progress(self, request: RequestT, state: StateT, reached: Reached) -> Progress:
        """Say how it is, given whether what was asked for is there."""

    @abstractmethod
    def _undo(self, request: RequestT, state: StateT) -> tuple[RequestT | None, str]:
        """Give the request that brings the state back, or why there is none."""

    @abstractmethod
    def _touched(self, request: RequestT, state: StateT) -> str:
        """Say what is touched."""


class RestartDeploymentAction(_Patches[RestartDeployment, DeploymentState], Action[RestartDeployment]):
    """Replace all pods, with the template as it is, in the way of ``kubectl rollout restart``.

    Idempotent: a second call with the same time finds that time in the template and changes nothing.
    Undo: none, the former pods are gone.
    """

    request_type = RestartDeployment
    state_type = DeploymentState
    guarded = ("uid", "template_hash", "paused")
    risk = Risk.LOW
    idempotent = "A second call finds the time of the restart in the pod template and changes nothing."

    def _look(self, request: RestartDeployment) -> DeploymentState:
        found, state = read_deployment(self._api, request)
        changed = _restarted_at(state) != request.restarted_at
        return _changed(state, found, "spec", "template") if changed else state

    def _change(self, request: RestartDeployment, state: DeploymentState) -> tuple[Difference, ...]:
        before = _restarted_at(state)
        if before == request.restarted_at:
            return ()
        path = f"spec.template.metadata.annotations[{RESTARTED_AT}]"
        return (Difference(path=path, before=before, after=request.restarted_at),)

    def _stops(self, request: RestartDeployment, state: DeploymentState) -> tuple[str, ...]:
        return _stopped(request, state)

    def _patch(self, request: RestartDeployment, state: DeploymentState, action_id: str) -> Patch:
        where = ("spec", "template", "metadata", "annotations")
        empty = not state.template.get("metadata", {}).get("annotations")
        return [
            *_tests(state),
            *([_add({}, *where)] if empty else []),
            _add(request.restarted_at, *where, RESTARTED_AT),
            *_signature(state, action_id),
        ]

    def _progress(self, request: RestartDeployment, state: DeploymentState, reached: Reached) -> Progress:
        if reached is Reached.YES:
            return state.progress(request.where)
        last = _restarted_at(state)
        said = f"{request.where}: not restarted at {request.restarted_at}"
        return Progress(reached=reached, detail=f"{said}, but at {last}" if last else said)

    def _undo(
        self, request: RestartDeployment, state: DeploymentState
    ) -> tuple[RestartDeployment | None, str]:
        return None, "A restart cannot be taken back: the former pods are gone."

    def _touched(self, request: RestartDeployment, state: DeploymentState) -> str:
        said = f"Replaces all {state.replicas - state.held} pods of {request.where}, {state.strategy}."
        return said + _notes(request, state)


class RollBackDeploymentAction(_Patches[RollBackDeployment, RollBackState], Action[RollBackDeployment]):
    """Restore the pod template of a former revision, in the way of ``kubectl rollout undo --to-revision``.

    Other than kubectl it sends the template that was planned, never "the one before", and tests that nothing
    else happened to the deployment. It refuses a release that cannot work with the stored data, as a later
    one declares it in the annotation ``stanch.dev/schema-back-to`` of its pod template.

    Idempotent: a second call finds the template in place and changes nothing.
    Undo: restore the template and the annotations that were there before.
    """

    request_type = RollBackDeployment
    state_type = RollBackState
    guarded = ("uid", "template_hash", "paused")
    risk = Risk.MEDIUM
    idempotent = "A second call finds the template in place and changes nothing."

    def _look(self, request: RollBackDeployment) -> RollBackState:
        found, state, history = read_history(self._api, request)
        kept = [one.number for one in history.revisions if same_template(one.template, request.template)]
        wanted, complete = set(images(request.template)), state.progress(request.where).reached is Reached.YES
        run = [set(one.images) for one in history.revisions if one.serving]
        run += [set(state.images)] if complete and state.replicas else []
        if not same_template(state.template, request.template):
            state = _changed(state, found, "spec", "template")
        return RollBackState(
            **dict(state),
            kept_as=max(kept, default=None),
            images_run=any(wanted <= one for one in run),
            incompatible=history.incompatible(request.template),
        )

    def _change(self, request: RollBackDeployment, state: RollBackState) -> tuple[Difference, ...]:
        if same_template(state.template, request.template):
            return ()
        marks = tuple(
            Difference(path=f"metadata.annotations[{key}]", before=before, after=after)
            for key, before, after in _annotation_changes(request, state)
        )
        return template_differences(state.template, request.template) + marks

    def _stops(self, request: RollBackDeployment, state: RollBackState) -> tuple[str, ...]:
        unfit = (f"{request.where}: {state.incompatible}",) if state.incompatible else ()
        return _stopped(request, state) or unfit

    def _patch(self, request: RollBackDeployment, state: RollBackState, action_id: str) -> Patch:
        return [
            *_tests(state),
            {"op": "replace", "path": "/spec/template", "value": bare_template(request.template)},
            *_signature(state, action_id),
            *(
                _remove("metadata", "annotations", key)
                if after is None
                else _add(after, "metadata", "annotations", key)
                for key, _, after in _annotation_changes(request, state)
            ),
        ]

    def _progress(self, request: RollBackDeployment, state: RollBackState, reached: Reached) -> Progress:
        if reached is Reached.YES:
            return state.progress(request.where)
        said = f"it has the template of revision {state.revision} ({', '.join(state.images)})"
        return Progress(reached=reached, detail=f"{request.where}: {said}")

    def _undo(
        self, request: RollBackDeployment, state: RollBackState
    ) -> tuple[RollBackDeployment | None, str]:
        back = {
            "revision": state.revision,
            "template_hash": state.template_hash,
            "template": state.template,
            "annotations": None if request.annotations is None else own_annotations(state.annotations),
        }
        said = f"Restores what was revision {state.revision} ({', '.join(state.images)})."
        return request.model_copy(update=back), said

    def _touched(self, request: RollBackDeployment, state: RollBackState) -> str:
        wanted = f"what was revision {request.revision} ({', '.join(images(request.template))})"
        pods = state.replicas - state.held
        said = f"Replaces all {pods} pods of {request.where} by {wanted}, {state.strategy}."
        if not state.kept_as:
            said += " The history has lost that revision: its template is taken from this plan."
        if not state.images_run:
            said += " None of its pods serves now, so it is not known whether its images can still be pulled."
        return said + _notes(request, state)


class ScaleDeploymentAction(_Patches[ScaleDeployment, ScaleState], Action[ScaleDeployment]):
    """Set how many pods there are, through the scale subresource.

    Idempotent: a second call finds that many pods wanted and changes nothing.
    Undo: set the former number.
    """

    request_type = ScaleDeployment
    state_type = ScaleState
    guarded = ("uid", "replicas")
    subresource = "scale"
    risk = Risk.MEDIUM
    idempotent = "A second call finds that number already asked for and changes nothing."

    def _look(self, request: ScaleDeployment) -> ScaleState:
        found, state = read_deployment(self._api, request)
        scale = self._api.read(request, "scale")
        if scale.get("metadata", {}).get("uid") != state.uid:
            raise ProviderUnavailableError(f"{request.where}: it was replaced while it was read")
        spec = scale.get("spec") or {}
        state = state.model_copy(update={"replicas": spec.get("replicas", 0)})
        if state.replicas != request.replicas:
            state = _changed(state, found, "spec", "replicas")
        return ScaleState(**dict(state), scale=spec, **self._limited(request, state))

    def reach(self, request: ScaleDeployment, observed: Observation) -> Reach:
        """Give the cluster, and the number of pods."""
        return Reach(region=request.cluster, replicas=(self._state(observed).replicas, request.replicas))

    def _change(self, request: ScaleDeployment, state: ScaleState) -> tuple[Difference, ...]:
        if state.replicas == request.replicas:
            return ()
        return (Difference(path="spec.replicas", before=state.replicas, after=request.replicas),)

    def _stops(self, request: ScaleDeployment, state: ScaleState) -> tuple[str, ...]:
        if state.unknown or not state.autoscalers:
            return state.unknown or _too_many(request, state, request.replicas)
        owned = f"autoscaler {', '.join(map(str, state.autoscalers))} owns its count and would set it again"
        return (f"{request.where}: {owned}; change the autoscaler's limits instead",)

    def _patch(self, request: ScaleDeployment, state: ScaleState, action_id: str) -> Patch:
        return [  # the scale subresource keeps no annotation; the user agent has the action's id
            _test(state.uid, "metadata", "uid"),
            _test(state.scale, "spec"),
            _add(request.replicas, "spec", "replicas"),
        ]

    def _progress(self, request: ScaleDeployment, state: ScaleState, reached: Reached) -> Progress:
        if reached is Reached.YES:
            return state.progress_of_scale(request.where)
        said = f"{request.where}: {state.replicas} pods are wanted there, not {request.replicas}"
        return Progress(reached=reached, detail=said)

    def _undo(self, request: ScaleDeployment, state: ScaleState) -> tuple[ScaleDeployment | None, str]:
        back = request.model_copy(update={"replicas": state.replicas})
        return back, f"Sets {state.replicas} pods again."

    def _touched(self, request: ScaleDeployment, state: ScaleState) -> str:
        if request.replicas == 0:
            said = f"Takes all {state.replicas} pods of {request.where} away: nothing serves any more."
        else:
            said = f"Goes from {state.replicas} to {request.replicas} pods of {request.where}."
        return said + _headroom(state, request.replicas) + _notes(request, state)


class SetAutoscalerLimitsAction(_Patches[SetAutoscalerLimits, LimitsState], Action[SetAutoscalerLimits]):
    """Set between which numbers of pods an autoscaler moves: how to scale what an autoscaler scales.

    Idempotent: a second call finds these limits and changes nothing.
    Undo: give the former limits back.
    """

    request_type = SetAutoscalerLimits
    state_type = LimitsState
    guarded = ("uid", "minimum", "maximum")
    risk = Risk.MEDIUM
    idempotent = "A second call finds these limits and changes nothing."

    def _at(self, request: SetAutoscalerLimits) -> InCluster:
        return request.limits

    def _look(self, request: SetAutoscalerLimits) -> LimitsState:
        _, state = read_deployment(self._api, request)
        found = self._api.read(request.limits)
        mine = Autoscaler.of(request, [found])
        if not mine:
            raise ActionRefusedError(
                f"{request.where}: autoscaler {request.autoscaler} scales something else"
            )
        metadata, limits = found["metadata"], (mine[0].minimum, mine[0].maximum)
        there = limits == (request.minimum, request.maximum)
        seen = {
            **dict(state),
            **self._limited(request, state),
            **marks(request.limits, metadata),
            "changed_by": None if there else last_manager(metadata, "spec"),
        }
        return LimitsState(**seen, minimum=limits[0], maximum=limits[1])

    def _change(self, request: SetAutoscalerLimits, state: LimitsState) -> tuple[Difference, ...]:
        pairs = {
            "spec.minReplicas": (state.minimum, request.minimum),
            "spec.maxReplicas": (state.maximum, request.maximum),
        }
        return tuple(
            Difference(path=f"autoscaler {request.autoscaler} {path}", before=before, after=after)
            for path, (before, after) in pairs.items()
            if before != after
        )

    def _stops(self, request: SetAutoscalerLimits, state: LimitsState) -> tuple[str, ...]:
        if state.made_by:
            said = f"autoscaler {request.autoscaler} is made by {state.made_by}, which would set it again"
            return (f"{request.where}: {said}; change that instead",)
        if not state.replicas:
            return (f"{request.where}: it has no pods, which switches its autoscaler off; scale it first",)
        return state.unknown or _too_many(request, state, request.minimum)

    def _patch(self, request: SetAutoscalerLimits, state: LimitsState, action_id: str) -> Patch:
        return [
            *_marked(state),
            _test(state.minimum, "spec", "minReplicas"),
            _test(state.maximum, "spec", "maxReplicas"),
            _add(request.minimum, "spec", "minReplicas"),
            _add(request.maximum, "spec", "maxReplicas"),
            *_signature(state, action_id),
        ]

    def _progress(self, request: SetAutoscalerLimits, state: LimitsState, reached: Reached) -> Progress:
        if reached is Reached.NO:
            said = f"autoscaler {request.autoscaler} keeps it between {state.minimum} and {state.maximum}"
            return Progress(reached=reached, detail=f"{request.where}: {said}")
        if not request.minimum <= state.replicas <= request.maximum:
            said = f"{request.where}: its autoscaler has yet to set its count, which is {state.replicas}"
            return Progress(reached=Reached.SETTLING, detail=said)
        return state.progress_of_scale(request.where)

    def _undo(
        self, request: SetAutoscalerLimits, state: LimitsState
    ) -> tuple[SetAutoscalerLimits | None, str]:
        back = request.model_copy(update={"minimum": state.minimum, "maximum": state.maximum})
        return back, f"Lets the autoscaler keep {state.minimum} to {state.maximum} pods again."

    def _touched(self, request: SetAutoscalerLimits, state: LimitsState) -> str:
        limits = f"{request.minimum} to {request.maximum} pods, not {state.minimum} to {state.maximum}"
        said = (
            f"Has autoscaler {request.autoscaler} keep {request.where} at {limits}; it has {state.replicas}."
        )
        return said + _headroom(state, request.minimum) + _notes(request, state)


class SetSyncAction(_Patches[SetSync, SyncState], Action[SetSync]):
    """Pause Argo CD or Flux for what it applies, or let it go on: else it puts back what is changed by hand.

    Pausing removes Argo CD's ``spec.syncPolicy.automated``, or sets Flux's ``spec.suspend``. A sync that is
    already running is not stopped.

    Idempotent: a second call finds the field as it should be and changes nothing.
    Undo: give the field the value that it had, literally; then whatever is in Git is applied.
    """

    request_type = SetSync
    state_type = SyncState
    guarded = ("uid", "value")
    risk = Risk.LOW
    idempotent = "A second call finds the field as it should be and changes nothing."

    def _look(self, request: SetSync) -> SyncState:
        found = self._api.read(request)
        state = SyncState.read(request, found)
        if not self._change(request, state):
            return state
        path = ("spec", _sync_path(request)[1])
        return state.model_copy(update={"changed_by": last_manager(found["metadata"], *path)})

    def _change(self, request: SetSync, state: SyncState) -> tuple[Difference, ...]:
        if request.suspended or request.kind != "application":
            there = request.suspended is state.suspended
        else:
            there = request.value == state.value
        path = ".".join(_sync_path(request))
        return () if there else (Difference(path=path, before=state.value, after=request.value),)

    def _stops(self, request: SetSync, state: SyncState) -> tuple[str, ...]:
        said = f"{request.where}: it is made by {state.made_by}, which would set it again; pause it there"
        return (said,) if state.made_by else ()

    def _patch(self, request: SetSync, state: SyncState, action_id: str) -> Patch:
        path = _sync_path(request)
        patch = _marked(state)
        if request.kind == "application":
            # An Application's generation counts what Argo CD writes into its status too: no test of that.
            around = ("spec", "syncPolicy")
            patch.append(_add({}, *around) if state.around is None else _test(state.around, *around))
        else:
            patch.append(_test(state.generation, "metadata", "generation"))
        if request.value is not None:
            patch.append(_add(request.value, *path))
        elif state.value is not None:
            patch.append(_remove(*path))
        return [*patch, *_signature(state, action_id)]

    def _progress(self, request: SetSync, state: SyncState, reached: Reached) -> Progress:
        said = f"{request.where}: its sync is {'paused' if state.suspended else 'not paused'}"
        if reached is Reached.YES and state.suspended and state.busy:
            said += "; one that began before is still running (argocd app terminate-op ends it)"
        return Progress(reached=reached, detail=said)

    def _undo(self, request: SetSync, state: SyncState) -> tuple[SetSync | None, str]:
        restore = None if state.suspended else state.value
        back = request.model_copy(update={"suspended": state.suspended, "restore": restore})
        if state.suspended:
            return back, "Pauses it again."
        return back, "Lets it go on as before: it applies what is in Git."

    def _touched(self, request: SetSync, state: SyncState) -> str:
        tool = "Argo CD" if request.kind == "application" else "Flux"
        what = f"{request.kind.replace('_', ' ')} {request.where}"
        if request.suspended:
            said = f"{tool} leaves {what} alone: nothing new in Git is rolled out there until it is resumed."
            return said + (
                " A sync of it is running now and may still apply once more." if state.busy else ""
            )
        said = f"{tool} applies to {what} what is in Git."
        return said + (
            " Now it is not as Git has it, so that this changes it." if state.sync == "OutOfSync" else ""
        )


ACTIONS = (
    RestartDeploymentAction,
    RollBackDeploymentAction,
    ScaleDeploymentAction,
    SetAutoscalerLimitsAction,
    SetSyncAction,
)


def _stopped(at: InDeployment, state: DeploymentState) -> tuple[str, ...]:
    """Say why a new template would not reach the pods."""
    if state.paused:
        return (f"{at.where}: it is paused; resume it first (kubectl rollout resume)",)
    if state.on_delete:
        said = (
            "its update strategy is OnDelete, so that its pods stay as they are until somebody deletes them"
        )
        return (f"{at.where}: {said}",)
    return ()


def _notes(at: InDeployment, state: DeploymentState) -> str:
    notes = []
    if state.progress(at.where).reached is not Reached.YES:
        notes.append(" Its last rollout is not complete.")
        if state.in_order:
            notes.append(
                " A pod that never got ready may have to be deleted by hand before the next is made."
            )
    if state.held:
        notes.append(f" Its partition keeps {state.held} pods as they are.")
    return "".join(notes)


def _changed(state: DeploymentState, found: KubernetesObject, *path: str) -> DeploymentState:
    """Note who set what is not as it should be."""
    return state.model_copy(update={"changed_by": last_manager(found["metadata"], *path)})


def _too_many(at: InDeployment, state: ScaleState, wanted: int) -> tuple[str, ...]:
    more = wanted - state.pods
    if state.room is None or more <= state.room.pods:
        return ()
    return (f"{at.where}: {state.room}, and {more} are wanted",)


def _headroom(state: ScaleState, wanted: int) -> str:
    if state.room is None or wanted <= state.replicas:
        return ""
    said = str(state.room)
    return f" {said[0].upper()}{said[1:]}."


def _restarted_at(state: DeploymentState) -> str | None:
    annotations: dict[str, str] = state.template.get("metadata", {}).get("annotations", {})
    return annotations.get(RESTARTED_AT)


def _test(value: Any, *path: str) -> dict[str, Any]:
    return {"op": "test", "path": _pointer(*path), "value": value}


def _add(value: Any, *path: str) -> dict[str, Any]:
    return {"op": "add", "path": _pointer(*path), "value": value}


def _remove(*path: str) -> dict[str, Any]:
    return {"op": "remove", "path": _pointer(*path)}


def _tests(state: DeploymentState) -> Patch:
    tests: Patch = [_test(state.uid, "metadata", "uid"), _test(state.generation, "metadata", "generation")]
    if REVISION in state.annotations:
        tests.append(_test(state.annotations[REVISION], "metadata", "annotations", REVISION))
    return tests


def _marked(state: LimitsState | SyncState) -> Patch:
    """Test the uid, and that no action of ours was there since; others have to test what they change."""
    mark = [] if state.mark is None else [_test(state.mark, "metadata", "annotations", ACTION)]
    return [_test(state.uid, "metadata", "uid"), *mark]


def _signature(state: Seen, action_id: str) -> Patch:
    """Leave the journal's key at the object."""
    return [
        *([] if state.annotated else [_add({}, "metadata", "annotations")]),
        _add(action_id, "metadata", "annotations", ACTION),
    ]


def _annotation_changes(
    request: RollBackDeployment, state: RollBackState
) -> list[tuple[str, str | None, str | None]]:
    if request.annotations is None:
        return []
    now, wanted = own_annotations(state.annotations), own_annotations(request.annotations)
    keys = sorted(now.keys() | wanted.keys())
    return [(key, now.get(key), wanted.get(key)) for key in keys if now.get(key) != wanted.get(key)]


def _sync_path(request: SetSync) -> tuple[str, ...]:
    return ("spec", "syncPolicy", "automated") if request.kind == "application" else ("spec", "suspend")


def _pointer(*path: str) -> str:
    """Give a JSON pointer (RFC 6901)."""
    return "".join(f"/{one.replace('~', '~0').replace('/', '~1')}" for one in path)
