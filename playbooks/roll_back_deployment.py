"""Roll the most recently released deployment of the failing service back to its last good revision.

The last good revision is the newest earlier one of another release whose ReplicaSet has the annotation
`stanch.dev/verified-good` with its template hash, or else the newest earlier one of another release. One
that differs from the present by a restart alone is the same release. A deployment that was not released
within the last hours is not a suspect.
"""

from datetime import datetime, timedelta

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
        if current is not None and look.now - _released(current, history) <= params.within:
            suspects.append((_released(current, history), current, history))
    suspects.sort(key=lambda suspect: suspect[0], reverse=True)
    for released, current, history in suspects:
        good = _last_good(current, history)
        if good is None:
            continue
        request = history.roll_back_to(good)
        if incident.has_tried(str(request.call())):
            continue
        minutes = round((look.now - released).total_seconds() / 60)
        title = f"Roll back {history.namespace}/{history.name} to revision {good.number}"
        return Proposal(
            title=title,
            rationale=f"Revision {current.number} ({', '.join(current.images)}) was released "
            f"{minutes} min ago; revision {good.number} ({', '.join(good.images)}) ran before it.",
            steps=(step(title, request, verify=verification(look, incident)),),
        )
    raise NothingToProposeError(
        f"no deployment of {incident.service} with an earlier release was released within {params.within}"
    )


def _released(current: k8s.Revision, history: k8s.History) -> datetime:
    """Give when the present release began: restarts make new revisions of the same one."""
    return min(one.created_at for one in history.revisions if one.release == current.release)


def _last_good(current: k8s.Revision, history: k8s.History) -> k8s.Revision | None:
    """Give the newest earlier release that is marked as verified, or else the newest earlier one."""
    earlier = [
        revision
        for revision in history.revisions
        if revision.number < current.number and revision.release != current.release
    ]
    # The mark names its template, because the controller copies a deployment's marks to every revision.
    marked = (one for one in earlier if one.annotations.get(VERIFIED_GOOD) == one.template_hash)
    return next(marked, earlier[0] if earlier else None)
