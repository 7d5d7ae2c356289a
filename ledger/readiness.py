"""How ready services' failovers were, look after look; whoever is on call hears when one is not any more."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, select

from contracts.evidence import EvidenceKind
from contracts.readiness import CheckState, Readiness, ServiceReadiness
from ledger import evidence, ladders, rows
from ledger.database import Stored, moment_of
from ledger.schema import readiness as looks
from ledger.schema import watch

KEPT = 500  # looks of one service in one environment: ten days of one every half hour
WORDS = {
    CheckState.OK: "is ready",
    CheckState.NOT_READY: "is not ready",
    CheckState.UNKNOWN: "is not known to be ready",
}


class ReadinessRecords(Stored):
    """All looks at the readiness of failovers."""

    def record(self, service: str, environment: str, found: Readiness, on_call: Sequence[str]) -> None:
        """Keep what a look found; a change is evidence, and one to not ready is told to who is on call."""
        with self._database.write() as connection:
            mine = _of(service, environment)
            last = _last(connection, mine)
            known = _last(connection, mine & (looks.c.state != CheckState.UNKNOWN))
            state = found.state
            checks = [check.model_dump(mode="json") for check in found.checks]
            seen = {"service": service, "environment": environment, "state": state, "checks": checks}
            number = rows.add(connection, looks, **seen, at=moment_of(connection)).number
            beyond = select(looks.c.number).where(mine).order_by(looks.c.number.desc()).offset(KEPT).limit(1)
            oldest = connection.scalar(beyond)
            if oldest is not None:
                connection.execute(delete(looks).where(mine, looks.c.number <= oldest))
            if state == last:
                return
            said = f"The failover of {service} in {environment} {WORDS[state]}{_why(found)}"
            key = f"readiness/{service}/{environment}/{number}"
            evidence.note(connection, EvidenceKind.READINESS, key, said, incident=None, body=seen)
            # A look that saw nothing in between does not make it news again.
            if state is CheckState.NOT_READY and known != CheckState.NOT_READY:
                whom = [f"person:{person}" for person in on_call]
                ladders.tell(connection, None, whom, said, key=key)

    def get(self, service: str, environment: str, *, history: int = KEPT) -> ServiceReadiness:
        """Give how ready a failover is, and how it was in the latest so many looks."""
        named = {"service": service, "environment": environment}
        query = select(looks.c.at, looks.c.state).where(_of(service, environment))
        query = query.order_by(looks.c.number.desc()).limit(KEPT)
        latest = select(looks.c.checks).where(_of(service, environment)).order_by(looks.c.number.desc())
        due = select(watch.c.next_at).where(watch.c.item == item(service, environment))
        with self._database.read() as connection:
            found = connection.execute(query).all()
            checks = connection.scalar(latest.limit(1))
            next_at = connection.scalar(due)
        if not found:
            return ServiceReadiness.model_validate(named | {"next_at": next_at})
        before = next((number for number, row in enumerate(found) if row.state != found[0].state), len(found))
        facts = {
            "state": found[0].state,
            "at": found[0].at,
            "since": found[before - 1].at,
            "next_at": next_at,
            "checks": checks,
            "history": [row._asdict() for row in found[history - 1 :: -1]] if history else [],
        }
        return ServiceReadiness.model_validate(named | facts)


def item(service: str, environment: str) -> str:
    """Give the name by which it is watched."""
    return f"readiness/{service}/{environment}"


def _of(service: str, environment: str) -> ColumnElement[bool]:
    return and_(looks.c.service == service, looks.c.environment == environment)


def _last(connection: Connection, which: ColumnElement[bool]) -> str | None:
    state: str | None = connection.scalar(
        select(looks.c.state).where(which).order_by(looks.c.number.desc()).limit(1)
    )
    return state


def _why(found: Readiness) -> str:
    bad = [check for check in found.checks if check.state is not CheckState.OK]
    return ": " + "; ".join(f"{check.name} of {check.target}: {check.detail}" for check in bad) if bad else ""
