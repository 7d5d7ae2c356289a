"""That somebody has to be called, rung after rung, until somebody answers: written with the change itself."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, insert, select, update

from contracts.base import JsonObject
from ledger import outbox
from ledger.database import Clock
from ledger.schema import ladder as ladders

LADDER = "notice.ladder"
SEND = "notice.send"
TELL = "notice.tell"
HANDOFF = "handoff.expiry"

EVERYBODY = "everybody"


def begin(connection: Connection, clock: Clock, subject: str, incident: str) -> None:
    """Begin to call people about a question or an incident, within the caller's serial transaction.

    Args:
        connection: The transaction that asks the question or opens the incident.
        clock: The time.
        subject: ``APR-7``, or the incident itself while nobody commands it.
        incident: Which incident it belongs to.
    """
    fresh = {"subject": subject, "incident": incident, "started_at": clock(), "rung": 0, "generation": 0}
    connection.execute(insert(ladders).values(fresh))
    _wake(connection, clock, subject, incident, 0)


def look_again(connection: Connection, clock: Clock, *, incident: str = "", subject: str = "") -> None:
    """Let the ladders of an incident, or of one subject, see at once what has changed for them."""
    which: ColumnElement[bool] = ladders.c.subject == subject if subject else ladders.c.incident == incident
    query = select(ladders).where(which, ladders.c.ended_at.is_(None))
    for row in connection.execute(query).all():
        # What was set before finds another generation, and does nothing.
        generation = row.generation + 1
        is_it = ladders.c.subject == row.subject
        connection.execute(update(ladders).where(is_it).values(generation=generation))
        _wake(connection, clock, row.subject, row.incident, generation)


def tell(
    connection: Connection, clock: Clock, incident: str | None, whom: Sequence[str], text: str, *, key: str
) -> None:
    """Tell people that something has happened, within the caller's serial transaction.

    Args:
        connection: The transaction of what has happened.
        clock: The time.
        incident: In which incident; ``None`` when it is about none, as a freeze.
        whom: The words of a ladder's rung (``incident_commander``, ``on_call``, ``team:shop``,
            ``person:ada``), or ``everybody``.
        text: One sentence, for people.
        key: Names what has happened, and is told once: ``APR-7/break-glass``.
    """
    payload: JsonObject = {"whom": list(whom), "text": text}
    lane = f"{TELL}/{key}"
    outbox.add(
        connection, clock, kind=TELL, key=key, incident=incident or "", payload=payload, trace={}, lane=lane
    )


def _wake(connection: Connection, clock: Clock, subject: str, incident: str, generation: int) -> None:
    outbox.add(
        connection,
        clock,
        kind=LADDER,
        key=f"{subject}/{generation}",
        incident=incident,
        payload={"subject": subject, "generation": generation},
        trace={},
        due=clock(),
    )
