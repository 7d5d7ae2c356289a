"""Readiness is as good as its worst check, and nothing checked is not good."""

import pytest

from contracts.readiness import CheckState, Readiness, ReadinessCheck

OK, NOT_READY, UNKNOWN = CheckState.OK, CheckState.NOT_READY, CheckState.UNKNOWN


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((), UNKNOWN),
        ((OK, OK), OK),
        ((OK, UNKNOWN), UNKNOWN),
        ((UNKNOWN, NOT_READY, OK), NOT_READY),
    ],
)
def test_the_worst_check_counts(states: tuple[CheckState, ...], expected: CheckState) -> None:
    """The whole is as good as the worst check, and what nobody could look at is not ok."""
    checks = tuple(ReadinessCheck(name="lag", target="aws:x/y", state=state) for state in states)
    assert Readiness(checks=checks).state is expected
