"""Give the failing service more pods: half as many again, or as many as there is room for.

A generic mitigation against load: it buys time and needs no diagnosis. Where an autoscaler sets the number,
its limits are raised, for it would set any other number again; the undo gives the former ones back. Where
Argo CD or Flux keeps that number as Git has it, its sync is paused first.
"""

from math import ceil

from pydantic import Field

from activities import k8s
from contracts.actions import ActionRequest
from contracts.catalogue import Deployment
from contracts.errors import NothingToProposeError
from contracts.incidents import Incident
from contracts.plans import Proposal, Risk
from contracts.playbooks import PlaybookParams, ServiceLook
from playbooks.kit import alert, playbook, steps, verification


class Params(PlaybookParams):
    """How far it may go."""

    factor: float = Field(1.5, gt=1, le=4, description="How many times as many pods.")
    most: int = Field(20, ge=1, le=10_000, description="Never more pods than this for one deployment.")


@playbook(matches=[alert(signal="saturation"), alert(signal="latency")], risk=Risk.MEDIUM, order=25)
async def plan(incident: Incident, params: Params, look: ServiceLook) -> Proposal:
    """Propose more pods for every deployment of the service that can have them."""
    asked: list[tuple[str, ActionRequest]] = []
    said, why_not = [], []
    for deployment in look.service.deployments:
        name = f"{deployment.namespace}/{deployment.name}"
        if deployment.kind == "daemon_set":
            why_not.append(f"{name} has one pod on each node")
            continue
        looked = await look.observe(k8s.ScaleDeployment(**deployment.model_dump(), replicas=0))
        state = k8s.ScaleState.model_validate(looked.state)
        wanted = _wanted(state, params)
        request, title = _request(deployment, state, wanted)
        if request is None or incident.has_tried(request.attempt):
            why_not.append(f"{name}: {'its number was raised already' if request else title}")
            continue
        seen = await look.observe(request)  # an autoscaler may be kept by somebody else than its deployment
        kept = k8s.DeploymentState.model_validate(seen.state).owners
        pauses = k8s.pauses(request, kept, look.service.syncs)
        known = [one for _, one in asked]
        asked += [
            (f"Pause the sync of {one.namespace}/{one.name}", one) for one in pauses if one not in known
        ]
        asked.append((title, request))
        said.append(f"{state.available} of {state.replicas} pods of {name} serve")
    if not asked:
        raise NothingToProposeError("; ".join(why_not) or f"{incident.service} has no deployments")
    return Proposal(
        title=f"Scale out {incident.service}",
        rationale=f"{'; '.join(said)}. More pods take load off each, and cost a minute to try.",
        steps=steps(asked, verification(look, incident)),
    )


def _wanted(state: k8s.ScaleState, params: Params) -> int:
    """Give the number of pods to have: no more than may be, and than a quota has room for."""
    room = params.most if state.room is None else state.pods + state.room.pods
    return min(ceil(state.replicas * params.factor), params.most, room)


def _request(
    deployment: Deployment, state: k8s.ScaleState, wanted: int
) -> tuple[k8s.ScaleDeployment | k8s.SetAutoscalerLimits | None, str]:
    """Give what to ask for, with its title; or nothing, with the reason."""
    where, name = deployment.model_dump(), f"{deployment.namespace}/{deployment.name}"
    if not state.autoscalers:
        if wanted <= state.replicas:
            return None, f"it has {state.replicas} pods, and may have no more"
        return k8s.ScaleDeployment(**where, replicas=wanted), f"Scale {name} to {wanted} pods"
    if len(state.autoscalers) > 1:
        return None, f"autoscalers {', '.join(map(str, state.autoscalers))} fight over its count"
    now = state.autoscalers[0]
    if wanted <= max(now.minimum, state.replicas):
        return None, f"it has {state.replicas} pods by autoscaler {now}, and may have no more"
    most = max(now.maximum, wanted)
    request = k8s.SetAutoscalerLimits(**where, autoscaler=now.name, minimum=wanted, maximum=most)
    return request, f"Have autoscaler {now.name} keep {name} at {wanted} to {most} pods"
