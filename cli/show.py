"""How things look on a terminal: cleaned data, tables, times in UTC, JSON for programs."""

import argparse
import itertools
import json
import re
import shutil
import sys
import textwrap
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TextIO

WIDTH = 80  # where the terminal does not say
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, bidi and zero-width marks, surrogates, separators
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
SPANS = "30m, 4h or 3d"
_SPANS = {"m": "minutes", "h": "hours", "d": "days"}


def _clean(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"


def clean(value: object) -> str:
    """Give data as one line that cannot move the cursor, change colours or reverse its neighbours."""
    return "".join(map(_clean, str(value))).strip()


def clean_block(text: str) -> str:
    """Clean a text of several lines."""
    return "\n".join("".join(map(_clean, line.expandtabs(4))).rstrip() for line in text.split("\n"))


def size(seconds: float) -> str:
    """Give a duration in its largest unit: ``4 min``."""
    unit, name = next((pair for pair in _UNITS if abs(seconds) >= pair[0]), _UNITS[-1])
    return f"{int(abs(seconds) // unit)} {name}"


def ago(at: datetime, now: datetime) -> str:
    """Give the distance of a time: ``4 min ago``, ``in 12 min``, ``now``."""
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{size(seconds)} ago" if seconds > 0 else f"in {size(seconds)}"


def moment(at: datetime, now: datetime) -> str:
    """Give a time in full: ``2026-11-21 21:04:05Z (4 min ago)``."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ} ({ago(at, now)})"


def short_moment(at: datetime, now: datetime) -> str:
    """Give a time for a table: the time of day while it is within a day, else the date."""
    day = abs((now - at).total_seconds()) < _UNITS[0][0]
    return f"{at.astimezone(UTC):{'%H:%MZ' if day else '%Y-%m-%d'}}, {ago(at, now)}"


def span(text: str) -> timedelta:
    """Read a span from a command line: ``30m``, ``4h`` or ``3d``."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no span: write {SPANS}")
    return timedelta(**{_SPANS[found[2]]: int(found[1])})


def width() -> int:
    """Give how many columns there are."""
    return shutil.get_terminal_size((WIDTH, 24)).columns


def columns_of(text: str) -> int:
    """Give how many columns a text takes: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _fit(text: str, limit: int) -> str:
    if columns_of(text) <= limit:
        return text
    taken = itertools.accumulate(map(columns_of, text))
    kept = sum(1 for columns in taken if columns <= limit - 1)
    return text[:kept] + "…"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, columns: int | None = None) -> list[str]:
    """Lay out rows under a head, two spaces apart.

    The last column takes what is left of the width and is cut there. Without a terminal nothing is cut.
    """
    if columns is None:
        columns = width() if sys.stdout.isatty() else sys.maxsize
    cells = [list(head), *([clean(value) for value in row] for row in rows)]
    widths = [max(map(columns_of, column)) for column in zip(*cells, strict=True)]
    rest = max(columns - sum(widths[:-1]) - 2 * (len(widths) - 1), 10)
    lines = []
    for row in cells:
        padded = [cell + " " * (size - columns_of(cell)) for cell, size in zip(row, widths, strict=True)]
        lines.append("  ".join([*padded[:-1], _fit(row[-1], rest)]).rstrip())
    return lines


def field(label: str, text: str, *, indent: int = 0) -> str:
    """Lay out one labelled text, cleaned, wrapped under itself and never cut."""
    start = " " * indent + f"{clean(label):<10}"
    under = " " * len(start)
    return textwrap.fill(
        clean(text), width(), initial_indent=start, subsequent_indent=under, break_on_hyphens=False
    )


def fields(*pairs: tuple[str, object], indent: int = 0) -> list[str]:
    """Lay out labels with their texts, one under the other, without those that have none."""
    return [field(label, str(text), indent=indent) for label, text in pairs if text]


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give a verb the option ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def as_json(value: object) -> str:
    """Give JSON for programs, models included; escaped, so that it is safe on a terminal too."""
    plain = json.dumps(value, indent=2, default=lambda model: model.model_dump(mode="json"))
    return plain.replace("\x7f", "\\u007f")


def answer(args: argparse.Namespace, value: object, lines: Iterable[str]) -> int:
    """Print what a verb has to say: the value as JSON for programs, the lines for people."""
    print(as_json(value) if args.json else "\n".join(lines))
    return 0


def listing(
    args: argparse.Namespace,
    value: object,
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    none: str,
    notes: Iterable[str] = (),
) -> int:
    """Print a list: a table for people, and notes under it, or one sentence where it is empty."""
    listed = list(rows)
    return answer(args, value, [*table(head, listed), *notes] if listed else [none])


@contextmanager
def waiting(sentence: str, *, stream: TextIO | None = None, after: float = 2.0) -> Iterator[None]:
    """Show on a terminal that something takes its time, from 2 seconds on."""
    target = stream or sys.stderr
    if not target.isatty():
        yield
        return
    finished = threading.Event()

    def tick() -> None:
        if finished.wait(after):
            return
        for turn in itertools.count():
            target.write(f"\r{sentence} {'.' * (turn % 4):<3}")
            target.flush()
            if finished.wait(0.5):
                break
        target.write("\r" + " " * (len(sentence) + 4) + "\r")
        target.flush()

    thread = threading.Thread(target=tick, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
