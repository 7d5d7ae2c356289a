"""Roll the most recently released deployment of the failing service back to its last good revision.

The last good revision is the newest earlier one that is marked `stanch.dev/verified-good`, or else the one
before the present. A deployment that was not released within the last hours is not a suspect.
"""

from datetime import timedelta

from activities import k8s
from contracts.errors import NothingToProposeError
from contracts.incidents import Incident
from contracts.plans import Proposal, Risk
from contracts.playbooks import PlaybookParams, ServiceLook
from playbooks.kit import alert, playbook, step, verification

VERIFIED_GOOD = "stanch.dev/verified-good"


class Params(PlaybookParams):
    """How far back a release is a suspect."""

    within: timedelta = timedelta(hours=24)


@playbook(
    matches=[alert(signal="error_rate"), alert(signal="latency")],
    risk=Risk.MEDIUM,
    order=30,
)
async def plan(incident: Incident, params: Params, look: ServiceLook) -> Proposal:
    """Propose to restore the last good revision of the latest release."""
    suspects = []
    for deployment in look.service.deployments:
        where = deployment.model_dump(include={"cluster", "namespace", "name"})
        history = await look.at(k8s.RolloutHistory(**where))
        current = next((revision for revision in history.revisions if revision.current), None)
        if current is not None and look.now - current.created_at <= params.within:
            suspects.append((current, history))
    suspects.sort(key=lambda pair: pair[0].created_at, reverse=True)
    for current, history in suspects:
        good = _last_good(current, history)
        if good is None:
            continue
        request = history.roll_back_to(good)
        if incident.has_tried(str(request.call())):
            continue
        minutes = round((look.now - current.created_at).total_seconds() / 60)
        return Proposal(
            title=f"Roll back {history.namespace}/{history.name} to revision {good.number}",
            rationale=f"Revision {current.number} ({', '.join(current.images)}) was released "
            f"{minutes} min ago; revision {good.number} ({', '.join(good.images)}) ran before it.",
            steps=(
                step(
                    f"Roll back {history.namespace}/{history.name} to revision {good.number}",
                    request,
                    verify=verification(look, incident),
                ),
            ),
        )
    raise NothingToProposeError(
        f"no deployment of {incident.service} with an earlier revision was released within {params.within}"
    )


def _last_good(current: k8s.Revision, history: k8s.History) -> k8s.Revision | None:
    """Give the newest earlier revision that is marked as verified, or else the one before the present."""
    earlier = [revision for revision in history.revisions if revision.number < current.number]
    marked = (revision for revision in earlier if VERIFIED_GOOD in revision.annotations)
    return next(marked, earlier[0] if earlier else None)
