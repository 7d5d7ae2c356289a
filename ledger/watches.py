"""What has to be looked at again and again, shared among workers: whoever claims a thing has it for a while.

A claim moves the thing's time into the future, and counts only where that time is still the one that was
read. So of several workers one looks; when it dies, another one does as soon as that time has come.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, select, update

from contracts.approvals import Approval
from contracts.base import JsonObject
from contracts.evidence import Evidence
from contracts.plans import Reading
from contracts.watches import KEPT, SignalNow, Watch
from ledger import evidence, rows
from ledger.database import Stored, moment_of
from ledger.schema import watch

# Nothing is due later than this: a time further ahead means that a clock has jumped, and does not hold.
LONGEST_WAIT = timedelta(days=2)


class Watches(Stored):
    """Everything that is looked at again and again."""

    def arrange(self, items: Mapping[str, datetime]) -> None:
        """Have exactly these things watched; one that is not yet is due at its time, the others are over."""
        with self._database.read() as connection:
            known = _active(connection)
        if known == items.keys():  # the common case takes no lock
            return
        with self._database.write() as connection:
            known = _active(connection)
            for item in known - items.keys():
                _change(connection, item, next_at=None)
            for item in items.keys() - known:
                _put(connection, item, next_at=items[item])

    def claim(self, limit: int, lease: timedelta) -> list[Watch]:
        """Take things that are due, the longest due first.

        Args:
            limit: At most so many.
            lease: For how long nobody else gets them; then they are taken to be lost and handed out again.
        """
        now = self._database.now()
        is_due = or_(watch.c.next_at <= now, watch.c.next_at > now + LONGEST_WAIT)
        query = select(watch).where(is_due).order_by(watch.c.next_at, watch.c.item).limit(limit)
        due = self._database.rows(query)
        if not due:
            return []
        claimed = []
        with self._database.write(serial=False) as connection:
            for row in due:
                mine = (watch.c.item == row.item) & (watch.c.next_at == row.next_at)
                taken = update(watch).where(mine).values(next_at=now + lease)
                if connection.execute(taken).rowcount:
                    claimed.append(Watch.model_validate(row._asdict() | {"next_at": now + lease}))
        return claimed

    def done(
        self,
        claimed: Watch,
        next_at: datetime,
        *,
        readings: Sequence[Reading] = (),
        state: JsonObject,
        told: Collection[Evidence] = (),
    ) -> bool:
        """Keep what was seen, with its evidence; nothing is kept when the claim was lost meanwhile.

        Args:
            claimed: As it was handed out.
            next_at: When it is due again.
            readings: All that are to be kept; the oldest beyond ``KEPT`` go.
            state: What has to be known at the next look.
            told: What has happened, for the log.
        """
        mine = (watch.c.item == claimed.item) & (watch.c.next_at == claimed.next_at)
        values = {"next_at": next_at, "readings": _dump(readings), "state": state}
        with self._database.write(serial=bool(told)) as connection:
            is_mine = connection.execute(update(watch).where(mine).values(values)).rowcount == 1
            if is_mine and told:
                evidence.append(connection, *told)
            return is_mine

    def keep(self, item: str, readings: Sequence[Reading], state: JsonObject) -> None:
        """Keep the readings of something that its own activity looks at."""
        with self._database.write(serial=False) as connection:
            _put(connection, item, readings=_dump(readings), state=state)

    def hasten(self, item: str) -> None:
        """Have a thing looked at now."""
        with self._database.write() as connection:
            _put(connection, item, next_at=moment_of(connection))

    def get(self, item: str) -> Watch:
        """Give what is known of a thing; nothing of one that was never watched."""
        with self._database.read() as connection:
            row = rows.one(connection, watch, item=item)
            return Watch(item=item) if row is None else Watch.model_validate(row._asdict())

    def signals(self, approval: Approval) -> list[SignalNow]:
        """Give how the signals of a question's steps are, and were while it waited."""
        start = question(approval.request.id)
        query = select(watch).where(watch.c.item.startswith(start, autoescape=True))
        found = [Watch.model_validate(row._asdict()) for row in self._database.rows(query)]
        steps = {f"{start}{step.number}": step for step in approval.plan.steps}
        return [
            SignalNow.model_validate(
                seen.state
                | {"step": step.number, "verification": step.verification, "readings": seen.readings}
            )
            for item, step in steps.items()
            for seen in found
            if seen.item == item and seen.readings and step.verification is not None
        ]


def question(approval: str) -> str:
    """Give what the names of all things begin with that are watched for a question."""
    return f"question/{approval}/"


def _active(connection: Connection) -> set[str]:
    return set(connection.scalars(select(watch.c.item).where(watch.c.next_at.is_not(None))))


def _change(connection: Connection, item: str, **values: object) -> bool:
    return bool(connection.execute(update(watch).where(watch.c.item == item).values(values)).rowcount)


def _put(connection: Connection, item: str, **values: object) -> None:
    if not _change(connection, item, **values):
        rows.add(connection, watch, **{"item": item, "readings": [], "state": {}} | values)


def _dump(readings: Sequence[Reading]) -> list[JsonObject]:
    return [reading.model_dump(mode="json") for reading in readings[-KEPT:]]
