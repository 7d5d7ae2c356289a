"""What a step did for the users: the rule, on made-up readings."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.registry import Registry
from activities.verification import Watching, judge, says
from contracts.actions import Probe, ProbeRequest
from contracts.catalogue import Catalogue
from contracts.incidents import Effect
from contracts.plans import ProbeCall, Reading, Verification
from ledger import Ledger

START = datetime(2026, 11, 21, 14, 50, tzinfo=UTC)
RULE = Verification(
    signal="error_rate",
    probe=ProbeCall(name="prometheus.query", arguments={}),
    healthy_below=0.05,
    hold=timedelta(seconds=5),
    within=timedelta(seconds=20),
    baseline=Reading(value=0.4, at=START),
)
ABOVE = RULE.model_copy(
    update={"healthy_below": None, "healthy_above": 0.95, "baseline": Reading(value=0.6, at=START)}
)


def readings(*values: float | None) -> list[Reading]:
    """Give one reading a second."""
    return [Reading(value=value, at=START + timedelta(seconds=at)) for at, value in enumerate(values)]


MOMENT = timedelta(milliseconds=1)
GOOD, BAD, TERRIBLE = 0.01, 0.4, 0.9

CASES = [
    ("healthy for the whole stretch", [GOOD] * 6, False, Effect.EFFECTIVE),
    ("healthy, but not yet long enough", [GOOD] * 5, False, None),
    ("one bad reading begins the stretch anew", [GOOD] * 5 + [BAD] + [GOOD] * 5, False, None),
    ("a gap in the data begins the stretch anew", [GOOD] * 3 + [None] + [GOOD] * 3, False, None),
    ("bad first, then healthy", [BAD] * 8 + [GOOD] * 6, False, Effect.EFFECTIVE),
    ("far above the baseline for the whole stretch", [TERRIBLE] * 6, False, Effect.WORSE),
    ("far above the baseline for a moment", [TERRIBLE] * 2 + [BAD] * 4, False, None),
    ("still bad when the time is over", [BAD] * 21, True, Effect.INEFFECTIVE),
    ("better, but not healthy", [0.06] * 21, True, Effect.INEFFECTIVE),
    ("flapping when the time is over", [BAD, GOOD] * 10, True, Effect.INCONCLUSIVE),
    ("a dip, and bad again", [BAD] * 3 + [GOOD] * 3 + [BAD] * 10, True, Effect.INEFFECTIVE),
    ("no data at all", [None] * 21, True, Effect.INCONCLUSIVE),
    ("data that ends", [BAD] * 10 + [None], True, Effect.INCONCLUSIVE),
    ("no reading", [], True, Effect.INCONCLUSIVE),
    ("zero is data and healthy", [0.0] * 6, False, Effect.EFFECTIVE),
]


@pytest.mark.parametrize(
    ("values", "final", "effect"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_judgement(values: list[float | None], final: bool, effect: Effect | None) -> None:  # noqa: FBT001
    """Each shape of readings has its one judgement."""
    assert judge(RULE, readings(*values), final=final) is effect


def test_higher_can_be_healthier() -> None:
    """With a threshold from below, more is better and clearly less is worse."""
    assert judge(ABOVE, readings(*[0.99] * 6), final=False) is Effect.EFFECTIVE
    assert judge(ABOVE, readings(*[0.2] * 6), final=False) is Effect.WORSE
    assert judge(ABOVE, readings(*[0.6] * 21), final=True) is Effect.INEFFECTIVE


def test_without_a_baseline_nothing_is_worse() -> None:
    """Where nothing was measured before, bad is ineffective and not worse."""
    blind = RULE.model_copy(update={"baseline": Reading(value=None, at=START)})

    assert judge(blind, readings(*[TERRIBLE] * 21), final=True) is Effect.INEFFECTIVE


@given(values=st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=40))
def test_every_history_is_judged_in_the_end(values: list[float | None]) -> None:
    """When the time is over there is a judgement, effective only after a healthy stretch."""
    effect = judge(RULE, readings(*values), final=True)

    assert effect is not None
    if effect is Effect.EFFECTIVE:
        assert all(value is not None and value < 0.05 for value in values[-6:])
    if effect is Effect.WORSE:
        assert all(value is not None and value > 0.6 for value in values[-6:])


def test_sentence_names_the_numbers() -> None:
    """The sentence says before, after, judgement and bound."""
    said = says(RULE, Effect.INEFFECTIVE, readings(BAD, BAD))

    assert said == "error_rate 0.4 → 0.4: ineffective (healthy is below 0.05)"


class Errors(ProbeRequest[Reading]):
    """How many requests fail?"""

    probe: ClassVar[str] = "toy.errors"


class ErrorsProbe(Probe[Errors, Reading]):
    """Gives what it has, a moment apart; then the process dies."""

    request_type = Errors

    def __init__(self, *values: float | None) -> None:
        self.values = list(values)
        self.now = START

    def look(self, request: Errors) -> Reading:  # noqa: ARG002  (the protocol's)
        """Look once."""
        if not self.values:
            raise KeyboardInterrupt
        self.now += timedelta(seconds=1)
        return Reading(value=self.values.pop(0), at=self.now)


def verify(home: Path, probe: ErrorsProbe) -> tuple[Effect, list[Reading]]:
    """Verify a step as a worker does that knows what the one before it has kept."""
    ledger = Ledger.open(f"sqlite:///{home / 'ledger.db'}", clock=lambda: probe.now)
    ledger.migrate()
    watching = Watching(
        ledger=ledger, catalogue=Catalogue(), registry=Registry([], [probe]), clock=lambda: probe.now
    )
    rule = RULE.model_copy(update={"probe": ProbeCall(name="toy.errors", arguments={}), "every": MOMENT})
    try:
        return watching._judge(rule, ledger.watches.get("verification/INC-1/1/1/apply"))  # noqa: SLF001  (the loop itself)
    finally:
        ledger.close()


def test_a_killed_worker_s_readings_count(tmp_path: Path) -> None:
    """The next worker goes on from what the killed one has read, where that was a moment ago."""
    probe = ErrorsProbe(BAD, GOOD, GOOD, GOOD)
    with pytest.raises(KeyboardInterrupt):
        verify(tmp_path, probe)
    probe.values = [GOOD] * 3
    effect, seen = verify(tmp_path, probe)

    assert effect is Effect.EFFECTIVE
    assert [reading.value for reading in seen] == [BAD, *[GOOD] * 6]


def test_while_nobody_looked_nothing_was_healthy(tmp_path: Path) -> None:
    """After a longer absence the stretch begins anew, and the time that is left is as it was."""
    probe = ErrorsProbe(BAD, *[GOOD] * 5)
    with pytest.raises(KeyboardInterrupt):
        verify(tmp_path, probe)
    probe.now += timedelta(minutes=5)
    probe.values = [GOOD] * 6
    effect, seen = verify(tmp_path, probe)

    assert effect is Effect.EFFECTIVE
    assert [reading.value for reading in seen] == [BAD, *[GOOD] * 5, None, *[GOOD] * 6]
    assert seen[6].detail == "nobody looked: the worker was away"
