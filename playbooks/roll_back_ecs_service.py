"""Roll the most recently released ECS service of the failing service back to its last good revision.

Good is the revision that last served for at least an hour since a deployment of it succeeded, or else the one
that served last, or else the newest former one that is still registered; the plan says which. What did not
help, or was turned down, is followed by the next. An ECS service that was not released within the last hours
is not a suspect, unless a revision is named. In an incident of one region only the ECS services there are.
"""

from collections.abc import Sequence
from datetime import timedelta

from pydantic import Field

from activities import aws
from contracts.errors import NothingToProposeError
from contracts.incidents import Incident
from contracts.plans import Proposal, Risk
from contracts.playbooks import PlaybookParams, RevisionNumber, ServiceLook, Within
from playbooks.kit import ago, alert, check_one, named, playbook, step, verification


class Params(PlaybookParams):
    """Which revision, or how it is found."""

    revision: RevisionNumber | None = Field(None, description="The revision of this number, whatever it is.")
    name: str | None = Field(None, description="Of this ECS service only: web, or its cluster/web.")
    within: Within = Field(timedelta(hours=24), description="How far back a release is a suspect.")
    proven: Within = Field(timedelta(hours=1), description="How long a good release has served.")


@playbook(matches=[alert(signal="error_rate"), alert(signal="latency")], risk=Risk.MEDIUM, order=31)
async def plan(incident: Incident, params: Params, look: ServiceLook) -> Proposal:
    """Propose to run the last good revision of the latest release."""
    suspects = []
    notes: list[str] = []
    for service in named(look.service.aws.ecs_services, params.name):
        if incident.region not in (None, service.region):
            continue
        where = service.model_dump(include={"account", "region", "cluster"}) | {"service": service.name}
        history = await look.at(aws.ServiceHistory(**where))
        notes += history.notes
        released = history.present.released_at
        if params.revision is not None or (released is not None and look.now - released <= params.within):
            suspects.append((released or incident.opened_at, history, where))
    places = ["/".join(where.values()) for _, one, where in suspects if _numbered(one.former, params)]
    check_one(params.revision, places)
    for released, history, where in sorted(suspects, key=lambda suspect: suspect[0], reverse=True):
        proven = [one for one in history.former if one.served >= params.proven]
        others = [one for one in history.former if one not in proven]
        for good in [*proven, *others] if params.revision is None else _numbered(history.former, params):
            request = aws.RollBackService(**where, task_definition=good.task_definition)
            if incident.has_tried(request.attempt):
                continue
            title = f"Roll back {request.cluster}/{request.service} to {good.name}"
            return Proposal(
                title=title,
                rationale="; ".join(
                    [
                        f"{history.present.name} was released {ago(look, released)}",
                        _record(good),
                        *history.notes,
                    ]
                )
                + ".",
                steps=(step(title, request, verify=verification(look, incident)),),
            )
    which = f"revision {params.revision}" if params.revision is not None else "a former revision"
    nothing = f"no ECS service of {incident.service} with {which} that is left to try was released"
    nothing += f" within {params.within}" if params.revision is None else ""
    raise NothingToProposeError("; ".join([nothing, *notes]))


def _numbered(former: Sequence[aws.ServiceRevision], params: Params) -> list[aws.ServiceRevision]:
    return [one for one in former if one.name.endswith(f":{params.revision}")]


def _record(good: aws.ServiceRevision) -> str:
    """Say how good a revision is known to be."""
    if good.released_at is None:
        return f"{good.name} is the newest former revision, and it is not known that it ever served"
    images = f" ({', '.join(good.images)})" if good.images else ""
    return f"{good.name}{images} served for {good.served / timedelta(hours=1):.3g} h before"
