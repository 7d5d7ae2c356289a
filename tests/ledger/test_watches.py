"""What is looked at again and again: due once for all workers; and how ready failovers were."""

from datetime import timedelta

import pytest

from contracts.evidence import ENGINE, Evidence, EvidenceKind
from contracts.plans import Reading
from contracts.readiness import CheckState, Readiness, ReadinessCheck
from contracts.watches import KEPT, Watch
from ledger import Ledger, ladders
from ledger import readiness as records
from tests.ledger.crowd import at_once
from tests.ledger.samples import NOON, Clock

LEASE = timedelta(minutes=2)
HOUR = timedelta(hours=1)


def note(key: str) -> Evidence:
    """Give evidence."""
    return Evidence(
        key=key, kind=EvidenceKind.RECOVERED, incident=None, actor=ENGINE, at=NOON, summary="It is well."
    )


def found(state: CheckState) -> Readiness:
    """Give what a look found."""
    return Readiness(checks=(ReadinessCheck(name="lag", target="aws:x/y", state=state, detail="9 s"),))


def test_many_workers_get_each_thing_once(ledger: Ledger, clock: Clock) -> None:
    """Of several that claim at once, exactly one has each thing; later the next one may."""
    ledger.watches.arrange({f"question/APR-{number}/1": NOON for number in range(4)})
    answers = at_once([lambda: ledger.watches.claim(4, LEASE)] * 4)
    claimed = [one for some in answers if isinstance(some, list) for one in some]
    assert sorted(one.item for one in claimed) == [f"question/APR-{number}/1" for number in range(4)]
    assert ledger.watches.claim(4, LEASE) == []
    clock.forward(LEASE)

    assert len(ledger.watches.claim(4, LEASE)) == 4


def test_only_who_has_it_keeps_what_was_seen(ledger: Ledger, clock: Clock) -> None:
    """A late answer changes nothing and tells nothing; the one that counts keeps a bounded number."""
    ledger.watches.arrange({"question/APR-1/1": NOON})
    (late,) = ledger.watches.claim(1, LEASE)
    clock.forward(LEASE)
    (mine,) = ledger.watches.claim(1, LEASE)
    readings = [Reading(value=float(number), at=NOON) for number in range(KEPT + 3)]

    assert not ledger.watches.done(late, NOON, state={"late": True}, told=[note("late")])
    assert ledger.watches.done(
        mine, clock() + HOUR, readings=readings, state={"well": True}, told=[note("mine")]
    )
    kept = ledger.watches.get("question/APR-1/1")
    assert (kept.next_at, kept.state) == (clock() + HOUR, {"well": True})
    assert [one.value for one in kept.readings] == [float(number) for number in range(3, KEPT + 3)]
    assert [entry.key for entry in ledger.evidence.entries()] == ["mine"]


def test_what_is_over_is_not_due(ledger: Ledger) -> None:
    """A thing that is not wanted any more keeps its readings and is not due; wanted again, it is."""
    ledger.watches.arrange({"in_force/INC-1/1": NOON})
    (mine,) = ledger.watches.claim(1, LEASE)
    ledger.watches.done(mine, NOON, readings=[Reading(value=1.0, at=NOON)], state={})
    ledger.watches.arrange({})
    assert ledger.watches.claim(1, LEASE) == []
    ledger.watches.arrange({"in_force/INC-1/1": NOON})

    assert [len(one.readings) for one in ledger.watches.claim(1, LEASE)] == [1]


def test_what_is_kept_by_its_own_activity(ledger: Ledger) -> None:
    """Readings that are kept only are never due, and survive what is arranged."""
    ledger.watches.keep("verification/INC-1/1/1/apply", [Reading(value=None, at=NOON)], {"began": "x"})
    ledger.watches.arrange({})

    assert ledger.watches.claim(9, LEASE) == []
    assert ledger.watches.get("verification/INC-1/1/1/apply").state == {"began": "x"}
    assert ledger.watches.get("never") == Watch(item="never")


def test_how_ready_it_was(ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history is bounded, oldest first; since when it is so is where the present stretch began."""
    monkeypatch.setattr(records, "KEPT", 5)
    ok, bad = CheckState.OK, CheckState.NOT_READY
    for state in (bad, ok, ok, bad, ok, bad, bad):
        clock.forward(HOUR)
        ledger.readiness.record("shop", "production", found(state), [])
    ledger.readiness.record("shop", "staging", found(ok), [])
    seen = ledger.readiness.get("shop", "production")

    assert [look.state for look in seen.history] == [ok, bad, ok, bad, bad]
    assert (seen.state, seen.since, seen.at) == (bad, NOON + 6 * HOUR, NOON + 7 * HOUR)
    assert [look.state for look in ledger.readiness.get("shop", "production", history=2).history] == [
        bad,
        bad,
    ]
    assert ledger.readiness.get("shop", "staging", history=0).history == ()


def test_a_change_to_not_ready_is_told_once(ledger: Ledger) -> None:
    """Each change is evidence; the people on call hear of the ones to not ready."""
    ok, bad, unknown = CheckState.OK, CheckState.NOT_READY, CheckState.UNKNOWN
    for state in (bad, bad, unknown, bad, ok, bad):
        ledger.readiness.record("shop", "production", found(state), ["ada"])
    told = [one.payload for one in ledger.outbox.claim(20, LEASE) if one.kind == ladders.TELL]

    assert len(ledger.evidence.entries()) == 5
    said = "The failover of shop in production is not ready: lag of aws:x/y: 9 s"
    assert told == [{"whom": ["person:ada"], "text": said}] * 2
