"""What can be done in a cluster. Every change is one JSON patch that tests what it was planned upon.

A patch tests the uid and the generation (or the count) that was read just before: the same patch sent twice,
or one that arrives late, is turned away by the API server itself. The resource version is not tested, since
status writes move it all the time.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol, TypeVar

from activities.k8s.models import (
    ACTION,
    ASKED,
    MANAGER,
    RESTARTED_AT,
    REVISION,
    STUCK,
    Autoscaler,
    Change,
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
    same_release,
    same_template,
    template_differences,
    waiting,
)
from contracts.actions import Action, Compared, Wanted
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.outcomes import Progress, Reached
from contracts.plans import Difference, Observation, Reach, Risk

Patch = list[dict[str, Any]]
Fields = dict[tuple[str, ...], Any]
RequestT = TypeVar("RequestT", bound=Change)
StateT = TypeVar("StateT", bound=Seen)
TemplateT = TypeVar("TemplateT", bound=DeploymentState)
ANNOTATIONS, TEMPLATE, REPLICAS = ("metadata", "annotations"), ("spec", "template"), ("spec", "replicas")


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
    return found, state.model_copy(update=waiting(state.template, pods))


def read_history(api: KubernetesApi, at: InDeployment) -> tuple[KubernetesObject, DeploymentState, History]:
    """Read a deployment and its former revisions."""
    found, state = read_deployment(api, at)
    kept_in = "replica_set" if at.kind == "deployment" else "controller_revision"
    history = History.read(at, state, api.items(at, kept_in, selected_by=found))
    number = next((one.number for one in history.revisions if one.current), 0)
    return found, state.model_copy(update={"revision": state.revision or number}), history


class _Patches(Compared[RequestT, StateT]):
    """What the actions share: each sends one patch to one object, if there is something to change.

    Class attributes:
        guarded: The fields of the state that void an approval when they change.
        subresource: Of the object, that is patched instead of it.
    """

    guarded: ClassVar[tuple[str, ...]]
    subresource: ClassVar[str] = ""
    # Longer than a deployment's own deadline for progress, ten minutes: so the cluster has its say first.
    settles_within: ClassVar[timedelta] = timedelta(minutes=15)

    def __init__(self, api: KubernetesApi, clock: Callable[[], datetime]) -> None:
        self._api = api
        self._clock = clock

    def observe(self, request: RequestT) -> Observation:
        """Read the target, and who set what is not as it should be."""
        metadata, state = self._look(request)
        plain = state.model_dump(mode="json")
        by = self._change(request, state) and last_manager(metadata, *self._field(request))
        plain |= {"changed_by": by} if by else {}
        return Observation(state=plain, guard={name: plain[name] for name in self.guarded}, at=self._clock())

    def preflight(self, request: RequestT, observed: Observation) -> tuple[str, ...]:
        """Find what stands against it, a missing permission, and whatever a dry run tells."""
        state = self.state(observed)
        if not self._change(request, state):
            return ()
        stops = tuple(f"{request.where}: {said}" for said in self._stops(request, state))
        return stops or self._refusals(request, state)

    def apply(self, request: RequestT, observed: Observation, *, action_id: str) -> None:
        """Send the patch, if there is something to change."""
        state = self.state(observed)
        if self._change(request, state):
            self._send(request, state, action_id)

    def is_reached(self, request: RequestT, observed: Observation) -> Progress:
        """Compare the target with what is asked for, then look at what serves."""
        state = self.state(observed)
        if self._change(request, state):
            return Progress(reached=Reached.NO, detail=f"{request.where}: {self._instead(request, state)}")
        return self._progress(request, state)

    def undo(self, request: RequestT, observed: Observation) -> tuple[RequestT | None, str]:
        """Give the request that brings the observed state back, or why there is none."""
        back, note = self._undo(request, self.state(observed))
        return (request.model_copy(update=back) if back else None), note

    def blast_radius(self, request: RequestT, observed: Observation) -> str:
        """Say who and what is touched, and who may put it back."""
        state = self.state(observed)
        made = f" {state.made_by} has made it, and may put back what this changes." if state.made_by else ""
        return self._touched(request, state) + made + "".join(f" {owner.note}" for owner in state.owners)

    def reach(self, request: RequestT, observed: Observation) -> Reach:
        """Give the cluster, and how many replicas there are and will be."""
        counts = self._wanted(request, self.state(observed)).get("spec.replicas")
        return Reach(region=request.cluster, replicas=counts)

    def _at(self, request: RequestT) -> InCluster:
        return request

    def _send(self, request: RequestT, state: StateT, action_id: str, *, dry_run: bool = False) -> None:
        """Send one patch: tests of what it was planned upon, and what is set; ``None`` takes away."""
        tests, sets = self._patch(request, state)
        unseen: Fields = {("metadata", "uid"): state.uid}
        if not self.subresource:  # the scale keeps no annotation; the user agent has the action's id too
            mark = (*ANNOTATIONS, ACTION)
            unseen |= {mark: state.mark} if state.annotated else {ANNOTATIONS: None}
            sets = {**({} if state.annotated else {ANNOTATIONS: {}}), mark: action_id, **sets}
        tests = unseen | tests
        patch: Patch = [{"op": "test", "path": _pointer(path), "value": tests[path]} for path in tests]
        for path, value in sets.items():
            operation = {"op": "remove"} if value is None else {"op": "add", "value": value}
            patch.append({**operation, "path": _pointer(path)})
        self._api.patch(
            self._at(request), patch, subresource=self.subresource, action_id=action_id, dry_run=dry_run
        )

    def _refusals(self, request: RequestT, state: StateT) -> tuple[str, ...]:
        at, sub = self._at(request), self.subresource
        what = f"{at.resource.name}/{sub}" if sub else at.resource.name
        try:
            if not self._api.may_patch(at, sub):
                return (f"{at.where}: the credential may not patch {what} in namespace {at.namespace}",)
            self._send(request, state, "dry-run", dry_run=True)
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
                unknown.append(f"it is unknown whether {doubt}: {error}")
                return []

        autoscalers = Autoscaler.of(at, items("autoscaler", "an autoscaler owns its count"))
        left = room(at, state.template, items("quota", "a quota leaves room for it"))
        return {"autoscalers": autoscalers, "room": left, "unknown": tuple(unknown)}

    @abstractmethod
    def _look(self, request: RequestT) -> tuple[KubernetesObject, StateT]:
        """Read the target, and the metadata of what is patched."""

    @abstractmethod
    def _field(self, request: RequestT) -> tuple[str, ...]:
        """Give the path of the field that it sets."""

    @abstractmethod
    def _stops(self, request: RequestT, state: StateT) -> Iterable[str]:
        """Say why the change would do nothing, or would not last, or would do harm."""

    @abstractmethod
    def _patch(self, request: RequestT, state: StateT) -> tuple[Fields, Fields]:
        """Give what the change was planned upon besides the uid, and what it sets."""

    @abstractmethod
    def _instead(self, request: RequestT, state: StateT) -> str:
        """Say how it is, where what was asked for is not there."""

    @abstractmethod
    def _progress(self, request: RequestT, state: StateT) -> Progress:
        """Say how it is, where what was asked for is there."""

    @abstractmethod
    def _undo(self, request: RequestT, state: StateT) -> tuple[dict[str, Any], str]:
        """Give the fields of the request that brings the state back, or why there is none."""

    @abstractmethod
    def _touched(self, request: RequestT, state: StateT) -> str:
        """Say what is touched."""


class _Template(_Patches[RequestT, TemplateT]):
    """What those share that give a deployment another pod template."""

    guarded = ("uid", "template_hash", "paused")

    def _field(self, request: RequestT) -> tuple[str, ...]:
        return TEMPLATE

    def _progress(self, request: RequestT, state: TemplateT) -> Progress:
        return state.progress(request.where)

    def _stops(self, request: RequestT, state: TemplateT) -> Iterable[str]:
        """Say why a new template would not reach the pods."""
        if state.paused:
            yield "it is paused; resume it first (kubectl rollout resume)"
        elif state.on_delete:
            said = "so that its pods stay as they are until somebody deletes them"
            yield f"its update strategy is OnDelete, {said}"


class RestartDeploymentAction(_Template[RestartDeployment, DeploymentState], Action[RestartDeployment]):
    """Replace all pods, with the template as it is, in the way of ``kubectl rollout restart``.

    Idempotent: a second call with the same time finds that time in the template and changes nothing.
    Undo: none, the former pods are gone.
    """

    request_type = RestartDeployment
    state_type = DeploymentState
    risk = Risk.LOW

    def _look(self, request: RestartDeployment) -> tuple[KubernetesObject, DeploymentState]:
        found, state = read_deployment(self._api, request)
        return found["metadata"], state

    def _wanted(self, request: RestartDeployment, state: DeploymentState) -> Wanted:
        path = f"spec.template.metadata.annotations[{RESTARTED_AT}]"
        return {path: (_restarted_at(state), request.restarted_at)}

    def _patch(self, request: RestartDeployment, state: DeploymentState) -> tuple[Fields, Fields]:
        where = (*TEMPLATE, *ANNOTATIONS)
        there = state.template.get("metadata", {}).get("annotations")
        made: Fields = {(*ANNOTATIONS, ASKED): request.restarted_at, **({} if there else {where: {}})}
        return _generation(state), {**made, (*where, RESTARTED_AT): request.restarted_at}

    def _instead(self, request: RestartDeployment, state: DeploymentState) -> str:
        last = _restarted_at(state)
        return f"not restarted at {request.restarted_at}{f', but at {last}' if last else ''}"

    def _undo(self, request: RestartDeployment, state: DeploymentState) -> tuple[dict[str, Any], str]:
        return {}, "A restart cannot be taken back: the former pods are gone."

    def _touched(self, request: RestartDeployment, state: DeploymentState) -> str:
        said = f"Replaces all {state.replicas - state.held} pods of {request.where}, {state.strategy}."
        return said + _notes(request, state)


class RollBackDeploymentAction(_Template[RollBackDeployment, RollBackState], Action[RollBackDeployment]):
    """Restore the pod template of a former revision, in the way of ``kubectl rollout undo --to-revision``.

    Other than kubectl it sends the template that was planned, never "the one before", and tests that nothing
    else happened to the deployment. It refuses a release that cannot work with the stored data, as a later
    one declares it in the annotation ``stanch.dev/schema-back-to`` of its pod template.

    Idempotent: a second call finds the template in place and changes nothing.
    Undo: restore the template and the annotations that were there before.
    """

    request_type = RollBackDeployment
    state_type = RollBackState
    risk = Risk.MEDIUM

    def _look(self, request: RollBackDeployment) -> tuple[KubernetesObject, RollBackState]:
        found, state, history = read_history(self._api, request)
        kept = [one.number for one in history.revisions if same_template(one.template, request.template)]
        wanted, complete = set(images(request.template)), state.progress(request.where).reached is Reached.YES
        run = [set(one.images) for one in history.revisions if one.serving]
        run += [set(state.images)] if complete and state.replicas else []
        return found["metadata"], RollBackState(
            **dict(state),
            kept_as=max(kept, default=None),
            images_run=any(wanted <= one for one in run),
            incompatible=history.incompatible(request.template),
            admitted=state.annotations.get(ASKED) == request.template_hash
            and last_manager(found["metadata"], *TEMPLATE) == MANAGER,
        )

    def _change(self, request: RollBackDeployment, state: RollBackState) -> tuple[Difference, ...]:
        if state.admitted or same_release(state.template, request.template):
            return ()
        return template_differences(state.template, request.template) + super()._change(request, state)

    def _wanted(self, request: RollBackDeployment, state: RollBackState) -> Wanted:
        changes = _annotation_changes(request, state)
        return {f"metadata.annotations[{key}]": change for key, change in changes.items()}

    def _stops(self, request: RollBackDeployment, state: RollBackState) -> Iterable[str]:
        return (*super()._stops(request, state),) or filter(None, [state.incompatible])

    def _patch(self, request: RollBackDeployment, state: RollBackState) -> tuple[Fields, Fields]:
        changes = _annotation_changes(request, state).items()
        sets: Fields = {(*ANNOTATIONS, key): after for key, (_, after) in changes}
        sets[*ANNOTATIONS, ASKED] = request.template_hash
        return _generation(state), {TEMPLATE: bare_template(request.template), **sets}

    def _instead(self, request: RollBackDeployment, state: RollBackState) -> str:
        return f"it has the template of revision {state.revision} ({', '.join(state.images)})"

    def _undo(self, request: RollBackDeployment, state: RollBackState) -> tuple[dict[str, Any], str]:
        said = f"Restores what was revision {state.revision} ({', '.join(state.images)})."
        return {
            "revision": state.revision,
            "template_hash": state.template_hash,
            "template": state.template,
            "annotations": None if request.annotations is None else own_annotations(state.annotations),
        }, said

    def _touched(self, request: RollBackDeployment, state: RollBackState) -> str:
        wanted = f"what was revision {request.revision} ({', '.join(images(request.template))})"
        pods = state.replicas - state.held
        said = f"Replaces all {pods} pods of {request.where} by {wanted}, {state.strategy}."
        if not state.kept_as:
            said += " The history has lost that revision: its template is taken from this plan."
        if not state.images_run:
            said += " No pod of it is known to serve: it is not known whether its images can still be pulled."
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

    def _field(self, request: ScaleDeployment) -> tuple[str, ...]:
        return REPLICAS

    def _look(self, request: ScaleDeployment) -> tuple[KubernetesObject, ScaleState]:
        found, state = read_deployment(self._api, request)
        scale = self._api.read(request, "scale")
        if scale.get("metadata", {}).get("uid") != state.uid:
            raise ProviderUnavailableError(f"{request.where}: it was replaced while it was read")
        spec = scale.get("spec") or {}
        state = state.model_copy(update={"replicas": spec.get("replicas", 0)})
        return found["metadata"], ScaleState(**dict(state), scale=spec, **self._limited(request, state))

    def _wanted(self, request: ScaleDeployment, state: ScaleState) -> Wanted:
        return {"spec.replicas": (state.replicas, request.replicas)}

    def _stops(self, request: ScaleDeployment, state: ScaleState) -> Iterable[str]:
        if state.unknown or not state.autoscalers:
            return state.unknown or _too_many(state, request.replicas)
        owned = f"autoscaler {', '.join(map(str, state.autoscalers))} owns its count and would set it again"
        return (f"{owned}; change the autoscaler's limits instead",)

    def _patch(self, request: ScaleDeployment, state: ScaleState) -> tuple[Fields, Fields]:
        return {("spec",): state.scale}, {REPLICAS: request.replicas}

    def _instead(self, request: ScaleDeployment, state: ScaleState) -> str:
        return f"{state.replicas} pods are wanted there, not {request.replicas}"

    def _progress(self, request: ScaleDeployment, state: ScaleState) -> Progress:
        return state.progress_of_scale(request.where)

    def _undo(self, request: ScaleDeployment, state: ScaleState) -> tuple[dict[str, Any], str]:
        return {"replicas": state.replicas}, f"Sets {state.replicas} pods again."

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

    def _at(self, request: SetAutoscalerLimits) -> InCluster:
        return request.limits

    def _field(self, request: SetAutoscalerLimits) -> tuple[str, ...]:
        return ("spec",)

    def _look(self, request: SetAutoscalerLimits) -> tuple[KubernetesObject, LimitsState]:
        _, state = read_deployment(self._api, request)
        found = self._api.read(request.limits)
        mine = Autoscaler.of(request, [found])
        if not mine:
            raise ActionRefusedError(
                f"{request.where}: autoscaler {request.autoscaler} scales something else"
            )
        limits = {"minimum": mine[0].minimum, "maximum": mine[0].maximum}
        seen = {**dict(state), **self._limited(request, state), **marks(request.limits, found["metadata"])}
        return found["metadata"], LimitsState(**seen, **limits)

    def _wanted(self, request: SetAutoscalerLimits, state: LimitsState) -> Wanted:
        return {
            f"autoscaler {request.autoscaler} spec.minReplicas": (state.minimum, request.minimum),
            f"autoscaler {request.autoscaler} spec.maxReplicas": (state.maximum, request.maximum),
        }

    def _stops(self, request: SetAutoscalerLimits, state: LimitsState) -> Iterable[str]:
        if state.made_by:
            said = f"autoscaler {request.autoscaler} is made by {state.made_by}, which would set it again"
            return (f"{said}; change that instead",)
        if not state.replicas:
            return ("it has no pods, which switches its autoscaler off; scale it first",)
        return state.unknown or _too_many(state, request.minimum)

    def _patch(self, request: SetAutoscalerLimits, state: LimitsState) -> tuple[Fields, Fields]:
        least, most = ("spec", "minReplicas"), ("spec", "maxReplicas")
        tests: Fields = {least: state.minimum, most: state.maximum}
        return tests, {least: request.minimum, most: request.maximum}

    def _instead(self, request: SetAutoscalerLimits, state: LimitsState) -> str:
        return f"autoscaler {request.autoscaler} keeps it between {state.minimum} and {state.maximum}"

    def _progress(self, request: SetAutoscalerLimits, state: LimitsState) -> Progress:
        if not request.minimum <= state.replicas <= request.maximum:
            said = f"{request.where}: its autoscaler has yet to set its count, which is {state.replicas}"
            return Progress(reached=Reached.SETTLING, detail=said)
        return state.progress_of_scale(request.where)

    def _undo(self, request: SetAutoscalerLimits, state: LimitsState) -> tuple[dict[str, Any], str]:
        said = f"Lets the autoscaler keep {state.minimum} to {state.maximum} pods again."
        return {"minimum": state.minimum, "maximum": state.maximum}, said

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

    def _field(self, request: SetSync) -> tuple[str, ...]:
        return _sync_path(request)[:2]

    def _look(self, request: SetSync) -> tuple[KubernetesObject, SyncState]:
        found = self._api.read(request)
        state = SyncState.read(request, found)
        return found["metadata"], state

    def _wanted(self, request: SetSync, state: SyncState) -> Wanted:
        there = request.suspended is state.suspended
        if request.kind == "application" and not request.suspended:
            there = request.value == state.value
        return {} if there else {".".join(_sync_path(request)): (state.value, request.value)}

    def _stops(self, request: SetSync, state: SyncState) -> Iterable[str]:
        if state.made_by:
            yield f"it is made by {state.made_by}, which would set it again; pause it there"

    def _patch(self, request: SetSync, state: SyncState) -> tuple[Fields, Fields]:
        argo, path = request.kind == "application", _sync_path(request)
        # An Application's generation counts what Argo CD writes into its status too: no test of that.
        tests: Fields = {path[:2]: state.around} if argo else {("metadata", "generation"): state.generation}
        sets: Fields = {path[:2]: {}} if argo and state.around is None else {}
        if request.value is not None or state.value is not None:
            sets[path] = request.value
        return tests, sets

    def _instead(self, request: SetSync, state: SyncState) -> str:
        return f"its sync is {'paused' if state.suspended else 'not paused'}"

    def _progress(self, request: SetSync, state: SyncState) -> Progress:
        late = state.suspended and state.busy
        said = late * "; one that began before is still running (argocd app terminate-op ends it)"
        detail = f"{request.where}: {self._instead(request, state)}{said}"
        return Progress(reached=Reached.YES, detail=detail)

    def _undo(self, request: SetSync, state: SyncState) -> tuple[dict[str, Any], str]:
        back = {"suspended": state.suspended, "restore": None if state.suspended else state.value}
        again = "Pauses it again."
        return back, again if state.suspended else "Lets it go on as before: it applies what is in Git."

    def _touched(self, request: SetSync, state: SyncState) -> str:
        tool = "Argo CD" if request.kind == "application" else "Flux"
        what = f"{request.kind.replace('_', ' ')} {request.where}"
        if request.suspended:
            said = f"{tool} leaves {what} alone: nothing new in Git is rolled out there until it is resumed."
            return said + state.busy * " A sync of it is running now and may still apply once more."
        changes = state.sync == "OutOfSync"
        said = f"{tool} applies to {what} what is in Git."
        return said + changes * " Now it is not as Git has it, so that this changes it."


ACTIONS = (
    RestartDeploymentAction,
    RollBackDeploymentAction,
    ScaleDeploymentAction,
    SetAutoscalerLimitsAction,
    SetSyncAction,
)


def _notes(at: InDeployment, state: DeploymentState) -> str:
    is_under_way = state.progress(at.where).reached is not Reached.YES
    notes = {
        "Its last rollout is not complete.": is_under_way,
        f"{STUCK[0].upper()}{STUCK[1:]} before the next is made.": is_under_way and state.in_order,
        f"Its partition keeps {state.held} pods as they are.": state.held,
    }
    return "".join(f" {note}" for note, holds in notes.items() if holds)


def _too_many(state: ScaleState, wanted: int) -> tuple[str, ...]:
    more = wanted - state.pods
    return () if state.room is None or more <= state.room.pods else (f"{state.room}, and {more} are wanted",)


def _headroom(state: ScaleState, wanted: int) -> str:
    if state.room is None or wanted <= state.replicas:
        return ""
    said = str(state.room)
    return f" {said[0].upper()}{said[1:]}."


def _restarted_at(state: DeploymentState) -> str | None:
    annotations: dict[str, str] = state.template.get("metadata", {}).get("annotations", {})
    return annotations.get(RESTARTED_AT)


def _generation(state: DeploymentState) -> Fields:
    tests: Fields = {("metadata", "generation"): state.generation}
    if REVISION in state.annotations:
        tests[*ANNOTATIONS, REVISION] = state.annotations[REVISION]
    return tests


def _annotation_changes(request: RollBackDeployment, state: RollBackState) -> Wanted:
    if request.annotations is None:
        return {}
    now, wanted = own_annotations(state.annotations), own_annotations(request.annotations)
    keys = sorted(now.keys() | wanted.keys())
    return {key: (now.get(key), wanted.get(key)) for key in keys if now.get(key) != wanted.get(key)}


def _sync_path(request: SetSync) -> tuple[str, ...]:
    return ("spec", "syncPolicy", "automated") if request.kind == "application" else ("spec", "suspend")


def _pointer(path: tuple[str, ...]) -> str:
    """Give a JSON pointer (RFC 6901)."""
    return "".join(f"/{one.replace('~', '~0').replace('/', '~1')}" for one in path)
