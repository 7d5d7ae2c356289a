"""What has to reach the engine: written with the change that it tells of, delivered later, at least once."""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import Connection, func, insert, or_, select, update

from contracts.base import Frozen, JsonObject
from ledger.database import Clock, Database
from ledger.schema import outbox, outbox_is_waiting

ALERTS = "incident.alerts"
COMMAND = "incident.command"
DECISION = "mitigation.decision"

# Nobody leases or pauses for longer: a time further ahead means that a clock has jumped, and does not hold.
LONGEST_WAIT = timedelta(hours=1)


class OutboxMessage(Frozen):
    """One message that its claimer delivers now.

    Attributes:
        key: Stable over all attempts and unique within kind and incident.
        attempts: How many times it was claimed, this time included.
    """

    id: int
    kind: str
    key: str
    incident: str
    payload: JsonObject
    trace: dict[str, str]
    attempts: int


def add(
    connection: Connection,
    clock: Clock,
    *,
    kind: str,
    key: str,
    incident: str,
    payload: JsonObject,
    trace: Mapping[str, str],
) -> None:
    """Add a message within the caller's serial transaction.

    Alerts and commands of one incident share a lane, because a command may not overtake the start of its
    workflow. Decisions have their own: they go to another workflow, and an approval does not wait behind
    alerts that cannot be delivered at the moment.
    """
    now = clock()
    message = {"kind": kind, "key": key, "incident": incident, "payload": payload, "trace": dict(trace)}
    lane = f"{kind}/{incident}" if kind == DECISION else incident
    state = {"lane": lane, "attempts": 0, "created_at": now, "available_at": now, "error": ""}
    connection.execute(insert(outbox).values(message | state))


class Outbox:
    """The messages that wait, handed out under a lease, so that several gateways may deliver."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, limit: int, lease: timedelta) -> list[OutboxMessage]:
        """Take messages to deliver, at most one of each lane, so that a lane's order is kept.

        Args:
            limit: At most so many.
            lease: For how long nobody else gets them; then they are taken to be lost and handed out again.
        """
        now = self._database.now()
        earlier = outbox.alias("earlier")
        is_first = ~select(1).where(
            earlier.c.lane == outbox.c.lane, earlier.c.id < outbox.c.id, earlier.c.done_at.is_(None)
        ).exists()  # fmt: skip
        is_due = or_(outbox.c.available_at <= now, outbox.c.available_at > now + LONGEST_WAIT)
        due = (
            select(outbox.c.id).where(outbox_is_waiting, is_due, is_first).order_by(outbox.c.id).limit(limit)
        )
        with self._database.read() as connection:
            if connection.scalar(due.limit(1)) is None:  # the common case takes no lock
                return []
        with self._database.write(serial=False) as connection:
            ids = list(connection.scalars(due.with_for_update(of=outbox, skip_locked=True)))
            taken = {"available_at": now + min(lease, LONGEST_WAIT), "attempts": outbox.c.attempts + 1}
            connection.execute(update(outbox).where(outbox.c.id.in_(ids)).values(taken))
            rows = connection.execute(select(outbox).where(outbox.c.id.in_(ids)).order_by(outbox.c.id))
            return [OutboxMessage.model_validate(row._asdict()) for row in rows]

    def done(self, message: int) -> None:
        """Say that it has arrived; a repeat is no change."""
        with self._database.write(serial=False) as connection:
            is_it = (outbox.c.id == message) & outbox_is_waiting
            connection.execute(update(outbox).where(is_it).values(done_at=self._database.now(), error=""))

    def failed(self, message: int, error: str, retry_in: timedelta) -> None:
        """Say that it did not arrive, why, and after how long it is tried again."""
        with self._database.write(serial=False) as connection:
            is_it = (outbox.c.id == message) & outbox_is_waiting
            pause = {"available_at": self._database.now() + min(retry_in, LONGEST_WAIT), "error": error}
            connection.execute(update(outbox).where(is_it).values(pause))

    def backlog(self) -> int:
        """Count what has not arrived yet."""
        with self._database.read() as connection:
            return connection.scalars(select(func.count()).select_from(outbox).where(outbox_is_waiting)).one()
