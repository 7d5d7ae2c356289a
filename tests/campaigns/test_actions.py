"""The campaign over the actions tries everything, tells what is untrue, and holds for some rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ProviderUnavailableError
from contracts.plans import Observation
from tests.campaigns.actions import (
    ANSWERS,
    IN_TWO,
    NONE,
    ROWS,
    Cell,
    Meet,
    Met,
    Retry,
    missing,
    report,
    try_row,
    untruth,
)

FEW = {
    ("aws.switch_global_cluster", "graceful"): ("no-op", "403", "cut after"),
    ("http.call_hook", "without a status"): ("no-op", "403", "5xx after"),
    ("k8s.set_sync", "pause Flux"): ("no-op", "409", "partial"),
    ("launchdarkly.set_flag", "off"): ("no-op", "4xx", "cut before"),
}
BY_NAME = {(row.action, row.case): row for row in ROWS}


def test_every_action_of_the_worker_has_a_row() -> None:
    """An action that nobody tries in every way is named; so is a combination that was left out."""
    gaps = missing([], [row for row in ROWS if row.action != "k8s.set_sync"])

    assert [gap for gap in missing([], ROWS) if gap.endswith("no row")] == []
    assert gaps[0] == "k8s.set_sync: no row"
    assert "launchdarkly.set_flag (on), lost after the call, stale read: not tried" in gaps


def test_the_table_names_no_row_twice() -> None:
    """Rows are told apart, and what is left out or excused is a combination that there is."""
    assert len(BY_NAME) == len(ROWS)
    assert {key[:2] for key in (*NONE, *IN_TWO)} <= BY_NAME.keys()
    assert {key[2] for key in (*NONE, *IN_TWO)} <= ANSWERS.keys()


@pytest.mark.parametrize("retry", Retry)
@pytest.mark.parametrize("name", FEW, ids="-".join)
def test_a_few_cells_are_true(name: tuple[str, str], retry: Retry) -> None:
    """What the engine claims is what the provider's log says, however the step is repeated."""
    cells = try_row(BY_NAME[name], retry, "", answers=FEW[name])

    assert [cell.answer for cell in cells] == [*FEW[name]]
    assert [cell.wrong for cell in cells] == [""] * len(cells)


class Optimist:
    """An action that takes silence for consent."""

    def __init__(self, action: Any) -> None:
        self._action = action

    def __getattr__(self, name: str) -> Any:
        return getattr(self._action, name)

    def apply(self, request: Any, observed: Observation, *, action_id: str) -> None:
        """Send the change; whatever is heard of it, it is taken for done."""
        try:
            self._action.apply(request, observed, action_id=action_id)
        except ProviderUnavailableError:
            return


def test_an_action_that_takes_silence_for_done_is_found() -> None:
    """An action that claims what the provider's log does not show fails the campaign."""
    row = BY_NAME["launchdarkly.set_flag", "off"]

    @contextmanager
    def opened(moto: str, folder: Path) -> Iterator[Meet]:
        with row.open(moto, folder) as meet:

            @contextmanager
            def met(answer: str) -> Iterator[Met]:
                with meet(answer) as honest:
                    yield replace(honest, action=lambda: Optimist(honest.action()))

            yield met

    broken = replace(row, open=opened)
    cells = try_row(broken, Retry.AGAIN, "", answers=("ok", "timeout before"))

    assert [cell.wrong for cell in cells] == ["", "it says done, and it is not so"]


@pytest.mark.parametrize(
    ("answer", "outcome", "changes", "is_done", "said"),
    [
        ("ok", "done", 1, True, ""),
        ("no-op", "done", 0, True, ""),
        ("403", "not_done", 0, False, ""),
        ("partial", "in_doubt", 1, False, ""),
        ("ok", "done", 2, True, "the log shows 2 changes"),
        ("ok", "done", 0, True, "it says done, and the log shows no change"),
        ("ok", "done", 1, False, "it says done, and it is not so"),
        ("403", "not_done", 1, False, "it says not done, and the log shows a change"),
        ("403", "not_done", 0, True, "it says not done, and the log shows a change"),
        ("partial", "in_doubt", 2, True, "the log shows 2 changes"),
    ],
)
def test_a_claim_is_held_against_the_log(
    answer: str,
    outcome: str,
    changes: int,
    is_done: bool,  # noqa: FBT001  (pytest gives it by name)
    said: str,
) -> None:
    """Done is one change and a target that is so, not done is neither, and nothing is changed twice."""
    cell = Cell("a", "b", "run again", answer, outcome, calls=changes, changes=changes)

    assert untruth(cell, is_done=is_done) == said


def test_the_report_has_every_cell_and_what_is_wrong() -> None:
    """The table shows each claim with its calls, marks the untrue ones, and says what was not tried."""
    rows = [BY_NAME["launchdarkly.set_flag", "off"]]
    true = Cell(rows[0].action, "off", Retry.AGAIN.value, "ok", "done", calls=1, changes=1, runs=1)
    cells = [true, replace(true, answer="403", outcome="not_done", wrong="it is so")]
    said = report(cells, rows, ["k8s.dance: no row"])

    assert [line.split("  ")[0] for line in said[2:3]] == ["launchdarkly.set_flag"]
    assert "".join(said[3].split()) == "offrunagaindone1--!notdone1----------"
    assert "UNTRUE launchdarkly.set_flag (off), run again, 403: it is so" in said
    assert "MISSING k8s.dance: no row" in said
    assert said[-1] == "2 cells: 1 done, 1 not done, 0 in doubt; 1 untrue, 1 missing"
