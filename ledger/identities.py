"""Who may speak to us: signed-in browsers and API tokens, each kept as the SHA-256 of its secret."""

import builtins
import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, select, update

from contracts.base import Frozen, JsonObject
from contracts.errors import ForbiddenError, NotFoundError
from contracts.evidence import EvidenceKind
from contracts.identities import ApiToken, TokenOrder
from ledger import evidence, rows
from ledger.database import Stored, moment_of
from ledger.schema import api_token, session

KEPT: Final = timedelta(days=1)  # a session that is over stays so long: its sign-in cannot be used again
MOST_TOKENS: Final = 1_000  # in one listing
_TOKEN: Final = re.compile(r"stanch_([0-9a-f]{40})([0-9a-f]{8})")  # made to be found by secret scanners


class SignIn(Frozen):
    """What is known of a browser's session.

    Attributes:
        groups: As the identity provider said at the sign-in.
        signed_in_at: When the person proved who they are; ``None`` where the provider did not say.
        used_at: When it last gave an order; looking is not recorded.
    """

    person: str
    authenticated_by: str
    groups: tuple[str, ...]
    signed_in_at: datetime | None
    used_at: datetime
    expires_at: datetime


class Sessions(Stored):
    """Every browser that is signed in; ending one here ends every copy of its cookie."""

    def begin(
        self,
        *,
        flow: str,
        person: str,
        authenticated_by: str,
        groups: Iterable[str] = (),
        signed_in_at: datetime | None,
        lasts: timedelta,
        facts: JsonObject,
    ) -> str:
        """Start a session and give its secret.

        Args:
            flow: What this one sign-in began with.
            person: Whose session it is.
            authenticated_by: How we know that.
            groups: What the identity provider said of the person.
            signed_in_at: When the person proved it.
            lasts: After that it is over, whatever happens.
            facts: For the evidence.

        Raises:
            ForbiddenError: A session was started with this flow before.
        """
        secret = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            now = moment_of(connection)
            connection.execute(delete(session).where(session.c.expires_at < now - KEPT))
            if rows.one(connection, session, flow=digest(flow)) is not None:
                raise ForbiddenError("this sign-in was used before: begin a new one")
            rows.add(
                connection,
                session,
                secret=digest(secret),
                flow=digest(flow),
                person=person,
                authenticated_by=authenticated_by,
                groups=list(groups),
                signed_in_at=signed_in_at,
                created_at=now,
                used_at=now,
                expires_at=now + lasts,
            )
            said = f"{person} signs in by {authenticated_by}"
            _note(connection, f"signin/{digest(flow)}", person, said, facts)
        return secret

    def find(self, secret: str) -> SignIn | None:
        """Give a session that was not ended; whether it is over by time is for the caller to say."""
        with self._database.read() as connection:
            row = rows.one(connection, session, secret=digest(secret), revoked_at=None)
        return None if row is None else SignIn.model_validate(row._asdict())

    def use(self, secret: str) -> None:
        """Note that it gave an order now."""
        values = {"used_at": self._database.now()}
        with self._database.write(serial=False) as connection:
            connection.execute(update(session).filter_by(secret=digest(secret)).values(values))

    def end(self, secret: str) -> None:
        """End it, if it is not over already."""
        with self._database.write() as connection:
            row = rows.one(connection, session, secret=digest(secret), revoked_at=None)
            if row is not None:
                rows.change(connection, session, row, revoked_at=moment_of(connection))
                _note(connection, f"signout/{digest(secret)}", row.person, f"{row.person} signs out")


class Tokens(Stored):
    """Every API token, revoked and expired ones included."""

    def create(self, order: TokenOrder, *, by: str) -> tuple[ApiToken, str]:
        """Make a token, and give it with its secret: nobody can read that again."""
        random = secrets.token_hex(20)
        secret = f"stanch_{random}{_checksum(random)}"
        with self._database.write() as connection:
            now = moment_of(connection)
            row = rows.add(
                connection,
                api_token,
                secret=digest(secret),
                name=order.name,
                person=order.person,
                scopes=sorted(set(order.scopes)),
                created_by=by,
                created_at=now,
                expires_at=now + order.lasts,
            )
            token = _token(row)
            said = f"{by} makes {token.id} ({token.name}) for {token.person or 'a machine'}"
            said, facts = f"{said}: {', '.join(token.scopes)}", token.model_dump(mode="json")
            _note(connection, f"{token.id}/created", by, said, facts)
        return token, secret

    def find(self, secret: str) -> ApiToken | None:
        """Give the token with this secret, whatever became of it."""
        if not is_token(secret):
            return None
        with self._database.read() as connection:
            row = rows.one(connection, api_token, secret=digest(secret))
        # The database compares digests, which say nothing of how much of a guess was right.
        if row is None or not hmac.compare_digest(row.secret, digest(secret)):
            return None
        return _token(row)

    def list(self, person: str | None = None) -> builtins.list[ApiToken]:
        """Give the tokens of one person or all of them, the newest first."""
        query = select(api_token).order_by(api_token.c.number.desc()).limit(MOST_TOKENS)
        return [_token(row) for row in self._database.rows(query.filter_by(**rows.given(person=person)))]

    def revoke(self, token: str, *, by: str, of: str | None = None) -> ApiToken:
        """End a token at once; again changes nothing.

        Args:
            token: Its id, ``TOK-3``.
            by: Who ends it.
            of: Only if it is this person's.

        Raises:
            NotFoundError: There is none with this id, or it is somebody else's.
        """
        with self._database.write() as connection:
            row = rows.find(connection, api_token, token)
            if of not in (None, row.person):
                raise NotFoundError(f"{token}: not found")
            if row.revoked_at is None:
                row = rows.change(connection, api_token, row, revoked_at=moment_of(connection), revoked_by=by)
                _note(connection, f"{token}/revoked", by, f"{by} revokes {token} ({row.name})")
            return _token(row)

    def used(self, seen: Mapping[str, datetime]) -> None:
        """Note when tokens were last seen, by id."""
        with self._database.write(serial=False) as connection:
            for token, at in seen.items():
                used = update(api_token).filter_by(number=rows.number_of(api_token, token))
                connection.execute(used.values(used_at=at))


def is_token(text: str) -> bool:
    """Say whether a text can be one of our tokens: its checksum holds."""
    found = _TOKEN.fullmatch(text)
    return found is not None and _checksum(found[1]) == found[2]


def digest(secret: str) -> str:
    """Give what is stored of a secret; ours are random and long, so no slow hash is needed."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _checksum(random: str) -> str:
    return f"{zlib.crc32(random.encode()):08x}"


def _note(
    connection: Connection, key: str, who: str, said: str, facts: Mapping[str, Any] | None = None
) -> None:
    evidence.note(connection, EvidenceKind.ACCESS, key, said, incident=None, actor=who, body=facts)


def _token(row: Row[Any]) -> ApiToken:
    return ApiToken.model_validate(rows.facts(api_token, row))
