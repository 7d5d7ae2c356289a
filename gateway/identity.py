"""Who is asking. Local mode is the only one: whoever reaches the port may be anybody; for evaluation only."""

import base64
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import unquote

from starlette.requests import HTTPConnection

from contracts.catalogue import Catalogue, Person
from contracts.errors import ForbiddenError, InputError, StanchError
from runtime import settings as configuration
from runtime.settings import Settings

HOW: Final = "local"
COOKIE: Final = "stanch_session"
SESSION: Final = timedelta(hours=8)
PERSON_HEADER: Final = "X-Stanch-Person"


class UnauthenticatedError(StanchError):
    """Nobody has said who is asking; the message says how to."""


class SignInNeededError(StanchError):
    """A page needs a session: the browser is sent to the sign-in page."""


@dataclass(frozen=True)
class Principal:
    """A person of the catalogue, and how we know that it is that person.

    Attributes:
        how: ``local``: an evaluation sign-in that proves nothing.
    """

    person: str
    how: str


@dataclass(frozen=True)
class Session:
    """A signed-in browser.

    Attributes:
        nonce: Of this sign-in alone; the tokens of its forms are made from it.
    """

    person: Person
    how: str
    nonce: str


def is_loopback(host: str) -> bool:
    """Say whether a host name or address, without a port, is this machine and nothing else."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def host_of(connection: HTTPConnection) -> str:
    """Give the name that the client used for us, without the port."""
    host = connection.headers.get("host", "")
    return host[: host.rindex("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]


class Identity:
    """Local mode: an API token in a file of the home, and sign-in by choosing a name.

    Raises:
        InputError: The settings would let others than this machine reach it.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue, *, clock: Callable[[], datetime]) -> None:
        if not is_loopback(settings.http_host):
            raise InputError(
                f"STANCH_HTTP_HOST={settings.http_host}: with STANCH_IDENTITY=local whoever reaches the port "
                "may be anybody, so it listens on loopback only: use 127.0.0.1, and a tunnel from elsewhere"
            )
        self._token = configuration.local_token(settings).encode()
        self._key = hmac.digest(self._token, b"stanch console session, version 1", "sha256")
        self._catalogue = catalogue
        self._clock = clock

    @property
    def people(self) -> tuple[Person, ...]:
        """Everybody who may sign in."""
        return self._catalogue.people

    def person(self, person: str) -> Person:
        """Find a person.

        Raises:
            ForbiddenError: The catalogue has nobody of that id.
        """
        for known in self._catalogue.people:
            if known.id == person:
                return known
        raise ForbiddenError(
            f"{person[:64]!r} is not in the service catalogue's people: use an id from there, or add one"
        )

    def reader(self, connection: HTTPConnection) -> None:
        """Check that the API may be read: with the token, or by a signed-in browser.

        Raises:
            UnauthenticatedError: Neither is there.
        """
        if COOKIE not in connection.cookies or "authorization" in connection.headers:
            self._check_token(connection)
            return
        try:
            self.session(connection)
        except SignInNeededError as error:
            raise UnauthenticatedError(str(error)) from error

    def principal(self, connection: HTTPConnection) -> Principal:
        """Say who gives an order through the API: never by cookie, so no other page can make a browser do it.

        Raises:
            UnauthenticatedError: The token is missing or wrong, or nobody is named.
            ForbiddenError: The named person is not in the catalogue.
        """
        self._check_token(connection)
        person = unquote(connection.headers.get(PERSON_HEADER, ""))
        if not person:
            raise UnauthenticatedError(
                f"say who you are: send {PERSON_HEADER} with an id from the catalogue's people"
            )
        return Principal(person=self.person(person).id, how=HOW)

    def sign_in(self, person: str) -> str:
        """Give the session cookie's value for a person.

        Raises:
            ForbiddenError: The catalogue has nobody of that id.
        """
        expires = int((self._clock() + SESSION).timestamp())
        content = f"{self.person(person).id}|{expires}|{secrets.token_urlsafe(16)}"
        return f"{content}|{self._sign('session', content)}"

    def session(self, connection: HTTPConnection) -> Session:
        """Give the session of a page's request.

        Raises:
            SignInNeededError: There is none, it is over, or the person is no longer in the catalogue.
        """
        content, _, signature = connection.cookies.get(COOKIE, "").rpartition("|")
        if not hmac.compare_digest(signature.encode(), self._sign("session", content).encode()):
            raise SignInNeededError("sign in to see this")
        person, expires, nonce = content.split("|")
        if self._clock() >= datetime.fromtimestamp(int(expires), UTC):
            raise SignInNeededError("your session is over: sign in again")
        try:
            return Session(person=self.person(person), how=HOW, nonce=nonce)
        except ForbiddenError as error:
            raise SignInNeededError(str(error)) from error

    def form_token(self, session: Session, about: str = "") -> str:
        """Give the token that a form carries: of this session, and for a decision of the plan's digest."""
        return self._sign("form", f"{session.nonce}|{about}")

    def check_form(self, connection: HTTPConnection, session: Session, token: str, about: str = "") -> None:
        """Check that a form was sent by our own page, in this session, about this plan.

        Raises:
            ForbiddenError: It was not.
        """
        check_same_origin(connection)
        if not hmac.compare_digest(token.encode(), self.form_token(session, about).encode()):
            raise ForbiddenError(
                "this form was not made for your session and what it shows: reload the page and look again"
            )

    def _check_token(self, connection: HTTPConnection) -> None:
        if not has_bearer(connection, self._token):
            raise UnauthenticatedError(
                "send Authorization: Bearer <token>; the token is in the file local.token of Stanch's home"
            )

    def _sign(self, purpose: str, content: str) -> str:
        mark = hmac.digest(self._key, f"{purpose}|{content}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(mark).decode().rstrip("=")


def has_bearer(connection: HTTPConnection, token: bytes) -> bool:
    """Say, in constant time, whether a request carries this bearer token."""
    scheme, _, sent = connection.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(sent.strip().encode(), token)
    return same and scheme.lower() == "bearer"


def check_same_origin(connection: HTTPConnection) -> None:
    """Check that a browser sent this from one of our own pages.

    The Origin is ``null`` on forms of a page with ``Referrer-Policy: no-referrer``, as ours are; then the
    browser has to say by ``Sec-Fetch-Site`` where it came from.

    Raises:
        ForbiddenError: It came from elsewhere, or the browser does not say.
    """
    origin = connection.headers.get("origin", "null")
    site = connection.headers.get("sec-fetch-site")
    ours = f"{connection.url.scheme}://{connection.headers.get('host', '')}"
    if (
        site not in {None, "same-origin"}
        or origin not in {"null", ours}
        or (site is None and origin == "null")
    ):
        raise ForbiddenError(
            "this form was sent from another site or by a program: use the page itself, or the API"
        )
