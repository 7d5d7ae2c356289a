"""What the provider did, and what it did for the users."""

from datetime import datetime
from enum import StrEnum

from contracts.base import Frozen, JsonObject
from contracts.incidents import Attempt, Effect, Ended
from contracts.plans import Difference, Reading


class Direction(StrEnum):
    """Whether a step's action runs, its undo, or its ungraceful variant in the middle of the graceful one."""

    APPLY = "apply"
    UNDO = "undo"
    FORCE = "force"


class Reached(StrEnum):
    """How an observed target stands to the desired state of an action.

    ``SETTLING`` means that the provider has taken the change and is still carrying it out; ``FAILED``
    that it has taken it and cannot carry it out (an image that cannot be pulled); ``UNKNOWN`` that nobody
    can look: only the answer to the call says anything.
    """

    NO = "no"
    SETTLING = "settling"
    YES = "yes"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Progress(Frozen):
    """Where the target is, and one sentence that says so.

    Attributes:
        repeatable: The provider takes a call under one action id once, so that a lost one may be sent again
            although nobody can look.
    """

    reached: Reached
    detail: str = ""
    repeatable: bool = False


class Outcome(StrEnum):
    """What the provider did with one action."""

    DONE = "done"
    NOT_DONE = "not_done"
    IN_DOUBT = "in_doubt"


class StepResult(Frozen):
    """How one run of one step ended.

    Attributes:
        action: The journal's key, ``INC-42/1/1/apply``.
        drift: What changed since the plan was sealed; then nothing was done.
        observed_only: True when the outcome was found by reading the target after a lost answer.
        held: A guardrail held it back; when that is lifted, the same may be planned again.
        forbidden: Why the decision does not allow this step; then nothing was done and nothing is decided.
    """

    action: str
    outcome: Outcome
    detail: str = ""
    drift: tuple[Difference, ...] = ()
    no_op: bool = False
    observed_only: bool = False
    held: bool = False
    forbidden: str = ""
    before: JsonObject = {}
    after: JsonObject = {}


class EffectResult(Frozen):
    """What a step did for the users, with the readings that say so."""

    effect: Effect
    detail: str
    baseline: Reading | None = None
    readings: tuple[Reading, ...] = ()
    settled: Progress | None = None
    ended_at: datetime

    def goes_on(self, *, verified: bool) -> bool:
        """Say whether the next step is due; ``verified``: this one had something to be measured with."""
        settled = self.settled is None or self.settled.reached is Reached.YES
        return self.effect is Effect.EFFECTIVE or (settled and not verified)


class MitigationResult(Ended):
    """How a whole mitigation ended, as its workflow says it."""

    applied: bool = False

    def __str__(self) -> str:
        return f"{self.mitigation} ended {self.end.value}" + (f" ({self.detail})" if self.detail else "")

    def attempt(self, actions: tuple[str, ...]) -> Attempt:
        """Give it as the next planning sees it."""
        return Attempt(**self.model_dump(include=set(Attempt.model_fields)), actions=actions)
