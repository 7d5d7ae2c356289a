"""Standing grants: given and revoked by people, used up by plans, each use with the decision that it made."""

import base64
import builtins
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, select

from authority.decisions import Signer, Verifier
from authority.seals import canonical
from contracts.approvals import Envelope, Grant, StandingGrant
from contracts.errors import ConflictError, ForbiddenError, InputError
from contracts.evidence import EvidenceKind
from contracts.incidents import Incident
from ledger import evidence, ladders, rows
from ledger.database import Stored, moment_of
from ledger.schema import standing_grant as grants

LONGEST = timedelta(days=90)


class Grants(Stored):
    """All standing grants; whether a person may give one is for the policy to say, before."""

    def give(
        self,
        envelope: Envelope,
        *,
        service: str,
        environment: str,
        incident: str | None,
        person: str,
        authenticated_by: str,
        reason: str,
        expires_at: datetime,
        uses: int | None,
        after: timedelta,
        signer: Signer,
    ) -> StandingGrant:
        """Give one.

        Raises:
            InputError: It ends in the past, or later than 90 days from now, or waits a negative time, or has
                a value that has no canonical form.
        """
        with self._database.write() as connection:
            now = moment_of(connection)
            if not now < expires_at <= now + LONGEST or not timedelta() <= after <= LONGEST:
                raise InputError(f"a grant ends at some time from now until {LONGEST.days} days ahead")
            scope = {"service": service, "environment": environment}
            blank = {"content": {}, "key_id": "", "signature": "", "expires_at": expires_at, "used": 0}
            row = rows.add(connection, grants, **scope, **blank)
            grant = Grant(
                id=f"GRT-{row.number}",
                incident=incident,
                **scope,
                envelope=envelope,
                given_by=person,
                authenticated_by=authenticated_by,
                reason=reason,
                given_at=now,
                expires_at=expires_at,
                uses=uses,
                after=after,
            )
            content = grant.model_dump(mode="json")
            try:
                signature = base64.b64encode(signer.sign_bytes(canonical(grant))).decode()
            except ValueError as error:
                raise InputError(f"the grant cannot be signed: {error}") from error
            signed = {"content": content, "key_id": signer.key_id, "signature": signature}
            rows.change(connection, grants, row, **signed)
            what = f"{', '.join(envelope.actions)} on {', '.join(envelope.targets)}"
            said = f"{person} gives {grant.id} until {expires_at:%Y-%m-%d %H:%M}Z: {what} ({reason})"
            _note(connection, grant, "given", by=person, said=said)
            whom = ["incident_commander", "on_call"] if incident else [ladders.EVERYBODY]
            ladders.tell(connection, incident, whom, said, key=f"{grant.id}/given")
            return StandingGrant(grant=grant)

    def revoke(self, grant: str, *, person: str, reason: str) -> StandingGrant:
        """Revoke one; what already runs under it goes on. Again changes nothing.

        Raises:
            NotFoundError: There is none with this id.
        """
        with self._database.write() as connection:
            row = rows.find(connection, grants, grant)
            found = _standing(row)
            if found.revoked_at is not None:
                return found
            row = rows.change(connection, grants, row, revoked_at=moment_of(connection), revoked_by=person)
            said = f"{person} revokes {grant}: {reason}"
            _note(connection, found.grant, "revoked", by=person, said=said)
            return _standing(row)

    def get(self, grant: str) -> StandingGrant:
        """Give one.

        Raises:
            NotFoundError: There is none with this id.
        """
        with self._database.read() as connection:
            return _standing(rows.find(connection, grants, grant))

    def list(self, *, usable_only: bool = False, limit: int = 100) -> builtins.list[StandingGrant]:
        """Give grants, the newest first."""
        query = select(grants).order_by(grants.c.number.desc())
        if usable_only:
            query = query.where(grants.c.revoked_at.is_(None), grants.c.expires_at > self._database.now())
        found = [_standing(row) for row in self._database.rows(query.limit(limit))]
        return [one for one in found if not usable_only or _is_left(one)]


def usable(
    connection: Connection, service: str, environment: str, now: datetime, verifier: Verifier
) -> list[Grant]:
    """Give the grants that may still answer something of a service, oldest first; a forged one never does."""
    found = []
    for row, grant in _left(connection, service, environment, now):
        with suppress(ForbiddenError):
            verifier.check_bytes(grant.id, grant, key_id=row.key_id, signature=row.signature)
            found += [grant] if grant.id == f"GRT-{row.number}" else []
    return found


def standing(connection: Connection, incident: Incident, now: datetime) -> list[Grant]:
    """Give the grants that may still answer in an incident, oldest first; signatures are not looked at."""
    left = _left(connection, incident.service, incident.environment, now)
    return [grant for _, grant in left if grant.incident in (None, incident.id)]


def _left(
    connection: Connection, service: str, environment: str, now: datetime
) -> Iterator[tuple[Row[Any], Grant]]:
    query = select(grants).filter_by(service=service, environment=environment, revoked_at=None)
    for row in connection.execute(query.where(grants.c.expires_at > now).order_by(grants.c.number)):
        with suppress(ValidationError):  # a damaged one says yes to nothing
            one = _standing(row)
            if _is_left(one):
                yield row, one.grant


def use(connection: Connection, grant: Grant) -> None:
    """Count one more use, within the serial transaction that makes the decision.

    Raises:
        ConflictError: Nothing of it is left.
    """
    row = rows.find(connection, grants, grant.id)
    if not _is_left(_standing(row)):
        raise ConflictError(f"{grant.id} is used up")
    rows.change(connection, grants, row, used=row.used + 1)


def _is_left(standing: StandingGrant) -> bool:
    uses = standing.grant.uses
    return standing.revoked_at is None and (uses is None or standing.used < uses)


def _standing(row: Row[Any]) -> StandingGrant:
    facts = {"grant": row.content, "used": row.used}
    return StandingGrant.model_validate(facts | {"revoked_at": row.revoked_at, "revoked_by": row.revoked_by})


def _note(connection: Connection, grant: Grant, what: str, *, by: str, said: str) -> None:
    body, where = {"what": what, "grant": grant.model_dump(mode="json")}, grant.incident
    key = f"{grant.id}/{what}"
    evidence.note(connection, EvidenceKind.GRANT, key, said, incident=where, actor=by, body=body)
