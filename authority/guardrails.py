"""The guardrails: what a plan may not do, whoever approves it, unless an override names the rule.

Two places ask. Who seals a plan shows what stands against it before anybody approves::

    rules = Guardrails(catalogue.guardrails)
    violations = rules.violations(plan, ledger.guardrails.facts(plan, rules))

Who writes the intent of a step checks it in the same transaction: nothing reaches a provider past it::

    guard = Guard(rules, plan, steps=decision.steps, overrides=decision.overrides, given_at=...)
    ledger.journal.intend(entry, ..., guard=guard)

That raises ``GuardrailError``, an ``ActionRefusedError``: the step ends not done. ``check_names`` refuses
unknown overrides when a decision is taken. An undo, of a step or by a plan that takes a mitigation back, goes
to a state that was there: only ``freeze``, the ``target-lock`` of a third mitigation and, where a plan knows,
``regions-on`` stand against it. A limit that holds for a plan is measured on the steps that are approved.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from contracts.catalogue import GuardrailLimits, Limits
from contracts.errors import ForbiddenError, GuardrailError, InputError
from contracts.guardrails import Freeze, Guardrail, Violation
from contracts.incidents import AttemptEnd, Incident, Role
from contracts.outcomes import Direction
from contracts.plans import Plan, Step

HOUR = timedelta(hours=1)
_NEVER = datetime.min.replace(tzinfo=UTC)
# Mitigations that ended longer ago than this, by their first intent, say nothing about the next one.
REMEMBERED = timedelta(days=1)
HELPLESS = (AttemptEnd.INEFFECTIVE, AttemptEnd.WORSE)
TELLING = (AttemptEnd.EFFECTIVE, *HELPLESS)

_DEFAULT = GuardrailLimits()


@dataclass(frozen=True)
class Touch:
    """Another mitigation's latest change of a target.

    Attributes:
        held: That mitigation has not ended and nobody has taken the target over: it is locked.
    """

    target: str
    mitigation: str
    at: datetime
    held: bool


@dataclass(frozen=True)
class Facts:
    """What the ledger knows that counts for one plan.

    Attributes:
        touches: Of the plan's targets, by other mitigations: all that are held, and all within the cooldown.
        actions: How many other actions the service had within the last hour.
        ends: Name (``playbook disable-flag``, ``service shop``) to how its mitigations ended, newest first.
        freezes: Those that stand, for the plan's service or for every one.
    """

    now: datetime
    touches: tuple[Touch, ...] = ()
    actions: int = 0
    ends: Mapping[str, Sequence[AttemptEnd]] = field(default_factory=dict)
    freezes: tuple[Freeze, ...] = ()


def check_names(overrides: Iterable[str]) -> None:
    """Check that every override names a guardrail.

    Raises:
        InputError: One of them is unknown.
    """
    known = set(Guardrail)
    for name in overrides:
        if name not in known:
            raise InputError(f"there is no guardrail {name[:64]!r}; there are {', '.join(Guardrail)}")


def check_may_lift(freeze: Freeze, person: str, open_now: Iterable[Incident]) -> None:
    """Check that this person may lift a freeze: who set it, or commands an open incident that it stops.

    Raises:
        ForbiddenError: It is somebody else's to lift.
    """
    commanders = [
        incident.roles.get(Role.INCIDENT_COMMANDER)
        for incident in open_now
        if freeze.service in (None, incident.service)
    ]
    if person not in (freeze.person, *commanders):
        where = f"an open incident of {freeze.service}" if freeze.service else "an open incident"
        raise ForbiddenError(
            f"{freeze.id} was set by {freeze.person}: {freeze.person} lifts it, or who commands {where}"
        )


class Guardrails:
    """The rules with their limits."""

    def __init__(self, limits: GuardrailLimits = _DEFAULT) -> None:
        self._limits = limits

    def limits(self, service: str) -> Limits:
        """Give what holds for a service."""
        return self._limits.of(service)

    def violations(
        self,
        plan: Plan,
        facts: Facts,
        *,
        steps: Sequence[int] = (),
        due: int | None = None,
        direction: Direction = Direction.APPLY,
    ) -> tuple[Violation, ...]:
        """Give everything that stands against a plan, or against one step of it.

        Args:
            plan: The plan.
            facts: What the ledger knows; when it is about one step, of that step's target.
            steps: Numbers of the steps that are approved; empty means all.
            due: How many actions are about to begin; ``None``: all of them.
            direction: Whether it is the step's action or its undo.
        """
        limits = self._limits.of(plan.service)
        chosen = [step for step in plan.steps if step.change and (not steps or step.number in steps)]
        undoes = direction is Direction.UNDO or plan.undoes is not None
        found = [*_stopped(facts), *_locked(plan, facts)]
        if direction is not Direction.UNDO:
            found += _regions_on(chosen, limits)
        if not undoes:
            found += [
                *_cooldown(facts, limits),
                *_budget(plan, facts, limits, len(chosen) if due is None else due),
                *_breaker(facts, limits),
                *_blast_radius(chosen, limits),
                *self._change_freeze(plan, facts.now),
            ]
        return tuple(Violation(rule=rule, sentence=sentence) for rule, sentence in found)

    def _change_freeze(self, plan: Plan, now: datetime) -> "_Found":
        for window in self._limits.change_freezes:
            until = window.until(now)
            if until is not None and (not window.services or plan.service in window.services):
                yield Guardrail.CHANGE_FREEZE, f"{window.name} lasts until {until.isoformat()}"


@dataclass(frozen=True)
class Guard:
    """What an intent is checked against.

    Attributes:
        plan: The plan that is verified to be the one that was decided on.
        steps: Numbers of the steps that are approved; empty means all.
        overrides: Names of the guardrails that the decision sets aside.
        given_at: When it did: a freeze, or another mitigation's change, that came later still holds.
    """

    rules: Guardrails
    plan: Plan
    steps: tuple[int, ...] = ()
    overrides: tuple[str, ...] = ()
    given_at: datetime = _NEVER

    def check(self, direction: Direction, facts: Facts) -> tuple[Violation, ...]:
        """Check one action that is about to begin; give what is set aside by an override.

        Raises:
            GuardrailError: A guardrail holds, or an override names none.
        """
        try:
            check_names(self.overrides)
        except InputError as error:
            raise GuardrailError(str(error)) from error
        stood = replace(
            facts,
            freezes=tuple(freeze for freeze in facts.freezes if freeze.at <= self.given_at),
            touches=tuple(touch for touch in facts.touches if touch.at <= self.given_at),
        )
        found, known = (
            self.rules.violations(self.plan, seen, steps=self.steps, due=1, direction=direction)
            for seen in (facts, stood)
        )
        aside = [violation for violation in known if self._sets_aside(violation)]
        held = [str(violation) for violation in found if violation not in aside]
        if held:
            raise GuardrailError("; ".join(held))
        return found

    def _sets_aside(self, violation: Violation) -> bool:
        # A target that was taken over is no longer held, only lately changed: one override is for both. A
        # cooldown that was there when the plan was sealed was shown, and is named by itself.
        is_taken = violation.rule is Guardrail.COOLDOWN and violation not in self.plan.violations
        return violation.rule in self.overrides or (is_taken and Guardrail.TARGET_LOCK in self.overrides)


_Found = Iterator[tuple[Guardrail, str]]


def _stopped(facts: Facts) -> _Found:
    for freeze in facts.freezes:
        what = f"changes of {freeze.service}" if freeze.service else "all changes"
        said = f"{freeze.person} stopped {what} at {freeze.at.isoformat()} ({freeze.id}): {freeze.reason}"
        yield Guardrail.FREEZE, said


def _locked(plan: Plan, facts: Facts) -> _Found:
    for touch in facts.touches:
        if touch.held and touch.mitigation != plan.undoes:
            said = f"{touch.mitigation} has {touch.target} to itself since {touch.at.isoformat()}"
            yield Guardrail.TARGET_LOCK, f"{said} and has not ended"


def _cooldown(facts: Facts, limits: Limits) -> _Found:
    for touch in facts.touches:
        over = touch.at + limits.cooldown
        if not touch.held and facts.now < over:
            said = f"{touch.mitigation} changed {touch.target} at {touch.at.isoformat()}"
            yield Guardrail.COOLDOWN, f"{said}: wait until {over.isoformat()}"


def _budget(plan: Plan, facts: Facts, limits: Limits, due: int) -> _Found:
    if facts.actions + due > limits.actions_per_hour:
        said = f"{plan.service} had {facts.actions} actions within the hour and would have {due} more"
        yield Guardrail.ACTIONS_PER_HOUR, f"{said}, of {limits.actions_per_hour} that it may have"


def _breaker(facts: Facts, limits: Limits) -> _Found:
    for name, ends in facts.ends.items():
        last = ends[: limits.ineffective_in_a_row]
        if len(last) == limits.ineffective_in_a_row and all(end in HELPLESS for end in last):
            yield Guardrail.INEFFECTIVE_BREAKER, f"the last {len(last)} mitigations of {name} did not help"


def _blast_radius(steps: Sequence[Step], limits: Limits) -> _Found:
    rule = Guardrail.BLAST_RADIUS
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for step in steps:
        if step.reach.replicas is not None:
            before, last[str(step.action.target)] = step.reach.replicas
            first.setdefault(str(step.action.target), before)
    for target, before in first.items():
        if before - last[target] > limits.replica_share * before:
            said = f"{before - last[target]} of {before} replicas of {target} would go"
            yield rule, f"{said}, at most {limits.replica_share:.0%} may"
    regions = sorted({step.reach.region for step in steps if step.reach.region is not None})
    if len(regions) > limits.regions:
        yield rule, f"{', '.join(regions)} would be changed, at most {limits.regions} regions may"
    flags = {step.action.target for step in steps if step.action.target.kind == "flag"}
    if len(flags) > limits.flags:
        yield rule, f"{len(flags)} flags would be changed, at most {limits.flags} may"


def _regions_on(steps: Sequence[Step], limits: Limits) -> _Found:
    places: dict[str, dict[str, tuple[bool, bool]]] = {}
    for step in steps:
        target, known = str(step.action.target), step.reach.places
        changed = {name: (was, would) for name, (was, would) in known.items() if was is not would}
        places[target] = known | places.get(target, {}) | changed
    for target, known in places.items():
        count = sum(would for _, would in known.values())
        if count < min(limits.regions_on, sum(was for was, _ in known.values())):
            said = f"{count} of {len(known)} places of {target} would be on"
            yield Guardrail.REGIONS_ON, f"{said}, at least {limits.regions_on} are to be"
