"""The incidents: severity, phase, roles, alerts and attempts, as everybody sees them."""

import builtins
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from contracts import names
from contracts.errors import ConflictError, InputError
from contracts.evidence import EvidenceKind
from contracts.incidents import OPEN_PHASES, Incident, Phase, Role, Severity
from contracts.messages import AlertBatch, Command, CommandKind, RecordRequest
from ledger import evidence, guardrails, ladders, outbox, rows
from ledger.database import Stored, moment_of
from ledger.schema import alert as alerts
from ledger.schema import incident as incidents
from ledger.storable import clean, one_line

FINAL_PHASES = (Phase.CLOSED, Phase.FALSE_ALARM, Phase.MERGED)
LONGEST_NAME = 200  # characters of a service or an environment, which are searched by


def check_names(service: str, environment: str) -> None:
    """Check that a service's and an environment's name can be searched by.

    Raises:
        InputError: One of them is empty or too long.
    """
    for what, name in (("service", service), ("environment", environment)):
        if not name or len(name) > LONGEST_NAME:
            raise InputError(f"the {what} {one_line(name, 40)!r} must have 1 to {LONGEST_NAME} characters")


def find(connection: Connection, incident: str) -> Row[Any]:
    """Give an incident's row.

    Raises:
        NotFoundError: There is none.
    """
    return rows.find(connection, incidents, incident)


def read(connection: Connection, incident: str) -> Incident:
    """Give an incident as it is now.

    Raises:
        NotFoundError: There is none.
    """
    return load(connection, [find(connection, incident)])[0]


def load(connection: Connection, found: Iterable[Row[Any]]) -> builtins.list[Incident]:
    """Make incidents of rows. Of each problem, as its source knows it, they show the newest episode."""
    found = builtins.list(found)
    newest = select(func.max(alerts.c.id)).where(alerts.c.incident.in_([row.number for row in found]))
    newest = newest.group_by(alerts.c.incident, alerts.c.problem)
    query = select(alerts.c.incident, alerts.c.content).where(alerts.c.id.in_(newest)).order_by(alerts.c.id)
    shown: dict[int, builtins.list[Any]] = {}
    for number, content in connection.execute(query):
        shown.setdefault(number, []).append(content)
    return [
        Incident.model_validate(rows.facts(incidents, row) | {"alerts": shown.get(row.number, [])})
        for row in found
    ]


def open_new(connection: Connection, *, title: str, trace: Mapping[str, str], **facts: Any) -> int:
    """Insert an incident within the caller's transaction and give its number."""
    facts |= {"title": one_line(title), "opened_at": moment_of(connection), "trace": dict(trace)}
    blank = {"phase": Phase.DETECTED, "roles": {}, "attempts": [], "version": 0, "revision": 0}
    number: int = rows.add(connection, incidents, **blank, **facts).number
    ladders.begin(connection, f"INC-{number}", f"INC-{number}")
    return number


def change_severity(
    connection: Connection, row: Row[Any], severity: Severity, *, actor: str, reason: str
) -> None:
    """Change an incident's severity, with evidence, within the caller's transaction."""
    if row.severity == severity:
        return
    incident = f"INC-{row.number}"
    revision = rows.change(connection, incidents, row, severity=severity, revision=row.revision + 1).revision
    said = f"Severity changes from {row.severity} to {severity.value}: {reason}"
    body = {"before": row.severity, "after": severity.value, "reason": reason}
    kind, key = EvidenceKind.SEVERITY_CHANGED, f"{incident}/severity/{revision}"
    evidence.note(connection, kind, key, said, incident=incident, actor=actor, body=body)
    ladders.look_again(connection, incident=incident)


UNREACHED = "nobody could be told"


def needs_somebody(row: Row[Any]) -> bool:
    """Say whether people are to be called about an incident: nobody commands it, or it waits for a person."""
    waits = row.attention is not None and UNREACHED not in row.attention
    return row.phase in OPEN_PHASES and (waits or Role.INCIDENT_COMMANDER not in row.roles)


def attend(connection: Connection, incident: str, said: str) -> None:
    """Say on an incident that somebody has to look, unless it says something already."""
    unset = update(incidents).filter_by(number=rows.number_of(incidents, incident), attention=None)
    connection.execute(unset.values(attention=one_line(said)))


def calm(connection: Connection, incident: str, said: str) -> None:
    """Take back what an incident says of that if it begins so: it is over."""
    mine = update(incidents).filter_by(number=rows.number_of(incidents, incident))
    mine = mine.where(incidents.c.attention.startswith(said, autoescape=True))
    connection.execute(mine.values(attention=None))


def role_name(role: Role) -> str:
    """Say what somebody takes who takes a role."""
    return "command" if role is Role.INCIDENT_COMMANDER else f"the role {role.value.replace('_', ' ')}"


def check_is_not_final(row: Row[Any]) -> None:
    """Check that an incident may still change.

    Raises:
        ConflictError: It may not.
    """
    if row.phase in FINAL_PHASES:
        raise ConflictError(f"INC-{row.number} is {row.phase}: nothing can be changed any more")


def give_role(
    connection: Connection, row: Row[Any], role: Role, person: str, *, by: str, reason: str = ""
) -> None:
    """Give a role to a person, with evidence, within the caller's transaction; who holds it keeps it.

    Whom it concerns and who did not do it hears of it: the new holder, and the one who had it before.
    """
    holder = row.roles.get(role)
    if holder == person:
        return
    incident = f"INC-{row.number}"
    kind, key = EvidenceKind.ROLE_ASSIGNED, f"{incident}/role/{row.revision + 1}"
    roles = row.roles | {role.value: person}
    rows.change(connection, incidents, row, roles=roles, revision=row.revision + 1)
    name = role_name(role)
    said = f"{person} takes {name}" if person == by else f"{by} gives {name} to {person}"
    said += f"; until now {holder} had it" if holder else ""
    said = one_line(f"{said}: {reason}" if reason else said)
    body = {"role": role.value, "person": person, "by": by, "before": holder, "reason": reason}
    evidence.note(connection, kind, key, said, incident=incident, actor=by, body=body)
    whom = [f"person:{one}" for one in (holder, person) if one not in (None, by)]
    if whom:
        ladders.tell(connection, incident, whom, said, key=key)
    ladders.look_again(connection, incident=incident)


class Incidents(Stored):
    """The projection of all incidents."""

    def get(self, incident: str) -> Incident:
        """Give an incident as it is now.

        Raises:
            NotFoundError: There is none with this id.
        """
        with self._database.read() as connection:
            return read(connection, incident)

    def list(self, *, open_only: bool = False, limit: int = 100) -> builtins.list[Incident]:
        """Give incidents, the newest first."""
        query = select(incidents).order_by(incidents.c.number.desc()).limit(limit)
        if open_only:
            query = query.where(incidents.c.phase.in_(OPEN_PHASES))
        with self._database.read() as connection:
            return load(connection, connection.execute(query))

    def declare(
        self,
        *,
        title: str,
        service: str,
        environment: str,
        severity: Severity,
        person: str,
        trace: Mapping[str, str],
        region: str | None = None,
    ) -> Incident:
        """Open an incident on a person's word.

        Raises:
            InputError: It has no title, or a name cannot be used.
        """
        check_names(service, environment)
        if not title.strip():
            raise InputError("an incident needs a title: say in one line what users see")
        with self._database.write() as connection:
            facts = {"service": service, "environment": environment, "region": region, "severity": severity}
            number = open_new(connection, title=title, trace=trace, declared_by=person, **facts)
            incident = f"INC-{number}"
            key, body = f"{incident}/declared", {"title": title, **facts}
            where = ", ".join(filter(None, (environment, region)))
            said = f"{person} declares {severity.value} on {service} ({where}): {title}"
            kind = EvidenceKind.INCIDENT_DECLARED
            evidence.note(connection, kind, key, said, incident=incident, actor=person, body=body)
            batch = AlertBatch(alerts=()).model_dump(mode="json")
            outbox.add(connection, outbox.ALERTS, key, incident=incident, payload=batch, trace=trace)
            return read(connection, incident)

    def assign(
        self,
        incident: str,
        role: Role,
        person: str,
        *,
        by: str,
        seen: Incident | None = None,
        reason: str = "",
    ) -> Incident:
        """Give a role to a person; who holds it already keeps it.

        Args:
            incident: Its id.
            role: What is given.
            person: To whom.
            by: Who gives it.
            seen: The incident as it was when it was checked who may do this: other roles now are a conflict,
                so that of two who take a free role at once only one gets it.
            reason: Why, where it is taken from somebody.

        Raises:
            NotFoundError: There is no such incident.
            ConflictError: It is closed, or the roles are no longer as seen.
        """
        with self._database.write() as connection:
            row = find(connection, incident)
            check_is_not_final(row)
            holder = row.roles.get(role)
            if seen is not None and holder != person and row.roles != seen.model_dump(mode="json")["roles"]:
                held = f"{holder} holds it" if holder else "the roles have changed"
                raise ConflictError(f"{incident}: {held} since just now: look again")
            give_role(connection, row, role, person, by=by, reason=reason)
            return read(connection, incident)

    def command(self, incident: str, command: Command, *, trace: Mapping[str, str]) -> None:
        """Record a person's order and send it on; the same command again is no change.

        Raises:
            NotFoundError: There is no such incident.
            ConflictError: It is closed.
            InputError: It changes the severity without saying to which.
        """
        person, body = command.person, command.model_dump(mode="json")
        what = " with ".join(filter(None, (command.kind.value, command.wish)))
        said = f"{person} orders {what}: {command.reason}".rstrip(": ")
        kind, key = EvidenceKind.COMMAND, f"{incident}/command/{command.id}"
        with self._database.write() as connection:
            row = find(connection, incident)
            if evidence.has(connection, key):
                return
            check_is_not_final(row)
            evidence.note(connection, kind, key, said, incident=incident, actor=person, body=body)
            if command.kind is CommandKind.SEVERITY:
                if command.severity is None:
                    raise InputError("say which severity: SEV1, SEV2, SEV3 or SEV4")
                change_severity(connection, row, command.severity, actor=person, reason=command.reason)
            order = outbox.COMMAND
            outbox.add(connection, order, command.id, incident=incident, payload=body, trace=trace)

    def has_ordered(self, incident: str, command: Command) -> bool:
        """Say whether exactly this order was recorded here."""
        with self._database.read() as connection:
            body = evidence.body_of(connection, clean(f"{incident}/command/{command.id}"))
        return body is not None and Command.model_validate(body) == command

    def record(self, request: RecordRequest) -> None:
        """Bring the projection up to date, with evidence.

        An older version than the recorded one leaves the projection as it is. Its evidence is appended all
        the same, unless it is there: what happened has happened, in whatever order we hear of it.

        Raises:
            NotFoundError: There is no such incident.
        """
        with self._database.write() as connection:
            row = find(connection, request.incident)
            for attempt in request.attempts:
                if not evidence.has(connection, names.ended_key(attempt.mitigation)):
                    guardrails.end(connection, attempt)
            evidence.append(connection, *request.evidence)
            if request.version > row.version:
                values = request.model_dump(
                    mode="json", include={"phase", "attention", "attempts", "version"}
                )
                row = rows.change(connection, incidents, row, **values)
                if request.attention:  # whoever commands it may have gone to sleep
                    ladders.begin(connection, request.incident, request.incident)
                elif not needs_somebody(row):
                    ladders.end(connection, request.incident)

    def warn(self, incident: str, key: str, said: str) -> None:
        """Say once in the log, on an open incident and to its commander that somebody has to look."""
        with self._database.write() as connection:
            if not evidence.has(connection, key):
                evidence.note(connection, EvidenceKind.ATTENTION_NEEDED, key, said, incident=incident)
                if find(connection, incident).phase in OPEN_PHASES:  # a late undo's would never be taken back
                    attend(connection, incident, said)
                ladders.tell(connection, incident, ["incident_commander"], said, key=key)

    def trace(self, incident: str) -> dict[str, str]:
        """Give the trace context of the delivery or declaration that opened it.

        Raises:
            NotFoundError: There is no such incident.
        """
        with self._database.read() as connection:
            return dict(find(connection, incident).trace)
