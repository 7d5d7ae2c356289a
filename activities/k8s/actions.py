"""What can be done to a Deployment. Every change is one JSON patch that tests what it was planned upon.

A patch tests the uid and the generation (or the count) that was read just before: the same patch sent twice,
or one that arrives late, is turned away by the API server itself. The resource version is not tested, since
status writes move it all the time.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from activities.k8s.models import (
    ACTION,
    RESTARTED_AT,
    REVISION,
    DeploymentState,
    History,
    InDeployment,
    KubernetesObject,
    RestartDeployment,
    RollBackDeployment,
    RollBackState,
    ScaleDeployment,
    ScaleState,
    bare_template,
    images,
    own_annotations,
    same_template,
    template_differences,
)
from contracts.actions import Action
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.outcomes import Progress, Reached
from contracts.plans import Difference, Observation, Risk

Patch = list[dict[str, Any]]


class KubernetesApi(Protocol):
    """What actions and probes need of the clusters. Its errors are those that ``Action`` tells of."""

    def deployment(self, at: InDeployment) -> KubernetesObject:
        """Read the Deployment."""
        ...

    def replica_sets(self, at: InDeployment, deployment: KubernetesObject) -> list[KubernetesObject]:
        """Read the ReplicaSets that the Deployment owns."""
        ...

    def scale(self, at: InDeployment) -> KubernetesObject:
        """Read the scale subresource."""
        ...

    def autoscalers(self, at: InDeployment) -> list[KubernetesObject]:
        """Read the HorizontalPodAutoscalers of the namespace."""
        ...

    def may_patch(self, at: InDeployment, subresource: str = "") -> bool:
        """Ask whether our credential may patch the Deployment, or a subresource of it."""
        ...

    def patch(
        self, at: InDeployment, patch: Patch, *, subresource: str = "", action_id: str, dry_run: bool = False
    ) -> None:
        """Send one JSON patch, once; a failed test in it is a ``PreconditionFailedError``."""
        ...


class _OnDeployments:
    """What the actions share: the clusters, a clock, and asking a cluster why it would refuse."""

    def __init__(self, api: KubernetesApi, clock: Callable[[], datetime]) -> None:
        self._api = api
        self._clock = clock

    def _observation(self, state: DeploymentState, *guard: str) -> Observation:
        plain = state.model_dump(mode="json")
        return Observation(state=plain, guard={key: plain[key] for key in guard}, at=self._clock())

    def _refusals(self, at: InDeployment, patch: Patch, *, subresource: str = "") -> tuple[str, ...]:
        what = f"deployments/{subresource}" if subresource else "deployments"
        try:
            if not self._api.may_patch(at, subresource):
                return (f"{at.where}: the credential may not patch {what} in namespace {at.namespace}",)
            self._api.patch(at, patch, subresource=subresource, action_id="dry-run", dry_run=True)
        except ActionRefusedError as error:
            # Some admission webhooks cannot be asked; the real call still passes through them.
            return () if "does not support dry run" in str(error) else (str(error),)
        return ()


class RestartDeploymentAction(_OnDeployments, Action[RestartDeployment]):
    """Replace all pods, with the template as it is, in the way of ``kubectl rollout restart``.

    Idempotent: a second call with the same time finds that time in the template and changes nothing.
    Undo: none, the former pods are gone.
    """

    request_type = RestartDeployment
    risk = Risk.LOW
    idempotent = "A second call finds the time of the restart in the pod template and changes nothing."

    def observe(self, request: RestartDeployment) -> Observation:
        """Read the Deployment; another template, or a pause, voids an approval."""
        state = DeploymentState.read(request.where, self._api.deployment(request))
        return self._observation(state, "uid", "template_hash", "paused")

    def change(self, request: RestartDeployment, observed: Observation) -> tuple[Difference, ...]:
        """Give the one annotation that it sets."""
        before = _restarted_at(DeploymentState.model_validate(observed.state))
        if before == request.restarted_at:
            return ()
        path = f"spec.template.metadata.annotations[{RESTARTED_AT}]"
        return (Difference(path=path, before=before, after=request.restarted_at),)

    def preflight(self, request: RestartDeployment, observed: Observation) -> tuple[str, ...]:
        """Find a pause, a missing permission, and whatever a dry run tells."""
        state = DeploymentState.model_validate(observed.state)
        if state.paused:
            return (_paused(request),)
        if not self.change(request, observed):
            return ()
        return self._refusals(request, _restart_patch(request, state, "dry-run"))

    def apply(self, request: RestartDeployment, observed: Observation, *, action_id: str) -> None:
        """Send the annotation, if it is not there."""
        if self.change(request, observed):
            state = DeploymentState.model_validate(observed.state)
            self._api.patch(request, _restart_patch(request, state, action_id), action_id=action_id)

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
        said = f"Replaces all {state.replicas} pods of {request.where}, {state.strategy}."
        return said + _notes(request, state)


class RollBackDeploymentAction(_OnDeployments, Action[RollBackDeployment]):
    """Restore the pod template of a former revision, in the way of ``kubectl rollout undo --to-revision``.

    Other than kubectl it sends the template that was planned, never "the one before", and tests that nothing
    else happened to the Deployment.

    Idempotent: a second call finds the template in place and changes nothing.
    Undo: restore the template and the annotations that were there before.
    """

    request_type = RollBackDeployment
    risk = Risk.MEDIUM
    idempotent = "A second call finds the template in place and changes nothing."

    def observe(self, request: RollBackDeployment) -> Observation:
        """Read the Deployment and its history; another template, or a pause, voids an approval."""
        deployment = self._api.deployment(request)
        state = DeploymentState.read(request.where, deployment)
        history = History.read(request, state, self._api.replica_sets(request, deployment))
        kept = [one.number for one in history.revisions if same_template(one.template, request.template)]
        seen = RollBackState(**dict(state), kept_as=max(kept, default=None))
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

    def preflight(self, request: RollBackDeployment, observed: Observation) -> tuple[str, ...]:
        """Find a pause, a missing permission, and whatever a dry run tells."""
        state = RollBackState.model_validate(observed.state)
        if state.paused:
            return (_paused(request),)
        if not self.change(request, observed):
            return ()
        return self._refusals(request, _roll_back_patch(request, state, "dry-run"))

    def apply(self, request: RollBackDeployment, observed: Observation, *, action_id: str) -> None:
        """Send the template, if it is not in place."""
        if self.change(request, observed):
            state = RollBackState.model_validate(observed.state)
            self._api.patch(request, _roll_back_patch(request, state, action_id), action_id=action_id)

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
        lost = " The history has lost that revision: its template is taken from this plan."
        said = f"Replaces all {state.replicas} pods of {request.where} by {wanted}, {state.strategy}."
        return f"{said}{'' if state.kept_as else lost}{_notes(request, state)}"


class ScaleDeploymentAction(_OnDeployments, Action[ScaleDeployment]):
    """Set how many pods there are, through the scale subresource.

    Idempotent: a second call finds that many pods wanted and changes nothing.
    Undo: set the former number.
    """

    request_type = ScaleDeployment
    risk = Risk.MEDIUM
    idempotent = "A second call finds that number already asked for and changes nothing."

    def observe(self, request: ScaleDeployment) -> Observation:
        """Read the Deployment and its scale; another number voids an approval."""
        state = DeploymentState.read(request.where, self._api.deployment(request))
        scale = self._api.scale(request)
        if scale.get("metadata", {}).get("uid") != state.uid:
            raise ProviderUnavailableError(f"{request.where}: it was replaced while it was read")
        spec = scale.get("spec") or {}
        seen = ScaleState(**{**dict(state), "replicas": spec.get("replicas", 0)}, scale=spec)
        return self._observation(seen, "uid", "replicas")

    def change(self, request: ScaleDeployment, observed: Observation) -> tuple[Difference, ...]:
        """Give the two numbers."""
        before = ScaleState.model_validate(observed.state).replicas
        if before == request.replicas:
            return ()
        return (Difference(path="spec.replicas", before=before, after=request.replicas),)

    def preflight(self, request: ScaleDeployment, observed: Observation) -> tuple[str, ...]:
        """Find an autoscaler that would change it back, a missing permission, and what a dry run tells."""
        if not self.change(request, observed):
            return ()
        try:
            owners = [_limits(one) for one in self._api.autoscalers(request) if _owns(one, request)]
        except ActionRefusedError as error:
            return (f"{request.where}: it is unknown whether an autoscaler owns its count: {error}",)
        if owners:
            said = f"autoscaler {', '.join(owners)} owns its count and would set it again"
            return (f"{request.where}: {said}; change the autoscaler's limits instead",)
        state = ScaleState.model_validate(observed.state)
        return self._refusals(request, _scale_patch(request, state), subresource="scale")

    def apply(self, request: ScaleDeployment, observed: Observation, *, action_id: str) -> None:
        """Send the number, if it is another one."""
        if self.change(request, observed):
            patch = _scale_patch(request, ScaleState.model_validate(observed.state))
            self._api.patch(request, patch, subresource="scale", action_id=action_id)

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
        return said + _notes(request, state)


def _paused(at: InDeployment) -> str:
    return f"{at.where}: it is paused; resume it first (kubectl rollout resume)"


def _notes(at: InDeployment, state: DeploymentState) -> str:
    unfinished = state.progress(at.where).reached is not Reached.YES
    notes = [" Its last rollout is not complete."] if unfinished else []
    return "".join([*notes, *(f" {name} may put back what this changes." for name in state.reverted_by)])


def _restarted_at(state: DeploymentState) -> str | None:
    annotations: dict[str, str] = state.template.get("metadata", {}).get("annotations", {})
    return annotations.get(RESTARTED_AT)


def _tests(state: DeploymentState) -> Patch:
    tests: Patch = [
        {"op": "test", "path": "/metadata/uid", "value": state.uid},
        {"op": "test", "path": "/metadata/generation", "value": state.generation},
    ]
    if REVISION in state.annotations:
        path = _pointer("metadata", "annotations", REVISION)
        tests.append({"op": "test", "path": path, "value": state.annotations[REVISION]})
    return tests


def _signature(state: DeploymentState, action_id: str) -> Patch:
    """Leave the journal's key at the Deployment."""
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
        {"op": "test", "path": "/metadata/uid", "value": state.uid},
        {"op": "test", "path": "/spec", "value": state.scale},
        {"op": "add", "path": "/spec/replicas", "value": request.replicas},
    ]


def _pointer(*path: str) -> str:
    """Give a JSON pointer (RFC 6901)."""
    return "".join(f"/{one.replace('~', '~0').replace('/', '~1')}" for one in path)


def _owns(autoscaler: KubernetesObject, at: InDeployment) -> bool:
    target = autoscaler.get("spec", {}).get("scaleTargetRef", {})
    return bool(target.get("kind") == "Deployment" and target.get("name") == at.name)


def _limits(autoscaler: KubernetesObject) -> str:
    spec = autoscaler["spec"]
    return f"{autoscaler['metadata']['name']} ({spec.get('minReplicas', 1)} to {spec.get('maxReplicas')})"
