"""What every source's parser gives, and how hostile text is made storable."""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.incidents import Alert
from ledger.storable import clean

LONGEST_NAME = 200  # no real name of a label is longer


@dataclass(frozen=True)
class Parsed:
    """What one delivery holds.

    Attributes:
        alerts: Those that can be used.
        refused: One sentence for each that cannot.
        notes: What a person should know of the delivery although all of it was taken.
    """

    alerts: tuple[Alert, ...]
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def storable(text: str, limit: int) -> str:
    """Give text that every database stores, at most ``limit`` characters of it; a cut ends in an ellipsis."""
    kept = clean(text[:limit])
    return kept if len(text) <= limit else kept[:-1] + "…"


def storable_all(texts: Mapping[str, str], *, count: int, limit: int) -> dict[str, str]:
    """Give at most ``count`` of the entries, in order, each value at most ``limit`` characters long."""
    kept = list(texts.items())[:count]
    return {storable(name, LONGEST_NAME): storable(value, limit) for name, value in kept}
