"""What a playbook proposes, and the sealed plan that is shown, approved and run."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from pydantic import Field, JsonValue

from contracts.base import Frozen, JsonObject
from contracts.guardrails import Violation
from contracts.incidents import Effect


class Risk(StrEnum):
    """How much can go wrong, as the action declares it and the playbook may raise it."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Needs(StrEnum):
    """Whom the policy asks before a step may run; what nobody may allow is denied."""

    NOBODY = "nobody"
    ONE = "one"
    TWO = "two"
    DENIED = "denied"


# Whom a step asks, as people read it.
ASKED = {
    Needs.NOBODY: "nobody",
    Needs.ONE: "one person",
    Needs.TWO: "two people",
    Needs.DENIED: "in vain: the policy denies it",
}


class Target(Frozen):
    """The one thing that an action changes.

    Attributes:
        provider: The provider's folder name, for example ``k8s``.
        kind: What it is there, for example ``deployment``.
        path: Where it is, outermost first, for example ``("demo", "shop", "web")``.
    """

    provider: str
    kind: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.provider}:{self.kind}/{'/'.join(self.path)}"


class ActionCall(Frozen):
    """One verb of one provider with the absolute desired state of its target."""

    name: str
    target: Target
    arguments: JsonObject

    def __str__(self) -> str:
        return f"{self.name} {self.target}"


class ProbeCall(Frozen):
    """One look at the world."""

    name: str
    arguments: JsonObject


class Difference(Frozen):
    """One field before and after; ``None`` is absent."""

    path: str
    before: JsonValue = None
    after: JsonValue = None


class Observation(Frozen):
    """The target as it was read.

    Attributes:
        state: What is worth showing and keeping as evidence.
        guard: The part whose change voids an approval: it goes into the precondition of the call, and it is
            compared just before the step runs. What is not in it may change freely.
        at: When it was read (UTC).
    """

    state: JsonObject
    guard: JsonObject
    at: datetime


class Reading(Frozen):
    """One measurement. ``value`` is ``None`` when the source has no data: that is not zero."""

    value: float | None
    at: datetime
    detail: str = ""


# Who waits longer than this for a step to help does not mitigate: see ``verify_step``'s limits.
WITHIN_AT_MOST = timedelta(hours=2)


class Verification(Frozen):
    """How it is known whether a step helped the users.

    The rule, on the readings taken every ``every`` after the step has settled: *effective* once every
    reading of a stretch of ``hold`` was healthy; *worse* as soon as every reading of a stretch of ``hold``
    was above ``worse_ratio`` times the baseline and unhealthy; when ``within`` is over, *inconclusive* if
    there was no data at the end, or if it was flapping: healthy at least once in the last ``hold``; else
    *ineffective*. A step that has not settled in its action's time is *inconclusive* too, and *ineffective*
    where the provider says that it has failed. Time in which nobody looked, or in which a clock jumped,
    breaks a stretch.

    Attributes:
        signal: The name that people know it by, for example ``error_rate``.
        probe: What is measured.
        healthy_below: A reading is healthy when it is below this (exactly one of the two is set).
        healthy_above: A reading is healthy when it is above this.
        unit: For people, for example ``%`` or ``ms``.
        within: How long it may take after the step has settled.
        baseline: The reading when the plan was sealed. What was read while the plan waited counts instead,
            where that was in the two minutes before the step; a later step may find that too old.
    """

    signal: str
    probe: ProbeCall
    healthy_below: float | None = None
    healthy_above: float | None = None
    unit: str = ""
    every: timedelta = timedelta(seconds=5)
    hold: timedelta = timedelta(seconds=60)
    within: timedelta = Field(timedelta(minutes=5), le=WITHIN_AT_MOST)
    worse_ratio: float = 1.5
    baseline: Reading | None = None

    @property
    def bound(self) -> tuple[str, float]:
        """Where healthy values are, below or above, and of what."""
        if self.healthy_below is not None:
            return "below", self.healthy_below
        return "above", self.healthy_above or 0.0

    def is_healthy(self, value: float) -> bool:
        """Say whether one value is healthy."""
        word, bound = self.bound
        return value < bound if word == "below" else value > bound


class Undoable(Frozen):
    """What has a place in the order of undos: a step, or what workflows know of one.

    Attributes:
        undo_first: On the way back it comes before the others too; see ``undo_order``.
    """

    undo_first: bool = False


UndoableT = TypeVar("UndoableT", bound=Undoable)


def undo_order(steps: Iterable[UndoableT]) -> list[UndoableT]:
    """Give steps in the order in which their undos run.

    What was done last is undone first. A step that goes first both ways, such as moving a database's writer,
    comes before them: until it has succeeded nothing else may move.
    """
    done = list(steps)
    first = [step for step in done if step.undo_first]
    return [*first, *(step for step in reversed(done) if not step.undo_first)]


class ProposedStep(Undoable):
    """One step as an author writes it; the engine adds what it observes.

    Attributes:
        forced: The same change done ungracefully, which the Incident Commander may switch to in flight: an
            approval of the plan does not allow it.
    """

    title: str
    action: ActionCall
    forced: ActionCall | None = None
    verification: Verification | None = None
    risk: Risk | None = None


class Proposal(Frozen):
    """What a playbook returns: what to do, in order, and why.

    Attributes:
        title: One line, imperative, for the list: ``Disable flag new-recommendations``.
        rationale: Why this may help, from what was seen.
        undo_when: After which effects the declared undo runs by itself, under the same approval.
        in_force_for: How long what it leaves behind may stay before its owner is asked to undo it.
        repeats: It names on purpose what was tried in this incident already, to do it in another way.
    """

    title: str
    rationale: str
    steps: tuple[ProposedStep, ...]
    undo_when: tuple[Effect, ...] = (Effect.WORSE,)
    in_force_for: timedelta = timedelta(days=1)
    repeats: bool = False


class Reach(Frozen):
    """How far a step reaches, as its action declares it; the guardrails measure it.

    Attributes:
        region: The region or cluster that it changes something in.
        replicas: How many there are and how many there would be, where it sets that.
        places: Where its target sends users to: whether each place is on, and whether it would be.
    """

    region: str | None = None
    replicas: tuple[int, int] | None = None
    places: dict[str, tuple[bool, bool]] = {}


class Step(ProposedStep):
    """One step of a sealed plan: everything that a person needs to say yes or no to it.

    Attributes:
        number: From 1.
        observed: The target as it was when the plan was sealed.
        change: The exact difference that the step makes; empty means that nothing has to be done.
        undo: The absolute call that brings ``observed`` back, or ``None`` with the reason in ``undo_note``.
        refusals: Why the provider would refuse this step, found by its dry run and permission check.
        needs: Whom the policy asks before this step may run.
        rules: The names of the policy's rules that say so.
    """

    number: int
    needs: Needs = Needs.ONE
    rules: tuple[str, ...] = ()
    observed: Observation
    change: tuple[Difference, ...]
    undo: ActionCall | None = None
    undo_note: str = ""
    risk: Risk
    blast_radius: str
    reach: Reach = Reach()
    idempotent: str
    refusals: tuple[str, ...] = ()


class Plan(Frozen):
    """A sealed plan. Its digest is the SHA-256 of its canonical JSON (RFC 8785); nothing in it may change.

    Attributes:
        mitigation: ``INC-42/1``: the incident and the number of the mitigation in it.
        playbook_digest: SHA-256 of the playbook module's source.
        policy_digest: The policy under which it was sealed.
        differences: What changed since the plan that it supersedes, if it supersedes one.
        expires_at: After this, no approval of it is accepted and none is acted on.
        author: The person who wrote the playbook, where it says so.
        requester: The person who asked for this playbook by name; somebody else approves it.
        fresh: This version of the playbook has not helped anybody yet.
        undoes: The mitigation in force that this plan takes back.
        violations: The guardrails that stand against it, unless a decision names them as set aside.
    """

    incident: str
    mitigation: str
    undoes: str | None = None
    author: str | None = None
    requester: str | None = None
    fresh: bool = False
    in_force_for: timedelta = timedelta(days=1)
    service: str
    environment: str
    playbook: str
    playbook_digest: str
    policy_digest: str
    title: str
    rationale: str
    steps: tuple[Step, ...]
    undo_when: tuple[Effect, ...]
    violations: tuple[Violation, ...] = ()
    supersedes: str | None = None
    differences: tuple[Difference, ...] = ()
    sealed_at: datetime
    expires_at: datetime

    @property
    def risk(self) -> Risk:
        """The highest risk of its steps."""
        order = list(Risk)
        return max((step.risk for step in self.steps), key=order.index, default=Risk.NONE)

    @property
    def refusals(self) -> tuple[str, ...]:
        """Every reason why a step would be refused."""
        stopped = (str(violation) for violation in self.violations)
        return (*(reason for step in self.steps for reason in step.refusals), *stopped)

    def needs(self, steps: Collection[int] = ()) -> Needs:
        """Give the strictest demand of some of its steps; none named means all."""
        order = list(Needs)
        named = (step.needs for step in self.steps if not steps or step.number in steps)
        return max(named, key=order.index, default=Needs.ONE)
