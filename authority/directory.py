"""Who is on call, who is meant by a rung of the ladder, and which groups a person is in: pure functions."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from contracts.catalogue import Catalogue, Rung, on_the_wall
from contracts.incidents import Incident, Role, Severity

_MINUTE = timedelta(minutes=1)
_FIRST = Rung(notify=("incident_commander", "on_call"))


def _then(minutes: int, *notify: str) -> Rung:
    return Rung(after=minutes * _MINUTE, notify=notify)


# Where the catalogue has no ladder. The on-call person hears of it at once and the team soon after; a last
# rung calls everybody again, because somebody who slept through the first call may hear the second.
LADDERS: dict[Severity, tuple[Rung, ...]] = {
    Severity.SEV1: (
        _FIRST,
        _then(3, "on_call", "technical_lead"),
        _then(8, "team"),
        _then(15, "incident_commander", "on_call", "technical_lead", "team"),
    ),
    Severity.SEV2: (
        _FIRST,
        _then(10, "on_call", "technical_lead"),
        _then(20, "team"),
        _then(40, "incident_commander", "on_call", "technical_lead", "team"),
    ),
    Severity.SEV3: (_FIRST, _then(60, "on_call"), _then(240, "team")),
    Severity.SEV4: (_FIRST, _then(24 * 60, "on_call", "team")),
}


def on_call(catalogue: Catalogue, service: str, at: datetime) -> tuple[str, ...]:
    """Give who is on call for a service, first first.

    The person whose turn it is in the service's rotation, then the service's own list; where it has neither,
    its team. Empty when the catalogue names nobody for it.

    Args:
        catalogue: The catalogue.
        service: A service's name.
        at: The moment that is asked about, with a time zone.
    """
    entry = catalogue.service(service)
    if entry is None:
        return ()
    turn = _turn(catalogue, entry.rotation, at) if entry.rotation else ()
    return _once((*turn, *entry.on_call)) or _members(catalogue, entry.team)


def resolve(
    catalogue: Catalogue, incident: Incident, whom: str | Collection[str], at: datetime
) -> tuple[str, ...]:
    """Give the people that the words of a rung mean for an incident at a moment, each once.

    Empty when they mean nobody: a role that nobody holds, a service without a team.
    """
    words = (whom,) if isinstance(whom, str) else whom
    return _once(person for word in words for person in _meant(catalogue, incident, word, at))


def groups_of(catalogue: Catalogue, person: str, oidc_groups: Collection[str] = ()) -> tuple[str, ...]:
    """Give the groups that the policy knows a person by: their own, and their teams.

    A group of the identity provider counts only through a team that names it: whoever may create groups there
    must not be able to create one of ours. A person who is not in the catalogue is in no group.

    Args:
        catalogue: The catalogue.
        person: Their id.
        oidc_groups: What the identity provider said at their sign-in.
    """
    entry = next((known for known in catalogue.people if known.id == person), None)
    if entry is None:
        return ()
    teams = (
        team.name
        for team in catalogue.teams
        if person in team.members or not set(team.oidc_groups).isdisjoint(oidc_groups)
    )
    return tuple(sorted({*entry.groups, *teams}))


def ladder(catalogue: Catalogue, severity: Severity) -> tuple[Rung, ...]:
    """Give the rungs of a severity's ladder, the first first; never empty."""
    return catalogue.escalation.get(severity) or LADDERS[severity]


def again(catalogue: Catalogue, severity: Severity) -> timedelta:
    """Give how long after its last rung a severity's ladder begins again while nobody answers."""
    last = ladder(catalogue, severity)[-1].after
    return catalogue.escalate_again.get(severity) or max(last, 5 * _MINUTE)


def _meant(catalogue: Catalogue, incident: Incident, word: str, at: datetime) -> tuple[str, ...]:
    kind, _, name = word.partition(":")
    match kind:
        case "incident_commander" | "technical_lead":
            holder = incident.roles.get(Role(kind))
            return (holder,) if holder else ()
        case "on_call":
            return on_call(catalogue, incident.service, at)
        case "team":
            entry = catalogue.service(incident.service)
            return _members(catalogue, name or (entry.team if entry else None))
        case "rotation":
            return _turn(catalogue, name, at)
        case "everybody":  # no rung has it: it is for what is told once
            return tuple(person.id for person in catalogue.people)
        case _:
            return (name,)


def _members(catalogue: Catalogue, team: str | None) -> tuple[str, ...]:
    return next((entry.members for entry in catalogue.teams if entry.name == team), ())


def _turn(catalogue: Catalogue, rotation: str, at: datetime) -> tuple[str, ...]:
    for entry in catalogue.rotations:
        if entry.name == rotation:
            stand_ins = [over.person for over in entry.overrides if over.starts <= at < over.ends]
            since = on_the_wall(at, entry.zone) - on_the_wall(entry.starts, entry.zone)
            turn = max(0, since // entry.each)  # nobody would answer before the first turn
            return (stand_ins[-1] if stand_ins else entry.people[turn % len(entry.people)],)
    return ()


def _once(people: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(people))
