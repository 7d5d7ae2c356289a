"""Switch off the feature flag that was changed most recently for the failing service.

Candidates are the catalogue's flags of the service that are on and were changed within the last hours, the
latest change first: what changed last is what most likely broke it. A flag that was tried in this incident is
not tried again.
"""

from datetime import timedelta

from pydantic import Field

from activities import launchdarkly
from contracts.catalogue import Flag
from contracts.errors import NothingToProposeError
from contracts.incidents import Incident
from contracts.plans import Proposal, Risk
from contracts.playbooks import PlaybookParams, ServiceLook, Within
from playbooks.kit import ago, alert, playbook, step, verification


class Params(PlaybookParams):
    """Which flag, or how far back a change is a suspect."""

    flag: str | None = Field(None, description="Switch off the flag with this key, whenever it was changed.")
    within: Within = Field(timedelta(hours=6), description="How far back a change is a suspect.")


@playbook(matches=[alert(signal="error_rate"), alert(signal="latency")], risk=Risk.LOW, order=20)
async def plan(incident: Incident, params: Params, look: ServiceLook) -> Proposal:
    """Propose to switch off the most suspicious flag."""
    flags = look.service.flags
    if not flags:
        raise NothingToProposeError(f"{incident.service} has no flags in {incident.environment}")
    if params.flag is not None:
        named = next((flag for flag in flags if flag.key == params.flag), None)
        if named is None:
            keys = ", ".join(flag.key for flag in flags)
            raise NothingToProposeError(f"{incident.service} has no flag {params.flag}; it has {keys}")
        if incident.has_tried(_off(named).attempt):
            raise NothingToProposeError(f"flag {named.key} was tried already")
        return _disable(named, "It was named.", incident, look)
    changes, notes = await _changes(flags, params, look)
    suspects = [pair for pair in changes if pair[0].on and not incident.has_tried(_off(pair[1]).attempt)]
    if suspects:
        (change, flag), *_ = suspects
        why = (
            f"It is the latest change of {incident.service}'s flags that is still on: {_said(look, change)}."
        )
        others = [
            f"{_said(look, one)}{'' if one.on else ', which is off'}"
            f"{', which was tried' if one.on and (one, its) not in suspects else ''}"
            for one, its in changes
            if its != flag
        ]
        if others:
            why += f" Others that were changed: {'; '.join(others)}."
        return _disable(flag, why, incident, look)
    nothing = f"no flag of {incident.service} that is on and left to try was changed within {params.within}"
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


def _off(flag: Flag) -> launchdarkly.SetFlag:
    return launchdarkly.SetFlag(project=flag.project, environment=flag.environment, key=flag.key, on=False)


def _disable(flag: Flag, why: str, incident: Incident, look: ServiceLook) -> Proposal:
    title = f"Disable flag {flag.key}"
    only = step(title, _off(flag), verify=verification(look, incident))
    return Proposal(title=title, rationale=why, steps=(only,))


def _said(look: ServiceLook, change: launchdarkly.FlagChange) -> str:
    return f"{change.title}, {ago(look, change.changed_at)}"
