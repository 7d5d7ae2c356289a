"""The console in a real browser: by keyboard, on a phone, live, and talking to nobody but us."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from contracts.approvals import ApprovalState
from contracts.evidence import EvidenceKind
from contracts.incidents import Phase, Role, Severity
from runtime.settings import Settings
from tests.gateway.conftest import Door
from tests.gateway.seed import Scene
from tests.gateway.test_mitigations import apply, asked_to_undo

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
PATIENCE = 10_000  # ms: the machine may be busy

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed"),
]


@dataclass
class Watch:
    """A page, and all that went wrong in it or out of it."""

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", lambda request: self._asked(request.url))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.wrong.append(f"{message.type}: {message.text}")

    def _asked(self, url: str) -> None:
        if not url.startswith((f"{self.url}/", "data:")):
            self.wrong.append(f"left the machine: {url}")

    def sign_in(self, path: str = "/", name: str = "Ada Lovelace") -> None:
        """Sign in and open a page."""
        self.page.goto(f"{self.url}/signin?after={path}")
        self.page.get_by_label(name).check()
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.locator("#connection")).to_have_text("live", timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give one Chromium for all of these."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Now:
    """The real time, as browsers know no other; a test may put it off."""

    def __init__(self) -> None:
        self.off = timedelta(0)

    def __call__(self) -> datetime:
        """Give the time."""
        return datetime.now(UTC) + self.off


@pytest.fixture
def story(scene: Scene) -> str:
    """Tell the story so that its second question was asked just now."""
    scene.clock.at = datetime.now(UTC) - timedelta(minutes=10, seconds=25)
    return scene.tell()


@contextmanager
def opened(browser: Browser, scene: Scene, *, width: int = 1280, script: bool = True) -> Iterator[Watch]:
    """Serve the application and open a window; nothing may have gone wrong in it."""
    scene.clock = scene.ledger.database.now = Now()  # type: ignore[assignment]  # a clock that goes
    door = Door(scene, Settings(home=scene.folder))
    with door.served() as url:
        window = browser.new_context(viewport={"width": width, "height": 800}, java_script_enabled=script)
        watch = Watch(window.new_page(), url)
        try:
            yield watch
        finally:
            window.close()
    assert watch.wrong == []


def show(page: Page, state: str) -> None:
    """Have a page believe that it is seen, or not: without a screen all of them are."""
    page.evaluate(
        "state => { Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')) }",
        state,
    )


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has this name has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText || document.activeElement.name || ''") == name:
            return
    raise AssertionError(f"the keyboard does not reach {name}")


def test_from_the_list_to_an_approval_by_keyboard(browser: Browser, scene: Scene, story: str) -> None:
    """Sign in, find the incident, skip to the content and approve: without a mouse."""
    with opened(browser, scene) as watch:
        page = watch.page
        page.goto(watch.url)
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Incidents")

        tab_to(page, f"{story} 40 % of checkout requests fail")
        page.keyboard.press("Enter")
        expect(page.locator("#decision-title")).to_have_text("Disable the flag new-recommendations")

        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        tab_to(page, "Approve and run")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        expect(page.locator("#decision-title")).to_have_text("No decision is needed now")

    assert scene.ledger.approvals.get("APR-2").request.state is ApprovalState.APPROVED


def test_rejecting_needs_a_reason(browser: Browser, scene: Scene, story: str) -> None:
    """The browser does not send a rejection without a reason, and sends one with."""
    with opened(browser, scene) as watch:
        watch.sign_in(f"/incidents/{story}")
        watch.page.get_by_role("button", name="Reject").click()
        assert scene.ledger.approvals.get("APR-2").request.state is ApprovalState.PENDING

        watch.page.get_by_label("Why not?").fill("the flag is not the cause")
        watch.page.get_by_role("button", name="Reject").click()
        expect(watch.page.locator("#decision-title")).to_have_text("No decision is needed now")

    signed = scene.ledger.approvals.get("APR-2").request.signed
    assert signed is not None
    assert signed.decision.reason == "the flag is not the cause"


def test_what_happens_is_seen_at_once(browser: Browser, scene: Scene, story: str) -> None:
    """Entries arrive while the page is open; typed text, open details and the focus stay."""
    with opened(browser, scene) as watch:
        page = watch.page
        watch.sign_in(f"/incidents/{story}")
        page.locator("#assign summary").click()
        note = page.get_by_label("Note for the record")
        note.fill("half a thou")
        page.locator("#question-APR-2 .approve textarea").press("End")

        scene.happen(story, EvidenceKind.VERIFICATION, "error_rate is 41 %")
        scene.record(story, 2, Phase.MONITORING, attention="Somebody else is looking, too.")
        scene.ledger.incidents.assign(story, Role.TECHNICAL_LEAD, "grace", by="ada")

        expect(page.locator("#timeline > li").first).to_contain_text(
            "ada gives the role technical lead to grace"
        )
        expect(page.locator("#timeline")).to_contain_text("error_rate is 41 %")
        expect(page.locator("#attention")).to_contain_text("Somebody else is looking, too.")
        expect(page.locator(".rail .now")).to_have_text(re.compile("monitoring"))
        expect(page.locator("#roles")).to_contain_text("Grace Hopper")
        assert page.locator("#assign").get_attribute("open") is not None
        page.keyboard.type("ght")
        expect(note).to_have_value("half a thought")
        places = page.locator("#timeline > li").evaluate_all("all => all.map(one => Number(one.id.slice(6)))")
        assert places == sorted(places, reverse=True)
        assert len(places) == len(set(places))


def test_somebody_else_decides(browser: Browser, scene: Scene, story: str) -> None:
    """When the question is answered elsewhere, the buttons go, and the page says by whom."""
    with opened(browser, scene) as watch:
        watch.sign_in(f"/incidents/{story}")
        watch.page.get_by_label("Why not?").fill("wait")
        scene.decide(scene.ledger.approvals.get("APR-2").request)

        expect(watch.page.locator("#decision-title")).to_have_text("No decision is needed now")
        expect(watch.page.locator("#decision")).to_contain_text("approved by Ada Lovelace")
        assert watch.page.evaluate("document.activeElement.id") == "decision"


def test_a_new_incident_comes_onto_the_list(browser: Browser, scene: Scene) -> None:
    """The list is live as well."""
    with opened(browser, scene) as watch:
        watch.sign_in()
        expect(watch.page.locator("#open")).to_contain_text("Nothing is open.")
        scene.open_incident(severity=Severity.SEV1)

        expect(watch.page.locator(".incident.sev1 .title")).to_contain_text("40 % of checkout requests fail")
        expect(watch.page).to_have_title("1 open · Stanch")


def test_without_the_server_the_page_says_so(browser: Browser, scene: Scene, story: str) -> None:
    """A page whose server went away says that it is reconnecting, and is live again with what it missed."""
    scene.clock = scene.ledger.database.now = Now()  # type: ignore[assignment]  # a clock that goes
    door = Door(scene, Settings(home=scene.folder))
    window = browser.new_context()
    with door.served() as url:
        watch = Watch(window.new_page(), url)
        watch.sign_in(f"/incidents/{story}")
    expect(watch.page.locator("#connection")).to_have_text("reconnecting")
    scene.happen(story, EvidenceKind.VERIFICATION, "said in the meantime")
    port = int(url.rpartition(":")[2])
    with Door(scene, Settings(home=scene.folder)).served(port):
        expect(watch.page.locator("#connection")).to_have_text("live", timeout=PATIENCE)
        expect(watch.page.locator("#timeline")).to_contain_text("said in the meantime", timeout=PATIENCE)
    window.close()


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_no_page_is_wider_than_the_window(browser: Browser, scene: Scene, story: str, width: int) -> None:
    """On a phone nothing has to be scrolled sideways, whatever an alert is called."""
    long = "x" * 400
    scene.open_incident(
        fingerprint="long", summary=long, name=long, service=long[:200], labels={long[:200]: long}
    )
    scene.ledger.postmortems.write(story, f"# {long}\n")
    with opened(browser, scene, width=width) as watch:
        watch.sign_in()
        for path in (
            "/",
            f"/incidents/{story}",
            "/incidents/INC-2",
            "/approvals/APR-2",
            "/status",
            "/signin",
        ):
            watch.page.goto(f"{watch.url}{path}")
            for details in watch.page.locator("details").all():
                details.evaluate("one => one.open = true")
            page_width = watch.page.evaluate("document.documentElement.scrollWidth")

            assert page_width <= width, path


def test_without_scripts(browser: Browser, scene: Scene, story: str) -> None:
    """With JavaScript switched off the whole way works."""
    with opened(browser, scene, script=False) as watch:
        page = watch.page
        page.goto(f"{watch.url}/incidents/{story}")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#connection")).to_have_text("not live: reload for news")
        page.get_by_label("Why not?").fill("wait")
        page.get_by_role("button", name="Reject").click()
        expect(page.locator("#decision-title")).to_have_text("No decision is needed now")

    assert scene.ledger.approvals.get("APR-2").request.state is ApprovalState.REJECTED


def test_some_steps_are_undone_on_a_phone_by_keyboard(browser: Browser, scene: Scene) -> None:
    """Of a mitigation in force one step is unticked and stays, without a mouse and without JavaScript."""
    apply(scene, 2)
    with opened(browser, scene, width=360, script=False) as watch:
        page = watch.page
        page.goto(f"{watch.url}/signin?after=/mitigations")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("h1")).to_have_text("In force")
        tab_to(page, "Undo")
        page.keyboard.press("Enter")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        tab_to(page, "step-2")
        page.keyboard.press("Space")
        tab_to(page, "reason")
        page.keyboard.type("resume the sync, keep the rollback")
        page.keyboard.press("Enter")
        expect(page.locator("#in-force")).to_contain_text("Its undo INC-1/2-undo is on its way")

    assert asked_to_undo(scene) == [[1]]


def test_hostile_text_runs_nothing(browser: Browser, scene: Scene) -> None:
    """Scripts in labels are text to a real browser, and its policy has nothing to object to."""
    script = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    incident = scene.open_incident(summary=script, name=script, labels={"team": script})
    with opened(browser, scene) as watch:
        watch.sign_in(f"/incidents/{incident}")
        expect(watch.page.locator("h1")).to_have_text(script)
        assert "owned" not in watch.page.title().replace(script, "")


def test_another_site_cannot_approve(browser: Browser, scene: Scene, story: str) -> None:
    """A signed-in person opens a page elsewhere that sends our form: nothing is decided."""
    scene.clock = scene.ledger.database.now = Now()  # type: ignore[assignment]  # a clock that goes
    with Door(scene, Settings(home=scene.folder)).served() as url:
        window = browser.new_context()
        watch = Watch(window.new_page(), url)
        watch.sign_in(f"/incidents/{story}")
        form = (
            watch.page.locator("form.approve")
            .evaluate("one => one.outerHTML")
            .replace('action="/', f'action="{url}/')
        )
        other = url.replace("127.0.0.1", "localhost")
        window.route(f"{other}/elsewhere", lambda route: route.fulfill(body=form, content_type="text/html"))
        watch.page.goto(f"{other}/elsewhere")
        watch.page.get_by_role("button", name="Approve and run").click()
        expect(watch.page.locator("body")).to_contain_text("another site")
        window.close()

    assert scene.ledger.approvals.get("APR-2").request.state is ApprovalState.PENDING


def test_tabs_that_nobody_sees_hold_no_connection(browser: Browser, scene: Scene, story: str) -> None:
    """A browser has six connections to one host: with six open tabs the seventh still decides."""
    with opened(browser, scene) as watch:
        watch.sign_in(f"/incidents/{story}")
        tabs = [watch.page]
        for _ in range(6):
            show(tabs[-1], "hidden")
            tab = watch.page.context.new_page()
            tab.goto(f"{watch.url}/incidents/{story}", timeout=PATIENCE)
            expect(tab.locator("#connection")).to_have_text("live", timeout=PATIENCE)
            tabs.append(tab)
        tabs[-1].get_by_role("button", name="Approve and run").click()
        expect(tabs[-1].locator("#decision-title")).to_have_text("No decision is needed now")
        expect(tabs[0].locator("#decision-title")).to_have_text("Disable the flag new-recommendations")
        show(tabs[0], "visible")

        expect(tabs[0].locator("#decision-title")).to_have_text("No decision is needed now", timeout=PATIENCE)


def test_the_countdown(browser: Browser, scene: Scene, story: str) -> None:
    """The time that is left is counted down where it is read."""
    with opened(browser, scene) as watch:
        watch.page.clock.install(time=datetime.now(UTC))
        watch.sign_in(f"/incidents/{story}")
        left = watch.page.locator("[data-countdown]")
        expect(left).to_have_text("14 min left")
        watch.page.clock.fast_forward(8 * 60 * 1000)
        expect(left).to_have_text(re.compile(r"6 min \d\d s left"))
        watch.page.clock.fast_forward(10 * 60 * 1000)
        expect(left).to_have_text("expired")


def test_opening_a_question_says_that_it_was_seen(browser: Browser, scene: Scene, story: str) -> None:
    """Who has the page of a question before their eyes has seen it, and the page says so by itself."""
    (request,) = scene.ledger.approvals.list(ApprovalState.PENDING)
    scene.ledger.notices.climb(request.id, 0, scene.catalogue)
    with opened(browser, scene) as watch:
        watch.sign_in(f"/approvals/{request.id}")

        expect(watch.page.locator("#told li").first).to_contain_text("seen just now")
        expect(watch.page.locator("#told li").nth(1)).to_contain_text("told, not seen yet")
        assert watch.page.get_by_role("button", name="I am looking at it").count() == 0
    said = [one.summary for one in scene.ledger.evidence.entries(incident=story)]
    assert said.count(f"ada has seen {request.id}") == 1


def test_each_need_of_an_incident_is_seen(browser: Browser, scene: Scene, story: str) -> None:
    """A page that stays open says of each thing that needs a person that somebody looks at it."""
    with opened(browser, scene) as watch:
        watch.sign_in(f"/incidents/{story}")
        for version, said in ((101, "INC-1/1 ended expired"), (102, "INC-1/2 ended held")):
            with watch.page.expect_request(f"**/incidents/{story}/seen") as sent:
                scene.record(story, version, Phase.TRIAGE, attention=said)

            expect(watch.page.locator("#attention")).to_contain_text(said, timeout=PATIENCE)
            assert sent.value.method == "POST"
