"""What can be done in a cluster. Every change is one JSON patch that tests what it was planned upon.

A patch tests the uid and the generation (or the count) that was read just before: the same patch sent twice,
or one that arrives late, is turned away by the API server itself. The resource version is not tested, since
status writes move it all the time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, Protocol, cast

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
    SetAutoscalerLimits,
    SetSync,
    SyncState,
    bare_template,
    images,
    last_manager,
    made_by,
    own_annotations,
    owners,
    room,
    same_template,
    template_differences,
    waiting,
)
from contracts.actions import Action, RequestT
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.outcomes import Progress, Reached
from contracts.plans import Difference, Observation, Risk

Patch = list[dict[str, Any]]


class KubernetesApi(Protocol):
    """What actions and probes need of the clusters. Its errors are those that ``Action`` tells of."""

    def read(self, at: InCluster, subresource: str = "") -> KubernetesObject:
        """Read one object, or a subresource of it."""
        ...

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
        ...

    def may_patch(self, at: InCluster, subresource: str = "") -> bool:
        """Ask whether our credential may patch the object, or a subresource of it."""
        ...

    def patch(
        self, at: InCluster, patch: Patch, *, subresource: str = "", action_id: str, dry_run: bool = False
    ) -> None:
        """Send one JSON patch, once; a failed test in it is a ``PreconditionFailedError``."""
        ...


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


class _Patches(ABC, Generic[RequestT]):
    """What the actions share: each sends one patch to one object, if there is something to change."""

    subresource = ""

    def __init__(self, api: KubernetesApi, clock: Callable[[], datetime]) -> None:
        self._api = api
        self._clock = clock

    def _observation(self, state: DeploymentState | SyncState, *guard: str) -> Observation:
        plain = state.model_dump(mode="json")
        if plain["changed_by"] is None:
            del plain["changed_by"]
        return Observation(state=plain, guard={key: plain[key] for key in guard}, at=self._clock())

    @abstractmethod
    def change(self, request: RequestT, observed: Observation) -> tuple[Difference, ...]:
        """Give the exact difference that it would make."""

    @abstractmethod
    def _stops(self, request: RequestT, observed: Observation) -> tuple[str, ...]:
        """Say why the change would do nothing, or would not last, or would do harm."""

    @abstractmethod
    def _patch(self, request: RequestT, observed: Observation, action_id: str) -> Patch:
        """Give the patch, with the tests of what it was planned upon."""

    def _at(self, request: RequestT) -> InCluster:
        return cast(InCluster, request)

    def preflight(self, request: RequestT, observed: Observation) -> tuple[str, ...]:
        """Find what stands against it, a missing permission, and whatever a dry run tells."""
        if not self.change(request, observed):
            return ()
        return self._stops(request, observed) or self._refusals(request, observed)

    def apply(self, request: RequestT, observed: Observation, *, action_id: str) -> None:
        """Send the patch, if there is something to change."""
        if self.change(request, observed):
            patch = self._patch(request, observed, action_id)
            self._api.patch(self._at(request), patch, subresource=self.subresource, action_id=action_id)

    def _refusals(self, request: RequestT, observed: Observation) -> tuple[str, ...]:
        at, sub = self._at(request), self.subresource
        what = f"{at.resource.name}/{sub}" if sub else at.resource.name
        try:
            if not self._api.may_patch(at, sub):
                return (f"{at.where}: the credential may not patch {what} in namespace {at.namespace}",)
            patch = self._patch(request, observed, "dry-run")
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


class RestartDeploymentAction(_Patches[RestartDeployment], Action[RestartDeployment]):
    """Replace all pods, with the template as it is, in the way of ``kubectl rollout restart``.

    Idempotent: a second call with the same time finds that time in the template and changes nothing.
    Undo: none, the former pods are gone.
    """

    request_type = RestartDeployment
    risk = Risk.LOW
    idempotent = "A second call finds the time of the restart in the pod template and changes nothing."

    def observe(self, request: RestartDeployment) -> Observation:
        """Read the deployment; another template, or a pause, voids an approval."""
        found, state = read_deployment(self._api, request)
        if _restarted_at(state) != request.restarted_at:
            state = _changed(state, found, "spec", "template")
        return self._observation(state, "uid", "template_hash", "paused")

    def change(self, request: RestartDeployment, observed: Observation) -> tuple[Difference, ...]:
        """Give the one annotation that it sets."""
        before = _restarted_at(DeploymentState.model_validate(observed.state))
        if before == request.restarted_at:
            return ()
        path = f"spec.template.metadata.annotations[{RESTARTED_AT}]"
        return (Difference(path=path, before=before, after=request.restarted_at),)

    def _stops(self, request: RestartDeployment, observed: Observation) -> tuple[str, ...]:
        return _stopped(request, DeploymentState.model_validate(observed.state))

    def _patch(self, request: RestartDeployment, observed: Observation, action_id: str) -> Patch:
        return _restart_patch(request, DeploymentState.model_validate(observed.state), action_id)

    def is_reached(self, request: RestartDeployment, observed: Observation) -> Progress:
        """Look for the annotation, then at the rollout."""
        state = DeploymentState.model_validate(observed.state)
        last = _restarted_at(state)
        if last == request.restarted_at:
            return state.progress(request.where)
        said = f"{request.where}: not restarted at {request.restarted_at}"
        return Progress(reached=Reached.NO, detail=f"{said}, but at {last}" if last else said)

    def undo(self, request: RestartDeployment, observed: Observation) -> tuple[RestartDeployment | None, str]:
        """There is none."""
        del request, observed
        return None, "A restart cannot be taken back: the former pods are gone."

    def blast_radius(self, request: RestartDeployment, observed: Observation) -> str:
        """Say how many pods go, and how."""
        state = DeploymentState.model_validate(observed.state)
        said = f"Replaces all {state.replicas - state.held} pods of {request.where}, {state.strategy}."
        return said + _notes(request, state)


class RollBackDeploymentAction(_Patches[RollBackDeployment], Action[RollBackDeployment]):
    """Restore the pod template of a former revision, in the way of ``kubectl rollout undo --to-revision``.

    Other than kubectl it sends the template that was planned, never "the one before", and tests that nothing
    else happened to the deployment. It refuses a release that cannot work with the stored data, as a later
    one declares it in the annotation ``stanch.dev/schema-back-to`` of its pod template.

    Idempotent: a second call finds the template in place and changes nothing.
    Undo: restore the template and the annotations that were there before.
    """

    request_type = RollBackDeployment
    risk = Risk.MEDIUM
    idempotent = "A second call finds the template in place and changes nothing."

    def observe(self, request: RollBackDeployment) -> Observation:
        """Read the deployment and its history; another template, or a pause, voids an approval."""
        found, state, history = read_history(self._api, request)
        kept = [one.number for one in history.revisions if same_template(one.template, request.template)]
        wanted, complete = set(images(request.template)), state.progress(request.where).reached is Reached.YES
        run = [set(one.images) for one in history.revisions if one.serving]
        run += [set(state.images)] if complete and state.replicas else []
        if not same_template(state.template, request.template):
            state = _changed(state, found, "spec", "template")
        seen = RollBackState(
            **dict(state),
            kept_as=max(kept, default=None),
            images_run=any(wanted <= one for one in run),
            incompatible=history.incompatible(request.template),
        )
        return self._observation(seen, "uid", "template_hash", "paused")

    def change(self, request: RollBackDeployment, observed: Observation) -> tuple[Difference, ...]:
        """Give the differences of the template and of the annotations that belong to the revision."""
        state = RollBackState.model_validate(observed.state)
        if same_template(state.template, request.template):
            return ()
        marks = tuple(
            Difference(path=f"metadata.annotations[{key}]", before=before, after=after)
            for key, before, after in _annotation_changes(request, state)
        )
        return template_differences(state.template, request.template) + marks

    def _stops(self, request: RollBackDeployment, observed: Observation) -> tuple[str, ...]:
        state = RollBackState.model_validate(observed.state)
        unfit = (f"{request.where}: {state.incompatible}",) if state.incompatible else ()
        return _stopped(request, state) or unfit

    def _patch(self, request: RollBackDeployment, observed: Observation, action_id: str) -> Patch:
        return _roll_back_patch(request, RollBackState.model_validate(observed.state), action_id)

    def is_reached(self, request: RollBackDeployment, observed: Observation) -> Progress:
        """Compare the templates, then look at the rollout."""
        state = RollBackState.model_validate(observed.state)
        if same_template(state.template, request.template):
            return state.progress(request.where)
        said = f"it has the template of revision {state.revision} ({', '.join(state.images)})"
        return Progress(reached=Reached.NO, detail=f"{request.where}: {said}")

    def undo(
        self, request: RollBackDeployment, observed: Observation
    ) -> tuple[RollBackDeployment | None, str]:
        """Give the request that restores what was observed."""
        state = RollBackState.model_validate(observed.state)
        back = request.model_copy(
            update={
                "revision": state.revision,
                "template_hash": state.template_hash,
                "template": state.template,
                "annotations": None if request.annotations is None else own_annotations(state.annotations),
            }
        )
        return back, f"Restores what was revision {state.revision} ({', '.join(state.images)})."

    def blast_radius(self, request: RollBackDeployment, observed: Observation) -> str:
        """Say how many pods go, for what, and how."""
        state = RollBackState.model_validate(observed.state)
        wanted = f"what was revision {request.revision} ({', '.join(images(request.template))})"
        pods = state.replicas - state.held
        said = f"Replaces all {pods} pods of {request.where} by {wanted}, {state.strategy}."
        if not state.kept_as:
            said += " The history has lost that revision: its template is taken from this plan."
        if not state.images_run:
            said += " None of its pods serves now, so it is not known whether its images can still be pulled."
        return said + _notes(request, state)


class ScaleDeploymentAction(_Patches[ScaleDeployment], Action[ScaleDeployment]):
    """Set how many pods there are, through the scale subresource.

    Idempotent: a second call finds that many pods wanted and changes nothing.
    Undo: set the former number.
    """

    request_type = ScaleDeployment
    subresource = "scale"
    risk = Risk.MEDIUM
    idempotent = "A second call finds that number already asked for and changes nothing."

    def observe(self, request: ScaleDeployment) -> Observation:
        """Read the deployment, its scale and what limits it; another number voids an approval."""
        found, state = read_deployment(self._api, request)
        scale = self._api.read(request, "scale")
        if scale.get("metadata", {}).get("uid") != state.uid:
            raise ProviderUnavailableError(f"{request.where}: it was replaced while it was read")
        spec = scale.get("spec") or {}
        state = state.model_copy(update={"replicas": spec.get("replicas", 0)})
        if state.replicas != request.replicas:
            state = _changed(state, found, "spec", "replicas")
        return self._observation(
            ScaleState(**dict(state), scale=spec, **self._limited(request, state)), "uid", "replicas"
        )

    def change(self, request: ScaleDeployment, observed: Observation) -> tuple[Difference, ...]:
        """Give the two numbers."""
        before = ScaleState.model_validate(observed.state).replicas
        if before == request.replicas:
            return ()
        return (Difference(path="spec.replicas", before=before, after=request.replicas),)

    def _stops(self, request: ScaleDeployment, observed: Observation) -> tuple[str, ...]:
        state = ScaleState.model_validate(observed.state)
        if state.unknown or not state.autoscalers:
            return state.unknown or _too_many(request, state, request.replicas)
        owned = f"autoscaler {', '.join(map(str, state.autoscalers))} owns its count and would set it again"
        return (f"{request.where}: {owned}; change the autoscaler's limits instead",)

    def _patch(self, request: ScaleDeployment, observed: Observation, action_id: str) -> Patch:
        del action_id  # the scale subresource keeps no annotation; the user agent has it
        return _scale_patch(request, ScaleState.model_validate(observed.state))

    def is_reached(self, request: ScaleDeployment, observed: Observation) -> Progress:
        """Compare the wanted numbers, then count what serves."""
        state = ScaleState.model_validate(observed.state)
        if state.replicas == request.replicas:
            return state.progress_of_scale(request.where)
        said = f"{request.where}: {state.replicas} pods are wanted there, not {request.replicas}"
        return Progress(reached=Reached.NO, detail=said)

    def undo(self, request: ScaleDeployment, observed: Observation) -> tuple[ScaleDeployment | None, str]:
        """Give the request for the former number."""
        before = ScaleState.model_validate(observed.state).replicas
        return request.model_copy(update={"replicas": before}), f"Sets {before} pods again."

    def blast_radius(self, request: ScaleDeployment, observed: Observation) -> str:
        """Say how many pods come or go."""
        state = ScaleState.model_validate(observed.state)
        if request.replicas == 0:
            said = f"Takes all {state.replicas} pods of {request.where} away: nothing serves any more."
        else:
            said = f"Goes from {state.replicas} to {request.replicas} pods of {request.where}."
        return said + _headroom(state, request.replicas) + _notes(request, state)


class SetAutoscalerLimitsAction(_Patches[SetAutoscalerLimits], Action[SetAutoscalerLimits]):
    """Set between which numbers of pods an autoscaler moves: how to scale what an autoscaler scales.

    Idempotent: a second call finds these limits and changes nothing.
    Undo: give the former limits back.
    """

    request_type = SetAutoscalerLimits
    risk = Risk.MEDIUM
    idempotent = "A second call finds these limits and changes nothing."

    def observe(self, request: SetAutoscalerLimits) -> Observation:
        """Read the autoscaler and its deployment; other limits void an approval."""
        _, state = read_deployment(self._api, request)
        found = self._api.read(request.limits)
        mine = Autoscaler.of(request, [found])
        if not mine:
            raise ActionRefusedError(
                f"{request.where}: autoscaler {request.autoscaler} scales something else"
            )
        metadata = found["metadata"]
        minimum, maximum = mine[0].minimum, mine[0].maximum
        there = (minimum, maximum) == (request.minimum, request.maximum)
        seen = {
            **dict(state),
            **self._limited(request, state),
            "uid": metadata.get("uid", ""),
            "owners": owners(request.limits.resource, metadata),
            "annotated": metadata.get("annotations") is not None,
            "changed_by": None if there else last_manager(metadata, "spec"),
        }
        mark = (metadata.get("annotations") or {}).get(ACTION)
        limits = LimitsState(**seen, minimum=minimum, maximum=maximum, mark=mark, made_by=made_by(metadata))
        return self._observation(limits, "uid", "minimum", "maximum")

    def change(self, request: SetAutoscalerLimits, observed: Observation) -> tuple[Difference, ...]:
        """Give those of the two numbers that are others."""
        state = LimitsState.model_validate(observed.state)
        pairs = {
            "spec.minReplicas": (state.minimum, request.minimum),
            "spec.maxReplicas": (state.maximum, request.maximum),
        }
        return tuple(
            Difference(path=f"autoscaler {request.autoscaler} {path}", before=before, after=after)
            for path, (before, after) in pairs.items()
            if before != after
        )

    def _stops(self, request: SetAutoscalerLimits, observed: Observation) -> tuple[str, ...]:
        state = LimitsState.model_validate(observed.state)
        if state.made_by:
            said = f"autoscaler {request.autoscaler} is made by {state.made_by}, which would set it again"
            return (f"{request.where}: {said}; change that instead",)
        if not state.replicas:
            return (f"{request.where}: it has no pods, which switches its autoscaler off; scale it first",)
        return state.unknown or _too_many(request, state, request.minimum)

    def _patch(self, request: SetAutoscalerLimits, observed: Observation, action_id: str) -> Patch:
        return _limits_patch(request, LimitsState.model_validate(observed.state), action_id)

    def _at(self, request: SetAutoscalerLimits) -> InCluster:
        return request.limits

    def is_reached(self, request: SetAutoscalerLimits, observed: Observation) -> Progress:
        """Compare the limits, then count what is asked for and what serves."""
        state = LimitsState.model_validate(observed.state)
        if self.change(request, observed):
            said = f"autoscaler {request.autoscaler} keeps it between {state.minimum} and {state.maximum}"
            return Progress(reached=Reached.NO, detail=f"{request.where}: {said}")
        if not request.minimum <= state.replicas <= request.maximum:
            said = f"{request.where}: its autoscaler has yet to set its count, which is {state.replicas}"
            return Progress(reached=Reached.SETTLING, detail=said)
        return state.progress_of_scale(request.where)

    def undo(
        self, request: SetAutoscalerLimits, observed: Observation
    ) -> tuple[SetAutoscalerLimits | None, str]:
        """Give the request for the former limits."""
        state = LimitsState.model_validate(observed.state)
        back = request.model_copy(update={"minimum": state.minimum, "maximum": state.maximum})
        return back, f"Lets the autoscaler keep {state.minimum} to {state.maximum} pods again."

    def blast_radius(self, request: SetAutoscalerLimits, observed: Observation) -> str:
        """Say between which numbers it will be, and how many pods come at once."""
        state = LimitsState.model_validate(observed.state)
        limits = f"{request.minimum} to {request.maximum} pods, not {state.minimum} to {state.maximum}"
        said = (
            f"Has autoscaler {request.autoscaler} keep {request.where} at {limits}; it has {state.replicas}."
        )
        return said + _headroom(state, request.minimum) + _notes(request, state)


class SetSyncAction(_Patches[SetSync], Action[SetSync]):
    """Pause Argo CD or Flux for what it applies, or let it go on: else it puts back what is changed by hand.

    Pausing removes Argo CD's ``spec.syncPolicy.automated``, or sets Flux's ``spec.suspend``. A sync that is
    already running is not stopped.

    Idempotent: a second call finds the field as it should be and changes nothing.
    Undo: give the field the value that it had, literally; then whatever is in Git is applied.
    """

    request_type = SetSync
    risk = Risk.LOW
    idempotent = "A second call finds the field as it should be and changes nothing."

    def observe(self, request: SetSync) -> Observation:
        """Read the object; another value of the field voids an approval."""
        found = self._api.read(request)
        state = SyncState.read(request, found)
        if _sync_differs(request, state):
            path = ("spec", _sync_path(request)[1])
            state = state.model_copy(update={"changed_by": last_manager(found["metadata"], *path)})
        return self._observation(state, "uid", "value")

    def change(self, request: SetSync, observed: Observation) -> tuple[Difference, ...]:
        """Give the one field that it sets or removes."""
        state = SyncState.model_validate(observed.state)
        if not _sync_differs(request, state):
            return ()
        path = ".".join(_sync_path(request))
        return (Difference(path=path, before=state.value, after=request.value),)

    def _stops(self, request: SetSync, observed: Observation) -> tuple[str, ...]:
        made = SyncState.model_validate(observed.state).made_by
        said = f"{request.where}: it is made by {made}, which would set it again; pause it there"
        return (said,) if made else ()

    def _patch(self, request: SetSync, observed: Observation, action_id: str) -> Patch:
        return _sync_patch(request, SyncState.model_validate(observed.state), action_id)

    def is_reached(self, request: SetSync, observed: Observation) -> Progress:
        """Compare the field; a sync that runs all the same is told."""
        state = SyncState.model_validate(observed.state)
        said = f"{request.where}: its sync is {'paused' if state.suspended else 'not paused'}"
        if self.change(request, observed):
            return Progress(reached=Reached.NO, detail=said)
        if state.suspended and state.busy:
            said += "; one that began before is still running (argocd app terminate-op ends it)"
        return Progress(reached=Reached.YES, detail=said)

    def undo(self, request: SetSync, observed: Observation) -> tuple[SetSync | None, str]:
        """Give the request that restores the field literally."""
        state = SyncState.model_validate(observed.state)
        restore = None if state.suspended else state.value
        back = request.model_copy(update={"suspended": state.suspended, "restore": restore})
        said = (
            "Pauses it again." if state.suspended else "Lets it go on as before: it applies what is in Git."
        )
        return back, said

    def blast_radius(self, request: SetSync, observed: Observation) -> str:
        """Say what is no longer, or again, kept as Git has it."""
        state = SyncState.model_validate(observed.state)
        tool = "Argo CD" if request.kind == "application" else "Flux"
        what = f"{request.kind.replace('_', ' ')} {request.where}"
        if request.suspended:
            said = f"{tool} leaves {what} alone: nothing new in Git is rolled out there until it is resumed."
            said += " A sync of it is running now and may still apply once more." if state.busy else ""
        else:
            said = f"{tool} applies to {what} what is in Git."
            said += (
                " Now it is not as Git has it, so that this changes it." if state.sync == "OutOfSync" else ""
            )
        return said + "".join(f" {owner.note}" for owner in state.owners)


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
    return "".join([*notes, *(f" {owner.note}" for owner in state.owners)])


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


def _tests(state: DeploymentState) -> Patch:
    tests: Patch = [_test(state.uid, "metadata", "uid"), _test(state.generation, "metadata", "generation")]
    if REVISION in state.annotations:
        tests.append(_test(state.annotations[REVISION], "metadata", "annotations", REVISION))
    return tests


def _marked(state: LimitsState | SyncState) -> Patch:
    """Test the uid, and that no action of ours was there since; others have to test what they change."""
    mark = [] if state.mark is None else [_test(state.mark, "metadata", "annotations", ACTION)]
    return [_test(state.uid, "metadata", "uid"), *mark]


def _signature(state: DeploymentState | SyncState, action_id: str) -> Patch:
    """Leave the journal's key at the object."""
    return [
        *([] if state.annotated else [{"op": "add", "path": "/metadata/annotations", "value": {}}]),
        {"op": "add", "path": _pointer("metadata", "annotations", ACTION), "value": action_id},
    ]


def _restart_patch(request: RestartDeployment, state: DeploymentState, action_id: str) -> Patch:
    where = ("spec", "template", "metadata", "annotations")
    empty = not state.template.get("metadata", {}).get("annotations")
    return [
        *_tests(state),
        *([{"op": "add", "path": _pointer(*where), "value": {}}] if empty else []),
        {"op": "add", "path": _pointer(*where, RESTARTED_AT), "value": request.restarted_at},
        *_signature(state, action_id),
    ]


def _annotation_changes(
    request: RollBackDeployment, state: DeploymentState
) -> list[tuple[str, str | None, str | None]]:
    if request.annotations is None:
        return []
    now, wanted = own_annotations(state.annotations), own_annotations(request.annotations)
    keys = sorted(now.keys() | wanted.keys())
    return [(key, now.get(key), wanted.get(key)) for key in keys if now.get(key) != wanted.get(key)]


def _roll_back_patch(request: RollBackDeployment, state: DeploymentState, action_id: str) -> Patch:
    patch = [
        *_tests(state),
        {"op": "replace", "path": "/spec/template", "value": bare_template(request.template)},
        *_signature(state, action_id),
    ]
    for key, _, after in _annotation_changes(request, state):
        path = _pointer("metadata", "annotations", key)
        if after is None:
            patch.append({"op": "remove", "path": path})
        else:
            patch.append({"op": "add", "path": path, "value": after})
    return patch


def _scale_patch(request: ScaleDeployment, state: ScaleState) -> Patch:
    return [
        _test(state.uid, "metadata", "uid"),
        _test(state.scale, "spec"),
        {"op": "add", "path": "/spec/replicas", "value": request.replicas},
    ]


def _limits_patch(request: SetAutoscalerLimits, state: LimitsState, action_id: str) -> Patch:
    return [
        *_marked(state),
        _test(state.minimum, "spec", "minReplicas"),
        _test(state.maximum, "spec", "maxReplicas"),
        {"op": "add", "path": "/spec/minReplicas", "value": request.minimum},
        {"op": "add", "path": "/spec/maxReplicas", "value": request.maximum},
        *_signature(state, action_id),
    ]


def _sync_path(request: SetSync) -> tuple[str, ...]:
    return ("spec", "syncPolicy", "automated") if request.kind == "application" else ("spec", "suspend")


def _sync_differs(request: SetSync, state: SyncState) -> bool:
    if request.suspended or request.kind != "application":
        return request.suspended is not state.suspended
    return request.value != state.value


def _sync_patch(request: SetSync, state: SyncState, action_id: str) -> Patch:
    path = _sync_path(request)
    patch = _marked(state)
    if request.kind == "application":
        # An Application's generation counts what Argo CD writes into its status too, so that is no test.
        policy = {"op": "add", "path": "/spec/syncPolicy", "value": {}}
        patch.append(policy if state.around is None else _test(state.around, "spec", "syncPolicy"))
    else:
        patch.append(_test(state.generation, "metadata", "generation"))
    if request.value is not None:
        patch.append({"op": "add", "path": _pointer(*path), "value": request.value})
    elif state.value is not None:
        patch.append({"op": "remove", "path": _pointer(*path)})
    return [*patch, *_signature(state, action_id)]


def _pointer(*path: str) -> str:
    """Give a JSON pointer (RFC 6901)."""
    return "".join(f"/{one.replace('~', '~0').replace('/', '~1')}" for one in path)
