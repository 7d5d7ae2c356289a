"""Switch off the feature flag that was changed most recently for the failing service.

Candidates are the catalogue's flags of the service that are on and were changed within the last hours, the
latest change first: what changed last is what most likely broke it. A flag that was tried in this incident is
not tried again.
"""

from datetime import timedelta

from activities import launchdarkly
from contracts.catalogue import Flag
from contracts.errors import NothingToProposeError
from contracts.incidents import Incident
from contracts.plans import Proposal, Risk
from contracts.playbooks import PlaybookParams, ServiceLook
from playbooks.kit import alert, playbook, step, verification


class Params(PlaybookParams):
    """How far back a change is a suspect."""

    within: timedelta = timedelta(hours=6)


@playbook(
    matches=[alert(signal="error_rate"), alert(signal="latency")],
    risk=Risk.LOW,
    order=20,
)
async def plan(incident: Incident, params: Params, look: ServiceLook) -> Proposal:
    """Propose to switch off the most suspicious flag."""
    flags = look.service.flags
    if not flags:
        raise NothingToProposeError(f"{incident.service} has no flags in {incident.environment}")
    changes, notes = await _changes(flags, params, look)
    for change, flag in changes:
        request = launchdarkly.SetFlag(
            project=flag.project, environment=flag.environment, key=flag.key, on=False
        )
        if not change.on or incident.has_tried(str(request.call())):
            continue
        return Proposal(
            title=f"Disable flag {flag.key}",
            rationale=f"It is the latest change of {incident.service}'s flags that is still on: "
            f"{change.title}, {_ago(look, change)}.",
            steps=(step(f"Disable flag {flag.key}", request, verify=verification(look, incident)),),
        )
    nothing = f"no flag of {incident.service} that is on was changed within {params.within}"
    raise NothingToProposeError("; ".join([nothing, *notes]))


async def _changes(
    flags: tuple[Flag, ...], params: Params, look: ServiceLook
) -> tuple[list[tuple[launchdarkly.FlagChange, Flag]], list[str]]:
    """Give the recent changes of these flags, the latest first, and what could not be seen."""
    found: list[tuple[launchdarkly.FlagChange, Flag]] = []
    notes: list[str] = []
    for project, environment in dict.fromkeys((flag.project, flag.environment) for flag in flags):
        mine = {
            flag.key: flag for flag in flags if (flag.project, flag.environment) == (project, environment)
        }
        recent = await look.at(
            launchdarkly.RecentFlagChanges(
                project=project, environment=environment, keys=tuple(mine), within=params.within
            )
        )
        found += [(change, mine[change.key]) for change in recent.changes]
        notes += recent.notes
    return sorted(found, key=lambda pair: pair[0].changed_at, reverse=True), notes


def _ago(look: ServiceLook, change: launchdarkly.FlagChange) -> str:
    return f"{max(0, round((look.now - change.changed_at).total_seconds() / 60))} min ago"
