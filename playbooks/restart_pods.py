"""Restart the pods of the failing service, one by one.

A generic mitigation: it clears leaked connections, stuck threads and bad caches, and needs no diagnosis. It
does not help against a cause that comes back by itself; the verification says so within minutes.
"""

from activities import k8s
from contracts.errors import NothingToProposeError
from contracts.incidents import Incident
from contracts.plans import Proposal, Risk
from contracts.playbooks import PlaybookParams, ServiceLook
from playbooks.kit import alert, playbook, steps, verification


class Params(PlaybookParams):
    """It needs none."""


@playbook(matches=[alert(signal="error_rate"), alert(signal="latency")], risk=Risk.LOW, order=10)
async def plan(incident: Incident, params: Params, look: ServiceLook) -> Proposal:  # noqa: ARG001  (all have it)
    """Propose a rolling restart of every deployment of the service."""
    deployments = look.service.deployments
    if not deployments:
        raise NothingToProposeError(f"{incident.service} has no deployments in {incident.environment}")
    restarts = [
        (
            f"Restart {one.namespace}/{one.name}",
            k8s.RestartDeployment(**one.model_dump(), restarted_at=look.now.isoformat(timespec="seconds")),
        )
        for one in deployments
    ]
    return Proposal(
        title=f"Restart the pods of {incident.service}",
        rationale="A restart clears leaked connections and stuck threads, and takes a minute to try.",
        steps=steps(restarts, verification(look, incident)),
    )
