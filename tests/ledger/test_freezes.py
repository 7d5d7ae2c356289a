"""The freeze: no intent after it, whoever set it and whatever was approved, until it is lifted."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest

from contracts.errors import ConflictError, GuardrailError, NotFoundError
from contracts.evidence import EvidenceKind
from contracts.guardrails import Freeze
from contracts.outcomes import Direction, Outcome
from ledger import Ledger
from tests.ledger.crowd import at_once
from tests.ledger.samples import NOON, Clock, plan
from tests.ledger.test_guardrails import intend, settle


def test_freeze_and_lift(ledger: Ledger, clock: Clock) -> None:
    """A freeze stops every change, an undo too, until it is lifted; both are evidence."""
    intend(ledger, plan())
    settle(ledger, plan())
    frozen = ledger.freezes.set(service=None, reason="checkout is odd", person="ada")

    assert frozen == Freeze(id="FRZ-1", reason="checkout is odd", person="ada", at=NOON)
    said = "guardrail freeze: ada stopped all changes at 2026-03-01T12:00:00.00:00 .FRZ-1.: checkout is odd"
    with pytest.raises(GuardrailError, match=said):
        intend(ledger, plan(), direction=Direction.UNDO)
    intend(ledger, plan(), "freeze", direction=Direction.UNDO)
    clock.forward(timedelta(minutes=1))
    lifted = ledger.freezes.lift("FRZ-1", reason="it was a test", person="grace")
    assert (lifted.lifted_by, lifted.lifted_at) == ("grace", clock())
    assert (ledger.freezes.list(), ledger.freezes.get("FRZ-1")) == ([], lifted)
    intend(ledger, plan("INC-2"), "target-lock", "cooldown")
    told = [one.summary for one in ledger.evidence.entries() if one.kind is EvidenceKind.FREEZE]
    assert told == [
        "ada stops all changes: checkout is odd",
        "grace lets all changes begin again: it was a test",
    ]


def test_freeze_of_one_service(ledger: Ledger) -> None:
    """A freeze of one service leaves the others alone."""
    ledger.freezes.set(service="shop", reason="odd", person="ada")

    with pytest.raises(GuardrailError, match="ada stopped changes of shop"):
        intend(ledger, plan())
    intend(ledger, plan("INC-2", service="other"))


def test_each_person_has_a_freeze_of_their_own(ledger: Ledger) -> None:
    """A double click is one freeze; another person's stands on its own, and changes stop while any stands."""
    freeze = partial(ledger.freezes.set, service=None, reason="odd")
    found = at_once([partial(freeze, person="ada")] * 8)
    freeze(person="grace")

    assert [isinstance(one, Freeze) and one.id for one in found] == ["FRZ-1"] * 8
    ledger.freezes.lift("FRZ-1", reason="over", person="ada")
    with pytest.raises(GuardrailError, match="grace stopped"):
        intend(ledger, plan())
    assert ledger.freezes.set(service=None, reason="again", person="ada").id == "FRZ-3"


def test_what_was_on_its_way(ledger: Ledger) -> None:
    """A freeze names the actions whose call may still be under way, and nothing that has ended."""
    intend(ledger, plan())
    intend(ledger, plan("INC-2", service="other"), "target-lock")
    intend(ledger, plan("INC-3"), "target-lock", "cooldown")
    settle(ledger, plan("INC-3"), Outcome.DONE)

    assert ledger.freezes.set(service="shop", reason="odd", person="ada").running == ("INC-1/1/1/apply",)
    every = ledger.freezes.set(service=None, reason="odd", person="ada")
    assert every.running == ("INC-1/1/1/apply", "INC-2/1/1/apply")


def test_lift_twice(ledger: Ledger) -> None:
    """The same person's lift again is no change, and another one hears who was first."""
    ledger.freezes.set(service=None, reason="odd", person="ada")
    lifted = ledger.freezes.lift("FRZ-1", reason="over", person="ada")

    assert ledger.freezes.lift("FRZ-1", reason="over", person="ada") == lifted
    with pytest.raises(ConflictError, match="FRZ-1 was lifted by ada at 2026-03-01"):
        ledger.freezes.lift("FRZ-1", reason="over", person="grace")
    for unknown in ("FRZ-2", "frz", "INC-1"):
        with pytest.raises(NotFoundError):
            ledger.freezes.lift(unknown, reason="over", person="ada")


def test_it_outlives_the_process(ledger: Ledger, database_url: str) -> None:
    """A freeze is there for every process that opens the ledger later."""
    ledger.freezes.set(service=None, reason="odd", person="ada")
    later = Ledger.open(database_url, clock=Clock())

    with pytest.raises(GuardrailError, match="freeze"):
        intend(later, plan())
    later.close()


def test_no_intent_after_the_answer(ledger: Ledger) -> None:
    """While workers go on as fast as they can, no intent is written after the freeze was answered."""
    written: list[float] = []

    def work(worker: int) -> None:
        for number in range(1, 10_000):
            try:
                intend(ledger, plan(f"INC-{worker}{number:04}"), *set_aside)
            except GuardrailError:
                return
            written.append(time.monotonic())

    set_aside = ("target-lock", "cooldown", "actions-per-hour")
    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, number) for number in (1, 2, 3)]
        while len(written) < 10:
            time.sleep(0.01)
        ledger.freezes.set(service=None, reason="odd", person="ada")
        answered = time.monotonic()
        for worker in workers:
            worker.result(timeout=20)

    # What was committed just before may return just after.
    assert max(written) - answered < 0.5
    kinds = [entry.kind for entry in ledger.evidence.entries(limit=50_000)]
    assert EvidenceKind.INTENT not in kinds[kinds.index(EvidenceKind.FREEZE) :]


def test_a_storm_holds_up_no_freeze(sqlite_url: str) -> None:
    """A freeze passes all who wait to write in its process, but for one."""
    ledger = Ledger.open(sqlite_url, clock=Clock())
    written = 0
    over = threading.Event()

    def storm() -> None:
        nonlocal written
        while not over.is_set():
            with ledger.database.write():
                time.sleep(0.02)  # as long as a delivery of many alerts takes
                written += 1

    passed = []
    with ThreadPoolExecutor(8) as pool:
        senders = [pool.submit(storm) for _ in range(8)]
        try:
            for number in range(5):
                began = written
                while written < began + 8:
                    time.sleep(0.001)
                began = written
                ledger.freezes.set(service=None, reason="odd", person=f"person-{number}")
                passed.append(written - began)
        finally:
            over.set()
        for sender in senders:
            sender.result(timeout=20)
    ledger.close()

    assert max(passed) <= 3  # who writes, who is next, and who ended while the freeze began
