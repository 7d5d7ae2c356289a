"""The freezes: a switch that stops all changes, and outlives every process."""

import builtins
from typing import Any

from sqlalchemy import Connection, Row, select

from contracts.errors import ConflictError
from contracts.evidence import EvidenceKind
from contracts.guardrails import Freeze
from ledger import evidence, rows
from ledger.database import Stored, moment_of
from ledger.schema import freeze as freezes
from ledger.schema import journal

MOST_RUNNING = 100


class Freezes(Stored):
    """All freezes; whoever writes an intent reads them in the same transaction."""

    def list(self) -> builtins.list[Freeze]:
        """Give the freezes that stand, the oldest first."""
        with self._database.read() as connection:
            return standing(connection)

    def set(self, *, service: str | None, reason: str, person: str) -> Freeze:
        """Stop all changes, of one service or of every one: from the commit on no intent is written.

        The same person's same freeze again gives the one that stands.
        """
        with self._database.write(first=True) as connection:
            row = rows.one(connection, freezes, person=person, service=service, lifted_at=None)
            running = select(journal.c.action).filter_by(state="intent", **rows.given(service=service))
            running = running.order_by(journal.c.number).limit(MOST_RUNNING)
            on_their_way = tuple(connection.scalars(running))
            if row is None:
                facts = {"service": service, "reason": reason}
                row = rows.add(connection, freezes, **facts, person=person, at=moment_of(connection))
                said = f"{person} stops {what(service)}: {reason}"
                _tell(connection, row, "frozen", person, said, **facts, running=list(on_their_way))
            return _freeze(row).model_copy(update={"running": on_their_way})

    def get(self, freeze: str) -> Freeze:
        """Give one, lifted or not.

        Raises:
            NotFoundError: There is none with this id.
        """
        with self._database.read() as connection:
            return _freeze(rows.find(connection, freezes, freeze))

    def lift(self, freeze: str, *, reason: str, person: str) -> Freeze:
        """Let changes begin again; the same person's again gives it as it is.

        Raises:
            NotFoundError: There is none with this id.
            ConflictError: Somebody else has lifted it.
        """
        with self._database.write() as connection:
            row = rows.find(connection, freezes, freeze)
            if row.lifted_at is not None:
                if row.lifted_by == person:
                    return _freeze(row)
                raise ConflictError(f"{freeze} was lifted by {row.lifted_by} at {row.lifted_at.isoformat()}")
            row = rows.change(connection, freezes, row, lifted_by=person, lifted_at=moment_of(connection))
            said = f"{person} lets {what(row.service)} begin again: {reason}"
            _tell(connection, row, "lifted", person, said, reason=reason)
            return _freeze(row)


def standing(connection: Connection) -> list[Freeze]:
    """Give the freezes that stand in this transaction, the oldest first."""
    query = select(freezes).where(freezes.c.lifted_at.is_(None)).order_by(freezes.c.number)
    return [_freeze(row) for row in connection.execute(query)]


def what(service: str | None) -> str:
    """Say what a freeze stops."""
    return f"changes of {service}" if service else "all changes"


def _tell(connection: Connection, row: Row[Any], event: str, actor: str, said: str, **facts: Any) -> None:
    freeze = f"FRZ-{row.number}"
    key, body = f"{freeze}/{event}", {"freeze": freeze, **facts}
    evidence.note(connection, EvidenceKind.FREEZE, key, said, incident=None, actor=actor, body=body)


def _freeze(row: Row[Any]) -> Freeze:
    return Freeze.model_validate(rows.facts(freezes, row))
