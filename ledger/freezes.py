"""The freezes: a switch that stops all changes, and outlives every process."""

import builtins
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from contracts.base import JsonObject
from contracts.errors import ConflictError, NotFoundError
from contracts.evidence import Evidence, EvidenceKind
from contracts.guardrails import Freeze
from ledger import evidence
from ledger.database import Database
from ledger.incidents import number_of
from ledger.schema import freeze as freezes
from ledger.schema import journal
from ledger.storable import one_line

MOST_RUNNING = 100


class Freezes:
    """All freezes; whoever writes an intent reads them in the same transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> builtins.list[Freeze]:
        """Give the freezes that stand, the oldest first."""
        query = select(freezes).where(freezes.c.lifted_at.is_(None)).order_by(freezes.c.number)
        with self._database.read() as connection:
            return [_freeze(row) for row in connection.execute(query)]

    def set(self, *, service: str | None, reason: str, person: str) -> Freeze:
        """Stop all changes, of one service or of every one: from the commit on no intent is written.

        The same person's same freeze again gives the one that stands.
        """
        with self._database.write() as connection:
            mine = (freezes.c.person == person, freezes.c.service.is_not_distinct_from(service))
            query = select(freezes).where(freezes.c.lifted_at.is_(None), *mine)
            row = connection.execute(query).one_or_none()
            running = select(journal.c.action).where(journal.c.state == "intent").limit(MOST_RUNNING)
            if service is not None:
                running = running.where(journal.c.service == service)
            on_their_way = tuple(connection.scalars(running.order_by(journal.c.number)))
            if row is None:
                values = {"service": service, "reason": reason, "person": person, "at": self._database.now()}
                row = connection.execute(insert(freezes).values(values).returning(freezes)).one()
                body: JsonObject = {"service": service, "reason": reason, "running": list(on_their_way)}
                said = f"{person} stops {_what(service)}: {reason}"
                _tell(connection, row, "frozen", actor=person, at=row.at, said=said, body=body)
            return _freeze(row).model_copy(update={"running": on_their_way})

    def get(self, freeze: str) -> Freeze:
        """Give one, lifted or not.

        Raises:
            NotFoundError: There is none with this id.
        """
        with self._database.read() as connection:
            return _freeze(_find(connection, freeze))

    def lift(self, freeze: str, *, reason: str, person: str) -> Freeze:
        """Let changes begin again; the same person's again gives it as it is.

        Raises:
            NotFoundError: There is none with this id.
            ConflictError: Somebody else has lifted it.
        """
        with self._database.write() as connection:
            row = _find(connection, freeze)
            if row.lifted_at is not None:
                if row.lifted_by == person:
                    return _freeze(row)
                raise ConflictError(f"{freeze} was lifted by {row.lifted_by} at {row.lifted_at.isoformat()}")
            now = self._database.now()
            lifted = update(freezes).where(freezes.c.number == row.number)
            connection.execute(lifted.values(lifted_by=person, lifted_at=now))
            said = f"{person} lets {_what(row.service)} begin again: {reason}"
            _tell(connection, row, "lifted", actor=person, at=now, said=said, body={"reason": reason})
            return _freeze(_find(connection, freeze))


def _tell(
    connection: Connection,
    row: Row[Any],
    event: str,
    *,
    actor: str,
    at: datetime,
    said: str,
    body: JsonObject,
) -> None:
    entry = Evidence(
        key=f"FRZ-{row.number}/{event}",
        kind=EvidenceKind.FREEZE,
        incident=None,
        actor=actor,
        at=at,
        summary=one_line(said),
        body={"freeze": f"FRZ-{row.number}"} | body,
    )
    evidence.append(connection, entry)


def _what(service: str | None) -> str:
    return f"changes of {service}" if service else "all changes"


def _find(connection: Connection, freeze: str) -> Row[Any]:
    number = number_of(freeze, "FRZ")
    row = connection.execute(select(freezes).where(freezes.c.number == number)).one_or_none()
    if row is None:
        raise NotFoundError(f"{freeze}: not found")
    return row


def _freeze(row: Row[Any]) -> Freeze:
    return Freeze.model_validate(row._asdict() | {"id": f"FRZ-{row.number}"})
