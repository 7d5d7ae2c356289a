"""The guardrails: rules that hold even against the Incident Commander, unless an override names them."""

from datetime import datetime
from enum import StrEnum

from contracts.base import Frozen


class Guardrail(StrEnum):
    """What a refusal names, and what an override has to name. The names are stable for ever."""

    TARGET_LOCK = "target-lock"
    COOLDOWN = "cooldown"
    ACTIONS_PER_HOUR = "actions-per-hour"
    INEFFECTIVE_BREAKER = "ineffective-breaker"
    BLAST_RADIUS = "blast-radius"
    REGIONS_ON = "regions-on"
    CHANGE_FREEZE = "change-freeze"
    FREEZE = "freeze"


class Violation(Frozen):
    """One rule that a plan or a step goes against, and one sentence that says why."""

    rule: Guardrail
    sentence: str

    def __str__(self) -> str:
        return f"guardrail {self.rule.value}: {self.sentence}"


class Freeze(Frozen):
    """The switch that stops all changes, of one service or of every one, until it is lifted.

    Attributes:
        id: ``FRZ-3``.
        service: ``None``: every service.
        running: Actions that were on their way when it was set: their calls end, no other one begins.
    """

    id: str
    service: str | None = None
    reason: str
    person: str
    at: datetime
    lifted_by: str | None = None
    lifted_at: datetime | None = None
    running: tuple[str, ...] = ()


class Lock(Frozen):
    """A target that a mitigation has to itself, until it ends or somebody takes the target over."""

    target: str
    mitigation: str
    since: datetime
