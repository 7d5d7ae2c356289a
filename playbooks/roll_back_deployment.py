"""Roll the most recently released deployment of the failing service back to its last good revision.

The last good revision is the newest earlier one of another release whose ReplicaSet has the annotation
`stanch.dev/verified-good` with its template hash, or else the newest earlier one of another release. Those
that cannot work with the data as a later release has left it are passed over, where the releases say so. One
that differs from the present by a restart alone is the same release. A deployment that was not released
within the last hours is not a suspect.

Where Argo CD or Flux keeps the deployment as Git has it, its sync is paused first. It stays paused until
somebody undoes the mitigation: resumed any earlier it would release again what is still in Git. A rollback
that does not help is taken back, and the pause with it: what was released is not the cause.
"""

from datetime import datetime, timedelta

from activities import k8s
from contracts.errors import NothingToProposeError
from contracts.incidents import Effect, Incident
from contracts.plans import Proposal, Risk
from contracts.playbooks import PlaybookParams, ServiceLook
from playbooks.kit import alert, playbook, steps, verification

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
        history = await look.at(k8s.RolloutHistory(**deployment.model_dump()))
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
        pauses = k8s.pauses(history, history.owners, look.service.syncs)
        paused = [(f"Pause the sync of {one.namespace}/{one.name}", one) for one in pauses]
        minutes = round((look.now - released).total_seconds() / 60)
        title = f"Roll back {history.namespace}/{history.name} to revision {good.number}"
        return Proposal(
            title=title,
            rationale=f"Revision {current.number} ({', '.join(current.images)}) was released "
            f"{minutes} min ago; revision {good.number} ({', '.join(good.images)}) ran before it.",
            steps=steps([*paused, (title, request)], verification(look, incident)),
            undo_when=(Effect.INEFFECTIVE, Effect.WORSE),
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
    # Where none works with the data the plan names the reason: it is refused.
    earlier = [one for one in earlier if not history.incompatible(one.template)] or earlier
    # The mark names its template, because the controller copies a deployment's marks to every revision.
    marked = (one for one in earlier if one.annotations.get(VERIFIED_GOOD) == one.template_hash)
    return next(marked, earlier[0] if earlier else None)
