"""Sign-in at an OpenID Connect provider: authorization code with PKCE, state and nonce, by Authlib."""

import base64
import hmac
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from authlib.integrations.base_client import BaseApp, OAuth2Mixin, OpenIDMixin
from authlib.integrations.requests_client import OAuth2Session
from pydantic import TypeAdapter

from contracts.base import JsonObject
from contracts.catalogue import Catalogue, Person
from contracts.errors import ForbiddenError, ProviderUnavailableError, StanchError
from gateway.identity import SESSION, SIGN_IN_WITHIN, Proof, UnprovenError
from runtime.settings import SIGN_IN_CALLBACK, Settings

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "RS384", "ES384", "RS512", "ES512", "EdDSA", "Ed25519")
KEPT: Final = timedelta(hours=1)  # what the provider said of itself and its keys is asked for again then
_TIMEOUT: Final = 10  # seconds for one answer of the provider
_LEEWAY: Final = 60  # seconds that two clocks may differ
_MOST_GROUPS: Final = 500
_LONGEST: Final = 256  # characters of a group or a subject


@dataclass(frozen=True)
class Flow:
    """One sign-in while the person is at the provider; the browser alone keeps it.

    Attributes:
        after: The page to go to.
        fresh: The provider has to ask the person, even when it knows them.
    """

    state: str
    nonce: str
    verifier: str
    after: str
    fresh: bool

    def __str__(self) -> str:
        """Give it as a cookie's value."""
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode()


class _Session(OAuth2Session):  # type: ignore[misc]  # Authlib has no types
    """Asks the provider: in time, without being led elsewhere, and with nothing from the environment."""

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        self.trust_env = False  # a proxy or a .netrc there would see the client's secret
        options |= {"timeout": _TIMEOUT, "allow_redirects": False}
        response: requests.Response = super().request(method, url, **options)
        if response.is_redirect:
            raise requests.TooManyRedirects(f"{url} leads elsewhere")
        return response


class _App(OAuth2Mixin, OpenIDMixin, BaseApp):  # type: ignore[misc]  # Authlib has no types
    client_cls = _Session


class Provider:
    """The one provider that people sign in at."""

    def __init__(self, settings: Settings, catalogue: Catalogue, *, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._clock = clock
        self._redirect = f"{settings.public_url}{SIGN_IN_CALLBACK}"
        self._app: _App | None = None
        self._made_at = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Where it is, for people."""
        return urlsplit(self._settings.oidc_issuer).netloc

    def start(self, after: str, *, fresh: bool) -> tuple[Flow, str]:
        """Begin a sign-in: give what the browser keeps, and where it goes.

        Raises:
            ProviderUnavailableError: The provider does not answer.
            ForbiddenError: It is not what the settings say.
        """
        flow = Flow(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            after=after,
            fresh=fresh,
        )
        again = {"prompt": "login", "max_age": 0} if fresh else {"max_age": int(SESSION.total_seconds())}
        with self._asking():
            asked = self._application().create_authorization_url(
                self._redirect, state=flow.state, nonce=flow.nonce, code_verifier=flow.verifier, **again
            )
            return flow, str(asked["url"])

    def resume(self, cookie: str, state: str) -> Flow:
        """Read what the browser kept, and check that the provider's answer belongs to it.

        Raises:
            ForbiddenError: It does not.
        """
        try:
            flow = TypeAdapter(Flow).validate_json(base64.urlsafe_b64decode(cookie.encode()), strict=True)
            is_ours = hmac.compare_digest(flow.state.encode(), state.encode())
        except (ValueError, TypeError, AttributeError, RecursionError):
            is_ours = False
        if not is_ours:
            minutes = int(SIGN_IN_WITHIN.total_seconds() // 60)
            raise ForbiddenError(
                f"this sign-in was not begun in this browser within the last {minutes} min: begin again"
            )
        return flow

    def finish(self, flow: Flow, code: str, issuer: str) -> Proof:
        """Turn the code into the person who signed in.

        Raises:
            ProviderUnavailableError: The provider does not answer.
            UnprovenError: What it answers does not hold, or is about nobody of the catalogue.
            ForbiddenError: It does not take the code.
        """
        if issuer not in {"", self._settings.oidc_issuer}:
            raise ForbiddenError(
                f"this answer is from another identity provider than {self.name}: begin again"
            )
        app = self._application()
        with self._asking():
            token = app.fetch_access_token(self._redirect, code=code, code_verifier=flow.verifier)
        try:
            with self._asking():
                claims = self._claims(app, token, flow.nonce)
        except ForbiddenError as error:
            raise UnprovenError(str(error), {"issuer": self._settings.oidc_issuer}) from error
        return self._prove(claims, flow)

    def _claims(self, app: _App, token: dict[str, Any], nonce: str) -> dict[str, Any]:
        if not token.get("id_token"):
            raise ForbiddenError(f"{self.name} gave no ID token: begin again")
        wanted = {
            "iss": {"essential": True, "value": self._settings.oidc_issuer},
            "aud": {"essential": True, "value": self._settings.oidc_client_id},
            "nonce": {"essential": True, "value": nonce},
        }
        claims = dict(app.parse_id_token(token, nonce=nonce, claims_options=wanted, leeway=_LEEWAY))
        told = {"email", self._settings.oidc_groups_claim} <= claims.keys()
        if not told and app.load_server_metadata().get("userinfo_endpoint"):
            more = dict(app.userinfo(token=token))
            if more.get("sub") != claims["sub"]:
                raise ForbiddenError(f"{self.name} says two different things of who you are")
            claims = more | claims
        return claims

    def _prove(self, claims: dict[str, Any], flow: Flow) -> Proof:
        facts: JsonObject = {
            name: str(claims[name])[:_LONGEST]
            for name in ("iss", "sub", "email", "email_verified", "auth_time", "acr")
            if name in claims
        }
        try:
            person = person_of(self._catalogue, claims)
            signed_in_at = self._signed_in_at(claims.get("auth_time"))
            if flow.fresh:
                self._check_fresh(signed_in_at)
        except ForbiddenError as error:
            raise UnprovenError(str(error), facts) from error
        groups = _groups(claims.get(self._settings.oidc_groups_claim))
        return Proof(person, groups, signed_in_at, facts | {"groups": list(groups)})

    def _signed_in_at(self, auth_time: object) -> datetime | None:
        if not isinstance(auth_time, int) or isinstance(auth_time, bool):
            return None
        try:
            return min(datetime.fromtimestamp(auth_time, UTC), self._clock())
        except (ValueError, OverflowError, OSError):
            return None

    def _check_fresh(self, at: datetime | None) -> None:
        if at is None:
            raise ForbiddenError(
                f"{self.name} does not say when you signed in (the claim auth_time), and high risk needs that"
            )
        if self._clock() - at >= timedelta(minutes=self._settings.fresh_minutes):
            raise ForbiddenError(
                f"{self.name} did not ask you to sign in again: sign out there, and begin again"
            )

    def _application(self) -> _App:
        """Give the client, with what the provider says of itself; not older than an hour."""
        with self._lock:
            if self._app is None or self._clock() - self._made_at >= KEPT:
                with self._asking():
                    self._app = self._discover()
                self._made_at = self._clock()
            return self._app

    def _discover(self) -> _App:
        config = self._settings
        app = _App(
            None,
            client_id=config.oidc_client_id,
            client_secret=config.oidc_client_secret or None,
            server_metadata_url=f"{config.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": config.oidc_scopes,
                "code_challenge_method": "S256",
                "verify": str(config.oidc_ca) if config.oidc_ca else True,
            },
        )
        said = app.load_server_metadata()
        if said.get("issuer") != config.oidc_issuer:
            raise ForbiddenError(
                f"{config.oidc_issuer} calls itself {str(said.get('issuer'))[:_LONGEST]!r}: "
                "set STANCH_OIDC_ISSUER to what it says"
            )
        offered = said.get("id_token_signing_alg_values_supported") or ["RS256"]
        said["id_token_signing_alg_values_supported"] = [name for name in ALGORITHMS if name in offered]
        ways = said.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if config.oidc_client_secret and "client_secret_basic" not in ways:
            app.client_kwargs["token_endpoint_auth_method"] = "client_secret_post"  # noqa: S105  (a name)
        return app

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn whatever is wrong with the provider's answers into one sentence; nothing of it is believed."""
        try:
            yield
        except StanchError:
            raise
        except requests.RequestException as error:
            raise ProviderUnavailableError(
                f"the identity provider {self.name} does not answer as it should ({type(error).__name__}): "
                "try again; who has an API token can go on with that"
            ) from error
        except Exception as error:  # whatever a library says to hostile input is a refusal
            said = " ".join(str(error).split())[:_LONGEST]
            raise ForbiddenError(f"what {self.name} answered does not hold: {said}: begin again") from error


def person_of(catalogue: Catalogue, claims: dict[str, Any]) -> Person:
    """Find whom the provider speaks of: by an explicit subject, else by a verified email address.

    Raises:
        ForbiddenError: It is nobody of the catalogue.
    """
    subject, email = str(claims.get("sub", "")), str(claims.get("email", ""))
    found = None
    for person in catalogue.people:
        if person.oidc_subject is not None:
            if person.oidc_subject == subject:
                return person
        elif person.email and person.email.casefold() == email.casefold():
            found = person
    if found is None:
        raise ForbiddenError(
            f"the service catalogue has nobody with the email {email[:_LONGEST]!r} or the oidc_subject "
            f"{subject[:_LONGEST]!r}: add one of them to your entry under people"
        )
    if claims.get("email_verified") is not True:
        raise ForbiddenError(
            f"the identity provider has not verified the email {email[:_LONGEST]!r}: verify it there, or add "
            f"the oidc_subject {subject[:_LONGEST]!r} to your entry under people"
        )
    return found


def _groups(claim: object) -> tuple[str, ...]:
    listed = [claim] if isinstance(claim, str) else claim if isinstance(claim, list) else []
    groups = [group for group in listed if isinstance(group, str) and 0 < len(group) <= _LONGEST]
    return tuple(dict.fromkeys(groups))[:_MOST_GROUPS]
