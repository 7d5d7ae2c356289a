"""What has to be done after a change: written with it, delivered later, at least once.

A message with ``due`` is a timer: it is handed out from then on, to whoever handles its kind in
``gateway.dispatcher``, and what it finds is decided then. So nothing polls, and no process has to live until
something is due. A handler that gives a time is called again then, with the same message.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, insert, or_, select, update

from contracts.base import Frozen, JsonObject
from ledger.database import Stored, moment_of
from ledger.schema import outbox, outbox_is_waiting

ALERTS = "incident.alerts"
COMMAND = "incident.command"
DECISION = "mitigation.decision"
ASKED = "approval.asked"

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
    kind: str,
    key: str,
    *,
    incident: str,
    payload: Mapping[str, Any],
    trace: Mapping[str, str] = MappingProxyType({}),
    due: datetime | None = None,
    lane: str | None = None,
) -> None:
    """Add a message within the caller's serial transaction.

    Alerts and commands of one incident share a lane, because a command may not overtake the start of its
    workflow. Decisions have their own: they go to another workflow, and an approval does not wait behind
    alerts that cannot be delivered at the moment. What is due later has a lane to itself.

    Args:
        connection: The transaction of the change that it tells of.
        kind: Who handles it.
        key: Unique within kind and incident, delivered messages included.
        incident: Which one it is about.
        payload: What it says.
        trace: The W3C trace context that it belongs to.
        due: Not before; a clock that jumps can bring it early, so a handler looks at the time itself.
        lane: Messages of one lane arrive in order, each after the former; chosen by the kind when not given.
    """
    now = moment_of(connection)
    message = {"kind": kind, "key": key, "incident": incident, "payload": dict(payload), "trace": dict(trace)}
    if lane is None:
        own = f"{kind}/{incident}"
        request = f"{own}/{key.partition('/')[0]}"  # its decision, then its orders to force; no other's wait
        lane = f"{own}/{key}" if due is not None else request if kind == DECISION else incident
    state = {"lane": lane, "attempts": 0, "created_at": now, "available_at": now, "due_at": due or now}
    connection.execute(insert(outbox).values(message | state | {"error": ""}))


class Outbox(Stored):
    """The messages that wait, handed out under a lease, so that several gateways may deliver."""

    def claim(self, limit: int, lease: timedelta) -> list[OutboxMessage]:
        """Take messages to deliver, at most one of each lane, so that a lane's order is kept.

        Args:
            limit: At most so many.
            lease: For how long nobody else gets them; then they are taken to be lost and handed out again.
        """
        now = self._database.now()
        times = {"now": now, "ahead": now + LONGEST_WAIT}
        with self._database.read() as connection:
            if connection.scalar(_to_claim(), times | {"limit": 1}) is None:  # the common case takes no lock
                return []
        with self._database.write(serial=False) as connection:
            ids = list(connection.scalars(_to_claim(locks=True), times | {"limit": limit}))
            taken = {"available_at": now + min(lease, LONGEST_WAIT), "attempts": outbox.c.attempts + 1}
            connection.execute(update(outbox).where(outbox.c.id.in_(ids)).values(taken))
            rows = connection.execute(select(outbox).where(outbox.c.id.in_(ids)).order_by(outbox.c.id))
            return [OutboxMessage.model_validate(row._asdict()) for row in rows]

    def done(self, message: int) -> None:
        """Say that it has arrived; a repeat is no change."""
        self._change(message, done_at=self._database.now(), error="")

    def failed(self, message: int, error: str, retry_in: timedelta) -> None:
        """Say that it did not arrive, why, and after how long it is tried again."""
        pause = self._database.now() + min(retry_in, LONGEST_WAIT)
        self._change(message, available_at=pause, error=error)

    def again(self, message: int, due: datetime) -> None:
        """Say that it was handled, and that it is due again then."""
        now = self._database.now()
        self._change(message, attempts=0, created_at=now, available_at=now, due_at=due, error="")

    def _change(self, message: int, **values: object) -> None:
        with self._database.write(serial=False) as connection:
            connection.execute(update(outbox).where(outbox.c.id == message, outbox_is_waiting).values(values))

    def backlog(self) -> int:
        """Count what is due and has not arrived yet."""
        now = self._database.now()
        waiting = select(func.count()).select_from(outbox).where(outbox_is_waiting, _IS_DUE)
        with self._database.read() as connection:
            return connection.scalars(waiting, {"now": now, "ahead": now + LONGEST_WAIT}).one()


# What was written in the future is due too: its clock was wrong, and so may be its time.
_IS_DUE = or_(outbox.c.due_at <= bindparam("now"), outbox.c.created_at > bindparam("ahead"))


@cache
def _to_claim(*, locks: bool = False) -> Select[tuple[int]]:
    """Make the query once: it runs whenever something may have been written."""
    earlier = outbox.alias("earlier")
    is_first = ~select(1).where(
        earlier.c.lane == outbox.c.lane, earlier.c.id < outbox.c.id, earlier.c.done_at.is_(None)
    ).exists()  # fmt: skip
    is_free = or_(outbox.c.available_at <= bindparam("now"), outbox.c.available_at > bindparam("ahead"))
    due = select(outbox.c.id).where(outbox_is_waiting, _IS_DUE, is_free, is_first)
    due = due.order_by(outbox.c.id).limit(bindparam("limit"))
    return due.with_for_update(of=outbox, skip_locked=True) if locks else due
