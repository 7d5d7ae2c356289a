"""`stanch approve` and `stanch reject`: what is shown is what is decided."""

import json
import os
import pty
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from authority import seals
from contracts.approvals import Approval, ApprovalState, Envelope, Grant, StandingGrant, Verdict
from contracts.guardrails import Guardrail, Violation
from contracts.plans import Difference, Needs
from tests.cli.answers import APPROVAL, NOTICE, NOW, PLAN, REQUEST, STEP, Answers, signed
from tests.cli.conftest import Terminal
from tests.cli.test_main import ROOT, STANCH

PATH = "/v1/approvals/APR-2"
DECIDE = f"POST {PATH}/decision"

FORCED = STEP.action.model_copy(update={"arguments": {"hard": True}})
GRANT = StandingGrant(
    grant=Grant(
        id="GRT-3",
        incident="INC-1",
        service="web",
        environment="production",
        envelope=Envelope(actions=("launchdarkly.set_flag",), targets=("launchdarkly:flag/*",)),
        given_by="ada",
        authenticated_by="local",
        reason="calm",
        given_at=NOW,
        expires_at=NOW + timedelta(minutes=30),
    )
)


@pytest.fixture
def asks(gateway: Answers) -> Answers:
    """Give a gateway that asks about the plan."""
    gateway.give(f"GET {PATH}", APPROVAL)
    gateway.give(f"GET {PATH}/notices", [NOTICE])
    gateway.give(f"GET {PATH}/readings", [])
    gateway.give(f"POST {PATH}/seen", [NOTICE])
    gateway.give(DECIDE, signed(Verdict.APPROVE))
    return gateway


def test_show_says_who_was_told(stanch: Terminal, asks: Answers) -> None:
    """Who looks at a request sees who was told of it, and has seen it by that."""
    said = stanch("approval", "show", "APR-2")
    for_programs = json.loads(stanch("approval", "show", "APR-2", "--json").out)

    assert "told      grace by webhook: failed, " in said.out
    assert "webhook of grace at chat.example.com: 500" in " ".join(said.out.split())
    assert [one.path for one in asks.orders] == [f"{PATH}/seen"] * 2
    assert [one["person"] for one in for_programs["notices"]] == ["grace"]


def test_a_plan_that_replaces_another_says_why(stanch: Terminal, asks: Answers) -> None:
    """Who is asked again, because the target is no longer as it was shown, sees what has changed first."""
    changed = Difference(path="flag/new version", before=7, after=8)
    plan = PLAN.model_copy(update={"supersedes": "c" * 64, "differences": (changed,)})
    asks.give(f"GET {PATH}", APPROVAL.model_copy(update={"plan": plan}))
    words = stanch("approval", "show", "APR-2").out

    at = [words.index(said) for said in ("REPLACES the plan whose", "flag/new version: 7 → 8", "Step 1 of")]
    assert at == sorted(at)


def test_showing_as_nobody_tells_nothing(
    run: Terminal, asks: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does not say who is asking only looks."""
    monkeypatch.setenv("STANCH_HTTP_PORT", str(asks.port))
    said = run("approval", "show", "APR-2")

    assert (said.code, asks.orders) == (0, [])


def test_the_list_for_programs_says_how_long_it_took(stanch: Terminal, gateway: Answers) -> None:
    """With --json each request has how long it waited, and who answered."""
    answer = signed(Verdict.APPROVE)
    closed = {"state": ApprovalState.APPROVED, "signed": answer, "closed_at": NOW + timedelta(seconds=90)}
    gateway.give("GET /v1/approvals", [REQUEST.model_copy(update=closed), REQUEST])

    first, second = json.loads(stanch("approval", "list", "--json").out)

    assert (first["waited_seconds"], first["answered_by"]) == (90.0, "ada")
    assert first["answers"] == {"ada": (answer.decision.decided_at - REQUEST.asked_at).total_seconds()}
    assert (second["answered_by"], second["answers"]) == (None, {})
    assert second["waited_seconds"] > 0


def test_approve_shows_the_whole_plan(stanch: Terminal, asks: Answers) -> None:
    """Before a decision a person sees step, diff, risk, blast radius, verification, undo and digest."""
    said = stanch("approve", "APR-2", "--yes")
    words = " ".join(said.out.split())

    assert asks.orders
    for part in (
        "APR-2 SEV2 INC-1 pending, expires",
        "Disable flag new-recommendations",
        "It was turned on 12 minutes before the first alert.",
        "Step 1 of 1: Turn new-recommendations off",
        "launchdarkly.set_flag on launchdarkly:flag/shop/production/new-recommendations",
        "change on: true → false",
        "risk low",
        "touches everybody who is served new-recommendations in production",
        "verify error_rate below 1 % for 1 min, within 5 min; when sealed: 12.5",
        'undo launchdarkly.set_flag on launchdarkly:flag/shop/production/new-recommendations {"on": true}',
        "undo when worse",
        f"digest {REQUEST.plan_digest}",
        "APR-2 approved by ada",
    ):
        assert part in words


def test_approve_sends_the_digest_that_was_shown(stanch: Terminal, asks: Answers) -> None:
    """The decision names exactly the plan that the person saw."""
    said = stanch("approve", "APR-2", "--yes", "--reason", "flag is new")

    assert said.code == 0
    assert [(one.path, one.body) for one in asks.orders] == [
        (
            f"{PATH}/decision",
            {"verdict": "approve", "plan_digest": REQUEST.plan_digest, "reason": "flag is new"},
        )
    ]


def test_reject_sends_its_reason(stanch: Terminal, asks: Answers) -> None:
    """A rejection carries the reason."""
    asks.give(DECIDE, signed(Verdict.REJECT))

    said = stanch("reject", "APR-2", "--yes", "--reason", "too early", "--json")

    assert json.loads(said.out) == signed(Verdict.REJECT).model_dump(mode="json")
    assert asks.orders[0].body == {
        "verdict": "reject",
        "plan_digest": REQUEST.plan_digest,
        "reason": "too early",
    }


def test_refusals_stand_out(stanch: Terminal, asks: Answers) -> None:
    """What the provider would refuse is shown with the step."""
    step = STEP.model_copy(update={"refusals": ("the token may not change this flag",), "undo": None})
    plan = PLAN.model_copy(update={"steps": (step.model_copy(update={"undo_note": "it was gone"}),)})
    request = REQUEST.model_copy(update={"plan_digest": seals.digest(plan)})
    asks.give(f"GET {PATH}", Approval(request=request, plan=plan))

    said = stanch("approval", "show", "APR-2")

    assert "  REFUSED   the token may not change this flag" in said.out
    assert "  undo      not possible: it was gone" in said.out


def test_without_a_terminal_nothing_is_assumed(stanch: Terminal, asks: Answers) -> None:
    """A script has to say --yes; the sentence tells how to pin what was looked at."""
    said = stanch("approve", "APR-2")

    assert said.code == 1
    assert said.err.endswith(f"--yes --digest {REQUEST.plan_digest[:12]}\n")
    assert asks.orders == []


@pytest.mark.parametrize(("answer", "code", "orders"), [("y\n", 0, 1), ("\n", 1, 0), ("no\n", 1, 0)])
def test_a_terminal_is_asked(asks: Answers, home: Path, answer: str, code: int, orders: int) -> None:
    """Only a yes on the terminal sends the decision."""
    env = os.environ | {"STANCH_HOME": str(home), "STANCH_HTTP_PORT": str(asks.port), "STANCH_PERSON": "ada"}
    master, slave = pty.openpty()
    os.write(master, answer.encode())

    ended = subprocess.run(
        [*STANCH, "approve", "APR-2"], cwd=ROOT, env=env, stdin=slave, capture_output=True, check=False
    )

    os.close(master)
    os.close(slave)
    assert b"Approve APR-2 as ada? [y/N]" in ended.stderr
    assert (ended.returncode, len(asks.orders)) == (code, orders)


@pytest.mark.parametrize("digits", [12, 64])
def test_a_pinned_digest_is_decided(stanch: Terminal, asks: Answers, digits: int) -> None:
    """The digest that somebody looked at before may be given whole or by its beginning."""
    said = stanch("approve", "APR-2", "--yes", "--digest", REQUEST.plan_digest[:digits].upper())

    assert (said.code, len(asks.orders)) == (0, 1)


@pytest.mark.parametrize(("digits", "other"), [(0, "0" * 64), (11, ""), (0, ""), (63, "x")])
def test_another_digest_is_refused(stanch: Terminal, asks: Answers, digits: int, other: str) -> None:
    """When the plan is not the pinned one, or the pin is too short to mean anything, nothing is sent."""
    said = stanch("approve", "APR-2", "--yes", "--digest", REQUEST.plan_digest[:digits] + other)

    assert (said.code, asks.orders) == (1, [])
    assert said.err.startswith(f"stanch: APR-2 asks about the plan {REQUEST.plan_digest}, not ")


def test_a_plan_that_is_not_the_sealed_one_is_refused(stanch: Terminal, asks: Answers) -> None:
    """A plan whose digest is not the request's is shown to nobody as if it were, and not decided on."""
    other = PLAN.model_copy(update={"title": "Something else"})
    asks.give(f"GET {PATH}", Approval(request=REQUEST, plan=other))

    said = stanch("approve", "APR-2", "--yes")

    assert (said.code, said.out, asks.orders) == (1, "", [])
    assert "does not have the digest of the sealed one" in said.err


def test_a_field_that_the_terminal_does_not_know_is_refused(stanch: Terminal, asks: Answers) -> None:
    """A newer gateway's plan may say more than is shown: then it is decided elsewhere."""
    plan = PLAN.model_dump(mode="json") | {"also_deletes": "everything"}
    request = REQUEST.model_dump(mode="json") | {"plan_digest": seals.digest(plan)}
    asks.give(f"GET {PATH}", {"request": request, "plan": plan})

    said = stanch("approve", "APR-2", "--yes")

    assert (said.code, asks.orders) == (1, [])


def test_a_decided_request_says_who_was_first(stanch: Terminal, asks: Answers) -> None:
    """The second to answer learns who decided and when; nothing is sent."""
    closed = REQUEST.model_copy(
        update={"state": ApprovalState.REJECTED, "signed": signed(Verdict.REJECT, person="grace")}
    )
    asks.give(f"GET {PATH}", Approval(request=closed, plan=PLAN))

    said = stanch("approve", "APR-2", "--yes")

    assert (said.code, asks.orders) == (1, [])
    assert "already decided: APR-2  SEV2  INC-1  rejected by grace, " in said.err


def test_the_same_decision_twice_is_the_recorded_one(stanch: Terminal, asks: Answers) -> None:
    """Who asks again after a lost answer is told what was recorded."""
    closed = REQUEST.model_copy(update={"state": ApprovalState.APPROVED, "signed": signed(Verdict.APPROVE)})
    asks.give(f"GET {PATH}", Approval(request=closed, plan=PLAN))

    said = stanch("approve", "APR-2", "--yes")

    assert (said.code, asks.orders) == (0, [])
    assert said.out.startswith("APR-2 approved by ada, ")


def test_an_expired_request_is_refused(stanch: Terminal, asks: Answers) -> None:
    """Nobody's silence is an answer."""
    closed = REQUEST.model_copy(
        update={
            "state": ApprovalState.EXPIRED,
            "closed_at": NOW - timedelta(hours=2),
            "closed_reason": "nobody answered",
        }
    )
    asks.give(f"GET {PATH}", Approval(request=closed, plan=PLAN))

    said = stanch("approve", "APR-2", "--yes")

    assert said.code == 1
    assert "APR-2  SEV2  INC-1  expired, " in said.err
    assert "(2 h ago)" in said.err


def test_the_plans_data_cannot_drive_the_terminal(stanch: Terminal, asks: Answers) -> None:
    """Escape sequences and bidi marks in a plan are shown as replacement marks."""
    plan = PLAN.model_copy(update={"title": "a\x1b[2Jb\u202ec\x9bd", "rationale": "line\nfeed\ttab"})
    request = REQUEST.model_copy(update={"plan_digest": seals.digest(plan)})
    asks.give(f"GET {PATH}", Approval(request=request, plan=plan))

    said = stanch("approval", "show", "APR-2")

    assert "a\ufffd[2Jb\ufffdc\ufffdd" in said.out
    assert "line feed tab" in said.out
    assert not {"\x1b", "\u202e", "\x9b"} & set(said.out)


def test_list_asks_for_what_is_pending(stanch: Terminal, gateway: Answers) -> None:
    """Without --state only open questions are listed."""
    gateway.give("GET /v1/approvals", [REQUEST])

    said = stanch("approval", "list")

    assert gateway.asked[0].path == "/v1/approvals?state=pending"
    assert [line.split()[0] for line in said.out.splitlines()] == ["ID", "APR-2"]


def test_an_empty_list_is_a_sentence(stanch: Terminal, gateway: Answers) -> None:
    """Nothing to do is said, not shown as an empty table; with --json it is an empty list."""
    gateway.give("GET /v1/approvals", [])

    assert stanch("approval", "list").out == "Nothing waits for a decision.\n"
    assert stanch("approval", "list", "--state", "all", "--json").out == "[]\n"
    assert gateway.asked[1].path == "/v1/approvals"


def asking(asks: Answers, *needs: Needs, **facts: object) -> Approval:
    """Let the gateway ask about a plan with a step for each of these demands."""
    steps = tuple(
        STEP.model_copy(update={"number": n, "needs": one, "rules": ("two-people",), "forced": FORCED})
        for n, one in enumerate(needs, start=1)
    )
    plan = PLAN.model_copy(update={"steps": steps} | facts)
    request = REQUEST.model_copy(update={"plan_digest": seals.digest(plan), "needs": plan.needs()})
    approval = Approval(request=request, plan=plan)
    asks.give(f"GET {PATH}", approval)
    return approval


def test_whom_it_asks_is_shown(stanch: Terminal, asks: Answers) -> None:
    """Each step says whom the policy asks and by which rule; guardrails and forced variants are shown."""
    too_soon = Violation(rule=Guardrail.COOLDOWN, sentence="changed 2 min ago by INC-7/1")
    asking(asks, Needs.TWO, Needs.DENIED, violations=(too_soon,))

    words = " ".join(stanch("approval", "show", "APR-2").out.split())

    for part in (
        "asks two people, by two-people",
        "asks in vain: the policy denies it",
        "GUARDRAIL cooldown: changed 2 min ago by INC-7/1",
        'new-recommendations {"hard": true}',
    ):
        assert part in words


def test_the_first_of_two_is_told_so(stanch: Terminal, asks: Answers) -> None:
    """One approval of two runs nothing, and the terminal says it; the list says who is still asked."""
    approval = asking(asks, Needs.TWO)

    assert "It asks two people: one more has to approve" in stanch("approve", "APR-2", "--yes").out
    request = approval.request.model_copy(update={"given": (signed(Verdict.APPROVE, person="grace"),)})
    asks.give("GET /v1/approvals", [request])
    assert "two people; grace approved, one more is asked" in stanch("approval", "list").out


def test_what_an_approval_may_say_besides_yes(stanch: Terminal, asks: Answers) -> None:
    """Steps, a broken glass and guardrails that are set aside go with the decision."""
    approval = asking(asks, Needs.ONE, Needs.ONE)
    stanch(
        "approve",
        "APR-2",
        "--yes",
        "--steps",
        "1,2",
        "--break-glass",
        "--reason",
        "alone",
        "--override",
        "cooldown",
    )

    assert asks.orders[0].body == {
        "verdict": "approve",
        "plan_digest": approval.request.plan_digest,
        "reason": "alone",
        "steps": [1, 2],
        "break_glass": True,
        "overrides": ["cooldown"],
    }


def test_the_envelope_is_around_the_plan(stanch: Terminal, asks: Answers) -> None:
    """A yes ahead of time is given after the decision, with the plan's actions and the named limits."""
    asks.give("POST /v1/grants", GRANT)
    said = stanch(
        *("approve", "APR-2", "--yes", "--reason", "calm"),
        *("--envelope-minutes", "30", "--uses", "2", "--limit", "on=false"),
    )

    assert [one.path for one in asks.orders] == [f"{PATH}/decision", "/v1/grants"]
    body = asks.orders[1].body
    assert (body["incident"], body["lasts"], body["uses"]) == ("INC-1", 1800, 2)
    assert body["envelope"]["actions"] == ["launchdarkly.set_flag"]
    assert body["envelope"]["limits"]["on"]["one_of"] == [False]
    assert "GRT-3 says yes to more of it in INC-1 until" in said.out


def test_a_limit_leaves_the_others(stanch: Terminal, asks: Answers) -> None:
    """What is limited by hand keeps what the plan limits: a floor does not lift the ceiling."""
    asks.give("POST /v1/grants", GRANT)
    stanch("approve", "APR-2", "--yes", "--reason", "calm", "--envelope-minutes", "30", "--limit", "on>=0")

    assert asks.orders[1].body["envelope"]["limits"]["on"] == {
        "at_least": 0.0,
        "at_most": None,
        "one_of": [False],
    }


def test_an_envelope_that_is_refused_says_what_stands(stanch: Terminal, asks: Answers) -> None:
    """The decision was taken before: the sentence says both."""
    asks.give("POST /v1/grants", {"error": "it asks two people"}, status=403)
    said = stanch("approve", "APR-2", "--yes", "--reason", "calm", "--envelope-minutes", "30")

    assert said.code == 1
    assert "APR-2 is approved, but the yes ahead of time was refused: it asks two people" in said.err


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--break-glass",), "say why with --reason"),
        (("--override", "cooldown"), "say why with --reason"),
        (("--envelope-minutes", "30"), "needs a --reason"),
        (("--envelope-minutes", "0", "--reason", "x"), "at least one minute"),
        (("--limit", "replicas<=10"), "add --envelope-minutes"),
        (("--envelope-minutes", "9", "--reason", "x", "--limit", "replicas"), "is no limit"),
    ],
)
def test_what_an_approval_lacks(
    stanch: Terminal, asks: Answers, argv: tuple[str, ...], sentence: str
) -> None:
    """What is missing or cannot be read is one sentence, and nothing is sent."""
    said = stanch("approve", "APR-2", "--yes", *argv)

    assert (said.code, asks.orders, said.err.count("\n")) == (1, [], 1)
    assert sentence in said.err


@pytest.mark.parametrize("argv", [("--override", "everything"), ("--steps", "one")])
def test_a_name_that_is_none(stanch: Terminal, asks: Answers, argv: tuple[str, str]) -> None:
    """A guardrail or step that cannot be meant is a wrong command line."""
    assert (stanch("approve", "APR-2", "--yes", *argv).code, asks.orders) == (2, [])


def test_force(stanch: Terminal, asks: Answers) -> None:
    """Before a step is forced both calls are shown; without a terminal --yes is needed."""
    asking(asks, Needs.ONE)
    asks.give(f"POST {PATH}/force", signed(Verdict.APPROVE))
    order = ("approval", "force", "APR-2", "--step", "1", "--reason", "it hangs")

    silent = stanch(*order)
    assert (silent.code, asks.orders) == (1, [])
    assert "FORCED    launchdarkly.set_flag" in silent.out
    said = stanch(*order, "--yes")
    assert (said.code, [one.body for one in asks.orders]) == (0, [{"step": 1, "reason": "it hangs"}])
    assert "Step 1 of APR-2 is forced." in said.out
    wrong = stanch("approval", "force", "APR-2", "--step", "2", "--reason", "x", "--yes")
    assert "step 2 is not there or cannot be forced" in wrong.err
