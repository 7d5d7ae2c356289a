"""Who is asking: tokens, sessions, forms, and where we listen."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from contracts.approvals import ApprovalRequest
from contracts.errors import ForbiddenError, InputError
from contracts.evidence import EvidenceKind
from contracts.identities import Scope, TokenOrder
from contracts.incidents import Severity
from contracts.plans import Risk
from gateway.identity import (
    IDLE,
    SESSION,
    FreshSignInNeededError,
    Identity,
    Principal,
    Proof,
    Session,
    SignInNeededError,
    UnauthenticatedError,
    decision_form,
)
from runtime import settings as configuration
from runtime.settings import Settings
from tests.gateway.conftest import NIGHT
from tests.gateway.seed import Scene, catalogue

OIDC = {
    "identity": "oidc",
    "public_url": "https://stanch.example.com",
    "oidc_issuer": "https://id.example.com",
    "oidc_client_id": "stanch",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Give settings with a home of their own."""
    return Settings(home=tmp_path)


@pytest.fixture
def identity(settings: Settings, scene: Scene) -> Identity:
    """Give local mode."""
    return Identity(settings, scene.catalogue, scene.ledger, clock=scene.clock)


def sign_in(identity: Identity, person: str = "ada", flow: str = "flow", at: datetime = NIGHT) -> str:
    """Sign in as local mode does, and give the cookie header."""
    response = Response()
    identity.begin(request(), response, Proof(identity.person(person), (), at, {}), flow=flow)
    return response.headers["set-cookie"].partition(";")[0]


def token(scene: Scene, *scopes: Scope, person: str | None = "ada", days: int = 30) -> str:
    """Make an API token and give the header with it."""
    order = TokenOrder(name="laptop", person=person, scopes=scopes, lasts=timedelta(days=days))
    return f"Bearer {scene.ledger.tokens.create(order, by='ada')[1]}"


def request(method: str = "POST", path: str = "/", **headers: str) -> Request:
    """Give a request with these headers; underscores are dashes."""
    pairs = {"host": "127.0.0.1:8420"} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs.items()]
    return Request(
        {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": path,
            "headers": raw,
            "query_string": b"",
        }
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "gateway.example", "::"])
def test_local_mode_listens_on_loopback_only(settings: Settings, scene: Scene, host: str) -> None:
    """Where anybody could be anybody, nobody from elsewhere gets in."""
    open_to_all = settings.model_copy(update={"http_host": host})

    with pytest.raises(InputError, match=r"STANCH_HTTP_HOST=.* listens on loopback only: use 127\.0\.0\.1"):
        Identity(open_to_all, scene.catalogue, scene.ledger, clock=scene.clock)


def test_a_token_and_a_name_are_a_principal(identity: Identity, settings: Settings) -> None:
    """The right token with a person of the catalogue is that person, locally."""
    token = configuration.local_token(settings)

    principal = identity.principal(request(authorization=f"Bearer {token}", x_stanch_person="ad%61"))

    assert principal == Principal("ada", "local", signed_in_at=NIGHT)


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer wrong", "Basic {}", "{}", "Bearer {}x"])
def test_a_wrong_token(identity: Identity, settings: Settings, header: str) -> None:
    """Nothing but the exact token opens the API."""
    authorization = header.format(configuration.local_token(settings))

    with pytest.raises(UnauthenticatedError, match=r"send Authorization: Bearer <token>"):
        identity.principal(request(authorization=authorization, x_stanch_person="ada"))


def test_a_token_without_a_name(identity: Identity, settings: Settings) -> None:
    """An order needs somebody who gives it."""
    token = configuration.local_token(settings)

    with pytest.raises(UnauthenticatedError, match="say who you are: send X-Stanch-Person"):
        identity.principal(request(authorization=f"Bearer {token}"))


def test_a_name_outside_the_catalogue(identity: Identity, settings: Settings) -> None:
    """Only people of the catalogue can be anybody."""
    token = configuration.local_token(settings)

    with pytest.raises(ForbiddenError, match="'mallory' is not in the service catalogue's people"):
        identity.principal(request(authorization=f"Bearer {token}", x_stanch_person="mallory"))


def test_a_cookie_gives_no_orders(identity: Identity) -> None:
    """The API takes no order by cookie: no page can make a browser give one."""
    with pytest.raises(UnauthenticatedError):
        identity.principal(request(cookie=sign_in(identity), x_stanch_person="ada"))


def test_a_session(identity: Identity) -> None:
    """A sign-in is a session of that person, and nothing that signs in is in the cookie but chance."""
    cookie = sign_in(identity)
    session = identity.session(request(cookie=cookie))

    assert session.person.name == "Ada Lovelace"
    assert session.principal == Principal("ada", "local", signed_in_at=NIGHT)
    assert "ada" not in cookie
    assert session.secret not in repr(session)


@pytest.mark.parametrize("after", [SESSION, IDLE])
def test_a_session_ends(identity: Identity, scene: Scene, after: timedelta) -> None:
    """After eight hours, or two without an order, one signs in again."""
    cookie = sign_in(identity)
    scene.clock.at += after - timedelta(seconds=1)
    if after is SESSION:
        identity.check_form(
            request(origin=OURS),
            session := Session(identity.person("ada"), Principal("ada", "local"), NIGHT, 0, cookie[15:]),
            session.token(),
        )
    identity.session(request(cookie=cookie))
    scene.clock.at += timedelta(seconds=1)

    with pytest.raises(SignInNeededError, match="over"):
        identity.session(request(cookie=cookie))


def test_a_copied_cookie_ends_with_the_session(identity: Identity) -> None:
    """Signing out ends every copy of the cookie; another browser of the same person goes on."""
    cookie, other = sign_in(identity), sign_in(identity, flow="other")
    identity.end(identity.session(request(cookie=cookie)), Response())

    with pytest.raises(SignInNeededError):
        identity.session(request(cookie=cookie))
    assert identity.session(request(cookie=other)).person.id == "ada"


def test_a_planted_cookie(identity: Identity) -> None:
    """A sign-in has a new id, and ends the session whose cookie the browser had."""
    planted = sign_in(identity, "linus")
    response = Response()
    identity.begin(request(cookie=planted), response, Proof(identity.person("ada"), (), NIGHT, {}), flow="f")

    assert response.headers["set-cookie"].partition(";")[0] != planted
    with pytest.raises(SignInNeededError):
        identity.session(request(cookie=planted))


def test_a_forged_session(identity: Identity) -> None:
    """No byte of a session can be changed."""
    name, _, secret = sign_in(identity).partition("=")
    forged = ["", "|", "a|b|c|d", "é", secret[:-1], secret + "x", secret.swapcase()]

    for value in forged:
        with pytest.raises(SignInNeededError):
            identity.session(request(cookie=f"{name}={value}"))


def test_a_person_who_left(identity: Identity, settings: Settings, scene: Scene) -> None:
    """A session and a token end when their person is taken out of the catalogue."""
    cookie = sign_in(identity, "linus")
    bearer = token(scene, Scope.COMMAND, person="linus")
    smaller = catalogue().model_copy(update={"people": catalogue().people[:2]})
    later = Identity(settings, smaller, scene.ledger, clock=scene.clock)

    with pytest.raises(SignInNeededError, match="'linus' is not in"):
        later.session(request(cookie=cookie))
    with pytest.raises(ForbiddenError, match="'linus' is not in"):
        later.principal(request(authorization=bearer))


def test_a_session_of_the_other_mode(identity: Identity, settings: Settings, scene: Scene) -> None:
    """What proved nothing in local mode is no session once people sign in at a provider."""
    cookie = sign_in(identity)
    proven = Identity(
        settings.model_copy(update=OIDC | {"public_url": "http://127.0.0.1"}),
        scene.catalogue,
        scene.ledger,
        clock=scene.clock,
    )

    with pytest.raises(SignInNeededError, match="sign in"):
        proven.session(request(cookie=cookie))
    local = configuration.local_token(settings)
    with pytest.raises(UnauthenticatedError, match="makes one at /tokens"):
        proven.principal(request(authorization=f"Bearer {local}", x_stanch_person="ada"))


def test_the_cookie_by_https(settings: Settings, scene: Scene) -> None:
    """By https the cookie belongs to this host alone, and no script reads it."""
    identity = Identity(settings.model_copy(update=OIDC), scene.catalogue, scene.ledger, clock=scene.clock)
    response = Response()
    identity.set_cookie(response, identity.cookie, "s3cret", SESSION)

    assert response.headers["set-cookie"] == (
        "__Host-stanch=s3cret; HttpOnly; Max-Age=28800; Path=/; SameSite=lax; Secure"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"public_url": ""}, "STANCH_IDENTITY=oidc needs STANCH_PUBLIC_URL"),
        ({"oidc_issuer": ""}, "needs STANCH_OIDC_ISSUER"),
        ({"oidc_client_id": ""}, "needs STANCH_OIDC_CLIENT_ID"),
        ({"identity": "local", "public_url": ""}, "STANCH_OIDC_ISSUER is set, but STANCH_IDENTITY=local"),
        ({"identity": "local", "oidc_issuer": ""}, "only this machine may"),
    ],
)
def test_settings_that_prove_nothing(
    settings: Settings, scene: Scene, changes: dict[str, str], said: str
) -> None:
    """Half a provider, or one beside local mode, is refused at the start."""
    with pytest.raises(InputError, match=said):
        Identity(settings.model_copy(update=OIDC | changes), scene.catalogue, scene.ledger, clock=scene.clock)


def test_a_provider_opens_the_door(settings: Settings, scene: Scene) -> None:
    """Where people prove who they are, the gateway may listen for others than this machine."""
    open_to_all = settings.model_copy(update=OIDC | {"http_host": "0.0.0.0"})

    assert Identity(open_to_all, scene.catalogue, scene.ledger, clock=scene.clock).how == "oidc"


MAY: dict[Scope, set[str]] = {
    Scope.READ: set(),
    Scope.DECLARE: {"/v1/incidents"},
    Scope.COMMAND: {"/v1/incidents/INC-1/ack", "/v1/playbooks/x/plan", "/v1/whatever", "/v1/incidentsx"},
    Scope.APPROVE: {"/v1/approvals/APR-1/decision"},
    Scope.APPROVE_HIGH: {"/v1/approvals/APR-1/decision", "/v1/grants"},
    Scope.ALERTS: set(),
    Scope.ADMIN: set(),
}


@pytest.mark.parametrize("scope", list(Scope))
def test_what_a_token_may(identity: Identity, scene: Scene, scope: Scope) -> None:
    """Each scope opens its own orders and no other, and reading is one of them."""
    bearer = token(scene, scope)
    allowed = set()
    for path in set().union(*MAY.values()):
        try:
            principal = identity.principal(request("POST", path, authorization=bearer))
        except ForbiddenError:
            continue
        assert principal == Principal("ada", "token", scopes=(scope,))
        allowed.add(path)
    others: dict[Scope, Callable[[], object]] = {
        Scope.READ: lambda: identity.reader(request("GET", authorization=bearer)),
        Scope.ADMIN: lambda: identity.admin(request("GET", authorization=bearer)),
    }

    assert allowed == MAY[scope]
    for needed, ask in others.items():
        if needed is scope:
            ask()
        else:
            with pytest.raises(ForbiddenError, match=f"needs the scope {needed}"):
                ask()


def test_a_token_speaks_for_its_person(identity: Identity, scene: Scene) -> None:
    """A token cannot be used in another's name, and a machine's gives no orders."""
    bearer = token(scene, Scope.COMMAND)
    machine = token(scene, Scope.ALERTS, person=None)
    identity.principal(request(authorization=bearer, x_stanch_person="ada"))

    with pytest.raises(ForbiddenError, match="TOK-1 speaks for ada, not for 'grace'"):
        identity.principal(request(authorization=bearer, x_stanch_person="grace"))
    with pytest.raises(ForbiddenError, match="needs the scope command"):
        identity.principal(request(authorization=machine))


def test_a_token_that_is_over(identity: Identity, scene: Scene) -> None:
    """An expired and a revoked token open nothing; each attempt to order by one is evidence, once an hour."""
    expired, revoked = token(scene, Scope.COMMAND, days=1), token(scene, Scope.COMMAND)
    scene.ledger.tokens.revoke("TOK-2", by="grace")
    scene.clock.forward(days=1)

    for _ in range(3):
        for bearer, said in (
            (expired, "TOK-1 expired at 2026-03-11"),
            (revoked, "TOK-2 was revoked by grace"),
        ):
            with pytest.raises(UnauthenticatedError, match=said):
                identity.principal(request(authorization=bearer))
            with pytest.raises(UnauthenticatedError, match=said):
                identity.reader(request("GET", authorization=bearer))
    refused = [entry for entry in scene.ledger.evidence.entries() if entry.key.startswith("refused/")]
    assert [(entry.kind, entry.body["token"]) for entry in refused] == [
        (EvidenceKind.ACCESS, "TOK-1"),
        (EvidenceKind.ACCESS, "TOK-2"),
    ]


def test_looking_with_a_token_writes_nothing(identity: Identity, scene: Scene) -> None:
    """When a token was seen is known at once, and written down with the next order of any token."""
    reads, orders = token(scene, Scope.READ), token(scene, Scope.COMMAND)
    identity.reader(request("GET", authorization=reads))
    listed = scene.ledger.tokens.list()

    assert [one.used_at for one in listed] == [None, None]
    assert [identity.seen(one) for one in listed] == [None, NIGHT]
    identity.principal(request(authorization=orders))
    assert [one.used_at for one in scene.ledger.tokens.list()] == [NIGHT, NIGHT]


def test_alerts_by_token(settings: Settings, scene: Scene) -> None:
    """A sender shows the setting's token or one of the scope; in local mode without a setting nothing."""
    alerts, reads = token(scene, Scope.ALERTS, person=None), token(scene, Scope.READ, person=None)
    local = Identity(settings, scene.catalogue, scene.ledger, clock=scene.clock)
    proven = Identity(settings.model_copy(update=OIDC), scene.catalogue, scene.ledger, clock=scene.clock)

    local.check_source(request())
    proven.check_source(request(authorization=alerts))
    with pytest.raises(UnauthenticatedError, match="STANCH_ALERT_TOKEN, or an API token"):
        proven.check_source(request())
    with pytest.raises(ForbiddenError, match="needs the scope alerts"):
        proven.check_source(request(authorization=reads))


def asked(risk: Risk) -> ApprovalRequest:
    """Give a request of a risk."""
    return ApprovalRequest(
        id="APR-1",
        incident="INC-1",
        mitigation="INC-1/1",
        title="t",
        risk=risk,
        severity=Severity.SEV1,
        plan_digest="d",
        asked_at=NIGHT,
        expires_at=NIGHT,
    )


@pytest.mark.parametrize("how", ["local", "oidc"])
@pytest.mark.parametrize(
    ("age", "fresh"),
    [(timedelta(minutes=14, seconds=59), True), (timedelta(minutes=15), False), (None, False)],
)
def test_high_risk_needs_a_fresh_sign_in(
    identity: Identity, how: str, age: timedelta | None, *, fresh: bool
) -> None:
    """A person approves what risks much only soon after proving who they are."""
    principal = Principal("ada", how, signed_in_at=None if age is None else NIGHT - age)
    identity.check_may_approve(principal, asked(Risk.MEDIUM))

    if fresh:
        identity.check_may_approve(principal, asked(Risk.HIGH))
    else:
        with pytest.raises(FreshSignInNeededError, match=r"APR-1.* not older than 15 min: sign in again"):
            identity.check_may_approve(principal, asked(Risk.HIGH))


def test_high_risk_needs_a_token_for_it(identity: Identity, scene: Scene) -> None:
    """A token approves what risks much only when it was made for that; the attempt is evidence."""
    identity.check_may_approve(Principal("ada", "token", scopes=(Scope.APPROVE_HIGH,)), asked(Risk.HIGH))
    low = Principal("ada", "token", signed_in_at=NIGHT, scopes=(Scope.APPROVE,))
    identity.check_may_approve(low, asked(Risk.LOW))

    with pytest.raises(ForbiddenError, match="needs the scope approve:high"):
        identity.check_may_approve(low, asked(Risk.HIGH))
    assert scene.ledger.evidence.entries()[-1].body["approval"] == "APR-1"


OURS = "http://127.0.0.1:8420"
ORIGINS = [
    ({"sec_fetch_site": "same-origin", "origin": OURS}, True),
    ({"sec_fetch_site": "same-origin", "origin": "null"}, True),
    ({"sec_fetch_site": "same-origin"}, True),
    ({"origin": OURS}, True),
    ({}, False),
    ({"origin": "null"}, False),
    ({"origin": "http://127.0.0.1:3000"}, False),
    ({"origin": "http://evil.example"}, False),
    ({"sec_fetch_site": "same-site", "origin": OURS}, False),
    ({"sec_fetch_site": "cross-site", "origin": "null"}, False),
    ({"sec_fetch_site": "none"}, False),
    ({"sec_fetch_site": "same-origin", "origin": "http://evil.example"}, False),
]


@pytest.mark.parametrize(("headers", "taken"), ORIGINS)
def test_where_a_form_comes_from(
    identity: Identity, scene: Scene, headers: dict[str, str], *, taken: bool
) -> None:
    """A form counts only when the browser says that our own page sent it; else it is evidence."""
    session = identity.session(request(cookie=sign_in(identity)))
    mark = session.token("digest")
    before = scene.ledger.evidence.size()

    if taken:
        identity.check_form(request(**headers), session, mark, "digest")
    else:
        with pytest.raises(ForbiddenError, match="sent from another site"):
            identity.check_form(request(**headers), session, mark, "digest")
    assert scene.ledger.evidence.size() - before == (not taken)


def test_where_we_are_behind_a_proxy(settings: Settings, scene: Scene) -> None:
    """Behind a proxy the origin is the public one, whatever the request itself says."""
    identity = Identity(settings.model_copy(update=OIDC), scene.catalogue, scene.ledger, clock=scene.clock)
    identity.check_same_origin(request(origin="https://stanch.example.com", host="10.0.0.7:8420"))

    with pytest.raises(ForbiddenError):
        identity.check_same_origin(request(origin="http://10.0.0.7:8420", host="10.0.0.7:8420"))


def test_a_forms_token_is_of_one_session_and_one_decision(identity: Identity) -> None:
    """A token of another sign-in, another request, plan or verdict, or of none does not open a decision."""
    session, other = (
        identity.session(request(cookie=sign_in(identity, flow=flow))) for flow in ("one", "another")
    )
    right = decision_form("APR-1", "digest", "approve")
    wrong = [
        "",
        "é",
        session.token(),
        session.token(decision_form("APR-2", "digest", "approve")),
        session.token(decision_form("APR-1", "another digest", "approve")),
        session.token(decision_form("APR-1", "digest", "reject")),
        other.token(right),
    ]
    identity.check_form(request(origin=OURS), session, session.token(right), right)

    for mark in wrong:
        with pytest.raises(ForbiddenError, match="reload the page"):
            identity.check_form(request(origin=OURS), session, mark, right)


def test_what_nobody_known_orders_is_kept_once_an_hour(identity: Identity, scene: Scene) -> None:
    """A flood of orders without a token or session is in the log, and does not fill it; looking is not."""

    def flood() -> list[str]:
        before = scene.ledger.evidence.size()
        for number in range(20):
            with pytest.raises(UnauthenticatedError):
                identity.principal(request(path=f"/v1/approvals/APR-{number}/decision"))
            with pytest.raises(UnauthenticatedError):
                identity.reader(request("GET", f"/v1/incidents/INC-{number}"))
            with pytest.raises(SignInNeededError):
                identity.session(request(cookie=f"stanch_session={number}"))
            with pytest.raises(SignInNeededError):
                identity.session(request("GET", cookie=f"stanch_session={number}"))
        return [entry.summary for entry in scene.ledger.evidence.entries(after=before - 1)]

    first, again = flood(), flood()
    scene.clock.forward(hours=1)

    assert first == [
        "Refused to nobody known: an order (approve) came without a token that is known",
        "Refused to nobody known: a form came without a session that is known",
    ]
    assert again == []
    assert flood() == first
