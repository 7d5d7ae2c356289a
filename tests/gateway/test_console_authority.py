"""Authority on the pages: who is asked, narrow yes, two people, broken glass, force, grants and reviews."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from authority.guardrails import Guard, Guardrails
from authority.policy import Policy
from contracts.approvals import ApprovalRequest, ApprovalState, Decision
from contracts.catalogue import GuardrailLimits
from contracts.evidence import Evidence, EvidenceKind
from contracts.guardrails import Guardrail, Violation
from contracts.incidents import Attempt, AttemptEnd, Phase, Role
from contracts.outcomes import Direction, Outcome, StepResult
from contracts.plans import ActionCall, Needs, Reading, Risk, Step
from tests.gateway.conftest import Door
from tests.gateway.seed import Scene, plan
from tests.gateway.test_console import POLYGLOTS, Page, look, send

TOO_SOON = Violation(rule=Guardrail.COOLDOWN, sentence="the flag was changed 2 min ago by INC-7/1")
SCALED = "k8s:deployment/eu-1/shop/web"


def steps(scene: Scene, *needs: Needs, **changes: Any) -> tuple[Step, ...]:
    """Give a step for each of these demands, each with an ungraceful variant."""
    step = plan(scene.clock, "INC-1", 2).steps[0]
    rules = {Needs.ONE: ("one-person",), Needs.TWO: ("two-people",), Needs.DENIED: ("never",)}
    forced = ActionCall(
        name=step.action.name, target=step.action.target, arguments={"on": False, "hard": True}
    )
    return tuple(
        step.model_copy(
            update={"number": number, "needs": one, "rules": rules.get(one, ()), "forced": forced} | changes
        )
        for number, one in enumerate(needs, start=1)
    )


def ask(scene: Scene, *needs: Needs, **facts: Any) -> ApprovalRequest:
    """Open an incident that ada commands and grace leads technically, and ask about a plan."""
    incident = scene.open_incident()
    scene.take(incident)
    scene.ledger.incidents.assign(incident, Role.TECHNICAL_LEAD, "grace", by="ada")
    return scene.ask(incident, 2, **({"steps": steps(scene, *needs)} | facts))


def words(page: Page) -> str:
    """Give a page's text on one line."""
    return " ".join(page.text.split())


def decision(scene: Scene) -> Decision:
    """Give what was decided."""
    signed = scene.ledger.approvals.get("APR-1").request.signed
    assert signed is not None
    return signed.decision


def consider(scene: Scene, approval: str) -> None:
    """Let what needs no person answer a request."""
    scene.ledger.approvals.consider(approval, policy=Policy(), signer=scene.signer, verifier=scene.verifier)


async def answer(browser: httpx.AsyncClient, path: str = "/approvals/APR-1", **fields: str) -> httpx.Response:
    """Send the page's form for a decision."""
    page = await look(browser, path)
    return await send(browser, page.form("/approvals/APR-1/decision", **fields))


async def test_whom_the_policy_asks(door: Door, scene: Scene) -> None:
    """Each step says whom the policy asks and by which rule, and the answer what each tick means."""
    ask(scene, Needs.ONE, Needs.TWO, Needs.DENIED)
    page = await look(await door.browser(), "/approvals/APR-1")
    boxes = {
        a["name"]: ("checked" in a, "disabled" in a) for t, a in page.tags if a.get("type") == "checkbox"
    }

    for said in (
        "one person, by the rule one-person of the policy",
        "two people, by the rule two-people of the policy",
        "in vain: the policy denies it, by the rule never of the policy",
        "Cannot be ticked: the policy denies it, whoever approves it.",
    ):
        assert said in words(page)
    approve = {name: boxes[name] for name in ("step-1", "step-2", "step-3")}
    assert approve == {"step-1": (True, False), "step-2": (True, False), "step-3": (False, True)}


async def test_a_narrow_yes(door: Door, scene: Scene) -> None:
    """Only what is ticked is approved, and the page says so; nothing ticked is no approval."""
    ask(scene, Needs.ONE, Needs.ONE)
    browser = await door.browser()
    nothing = await answer(browser, verdict="approve", reason="")
    assert (nothing.status_code, "tick the steps" in nothing.text.lower()) == (422, True)
    assert (await answer(browser, verdict="approve", reason="", **{"step-2": "yes"})).status_code == 303

    assert decision(scene).steps == (2,)
    assert "Only step 2." in words(await look(browser, "/approvals/APR-1"))


async def test_all_ticked_is_the_whole_plan(door: Door, scene: Scene) -> None:
    """With every step ticked the decision is about the plan as a whole."""
    ask(scene, Needs.ONE, Needs.ONE)
    ticked = {"step-1": "yes", "step-2": "yes"}
    await answer(await door.browser(), verdict="approve", reason="", **ticked)

    assert decision(scene).steps == ()


async def test_a_denied_step_cannot_be_slipped_in(door: Door, scene: Scene) -> None:
    """A form with a step that the page does not offer is refused, and nothing is decided."""
    ask(scene, Needs.ONE, Needs.DENIED)
    sent = await answer(
        await door.browser(), verdict="approve", reason="", **{"step-1": "yes", "step-2": "yes"}
    )

    assert (sent.status_code, "denies step 2" in sent.text) == (403, True)
    assert scene.ledger.approvals.get("APR-1").request.state is ApprovalState.PENDING


async def test_what_is_denied_can_be_rejected(door: Door, scene: Scene) -> None:
    """A plan that nobody may approve offers its rejection alone, and no broken glass."""
    ask(scene, Needs.DENIED)
    page = await look(await door.browser(), "/approvals/APR-1")
    verdicts = [hidden["verdict"] for action, hidden in page.forms if action.endswith("/decision")]

    assert "You cannot approve this. INC-1: the policy denies this, whoever approves it." in words(page)
    assert verdicts == ["reject"]


async def test_who_cannot_approve_can_turn_it_down(door: Door, scene: Scene) -> None:
    """The technical lead's page says who approves, and offers the no; a stranger's does not."""
    ask(scene, Needs.ONE)
    grace, linus = await door.browser("grace"), await door.browser("linus")
    stranger = await look(linus, "/approvals/APR-1")

    assert "You cannot decide this." in words(stranger)
    assert not [action for action, _ in stranger.forms if action.endswith("/decision")]
    assert "You cannot approve this." in words(await look(grace, "/approvals/APR-1"))
    sent = await answer(grace, verdict="reject", reason="the database is next")
    assert (sent.status_code, decision(scene).person) == (303, "grace")
    assert scene.ledger.approvals.get("APR-1").request.state is ApprovalState.REJECTED


async def test_two_people_in_turn(door: Door, scene: Scene) -> None:
    """The first yes is shown to both, with who is asked next; the second runs it."""
    ask(scene, Needs.TWO, Needs.TWO)
    ada, grace, linus = [await door.browser(name) for name in ("ada", "grace", "linus")]
    assert "Two people have to approve this." in words(await look(ada, "/approvals/APR-1"))
    assert "only the Incident Commander (ada) decides first, not grace" in words(
        await look(grace, "/approvals/APR-1")
    )
    await answer(ada, verdict="approve", reason="", **{"step-1": "yes"})
    scene.clock.forward(minutes=2)

    first = words(await look(ada, "/incidents/INC-1"))
    assert "One of two people has approved." in first
    assert "Ada Lovelace approved 2 min ago (step 1)" in first
    assert "You have approved this. It waits for another person." in first
    assert "One more person is asked: Grace Hopper" in first
    assert "Approve and run" not in words(await look(linus, "/approvals/APR-1"))
    page = await look(grace, "/approvals/APR-1")
    assert "One more person is asked: you may be it" in words(page)
    assert "Cannot be ticked: ada has not approved it." in words(page)
    assert (await answer(grace, verdict="approve", reason="", **{"step-1": "yes"})).status_code == 303

    done = words(await look(linus, "/approvals/APR-1"))
    assert "Approved by Ada Lovelace and Grace Hopper just now" in done
    assert "Ada Lovelace 2 min ago Only step 1." in done


async def test_nobody_is_left_to_be_second(door: Door, scene: Scene) -> None:
    """When nobody may be the second person the page says what to do, and offers the glass to the first."""
    ask(scene, Needs.TWO)
    scene.ledger.incidents.assign("INC-1", Role.TECHNICAL_LEAD, "ada", by="ada")
    ada = await door.browser()
    await answer(ada, verdict="approve", reason="")
    page = await look(ada, "/approvals/APR-1")
    assert "nobody in the catalogue may be it now: hand out a role" in words(page)
    sent = await send(
        ada, page.form("/approvals/APR-1/decision", verdict="approve", break_glass="yes", reason="alone")
    )

    assert sent.status_code == 303
    assert decision(scene).break_glass


async def test_guardrails_are_set_aside_by_name(door: Door, scene: Scene) -> None:
    """What stands against a plan is said in words, with a box of its own that is never ticked before."""
    ask(scene, Needs.ONE, violations=(TOO_SOON,))
    browser = await door.browser()
    page = await look(browser, "/approvals/APR-1")
    [box] = [a for _, a in page.tags if a.get("name") == "override-cooldown"]
    assert "cooldown: the flag was changed 2 min ago by INC-7/1" in words(page)
    assert "Set aside guardrail cooldown" in words(page)
    assert "checked" not in box
    fields = {"verdict": "approve", "override-cooldown": "yes"}
    silent = await answer(browser, **fields, reason=" ")
    assert (silent.status_code, "give a reason" in silent.text.lower()) == (422, True)
    await answer(browser, **fields, reason="it did not help")

    assert decision(scene).overrides == ("cooldown",)
    assert "Set aside guardrails: cooldown." in words(await look(browser, "/approvals/APR-1"))


async def test_a_guardrail_that_is_not_ticked_stands(door: Door, scene: Scene) -> None:
    """An approval without the box sets nothing aside; a name that is not the plan's is not taken."""
    ask(scene, Needs.ONE, violations=(TOO_SOON,))
    await answer(await door.browser(), verdict="approve", reason="x", **{"override-freeze": "yes"})

    assert decision(scene).overrides == ()


async def test_the_glass_is_only_for_who_may_not_otherwise(door: Door, scene: Scene) -> None:
    """It is offered to the technical lead, not to the commander, who may approve, nor to a passer-by."""
    ask(scene, Needs.ONE)
    pages = [await look(await door.browser(name), "/approvals/APR-1") for name in ("ada", "grace", "linus")]

    assert ["Break the glass" in page.text for page in pages] == [False, True, False]
    assert "May approve it now: Ada Lovelace" in words(pages[1])


async def test_breaking_the_glass(door: Door, scene: Scene) -> None:
    """It needs a reason, runs at once, is loud on every page, and waits for two reviews by others."""
    ask(scene, Needs.TWO)
    grace, ada, linus = [await door.browser(name) for name in ("grace", "ada", "linus")]
    fields = {"verdict": "approve", "break_glass": "yes"}
    assert (await answer(grace, **fields, reason="")).status_code == 422
    assert (await answer(grace, **fields, reason="ada is asleep")).status_code == 303

    assert (decision(scene).break_glass, decision(scene).person) == (True, "grace")
    assert "Broke the glass: outside the rules" in words(await look(ada, "/approvals/APR-1"))
    [broken] = [e for e in scene.ledger.evidence.entries() if e.kind is EvidenceKind.BREAK_GLASS]
    told = ("li", {"id": f"entry-{broken.index}", "class": "loud"})
    assert told in (await look(ada, "/incidents/INC-1")).tags
    assert "1 broken glass to review" in words(await look(ada, "/"))
    own = await look(grace, "/reviews")
    assert "You cannot review it: you broke it: two others review it." in words(own)
    assert not [action for action, _ in own.forms if action.endswith("/review")]
    for browser, says in ((ada, "yes"), (linus, "no")):
        page = await look(browser, "/reviews")
        assert "Grace Hopper broke the glass just now: “ada is asleep”" in words(page)
        form = page.form("/approvals/APR-1/review")
        mute = await send(browser, (form[0], form[1] | {"remark": "hm"}))
        assert (mute.status_code, "was right" in mute.text) == (422, True)
        await send(browser, (form[0], form[1] | {"was_right": says, "remark": "call linus next time"}))

    said = words(await look(ada, "/reviews"))
    assert "2 of 2 reviews" in said
    assert "Linus Pauling just now: wrong. call linus next time" in said
    assert "to review" not in words(await look(ada, "/"))


async def test_a_passer_by_breaks_no_glass(door: Door, scene: Scene) -> None:
    """Whoever sends the form without the role is refused, and that is in the log."""
    ask(scene, Needs.ONE)
    linus = await door.browser("linus")
    page = await look(await door.browser("grace"), "/approvals/APR-1")
    form = page.form("/approvals/APR-1/decision", verdict="approve", break_glass="yes", reason="me")
    foreign = await send(linus, form)
    assert (foreign.status_code, "not made for your session" in foreign.text) == (403, True)
    async with door.client("linus") as api:
        order = {
            "verdict": "approve",
            "plan_digest": form[1]["plan_digest"],
            "break_glass": True,
            "reason": "me",
        }
        refused = await api.post("/v1/approvals/APR-1/decision", json=order)

    assert (refused.status_code, "break glass" in refused.json()["error"]) == (403, True)
    kinds = {entry.kind for entry in scene.ledger.evidence.entries()}
    assert {EvidenceKind.ACCESS, EvidenceKind.DECISION_REFUSED} <= kinds


def begin(scene: Scene) -> None:
    """Let step 1 begin, as a worker does."""
    found = scene.ledger.approvals.get("APR-1")
    entry = scene.ledger.journal.begin(
        "INC-1/2/1/apply",
        incident="INC-1",
        mitigation="INC-1/2",
        step=1,
        direction=Direction.APPLY,
        plan_digest=found.request.plan_digest,
        approval="APR-1",
    )
    guard = Guard(Guardrails(GuardrailLimits()), found.plan)
    scene.ledger.journal.intend(entry, before={}, actor="worker", guard=guard)


async def test_forcing_a_step(door: Door, scene: Scene) -> None:
    """What runs and hangs can be forced by who may decide: with a reason, once, by a token of its own."""
    ask(scene, Needs.ONE, Needs.ONE)
    ada, grace = await door.browser(), await door.browser("grace")
    await answer(ada, verdict="approve", reason="", **{"step-1": "yes"})
    assert "can be forced" not in words(await look(ada, "/approvals/APR-1"))
    begin(scene)

    assert "Step 1 can be forced, if it hangs" in words(await look(ada, "/incidents/INC-1"))
    assert "You cannot force it: INC-1: only the Incident Commander (ada) decides, not grace." in words(
        await look(grace, "/approvals/APR-1")
    )
    page = await look(ada, "/approvals/APR-1")
    assert "hard \N{MINUS SIGN}absent +true" in words(page)
    assert "Step 2 can be forced" not in words(page)
    action, fields = page.form("/approvals/APR-1/force")
    wrong = page.form("/signout")[1]["token"]
    assert (await send(ada, (action, fields | {"reason": "x", "token": wrong}))).status_code == 403
    assert (await send(ada, (action, fields | {"reason": " "}))).status_code == 422
    for _ in range(2):
        assert (await send(ada, (action, fields | {"reason": "it hangs"}))).status_code == 303

    page = await look(ada, "/approvals/APR-1")
    assert "It was ordered." in words(page)
    assert not [1 for action, _ in page.forms if action.endswith("/force")]
    forced = [e for e in scene.ledger.evidence.entries() if e.kind is EvidenceKind.FORCED]
    assert [entry.summary for entry in forced] == ["ada forces step 1 of INC-1/2: it hangs"]


async def test_how_far_a_plan_is(door: Door, scene: Scene) -> None:
    """While it runs each step says how far it is: told, carried out, measured with the number, judged."""
    request = ask(scene, Needs.ONE, Needs.ONE)
    scene.decide(request)
    ada, key = await door.browser(), "INC-1/2/1/apply"

    async def said() -> str:
        page = words(await look(ada, "/incidents/INC-1"))
        assert "Step 2 Switch off the flag new-recommendations: not begun" in page
        start = page.index("Step 1 Switch off the flag new-recommendations: ")
        return page[start : page.index("Step 2", start)]

    assert "not begun" in await said()
    begin(scene)
    assert "the provider was told just now" in await said()
    entry = scene.ledger.journal.get(key)
    assert entry is not None
    scene.ledger.journal.settle(entry, result=StepResult(action=key, outcome=Outcome.DONE), actor="stanch")
    scene.ledger.watches.keep(f"verification/{key}", (), {"said": ["2 of 6 pods are new"]})
    assert "done, the provider carries it out: 2 of 6 pods are new" in await said()
    scene.ledger.watches.keep(f"verification/{key}", [Reading(value=12.5, at=scene.clock())], {})
    scene.clock.forward(seconds=3)
    assert (
        "its effect is measured: error_rate 12.5 % (3 s ago); effective if error_rate below 1 %"
        in await said()
    )
    assert "its effect is measured: error_rate 12.5 %" in words(await look(ada, "/approvals/APR-1"))
    verified = {"key": f"{key}/verification", "kind": EvidenceKind.VERIFICATION, "incident": "INC-1"}
    told = {
        "actor": "stanch",
        "at": scene.clock(),
        "summary": "x",
        "body": {"detail": "error_rate 0.2 %: fine"},
    }
    scene.ledger.evidence.append(Evidence.model_validate(verified | told))
    assert "error_rate 0.2 %: fine" in await said()
    end = Attempt(
        mitigation="INC-1/2",
        playbook="x",
        title="x",
        plan_digest=request.plan_digest,
        end=AttemptEnd.EFFECTIVE,
    )
    scene.record("INC-1", 1, Phase.MONITORING, attempts=(end,))

    assert "not begun" not in words(await look(ada, "/incidents/INC-1"))


async def test_two_force_what_asks_two(door: Door, scene: Scene) -> None:
    """The first order waits for the second, and the page says for whom."""
    ask(scene, Needs.TWO)
    ada, grace = await door.browser(), await door.browser("grace")
    for browser in (ada, grace):
        await answer(browser, verdict="approve", reason="")
    begin(scene)
    assert "You cannot force it" in words(await look(grace, "/approvals/APR-1"))
    for browser, seen in ((ada, "ada has ordered it."), (grace, "It was ordered.")):
        form = (await look(browser, "/approvals/APR-1")).form("/approvals/APR-1/force", reason="it hangs")
        assert (await send(browser, form)).status_code == 303
        assert seen in words(await look(browser, "/approvals/APR-1"))


async def test_what_has_ended_is_not_forced(door: Door, scene: Scene) -> None:
    """After its end a mitigation has nothing to force."""
    request = ask(scene, Needs.ONE)
    scene.decide(request)
    begin(scene)
    ended = Attempt(
        mitigation="INC-1/2",
        playbook="disable-flag",
        title="x",
        plan_digest=request.plan_digest,
        end=AttemptEnd.EFFECTIVE,
        detail="",
    )
    scene.record("INC-1", 1, Phase.MONITORING, attempts=(ended,))

    assert "can be forced" not in words(await look(await door.browser(), "/approvals/APR-1"))


AHEAD = {
    "ahead": "yes",
    "verdict": "approve",
    "unit": "minutes",
    "lasts": "30",
    "uses": "2",
    "reason": "calm",
}
INSIDE = {"actions": "launchdarkly.set_flag", "targets": "launchdarkly:flag/shop/*", "max_risk": "low"}


async def test_yes_ahead_of_time(door: Door, scene: Scene) -> None:
    """With the plan an envelope is approved, prefilled from it; sent twice it is one grant."""
    request = ask(scene, Needs.ONE)
    ada = await door.browser()
    page = await look(ada, "/approvals/APR-1")
    assert "launchdarkly:flag/shop/production/new-recommendations\n" in page.text
    assert "Approve, and say yes ahead of time" in page.text
    action, fields = page.form("/approvals/APR-1/decision", **AHEAD, **INSIDE, limits="on = false")
    for _ in range(2):
        assert (await send(ada, (action, fields))).status_code == 303

    [given] = scene.ledger.grants.list()
    assert decision(scene).plan_digest == request.plan_digest
    assert (given.grant.incident, given.grant.uses, given.grant.given_by) == ("INC-1", 2, "ada")
    assert given.grant.expires_at == scene.clock() + timedelta(minutes=30)
    assert given.grant.envelope.limits["on"].one_of == (False,)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"limits": "on is false"}, "is no limit"),
        ({"lasts": "soon"}, "lasts: &#39;soon&#39; is no whole number"),
        ({"lasts": "0"}, "lasts: input should be greater than"),
        ({"lasts": "129601"}, "lasts: input should be less than"),
        ({"reason": " "}, "give a reason"),
        ({"uses": "0"}, "uses: "),
        ({"actions": " "}, "actions: "),
        ({"targets": "k8s:deployment/eu-1/shop/wbe"}, "no grant is about"),
        ({"max_risk": "all"}, "choose one of none, low"),
        ({"max_risk": "high"}, "cannot be granted"),
    ],
)
async def test_an_envelope_that_is_none(door: Door, scene: Scene, wrong: dict[str, str], said: str) -> None:
    """An envelope that cannot be given approves nothing either: one sentence, and the question stays."""
    ask(scene, Needs.ONE)
    ada = await door.browser()
    form = (await look(ada, "/approvals/APR-1")).form("/approvals/APR-1/decision", ahead="yes")
    sent = await send(ada, (form[0], form[1] | AHEAD | INSIDE | wrong))

    assert (sent.status_code in {403, 422}, said in sent.text.lower()) == (True, True), sent.text
    assert scene.ledger.approvals.get("APR-1").request.state is ApprovalState.PENDING
    assert scene.ledger.grants.list() == []


async def test_a_grant_answers(door: Door, scene: Scene) -> None:
    """A plan that a grant answered says under which, and by whom it was given."""
    ada = await door.browser()
    ask(scene, Needs.ONE)
    form = (await look(ada, "/approvals/APR-1")).form("/approvals/APR-1/decision", ahead="yes")
    await send(ada, (form[0], form[1] | AHEAD | INSIDE))
    scene.ask("INC-1", 3, steps=steps(scene, Needs.ONE))
    consider(scene, "APR-2")

    assert "Answered by the grant GRT-1, which Ada Lovelace gave just now." in words(
        await look(ada, "/approvals/APR-2")
    )
    assert "Used once of 2" in words(await look(ada, "/grants"))


async def test_a_grant_of_high_risk_needs_a_fresh_sign_in(door: Door, scene: Scene) -> None:
    """With a session that somebody found open nobody says yes to high risk ahead of time."""
    scene.take(scene.open_incident())
    ada = await door.browser()
    order = INSIDE | {"place": "web|production", "lasts": "8", "unit": "hours", "reason": "calm"}
    form = (await look(ada, "/grants")).form("/grants", **(order | {"max_risk": "high"}))
    scene.clock.forward(minutes=16)
    answer = await send(ada, form)

    assert answer.headers.get("location", "").endswith("&fresh=1")
    assert scene.ledger.grants.list() == []
    (refused,) = [e for e in scene.ledger.evidence.entries() if e.key.startswith("refused/stale/ada/")]
    assert refused.summary.startswith("Refused to ada: a grant of high risk needs a sign-in")


async def test_grants_are_given_listed_and_revoked(door: Door, scene: Scene) -> None:
    """The page of grants: only who may gives one, who gave it or is on call revokes it, it stays."""
    incident = scene.open_incident()
    scene.take(incident)
    ada, linus = await door.browser(), await door.browser("linus")
    assert "Nobody has given a grant." in (await look(ada, "/grants")).text
    order = INSIDE | {
        "place": "web|production",
        "lasts": "8",
        "unit": "hours",
        "after": "5",
        "reason": "calm",
    }
    refused = await send(ada, (await look(ada, "/grants")).form("/grants", **order))
    assert (refused.status_code, scene.ledger.grants.list()) == (403, [])
    people = [
        one.model_copy(update={"groups": ("incident-commanders",)}) if one.id == "ada" else one
        for one in scene.catalogue.people
    ]
    scene.catalogue = scene.catalogue.model_copy(update={"people": tuple(people)})
    door = Door(scene, door.settings)
    ada, linus = await door.browser(), await door.browser("linus")
    given = await send(ada, (await look(ada, "/grants")).form("/grants", **order))
    assert given.headers["location"] == "/grants"

    page = await look(linus, "/grants")
    assert "when all have been silent for 5 min" in words(page)
    assert "linus is not on call for web" in words(page)
    assert not [1 for action, _ in page.forms if action.endswith("/revoke")]
    form = (await look(ada, "/grants")).form("/grants/GRT-1/revoke")
    assert (await send(ada, (form[0], form[1] | {"reason": ""}))).status_code == 422
    assert (await send(ada, (form[0], form[1] | {"reason": "enough"}))).status_code == 303
    assert "Revoked by Ada Lovelace just now" in words(await look(linus, "/grants"))


async def test_the_policy_answers(door: Door, scene: Scene) -> None:
    """What nobody had to be asked about says so."""
    ask(scene, Needs.NOBODY)
    consider(scene, "APR-1")

    assert "Answered by the policy: it asks nobody for this." in words(
        await look(await door.browser(), "/approvals/APR-1")
    )


async def test_nothing_is_given_by_another_site(door: Door, scene: Scene) -> None:
    """Every form about authority is turned away when another site sends it, or without its token."""
    ask(scene, Needs.TWO)
    grace = await door.browser("grace")
    await answer(grace, verdict="approve", break_glass="yes", reason="alone")
    ada = await door.browser()
    page = await look(ada, "/grants")
    review = (await look(ada, "/reviews")).form("/approvals/APR-1/review", remark="x")
    forms = [
        (page.form("/grants", **INSIDE, place="web|production", lasts="1", unit="hours", reason="x")),
        ("/grants/GRT-1/revoke", {"token": page.form("/signout")[1]["token"], "reason": "x"}),
        (review[0], review[1] | {"was_right": "yes"}),
        ("/approvals/APR-1/force", {"token": review[1]["token"], "step": "1", "reason": "x"}),
    ]
    for action, fields in forms:
        away = await send(
            ada, (action, fields), Origin="http://evil.example", **{"Sec-Fetch-Site": "cross-site"}
        )
        bare = await send(ada, (action, fields | {"token": "0" * 64}))
        assert (away.status_code, bare.status_code) == (403, 403), action
    assert scene.ledger.reviews.list()[0].reviews == ()


async def test_looking_changes_nothing(door: Door, scene: Scene) -> None:
    """No page about authority writes anything, and none of the forms can be sent by a link.

    Who looks at a plan of high risk long after signing in has been refused nothing.
    """
    ada = await door.browser()
    scene.clock.forward(minutes=20)
    ask(scene, violations=(TOO_SOON,), steps=steps(scene, Needs.TWO, risk=Risk.HIGH))
    size = scene.ledger.evidence.size()
    assert "High risk needs a fresh sign-in." in words(await look(ada, "/approvals/APR-1"))
    for path in ("/approvals/APR-1", "/incidents/INC-1", "/grants", "/reviews", "/v1/grants", "/v1/reviews"):
        await ada.get(path)
    links = ["/approvals/APR-1/decision", "/approvals/APR-1/force", "/approvals/APR-1/review"]
    statuses = {(await ada.get(path)).status_code for path in (*links, "/grants/GRT-1/revoke")}

    assert statuses == {405}
    assert scene.ledger.evidence.size() == size


@pytest.mark.parametrize("text", POLYGLOTS[:5])
async def test_hostile_text_stays_text(door: Door, scene: Scene, text: str) -> None:
    """What people, policies and guardrails write is text on these pages too."""
    hostile = steps(scene, Needs.ONE, Needs.ONE, rules=(text,), title=text)
    ask(scene, violations=(Violation(rule=Guardrail.FREEZE, sentence=text),), steps=hostile)
    grace = await door.browser("grace")
    await answer(grace, verdict="approve", break_glass="yes", reason=text, **{"step-1": "yes"})
    for path in ("/approvals/APR-1", "/reviews"):
        page = await look(grace, path)
        assert {tag for tag, _ in page.tags} & {"svg", "iframe", "object", "embed", "style"} == set()
        assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
        assert text in page.text or path == "/reviews"


async def test_every_field_of_these_pages_has_a_label(door: Door, scene: Scene) -> None:
    """Each field that a person fills in has a label, each id is there once."""
    ask(scene, Needs.ONE, Needs.ONE)
    await answer(
        await door.browser("grace"), verdict="approve", break_glass="yes", reason="x", **{"step-1": "yes"}
    )
    begin(scene)
    scene.ask("INC-1", 3, steps=steps(scene, Needs.ONE, Needs.TWO), violations=(TOO_SOON,))
    scene.ask("INC-1", 4, steps=steps(scene, Needs.ONE, Needs.ONE))
    browser = await door.browser()
    for path in ("/incidents/INC-1", *(f"/approvals/APR-{n}" for n in (1, 2, 3)), "/grants", "/reviews"):
        page = await look(browser, path)
        labels = {a["for"] for tag, a in page.tags if tag == "label" and "for" in a}
        typed = [
            a
            for t, a in page.tags
            if t in {"select", "textarea", "input"} and a.get("type") not in {"hidden", "radio"}
        ]
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert [a for a in typed if a.get("id") not in labels] == [], path
        assert sorted(ids) == sorted(set(ids)), path
