"""Who is asking: tokens, sessions, forms, and where we listen."""

from datetime import timedelta
from pathlib import Path

import pytest
from starlette.requests import Request

from contracts.errors import ForbiddenError, InputError
from gateway.identity import COOKIE, Identity, SignInNeededError, UnauthenticatedError, is_loopback
from runtime import settings as configuration
from runtime.settings import Settings
from tests.gateway.conftest import NIGHT
from tests.gateway.seed import Clock, catalogue


@pytest.fixture
def clock() -> Clock:
    """Give a clock at night."""
    return Clock(NIGHT)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Give settings with a home of their own."""
    return Settings(home=tmp_path)


@pytest.fixture
def identity(settings: Settings, clock: Clock) -> Identity:
    """Give local mode."""
    return Identity(settings, catalogue(), clock=clock)


def request(**headers: str) -> Request:
    """Give a request with these headers; underscores are dashes."""
    pairs = {"host": "127.0.0.1:8420"} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs.items()]
    return Request(
        {"type": "http", "method": "POST", "scheme": "http", "path": "/", "headers": raw, "query_string": b""}
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example", False),
        ("", False),
    ],
)
def test_what_loopback_is(host: str, *, expected: bool) -> None:
    """Only this machine's own names are loopback."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "gateway.example", "::"])
def test_local_mode_listens_on_loopback_only(settings: Settings, clock: Clock, host: str) -> None:
    """Where anybody could be anybody, nobody from elsewhere gets in."""
    open_to_all = settings.model_copy(update={"http_host": host})

    with pytest.raises(InputError, match=r"STANCH_HTTP_HOST=.* listens on loopback only: use 127\.0\.0\.1"):
        Identity(open_to_all, catalogue(), clock=clock)


def test_a_token_and_a_name_are_a_principal(identity: Identity, settings: Settings) -> None:
    """The right token with a person of the catalogue is that person, locally."""
    token = configuration.local_token(settings)

    principal = identity.principal(request(authorization=f"Bearer {token}", x_stanch_person="ad%61"))

    assert (principal.person, principal.how) == ("ada", "local")


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
        identity.principal(request(cookie=f"{COOKIE}={identity.sign_in('ada')}", x_stanch_person="ada"))


def test_a_session(identity: Identity) -> None:
    """A sign-in is a session of that person."""
    session = identity.session(request(cookie=f"{COOKIE}={identity.sign_in('ada')}"))

    assert (session.person.name, session.how) == ("Ada Lovelace", "local")


def test_a_session_ends(identity: Identity, clock: Clock) -> None:
    """After eight hours one signs in again."""
    cookie = f"{COOKIE}={identity.sign_in('ada')}"
    clock.at += timedelta(hours=8)

    with pytest.raises(SignInNeededError, match="over"):
        identity.session(request(cookie=cookie))


def test_a_forged_session(identity: Identity, tmp_path: Path, clock: Clock) -> None:
    """No byte of a session can be changed, and no other installation's is taken."""
    cookie = identity.sign_in("ada")
    elsewhere = Identity(Settings(home=tmp_path / "other"), catalogue(), clock=clock).sign_in("ada")
    forged = ["", "|", "a|b|c|d", elsewhere, cookie.replace("ada", "grace"), cookie[:-1], cookie + "x"]
    forged += [
        cookie[:place] + ("A" if cookie[place] != "A" else "B") + cookie[place + 1 :]
        for place in range(len(cookie))
    ]

    for value in forged:
        with pytest.raises(SignInNeededError):
            identity.session(request(cookie=f"{COOKIE}={value}"))


def test_a_person_who_left(identity: Identity, settings: Settings, clock: Clock) -> None:
    """A session ends when its person is taken out of the catalogue."""
    cookie = f"{COOKIE}={identity.sign_in('linus')}"
    smaller = catalogue().model_copy(update={"people": catalogue().people[:2]})

    with pytest.raises(SignInNeededError, match="'linus' is not in"):
        Identity(settings, smaller, clock=clock).session(request(cookie=cookie))


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
def test_where_a_form_comes_from(identity: Identity, headers: dict[str, str], *, taken: bool) -> None:
    """A form counts only when the browser says that our own page sent it."""
    session = identity.session(request(cookie=f"{COOKIE}={identity.sign_in('ada')}"))
    token = identity.form_token(session, "digest")

    if taken:
        identity.check_form(request(**headers), session, token, "digest")
    else:
        with pytest.raises(ForbiddenError, match="sent from another site"):
            identity.check_form(request(**headers), session, token, "digest")


def test_a_forms_token_is_of_one_session_and_one_plan(identity: Identity) -> None:
    """A token of another sign-in, of another plan, or of no plan does not open a decision."""
    session, other = (
        identity.session(request(cookie=f"{COOKIE}={identity.sign_in('ada')}")) for _ in range(2)
    )
    wrong = [
        "",
        "é",
        identity.form_token(session),
        identity.form_token(session, "another digest"),
        identity.form_token(other, "digest"),
    ]

    for token in wrong:
        with pytest.raises(ForbiddenError, match="reload the page"):
            identity.check_form(request(origin=OURS), session, token, "digest")
