"""The journal: no call without an intent on the disk, and one outcome for each action."""

from datetime import timedelta
from functools import partial

import pytest

from authority.guardrails import Guard, Guardrails
from contracts.base import JsonObject
from contracts.errors import ConflictError, NotFoundError
from contracts.evidence import EvidenceKind
from contracts.outcomes import Outcome, StepResult
from ledger import JournalEntry, JournalState, Ledger
from tests.ledger.crowd import at_once
from tests.ledger.samples import NOON, Clock, begin, plan, result

ACTION = "INC-1/1/1/apply"
GUARD = Guard(Guardrails(), plan())


def intend(ledger: Ledger, entry: JournalEntry) -> JournalEntry:
    """Go as far as a step goes before its call."""
    return ledger.journal.intend(entry, before={}, actor="stanch", guard=GUARD)


def test_the_way_of_an_action(ledger: Ledger, clock: Clock) -> None:
    """An action goes from planned over intent to outcome, each with evidence."""
    assert ledger.journal.get(ACTION) is None
    entry = begin(ledger)
    assert (entry.state, entry.fence, entry.intent_at, entry.result) == (JournalState.PLANNED, 0, None, None)
    clock.forward(timedelta(seconds=1))
    entry = ledger.journal.intend(entry, before={"replicas": 3}, actor="stanch", guard=GUARD)
    assert (entry.state, entry.fence, entry.before) == (JournalState.INTENT, 1, {"replicas": 3})
    assert entry.intent_at == NOON + timedelta(seconds=1)
    done = result(after={"replicas": 12})
    assert ledger.journal.settle(entry, result=done, actor="stanch") == done

    stored = ledger.journal.get(ACTION)
    assert stored == entry.model_copy(update={"state": JournalState.OUTCOME, "result": done})
    assert ledger.journal.for_incident("INC-1") == [stored]
    assert ledger.journal.for_incident("INC-2") == []
    assert [(entry.kind, entry.summary) for entry in ledger.evidence.entries()] == [
        (EvidenceKind.INTENT, "INC-1/1 begins: Scale web"),
        (EvidenceKind.OUTCOME, "INC-1/1 step 1: done"),
    ]


def test_begin_again(ledger: Ledger) -> None:
    """An action is begun once, and a repeat gives it as it stands; another plan cannot take it over."""
    others = begin(ledger, plan_digest="e" * 64), begin(ledger, approval="APR-2")
    intend(ledger, begin(ledger))

    assert begin(ledger).fence == 1
    with pytest.raises(ConflictError, match="was begun for plan dddddddddddd under APR-1"):
        begin(ledger, plan_digest="e" * 64)
    with pytest.raises(ConflictError, match="under APR-1, not for dddddddddddd under APR-2"):
        begin(ledger, approval="APR-2")
    for other in others:
        with pytest.raises(ConflictError, match="was begun for plan dddddddddddd under APR-1"):
            intend(ledger, other)
        with pytest.raises(ConflictError, match="was begun for plan dddddddddddd under APR-1"):
            ledger.journal.settle(other, result=result(Outcome.NOT_DONE), actor="stanch")


def test_begun_is_not_written(ledger: Ledger) -> None:
    """What is only planned is on no disk: the first intent enters the action."""
    begin(ledger)

    assert ledger.journal.get(ACTION) is None
    assert ledger.journal.for_incident("INC-1") == []


def test_one_of_many_may_call(ledger: Ledger) -> None:
    """Of all runs that want to call at the same moment, one gets the intent."""
    entries = at_once([lambda: begin(ledger)] * 8)
    assert entries == [entries[0]] * 8
    intents = at_once([lambda: intend(ledger, begin(ledger))] * 16)
    fences = sorted(intent.fence for intent in intents if isinstance(intent, JournalEntry))
    assert fences == [*range(1, len(fences) + 1)]
    intents = at_once([partial(intend, ledger, begin(ledger))] * 16)

    assert sum(isinstance(intent, JournalEntry) for intent in intents) == 1
    assert sum(isinstance(intent, ConflictError) for intent in intents) == 15
    assert ledger.evidence.size() == len(fences) + 1


def test_one_of_many_begins(ledger: Ledger) -> None:
    """Of all runs that found nothing written and want to call, one enters the action and calls."""
    planned = begin(ledger)
    intents = at_once([partial(intend, ledger, planned)] * 16)

    assert sum(isinstance(intent, JournalEntry) for intent in intents) == 1
    assert sum(isinstance(intent, ConflictError) for intent in intents) == 15
    assert ledger.evidence.size() == 1


def test_a_run_that_was_overtaken(ledger: Ledger) -> None:
    """Who holds an old fence neither calls nor settles any more."""
    old = intend(ledger, begin(ledger))
    new = intend(ledger, old)

    with pytest.raises(ConflictError, match="somebody else has gone on with it"):
        ledger.journal.settle(old, result=result(), actor="stanch")
    with pytest.raises(ConflictError, match="somebody else has gone on with it"):
        intend(ledger, old)
    ledger.journal.settle(new, result=result(), actor="stanch")


def test_one_outcome(ledger: Ledger) -> None:
    """The first outcome counts: everybody else gets it, whatever they bring and hold."""
    planned = begin(ledger)
    entry = intend(ledger, planned)
    brought = [result(detail=str(number)) for number in range(8)]
    settle = partial(ledger.journal.settle, entry, actor="stanch")
    given = at_once([partial(settle, result=one) for one in brought])

    (stored,) = {str(one) for one in given}
    assert stored in {str(one) for one in brought}
    assert str(ledger.journal.settle(planned, result=result(), actor="stanch")) == stored
    with pytest.raises(ConflictError, match="has an outcome already"):
        intend(ledger, entry)
    assert ledger.evidence.size() == 2


@pytest.mark.parametrize("quiet", [result(no_op=True), result(Outcome.NOT_DONE, detail="drifted")])
def test_nothing_called(ledger: Ledger, quiet: StepResult) -> None:
    """Where nothing was called there is no intent, and the outcome is kept all the same."""
    assert ledger.journal.settle(begin(ledger), result=quiet, actor="stanch") == quiet
    assert begin(ledger).result == quiet


@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.IN_DOUBT])
def test_something_done_without_an_intent(ledger: Ledger, outcome: Outcome) -> None:
    """An outcome that needs a call needs an intent before it."""
    with pytest.raises(ConflictError, match=f"has no intent, so it cannot have ended as {outcome.value}"):
        ledger.journal.settle(begin(ledger), result=result(outcome), actor="stanch")


def test_not_begun(ledger: Ledger) -> None:
    """An intent that is not in the journal, as after the restore of a backup, is neither used nor settled."""
    lost = begin(ledger).model_copy(update={"state": JournalState.INTENT, "fence": 1})
    with pytest.raises(NotFoundError, match="not begun"):
        intend(ledger, lost)
    with pytest.raises(NotFoundError, match="not begun"):
        ledger.journal.settle(lost, result=result(), actor="stanch")


def test_odd_states(ledger: Ledger) -> None:
    """What a provider answers is kept, though no database or canonical form holds it as it is."""
    odd: JsonObject = {"uid": 2**63, "ratio": float("nan"), "text": "a\x00\ud800"}
    kept = {"uid": str(2**63), "ratio": "nan", "text": "a\ufffd\ufffd"}
    entry = ledger.journal.intend(begin(ledger), before=odd, actor="stanch", guard=GUARD)
    ledger.journal.settle(entry, result=result(before=odd), actor="stanch")

    assert entry.before == kept
    assert ledger.evidence.entries()[0].body["before"] == kept
    assert ledger.journal.settle(entry, result=result(), actor="stanch").before == kept
