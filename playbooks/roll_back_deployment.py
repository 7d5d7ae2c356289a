"""Roll the most recently released deployment of the failing service back to its last good revision.

The last good revision is the newest earlier release whose ReplicaSet or ControllerRevision has the annotation
`stanch.dev/verified-good` with its own hash, or else the newest that ran for at least an hour before another
one came, first of these one that still serves, or else the newest earlier one; the plan says which. What did
not help, or was turned down, is followed by the next. Those that cannot work with the data as a later release
has left it are passed over, where the releases say so. One that differs from the present by a restart alone
is the same release. A deployment that was not released within the last hours is not a suspect, unless a
revision is named.

Where Argo CD or Flux keeps the deployment as Git has it, its sync is paused first. It stays paused until
somebody undoes the mitigation: resumed any earlier it would release again what is still in Git. A rollback
that does not help is taken back, and the pause with it: what was released is not the cause.
"""

from datetime import datetime, timedelta

from pydantic import Field

from activities import k8s
from contracts.errors import NothingToProposeError
from contracts.incidents import Effect, Incident
from contracts.plans import Proposal, Risk
from contracts.playbooks import PlaybookParams, RevisionNumber, ServiceLook, Within
from playbooks.kit import ago, alert, check_one, named, playbook, steps, verification

VERIFIED_GOOD = "stanch.dev/verified-good"


class Params(PlaybookParams):
    """Which revision, or how it is found."""

    revision: RevisionNumber | None = Field(None, description="The revision of this number, whatever it is.")
    name: str | None = Field(
        None, description="Of this deployment only: shop/web, or web if one is called so."
    )
    within: Within = Field(timedelta(hours=24), description="How far back a release is a suspect.")
    proven: Within = Field(timedelta(hours=1), description="How long a release ran that is known to be good.")


@playbook(matches=[alert(signal="error_rate"), alert(signal="latency")], risk=Risk.MEDIUM, order=30)
async def plan(incident: Incident, params: Params, look: ServiceLook) -> Proposal:
    """Propose to restore the last good revision of the latest release."""
    suspects = []
    for deployment in named(look.service.deployments, params.name):
        history = await look.at(k8s.RolloutHistory(**deployment.model_dump()))
        current = next((revision for revision in history.revisions if revision.current), None)
        if current is None:
            continue
        released = _released(current, history)
        if params.revision is not None or look.now - released <= params.within:
            suspects.append((released, current, history))
    suspects.sort(key=lambda suspect: suspect[0], reverse=True)
    where = [
        f"{one.cluster}/{one.namespace}/{one.name}" for _, now, one in suspects if _good(now, one, params)
    ]
    check_one(params.revision, where)
    for released, current, history in suspects:
        for good, known in _good(current, history, params):
            request = history.roll_back_to(good)
            if incident.has_tried(request.attempt):
                continue
            pauses = k8s.pauses(history, history.owners, look.service.syncs)
            paused = [(f"Pause the sync of {one.namespace}/{one.name}", one) for one in pauses]
            title = f"Roll back {history.namespace}/{history.name} to revision {good.number}"
            return Proposal(
                title=title,
                rationale=f"Revision {current.number} ({', '.join(current.images)}) was released "
                f"{ago(look, released)}; revision {good.number} ({', '.join(good.images)}) {known}.",
                steps=steps([*paused, (title, request)], verification(look, incident)),
                undo_when=(Effect.INEFFECTIVE, Effect.WORSE),
            )
    which = (
        "an earlier release" if params.revision is None else f"another release as revision {params.revision}"
    )
    nothing = f"no deployment of {incident.service} with {which} that is left to try was released"
    raise NothingToProposeError(nothing + (f" within {params.within}" if params.revision is None else ""))


def _released(current: k8s.Revision, history: k8s.History) -> datetime:
    """Give when the present release began: restarts make new revisions of the same one."""
    return min(one.created_at for one in history.revisions if one.release == current.release)


def _good(current: k8s.Revision, history: k8s.History, params: Params) -> list[tuple[k8s.Revision, str]]:
    """Give the newest revision of each earlier release, the best first, with what is known of it."""
    others = [one for one in history.revisions if one.release != current.release]
    if params.revision is not None:
        return [(one, "was named") for one in others if one.number == params.revision]
    released = _released(current, history)
    newest = {one.release: one for one in reversed(others) if _released(one, history) <= released}
    # What was restored after it is older than the present release, but did not run before it.
    earlier = sorted(newest.values(), key=lambda one: (_released(one, history), one.number), reverse=True)
    # Where none works with the data the plan names the reason: it is refused.
    earlier = [one for one in earlier if not history.incompatible(one.template)] or earlier
    # The mark names its revision, because the controller copies a deployment's marks to every one.
    marked = {one.release for one in others if one.annotations.get(VERIFIED_GOOD) in one.hashes}
    # What was released over a rollout that never got through stands for long too, and serves nobody.
    serving = {one.release for one in others if one.serving}
    ranked = []
    for one in earlier:
        ran = _ran(one, history)
        if one.release in marked:
            ranked.append((0, one, "is marked as verified good"))
        elif ran >= params.proven:
            stood = f"ran for {ran / timedelta(hours=1):.3g} h before another one came"
            serves = one.release in serving
            ranked.append((1, one, f"{stood}, and still serves") if serves else (2, one, stood))
        else:
            ranked.append((3, one, "ran before, but is not known to be good"))
    return [(one, known) for _, one, known in sorted(ranked, key=lambda rank: rank[0])]


def _ran(revision: k8s.Revision, history: k8s.History) -> timedelta:
    """Give how long a release ran until the next one came; nothing where it was rolled back before that."""
    others = [one for one in history.revisions if one.release != revision.release]
    began = _released(revision, history)
    later = [one for one in others if one.created_at > began]
    after = min(later, key=lambda one: one.created_at, default=None)
    restored = after and any(
        revision.number < one.number < after.number for one in others if one.created_at <= began
    )
    return timedelta() if after is None or restored else after.created_at - began
