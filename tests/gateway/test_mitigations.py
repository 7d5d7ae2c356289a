"""What is in force, over HTTP: who may order what, how it says no, and the page with its forms."""

from datetime import timedelta

import httpx
import pytest

from authority.guardrails import Guard, Guardrails
from contracts.evidence import EvidenceKind
from contracts.incidents import Phase
from contracts.messages import RecordRequest
from contracts.outcomes import Direction, Outcome, StepResult
from ledger.in_force import UNDO
from tests.gateway.conftest import Door
from tests.gateway.seed import Scene
from tests.gateway.seed import plan as make_plan
from tests.gateway.test_console import look

DONE = "INC-1/2"
AT = f"/v1/mitigations/{DONE}"


def apply(scene: Scene, count: int = 1) -> Scene:
    """Have a flag switched off for an incident that is over by now, by so many steps."""
    incident = scene.open_incident()
    scene.take(incident)
    (first,) = make_plan(scene.clock, incident, 2).steps
    numbers = range(1, count + 1)
    asked = scene.ask(incident, 2, steps=[first.model_copy(update={"number": one}) for one in numbers])
    scene.decide(asked)
    plan = scene.ledger.approvals.plan(asked.plan_digest)
    journal = scene.ledger.journal
    for number in numbers:
        key = f"{DONE}/{number}/apply"
        entry = journal.begin(
            key,
            incident=incident,
            mitigation=DONE,
            step=number,
            direction=Direction.APPLY,
            plan_digest=asked.plan_digest,
            approval=asked.id,
        )
        entry = journal.intend(entry, before={}, actor="stanch", guard=Guard(Guardrails(), plan))
        journal.settle(entry, result=StepResult(action=key, outcome=Outcome.DONE), actor="stanch")
    scene.record(incident, 1, Phase.LEARNING)
    return scene


@pytest.fixture
def applied(scene: Scene) -> Scene:
    """Give a ledger in which a flag was switched off for an incident that is over by now."""
    return apply(scene)


def asked_to_undo(scene: Scene) -> list[object]:
    """Give the steps of each undo that was asked for."""
    sent = scene.ledger.outbox.claim(20, timedelta(minutes=1))
    return [one.payload["steps"] for one in sent if one.kind == UNDO]


async def test_list_and_show(door: Door, applied: Scene) -> None:
    """What is in force is listed with its owner, its end and how it goes back."""
    async with door.client("linus") as client:
        listed = await client.get("/v1/mitigations")
        shown = await client.get(AT)
        other = await client.get("/v1/mitigations", params={"incident": "INC-9"})
        missing = await client.get("/v1/mitigations/INC-1/1")

    assert listed.json() == [shown.json()]
    assert (shown.json()["mitigation"], shown.json()["owner"]) == (DONE, "ada")
    assert shown.json()["steps"][0]["undo"]["arguments"] == {"key": "new-recommendations", "on": True}
    assert other.json() == []
    assert (missing.status_code, missing.json()) == (
        404,
        {"error": "INC-1/1: nothing of it was ever in force"},
    )
    assert applied.ledger.in_force.get(DONE).model_dump(mode="json") == shown.json()


async def test_roles_move_while_something_is_in_force(door: Door, applied: Scene) -> None:
    """Who is on call takes over from a commander who has left, and decides about the late undo as ever.

    Once nothing is in force any more, the roles of what is over stay as they were.
    """
    request = applied.ask("INC-1", 2, undoes=DONE, mitigation=f"{DONE}-undo")
    order = {"holder": "ada", "reason": "ada is on holiday"}
    decision = {"verdict": "approve", "plan_digest": request.plan_digest}
    async with door.client("grace") as grace, door.client("linus") as linus:
        before = await grace.post(f"/v1/approvals/{request.id}/decision", json=decision)
        pages = [await look(await door.browser("grace"), "/incidents/INC-1")]
        stranger = await linus.post("/v1/incidents/INC-1/take-over", json=order)
        taken = await grace.post("/v1/incidents/INC-1/take-over", json=order)
        after = await grace.post(f"/v1/approvals/{request.id}/decision", json=decision)
        offered = await grace.post("/v1/incidents/INC-1/handoff", json={"role": "scribe", "person": "linus"})
        accepted = await linus.post("/v1/incidents/INC-1/handoff/accept", json={})
        assigned = await grace.post(
            "/v1/incidents/INC-1/roles", json={"role": "technical_lead", "person": "linus"}
        )
        other = await grace.post("/v1/incidents/INC-1/resolve", json={"reason": "x"})
        await grace.post(f"{AT}/make-permanent", json={"reason": "the fix is out"})
        late = await linus.post("/v1/incidents/INC-1/roles", json={"role": "scribe", "person": "linus"})
        pages.append(await look(await door.browser("ada"), "/incidents/INC-1"))

    assert [one.status_code for one in (before, stranger, taken, after)] == [403, 403, 200, 200]
    assert [one.status_code for one in (offered, accepted, assigned)] == [201, 200, 200]
    assert [one.status_code for one in (other, late)] == [409, 409]
    assert late.json()["error"] == "INC-1 is learning: nothing about it can be ordered any more"
    assert ["Take command over" in page.text for page in pages] == [True, False]
    assert ["Hand out a role" in page.text for page in pages] == [True, False]


async def test_roles_of_what_is_closed_stay(door: Door, applied: Scene) -> None:
    """Where the ledger changes nothing any more the page offers nothing, whatever is in force still."""
    known = applied.ledger.incidents.get("INC-1").attempts
    closed = RecordRequest(incident="INC-1", version=100, phase=Phase.CLOSED, attempts=known)
    applied.ledger.incidents.record(closed)
    async with door.client("grace") as grace:
        taken = await grace.post("/v1/incidents/INC-1/take-over", json={"holder": "ada", "reason": "gone"})
    page = await look(await door.browser("grace"), "/incidents/INC-1")

    assert applied.ledger.in_force.list(incident="INC-1") != []
    assert (taken.status_code, taken.json()["error"].split(":")[0]) == (409, "INC-1 is closed")
    assert ("Take command over" in page.text, "Hand out a role" in page.text) == (False, False)


async def test_undo(door: Door, applied: Scene) -> None:
    """An undo is ordered once, however often it is asked for, and whatever phase its incident is in."""
    order = {"reason": "the fix is out", "steps": [1]}
    async with door.client("grace") as client:
        answers = [await client.post(f"{AT}/undo", json=order) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["undo"] == answers[1].json()["undo"] == f"{DONE}-undo"
    sent = [one for one in applied.ledger.outbox.claim(20, timedelta(minutes=1)) if one.kind == UNDO]
    assert [(one.payload["steps"], one.payload["person"]) for one in sent] == [([1], "grace")]
    assert door.woken


async def test_extend_and_keep(door: Door, applied: Scene) -> None:
    """More time and for good both leave evidence; then nothing more can be ordered."""
    until = applied.clock() + timedelta(days=3)
    async with door.client("ada") as client:
        extended = await client.post(f"{AT}/extend", json={"reason": "r", "until": until.isoformat()})
        kept = await client.post(f"{AT}/make-permanent", json={"reason": "it is the fix"})
        late = await client.post(f"{AT}/undo", json={"reason": "r"})

    assert extended.json()["expires_at"] == until.isoformat().replace("+00:00", "Z")
    assert kept.json()["state"] == "permanent"
    assert late.status_code == 409
    assert "was made permanent" in late.json()["error"]
    told = [entry for entry in applied.ledger.evidence.entries() if entry.kind is EvidenceKind.IN_FORCE]
    assert [(entry.actor, entry.body["reason"]) for entry in told] == [("ada", "r"), ("ada", "it is the fix")]


@pytest.mark.parametrize(
    ("order", "body"),
    [("undo", {}), ("extend", {"until": "2026-03-11T00:00:00Z"}), ("make-permanent", {})],
)
async def test_who_may_not(door: Door, applied: Scene, order: str, body: dict[str, str]) -> None:
    """Only the owner, the Incident Commander and who is on call may; others hear who may."""
    before = applied.ledger.in_force.get(DONE)
    async with door.client("linus") as client, door.client() as nobody:
        refused = await client.post(f"{AT}/{order}", json={"reason": "r"} | body)
        unknown = await nobody.post(f"{AT}/{order}", json={"reason": "r"} | body)

    assert (refused.status_code, unknown.status_code) == (403, 401)
    assert refused.json()["error"] == (
        f"{DONE}: only its owner, its Incident Commander and who is on call may do this"
        " (ada, grace), not linus"
    )
    assert applied.ledger.in_force.get(DONE) == before


@pytest.mark.parametrize(
    ("order", "body", "says"),
    [
        ("undo", {"reason": " "}, "give a reason"),
        ("undo", {"reason": "r", "steps": [7]}, "step 7 is not in force"),
        ("undo", {"reason": "r", "more": 1}, "more: Extra inputs are not permitted"),
        ("extend", {"reason": "r", "until": "2026-03-12T00:00:00"}, "until: Input should have timezone"),
        ("extend", {"reason": "r", "until": "2026-03-01T00:00:00Z"}, "for 30 days from now at the most"),
        ("extend", {"reason": "r", "until": "9999-12-31T23:59:59Z"}, "for 30 days from now at the most"),
        ("make-permanent", {}, "reason: Field required"),
    ],
)
async def test_what_cannot_be_used(
    door: Door, applied: Scene, order: str, body: dict[str, object], says: str
) -> None:
    """A bad order gets one sentence and changes nothing."""
    before = applied.ledger.in_force.get(DONE)
    async with door.client("ada") as client:
        answer = await client.post(f"{AT}/{order}", json=body)

    assert answer.status_code in (409, 422)
    assert says in answer.json()["error"]
    assert applied.ledger.in_force.get(DONE) == before


async def test_the_page(door: Door, applied: Scene) -> None:
    """The page shows each debt with its orders, and each order takes effect once its form is sent."""
    browser = await door.browser()
    assert "Nothing is in force" not in (await browser.get("/mitigations")).text
    page = await look(browser, "/mitigations")
    debt = ("a", {"href": f"/mitigations#{DONE.replace('/', '-')}", "id": "in-force-1"})
    assert debt in (await look(browser, "/incidents/INC-1")).tags
    for order, fields in (("extend", {"hours": "72"}), ("undo", {})):
        path, form = page.form(f"/mitigations/{DONE}/{order}", reason="because", **fields)
        sent = await browser.post(path, data=form)
        assert (sent.status_code, sent.headers["location"]) == (303, "/mitigations")
    after = (await browser.get("/mitigations")).text

    found = applied.ledger.in_force.get(DONE)
    assert found.expires_at == applied.clock() + timedelta(days=3)
    assert found.undo == f"{DONE}-undo"
    assert f"Its undo {DONE}-undo is on its way." in after
    assert f'action="/mitigations/{DONE}/undo"' not in after


async def test_some_steps_are_undone_by_the_page(door: Door, scene: Scene) -> None:
    """Every step is ticked until somebody unticks it and so lets it stay; nothing ticked is no order."""
    apply(scene, 3)
    browser = await door.browser()
    page = await look(browser, "/mitigations")
    ticks = [tag["name"] for name, tag in page.tags if name == "input" and "checked" in tag]
    path, form = page.form(f"/mitigations/{DONE}/undo", reason="because")
    none = await browser.post(path, data=form)
    some = await browser.post(path, data=form | {"step-1": "yes", "step-3": "yes", "step-7": "yes"})

    assert ticks == ["step-1", "step-2", "step-3"]
    assert none.status_code == 422
    assert "Tick the steps to undo; what is not ticked stays in force" in none.text
    assert some.status_code == 303
    assert asked_to_undo(scene) == [[1, 3]]


async def test_a_step_that_is_gone_by_now_leaves_the_others_as_they_are(door: Door, scene: Scene) -> None:
    """Who had unticked the other step does not undo that one, however late the form comes."""
    apply(scene, 2)
    browser = await door.browser()
    path, form = (await look(browser, "/mitigations")).form(f"/mitigations/{DONE}/undo", reason="because")
    scene.ledger.in_force.found_undone(DONE, [1])
    late = await browser.post(path, data=form | {"step-1": "yes"})
    again = await look(browser, "/mitigations")

    assert late.status_code == 422
    assert [tag["name"] for name, tag in again.tags if "checked" in tag and name == "input"] == ["step-2"]
    assert asked_to_undo(scene) == []


async def test_the_page_of_who_may_not(door: Door, applied: Scene) -> None:
    """Who may order nothing sees why, and no form; a form that was made up is refused."""
    assert applied
    browser = await door.browser("linus")
    text = (await browser.get("/mitigations")).text
    answer = await browser.post(f"/mitigations/{DONE}/undo", data={"token": "x", "reason": "r"})

    assert "only its owner, its Incident Commander and who is on call may do this (ada, grace)" in text
    assert f"/mitigations/{DONE}/" not in text
    assert answer.status_code == 403


@pytest.mark.parametrize(("order", "hours"), [("extend", "5"), ("extend", ""), ("burn", "")])
async def test_a_form_that_says_nothing(door: Door, applied: Scene, order: str, hours: str) -> None:
    """An order that there is not, or a span that was not offered, is refused with a sentence."""
    browser = await door.browser()
    _, form = (await look(browser, "/mitigations")).form(f"/mitigations/{DONE}/extend", reason="r")
    answer: httpx.Response = await browser.post(f"/mitigations/{DONE}/{order}", data=form | {"hours": hours})

    assert answer.status_code == 422
    assert "extend it by one of the spans, or make it permanent" in answer.text
    assert applied.ledger.in_force.get(DONE).undo is None
