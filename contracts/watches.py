"""What is looked at again and again beside the incidents' own steps, and what was seen."""

from datetime import datetime, timedelta

from contracts.base import Frozen, JsonObject
from contracts.plans import Reading, Verification

# What a question waits for is read no more often than this, whatever its verification says.
LEAST = timedelta(seconds=5)
KEPT = 60  # readings of one thing


class Watch(Frozen):
    """One thing that is looked at again and again.

    Attributes:
        item: What: ``question/APR-7/1``, ``in_force/INC-1/1``, ``readiness/shop/production``, and
            ``verification/INC-1/1/1/apply``, whose readings are kept only.
        next_at: When it is due; while somebody looks, until when nobody else does. ``None``: no more.
        readings: The latest, oldest first.
        state: What has to be known at the next look.
    """

    item: str
    next_at: datetime | None = None
    readings: tuple[Reading, ...] = ()
    state: JsonObject = {}


class SignalNow(Frozen):
    """How the signal of one verified step is while its plan waits for a decision.

    Attributes:
        step: Whose verification it is.
        verification: With what it was when the plan was sealed, and when it is healthy.
        readings: Since then, oldest first.
        healthy_since: From when on every reading was healthy; ``None`` when the last one was not.
        recovered: It has been so for as long as the verification wants.
    """

    step: int
    verification: Verification
    readings: tuple[Reading, ...] = ()
    healthy_since: datetime | None = None
    recovered: bool = False


def gap(hold: timedelta, every: timedelta) -> timedelta:
    """Give for how long nobody may have looked before a stretch of readings counts as broken."""
    return max(3 * every, hold / 3, timedelta(seconds=2))  # a look may take a while itself
