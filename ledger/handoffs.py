"""Roles that are handed over: offered with what the other has to know, and held from accepting on."""

import builtins
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from contracts.approvals import ApprovalState
from contracts.errors import ConflictError, ForbiddenError
from contracts.evidence import EvidenceKind
from contracts.in_force import ForceState
from contracts.incidents import AlertStatus, Incident, Role
from contracts.notices import Handoff, HandoffState, Packet, PendingQuestion, Timer, Tried
from ledger import evidence, freezes, grants, incidents, ladders, outbox, rows
from ledger.database import Stored, moment_of
from ledger.schema import approval as approvals
from ledger.schema import handoff as handoffs
from ledger.schema import in_force
from ledger.schema import ladder as ladder_table
from ledger.schema import outbox as messages

# An offer that nobody has accepted by then is over: who gave it still holds the role, and hears so.
OFFERED_FOR = timedelta(minutes=15)


class Handoffs(Stored):
    """All offers of roles, and the one place where they are accepted."""

    def list(self, incident: str) -> builtins.list[Handoff]:
        """Give an incident's handoffs, the newest first."""
        query = select(handoffs).where(handoffs.c.incident == incident).order_by(handoffs.c.number.desc())
        return [_handoff(row) for row in self._database.rows(query)]

    def offer(self, seen: Incident, role: Role, person: str, *, by: str) -> Handoff:
        """Offer a role to a person; the same open offer again gives it, another one takes its place.

        Args:
            seen: The incident as it was when it was checked that ``by`` may offer this role.
            role: Which role.
            person: To whom.
            by: Who offers it.

        Raises:
            NotFoundError: There is no such incident.
            ConflictError: It is closed, its roles are no longer as seen, or the person has the role already.
        """
        with self._database.write() as connection:
            row = incidents.find(connection, seen.id)
            incidents.check_is_not_final(row)
            incident = incidents.read(connection, seen.id)
            if incident.roles != seen.roles:
                raise ConflictError(f"{seen.id}: the roles have changed since just now: look again")
            if incident.roles.get(role) == person:
                raise ConflictError(f"{seen.id}: {person} holds this role already")
            now = moment_of(connection)
            for known in _open(connection, seen.id, role):
                if (known.person, known.giver) == (person, by) and now < known.expires_at:
                    return _handoff(known)
                _close(connection, known, HandoffState.WITHDRAWN, by, "another offer takes its place")
            packet = _packet(connection, incident).model_dump(mode="json")
            named = {"incident": seen.id, "role": role, "giver": by, "person": person, "packet": packet}
            times = {"state": HandoffState.OFFERED, "offered_at": now, "expires_at": now + OFFERED_FOR}
            handoff = _handoff(rows.add(connection, handoffs, **named, **times))
            said = f"{by} offers {incidents.role_name(role)} to {person}"
            _note(connection, handoff, "offered", by, said, packet=packet)
            accept = f"Accept with: stanch incident accept {seen.id}"
            ladders.tell(connection, seen.id, [f"person:{person}"], f"{said}. {accept}", key=handoff.id)
            due = handoff.expires_at
            outbox.add(connection, ladders.HANDOFF, handoff.id, incident=seen.id, payload={}, due=due)
            return handoff

    def accept(self, incident: str, person: str, *, role: Role | None = None) -> Handoff:
        """Accept the open offer to a person: from now on the role, and every pending question, is theirs.

        Raises:
            NotFoundError: There is no such incident.
            ForbiddenError: Nothing is offered to this person, but to somebody else.
            ConflictError: Nothing is offered any more, two roles are and none is named, or the role has gone
                to somebody else meanwhile.
        """
        with self._database.write() as connection:
            row = incidents.find(connection, incident)
            incidents.check_is_not_final(row)
            offers = _open(connection, incident, role)
            theirs = [offer for offer in offers if offer.person == person]
            if not theirs:
                if offers:
                    others = ", ".join(sorted(offer.person for offer in offers))
                    raise ForbiddenError(f"{incident}: it is offered to {others}, not to {person}")
                raise ConflictError(
                    f"{incident}: no role is offered to {person} (any more): ask for it again"
                )
            if len(theirs) > 1:
                names = ", ".join(offer.role for offer in theirs)
                raise ConflictError(f"{incident}: several roles are offered to you: name one of {names}")
            offer = theirs[0]
            holder = row.roles.get(offer.role)
            was = _handoff(offer).packet.roles.get(Role(offer.role))
            if holder != was or offer.giver not in (holder, row.roles.get(Role.INCIDENT_COMMANDER)):
                raise ConflictError(
                    f"{incident}: since {offer.giver} offered it, the roles have changed: ask again"
                )
            if moment_of(connection) >= offer.expires_at:
                raise ConflictError(
                    f"{incident}: the offer expired at {offer.expires_at:%H:%M} UTC: ask again"
                )
            accepted = _close(connection, offer, HandoffState.ACCEPTED, person, "")
            incidents.give_role(connection, row, Role(offer.role), person, by=person)
            return accepted

    def withdraw(self, incident: str, by: str, *, role: Role | None = None) -> builtins.list[Handoff]:
        """Take back what a person has offered in an incident; nothing open is no error.

        Raises:
            NotFoundError: There is no such incident.
        """
        with self._database.write() as connection:
            incidents.find(connection, incident)
            return [
                _close(connection, offer, HandoffState.WITHDRAWN, by, "taken back")
                for offer in _open(connection, incident, role)
                if offer.giver == by
            ]

    def lapse(self, handoff: str) -> None:
        """End an offer whose time is over, and tell who made it; one that is settled is left alone."""
        with self._database.write() as connection:
            row = rows.find(connection, handoffs, handoff)
            if row.state == HandoffState.OFFERED and row.expires_at <= moment_of(connection):
                _close(connection, row, HandoffState.EXPIRED, row.person, "not accepted in time")


def _close(connection: Connection, row: Row[Any], state: HandoffState, actor: str, reason: str) -> Handoff:
    closed = {"state": state, "closed_at": moment_of(connection)}
    handoff = _handoff(rows.change(connection, handoffs, row, **closed))
    name = incidents.role_name(handoff.role)
    said = f"{handoff.person} accepts {name} from {handoff.giver}"
    if state is not HandoffState.ACCEPTED:
        said = f"The offer of {name} to {handoff.person} is {state.value}: {reason}"
        whom = [f"person:{one}" for one in (handoff.giver, handoff.person) if one != actor]
        key, text = f"{handoff.id}/{state.value}", f"{said}. {handoff.giver} has offered it."
        ladders.tell(connection, handoff.incident, whom, text, key=key)
    _note(connection, handoff, state.value, actor, said)
    return handoff


def _note(connection: Connection, handoff: Handoff, what: str, actor: str, said: str, **facts: Any) -> None:
    named = {"handoff": handoff.id, "role": handoff.role.value, "person": handoff.person}
    body, key = {**named, "giver": handoff.giver, **facts}, f"{handoff.id}/{what}"
    where = handoff.incident
    evidence.note(connection, EvidenceKind.HANDOFF, key, said, incident=where, actor=actor, body=body)


def _packet(connection: Connection, incident: Incident) -> Packet:
    """Gather what the next person has to know, as it is in this transaction."""
    waiting = select(approvals).filter_by(incident=incident.id, state=ApprovalState.PENDING)
    pending = [
        PendingQuestion.model_validate(rows.facts(approvals, row))
        for row in connection.execute(waiting.order_by(approvals.c.number))
    ]
    force = select(in_force).filter_by(incident=incident.id, state=ForceState.IN_FORCE)
    standing = connection.execute(force.order_by(in_force.c.expires_at)).all()
    waits = {one.id for one in pending}
    if incidents.needs_somebody(incidents.find(connection, incident.id)):
        waits.add(incident.id)
    timers = [Timer(what=f"{one.id} expires", at=one.expires_at) for one in pending]
    timers += [
        Timer(what=f"{row.mitigation} is undone unless renewed", at=row.expires_at) for row in standing
    ]
    timers += [
        Timer(what=f"{one.id} says yes no more to {', '.join(one.envelope.actions)}", at=one.expires_at)
        for one in grants.standing(connection, incident, moment_of(connection))
    ]
    timers += [
        Timer(what=f"the next people are called about {subject}", at=due)
        for subject, due in connection.execute(_calls(incident.id))
        if subject in waits  # an answered question's ladder ends by itself, at its next rung
    ]
    return Packet(
        title=incident.title,
        severity=incident.severity,
        phase=incident.phase,
        attention=incident.attention,
        roles=incident.roles,
        firing=tuple(alert.name for alert in incident.alerts if alert.status is AlertStatus.FIRING),
        pending=tuple(pending),
        in_force=(
            *(
                f"{one.id}: {one.person} has stopped {freezes.what(one.service)}: {one.reason}"
                for one in freezes.standing(connection)
                if one.service in (None, incident.service)
            ),
            *(f"{row.mitigation}: {row.title} ({row.owner})" for row in standing),
        ),
        timers=tuple(sorted(timers, key=lambda timer: timer.at)),
        tried=tuple(
            Tried(mitigation=one.mitigation, title=one.title, end=one.end) for one in incident.attempts
        ),
    )


def _calls(incident: str) -> Any:
    """Select the ladders that go on, and when."""
    is_its_timer = (messages.c.kind == ladders.LADDER) & messages.c.done_at.is_(None)
    key = ladder_table.c.subject + "/" + ladder_table.c.generation.cast(messages.c.key.type)
    joined = ladder_table.join(messages, is_its_timer & (messages.c.key == key))
    query = select(ladder_table.c.subject, messages.c.due_at).select_from(joined)
    return query.where(ladder_table.c.incident == incident, ladder_table.c.ended_at.is_(None))


def _open(connection: Connection, incident: str, role: Role | None) -> builtins.list[Row[Any]]:
    offers = rows.given(incident=incident, state=HandoffState.OFFERED, role=role)
    return builtins.list(connection.execute(select(handoffs).filter_by(**offers).order_by(handoffs.c.number)))


def _handoff(row: Row[Any]) -> Handoff:
    return Handoff.model_validate(rows.facts(handoffs, row))
