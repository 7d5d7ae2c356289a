"""Questions and answers: of all who try to decide, exactly one does, and the log says who could not."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import text, update

from authority.decisions import Signer, Verifier
from authority.policy import Policy
from authority.seals import digest
from contracts.approvals import ApprovalRequest, ApprovalState, SignedDecision, Verdict
from contracts.errors import ConflictError, ForbiddenError, InputError, NotFoundError, StanchError
from contracts.evidence import EvidenceEntry, EvidenceKind
from contracts.incidents import Role, Severity
from contracts.messages import ClosedApproval
from contracts.plans import Risk
from ledger import Answer, Ledger, outbox, schema
from tests.ledger.crowd import at_once
from tests.ledger.samples import NOON, POLICY, TRACE, Clock, open_incident, plan

LEASE = timedelta(minutes=1)


def ask(ledger: Ledger, number: int = 1) -> ApprovalRequest:
    """Ask about a plan."""
    return ledger.approvals.ask(plan(number=number), severity=Severity.SEV2)


@pytest.fixture
def asked(ledger: Ledger) -> ApprovalRequest:
    """Open an incident that ada commands, and ask about a plan."""
    open_incident(ledger, commander="ada")
    return ask(ledger)


def decide(
    ledger: Ledger,
    signer: Signer,
    verdict: Verdict = Verdict.APPROVE,
    person: str = "ada",
    *,
    approval: str = "APR-1",
    plan_digest: str | None = None,
    policy: Policy = POLICY,
    reason: str = "",
) -> SignedDecision:
    """Decide, by default as who may."""
    return ledger.approvals.decide(
        approval,
        Answer(
            verdict=verdict,
            plan_digest=digest(plan()) if plan_digest is None else plan_digest,
            person=person,
            authenticated_by="local",
            reason=reason,
        ),
        policy=policy,
        signer=signer,
        trace=TRACE,
    )


def told(ledger: Ledger, kind: EvidenceKind) -> list[EvidenceEntry]:
    """Give the log's entries of one kind."""
    return [entry for entry in ledger.evidence.entries() if entry.kind is kind]


def decisions_sent(ledger: Ledger) -> list[SignedDecision]:
    """Give the decisions that wait for delivery."""
    messages = ledger.outbox.claim(100, LEASE)
    return [SignedDecision.model_validate(one.payload) for one in messages if one.kind == outbox.DECISION]


def test_ask(ledger: Ledger) -> None:
    """A question holds what a list needs, its plan is kept under its digest, and both are evidence."""
    request = ask(ledger)

    assert request == ApprovalRequest(
        id="APR-1",
        incident="INC-1",
        mitigation="INC-1/1",
        title="Scale web to 12",
        risk=Risk.LOW,
        severity=Severity.SEV2,
        plan_digest=digest(plan()),
        asked_at=NOON,
        expires_at=NOON + timedelta(minutes=15),
    )
    assert ledger.approvals.plan(request.plan_digest) == plan()
    found = ledger.approvals.get("APR-1")
    assert (found.request, found.plan) == (request, plan())
    assert ledger.approvals.for_mitigation("INC-1/1") == found
    assert ledger.approvals.for_mitigation("INC-1/2") is None
    assert [entry.kind for entry in ledger.evidence.entries(incident="INC-1")] == [
        EvidenceKind.PLAN_SEALED,
        EvidenceKind.APPROVAL_ASKED,
    ]
    assert told(ledger, EvidenceKind.PLAN_SEALED)[0].body["plan"] == plan().model_dump(mode="json")


def test_ask_again(ledger: Ledger) -> None:
    """A mitigation is asked about once: who comes second, with another plan, gets the first question."""
    crowd = [
        partial(ledger.approvals.ask, plan(replicas=number), severity=Severity.SEV2) for number in range(8)
    ]
    requests = at_once(crowd)

    assert requests == [requests[0]] * 8
    assert len(ledger.evidence.entries()) == 2
    assert ledger.approvals.list() == [requests[0]]


def test_the_same_plan_for_another_mitigation(ledger: Ledger) -> None:
    """Every mitigation has its own question."""
    assert [ask(ledger).id, ask(ledger, 2).id] == ["APR-1", "APR-2"]


def test_a_plan_that_cannot_be_sealed(ledger: Ledger) -> None:
    """A plan with a value that has no canonical form is refused: nobody could sign it."""
    sealed = plan()
    action = sealed.steps[0].action.model_copy(update={"arguments": {"replicas": 2**60}})
    step = sealed.steps[0].model_copy(update={"action": action})

    with pytest.raises(InputError, match="INC-1/1: the plan cannot be sealed"):
        ledger.approvals.ask(sealed.model_copy(update={"steps": (step,)}), severity=Severity.SEV1)


def test_list(ledger: Ledger) -> None:
    """Questions are listed newest first, by state and by incident."""
    ask(ledger)
    ask(ledger, 2)
    ledger.approvals.ask(plan("INC-2"), severity=Severity.SEV2)
    ledger.approvals.close("APR-2", ApprovalState.WITHDRAWN, "resolved")

    def ids(**chosen: object) -> list[str]:
        return [request.id for request in ledger.approvals.list(**chosen)]  # type: ignore[arg-type]

    assert ids() == ["APR-3", "APR-2", "APR-1"]
    assert ids(state=ApprovalState.PENDING) == ["APR-3", "APR-1"]
    assert ids(incident="INC-1", limit=1) == ["APR-2"]


@pytest.mark.parametrize("name", ["APR-2", "APR-0", "INC-1", "", "APR-" + "9" * 30])
def test_not_found(ledger: Ledger, signer: Signer, name: str) -> None:
    """What is no question is not found."""
    ask(ledger)

    with pytest.raises(NotFoundError):
        ledger.approvals.get(name)
    with pytest.raises(NotFoundError):
        ledger.approvals.close(name, ApprovalState.EXPIRED, "")
    with pytest.raises(NotFoundError):
        decide(ledger, signer, approval=name)
    with pytest.raises(NotFoundError):
        ledger.approvals.plan("0" * 64)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("verdict", "state"),
    [(Verdict.APPROVE, ApprovalState.APPROVED), (Verdict.REJECT, ApprovalState.REJECTED)],
)
def test_decide(
    ledger: Ledger, signer: Signer, verifier: Verifier, verdict: Verdict, state: ApprovalState
) -> None:
    """The Incident Commander's answer is signed, stored, logged and sent."""
    signed = decide(ledger, signer, verdict, reason="go")

    verifier.check_signature(signed)
    if verdict is Verdict.APPROVE:
        verifier.check_approves(signed, plan(), now=NOON)
    request = ledger.approvals.get("APR-1").request
    assert (request.state, request.signed, request.closed_at) == (state, signed, NOON)
    (entry,) = told(ledger, EvidenceKind.DECISION)
    assert (entry.actor, entry.body) == ("ada", {"signed": signed.model_dump(mode="json")})
    assert entry.summary == f"ada {verdict.value}s INC-1/1: Scale web to 12 (go)"
    assert decisions_sent(ledger) == [signed]


@pytest.mark.usefixtures("asked")
def test_the_same_answer_again(ledger: Ledger, signer: Signer, clock: Clock) -> None:
    """A double click, and a terminal that asks again after a lost answer, get the decision that was made."""
    signed = decide(ledger, signer)
    clock.forward(timedelta(hours=1))

    assert at_once([partial(decide, ledger, signer)] * 4) == [signed] * 4
    assert decisions_sent(ledger) == [signed]
    assert told(ledger, EvidenceKind.DECISION_REFUSED) == []


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("round_", range(3))
def test_approve_against_reject(ledger: Ledger, signer: Signer, round_: int) -> None:
    """Of thirty-two answers at the same moment one decides, and all others learn who it was."""
    calls = [partial(decide, ledger, signer, verdict) for verdict in Verdict] * 16
    answers = at_once(calls[round_:] + calls[:round_])
    stored = ledger.approvals.get("APR-1").request

    assert stored.signed is not None
    state = {Verdict.APPROVE: "approved", Verdict.REJECT: "rejected"}[stored.signed.decision.verdict]
    refusals = [str(answer) for answer in answers if isinstance(answer, StanchError)]
    assert [answer for answer in answers if not isinstance(answer, StanchError)] == [stored.signed] * 16
    assert refusals == [f"APR-1 was {state} by ada at {NOON.isoformat()}"] * 16
    assert decisions_sent(ledger) == [stored.signed]
    assert len(told(ledger, EvidenceKind.DECISION)) == 1


@pytest.mark.usefixtures("asked")
def test_two_commanders(ledger: Ledger, signer: Signer) -> None:
    """Authority follows the role: the former commander decides nothing, the new one does."""
    ledger.incidents.assign("INC-1", Role.INCIDENT_COMMANDER, "bob", by="ada")

    with pytest.raises(ForbiddenError, match=r"only the Incident Commander \(bob\) decides, not ada"):
        decide(ledger, signer)
    assert decide(ledger, signer, person="bob").decision.person == "bob"
    with pytest.raises(ConflictError, match="APR-1 was approved by bob"):
        decide(ledger, signer)
    assert [entry.actor for entry in told(ledger, EvidenceKind.DECISION_REFUSED)] == ["ada", "ada"]


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("wrong", "error", "sentence"),
    [
        ({"person": "eve"}, ForbiddenError, r"only the Incident Commander \(ada\) decides, not eve"),
        ({"plan_digest": "f" * 64}, ConflictError, "is about plan .*, not fff"),
        ({"plan_digest": ""}, ConflictError, "is about plan"),
        ({"policy": Policy(solo=True)}, ConflictError, "the policy has changed since INC-1/1 was sealed"),
    ],
)
def test_refused(
    ledger: Ledger, signer: Signer, wrong: dict[str, str], error: type[StanchError], sentence: str
) -> None:
    """An answer that does not count is in the log, decides nothing, and is told why."""
    with pytest.raises(error, match=sentence):
        decide(ledger, signer, **wrong)  # type: ignore[arg-type]

    (entry,) = told(ledger, EvidenceKind.DECISION_REFUSED)
    assert entry.actor == wrong.get("person", "ada")
    assert ledger.approvals.get("APR-1").request.state is ApprovalState.PENDING
    assert decisions_sent(ledger) == []
    decide(ledger, signer)


def test_nobody_commands(ledger: Ledger, signer: Signer) -> None:
    """Without an Incident Commander nobody decides."""
    open_incident(ledger)
    ask(ledger)

    with pytest.raises(ForbiddenError, match="has no Incident Commander yet"):
        decide(ledger, signer)


@pytest.mark.parametrize("solo", [False, True])
def test_who_declared_it(ledger: Ledger, signer: Signer, *, solo: bool) -> None:
    """Nobody approves a plan for an incident of their own declaring, unless the policy is for one person."""
    ledger.incidents.declare(
        title="t", service="shop", environment="production", severity=Severity.SEV1, person="ada", trace={}
    )
    ledger.incidents.assign("INC-1", Role.INCIDENT_COMMANDER, "ada", by="ada")
    policy = Policy(solo=solo)
    sealed = plan(policy_digest=policy.digest)
    ledger.approvals.ask(sealed, severity=Severity.SEV1)

    if solo:
        decide(ledger, signer, policy=policy, plan_digest=digest(sealed))
        return
    with pytest.raises(ForbiddenError, match="was declared by ada, who cannot approve its plans"):
        decide(ledger, signer, policy=policy, plan_digest=digest(sealed))
    assert len(told(ledger, EvidenceKind.DECISION_REFUSED)) == 1


@pytest.mark.usefixtures("asked")
def test_expired(ledger: Ledger, signer: Signer, clock: Clock) -> None:
    """From the moment of its expiry on, a question cannot be answered and is closed by who tries."""
    clock.forward(timedelta(minutes=15))

    with pytest.raises(ConflictError, match="APR-1 expired at 2026-03-01T12:15:00"):
        decide(ledger, signer)
    assert ledger.approvals.get("APR-1").request.state is ApprovalState.EXPIRED
    assert len(told(ledger, EvidenceKind.APPROVAL_CLOSED)) == 1
    assert len(told(ledger, EvidenceKind.DECISION_REFUSED)) == 1
    with pytest.raises(ConflictError, match=r"was closed as expired at .*: nobody decided in time"):
        decide(ledger, signer)
    assert len(told(ledger, EvidenceKind.APPROVAL_CLOSED)) == 1


@pytest.mark.usefixtures("asked")
def test_close(ledger: Ledger, signer: Signer) -> None:
    """A closed question takes no answer any more; closing again changes nothing."""
    closed = ledger.approvals.close("APR-1", ApprovalState.WITHDRAWN, "INC-1 is resolved")

    assert closed == ClosedApproval(state="withdrawn")
    assert ledger.approvals.close("APR-1", ApprovalState.EXPIRED, "late") == closed
    (entry,) = told(ledger, EvidenceKind.APPROVAL_CLOSED)
    assert entry.summary == "APR-1 is closed as withdrawn: INC-1 is resolved"
    with pytest.raises(ConflictError, match="APR-1 was closed as withdrawn"):
        decide(ledger, signer)


@pytest.mark.usefixtures("asked")
def test_close_against_decide(ledger: Ledger, signer: Signer) -> None:
    """Of a time-out and an answer at the same moment one counts, and both sides learn which."""
    close = partial(ledger.approvals.close, "APR-1", ApprovalState.EXPIRED, "time")
    calls: list[Callable[[], SignedDecision | ClosedApproval]] = [
        partial(decide, ledger, signer),
        *[close] * 7,
    ]
    decided, *closed = at_once(calls)
    request = ledger.approvals.get("APR-1").request

    assert closed == [ClosedApproval(state=request.state.value, signed=request.signed)] * 7
    assert isinstance(decided, ConflictError) == (request.state is ApprovalState.EXPIRED)
    assert len(told(ledger, EvidenceKind.APPROVAL_CLOSED)) + len(told(ledger, EvidenceKind.DECISION)) == 1


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("state", [ApprovalState.APPROVED, ApprovalState.REJECTED, ApprovalState.PENDING])
def test_close_decides_nothing(ledger: Ledger, state: ApprovalState) -> None:
    """No program can approve or reject by closing."""
    with pytest.raises(InputError, match="only a person decides that"):
        ledger.approvals.close("APR-1", state, "")


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("change", ["replicas", "nonsense"])
def test_a_plan_changed_in_the_database(ledger: Ledger, signer: Signer, change: str) -> None:
    """A plan that is not what was sealed is shown to nobody, and nobody can approve it."""
    content = plan(replicas=99).model_dump(mode="json") if change == "replicas" else {"a": 1}
    with ledger.database.write() as connection:
        connection.execute(update(schema.plan).values(content=content))

    for look in (
        partial(ledger.approvals.plan, digest(plan())),
        partial(ledger.approvals.get, "APR-1"),
        partial(ledger.approvals.for_mitigation, "INC-1/1"),
        partial(decide, ledger, signer),
    ):
        with pytest.raises(ForbiddenError, match="what is stored is not what was sealed"):
            look()
    assert ledger.approvals.list()[0].state is ApprovalState.PENDING


@pytest.mark.usefixtures("asked")
def test_nothing_by_halves(ledger: Ledger, signer: Signer) -> None:
    """A decision that cannot be sent is not made: nothing of it is stored or logged."""
    with ledger.database.write() as connection:
        connection.execute(text("DROP TABLE outbox"))
    before = ledger.evidence.size()

    with pytest.raises(StanchError):
        decide(ledger, signer)
    assert ledger.approvals.get("APR-1").request.state is ApprovalState.PENDING
    assert ledger.evidence.size() == before
