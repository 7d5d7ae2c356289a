"""Deciding in real browsers: two people in two windows, and some of the steps on a phone."""

from playwright.sync_api import Browser, expect

from contracts.approvals import ApprovalState
from contracts.plans import Needs
from runtime.settings import Settings
from tests.gateway.conftest import Door
from tests.gateway.seed import Scene
from tests.gateway.test_browser import PATIENCE, Now, Watch, browser, opened, pytestmark
from tests.gateway.test_console_authority import TOO_SOON, ask, decision

WIDTH = 360  # of a small phone
PHONE, SCREEN = 390, 844  # of an ordinary one

__all__ = ["browser", "pytestmark"]


def now_asked(scene: Scene, *needs: Needs, **facts: object) -> None:
    """Ask at the time of browsers, who know no other."""
    scene.clock = scene.ledger.database.now = Now()  # type: ignore[assignment]  # a clock that goes
    ask(scene, *needs, **facts)


def test_two_people_in_two_browsers(browser: Browser, scene: Scene) -> None:
    """The second person's page gains its button when the first approves; the first's says that it runs."""
    now_asked(scene, Needs.TWO)
    with Door(scene, Settings(home=scene.folder)).served() as url:
        windows = [browser.new_context() for _ in range(2)]
        ada, grace = [Watch(window.new_page(), url) for window in windows]
        ada.sign_in("/approvals/APR-1")
        grace.sign_in("/approvals/APR-1", "Grace Hopper")
        answer = grace.page.locator("#answer")
        expect(answer).to_contain_text("only the Incident Commander (ada) decides first")
        answer.locator(".glass > summary").click()
        grace.page.get_by_label("Why can it not wait").fill("half a reason")

        ada.page.get_by_role("button", name="Approve as the first of two").click()
        expect(ada.page.locator("#decision")).to_contain_text("One more person is asked: Grace Hopper")
        expect(answer).to_contain_text("Ada Lovelace approved just now", timeout=PATIENCE)
        assert scene.ledger.approvals.get("APR-1").request.state is ApprovalState.PENDING
        grace.page.get_by_role("button", name="Approve and run").click()

        expect(ada.page.locator("#decision")).to_contain_text("approved by Grace Hopper", timeout=PATIENCE)
        grace.page.goto(f"{url}/approvals/APR-1")
        expect(grace.page.locator("#outcome-title")).to_contain_text(
            "Approved by Ada Lovelace and Grace Hopper"
        )
        for window in windows:
            window.close()
    assert (ada.wrong, grace.wrong) == ([], [])


def test_the_first_screen_of_a_phone(browser: Browser, scene: Scene) -> None:
    """What will run, on what, what it changes, how risky it is, who is asked and until when: unscrolled."""
    now_asked(scene, Needs.TWO)
    with opened(browser, scene, width=PHONE) as watch:
        watch.sign_in("/incidents/INC-1")
        question = watch.page.locator("#question-APR-1")
        shown = (
            question.get_by_role("heading", name="Disable the flag new-recommendations"),
            question.get_by_text("Low risk").first,
            question.get_by_text("Asks two people").first,
            question.locator("[data-countdown]"),
            question.locator(".target"),
            question.locator(".after").first,
        )
        for one in shown:
            box = one.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= SCREEN, one
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE


def test_freezing_on_a_phone(browser: Browser, scene: Scene) -> None:
    """All of the form that stops everything is in sight, and an open question says what that means for it."""
    now_asked(scene, Needs.ONE)
    with opened(browser, scene, width=PHONE) as watch:
        watch.sign_in("/incidents/INC-1")
        page = watch.page
        page.get_by_text("Freeze", exact=True).click()
        for one in (page.get_by_label("Why must all changes stop?"), page.get_by_role("button", name="Stop")):
            box = one.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE

        scene.ledger.freezes.set(service=None, reason="the database is being moved", person="grace")
        frozen = page.locator("#frozen")
        expect(frozen).to_contain_text(
            "Grace Hopper, just now: the database is being moved", timeout=PATIENCE
        )
        expect(page.locator("#question-APR-1")).to_contain_text("What is approved now is held back.")


def test_a_narrow_yes_on_a_phone(browser: Browser, scene: Scene) -> None:
    """By keyboard on a narrow screen: untick a step, set a guardrail aside, say why, approve the rest."""
    now_asked(scene, Needs.ONE, Needs.ONE, Needs.DENIED, violations=(TOO_SOON,))
    with opened(browser, scene, width=WIDTH) as watch:
        page = watch.page
        watch.sign_in("/incidents/INC-1")
        question = page.locator("#question-APR-1")
        override = question.get_by_role("checkbox", name="Set aside guardrail cooldown")
        expect(question.get_by_role("checkbox", name="Step 3")).to_be_disabled()
        expect(override).not_to_be_checked()
        question.get_by_role("checkbox", name="Step 1").press("Space")
        override.press("Space")
        question.get_by_label("Note for the record").fill("step 1 has its own plan")

        scene.ask("INC-1", 3)  # the page is made anew, and nothing that was said on it is lost
        expect(page.locator("#question-APR-2")).to_be_visible(timeout=PATIENCE)
        expect(question.get_by_role("checkbox", name="Step 1")).not_to_be_checked()
        expect(override).to_be_checked()
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
        question.get_by_role("button", name="Approve and set aside what is ticked").press("Enter")
        expect(question).not_to_be_visible()

    assert (decision(scene).steps, decision(scene).overrides) == ((2,), ("cooldown",))
