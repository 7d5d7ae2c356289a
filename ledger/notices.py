"""Who is told of what: ladders climbed, notices queued, sent, failed and seen; nothing is silent."""

import builtins
import zlib
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from authority import directory
from contracts.approvals import ApprovalState, SignedDecision
from contracts.catalogue import Catalogue, Rung
from contracts.evidence import ENGINE, EvidenceKind
from contracts.incidents import Incident, Role, Severity
from contracts.notices import CONSOLE, Notice, NoticeState
from ledger import evidence, incidents, ladders, outbox, rows
from ledger.database import Stored, moment_of
from ledger.schema import approval as approvals
from ledger.schema import ladder as ladder_table
from ledger.schema import notice as notices
from ledger.storable import one_line

# Who has seen a question and does not answer it is called again after so long, from the first rung on. What
# an incident waits for may take its commander hours: who is called and looks is called no sooner than others.
HELD = timedelta(minutes=10)
# Nobody at all could be told: everybody is tried again after so long.
UNREACHED = timedelta(minutes=2)
# Between two attempts at one channel; after the last one comes the person's next channel.
PAUSES = (timedelta(seconds=2), timedelta(seconds=5))
LANES = 4  # of one channel: a slow one holds up so many deliveries, and no other channel


class Notices(Stored):
    """All notices, and the ladders by which they come."""

    def list(self, *, subject: str | None = None, incident: str | None = None) -> builtins.list[Notice]:
        """Give who was told of a subject, or of anything in an incident, in the order of the calls."""
        query = select(notices).order_by(notices.c.queued_at, notices.c.person, notices.c.channel)
        query = query.filter_by(**rows.given(subject=subject, incident=incident))
        return [Notice.model_validate(row._asdict()) for row in self._database.rows(query)]

    def climb(self, subject: str, generation: int, catalogue: Catalogue) -> datetime | None:
        """Call whom the ladder says now, and give when to look again; ``None`` when there is no need.

        A repeat of what was done already does nothing.
        """
        with self._database.write() as connection:
            row = rows.one(connection, ladder_table, subject=subject, generation=generation, ended_at=None)
            if row is None:
                return None
            return _Climb(connection, row, catalogue).go()

    def tell(self, key: str, incident: str, whom: Sequence[str], text: str, catalogue: Catalogue) -> None:
        """Queue what ``ladders.tell`` has asked for; a repeat does nothing."""
        with self._database.write() as connection:
            if _told(connection, key):
                return
            now = moment_of(connection)
            found = incidents.read(connection, incident) if incident else _nowhere(now)
            people = directory.resolve(catalogue, found, whom, now)
            if not any(known.id in people for known in catalogue.people):  # who has left is reached nowhere
                people += directory.resolve(catalogue, found, "on_call", now)
            call = _Call(connection, catalogue, key, incident)
            said = one_line(text)
            call.queue(people, f"{incident}: {said}" if incident else said, text)
            if not people:
                call.reaches_nobody()

    def outgoing(self, subject: str, person: str, channel: str, times: int) -> Notice | None:
        """Give a notice to be sent, or ``None`` when it no longer has to be."""
        with self._database.write() as connection:
            row = _find(connection, subject, person, channel, times)
            if row is None or row.state != NoticeState.QUEUED:
                return None
            if _is_over(connection, subject):
                rows.change(connection, notices, row, state=NoticeState.DROPPED, error="")
                return None
            return Notice.model_validate(row._asdict())

    def sent(self, notice: Notice) -> None:
        """Say that the channel took it; a repeat is no change."""
        with self._database.write() as connection:
            row = _find(connection, notice.subject, notice.person, notice.channel, notice.times)
            if row is None or row.sent_at is not None:
                return
            state = NoticeState.SENT if row.state == NoticeState.QUEUED else row.state
            now, tried = moment_of(connection), row.attempts + 1
            rows.change(connection, notices, row, state=state, sent_at=now, attempts=tried, error="")
            said = f"{notice.person} is told of {notice.subject} by {notice.channel}"
            _note(connection, f"{notice.id}/sent", notice.incident, said)

    def failed(self, notice: Notice, error: str, catalogue: Catalogue, *, final: bool) -> datetime | None:
        """Say that it did not arrive; give when to try again, or ``None`` when another way is taken.

        The other way is the person's next channel; after the last one the ladder is told.
        """
        with self._database.write() as connection:
            row = _find(connection, notice.subject, notice.person, notice.channel, notice.times)
            if row is None or row.state != NoticeState.QUEUED:
                return None
            why, tried = one_line(error), row.attempts + 1
            if not final and row.attempts < len(PAUSES):
                rows.change(connection, notices, row, attempts=tried, error=why)
                return moment_of(connection) + PAUSES[row.attempts]
            rows.change(connection, notices, row, state=NoticeState.FAILED, attempts=tried, error=why)
            said = f"{notice.person} could not be told of {notice.subject} by {notice.channel}: {why}"
            _note(connection, f"{notice.id}/failed", notice.incident, said)
            call = _Call(connection, catalogue, notice.subject, notice.incident)
            if row.rest:
                call.queue_one(notice.person, row.rest, notice.title, notice.text, row.rung)
            elif row.rung is not None:
                ladders.look_again(connection, subject=notice.subject)
            elif all(told.state == NoticeState.FAILED for told in _told(connection, notice.subject)):
                call.reaches_nobody()
            return None

    def seen(self, subject: str, person: str) -> None:
        """Say that a person has opened it; that counts for who was told, and for who decides about it.

        Raises:
            NotFoundError: There is no such request or incident.
        """
        with self._database.write() as connection:
            is_incident = subject.startswith("INC-")
            about = subject if is_incident else rows.find(connection, approvals, subject).incident
            incident = incidents.read(connection, about)
            told = [row for row in _told(connection, subject) if row.person == person]
            now = moment_of(connection)
            is_new = any(row.state != NoticeState.SEEN for row in told)
            seen: dict[str, Any] = {"state": NoticeState.SEEN, "seen_at": now}
            for row in told if is_new else ():
                rows.change(connection, notices, row, **seen)
            # Who writes it down may look on for long: nobody who is called later would hear of it.
            if not told and person in map(incident.roles.get, (Role.INCIDENT_COMMANDER, Role.TECHNICAL_LEAD)):
                is_new = True
                seen |= {"rest": [], "title": "", "text": ""}
                _insert(connection, (subject, person, CONSOLE), incident.id, seen)
            if is_new:
                key = f"{subject}/seen/{person}/{now.isoformat()}"
                _note(connection, key, incident.id, f"{person} has seen {subject}", actor=person)
                ladders.look_again(connection, subject=subject)


class _Call:
    """Tell people of one subject, within a transaction."""

    def __init__(self, connection: Connection, catalogue: Catalogue, subject: str, incident: str) -> None:
        self.connection = connection
        self.catalogue = catalogue
        self.subject = subject
        self.incident = incident
        self.now = moment_of(connection)

    def queue(
        self,
        people: Collection[str],
        title: str,
        text: str,
        *,
        rung: int | None = None,
        first: str | None = None,
    ) -> None:
        """Queue a notice for each of them, by their first channel."""
        for person in people:
            self.queue_one(person, self._channels(person, first), title, text, rung)

    def queue_one(
        self, person: str, channels: Sequence[str], title: str, text: str, rung: int | None
    ) -> None:
        """Queue a notice by the first of these channels; the others come when it fails."""
        channel, *rest = channels
        facts: dict[str, Any] = {"title": title, "text": text, "rung": rung, "rest": rest}
        known = _find(self.connection, self.subject, person, channel)
        if known is not None and known.state == NoticeState.QUEUED:
            rows.change(self.connection, notices, known, rung=rung)  # that one is on its way
            return
        is_shown = channel == CONSOLE
        facts |= {"state": NoticeState.SENT if is_shown else NoticeState.QUEUED}
        facts |= {"sent_at": self.now if is_shown else None, "seen_at": None, "error": ""}
        times = 1
        if known is None:
            _insert(self.connection, (self.subject, person, channel), self.incident, facts)
        else:
            times = known.times + 1
            facts |= {"times": times, "attempts": 0, "queued_at": self.now}
            rows.change(self.connection, notices, known, **facts)
        if is_shown:
            return
        kind, incident = ladders.SEND, self.incident
        payload = {"subject": self.subject, "person": person, "channel": channel, "times": times}
        key = f"{self.subject}/{person}/{channel}/{times}"
        lane = f"{kind}/{channel}/{zlib.crc32(person.encode()) % LANES}"
        outbox.add(self.connection, kind, key, incident=incident, payload=payload, lane=lane)

    def reaches_nobody(self) -> None:
        """Say as loudly as we can that nobody could be told."""
        said = f"{self.subject}: {incidents.UNREACHED}: look at who is on call, and at their channels"
        self.escalates("unreached", said)
        if self.incident:
            incidents.attend(self.connection, self.incident, said)

    def escalates(self, key: str, said: str) -> None:
        """Put it on the timeline."""
        kind, key = EvidenceKind.ESCALATION, f"{self.subject}/{key}"
        _note(self.connection, key, self.incident, said, kind=kind)

    def _channels(self, person: str, first: str | None) -> builtins.list[str]:
        """Give a person's channels in the order in which they are tried; the console where there is none."""
        known = next((entry for entry in self.catalogue.people if entry.id == person), None)
        if known is None:
            return [CONSOLE]
        usual = [*known.contacts, "email"]
        order = dict.fromkeys([first, *usual] if first else usual)
        return [channel for channel in order if channel != CONSOLE and known.address(channel)] or [CONSOLE]


class _Climb(_Call):
    """One look at a ladder."""

    def __init__(self, connection: Connection, row: Row[Any], catalogue: Catalogue) -> None:
        super().__init__(connection, catalogue, row.subject, row.incident)
        self.row = row
        self.found = incidents.read(connection, row.incident)
        is_incident = row.subject == row.incident
        self.question = None if is_incident else rows.find(connection, approvals, row.subject)
        given = self.question.given if self.question else []
        self.given = [SignedDecision.model_validate(one).decision.person for one in given]

    def go(self) -> datetime | None:
        """Climb as far as it is time for, and give when to look again."""
        if _is_over(self.connection, self.subject):
            rows.change(self.connection, ladder_table, self.row, ended_at=self.now)
            incidents.calm(self.connection, self.incident, f"{self.subject}: {incidents.UNREACHED}")
            return None
        rungs = directory.ladder(self.catalogue, self.found.severity)
        started: datetime = self.row.started_at
        climbed: int = self.row.rung
        told = _told(self.connection, self.subject)
        again = directory.again(self.catalogue, self.found.severity)
        pause = HELD
        if climbed and self.question is None and Role.INCIDENT_COMMANDER in self.found.roles:
            pause = max(HELD, rungs[1].after if rungs[1:] else again)
        held = self._held(told, pause)
        if held is not None and held > self.now:
            return held  # somebody looks at it
        if held is not None and held > started:
            started, climbed = held, 0  # nothing came of that: begin anew
        again += rungs[-1].after
        if climbed >= len(rungs) and started + again <= self.now:
            started, climbed = self.now, 0
        lost = climbed > 0 and _is_lost(told, climbed - 1)
        while climbed < len(rungs) and (lost or started + rungs[climbed].after <= self.now):
            lost = not self._reach(rungs[climbed], climbed, started)
            climbed += 1
        if climbed >= len(rungs) and lost:
            self.reaches_nobody()
            started, climbed = self.now + UNREACHED, 0
        rows.change(self.connection, ladder_table, self.row, started_at=started, rung=climbed)
        return started + (rungs[climbed].after if climbed < len(rungs) else again)

    def _reach(self, rung: Rung, number: int, started: datetime) -> bool:
        """Call the people of one rung, and say whether it means anybody who is reached.

        The console calls nobody. It counts where nobody in the catalogue has another channel.
        """
        meant = directory.resolve(self.catalogue, self.found, rung.notify, self.now)
        people = [person for person in meant if person not in self.given]  # theirs was the first of two
        title, text = self._said()
        holder = self.found.roles.get(Role.INCIDENT_COMMANDER)
        if number and holder:
            text += f"\nNo answer from {holder}? stanch incident take-over {self.incident} --from {holder}"
        self.queue(people, title, text, rung=number, first=rung.channel)
        if number:
            names = ", ".join(people) or f"nobody ({', '.join(rung.notify)})"
            said = f"{self.subject} is unanswered: rung {number + 1} calls {names}"
            self.escalates(f"rung/{started.isoformat()}/{number}", said)
        everybody = [one.id for one in self.catalogue.people]
        called = [one for one in people if self._channels(one, rung.channel) != [CONSOLE]]
        return bool(called or (people and all(self._channels(one, None) == [CONSOLE] for one in everybody)))

    def _held(self, told: Sequence[Row[Any]], pause: timedelta) -> datetime | None:
        """Give until when somebody's looking at it keeps the ladder still; who has answered does not."""
        looked: list[datetime] = [
            row.seen_at for row in told if row.seen_at is not None and row.person not in self.given
        ]
        return max(looked) + pause if looked else None

    def _said(self) -> tuple[str, str]:
        """Give the title and the text of a notice."""
        incident = self.found
        where = f"{incident.id} {incident.severity} {incident.service} ({incident.environment})"
        row = self.question
        if row is None:
            text = f"Nobody commands it. Take command on its page, or: stanch incident ack {incident.id}"
            if Role.INCIDENT_COMMANDER in incident.roles:
                text = f"{incident.attention}\nSay that you look at it: stanch incident ack {incident.id}"
            return one_line(f"{where}: {incident.title}", 200), text
        lines = (
            *(f"{person} has approved; one more person is needed" for person in self.given),
            f"{self.subject} asks whether {row.mitigation} may run: {row.title}",
            f"{where}: {incident.title}",
            f"Risk: {row.risk}. Expires at {row.expires_at:%H:%M} UTC. Plan digest: {row.plan_digest[:12]}",
            f"Answer on its page, or: stanch approve {self.subject}",
        )
        title = f"{self.subject} {incident.severity} {incident.service}: may this run? {row.title}"
        return one_line(title, 200), "\n".join(one_line(line) for line in lines)


def _is_over(connection: Connection, subject: str) -> bool:
    """Say whether nobody has to be called about it any more."""
    if "/" in subject:
        return False  # something that has happened; whoever it is told to hears of it, however late
    if subject.startswith("APR-"):
        row = rows.find(connection, approvals, subject)
        return bool(row.state != ApprovalState.PENDING or row.expires_at <= moment_of(connection))
    if subject.startswith("INC-"):
        return not incidents.needs_somebody(incidents.find(connection, subject))
    return False


def _is_lost(told: Sequence[Row[Any]], rung: int) -> bool:
    """Say whether everybody whom this rung called could not be told."""
    states = [row.state for row in told if row.rung == rung]
    return bool(states) and all(state in (NoticeState.FAILED, NoticeState.DROPPED) for state in states)


def _nowhere(now: datetime) -> Incident:
    """Give the incident of what is about none: it has no roles and no service."""
    return Incident(id="", title="", service="", environment="", severity=Severity.SEV4, opened_at=now)


def _told(connection: Connection, subject: str) -> Sequence[Row[Any]]:
    return connection.execute(select(notices).filter_by(subject=subject)).all()


def _find(
    connection: Connection, subject: str, person: str, channel: str, times: int | None = None
) -> Row[Any] | None:
    key = rows.given(subject=subject, person=person, channel=channel, times=times)
    return rows.one(connection, notices, **key)


def _insert(connection: Connection, key: tuple[str, str, str], incident: str, facts: dict[str, Any]) -> None:
    subject, person, channel = key
    named = {"subject": subject, "person": person, "channel": channel, "incident": incident}
    counts = {"times": 1, "attempts": 0, "queued_at": moment_of(connection), "error": ""}
    rows.add(connection, notices, **named | counts | facts)


def _note(
    connection: Connection,
    key: str,
    incident: str,
    said: str,
    *,
    kind: EvidenceKind = EvidenceKind.NOTIFICATION,
    actor: str = ENGINE,
) -> None:
    """Put something on the timeline."""
    evidence.note(connection, kind, key, said, incident=incident or None, actor=actor)
