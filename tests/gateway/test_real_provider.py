"""Sign-in at a real, certified identity provider: by its own pages, and in a real browser."""

import html
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from contracts.approvals import ApprovalState
from contracts.evidence import EvidenceKind
from contracts.plans import Risk
from runtime.engine import free_port
from runtime.settings import Settings
from tests.gateway.conftest import Door
from tests.gateway.real_provider import server
from tests.gateway.seed import Scene, plan
from tests.gateway.test_browser import ARGUMENTS, CHROMIUM, PATIENCE

OURS = {"Sec-Fetch-Site": "same-origin", "Origin": "null"}
REASON = server.why_not()

pytestmark = [
    pytest.mark.oidc,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(180),  # the first run installs it
]


@dataclass
class House:
    """The console, and the provider that people sign in at."""

    url: str
    issuer: str
    scene: Scene


@pytest.fixture
def house(scene: Scene) -> Iterator[House]:
    """Give both, with an incident that Ada commands and whose plan waits, at the real time."""
    scene.clock.at = datetime.now(UTC) - timedelta(minutes=10, seconds=25)
    people = tuple(
        person.model_copy(update={"email": f"{person.id}@example.com"}) for person in scene.catalogue.people
    )
    scene.catalogue = scene.catalogue.model_copy(update={"people": people})
    scene.tell()
    scene.clock = scene.ledger.database.now = lambda: datetime.now(UTC)  # type: ignore[assignment]  # it goes
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with server.provider(f"{url}/signin/callback") as issuer:
        settings = Settings(
            home=scene.folder,
            identity="oidc",
            public_url=url,
            oidc_issuer=issuer,
            oidc_client_id=server.CLIENT,
            oidc_client_secret=server.SECRET,
            oidc_scopes="openid email groups",
        )
        with Door(scene, settings).served(port):
            yield House(url, issuer, scene)


@contextmanager
def person() -> Iterator[httpx.Client]:
    """Give a browser without scripts: it keeps cookies, and follows what it is told by hand."""
    with httpx.Client(headers=OURS, timeout=30) as browser:
        yield browser


def follow(browser: httpx.Client, answer: httpx.Response, house: House) -> httpx.Response:
    """Follow redirects until a page is shown."""
    while answer.is_redirect:
        answer = browser.get(httpx.URL(answer.url).join(answer.headers["location"]))
    assert answer.url.host == httpx.URL(house.url).host
    return answer


def submit(browser: httpx.Client, page: httpx.Response, **fields: str) -> httpx.Response:
    """Send the form of a page with its hidden fields."""
    action = re.findall(r'<form[^>]* action="([^"]+)"', page.text)[0]
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
    sent = {name: html.unescape(value) for name, value in hidden} | fields
    return browser.post(page.url.join(html.unescape(action)), data=sent)


def sign_in(browser: httpx.Client, house: House, name: str, path: str = "/signin/start") -> httpx.Response:
    """Sign in at the provider, as far as our own page with the answer."""
    page = follow(browser, browser.get(house.url + path), house)
    while "/interaction/" in str(page.url):
        page = follow(browser, submit(browser, page, login=name, password="any"), house)  # noqa: S106  (any will do)
    assert page.url.path == "/signin/callback", page.text
    return page


def test_by_its_own_pages(house: House) -> None:
    """Discovery, PKCE, keys, ID token and userinfo of a real provider say who is there, and since when."""
    began = datetime.now(UTC) - timedelta(seconds=2)
    with person() as browser:
        back = sign_in(browser, house, "ada", "/signin/start?after=/incidents/INC-1")
        answer = submit(browser, back)
        page = browser.get(house.url + answer.headers["location"])
        again = submit(browser, back)
        found = house.scene.ledger.sessions.find(browser.cookies["stanch_session"])

    assert (answer.status_code, answer.headers["location"]) == (303, "/incidents/INC-1")
    assert "Ada Lovelace" in page.text
    assert again.status_code == 403
    assert found is not None
    assert (found.person, found.authenticated_by, found.groups) == ("ada", "oidc", ("sre", "team-of-ada"))
    assert found.signed_in_at is not None
    assert began <= found.signed_in_at <= datetime.now(UTC)


def test_its_code_is_used_once(house: House) -> None:
    """The provider itself refuses a code that was used."""
    with person() as browser:
        back = sign_in(browser, house, "ada")
        kept = browser.cookies["stanch_session-signin"]
        first = submit(browser, back)
        browser.cookies.set("stanch_session-signin", kept, domain="127.0.0.1", path="/")
        second = submit(browser, back)

    assert (first.status_code, second.status_code) == (303, 403)
    assert "invalid_grant" in second.text


@pytest.mark.parametrize(
    ("name", "said"), [("linus", "has not verified the email"), ("mallory", "has nobody with the email")]
)
def test_nobody_of_ours(house: House, name: str, said: str) -> None:
    """Whom the catalogue does not have is told so by one sentence, and it is evidence."""
    with person() as browser:
        answer = submit(browser, sign_in(browser, house, name))

    assert (answer.status_code, said in answer.text) == (403, True)
    assert "stanch_session" not in [cookie.name for cookie in browser.cookies.jar]
    last = house.scene.ledger.evidence.entries()[-1]
    assert (last.kind, last.actor) == (EvidenceKind.SIGN_IN_REFUSED, f"oidc:{name}")


@pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed")
def test_in_a_browser(house: House) -> None:
    """Sign in, approve, be asked anew for what risks much, and sign out: in a real browser, both real."""
    ledger = house.scene.ledger
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        window = chromium.new_context()
        page = window.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{house.url}/incidents/INC-1")
        _at_the_provider(page, "Sign in with")
        expect(page.locator("#decision-title")).to_have_text("Disable the flag new-recommendations")
        page.get_by_role("button", name="Approve and run").click()
        expect(page.locator("#decision-title")).to_have_text("No decision is needed now")

        step = plan(house.scene.clock, "INC-1", 3).steps[0].model_copy(update={"risk": Risk.HIGH})
        request = house.scene.ask("INC-1", 3, steps=(step,))
        _age(house, timedelta(hours=1))
        page.goto(f"{house.url}/approvals/{request.id}")
        page.get_by_role("link", name="Sign in again to approve").click()
        _at_the_provider(page, "Sign in with")
        page.get_by_role("button", name="Approve and run").click()
        expect(page.locator("h1")).to_have_text("40 % of checkout requests fail")

        cookies = window.cookies()
        page.get_by_role("button", name="Sign out").click()
        expect(page.locator("h1")).to_have_text("Sign in")
        window.add_cookies(cookies)  # type: ignore[arg-type]  # what was read is what is written
        page.goto(house.url)
        expect(page.locator("h1")).to_have_text("Sign in")
        chromium.close()

    for approval in ("APR-2", request.id):
        decided = ledger.approvals.get(approval).request
        assert decided.state is ApprovalState.APPROVED
        assert decided.signed is not None
        assert decided.signed.decision.authenticated_by == "oidc"


def _at_the_provider(page: Page, link: str) -> None:
    """Sign in as Ada by the provider's own pages; it asks for consent once."""
    page.get_by_role("link", name=link).click()
    page.locator("input[name=login]").fill("ada")
    page.locator("input[name=password]").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    consent = page.get_by_role("button", name="Continue")
    expect(consent.or_(page.locator("header.bar"))).to_be_visible()
    if "/interaction/" in page.url:
        consent.click()
    expect(page.locator("header.bar")).to_be_visible()


def _age(house: House, by: timedelta) -> None:
    """Let every session be older than it is."""
    with house.scene.ledger.database.write() as connection:
        at = (datetime.now(UTC) - by).strftime("%Y-%m-%d %H:%M:%S.%f")
        connection.exec_driver_sql("UPDATE session SET signed_in_at = ?", (at,))
