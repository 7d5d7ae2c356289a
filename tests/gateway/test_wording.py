"""How the console says things."""

import sys
import unicodedata
from datetime import timedelta

import pytest
from markupsafe import Markup
from pydantic import JsonValue

from contracts.incidents import Phase
from contracts.plans import Reading
from gateway import wording
from tests.gateway.conftest import NIGHT
from tests.gateway.seed import Clock, Scene, plan, verification

CLOCK = Clock(NIGHT)


@pytest.mark.parametrize(
    ("seconds", "ago", "left"),
    [
        (-5, "just now", "expired"),
        (0, "just now", "expired"),
        (59, "just now", "59 s left"),
        (60, "1 min ago", "1 min left"),
        (3599, "59 min ago", "59 min left"),
        (3660, "1 h 01 min ago", "1 h 01 min left"),
        (90_000, "1 d 1 h ago", "1 d 1 h left"),
    ],
)
def test_ages_and_what_is_left(seconds: int, ago: str, left: str) -> None:
    """Times are said in the two largest units; a clock that jumps back says nothing odd."""
    span = timedelta(seconds=seconds)

    assert wording.age(NIGHT - span, NIGHT) == ago
    assert wording.left(NIGHT + span, NIGHT) == left


def test_moments() -> None:
    """Moments are in UTC; the day is said when it is another one."""
    assert wording.utc(NIGHT) == "2026-03-10 14:32:00 UTC"
    assert wording.clock(NIGHT, NIGHT) == "14:32:00"
    assert wording.clock(NIGHT - timedelta(days=1), NIGHT) == "09 Mar 14:32:00"


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(seconds=90), "90 s"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(milliseconds=300), "0.3 s"),
    ],
)
def test_durations(span: timedelta, said: str) -> None:
    """Spans are in the unit that fits exactly."""
    assert wording.duration(span) == said


def test_verifications() -> None:
    """The goal has threshold, hold and limit; the baseline its judgement; no data is not zero."""
    rule = verification(CLOCK)

    assert (
        wording.goal(rule)
        == "error_rate below 1 % for 1 min, read every 5 s; known within 5 min after it has settled"
    )
    assert wording.baseline(rule) == "41.7 %, unhealthy"
    assert wording.baseline(verification(CLOCK, 0.2)) == "0.2 %, healthy"
    assert wording.baseline(verification(CLOCK, None)) == "no data"
    assert wording.baseline(rule.model_copy(update={"baseline": None})) == "not measured"
    above = {"healthy_below": None, "healthy_above": 99.5, "baseline": Reading(value=99.9, at=NIGHT)}
    assert wording.goal(rule.model_copy(update=above)).startswith("error_rate above 99.5 %")


def test_undo() -> None:
    """The undo is the exact call, or the reason why there is none; and when it runs by itself."""
    restart, flag = plan(CLOCK, "INC-1", 1), plan(CLOCK, "INC-1", 2)

    assert wording.undo(restart.steps[0]) == "None: a restart cannot be taken back"
    assert wording.undo(flag.steps[0]) == 'launchdarkly.set_flag(key="new-recommendations", on=true)'
    assert wording.undo_rule(restart) == "Nothing is undone without a new decision."
    assert wording.undo_rule(flag) == "If the effect is worse, the undo runs by itself under this approval."


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "absent"), (True, "true"), ("a", '"a"'), (3, "3"), ({"a": [None]}, '{"a": [null]}')],
)
def test_values(value: JsonValue, said: str) -> None:
    """Both sides of a difference are shown exactly, and absence is a word."""
    assert wording.value(value) == said


def test_paths_break_where_they_may() -> None:
    """A path breaks after its dots and slashes, and is still escaped."""
    assert wording.path("a.b/<c>") == Markup("a.<wbr>b/<wbr>&lt;c&gt;")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain é 日本 \t\n", "plain é 日本 \t\n"),
        ("a\x1b[31mb", "a⟦U+001B⟧[31mb"),
        ("\u202eevil\u2066", "⟦U+202E⟧evil⟦U+2066⟧"),
        ("zero\u200bwidth\x00\x7f\x9b", "zero⟦U+200B⟧width⟦U+0000⟧⟦U+007F⟧⟦U+009B⟧"),
    ],
)
def test_invisible_characters_are_shown(text: str, seen: str) -> None:
    """What would hide or turn text is shown as what it is."""
    assert wording.visible(text) == seen


def test_no_control_or_format_character_is_left() -> None:
    """Two names that differ in one of them would look the same to who approves."""
    hidden = {"Cc", "Cf", "Zl", "Zp"}
    every = [chr(number) for number in range(sys.maxunicode + 1) if chr(number) not in "\t\n"]
    fillers = "\N{HANGUL FILLER}\N{HALFWIDTH HANGUL FILLER}\N{COMBINING GRAPHEME JOINER}"

    assert [one for one in every if unicodedata.category(one) in hidden and wording.visible(one) == one] == []
    assert [one for one in fillers if wording.visible(one) == one] == []


@pytest.mark.parametrize(
    ("phase", "states"),
    [
        (Phase.DETECTED, "now later later later later"),
        (Phase.MITIGATING, "done done now later later"),
        (Phase.RESOLVED, "done done done done now"),
        (Phase.CLOSED, "done done done done done"),
        (Phase.FALSE_ALARM, "later later later later later"),
    ],
)
def test_the_rail(scene: Scene, phase: Phase, states: str) -> None:
    """The rail says what is behind, where we are, and what is to come."""
    incident = scene.ledger.incidents.get(scene.open_incident()).model_copy(update={"phase": phase})

    assert [step.state for step in wording.rail(incident)] == states.split()


def test_everything_has_a_word() -> None:
    """No severity, risk, role, end or state is shown without a word for it."""
    for table in (
        wording.SEVERITIES,
        wording.PUBLIC_SEVERITIES,
        wording.RISKS,
        wording.ROLES,
        wording.ENDS,
        wording.STATES,
    ):
        kind = type(next(iter(table)))
        assert set(table) == set(kind)
    assert wording.short("0123456789abcdef") == "0123 4567 89ab"
