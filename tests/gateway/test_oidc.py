"""Sign-in at a provider: what proves who somebody is, and every lie that does not."""

import base64
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey

from contracts.catalogue import Catalogue, Person, Team
from contracts.errors import ForbiddenError
from contracts.evidence import EvidenceKind
from contracts.incidents import Role
from contracts.plans import Needs, Risk
from gateway import signin
from gateway.oidc import person_of
from runtime.settings import Settings
from tests.gateway.conftest import Door
from tests.gateway.issuer import CLIENT, SECRET, Issuer, issuer
from tests.gateway.seed import Scene, plan
from tests.gateway.test_console import look, send
from tests.gateway.test_console_authority import ask, words

OURS = {"Sec-Fetch-Site": "same-origin", "Origin": "null"}
EMAILS = {"ada": "Ada@example.com", "grace": "grace@example.com"}


@pytest.fixture(scope="module")
def served() -> Iterator[Issuer]:
    """Serve one provider for this module."""
    with issuer() as made:
        yield made


@pytest.fixture
def provider(served: Issuer) -> Issuer:
    """Give the provider, honest again."""
    served.tell_the_truth()
    return served


@pytest.fixture
def door(scene: Scene, tmp_path: Path, provider: Issuer) -> Door:
    """Give the application where people sign in at the provider, at the real time: tokens know no other."""
    scene.clock.at = datetime.now(UTC)
    people = tuple(
        person.model_copy(update={"email": EMAILS.get(person.id)}) for person in scene.catalogue.people
    )
    scene.catalogue = scene.catalogue.model_copy(update={"people": people})
    settings = Settings(
        home=tmp_path,
        identity="oidc",
        public_url="http://127.0.0.1",
        oidc_issuer=provider.url,
        oidc_client_id=CLIENT,
        oidc_client_secret=SECRET,
    )
    return Door(scene, settings)


async def begin(browser: httpx.AsyncClient, after: str = "/", *, fresh: bool = False) -> str:
    """Begin a sign-in and give where the browser is sent."""
    answer = await browser.get("/signin/start", params={"after": after} | ({"fresh": "1"} if fresh else {}))
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def sign_in(
    provider: Issuer, browser: httpx.AsyncClient, *, fresh: bool = False, after: str = "/"
) -> httpx.Response:
    """Sign in and give the last answer."""
    answer = provider.authorize(await begin(browser, after, fresh=fresh))
    page = await browser.get("/signin/callback", params=answer)
    assert page.status_code == 200, page.text
    return await browser.post("/signin/callback", data=answer)


def refusals(scene: Scene) -> list[Any]:
    """Give the bodies of refused sign-ins in the log."""
    return [
        entry.body for entry in scene.ledger.evidence.entries() if entry.kind is EvidenceKind.SIGN_IN_REFUSED
    ]


async def test_signing_in(door: Door, scene: Scene, provider: Issuer) -> None:
    """Who the provider vouches for is signed in, with groups and time, and sees the page that was wanted."""
    async with door.client(**OURS) as browser:
        offered = await look(browser, "/signin?after=/status")
        answer = await sign_in(provider, browser, after="/incidents/INC-1")
        page = await look(browser, "/")
        secret = browser.cookies["stanch_session"]
    found = scene.ledger.sessions.find(secret)

    assert ("a", {"class": "go", "href": "/signin/start?after=/status"}) in offered.tags
    assert "proves nothing" not in offered.text
    assert (answer.status_code, answer.headers["location"]) == (303, "/incidents/INC-1")
    assert "Ada Lovelace" in page.text
    assert "evaluation" not in page.text
    assert found is not None
    assert (found.person, found.authenticated_by, found.groups) == ("ada", "oidc", ("sre", "ic"))
    assert found.signed_in_at is not None
    assert "stanch_session-signin" not in dict(browser.cookies)
    entry = scene.ledger.evidence.entries()[-1]
    assert (entry.kind, entry.summary) == (EvidenceKind.ACCESS, "ada signs in by oidc")
    assert (entry.body["sub"], entry.body["groups"]) == ("42", ["sre", "ic"])


async def test_what_is_asked(door: Door, provider: Issuer) -> None:
    """The request has PKCE, state, nonce and our address, each new every time; a fresh one asks anew."""
    async with door.client(**OURS) as browser:
        urls = [httpx.URL(await begin(browser, fresh=fresh)) for fresh in (False, False, True)]
    first, second, fresh = (dict(url.params) for url in urls)

    assert first["code_challenge_method"] == "S256"
    assert (first["response_type"], first["scope"]) == ("code", "openid email")
    assert first["redirect_uri"] == "http://127.0.0.1/signin/callback"
    assert "prompt" not in first
    assert (fresh["prompt"], fresh["max_age"]) == ("login", "0")
    for name in ("state", "nonce", "code_challenge"):
        assert len({first[name], second[name], fresh[name]}) == 3
    assert provider.asked.count("/.well-known/openid-configuration") == 1


async def test_approving_by_provider(door: Door, scene: Scene, provider: Issuer) -> None:
    """A decision says that the person signed in at the provider; signing out ends the session for good."""
    incident = scene.tell()
    async with door.client(**OURS) as browser:
        await sign_in(provider, browser)
        page = await look(browser, f"/incidents/{incident}")
        answer = await send(browser, page.form("/approvals/APR-2/decision", verdict="approve", reason=""))
        copied = browser.cookies["stanch_session"]
        await send(browser, page.form("/signout"))
    async with door.client(Cookie=f"stanch_session={copied}") as thief:
        stolen = await thief.get("/")

    assert answer.status_code == 303
    signed = scene.ledger.approvals.get("APR-2").request.signed
    assert signed is not None
    assert (signed.decision.person, signed.decision.authenticated_by) == ("ada", "oidc")
    assert (stolen.status_code, stolen.headers["location"]) == (303, "/signin?after=/&note=1")


LIES: dict[str, tuple[Callable[[Issuer], object], str]] = {
    "wrong nonce": (lambda of: of.claims.update(nonce="another"), "nonce"),
    "no nonce": (lambda of: of.claims.update(nonce=None), "nonce"),
    "wrong audience": (lambda of: of.claims.update(aud="another"), "aud"),
    "wrong audience that names us": (lambda of: of.claims.update(aud="another", azp=CLIENT), "aud"),
    "for others too": (lambda of: of.claims.update(aud=[CLIENT, "another"]), "azp"),
    "for another of two": (lambda of: of.claims.update(aud=[CLIENT, "another"], azp="another"), "azp"),
    "no audience": (lambda of: of.claims.update(aud=None), "aud"),
    "wrong issuer": (lambda of: of.claims.update(iss="https://evil.example"), "iss"),
    "expired": (lambda of: of.claims.update(exp=int(time.time()) - 120), "expired"),
    "no expiry": (lambda of: of.claims.update(exp=None), "exp"),
    "from the future": (lambda of: of.claims.update(iat=int(time.time()) + 600), "in the future"),
    "no subject": (lambda of: of.claims.update(sub=None), "sub"),
    "alg none": (lambda of: of.header.update(alg="none"), "hold"),
    "public key as a secret": (
        lambda of: of.header.update(alg="HS256"),
        "hold",
    ),
    "published secret": (lambda of: of.publish_a_secret(), "hold"),
    "another's key": (
        lambda of: setattr(of, "signs_with", RSAKey.generate_key(2048, {"kid": "one"}, private=True)),
        "hold",
    ),
    "unknown key": (lambda of: of.header.update(kid="../../etc/passwd"), "hold"),
    "another's access token": (lambda of: of.claims.update(at_hash="AAAA"), "at_hash"),
    "unverified email": (lambda of: of.claims.update(email_verified=False), "has not verified the email"),
    "verified in words": (lambda of: of.claims.update(email_verified="true"), "has not verified"),
    "unverified by silence": (lambda of: of.claims.update(email_verified=None), "has not verified"),
    "unknown person": (lambda of: of.claims.update(email="eve@example.com"), "nobody with the email 'eve@"),
    "no email": (lambda of: (of.claims.update(email=None), of.userinfo.update(sub="42")), "nobody with"),
    "two of them": (lambda of: (of.claims.update(email=None), of.userinfo.update(sub="7")), "two different"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_lies(door: Door, scene: Scene, provider: Issuer, lie: str) -> None:
    """Nothing that the provider says wrongly signs anybody in: one sentence, and evidence."""
    tell, said = LIES[lie]
    tell(provider)
    async with door.client(**OURS) as browser:
        answer = await sign_in(provider, browser)
        after = await browser.get("/")

    assert (answer.status_code, after.status_code) == (403, 303)
    assert "stanch_session" not in dict(browser.cookies)
    assert [said in str(body["refusal"]) for body in refusals(scene)] == [True], refusals(scene)


async def test_userinfo_tells_the_rest(door: Door, scene: Scene, provider: Issuer) -> None:
    """Where the ID token says little, the provider's userinfo about the same subject counts."""
    provider.claims.update(email=None, email_verified=None, groups=None)
    provider.userinfo.update(sub="42", email="grace@example.com", email_verified=True, groups="sre")
    async with door.client(**OURS) as browser:
        await sign_in(provider, browser)
        found = scene.ledger.sessions.find(browser.cookies["stanch_session"])

    assert found is not None
    assert (found.person, found.groups) == ("grace", ("sre",))


async def test_who_is_asked_may_be_known_to_the_provider_alone(
    door: Door, scene: Scene, provider: Issuer
) -> None:
    """The page does not say that nobody may be the second where a sign-in may count somebody into a team."""
    teams = (
        Team(name="incident-commanders", oidc_groups=("commanders",)),
        Team(name="sre", oidc_groups=("x",)),
    )
    scene.catalogue = scene.catalogue.model_copy(update={"teams": teams})
    ask(scene, Needs.TWO)
    scene.ledger.incidents.assign("INC-1", Role.TECHNICAL_LEAD, "ada", by="ada")
    async with Door(scene, door.settings).client(**OURS) as browser:
        await sign_in(provider, browser)
        page = await look(browser, "/approvals/APR-1")
        await send(browser, page.form("/approvals/APR-1/decision", verdict="approve", reason=""))
        said = words(await look(browser, "/approvals/APR-1"))

    assert "One more person is asked: whom the identity provider counts into incident-commanders You" in said


async def test_a_code_is_used_once(door: Door, provider: Issuer) -> None:
    """The answer of the provider that was used signs nobody in again, even if the provider would."""
    provider.strict = False
    async with door.client(**OURS) as browser:
        answer = provider.authorize(await begin(browser))
        kept = browser.cookies["stanch_session-signin"]
        first = await browser.post("/signin/callback", data=answer)
        again = await browser.post("/signin/callback", data=answer)
        browser.cookies.set("stanch_session-signin", kept)
        copied = await browser.post("/signin/callback", data=answer)

    assert [one.status_code for one in (first, again, copied)] == [303, 403, 403]
    assert "was not begun in this browser" in again.text
    assert "used before" in copied.text


async def test_anothers_answer(door: Door, scene: Scene, provider: Issuer) -> None:
    """Nobody is signed in by a sign-in that began elsewhere, by a form from elsewhere, or by looking."""
    async with door.client(**OURS) as mallory:
        answer = provider.authorize(await begin(mallory))
    async with door.client(**OURS) as browser:
        none = await browser.post("/signin/callback", data=answer)
        await begin(browser)
        other = await browser.post("/signin/callback", data=answer)
        mine = provider.authorize(await begin(browser))
        elsewhere = await browser.post(
            "/signin/callback", data=mine, headers={"Origin": "http://evil.example"}
        )
        mixed = await browser.post("/signin/callback", data=mine | {"iss": "https://evil.example"})
        before = scene.ledger.evidence.size()
        looked = await browser.get("/signin/callback", params=mine)

    statuses = [one.status_code for one in (none, other, elsewhere, mixed, looked)]
    assert statuses == [403, 403, 403, 403, 200]
    assert "was not begun in this browser" in other.text
    assert scene.ledger.evidence.size() == before
    assert "stanch_session" not in dict(browser.cookies)


async def test_without_the_verifier(door: Door, provider: Issuer) -> None:
    """A stolen code is worth nothing in a sign-in of the thief's own."""
    async with door.client(**OURS) as victim, door.client(**OURS) as thief:
        stolen = provider.authorize(await begin(victim))
        mine = httpx.URL(await begin(thief)).params["state"]
        answer = await thief.post("/signin/callback", data=stolen | {"state": mine})

    assert (answer.status_code, "invalid_grant" in answer.text) == (403, True)


async def test_a_refusal_of_the_provider(door: Door) -> None:
    """What the provider says of a sign-in that failed is shown as text."""
    async with door.client(**OURS) as browser:
        answer = await browser.get(
            "/signin/callback", params={"error": "access_denied", "error_description": "<b>no\n</b>"}
        )

    assert answer.status_code == 403
    assert "access_denied &lt;b&gt;no &lt;/b&gt;" in answer.text


@pytest.mark.parametrize("status", [500, 302])
async def test_the_provider_is_away(door: Door, provider: Issuer, status: int) -> None:
    """Without the provider, or where it leads elsewhere, one is told to try again; who is in stays in."""
    async with door.client(**OURS) as inside, door.client(**OURS) as browser:
        await sign_in(provider, inside)
        door.scene.clock.forward(hours=1)
        provider.down = status
        answer = await browser.get("/signin/start")
        still = await inside.get("/")

    assert (answer.status_code, still.status_code) == (503, 200)
    assert "does not answer as it should" in answer.text


async def test_a_provider_of_another_name(door: Door, provider: Issuer) -> None:
    """A provider that calls itself otherwise than the settings do is not believed."""
    provider.discovery["issuer"] = "https://evil.example"
    async with door.client(**OURS) as browser:
        answer = await browser.get("/signin/start")

    assert (answer.status_code, "calls itself" in answer.text) == (403, True)


async def test_new_keys(door: Door, provider: Issuer) -> None:
    """A provider that has changed its keys is understood at once."""
    async with door.client(**OURS) as browser:
        await sign_in(provider, browser)
        provider.key = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"}, private=True)
        provider.header["kid"] = "two"
        answer = await sign_in(provider, browser)

    assert answer.status_code == 303


async def test_high_risk_asks_again(door: Door, scene: Scene, provider: Issuer) -> None:
    """A plan of high risk is approved only after the provider has asked the person anew."""
    incident = scene.open_incident()
    scene.take(incident)
    step = plan(scene.clock, incident, 1).steps[0].model_copy(update={"risk": Risk.HIGH})
    request = scene.ask(incident, 1, steps=(step,))
    path, action = f"/approvals/{request.id}", f"/approvals/{request.id}/decision"
    provider.claims["auth_time"] = int(time.time()) - 3600
    async with door.client(**OURS) as browser:
        await sign_in(provider, browser)
        page = await look(browser, path)
        again = f"/signin?fresh=1&after={path}"
        assert ("a", {"class": "go", "href": again}) in page.tags
        reject = page.form(action, verdict="reject", reason="no")
        lazy = await sign_in(provider, browser, fresh=True, after=path)
        provider.claims["auth_time"] = None
        silent = await sign_in(provider, browser, fresh=True, after=path)
        del provider.claims["auth_time"]
        fresh = await sign_in(provider, browser, fresh=True, after=path)
        form = (await look(browser, path)).form(action, verdict="approve", reason="")
        scene.clock.forward(minutes=16)
        late = await send(browser, form)
        scene.clock.forward(minutes=-16)
        approved = await send(browser, form)

    assert reject
    assert (lazy.status_code, "did not ask you" in lazy.text) == (403, True)
    assert (silent.status_code, "auth_time" in silent.text) == (403, True)
    assert (fresh.status_code, fresh.headers["location"]) == (303, path)
    assert (late.status_code, late.headers["location"]) == (303, f"/signin?after={path}&fresh=1")
    assert (approved.status_code, approved.headers["location"]) == (303, f"/incidents/{incident}")


async def test_beyond_this_machine(door: Door) -> None:
    """Where people prove who they are, other host names are answered; what proves nothing is not."""
    async with door.client(Host="stanch.example.com") as stranger:
        page = await stranger.get("/signin")
        local = await stranger.post("/signin", data={"person": "ada"}, headers=OURS)
        alert = await stranger.post("/v1/alerts/alertmanager", json={})
        token = await stranger.get("/v1/incidents", headers={"Authorization": f"Bearer {door.token}"})

    assert [one.status_code for one in (page, local, alert, token)] == [200, 405, 401, 401]


@pytest.mark.parametrize(
    ("claims", "person"),
    [
        ({"sub": "42", "email": "ADA@EXAMPLE.COM", "email_verified": True}, "ada"),
        ({"sub": "7", "email": "eve@example.com", "email_verified": False}, "grace"),
        ({"sub": "8", "email": "grace@example.com", "email_verified": True}, None),
        ({"sub": "8", "email": "", "email_verified": True}, None),
        ({"sub": "None", "email": "None", "email_verified": True}, None),
        ({}, None),
    ],
)
def test_whom_the_provider_means(claims: dict[str, object], person: str | None) -> None:
    """An explicit subject wins and takes no email; an email counts verified and in any case."""
    catalogue = Catalogue(
        people=(
            Person(id="ada", name="Ada", email="ada@example.com"),
            Person(id="grace", name="Grace", email="grace@example.com", oidc_subject="7"),
            Person(id="linus", name="Linus"),
        )
    )

    if person:
        assert person_of(catalogue, claims).id == person
    else:
        with pytest.raises(ForbiddenError, match="has nobody with the email"):
            person_of(catalogue, claims)


@pytest.mark.parametrize("kept", [b"[" * 1_100, b"[]", b'{"state": 1}', b"\xff"])
def test_a_hostile_cookie_begins_nothing(door: Door, kept: bytes) -> None:
    """Whatever stands in the place of a begun sign-in is refused with a sentence."""
    cookie = base64.urlsafe_b64encode(kept).decode()
    provider = signin.provider(door.settings, door.scene.catalogue, clock=door.scene.clock)
    assert provider is not None

    with pytest.raises(ForbiddenError, match="was not begun in this browser"):
        provider.resume(cookie, "s")
