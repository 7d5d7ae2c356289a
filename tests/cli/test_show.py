"""How things look on a terminal."""

import io
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import show

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@given(st.text())
def test_cleaned_data_is_one_harmless_line(text: str) -> None:
    """Whatever comes, nothing is left that moves the cursor, starts a line or turns the reading round."""
    cleaned = show.clean(text)

    assert len(cleaned.splitlines()) <= 1
    assert not [mark for mark in cleaned if mark in "\x1b\x07\x08\r\n\x7f\x9b\u202e\u2066\u200b\u2028"]


@given(st.text())
def test_cleaned_blocks_keep_only_line_feeds(text: str) -> None:
    """A block keeps its lines and loses every other control."""
    cleaned = show.clean_block(text)

    assert cleaned.count("\n") == text.count("\n")
    assert not [mark for mark in cleaned if mark in "\x1b\x07\x08\r\x7f\x9b\u202e\u2066\u200b\u2028"]


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (timedelta(), "now"),
        (timedelta(seconds=5), "5 s ago"),
        (timedelta(minutes=4, seconds=59), "4 min ago"),
        (timedelta(hours=23), "23 h ago"),
        (timedelta(days=3), "3 d ago"),
        (-timedelta(minutes=12), "in 12 min"),
    ],
)
def test_distances_have_one_unit(distance: timedelta, words: str) -> None:
    """A distance in time is told in its largest unit."""
    assert show.ago(NOW - distance, NOW) == words


def test_times_are_in_utc() -> None:
    """A time from another zone is shown in UTC, in full and in a table."""
    at = datetime.fromisoformat("2026-03-01T12:56:00+01:00")

    assert show.moment(at, NOW) == "2026-03-01 11:56:00Z (4 min ago)"
    assert show.short_moment(at, NOW) == "11:56Z, 4 min ago"
    assert show.short_moment(at - timedelta(days=2), NOW) == "2026-02-27, 2 d ago"


def test_tables_line_up_over_wide_characters() -> None:
    """Columns stand under their heads even where a character takes two columns or none."""
    lines = show.table(("NAME", "X"), [("日本", 1), ("e\u0301", 2)], columns=80)

    assert lines == ["NAME  X", "日本  1", "e\u0301     2"]


def test_tables_cut_only_the_last_column() -> None:
    """What does not fit is cut where it hurts least, and marked."""
    lines = show.table(("ID", "TITLE"), [("INC-1", "a" * 100), ("INC-2", "日" * 100)], columns=30)

    assert lines[1:] == ["INC-1  " + "a" * 22 + "…", "INC-2  " + "日" * 11 + "…"]


def test_json_is_safe_on_a_terminal() -> None:
    """JSON escapes every control, DEL included."""
    assert show.as_json("\x1b\x7f\u202eä") == '"\\u001b\\u007f\\u202e\\u00e4"'


def test_waiting_shows_itself_only_when_it_takes_long() -> None:
    """A quick answer leaves the terminal alone; a slow one is announced, and the line is cleared again."""
    quick, slow = Screen(), Screen()

    with show.waiting("asking", stream=quick, after=5):
        pass
    with show.waiting("asking", stream=slow, after=0.01):
        time.sleep(0.2)

    assert quick.getvalue() == ""
    assert slow.getvalue().startswith("\rasking ")
    assert slow.getvalue().endswith("\r" + " " * 10 + "\r")


def test_waiting_says_nothing_to_programs() -> None:
    """A stream that is no terminal gets nothing."""
    stream = io.StringIO()

    with show.waiting("asking", stream=stream, after=0):
        time.sleep(0.02)

    assert stream.getvalue() == ""
