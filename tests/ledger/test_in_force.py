"""Mitigations in force: entered with the outcome, reminded of, asked to be undone, over in the end."""

from datetime import timedelta
from typing import Any

import pytest

from authority.decisions import Signer
from authority.guardrails import Guard, Guardrails
from contracts.approvals import Verdict
from contracts.errors import ConflictError, InputError, NotFoundError
from contracts.evidence import EvidenceKind
from contracts.in_force import ForceState, InForceTimer
from contracts.incidents import AttemptEnd, Severity
from contracts.messages import UndoRequest
from contracts.outcomes import Direction, MitigationResult, Outcome, StepResult
from contracts.plans import ActionCall, Plan, Step
from ledger import Answer, Ledger, OutboxMessage, ladders
from ledger.in_force import AGAIN, LONGEST, TIMER, UNDO, UNDO_LOST, WITHDRAW
from tests.ledger.crowd import at_once
from tests.ledger.samples import NOON, POLICY, Clock, open_incident, plan

DAY = timedelta(days=1)
LEASE = timedelta(seconds=10)


def call(replicas: int, number: int = 1) -> ActionCall:
    """Give a call on the n-th target."""
    step = plan().steps[0]
    target = step.action.target.model_copy(update={"path": ("demo", "shop", f"web-{number}")})
    return ActionCall(name="k8s.scale", target=target, arguments={"replicas": replicas})


def two_steps(**facts: object) -> Plan:
    """Give a plan that scales two targets from 3 to 12, as a failover that has two steps does."""
    first = plan().steps[0]
    steps: list[Step] = [
        first.model_copy(
            update={
                "number": number,
                "title": f"Scale {number}",
                "action": call(12, number),
                "undo": call(3, number),
            }
        )
        for number in (1, 2)
    ]
    return Plan.model_validate(plan().model_dump() | {"steps": steps} | facts)


def undoing(sealed: Plan, name: str = "INC-1/1-undo") -> Plan:
    """Give the plan that takes another back, last step first."""
    steps = [
        step.model_copy(update={"number": number, "action": step.undo, "undo": step.action})
        for number, step in enumerate(reversed(sealed.steps), start=1)
    ]
    return sealed.model_copy(
        update={"mitigation": name, "undoes": sealed.mitigation, "steps": tuple(steps), "title": "Undo"}
    )


def run(
    ledger: Ledger, sealed: Plan, step: int, direction: Direction = Direction.APPLY, **facts: Any
) -> None:
    """Carry a step out."""
    request = ledger.approvals.ask(sealed, severity=Severity.SEV2)
    action = f"{sealed.mitigation}/{step}/{direction.value}"
    entry = ledger.journal.begin(
        action,
        incident=sealed.incident,
        mitigation=sealed.mitigation,
        step=step,
        direction=direction,
        plan_digest=request.plan_digest,
        approval=request.id,
    )
    entry = ledger.journal.intend(entry, before={}, actor="stanch", guard=Guard(Guardrails(), sealed))
    values: dict[str, Any] = {"action": action, "outcome": Outcome.DONE}
    result = StepResult.model_validate(values | facts)
    ledger.journal.settle(entry, result=result, actor="stanch")


@pytest.fixture
def sealed(ledger: Ledger) -> Plan:
    """Give a plan that has been carried out; its incident is commanded by ada."""
    open_incident(ledger, commander="ada")
    made = two_steps(in_force_for=DAY)
    run(ledger, made, 1)
    run(ledger, made, 2)
    return made


def messages(ledger: Ledger, kind: str) -> list[OutboxMessage]:
    """Claim the messages of a kind that are due."""
    return [message for message in ledger.outbox.claim(20, LEASE) if message.kind == kind]


def tick(ledger: Ledger) -> None:
    """Let the timers that are due go off, as the dispatcher does."""
    for message in messages(ledger, TIMER):
        due = ledger.in_force.tick(InForceTimer.model_validate(message.payload))
        if due is None:
            ledger.outbox.done(message.id)
        else:
            ledger.outbox.again(message.id, due)


def told(ledger: Ledger) -> list[str]:
    """Give what the evidence says about mitigations in force."""
    return [entry.summary for entry in ledger.evidence.entries() if entry.kind is EvidenceKind.IN_FORCE]


def test_what_is_done_is_in_force(ledger: Ledger, sealed: Plan) -> None:
    """Every step that was done and can be undone is in force, with an owner and an end."""
    (found,) = ledger.in_force.list(incident="INC-1")

    assert found == ledger.in_force.get("INC-1/1")
    assert (found.state, found.owner, found.title) == (ForceState.IN_FORCE, "ada", sealed.title)
    assert (found.since, found.expires_at) == (NOON, NOON + DAY)
    assert [(step.step, step.title, step.undo) for step in found.left] == [
        (1, "Scale 1", call(3, 1)),
        (2, "Scale 2", call(3, 2)),
    ]
    assert ledger.in_force.list(incident="INC-2") == []


@pytest.mark.parametrize(
    ("undo", "facts"),
    [
        (call(3), {"outcome": Outcome.NOT_DONE}),
        (call(3), {"outcome": Outcome.IN_DOUBT}),
        (call(3), {"no_op": True}),
        (None, {}),
    ],
    ids=["not done", "in doubt", "nothing to do", "no undo"],
)
def test_what_is_not_in_force(ledger: Ledger, undo: ActionCall | None, facts: dict[str, Any]) -> None:
    """What did nothing, or cannot be undone, is not in force."""
    open_incident(ledger)
    step = plan().steps[0].model_copy(update={"undo": undo})
    run(ledger, plan(steps=(step,)), 1, **facts)

    assert ledger.in_force.list(closed=True) == []
    with pytest.raises(NotFoundError, match="INC-1/1: nothing of it was ever in force"):
        ledger.in_force.get("INC-1/1")


def test_a_step_that_is_undone_by_its_own_plan(ledger: Ledger, sealed: Plan) -> None:
    """What made things worse and was taken back at once is not in force."""
    run(ledger, sealed, 2, Direction.UNDO)
    assert [step.step for step in ledger.in_force.get("INC-1/1").left] == [1]
    run(ledger, sealed, 1, Direction.UNDO)

    assert ledger.in_force.get("INC-1/1").state is ForceState.UNDONE
    assert ledger.in_force.list() == []
    assert [found.mitigation for found in ledger.in_force.list(closed=True)] == ["INC-1/1"]


def test_an_undo_that_is_taken_back(ledger: Ledger, clock: Clock, sealed: Plan) -> None:
    """The steps of an undo close what they take back; one that is taken back itself opens it again."""
    back = undoing(sealed)
    clock.forward(timedelta(hours=30))
    run(ledger, back, 1)
    assert [step.step for step in ledger.in_force.get("INC-1/1").left] == [1]
    run(ledger, back, 2)
    assert ledger.in_force.get("INC-1/1").state is ForceState.UNDONE
    tick(ledger)
    run(ledger, back, 2, Direction.UNDO)
    found = ledger.in_force.get("INC-1/1")

    assert (found.state, found.closed_at) == (ForceState.IN_FORCE, None)
    assert [step.step for step in found.left] == [1]
    assert found.expires_at == clock() + AGAIN
    assert ledger.in_force.list(closed=True) == [found]
    clock.forward(AGAIN)
    tick(ledger)
    assert ledger.in_force.get("INC-1/1").undo == "INC-1/1-undo"


def test_reminders_and_the_end(ledger: Ledger, clock: Clock, sealed: Plan) -> None:
    """The owner hears of it at half and at nine tenths; then its undo is asked for, every day."""
    tick(ledger)
    assert told(ledger) == []
    clock.forward(DAY * 0.5)
    tick(ledger)
    tick(ledger)
    reminder = f"INC-1/1 is in force, it is to be undone at 2026-03-02 12:00 UTC: {sealed.title}. Owner: ada"
    assert told(ledger) == [reminder]
    clock.forward(DAY * 0.4)
    tick(ledger)
    assert told(ledger) == [reminder, reminder]
    clock.forward(LEASE)
    notes = [message.payload for message in messages(ledger, ladders.TELL)]
    assert notes == [{"whom": ["person:ada"], "text": reminder}] * 2
    clock.forward(-LEASE)
    clock.forward(DAY * 0.1)
    tick(ledger)
    assert told(ledger)[2:] == [
        f"INC-1/1 is in force, its time is over since 2026-03-02 12:00 UTC: {sealed.title}. Owner: ada",
        "stanch asks to undo INC-1/1: its time is over",
    ]
    (message,) = messages(ledger, UNDO)
    assert UndoRequest.model_validate(message.payload) == UndoRequest(
        incident="INC-1",
        mitigation="INC-1/1-undo",
        undoes="INC-1/1",
        person="stanch",
        reason="its time is over",
    )
    clock.forward(DAY)
    tick(ledger)
    assert len(told(ledger)) == 6
    assert ledger.in_force.get("INC-1/1").undo == "INC-1/1-undo-2"


def test_a_long_silence(ledger: Ledger, clock: Clock, sealed: Plan) -> None:
    """When nothing ran for a week, what is due is done once, and the next day comes the next."""
    clock.forward(8 * DAY)
    assert sealed
    tick(ledger)
    assert len(told(ledger)) == 2
    tick(ledger)
    clock.forward(AGAIN)
    tick(ledger)

    assert len(told(ledger)) == 4


def test_a_timer_whose_answer_is_lost(ledger: Ledger, clock: Clock, sealed: Plan) -> None:
    """A timer that goes off again, as after the death of its gateway, tells and asks nothing twice."""
    assert sealed
    timer = InForceTimer(mitigation="INC-1/1", revision=0)
    clock.forward(DAY)
    due = [ledger.in_force.tick(timer) for _ in range(2)]

    assert due == [clock() + AGAIN] * 2
    assert len(told(ledger)) == 2
    assert len(messages(ledger, ladders.TELL)) == 1


def test_more_time(ledger: Ledger, clock: Clock, sealed: Plan) -> None:
    """With more time the reminders are counted anew, and the timer of the old time does nothing."""
    assert sealed
    clock.forward(DAY * 0.5)
    tick(ledger)
    until = clock() + 4 * DAY
    found = ledger.in_force.extend("INC-1/1", until=until, person="ada", reason="the fix is on Thursday")
    assert found.expires_at == until
    assert ledger.in_force.extend("INC-1/1", until=until, person="ada", reason="again") == found
    assert ledger.in_force.tick(InForceTimer(mitigation="INC-1/1", revision=0)) is None
    clock.forward(DAY)
    tick(ledger)
    assert told(ledger)[1:] == [
        f"ada lets INC-1/1 stay until {until:%Y-%m-%d %H:%M} UTC: the fix is on Thursday"
    ]
    clock.forward(DAY)
    tick(ledger)

    assert len(told(ledger)) == 3


@pytest.mark.parametrize("by", [timedelta(0), -DAY, LONGEST + timedelta(seconds=1)])
def test_too_much_time(ledger: Ledger, sealed: Plan, by: timedelta) -> None:
    """The new end is in the future, and not too far."""
    assert sealed
    with pytest.raises(InputError, match="can stay for 30 days from now at the most"):
        ledger.in_force.extend("INC-1/1", until=NOON + by, person="ada", reason="r")


def test_a_playbook_that_wants_it_for_ever(ledger: Ledger) -> None:
    """No playbook can give its change more time than a person could."""
    open_incident(ledger)
    run(ledger, two_steps(in_force_for=timedelta.max), 1)

    assert ledger.in_force.get("INC-1/1").expires_at == NOON + LONGEST


def test_permanent(ledger: Ledger, clock: Clock, sealed: Plan) -> None:
    """What is made permanent is not reminded of, undone or extended any more."""
    assert sealed
    found = ledger.in_force.make_permanent("INC-1/1", person="ada", reason="it is the fix")
    assert found == ledger.in_force.make_permanent("INC-1/1", person="ada", reason="again")
    assert (found.state, found.closed_at) == (ForceState.PERMANENT, NOON)
    clock.forward(2 * DAY)
    tick(ledger)

    assert told(ledger) == ["ada makes INC-1/1 permanent: it is the fix"]
    assert ledger.in_force.list() == []
    with pytest.raises(ConflictError, match="INC-1/1 was made permanent at 2026-03-01T12:00"):
        ledger.in_force.order_undo("INC-1/1", person="ada", reason="r")
    with pytest.raises(ConflictError, match="was made permanent"):
        ledger.in_force.extend("INC-1/1", until=clock() + DAY, person="ada", reason="r")


def test_an_undo_is_asked_for_once(ledger: Ledger, clock: Clock, sealed: Plan) -> None:
    """While an undo runs, whoever asks gets that one; once it has ended or is lost, there may be another."""
    assert sealed
    asked = at_once(
        [lambda: ledger.in_force.order_undo("INC-1/1", steps=(2,), person="ada", reason="r").mitigation] * 4
    )
    assert asked == ["INC-1/1-undo"] * 4
    (message,) = messages(ledger, UNDO)
    assert message.payload["steps"] == [2]
    ended = MitigationResult(
        mitigation="INC-1/1-undo",
        playbook="p",
        title="Undo it",
        plan_digest="",
        end=AttemptEnd.REJECTED,
        detail="no",
    )
    ledger.in_force.has_ended(ended)
    ledger.in_force.has_ended(ended)
    assert ledger.evidence.entries()[-1].summary == "INC-1/1-undo Undo it: rejected. no"
    assert ledger.in_force.order_undo("INC-1/1", person="ada", reason="r").mitigation == "INC-1/1-undo-2"
    clock.forward(UNDO_LOST)
    assert ledger.in_force.order_undo("INC-1/1", person="ada", reason="r").mitigation == "INC-1/1-undo-3"


@pytest.mark.parametrize("is_planned", [False, True])
def test_an_undo_that_is_not_wanted_any_more(ledger: Ledger, sealed: Plan, *, is_planned: bool) -> None:
    """More time, or for good, takes the question about an undo back, after its start and each once."""
    ledger.in_force.order_undo("INC-1/1", person="stanch", reason="its time is over")
    if is_planned:
        ledger.approvals.ask(undoing(sealed), severity=Severity.SEV2)
    ledger.in_force.extend("INC-1/1", until=NOON + 2 * DAY, person="ada", reason="wait")
    ledger.in_force.make_permanent("INC-1/1", person="ada", reason="keep")
    sent = []
    for _ in range(3):
        (message,) = (one for one in ledger.outbox.claim(20, LEASE) if one.kind in (UNDO, WITHDRAW))
        ledger.outbox.done(message.id)
        sent.append((message.kind, message.payload.get("reason")))

    assert sent == [
        (UNDO, "its time is over"),
        (WITHDRAW, "ada lets INC-1/1 stay until 2026-03-03 12:00 UTC: wait"),
        (WITHDRAW, "ada makes INC-1/1 permanent: keep"),
    ]


def test_an_undo_that_is_approved(ledger: Ledger, sealed: Plan, signer: Signer) -> None:
    """What is approved is not called back: it runs to its end."""
    ledger.in_force.order_undo("INC-1/1", person="grace", reason="r")
    request = ledger.approvals.ask(undoing(sealed), severity=Severity.SEV2)
    ledger.approvals.decide(
        request.id,
        Answer(
            verdict=Verdict.APPROVE,
            plan_digest=request.plan_digest,
            person="ada",
            authenticated_by="token",
            reason="",
        ),
        policy=POLICY,
        signer=signer,
        trace={},
    )
    ledger.in_force.extend("INC-1/1", until=NOON + 2 * DAY, person="ada", reason="too late")

    assert [message.kind for message in ledger.outbox.claim(20, LEASE)].count(WITHDRAW) == 0
    with pytest.raises(ConflictError, match="INC-1/1-undo is approved and undoes INC-1/1 now"):
        ledger.in_force.make_permanent("INC-1/1", person="ada", reason="r")


def test_an_undo_that_was_taken_to_be_lost(ledger: Ledger, clock: Clock, sealed: Plan) -> None:
    """When it ends after all that is taken down, what it held is free, and its successor goes on."""
    ledger.in_force.order_undo("INC-1/1", person="ada", reason="r")
    clock.forward(UNDO_LOST)
    ledger.in_force.order_undo("INC-1/1", person="ada", reason="r")
    back = undoing(sealed)
    run(ledger, back, 1)
    assert [lock.mitigation for lock in ledger.guardrails.locks()].count("INC-1/1-undo") == 1
    ledger.in_force.has_ended(
        MitigationResult(
            mitigation="INC-1/1-undo", playbook="p", title="t", plan_digest="", end=AttemptEnd.EFFECTIVE
        )
    )

    assert "INC-1/1-undo" not in [lock.mitigation for lock in ledger.guardrails.locks()]
    assert ledger.in_force.get("INC-1/1").undo == "INC-1/1-undo-2"
    assert ledger.evidence.entries()[-1].key == "INC-1/1-undo/ended"


def test_an_undo_whose_target_never_stays_is_asked_about_three_times(ledger: Ledger, sealed: Plan) -> None:
    """Where nobody is asked it would go on for ever: the owner hears of it, and may order it anew."""
    assert sealed
    ledger.in_force.order_undo("INC-1/1", steps=(2,), person="ada", reason="r")
    for number in range(1, 6):
        name = "INC-1/1-undo" + (f"-{number}" if number > 1 else "")
        drifted = {
            "playbook": "p",
            "title": "t",
            "plan_digest": "",
            "end": AttemptEnd.DRIFTED,
            "detail": "on",
        }
        ledger.in_force.has_ended(MitigationResult(mitigation=name, **drifted))
    asked = [said for said in told(ledger) if "asks to undo" in said]
    owner = [one.payload for one in ledger.outbox.claim(99, LEASE) if "text" in one.payload]

    assert asked[0] == "ada asks to undo INC-1/1: r"
    assert asked[1:] == [
        f"stanch asks to undo INC-1/1: INC-1/1-undo{number} stopped at on" for number in ("", "-2", "-3")
    ]
    assert [one["text"] for one in owner] == ["INC-1/1-undo-4 stopped at on"]
    assert ledger.in_force.get("INC-1/1").undo is None
    again = ledger.in_force.order_undo("INC-1/1", person="ada", reason="now")
    ledger.in_force.has_ended(MitigationResult(mitigation=again.mitigation, **drifted))
    assert ledger.in_force.get("INC-1/1").undo == "INC-1/1-undo-6"


def test_a_wrong_step(ledger: Ledger, sealed: Plan) -> None:
    """Only what is in force can be undone."""
    run(ledger, sealed, 1, Direction.UNDO)

    for step in (1, 3):
        with pytest.raises(ConflictError, match=f"INC-1/1: step {step} is not in force"):
            ledger.in_force.order_undo("INC-1/1", steps=(2, step), person="ada", reason="r")


def test_undone_elsewhere(ledger: Ledger, sealed: Plan) -> None:
    """What somebody undid by hand is closed when that is seen."""
    assert sealed
    ledger.in_force.found_undone("INC-1/1", [1, 2])
    ledger.in_force.found_undone("INC-1/1", [1, 2])

    assert ledger.in_force.get("INC-1/1").state is ForceState.UNDONE
    assert told(ledger) == ["INC-1/1 is as it was before: somebody has undone it elsewhere"]
