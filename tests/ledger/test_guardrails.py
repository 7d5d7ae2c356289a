"""The guardrails where they hold: in the transaction that writes the intent, for all runs and processes."""

import multiprocessing
import os
import signal
from datetime import timedelta
from functools import partial

import pytest

from authority.guardrails import Guard, Guardrails
from contracts.catalogue import ChangeFreeze, GuardrailLimits
from contracts.errors import ActionRefusedError, GuardrailError
from contracts.evidence import EvidenceKind
from contracts.guardrails import Lock
from contracts.incidents import Attempt, AttemptEnd, Phase
from contracts.messages import RecordRequest
from contracts.outcomes import Direction, Outcome, StepResult
from contracts.plans import Plan
from ledger import JournalEntry, Ledger
from tests.ledger.crowd import at_once, in_processes
from tests.ledger.samples import NOON, Clock, open_incident, plan

RULES = Guardrails(GuardrailLimits())
TARGET = "k8s:deployment/demo/shop/web"
MINUTE = timedelta(minutes=1)


def key(of: Plan, direction: Direction = Direction.APPLY, step: int = 1) -> str:
    """Give an action's key."""
    return f"{of.mitigation}/{step}/{direction.value}"


def intend(
    ledger: Ledger,
    of: Plan,
    *overrides: str,
    direction: Direction = Direction.APPLY,
    rules: Guardrails = RULES,
    step: int = 1,
) -> JournalEntry:
    """Go as far as a step goes before its call."""
    action = key(of, direction, step)
    entry = ledger.journal.begin(
        action,
        incident=of.incident,
        mitigation=of.mitigation,
        step=step,
        direction=direction,
        plan_digest="d" * 64,
        approval="APR-1",
    )
    guard = Guard(rules, of, overrides=overrides, given_at=ledger.database.now())
    return ledger.journal.intend(entry, before={}, actor="stanch", guard=guard)


def settle(
    ledger: Ledger, of: Plan, outcome: Outcome = Outcome.DONE, *, direction: Direction = Direction.APPLY
) -> None:
    """Settle the action that was intended."""
    entry = ledger.journal.get(key(of, direction))
    assert entry is not None
    result = StepResult(action=entry.action, outcome=outcome)
    ledger.journal.settle(entry, result=result, actor="stanch")


def end(ledger: Ledger, of: Plan, how: AttemptEnd = AttemptEnd.INEFFECTIVE) -> None:
    """Record the end of a mitigation, as its incident does."""
    known = ledger.incidents.get(of.incident).attempts
    attempt = Attempt(
        mitigation=of.mitigation, playbook=of.playbook, title=of.title, plan_digest="d" * 64, end=how
    )
    ledger.incidents.record(
        RecordRequest(
            incident=of.incident, version=len(known) + 1, phase=Phase.TRIAGE, attempts=(*known, attempt)
        )
    )


def refusals(ledger: Ledger) -> list[str]:
    """Give what the evidence says of guardrails."""
    return [one.summary for one in ledger.evidence.entries() if one.kind is EvidenceKind.GUARDRAIL]


def test_one_mitigation_at_a_time(ledger: Ledger, clock: Clock) -> None:
    """A target belongs to the first mitigation until that has ended; then it is left alone for a while."""
    open_incident(ledger)
    first, second = plan(), plan("INC-2")
    intend(ledger, first)
    settle(ledger, first)

    assert ledger.guardrails.locks() == [Lock(target=TARGET, mitigation="INC-1/1", since=NOON)]
    with pytest.raises(GuardrailError, match=f"guardrail target-lock: INC-1/1 has {TARGET} to itself"):
        intend(ledger, second)
    assert intend(ledger, first, direction=Direction.UNDO).fence == 1
    end(ledger, first)
    assert [lock.mitigation for lock in ledger.guardrails.locks()] == ["INC-1/1"]  # by the call that is open
    settle(ledger, first, direction=Direction.UNDO)
    assert ledger.guardrails.locks() == []
    with pytest.raises(ActionRefusedError, match=r"^INC-1/1 has ended$"):
        intend(ledger, plan(), direction=Direction.FORCE)
    clock.forward(MINUTE - timedelta(seconds=1))
    with pytest.raises(GuardrailError, match=r"^guardrail cooldown: INC-1/1 changed .*: wait until .*12:01"):
        intend(ledger, second)
    clock.forward(timedelta(seconds=1))
    assert intend(ledger, second).fence == 1
    assert refusals(ledger)[1].startswith("INC-2/1 may not go on: guardrail cooldown")


def test_what_was_not_done_holds_nothing(ledger: Ledger) -> None:
    """A target to which certainly nothing was done is free at once; one in doubt is not."""
    intend(ledger, plan())
    settle(ledger, plan(), Outcome.NOT_DONE)
    intend(ledger, plan("INC-2"))
    settle(ledger, plan("INC-2"), Outcome.IN_DOUBT)

    with pytest.raises(GuardrailError, match="INC-2/1 has"):
        intend(ledger, plan("INC-3"))


def test_an_override_takes_the_target_over(ledger: Ledger) -> None:
    """Whoever names the lock gets the target; who had it may neither go on with it nor undo on top."""
    first, second = plan(), plan("INC-2")
    intend(ledger, first)
    with pytest.raises(GuardrailError, match="target-lock"):
        intend(ledger, second, "cooldown")
    intend(ledger, second, "target-lock")

    assert [lock.mitigation for lock in ledger.guardrails.locks()] == ["INC-2/1"]
    assert "against guardrail target-lock: INC-1/1 has" in refusals(ledger)[-1]
    for direction in (Direction.APPLY, Direction.UNDO):
        with pytest.raises(GuardrailError, match="INC-2/1 has"):
            intend(ledger, first, direction=direction)


def test_a_target_that_was_taken_over_stays_so(ledger: Ledger, clock: Clock) -> None:
    """The next step, and another try of the first, go on by the override of the lock alone."""
    step = plan().steps[0]
    second = plan("INC-2", steps=(step, step.model_copy(update={"number": 2})))
    intend(ledger, plan())
    settle(ledger, plan())
    clock.forward(timedelta(seconds=1))
    intend(ledger, second, "target-lock")

    assert intend(ledger, second, "target-lock").fence == 2
    assert intend(ledger, second, "target-lock", step=2).fence == 1
    with pytest.raises(GuardrailError, match="cooldown: INC-1/1 changed"):
        intend(ledger, second, "blast-radius", step=2)


def test_an_undo_takes_over_from_what_it_undoes(ledger: Ledger) -> None:
    """A mitigation that never ended can be undone; from then on it does not go on itself."""
    two_steps = plan(steps=(plan().steps[0], plan().steps[0].model_copy(update={"number": 2})))
    intend(ledger, two_steps)
    intend(ledger, plan(mitigation="INC-1/1-undo", undoes="INC-1/1"))

    assert [lock.mitigation for lock in ledger.guardrails.locks()] == ["INC-1/1-undo"]
    with pytest.raises(GuardrailError, match="INC-1/1-undo has"):
        intend(ledger, two_steps, step=2)


def test_one_of_many_gets_the_target(ledger: Ledger) -> None:
    """Of many mitigations that want a target at the same moment, one gets it."""
    found = at_once([partial(intend, ledger, plan(f"INC-{number}")) for number in range(1, 13)])

    assert sum(isinstance(one, JournalEntry) for one in found) == 1
    assert sum(isinstance(one, GuardrailError) for one in found) == 11
    assert len(ledger.guardrails.locks()) == 1


def race(ledger: Ledger, place: int) -> None:
    """Try to get the target, as one worker among others."""
    try:
        intend(ledger, plan(f"INC-{place + 1}"))
    except GuardrailError:
        return


def test_one_of_many_processes_gets_the_target(ledger: Ledger, database_url: str) -> None:
    """It is the same among processes."""
    in_processes(4, database_url, race)

    (lock,) = ledger.guardrails.locks()
    entries = ledger.evidence.entries()
    assert [entry.incident for entry in entries if entry.kind is EvidenceKind.INTENT] == [lock.mitigation[:5]]
    assert len(refusals(ledger)) == 3


def hold_and_die(url: str) -> None:
    """Hold the target, and be killed before the call."""
    intend(Ledger.open(url, clock=Clock()), plan())
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_killed_with_the_lock(ledger: Ledger, clock: Clock, database_url: str) -> None:
    """A killed worker's lock stays with its mitigation: another run goes on; after its end time frees it."""
    open_incident(ledger)
    worker = multiprocessing.get_context("forkserver").Process(target=hold_and_die, args=(database_url,))
    worker.start()
    worker.join(40)
    assert worker.exitcode == -signal.SIGKILL

    with pytest.raises(GuardrailError, match="target-lock"):
        intend(ledger, plan("INC-2"))
    assert intend(ledger, plan()).fence == 2
    end(ledger, plan(), AttemptEnd.IN_DOUBT)
    with pytest.raises(GuardrailError, match="target-lock"):
        intend(ledger, plan("INC-2"), "cooldown")
    clock.forward(timedelta(hours=1))
    assert ledger.guardrails.locks() == []
    intend(ledger, plan("INC-2"), "cooldown")


def test_actions_per_hour(ledger: Ledger, clock: Clock) -> None:
    """A service has so many actions in an hour; a repeated intent of one action is still one."""
    rules = Guardrails(GuardrailLimits(actions_per_hour=2, cooldown=timedelta()))
    two_steps = plan(steps=(plan().steps[0], plan().steps[0].model_copy(update={"number": 2})))
    for step in (1, 1, 2, 2):
        intend(ledger, two_steps, rules=rules, step=step)

    with pytest.raises(
        GuardrailError, match="guardrail actions-per-hour: shop had 2 actions within the hour"
    ):
        intend(ledger, plan("INC-2"), "target-lock", rules=rules)
    intend(ledger, plan("INC-3", service="other"), "target-lock", rules=rules)
    clock.forward(timedelta(hours=1))
    intend(ledger, plan("INC-4"), "target-lock", rules=rules)


@pytest.mark.parametrize(
    ("ends", "is_open"),
    [
        ([AttemptEnd.INEFFECTIVE, AttemptEnd.WORSE, AttemptEnd.INEFFECTIVE], True),
        ([AttemptEnd.EFFECTIVE, *[AttemptEnd.WORSE] * 3], True),
        ([*[AttemptEnd.WORSE] * 3, AttemptEnd.EFFECTIVE], False),
        ([*[AttemptEnd.WORSE] * 2, AttemptEnd.INCONCLUSIVE, AttemptEnd.REFUSED], False),
        ([*[AttemptEnd.WORSE] * 2, AttemptEnd.INCONCLUSIVE, AttemptEnd.WORSE], True),
    ],
)
def test_ineffective_in_a_row(
    ledger: Ledger,
    clock: Clock,
    ends: list[AttemptEnd],
    is_open: bool,  # noqa: FBT001  (a table of expectations)
) -> None:
    """After so many that did not help there is no other one of that service or playbook for a day."""
    open_incident(ledger)
    for number, how in enumerate(ends, start=1):
        intend(ledger, plan(number=number), "ineffective-breaker")
        settle(ledger, plan(number=number))
        end(ledger, plan(number=number), how)
        clock.forward(MINUTE)
    others = (plan("INC-2", service="other"), plan("INC-3", playbook="disable-flag"))

    facts = [ledger.guardrails.facts(other, RULES) for other in others]
    broken = [[one.rule for one in RULES.violations(others[0], one)] for one in facts]
    assert broken == [["ineffective-breaker"] if is_open else []] * 2
    clock.forward(timedelta(days=1))
    intend(ledger, others[0])


def test_an_undo_that_did_not_help_says_nothing_of_the_playbook(ledger: Ledger, clock: Clock) -> None:
    """Only what a playbook proposed counts against it, not what took it back."""
    open_incident(ledger)
    for number in (1, 2, 3):
        undo = plan(number=number, undoes="INC-1/0")
        intend(ledger, undo)
        settle(ledger, undo)
        end(ledger, undo, AttemptEnd.WORSE)
    clock.forward(MINUTE)

    intend(ledger, plan("INC-2"))


def test_the_calendar(ledger: Ledger) -> None:
    """In a window of the calendar nothing new begins."""
    window = ChangeFreeze(name="holidays", starts=NOON, ends=NOON + MINUTE)
    rules = Guardrails(GuardrailLimits(change_freezes=(window,)))

    with pytest.raises(GuardrailError, match="guardrail change-freeze: holidays lasts until"):
        intend(ledger, plan(), rules=rules)
    intend(ledger, plan(), "change-freeze", rules=rules)


def test_what_a_plan_would_meet(ledger: Ledger) -> None:
    """While a plan is sealed, the same rules say what would be refused."""
    assert RULES.violations(plan(), ledger.guardrails.facts(plan(), RULES)) == ()
    intend(ledger, plan("INC-2"))
    ledger.freezes.set(service=None, reason="odd", person="ada")

    found = RULES.violations(plan(), ledger.guardrails.facts(plan(), RULES))
    assert [one.rule for one in found] == ["freeze", "target-lock"]
