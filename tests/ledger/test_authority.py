"""Two approvals, narrow ones, grants, forced steps, broken glass: what the ledger signs and refuses."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from pydantic import JsonValue
from sqlalchemy import select, update

from authority.decisions import Signer, Verifier, approved
from authority.policy import Policy
from authority.seals import digest
from contracts.approvals import ApprovalState, Bound, Envelope, SignedDecision, StandingGrant, Verdict
from contracts.errors import ConflictError, ForbiddenError, InputError, StanchError
from contracts.evidence import ENGINE, EvidenceKind
from contracts.incidents import Role, Severity
from contracts.names import ended_key
from contracts.outcomes import Direction
from contracts.plans import Needs, Plan
from ledger import Answer, Ledger, evidence, outbox, schema
from tests.ledger.crowd import at_once
from tests.ledger.samples import NOON, POLICY, TRACE, Clock, open_incident, plan, to_engine

TARGET = "k8s:deployment/demo/shop/web"


def plan_of(*needs: Needs, **facts: Any) -> Plan:
    """Give a plan with a step for each of these demands; every step can be forced."""
    step = plan().steps[0]
    steps = tuple(
        step.model_copy(update={"number": number, "needs": one, "forced": step.action})
        for number, one in enumerate(needs, start=1)
    )
    return plan().model_copy(update={"steps": steps} | facts)


def ask(ledger: Ledger, *needs: Needs, **facts: Any) -> Plan:
    """Open an incident that ada commands and grace leads technically, and ask about a plan."""
    incident = open_incident(ledger, commander="ada")
    ledger.incidents.assign(incident, Role.TECHNICAL_LEAD, "grace", by="ada")
    sealed = plan_of(*needs, **facts)
    ledger.approvals.ask(sealed, severity=Severity.SEV2)
    return sealed


def decide(
    ledger: Ledger, signer: Signer, sealed: Plan, person: str, *, policy: Policy = POLICY, **said: Any
) -> SignedDecision:
    """Say yes."""
    answer = {"verdict": Verdict.APPROVE, "authenticated_by": "local", "reason": "it is worth it"}
    return ledger.approvals.decide(
        "APR-1",
        Answer(plan_digest=digest(sealed), person=person, **answer | said),
        policy=policy,
        signer=signer,
        trace=TRACE,
    )


def state(ledger: Ledger) -> ApprovalState:
    """Say where the request is."""
    return ledger.approvals.get("APR-1").request.state


def kinds(ledger: Ledger) -> list[EvidenceKind]:
    """Give the log's kinds since the question was asked."""
    found = [entry.kind for entry in ledger.evidence.entries(incident="INC-1")]
    return found[found.index(EvidenceKind.APPROVAL_ASKED) + 1 :]


def delivered(ledger: Ledger) -> list[SignedDecision]:
    """Give the decisions that go to the engine."""
    return [
        SignedDecision.model_validate(one.payload) for one in to_engine(ledger) if one.kind == outbox.DECISION
    ]


def give(ledger: Ledger, signer: Signer, **facts: Any) -> StandingGrant:
    """Let ada give a grant on scaling web."""
    values: dict[str, Any] = {
        "service": "shop",
        "environment": "production",
        "incident": None,
        "person": "ada",
        "authenticated_by": "local",
        "reason": "scaling is safe",
        "expires_at": NOON + timedelta(hours=1),
        "uses": None,
        "after": timedelta(),
        "signer": signer,
        "envelope": Envelope(actions=("k8s.scale",), targets=(TARGET,)),
    }
    return ledger.grants.give(**(values | facts))


def test_two_people(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """The first approval is kept and delivers nothing; the second carries it, and together they allow."""
    sealed = ask(ledger, Needs.TWO)
    first = decide(ledger, signer, sealed, "ada")

    assert (state(ledger), ledger.approvals.get("APR-1").request.given) == (ApprovalState.PENDING, (first,))
    assert delivered(ledger) == []
    with pytest.raises(ForbiddenError, match="two people"):
        verifier.check_approves(first, sealed, now=NOON)
    second = decide(ledger, signer, sealed, "grace")

    assert (second.others, state(ledger)) == ((first,), ApprovalState.APPROVED)
    verifier.check_approves(second, sealed, now=NOON)
    assert kinds(ledger) == [EvidenceKind.APPROVAL_GIVEN, EvidenceKind.DECISION]
    assert delivered(ledger) == [second]


def test_who_answered_and_when(ledger: Ledger, signer: Signer, verifier: Verifier, clock: Clock) -> None:
    """Each of two people has a time of their own; what a grant answered nobody did, and nobody waited."""
    sealed = ask(ledger, Needs.TWO)
    clock.forward(timedelta(minutes=1))
    decide(ledger, signer, sealed, "ada")
    clock.forward(timedelta(minutes=2))
    decide(ledger, signer, sealed, "grace")
    give(ledger, signer)
    ledger.approvals.ask(plan(number=2), severity=Severity.SEV2)
    ledger.approvals.consider("APR-2", policy=POLICY, signer=signer, verifier=verifier)

    assert ledger.approvals.get("APR-2").request.state is ApprovalState.APPROVED
    (waited,) = ledger.approvals.waited()
    assert waited.id == "APR-1"
    assert waited.answers == {"grace": timedelta(minutes=3), "ada": timedelta(minutes=1)}


def test_the_first_of_two_again(ledger: Ledger, signer: Signer) -> None:
    """The first person's second click gives what is recorded, and never stands for the second person."""
    sealed = ask(ledger, Needs.TWO)
    first = decide(ledger, signer, sealed, "ada")

    assert decide(ledger, signer, sealed, "ada") == first
    assert state(ledger) is ApprovalState.PENDING


def test_the_first_of_two_narrows(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """Who said yes to all may still say yes to less while the second is awaited: the last word counts."""
    sealed = ask(ledger, Needs.TWO, Needs.TWO)
    decide(ledger, signer, sealed, "ada")
    less = decide(ledger, signer, sealed, "ada", steps=(1,))
    both = decide(ledger, signer, sealed, "grace")

    assert (less.decision.steps, both.others) == ((1,), (less,))
    verifier.check_approves(both, sealed, now=NOON, step=1)
    with pytest.raises(ForbiddenError, match="step 2 is not among the approved ones"):
        verifier.check_approves(both, sealed, now=NOON, step=2)
    assert kinds(ledger) == [EvidenceKind.APPROVAL_GIVEN, EvidenceKind.APPROVAL_GIVEN, EvidenceKind.DECISION]
    with pytest.raises(ConflictError, match="was approved by grace"):
        decide(ledger, signer, sealed, "ada")


@pytest.mark.parametrize("closed", [True, False])
def test_the_first_of_two_comes_to_nothing(
    ledger: Ledger, signer: Signer, clock: Clock, *, closed: bool
) -> None:
    """Asked again about a question that is over, nobody is told that the yes still counts."""
    sealed = ask(ledger, Needs.TWO)
    decide(ledger, signer, sealed, "ada")
    if closed:
        ledger.approvals.close("APR-1", ApprovalState.WITHDRAWN, "the incident is over")
    else:
        clock.forward(sealed.expires_at - sealed.sealed_at)

    with pytest.raises(ConflictError, match="closed as withdrawn" if closed else "expired at"):
        decide(ledger, signer, sealed, "ada")


def test_a_crowd_of_two(ledger: Ledger, signer: Signer) -> None:
    """Of many who approve at once two count, each once."""
    sealed = ask(ledger, Needs.TWO)
    people = ["ada", "grace"] * 4
    answers = at_once([partial(decide, ledger, signer, sealed, person) for person in people])
    decide(ledger, signer, sealed, "grace")  # who came before the commander was sent away
    last = ledger.approvals.get("APR-1").request.signed

    assert {type(one) for one in answers} <= {SignedDecision, ForbiddenError}
    assert last is not None
    assert sorted(one.decision.person for one in (last, *last.others)) == ["ada", "grace"]
    assert len(delivered(ledger)) == 1


def test_one_of_two_rejects(ledger: Ledger, signer: Signer) -> None:
    """One no is enough, whoever said yes before."""
    sealed = ask(ledger, Needs.TWO)
    decide(ledger, signer, sealed, "ada")
    decide(ledger, signer, sealed, "ada", verdict=Verdict.REJECT)

    assert state(ledger) is ApprovalState.REJECTED


def test_who_declared_it_says_no(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """Who asked for it cannot approve it, but may turn it down; a stranger may neither, which is evidence."""
    ledger.incidents.declare(
        title="t", service="shop", environment="production", severity=Severity.SEV2, person="bob", trace={}
    )
    sealed = plan_of(Needs.TWO, author="erin", fresh=True)
    ledger.approvals.ask(sealed, severity=Severity.SEV2)

    for person, verdict in (("bob", Verdict.APPROVE), ("erin", Verdict.APPROVE), ("eve", Verdict.REJECT)):
        with pytest.raises(ForbiddenError):
            decide(ledger, signer, sealed, person, verdict=verdict)
    signed = decide(ledger, signer, sealed, "bob", verdict=Verdict.REJECT)

    assert (state(ledger), delivered(ledger)) == (ApprovalState.REJECTED, [signed])
    assert kinds(ledger) == [*[EvidenceKind.DECISION_REFUSED] * 3, EvidenceKind.DECISION]
    with pytest.raises(ForbiddenError, match="it does not approve"):
        verifier.check_approves(signed, sealed, now=NOON)


def test_authority_follows_the_role(ledger: Ledger, signer: Signer) -> None:
    """When the role has moved, the former commander's first approval and grace's make no commander's yes."""
    sealed = ask(ledger, Needs.TWO)
    decide(ledger, signer, sealed, "ada")
    ledger.incidents.assign("INC-1", Role.INCIDENT_COMMANDER, "bob", by="ada")

    with pytest.raises(ForbiddenError):
        decide(ledger, signer, sealed, "grace")
    assert state(ledger) is ApprovalState.PENDING
    decide(ledger, signer, sealed, "bob")
    assert state(ledger) is ApprovalState.APPROVED


def test_narrow_yes(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """Approving some steps leaves the others out, also the one that would ask two people or is denied."""
    sealed = ask(ledger, Needs.ONE, Needs.TWO, Needs.DENIED)
    with pytest.raises(ForbiddenError, match="denies step 3"):
        decide(ledger, signer, sealed, "ada")
    with pytest.raises(InputError, match="no step 4"):
        decide(ledger, signer, sealed, "ada", steps=(1, 4))
    signed = decide(ledger, signer, sealed, "ada", steps=(1,))

    assert (state(ledger), approved(signed, sealed)) == (ApprovalState.APPROVED, (1,))
    with pytest.raises(ForbiddenError, match="step 2 is not among"):
        verifier.check_approves(signed, sealed, now=NOON, step=2)


def test_a_denied_plan_can_be_rejected(ledger: Ledger, signer: Signer) -> None:
    """What nobody may approve is still somebody's to reject."""
    sealed = ask(ledger, Needs.DENIED)
    decide(ledger, signer, sealed, "ada", verdict=Verdict.REJECT)

    assert state(ledger) is ApprovalState.REJECTED


def test_two_who_approve_different_steps(ledger: Ledger, signer: Signer) -> None:
    """What both have approved counts; when that is nothing, the second is told what the first approved."""
    sealed = ask(ledger, Needs.TWO, Needs.TWO)
    decide(ledger, signer, sealed, "ada", steps=(1,))

    with pytest.raises(ConflictError, match="approved by ada for other steps"):
        decide(ledger, signer, sealed, "grace", steps=(2,))
    assert approved(decide(ledger, signer, sealed, "grace"), sealed) == (1,)


def test_unknown_guardrail(ledger: Ledger, signer: Signer) -> None:
    """An override names a guardrail that there is."""
    sealed = ask(ledger, Needs.ONE)
    with pytest.raises(InputError, match="no guardrail 'everything'"):
        decide(ledger, signer, sealed, "ada", overrides=("everything",))
    signed = decide(ledger, signer, sealed, "ada", overrides=("cooldown",))

    assert signed.decision.overrides == ("cooldown",)


def test_nobody_has_to_be_asked(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """What the policy asks nobody for is answered by the policy, once, and the log says so."""
    sealed = ask(ledger, Needs.NOBODY)
    for _ in range(2):
        assert ledger.approvals.consider("APR-1", policy=POLICY, signer=signer, verifier=verifier) is None
    (signed,) = delivered(ledger)

    assert (signed.decision.person, signed.decision.authenticated_by) == (ENGINE, "policy")
    verifier.check_approves(signed, sealed, now=NOON)
    assert kinds(ledger) == [EvidenceKind.DECISION]


@pytest.mark.parametrize(
    "facts",
    [{"policy_digest": "0" * 64}, {"steps": "refused"}],
    ids=["sealed under other rules", "would be refused"],
)
def test_a_person_looks_at_what_is_odd(
    ledger: Ledger, signer: Signer, verifier: Verifier, facts: dict[str, Any]
) -> None:
    """Nothing answers by itself what was sealed under other rules or would be refused."""
    if "steps" in facts:
        step = plan_of(Needs.NOBODY).steps[0].model_copy(update={"refusals": ("no right",)})
        facts = {"steps": (step,)}
    sealed = ask(ledger, Needs.NOBODY, **facts)
    give(ledger, signer)

    again = ledger.approvals.consider("APR-1", policy=POLICY, signer=signer, verifier=verifier)
    assert (again, state(ledger)) == (sealed.expires_at, ApprovalState.PENDING)


def test_time_expires_a_request(ledger: Ledger, signer: Signer, verifier: Verifier, clock: Clock) -> None:
    """What nobody answered in time is expired, although its workflow has not said so."""
    sealed = ask(ledger, Needs.ONE)
    consider = partial(ledger.approvals.consider, "APR-1", policy=POLICY, signer=signer, verifier=verifier)
    assert consider() == sealed.expires_at
    clock.forward(sealed.expires_at - NOON)

    assert [consider(), consider()] == [None, None]
    assert state(ledger) is ApprovalState.EXPIRED
    assert kinds(ledger) == [EvidenceKind.APPROVAL_CLOSED]
    closed = ledger.approvals.close("APR-1", ApprovalState.EXPIRED, "nobody answered in time")
    assert closed.state == "expired"


def test_grant_answers_and_is_used_up(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """A grant answers what is inside it, as often as it says, and the decision carries it whole."""
    grant = give(ledger, signer, uses=1).grant
    sealed = ask(ledger, Needs.ONE)
    ledger.approvals.ask(plan(number=2), severity=Severity.SEV2)
    for approval in ("APR-1", "APR-2"):
        ledger.approvals.consider(approval, policy=POLICY, signer=signer, verifier=verifier)
    (signed,) = delivered(ledger)

    assert (signed.decision.grant, signed.decision.person) == (grant, "ada")
    assert signed.decision.authenticated_by == "grant"
    verifier.check_approves(signed, sealed, now=NOON)
    assert ledger.approvals.get("APR-2").request.state is ApprovalState.PENDING
    assert ledger.grants.get(grant.id).used == 1
    assert ledger.grants.list(usable_only=True) == []


def test_a_grant_is_used_up_once_by_many_gateways(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """Of many requests that several gateways consider at once, as many are answered as the grant has uses."""
    grant = give(ledger, signer, uses=2).grant
    ask(ledger, Needs.ONE)
    names = [ledger.approvals.ask(plan(number=number), severity=Severity.SEV2).id for number in range(2, 6)]
    consider = partial(ledger.approvals.consider, policy=POLICY, signer=signer, verifier=verifier)
    answers = at_once([partial(consider, name) for name in ("APR-1", *names) * 2])
    answered = delivered(ledger)

    assert not [one for one in answers if isinstance(one, StanchError)]
    assert [one.decision.grant for one in answered] == [grant] * 2
    assert len({one.decision.request for one in answered}) == 2
    assert ledger.grants.get(grant.id).used == 2


def test_a_grant_for_silence_waits_and_takes_the_safer_steps(
    ledger: Ledger, signer: Signer, verifier: Verifier, clock: Clock
) -> None:
    """It answers when everybody has been silent for its time, and then only what is inside it."""
    give(ledger, signer, after=timedelta(minutes=5))
    sealed = ask(ledger, Needs.ONE, Needs.TWO)
    consider = partial(ledger.approvals.consider, "APR-1", policy=POLICY, signer=signer, verifier=verifier)

    assert consider() == NOON + timedelta(minutes=5)
    assert state(ledger) is ApprovalState.PENDING
    clock.forward(timedelta(minutes=5))
    assert consider() is None
    (signed,) = delivered(ledger)
    assert approved(signed, sealed) == (1,)
    verifier.check_approves(signed, sealed, now=clock(), step=1)


@pytest.mark.parametrize("spoilt", ["revoked", "expired", "edited", "another incident", "two people"])
def test_grant_that_does_not_answer(
    ledger: Ledger, signer: Signer, verifier: Verifier, clock: Clock, spoilt: str
) -> None:
    """A grant that was revoked, is over, was edited in the database or is for something else stays silent."""
    grant = give(ledger, signer, incident="INC-7" if spoilt == "another incident" else None).grant
    ask(ledger, Needs.TWO if spoilt == "two people" else Needs.ONE, expires_at=NOON + timedelta(days=1))
    if spoilt == "revoked":
        ledger.grants.revoke(grant.id, person="bob", reason="enough")
    if spoilt == "expired":
        clock.forward(timedelta(hours=1))
    if spoilt == "edited":
        content = grant.model_dump(mode="json") | {"expires_at": "2099-01-01T00:00:00Z"}
        with ledger.database.write() as connection:
            connection.execute(update(schema.standing_grant).values(content=content))

    ledger.approvals.consider("APR-1", policy=POLICY, signer=signer, verifier=verifier)
    assert state(ledger) is ApprovalState.PENDING


@pytest.mark.parametrize(
    "facts", [{"fresh": True, "author": "ada"}, {"requester": "ada"}, {}], ids=["fresh", "asked", "declared"]
)
def test_grant_does_not_answer_for_oneself(
    ledger: Ledger, signer: Signer, verifier: Verifier, facts: dict[str, Any]
) -> None:
    """Who has written a fresh playbook, asked for it or declared the incident has not said yes."""
    give(ledger, signer)
    if facts:
        ask(ledger, Needs.ONE, **facts)
    else:
        about = {"title": "t", "service": "shop", "environment": "production", "trace": TRACE}
        ledger.incidents.declare(severity=Severity.SEV2, person="ada", **about)  # type: ignore[arg-type]
        ledger.approvals.ask(plan_of(Needs.ONE), severity=Severity.SEV2)

    ledger.approvals.consider("APR-1", policy=POLICY, signer=signer, verifier=verifier)
    assert state(ledger) is ApprovalState.PENDING


def test_grant_has_an_end(ledger: Ledger, signer: Signer) -> None:
    """A grant ends, within 90 days, and not in the past."""
    for days in (0, -1, 91):
        with pytest.raises(InputError, match="90 days"):
            give(ledger, signer, expires_at=NOON + timedelta(days=days))
    for after in (timedelta(seconds=-1), timedelta(days=99_999_999)):
        with pytest.raises(InputError, match="90 days"):
            give(ledger, signer, after=after)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "\ud800"])
def test_grant_without_a_canonical_form(ledger: Ledger, signer: Signer, value: JsonValue) -> None:
    """What cannot be signed is refused in one sentence, and leaves nothing behind."""
    odd = Envelope(actions=("k8s.scale",), targets=(TARGET,), limits={"x": Bound(one_of=(value,))})
    with pytest.raises(InputError, match="cannot be signed"):
        give(ledger, signer, envelope=odd)

    assert ledger.grants.list() == []


def test_broken_glass_is_reviewed_by_two_others(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """One person runs what asks two; it is in the log, and open until two others have spoken."""
    sealed = ask(ledger, Needs.TWO)
    signed = decide(ledger, signer, sealed, "ada", break_glass=True)
    verifier.check_approves(signed, sealed, now=NOON)

    assert kinds(ledger) == [EvidenceKind.DECISION, EvidenceKind.BREAK_GLASS]
    with pytest.raises(ForbiddenError, match="two others review it"):
        ledger.reviews.add("APR-1", person="ada", was_right=True, remark="of course")
    ledger.reviews.add("APR-1", person="bob", was_right=True, remark="nobody answered")
    with pytest.raises(ConflictError, match="reviewed by bob before"):
        ledger.reviews.add("APR-1", person="bob", was_right=False, remark="after all")
    assert [one.request.id for one in ledger.reviews.list(open_only=True)] == ["APR-1"]
    ledger.reviews.add("APR-1", person="grace", was_right=False, remark="I was there")

    assert ledger.reviews.list(open_only=True) == []
    assert [one.was_right for one in ledger.reviews.list()[0].reviews] == [True, False]


def test_the_first_of_two_breaks_the_glass(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """Who has approved and finds no second person may break the glass; that is not the same answer again."""
    sealed = ask(ledger, Needs.TWO)
    decide(ledger, signer, sealed, "ada")
    signed = decide(ledger, signer, sealed, "ada", break_glass=True)

    assert (signed.decision.break_glass, signed.others, state(ledger)) == (True, (), ApprovalState.APPROVED)
    verifier.check_approves(signed, sealed, now=NOON)
    assert decide(ledger, signer, sealed, "ada", break_glass=True) == signed
    assert len(delivered(ledger)) == 1


def test_no_glass_no_review(ledger: Ledger, signer: Signer) -> None:
    """An ordinary approval has no review."""
    decide(ledger, signer, ask(ledger, Needs.ONE), "ada")

    for approval in ("APR-1", "APR-9"):
        with pytest.raises(ConflictError, match="no glass"):
            ledger.reviews.add(approval, person="bob", was_right=True, remark="fine")


def force(ledger: Ledger, signer: Signer, step: int, person: str) -> SignedDecision:
    """Order that a step is forced."""
    said: dict[str, Any] = {"authenticated_by": "local", "reason": "it hangs", "policy": POLICY}
    return ledger.approvals.force("APR-1", step, person=person, signer=signer, trace=TRACE, **said)


def test_force(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """The commander forces an approved step: a decision of its own, delivered once."""
    sealed = ask(ledger, Needs.ONE)
    decide(ledger, signer, sealed, "ada", overrides=("freeze",))
    forced = force(ledger, signer, 1, "ada")

    assert (forced.decision.forced, forced.overrides) == ((1,), ("freeze",))
    verifier.check_approves(forced, sealed, now=NOON, step=1, direction=Direction.FORCE)
    assert force(ledger, signer, 1, "ada") == forced
    assert kinds(ledger).count(EvidenceKind.FORCED) == 1
    with pytest.raises(InputError, match="step 2 was not approved"):
        force(ledger, signer, 2, "ada")
    with pytest.raises(ForbiddenError):
        force(ledger, signer, 1, "bob")


def test_two_force_what_asks_two(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """Of two who approved the graceful way neither goes the other way alone."""
    sealed = ask(ledger, Needs.TWO)
    decide(ledger, signer, sealed, "ada")
    both = decide(ledger, signer, sealed, "grace", overrides=("freeze",))
    first = force(ledger, signer, 1, "ada")

    with pytest.raises(ForbiddenError, match="two people have to force it"):
        verifier.check_approves(first, sealed, now=NOON, step=1, direction=Direction.FORCE)
    assert not ledger.approvals.has_recorded(first)
    assert force(ledger, signer, 1, "ada") == first
    assert EvidenceKind.FORCED not in kinds(ledger)
    second = force(ledger, signer, 1, "grace")

    verifier.check_approves(second, sealed, now=NOON, step=1, direction=Direction.FORCE)
    assert ([one.decision for one in second.others], second.overrides) == ([first.decision], both.overrides)
    assert ledger.approvals.has_recorded(second)
    assert [force(ledger, signer, 1, person) for person in ("ada", "grace")] == [second, second]
    assert kinds(ledger).count(EvidenceKind.FORCED) == 1


def test_the_second_to_force_is_called(ledger: Ledger, signer: Signer) -> None:
    """The first order alone does nothing, so who may give the other one hears of it."""
    sealed = ask(ledger, Needs.TWO)
    for person in ("ada", "grace"):
        decide(ledger, signer, sealed, person)
    force(ledger, signer, 1, "ada")

    about = select(schema.outbox.c.payload).where(schema.outbox.c.key == "APR-1/force/1/first")
    (told,) = ledger.database.rows(about)
    assert "technical_lead" in told.payload["whom"]
    assert told.payload["text"].endswith("stanch approval force APR-1 --step 1")


def test_what_has_ended_is_not_forced(ledger: Ledger, signer: Signer) -> None:
    """An order that comes after the end is refused."""
    sealed = ask(ledger, Needs.ONE)
    decide(ledger, signer, sealed, "ada")
    with ledger.database.write() as connection:
        kind, key = EvidenceKind.MITIGATION_ENDED, ended_key("INC-1/1")
        evidence.note(connection, kind, key, "it ended", incident="INC-1", at=NOON)

    with pytest.raises(ConflictError, match="INC-1/1 has ended: nothing of it can be forced"):
        force(ledger, signer, 1, "ada")


def test_a_decision_waits_for_no_other_plan(ledger: Ledger, signer: Signer) -> None:
    """What cannot be delivered about one plan holds up the decision on no other plan of its incident."""
    decide(ledger, signer, ask(ledger, Needs.ONE), "ada")
    assert len(delivered(ledger)) == 1
    other = plan_of(Needs.ONE, mitigation="INC-1/2")
    ledger.approvals.ask(other, severity=Severity.SEV2)
    ledger.approvals.decide(
        "APR-2",
        Answer(
            verdict=Verdict.APPROVE,
            plan_digest=digest(other),
            person="ada",
            authenticated_by="local",
            reason="",
        ),
        policy=POLICY,
        signer=signer,
        trace=TRACE,
    )

    assert [one.decision.request for one in delivered(ledger)] == ["APR-2"]


def test_one_forces_what_broke_the_glass(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """Where nobody else could be found for the plan, nobody else is asked for its ungraceful way."""
    sealed = ask(ledger, Needs.TWO)
    decide(ledger, signer, sealed, "ada", break_glass=True)
    forced = force(ledger, signer, 1, "ada")

    verifier.check_approves(forced, sealed, now=NOON, step=1, direction=Direction.FORCE)


def test_force_needs_an_approval(ledger: Ledger, signer: Signer) -> None:
    """A plan that nobody has approved cannot be forced."""
    ask(ledger, Needs.ONE)
    said = {"authenticated_by": "local", "reason": "now", "policy": POLICY, "signer": signer}
    with pytest.raises(StanchError, match="only an approved plan"):
        ledger.approvals.force("APR-1", 1, person="ada", trace=TRACE, **said)  # type: ignore[arg-type]
