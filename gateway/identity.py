"""Who is asking: a browser's session, an API token, or local mode's own token."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import unquote

from starlette.requests import HTTPConnection
from starlette.responses import Response

from contracts.approvals import ApprovalRequest
from contracts.base import JsonObject
from contracts.catalogue import Catalogue, Person
from contracts.errors import ForbiddenError, StanchError
from contracts.evidence import EvidenceKind
from contracts.identities import ApiToken, Scope
from contracts.plans import Risk
from ledger import Ledger
from ledger.identities import digest
from runtime import settings as configuration
from runtime.settings import Settings

LOCAL: Final = "local"
OIDC: Final = "oidc"
TOKEN: Final = "token"  # noqa: S105  (a word)
SESSION: Final = timedelta(hours=8)
IDLE: Final = timedelta(hours=2)  # since the last order: looking writes nothing
SIGN_IN_WITHIN: Final = timedelta(minutes=10)  # one that takes longer begins anew
NOTED: Final = timedelta(minutes=1)  # how exact the time of a last use is
PERSON_HEADER: Final = "X-Stanch-Person"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# What an order's path needs of a token. The first that fits counts; whatever is not named needs ``command``.
_SCOPES: Final = (
    ("/v1/incidents", Scope.DECLARE),
    ("/v1/approvals/*", Scope.APPROVE),
    ("/v1/grants", Scope.APPROVE_HIGH),
)

_OWN_TOKEN: Final = {
    LOCAL: "; the token is in the file local.token of Stanch's home, or an API token",
    OIDC: "; an API token of yours: the console makes one at /tokens",
}


class UnauthenticatedError(StanchError):
    """Nobody has said who is asking; the message says how to."""


class SignInNeededError(StanchError):
    """A page needs a session: the browser is sent to the sign-in page."""


class FreshSignInNeededError(ForbiddenError):
    """The sign-in is too old for this: the browser is sent to sign in again."""


class UnprovenError(ForbiddenError):
    """The identity provider answered, and it does not prove that somebody of the catalogue asks.

    Attributes:
        facts: What it said, for the evidence.
    """

    def __init__(self, message: str, facts: JsonObject) -> None:
        super().__init__(message)
        self.facts = facts


@dataclass(frozen=True)
class Principal:
    """A person of the catalogue, and how we know that it is that person.

    Attributes:
        authenticated_by: ``oidc``; ``token``, an API token; or ``local``, which proves nothing.
        groups: As the identity provider said at the sign-in; empty for the other two.
        signed_in_at: When the person proved it; ``None`` where nobody said so.
        scopes: What the API token may do; empty for the other two.
    """

    person: str
    authenticated_by: str
    groups: tuple[str, ...] = ()
    signed_in_at: datetime | None = None
    scopes: tuple[Scope, ...] = ()


@dataclass(frozen=True)
class Proof:
    """Who signs in, as the provider's signed token says, or as they say themselves in local mode.

    Attributes:
        signed_in_at: When they proved it to the provider; ``None`` where it does not say.
        facts: For the evidence.
    """

    person: Person
    groups: tuple[str, ...]
    signed_in_at: datetime | None
    facts: JsonObject


@dataclass(frozen=True)
class Session:
    """A signed-in browser.

    Attributes:
        last: The evidence log's last entry before anything was read for it: what is later comes as an event.
        secret: What its cookie holds; the tokens of its forms are made with it.
    """

    person: Person
    principal: Principal
    used_at: datetime
    last: int
    secret: str = field(repr=False)

    def token(self, about: str = "") -> str:
        """Give the token that a form carries: of this session, and for a decision of what is decided how."""
        return hmac.digest(self.secret.encode(), f"form|{about}".encode(), "sha256").hex()


def host_of(connection: HTTPConnection) -> str:
    """Give the name that the client used for us, without the port."""
    host = connection.headers.get("host", "")
    return host[: host.rindex("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]


class Identity:
    """Knows everybody who asks, and refuses the rest; what it refuses to somebody known is evidence.

    Attributes:
        how: By which way people sign in: ``oidc`` or ``local``.
        cookie: The name of the session's cookie.
        people: Everybody who may sign in.
        now: Gives the time by which sessions and tokens end.

    Raises:
        InputError: The settings would let others than this machine reach local mode, or name a provider
            that cannot be trusted.
    """

    def __init__(
        self, settings: Settings, catalogue: Catalogue, ledger: Ledger, *, clock: Callable[[], datetime]
    ) -> None:
        configuration.check_identity(settings)
        self.how = settings.identity
        self.fresh_within = timedelta(minutes=settings.fresh_minutes)
        self._local_token = configuration.local_token(settings).encode() if self.how == LOCAL else b""
        self._alert_token = settings.alert_token.encode()
        self._origin = settings.public_url
        # Browsers reach us by https, so that cookies may insist on it; they take the prefix only then.
        self.is_secure = self._origin.startswith("https:")
        self.cookie = "__Host-stanch" if self.is_secure else "stanch_session"
        self.people = catalogue.people
        self.now = clock
        self._ledger = ledger
        self._seen: dict[str, datetime] = {}
        self._noted: set[str] = set()

    def person(self, person: str) -> Person:
        """Find a person.

        Raises:
            ForbiddenError: The catalogue has nobody of that id.
        """
        for known in self.people:
            if known.id == person:
                return known
        raise ForbiddenError(
            f"{person[:64]!r} is not in the service catalogue's people: use an id from there, or add one"
        )

    def reader(self, connection: HTTPConnection) -> None:
        """Check that the API may be read: with a token, or by a signed-in browser.

        Raises:
            UnauthenticatedError: Neither is there.
            ForbiddenError: The token may not read.
        """
        if self.cookie not in connection.cookies or "authorization" in connection.headers:
            self._authorize(connection, Scope.READ)
            return
        try:
            self.session(connection)
        except SignInNeededError as error:
            raise UnauthenticatedError(str(error)) from error

    def principal(self, connection: HTTPConnection) -> Principal:
        """Say who gives an order through the API: never by cookie, so no other page can make a browser do it.

        Raises:
            UnauthenticatedError: The token is missing or wrong, or nobody is named.
            ForbiddenError: The person is not in the catalogue, or the token may not do this.
        """
        path = connection.url.path
        scope = next((scope for of, scope in _SCOPES if fnmatchcase(path, of)), Scope.COMMAND)
        token = self._authorize(connection, scope)
        named = unquote(connection.headers.get(PERSON_HEADER, ""))
        if token is None:
            if not named:
                raise UnauthenticatedError(
                    f"say who you are: send {PERSON_HEADER} with an id from the catalogue's people"
                )
            try:
                person = self.person(named)
            except ForbiddenError:
                self._refused_to_nobody(connection, "an order came for somebody who is not in the catalogue")
                raise
            return Principal(person.id, LOCAL, signed_in_at=self.now())
        if token.person is None or named not in {"", token.person}:
            refusal = (
                f"{token.id} ({token.name}) is a machine's: only a person gives orders"
                if token.person is None
                else f"{token.id} speaks for {token.person}, not for {named[:64]!r}"
            )
            self.refused(f"{token.id}/person/{self._hour()}", token.id, refusal, {"path": path[:200]})
            raise ForbiddenError(refusal)
        return Principal(self.person(token.person).id, TOKEN, scopes=token.scopes)

    def admin(self, connection: HTTPConnection) -> str:
        """Say who looks after everybody's tokens.

        Raises:
            UnauthenticatedError: The token is missing or wrong.
            ForbiddenError: It may not do this.
        """
        token = self._authorize(connection, Scope.ADMIN)
        return (token.person or token.id) if token else "operator"

    def check_source(self, connection: HTTPConnection) -> None:
        """Check that a sender may deliver alerts.

        Raises:
            UnauthenticatedError: Its token is missing or wrong.
            ForbiddenError: Its token may not do this.
        """
        if self._alert_token and has_bearer(connection, self._alert_token):
            return
        if self._alert_token or self.how != LOCAL:
            wanted = "the value of STANCH_ALERT_TOKEN, or an API token of the scope alerts"
            self._authorize(connection, Scope.ALERTS, wanted)

    def begin(self, connection: HTTPConnection, response: Response, proof: Proof, *, flow: str) -> None:
        """Start a session with a new id, end the one that the browser had, and give the browser its cookie.

        Raises:
            ForbiddenError: A session was started with this flow before.
        """
        secret = self._ledger.sessions.begin(
            flow=flow,
            person=proof.person.id,
            authenticated_by=self.how,
            groups=proof.groups,
            signed_in_at=proof.signed_in_at,
            lasts=SESSION,
            facts=proof.facts,
        )
        if self.cookie in connection.cookies:
            self._ledger.sessions.end(connection.cookies[self.cookie])
        self.set_cookie(response, self.cookie, secret, SESSION)

    def end(self, session: Session, response: Response) -> None:
        """End a session, and with it every copy of its cookie."""
        self._ledger.sessions.end(session.secret)
        self.set_cookie(response, self.cookie, "", timedelta(0))

    def set_cookie(self, response: Response, name: str, value: str, lasts: timedelta) -> None:
        """Give the browser a cookie that no script reads and no other site's form sends."""
        response.set_cookie(
            name,
            value,
            max_age=int(lasts.total_seconds()),
            path="/",
            secure=self.is_secure,
            httponly=True,
            samesite="lax",
        )

    def session(self, connection: HTTPConnection) -> Session:
        """Give the session of a page's request.

        Raises:
            SignInNeededError: There is none, it is over, or the person is no longer in the catalogue.
        """
        secret = connection.cookies.get(self.cookie, "")
        found = self._ledger.sessions.find(secret) if secret else None
        if found is None or found.authenticated_by != self.how:
            self._refused_to_nobody(connection, "a form came without a session that is known")
            raise SignInNeededError("sign in to see this")
        now = self.now()
        if now >= found.expires_at or now >= found.used_at + IDLE:
            self._refused_to_nobody(connection, "a form came in a session that is over")
            raise SignInNeededError("your session is over: sign in again")
        try:
            person = self.person(found.person)
        except ForbiddenError as error:
            raise SignInNeededError(str(error)) from error
        principal = Principal(person.id, self.how, found.groups, found.signed_in_at)
        return Session(person, principal, found.used_at, self._ledger.evidence.size() - 1, secret)

    def check_form(self, connection: HTTPConnection, session: Session, token: str, about: str = "") -> None:
        """Check that a form was sent by our own page, in this session, about this.

        Raises:
            ForbiddenError: It was not; the attempt is evidence.
        """
        try:
            self._check_ours(connection, session, token, about)
        except ForbiddenError as error:
            attempt = digest(f"{session.secret}|{connection.url.path}|{token}|{about}")[:32]
            facts: JsonObject = {"path": connection.url.path[:200], "about": about[:500]}
            self.refused(f"form/{attempt}", session.person.id, str(error), facts)
            raise
        if self.now() - session.used_at >= NOTED:
            self._ledger.sessions.use(session.secret)

    def _check_ours(self, connection: HTTPConnection, session: Session, token: str, about: str) -> None:
        self.check_same_origin(connection)
        if not hmac.compare_digest(token.encode(), session.token(about).encode()):
            raise ForbiddenError(
                "this form was not made for your session and what it shows: reload the page and look again"
            )

    def check_same_origin(self, connection: HTTPConnection) -> None:
        """Check that a browser sent this from one of our own pages.

        The Origin is ``null`` on forms of a page with ``Referrer-Policy: no-referrer``, as ours are; then the
        browser has to say by ``Sec-Fetch-Site`` where it came from.

        Raises:
            ForbiddenError: It came from elsewhere, or the browser does not say.
        """
        origin = connection.headers.get("origin", "null")
        site = connection.headers.get("sec-fetch-site")
        ours = self._origin or f"{connection.url.scheme}://{connection.headers.get('host', '')}"
        if (
            site not in {None, "same-origin"}
            or origin not in {"null", ours}
            or (site is None and origin == "null")
        ):
            raise ForbiddenError(
                "this form was sent from another site or by a program: use the page itself, or the API"
            )

    def is_fresh(self, principal: Principal) -> bool:
        """Say whether a person's sign-in is new enough for what risks much."""
        at = principal.signed_in_at
        return at is not None and self.now() - at < self.fresh_within

    def check_fresh(self, principal: Principal, what: str) -> None:
        """Check that a person has signed in lately.

        Raises:
            FreshSignInNeededError: Not lately enough; the attempt is evidence.
        """
        if not self.is_fresh(principal):
            minutes = int(self.fresh_within.total_seconds() // 60)
            refusal = f"{what} needs a sign-in that is not older than {minutes} min: sign in again"
            key = f"stale/{principal.person}/{self._hour()}/{what}"
            self.refused(key, principal.person, refusal, {})
            raise FreshSignInNeededError(refusal)

    def check_may_approve(self, principal: Principal, request: ApprovalRequest) -> None:
        """Check that what is known of this person is enough for a plan of this risk.

        Raises:
            FreshSignInNeededError: The risk is high and the sign-in is old.
            ForbiddenError: The risk is high and the API token is not for that; the attempt is evidence.
        """
        if request.risk is not Risk.HIGH:
            return
        if principal.authenticated_by != TOKEN:
            self.check_fresh(principal, f"approving {request.id}, which is of high risk,")
        elif Scope.APPROVE_HIGH not in principal.scopes:
            refusal = (
                f"{request.id} is of high risk: to approve it an API token needs the scope "
                f"{Scope.APPROVE_HIGH}; or use the console"
            )
            key = f"{request.id}/token/{principal.person}/{self._hour()}"
            self.refused(key, principal.person, refusal, {"approval": request.id})
            raise ForbiddenError(refusal)

    def refused(
        self,
        key: str,
        actor: str,
        refusal: str,
        facts: JsonObject,
        *,
        kind: EvidenceKind = EvidenceKind.ACCESS,
    ) -> None:
        """Keep in the log what was refused to somebody; the same again is kept once."""
        said, body = f"Refused to {actor}: {refusal}", {"refusal": refusal} | facts
        self._ledger.evidence.note(kind, f"refused/{key}", said, incident=None, actor=actor, body=body)

    def _refused_to_nobody(self, connection: HTTPConnection, what: str) -> None:
        """Keep the first of an hour that somebody unknown ordered: a flood of them does not fill the log."""
        hour = self._hour()
        key = f"nobody/{digest(what)[:16]}/{hour}"
        if connection.scope.get("method") not in SAFE_METHODS and key not in self._noted:
            self.refused(key, "nobody known", what, {"path": connection.url.path[:200]})
            self._noted = {one for one in self._noted if one.endswith(hour)} | {key}

    def _hour(self) -> str:
        return f"{self.now():%Y-%m-%dT%H}"

    def seen(self, token: ApiToken) -> datetime | None:
        """Say when a token was last used, as far as this process or the ledger knows."""
        return self._seen.get(token.id) or token.used_at

    def note_seen(self) -> None:
        """Write down when tokens were last used."""
        seen, self._seen = self._seen, {}
        if seen:
            self._ledger.tokens.used(seen)

    def _authorize(self, connection: HTTPConnection, scope: Scope, wanted: str = "") -> ApiToken | None:
        """Give the API token that allows this; ``None`` for local mode's token, which allows everything."""
        if self._local_token and has_bearer(connection, self._local_token):
            return None
        token = self._ledger.tokens.find(_bearer(connection))
        if token is None:
            if scope is not Scope.ALERTS:  # nothing is kept of what a stranger delivers
                self._refused_to_nobody(connection, f"an order ({scope}) came without a token that is known")
            wanted = wanted and f" with {wanted}"
            raise UnauthenticatedError(f"send Authorization: Bearer <token>{wanted or _OWN_TOKEN[self.how]}")
        now, is_order = self.now(), connection.scope["method"] not in SAFE_METHODS
        error = _wrong_with(token, scope, now)
        if error and is_order:
            key = f"{token.id}/{scope}/{type(error).__name__}/{self._hour()}"
            facts: JsonObject = {"token": token.id, "scope": scope, "path": connection.url.path[:200]}
            self.refused(key, token.person or token.id, str(error), facts)
        if error:
            raise error
        if token.used_at is None or now - token.used_at >= NOTED:
            self._seen[token.id] = now
            if is_order:
                self.note_seen()
        return token


def decision_form(approval: str, plan_digest: str, verdict: str) -> str:
    """Give what the token of a decision's form is bound to, besides the session."""
    return f"{approval}|{plan_digest}|{verdict}"


def allows(scopes: tuple[Scope, ...], scope: Scope) -> bool:
    """Say whether a token with these scopes may do this: who may approve what risks much may approve."""
    return scope in scopes or (scope is Scope.APPROVE and Scope.APPROVE_HIGH in scopes)


def _wrong_with(token: ApiToken, scope: Scope, now: datetime) -> StanchError | None:
    if token.revoked_at:
        return UnauthenticatedError(f"{token.id} was revoked by {token.revoked_by}: use another API token")
    if now >= token.expires_at:
        return UnauthenticatedError(f"{token.id} expired at {token.expires_at.isoformat()}: make another")
    if not allows(token.scopes, scope):
        said = f"may {', '.join(token.scopes)}, and this needs the scope {scope}: use another one"
        return ForbiddenError(f"{token.id} ({token.name}) {said}")
    return None


def has_bearer(connection: HTTPConnection, token: bytes) -> bool:
    """Say, in constant time, whether a request carries this bearer token."""
    return hmac.compare_digest(_bearer(connection).encode(), token)


def _bearer(connection: HTTPConnection) -> str:
    scheme, _, sent = connection.headers.get("authorization", "").partition(" ")
    return sent.strip() if scheme.lower() == "bearer" else ""
