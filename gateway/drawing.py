"""Small drawings for the console: numbers over time as inline SVG, each with the same said in words."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from contracts.readiness import CheckState, ReadinessLook
from contracts.watches import SignalNow
from gateway import wording

READY: Final = {
    CheckState.OK: ("✓", "ready"),
    CheckState.NOT_READY: ("✕", "not ready"),
    CheckState.UNKNOWN: ("?", "not known"),
}
# A look that found trouble is also a taller bar: the colour is not the only sign.
HEIGHTS: Final = {CheckState.OK: 6, CheckState.UNKNOWN: 12, CheckState.NOT_READY: 20}
WIDTH, HEIGHT = 160, 24

_SVG = Markup(
    '<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}" preserveAspectRatio="none">{}</svg>'
)
_LINE = Markup('<polyline points="{}"/>')
_BOUND = Markup('<line x1="0" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
_BAR = Markup('<rect class="{}" x="{:.2f}" y="{}" width="{:.2f}" height="{}"/>')


def health(now: SignalNow) -> tuple[str, str]:
    """Give the sign and the word for a signal's last reading."""
    value = now.readings[-1].value
    if value is None:
        return "?", "no data"
    return ("✓", "healthy") if now.verification.is_healthy(value) else ("✕", "unhealthy")


def sparkline(now: SignalNow) -> Markup:
    """Draw a signal's readings with the bound of what is healthy; where there was no data the line is cut."""
    rule = now.verification
    _, bound = rule.bound
    values = [reading.value for reading in now.readings]
    known = [value for value in values if value is not None]
    low, high = min([bound, *known]), max([bound, *known])
    scale = (HEIGHT - 4) / (high - low or 1.0)

    def place(value: float) -> float:
        return HEIGHT - 2 - (value - low) * scale

    runs: list[list[str]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(f"{number * WIDTH / max(len(values) - 1, 1):.1f},{place(value):.1f}")
    lines = Markup().join(_LINE.format(" ".join(run if len(run) > 1 else run * 2)) for run in runs if run)
    said = f"{rule.signal}: no data in {len(values)} readings"
    if known:
        least, most = (wording.quantity(one, rule.unit) for one in (min(known), max(known)))
        said = f"{rule.signal}: {len(values)} readings between {least} and {most}"
    drawn = _BOUND.format(WIDTH, place(bound), place(bound)) + lines
    return _SVG.format("spark", WIDTH, HEIGHT, wording.visible(said), drawn)


def tally(history: Sequence[ReadinessLook]) -> str:
    """Say how a history was: ``of 140 looks 138 ready, 2 not ready``."""
    counted = Counter(look.state for look in history)
    parts = (f"{counted[state]} {READY[state][1]}" for state in CheckState if counted[state])
    return f"of {len(history)} looks {', '.join(parts)}"


def strip(history: Sequence[ReadinessLook]) -> Markup:
    """Draw one bar for each look, oldest first."""
    wide = WIDTH * 4 / max(len(history), 48)
    bars = Markup().join(
        _BAR.format(look.state.value, number * wide, HEIGHT - HEIGHTS[look.state], wide, HEIGHTS[look.state])
        for number, look in enumerate(history)
    )
    return _SVG.format("strip", WIDTH * 4, HEIGHT, tally(history), bars)
