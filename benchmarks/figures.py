"""Figures: distributions of times, their ratios to the bare ones, and the table of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MILLISECONDS = 1000.0


@dataclass(frozen=True)
class Times:
    """Some measured times, in seconds."""

    seconds: Sequence[float]

    def at(self, share: float) -> float:
        """Give the time that this share of all stayed within, by the nearest rank."""
        ranked = sorted(self.seconds)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))]

    def plain(self) -> dict[str, float]:
        """Give what is written down."""
        told = {"p50_ms": self.at(0.5), "p99_ms": self.at(0.99)}
        return {name: round(value * MILLISECONDS, 2) for name, value in told.items()} | {
            "n": len(self.seconds)
        }


@dataclass(frozen=True)
class Latency:
    """One latency of ours beside the bare one that it is held against.

    Attributes:
        against: What the bare workflow did in that time.
        aim: How many times the bare median ours may take; None where nothing is aimed at.
    """

    name: str
    ours: Times
    against: str
    bare: Times
    aim: float | None = None

    @property
    def ratio(self) -> float:
        """Give our median by the bare one."""
        return self.ours.at(0.5) / self.bare.at(0.5)

    @property
    def is_over(self) -> bool:
        """Say whether the aim is missed."""
        return self.aim is not None and self.ratio > self.aim

    def plain(self) -> dict[str, Any]:
        """Give what is written down."""
        told: dict[str, Any] = {"ours": self.ours.plain(), "bare": self.bare.plain(), "against": self.against}
        return told | {"ratio": round(self.ratio, 2), "aim": self.aim, "over": self.is_over}

    def row(self) -> list[str]:
        """Give its row of the table."""
        told = [self.name]
        for times in (self.ours, self.bare):
            told += [f"{times.at(share) * MILLISECONDS:.0f}" for share in (0.5, 0.99)]
        aim = "" if self.aim is None else f"{self.aim:g} {'OVER' if self.is_over else 'ok'}"
        return [*told, f"{self.ratio:.1f}", aim, self.against]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give rows as text with aligned columns, the first to the left."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [
            cell.ljust(width) if number in (0, len(head) - 1) else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
