"""What mitigations have left behind: a debt with an owner and an end."""

from datetime import datetime
from enum import StrEnum

from contracts.base import Frozen
from contracts.plans import ActionCall


class ForceState(StrEnum):
    """How a mitigation's debt stands."""

    IN_FORCE = "in_force"
    UNDONE = "undone"
    PERMANENT = "permanent"


class StepInForce(Frozen):
    """One step that was applied and can be taken back.

    Attributes:
        undo: The absolute call that brings back what was there before.
        undone_at: When that was done.
        changed_by: Who has changed it back behind our back, as the provider names them; empty when it does
            not, ``None`` while it is as the step left it.
        changed_at: When that was seen.
    """

    step: int
    title: str
    action: ActionCall
    undo: ActionCall
    since: datetime
    undone_at: datetime | None = None
    changed_by: str | None = None
    changed_at: datetime | None = None


class InForce(Frozen):
    """An applied mitigation, until it is undone or made permanent.

    Attributes:
        owner: Who approved it, and is reminded of it.
        expires_at: When it is undone, or its owner asked to; from then on every day again.
        closed_at: When it was undone or made permanent.
        undo: The undo that is being planned, decided or run now, ``INC-42/1-undo``.
    """

    mitigation: str
    incident: str
    service: str
    environment: str
    title: str
    plan_digest: str
    owner: str
    state: ForceState = ForceState.IN_FORCE
    steps: tuple[StepInForce, ...]
    since: datetime
    expires_at: datetime
    closed_at: datetime | None = None
    undo: str | None = None

    @property
    def left(self) -> tuple[StepInForce, ...]:
        """The steps that are in force still."""
        return tuple(step for step in self.steps if step.undone_at is None)


class InForceTimer(Frozen):
    """Says that something about a mitigation in force is due.

    Attributes:
        revision: Which of its timers this is: when its time was changed there is another, and this one ends.
    """

    mitigation: str
    revision: int
