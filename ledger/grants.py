"""Standing grants: given and revoked by people, used up by plans, each use with the decision that it made."""

import base64
import builtins
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, insert, select, update

from authority.decisions import Signer, Verifier
from authority.seals import canonical
from contracts.approvals import Envelope, Grant, StandingGrant
from contracts.errors import ConflictError, ForbiddenError, InputError, NotFoundError
from contracts.evidence import Evidence, EvidenceKind
from ledger import evidence, incidents, ladders
from ledger.database import Database
from ledger.schema import standing_grant as grants
from ledger.storable import one_line

LONGEST = timedelta(days=90)


class Grants:
    """All standing grants; whether a person may give one is for the policy to say, before."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
            InputError: It ends in the past, or later than 90 days from now, or waits a negative time.
        """
        with self._database.write() as connection:
            now = self._database.now()
            if not now < expires_at <= now + LONGEST or after < timedelta():
                raise InputError(f"a grant ends at some time from now until {LONGEST.days} days ahead")
            scope = {"service": service, "environment": environment}
            blank = {"content": {}, "key_id": "", "signature": "", "expires_at": expires_at, "used": 0}
            fresh = insert(grants).values(scope | blank).returning(grants.c.number)
            number = connection.execute(fresh).scalar_one()
            grant = Grant(
                id=f"GRT-{number}",
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
            signature = base64.b64encode(signer.sign_bytes(canonical(grant))).decode()
            values = {"content": content, "key_id": signer.key_id, "signature": signature}
            connection.execute(update(grants).where(grants.c.number == number).values(values))
            what = f"{', '.join(envelope.actions)} on {', '.join(envelope.targets)}"
            said = f"{person} gives {grant.id} until {expires_at:%Y-%m-%d %H:%M}Z: {what} ({reason})"
            evidence.append(connection, _entry(grant, "given", person, now, said))
            whom = ["incident_commander", "on_call"] if incident else [ladders.EVERYBODY]
            ladders.tell(connection, self._database.now, incident, whom, said, key=f"{grant.id}/given")
            return StandingGrant(grant=grant)

    def revoke(self, grant: str, *, person: str, reason: str) -> StandingGrant:
        """Revoke one; what already runs under it goes on. Again changes nothing.

        Raises:
            NotFoundError: There is none with this id.
        """
        with self._database.write() as connection:
            row = _find(connection, grant)
            found = _standing(row)
            if found.revoked_at is not None:
                return found
            now = self._database.now()
            values = {"revoked_at": now, "revoked_by": person}
            connection.execute(update(grants).where(grants.c.number == row.number).values(values))
            said = f"{person} revokes {grant}: {reason}"
            evidence.append(connection, _entry(found.grant, "revoked", person, now, said))
            return found.model_copy(update=values)

    def get(self, grant: str) -> StandingGrant:
        """Give one.

        Raises:
            NotFoundError: There is none with this id.
        """
        with self._database.read() as connection:
            return _standing(_find(connection, grant))

    def list(self, *, usable_only: bool = False, limit: int = 100) -> builtins.list[StandingGrant]:
        """Give grants, the newest first."""
        query = select(grants).order_by(grants.c.number.desc())
        if usable_only:
            query = query.where(grants.c.revoked_at.is_(None), grants.c.expires_at > self._database.now())
        with self._database.read() as connection:
            found = [_standing(row) for row in connection.execute(query.limit(limit))]
        return [one for one in found if not usable_only or _is_left(one)]


def usable(
    connection: Connection, service: str, environment: str, now: datetime, verifier: Verifier
) -> list[Grant]:
    """Give the grants that may still answer something of a service, oldest first; a forged one never does."""
    query = select(grants).where(
        grants.c.service == service,
        grants.c.environment == environment,
        grants.c.revoked_at.is_(None),
        grants.c.expires_at > now,
    )
    found = []
    for row in connection.execute(query.order_by(grants.c.number)):
        try:
            standing = _standing(row)
            grant = standing.grant
            verifier.check_bytes(grant.id, grant, key_id=row.key_id, signature=row.signature)
        except (ForbiddenError, ValidationError):
            continue
        if _is_left(standing) and grant.id == f"GRT-{row.number}":
            found.append(grant)
    return found


def use(connection: Connection, grant: Grant) -> None:
    """Count one more use, within the serial transaction that makes the decision.

    Raises:
        ConflictError: Nothing of it is left.
    """
    row = _find(connection, grant.id)
    if not _is_left(_standing(row)):
        raise ConflictError(f"{grant.id} is used up")
    connection.execute(update(grants).where(grants.c.number == row.number).values(used=row.used + 1))


def _is_left(standing: StandingGrant) -> bool:
    uses = standing.grant.uses
    return standing.revoked_at is None and (uses is None or standing.used < uses)


def _find(connection: Connection, grant: str) -> Row[Any]:
    query = select(grants).where(grants.c.number == incidents.number_of(grant, "GRT"))
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"{grant}: not found")
    return row


def _standing(row: Row[Any]) -> StandingGrant:
    facts = {"grant": row.content, "used": row.used}
    return StandingGrant.model_validate(facts | {"revoked_at": row.revoked_at, "revoked_by": row.revoked_by})


def _entry(grant: Grant, what: str, person: str, at: datetime, summary: str) -> Evidence:
    return Evidence(
        key=f"{grant.id}/{what}",
        kind=EvidenceKind.GRANT,
        incident=grant.incident,
        actor=person,
        at=at,
        summary=one_line(summary),
        body={"what": what, "grant": grant.model_dump(mode="json")},
    )
