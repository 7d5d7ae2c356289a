"""The durable inbox: raw deliveries, the episodes in them, and which incident each belongs to."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from contracts.base import Frozen, JsonObject
from contracts.evidence import ENGINE, Evidence, EvidenceKind
from contracts.incidents import OPEN_PHASES, Alert, AlertStatus, Severity
from contracts.messages import AlertBatch
from ledger import evidence, incidents, outbox, rows
from ledger.database import Stored, moment_of
from ledger.schema import alert as episodes_table
from ledger.schema import alert_is_pending, delivery
from ledger.schema import incident as incidents_table
from ledger.storable import canonical_text, one_line

KEPT_OF_REFUSED = 4096  # bytes
LARGEST_BATCH = 256 * 1024  # bytes of JSON in one message; the engine's limit for one payload is 2 MiB
ALERTS_AT_ONCE = 100  # in one transaction: about 0.2 s, after which others may write


class Receipt(Frozen):
    """What a delivery came to.

    Attributes:
        delivery: Its number; the same bytes from the same source are one delivery.
        accepted: Episodes that began or ended with it.
        duplicates: Alerts that told nothing new.
    """

    delivery: int
    accepted: int
    duplicates: int


class PendingAlert(Frozen):
    """An episode that waits to be given to an incident.

    Attributes:
        id: The episode's number.
        episode: The digest of its key.
        incident: The number of the incident that has it already.
        behind: The number of an incident that could not take it any more; only a later one may.
    """

    id: int
    episode: str
    alert: Alert
    incident: int | None
    behind: int
    trace: dict[str, str]


class Inbox(Stored):
    """Takes deliveries in and correlates them."""

    def accept(
        self, source: str, body: bytes, alerts: Sequence[Alert], *, trace: Mapping[str, str]
    ) -> Receipt:
        """Keep a delivery and what is new in it; when this returns, all of it is on the disk.

        Many alerts are many transactions, so that a decision need not wait for them all. When one of these
        fails the sender is told to repeat, and what is kept already is known again.

        Args:
            source: Who sent it.
            body: The raw bytes.
            alerts: What they say, in their order.
            trace: The W3C trace context that came with them.

        Raises:
            InputError: A name in an alert cannot be searched by.
        """
        for alert in alerts:
            incidents.check_names(alert.service, alert.environment)
        number = accepted = 0
        for start in range(0, len(alerts) or 1, ALERTS_AT_ONCE):
            with self._database.write() as connection:
                intake = _Intake(connection, trace)
                number = number or intake.keep(source, body)
                accepted += intake.take(number, alerts[start : start + ALERTS_AT_ONCE])
        return Receipt(delivery=number, accepted=accepted, duplicates=len(alerts) - accepted)

    def refuse(self, source: str, body: bytes, reason: str) -> None:
        """Keep as evidence that a delivery was refused, and why; the same one again is no change."""
        digest, name = hashlib.sha256(body).hexdigest(), one_line(source, 80)
        kind, key = EvidenceKind.ALERT_REFUSED, f"refused/{_digest(source)[:16]}/{digest}"
        said, actor = f"A delivery from {name} is refused: {reason}", f"source:{name}"
        kept = body[:KEPT_OF_REFUSED].decode(errors="replace")
        facts = {"reason": reason, "size": len(body), "sha256": digest, "body": kept}
        with self._database.write() as connection:
            evidence.note(connection, kind, key, said, incident=None, actor=actor, body=facts)

    def dispatch(self, limit: int = 100) -> list[str]:
        """Give pending episodes to incidents, those of one service and environment in one transaction.

        Args:
            limit: Look at so many episodes.

        Returns:
            The incidents that have something new.
        """
        query = select(episodes_table.c.service, episodes_table.c.environment).where(alert_is_pending)
        waiting = self._database.rows(query.order_by(episodes_table.c.id).limit(limit))
        touched: list[str] = []
        for service, environment in dict.fromkeys(tuple(row) for row in waiting):
            with self._database.write() as connection:
                correlation = _Correlation(connection, service, environment)
                touched += correlation.run(limit)
        return list(dict.fromkeys(touched))

    def requeue(self, incident: str, alerts: Sequence[Alert]) -> None:
        """Take back the episodes that an incident was given and could not take, because it has ended.

        Those that are still firing are given to a later incident by the next ``dispatch``.

        Raises:
            NotFoundError: The incident's id is none.
        """
        number = rows.number_of(incidents_table, incident)
        its = update(episodes_table).filter_by(incident=number, status=AlertStatus.FIRING)
        its = its.where(episodes_table.c.episode.in_([_digest(alert.episode) for alert in alerts]))
        with self._database.write() as connection:
            connection.execute(its.values(pending=True, incident=None, behind=number))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()


class _Intake:
    """One transaction of ``accept``."""

    def __init__(self, connection: Connection, trace: Mapping[str, str]) -> None:
        self._connection = connection
        self._now = moment_of(connection)
        self._trace = dict(trace)

    def keep(self, source: str, body: bytes) -> int:
        """Keep the raw bytes once, and give the delivery's number."""
        digest = hashlib.sha256(body).hexdigest()
        named = {"source": source, "digest": digest}
        again = update(delivery).filter_by(**named).values(times=delivery.c.times + 1)
        # Only its number comes back: the body may be large.
        known = self._connection.scalar(again.returning(delivery.c.id))
        if known is None:
            facts = {"body": body, "received_at": self._now, "times": 1, "trace": self._trace}
            fresh = insert(delivery).values(named | facts).returning(delivery.c.id)
            known = self._connection.scalar(fresh)
        return int(known)

    def take(self, number: int, alerts: Sequence[Alert]) -> int:
        """Take what is new, and count it."""
        episodes = [_digest(alert.episode) for alert in alerts]
        query = select(episodes_table).where(episodes_table.c.episode.in_(episodes))
        known = {row.episode: row for row in self._connection.execute(query)}
        seen_again: list[int] = []
        told: list[Evidence] = []
        accepted = 0
        for episode, alert in zip(episodes, alerts, strict=True):
            row = known.get(episode)
            ends = alert.status is AlertStatus.RESOLVED
            if row is None:
                known[episode] = self._begin(number, episode, alert)
                if not ends:
                    told.append(self._evidence(EvidenceKind.ALERT_RECEIVED, number, episode, alert, None))
            elif ends and row.status == AlertStatus.FIRING:
                known[episode] = self._end(row, alert)
                told.append(self._evidence(EvidenceKind.ALERT_RESOLVED, number, episode, alert, row.incident))
            else:
                seen_again.append(row.id)
                continue
            accepted += 1
        if seen_again:
            again = update(episodes_table).where(episodes_table.c.id.in_(seen_again))
            self._connection.execute(again.values(times=episodes_table.c.times + 1))
        evidence.append(self._connection, *told)
        return accepted

    def _begin(self, number: int, episode: str, alert: Alert) -> Row[Any]:
        """Keep a new episode. One that begins with its end starts nothing: it is there to be known later."""
        return rows.add(
            self._connection,
            episodes_table,
            **alert.model_dump(include={"service", "environment", "status"}),
            episode=episode,
            problem=_digest(alert.source, alert.fingerprint),
            content=alert.model_dump(mode="json"),
            delivery=number,
            behind=0,
            received_at=self._now,
            times=1,
            pending=alert.status is AlertStatus.FIRING,
            trace=self._trace,
        )

    def _end(self, row: Row[Any], alert: Alert) -> Row[Any]:
        content = alert.model_dump(mode="json")
        return rows.change(
            self._connection, episodes_table, row, status=alert.status, content=content, pending=True
        )

    def _evidence(
        self, kind: EvidenceKind, number: int, episode: str, alert: Alert, incident: int | None
    ) -> Evidence:
        verb = "is firing" if kind is EvidenceKind.ALERT_RECEIVED else "is resolved"
        return Evidence(
            key=f"alert/{episode}/{alert.status.value}",
            kind=kind,
            incident=None if incident is None else f"INC-{incident}",
            actor=f"source:{alert.source}",
            at=self._now,
            summary=one_line(f"{alert.name} {verb} for {alert.service} ({alert.environment})"),
            body={"alert": alert.model_dump(mode="json"), "episode": episode, "delivery": number},
        )


class _Correlation:
    """One transaction of ``dispatch``: the pending episodes of one service and environment."""

    def __init__(self, connection: Connection, service: str, environment: str) -> None:
        self._connection = connection
        self._now = moment_of(connection)
        self._place = {"service": service, "environment": environment}
        self._told: list[Evidence] = []
        query = select(incidents_table.c.number, incidents_table.c.severity).filter_by(**self._place)
        query = query.where(incidents_table.c.phase.in_(OPEN_PHASES)).order_by(incidents_table.c.number)
        self._severity = {row.number: Severity(row.severity) for row in connection.execute(query)}

    def run(self, limit: int) -> list[str]:
        """Attach, open, pass on; give the incidents that have something new."""
        query = select(episodes_table).filter_by(**self._place).where(alert_is_pending)
        news: dict[int, list[PendingAlert]] = {}
        for row in self._connection.execute(query.order_by(episodes_table.c.id).limit(limit)).all():
            pending = PendingAlert.model_validate(row._asdict() | {"alert": row.content})
            incident = self._incident_of(pending)
            self._settle(pending, incident)
            if incident is not None:
                news.setdefault(incident, []).append(pending)
        evidence.append(self._connection, *self._told)
        for number, batch in news.items():
            self._raise_severity(number, batch)
            self._pass_on(f"INC-{number}", batch)
        return [f"INC-{number}" for number in news]

    def _incident_of(self, pending: PendingAlert) -> int | None:
        """Find the incident of an episode, the oldest open one, or open it."""
        if pending.alert.status is AlertStatus.RESOLVED:
            # Nobody has seen it firing, or it is the tail of a closed incident: then nobody is told.
            return pending.incident if pending.incident in self._severity else None
        fitting = (number for number in self._severity if number > pending.behind)
        return next(fitting, None) or self._open(pending)

    def _settle(self, pending: PendingAlert, incident: int | None) -> None:
        settled = update(episodes_table).filter_by(id=pending.id).values(pending=False)
        if pending.alert.status is AlertStatus.RESOLVED or incident is None:
            self._connection.execute(settled)
            return
        self._connection.execute(settled.values(incident=incident))
        said = f"{pending.alert.name} is firing: {pending.alert.summary}".rstrip(": ")
        body: JsonObject = {"alert": pending.alert.model_dump(mode="json"), "episode": pending.episode}
        self._tell(EvidenceKind.ALERT_RECEIVED, incident, f"alert/{pending.episode}", said, body)

    def _tell(self, kind: EvidenceKind, number: int, what: str, said: str, body: JsonObject) -> None:
        name, now, said = f"INC-{number}", self._now, one_line(said)
        key = f"{name}/{what}"
        self._told.append(
            Evidence(key=key, kind=kind, incident=name, actor=ENGINE, at=now, summary=said, body=body)
        )

    def _open(self, pending: PendingAlert) -> int:
        alert = pending.alert
        title = one_line(alert.summary) or one_line(alert.name)
        facts = {**self._place, "region": alert.region, "severity": alert.severity}
        number = incidents.open_new(self._connection, title=title, trace=pending.trace, **facts)
        self._severity[number] = alert.severity
        said = f"{alert.name} opens {alert.severity.value} on {alert.service}: {title}"
        body: JsonObject = {"title": title, "episode": pending.episode, **facts}
        self._tell(EvidenceKind.INCIDENT_OPENED, number, "opened", said, body)
        return number

    def _raise_severity(self, number: int, batch: Iterable[PendingAlert]) -> None:
        """Raise an incident's severity to that of its worst new alert."""
        firing = [pending.alert for pending in batch if pending.alert.status is AlertStatus.FIRING]
        order = list(Severity)
        worst = min(firing, key=lambda alert: order.index(alert.severity), default=None)
        if worst is not None and order.index(worst.severity) < order.index(self._severity[number]):
            row = incidents.find(self._connection, f"INC-{number}")
            severity, reason = worst.severity, f"{worst.name} is firing"
            incidents.change_severity(self._connection, row, severity, actor=ENGINE, reason=reason)

    def _pass_on(self, incident: str, batch: Iterable[PendingAlert]) -> None:
        """Tell the incident's workflow, in messages that the engine can carry."""
        message: list[PendingAlert] = []
        length = 0
        for pending in batch:
            cost = len(canonical_text(pending.alert.model_dump(mode="json")))
            if message and length + cost > LARGEST_BATCH:
                self._send(incident, message)
                message, length = [], 0
            message.append(pending)
            length += cost
        self._send(incident, message)

    def _send(self, incident: str, message: Sequence[PendingAlert]) -> None:
        first = message[0]
        kind, key = outbox.ALERTS, f"{first.episode}/{first.alert.status.value}"
        batch = AlertBatch(alerts=tuple(pending.alert for pending in message)).model_dump(mode="json")
        outbox.add(self._connection, kind, key, incident=incident, payload=batch, trace=first.trace)
