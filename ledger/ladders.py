"""That somebody has to be called, rung after rung, until somebody answers: written with the change itself."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from ledger import outbox, rows
from ledger.database import moment_of
from ledger.schema import ladder as ladders

LADDER = "notice.ladder"
SEND = "notice.send"
TELL = "notice.tell"
HANDOFF = "handoff.expiry"

EVERYBODY = "everybody"


def begin(connection: Connection, subject: str, incident: str) -> None:
    """Begin to call people about a question or an incident, within the caller's serial transaction.

    One that goes on already goes on as it is.

    Args:
        connection: The transaction that asks the question or opens the incident.
        subject: ``APR-7``, or the incident itself while nobody commands it, or it needs a person.
        incident: Which incident it belongs to.
    """
    fresh = {"started_at": moment_of(connection), "rung": 0, "ended_at": None}
    row = rows.one(connection, ladders, subject=subject)
    if row is None:
        row = rows.add(connection, ladders, subject=subject, incident=incident, generation=0, **fresh)
    elif row.ended_at is None:
        return
    else:
        row = rows.change(connection, ladders, row, generation=row.generation + 1, **fresh)
    _wake(connection, row)


def end(connection: Connection, subject: str) -> None:
    """Call nobody any more about a subject, within the caller's serial transaction."""
    standing = update(ladders).filter_by(subject=subject, ended_at=None)
    connection.execute(standing.values(ended_at=moment_of(connection)))


def look_again(connection: Connection, *, incident: str = "", subject: str = "") -> None:
    """Let the ladders of an incident, or of one subject, see at once what has changed for them."""
    which = {"subject": subject} if subject else {"incident": incident}
    for row in connection.execute(select(ladders).filter_by(**which, ended_at=None)).all():
        # What was set before finds another generation, and does nothing.
        _wake(connection, rows.change(connection, ladders, row, generation=row.generation + 1))


def tell(connection: Connection, incident: str | None, whom: Sequence[str], text: str, *, key: str) -> None:
    """Tell people that something has happened, within the caller's serial transaction.

    Args:
        connection: The transaction of what has happened.
        incident: In which incident; ``None`` when it is about none, as a freeze.
        whom: The words of a ladder's rung (``incident_commander``, ``on_call``, ``team:shop``,
            ``person:ada``), or ``everybody``.
        text: One sentence, for people.
        key: Names what has happened, and is told once: ``APR-7/break-glass``.
    """
    lane, payload = f"{TELL}/{key}", {"whom": list(whom), "text": text}
    outbox.add(connection, TELL, key, incident=incident or "", payload=payload, lane=lane)


def _wake(connection: Connection, row: Row[Any]) -> None:
    key, payload = f"{row.subject}/{row.generation}", {"subject": row.subject, "generation": row.generation}
    due = moment_of(connection)
    outbox.add(connection, LADDER, key, incident=row.incident, payload=payload, due=due)
