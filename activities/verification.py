"""Knowing whether a step helped the users, and whether everything stays healthy."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import takewhile

from temporalio import activity

from activities.beating import beating
from activities.registry import Registry
from contracts import names
from contracts.actions import SETTLES_AT_MOST
from contracts.base import Frozen
from contracts.catalogue import Catalogue
from contracts.errors import ActionRefusedError, ForbiddenError, ProviderUnavailableError
from contracts.evidence import ENGINE, Evidence, EvidenceKind
from contracts.incidents import Effect
from contracts.messages import MonitorOrder, MonitorResult, VerifyOrder
from contracts.outcomes import Direction, EffectResult, Outcome, Progress, Reached
from contracts.plans import ActionCall, Plan, Reading, Step, Verification
from contracts.watches import KEPT, LEAST, Watch, gap
from ledger import Ledger
from ledger.watches import question

SETTLE_EVERY = 0.5
STALE_FOR = timedelta(seconds=5)
# A look at a provider counts as no longer than this, however long the process was frozen meanwhile.
LONGEST_LOOK = timedelta(minutes=1)
# And a probe's as no longer than this, which is more than a client waits for an answer.
LONGEST_PROBE = timedelta(seconds=15)
# Two clocks that differ by more about the time since the last look: one of them has jumped.
JUMP = timedelta(seconds=1)
# What was measured in this time before a step is what it is compared with.
BEFORE = timedelta(minutes=2)
# Monitoring without data gives up after this many of its windows and asks a person.
MONITOR_WINDOWS = 3


def is_worse(verification: Verification, value: float) -> bool:
    """Say whether a value is unhealthy and clearly beyond the baseline."""
    baseline = verification.baseline.value if verification.baseline else None
    if baseline is None or verification.is_healthy(value):
        return False
    if verification.healthy_below is not None:
        return value > baseline * verification.worse_ratio
    return value < baseline / verification.worse_ratio


def judge(verification: Verification, readings: Sequence[Reading], *, final: bool) -> Effect | None:
    """Judge what the readings say so far; ``None`` while it is too early. The rule is ``Verification``'s own.

    Args:
        verification: The rule.
        readings: In the order in which they were taken, since the step settled.
        final: The time is over: a judgement has to be given.
    """
    last = readings[-1].value if readings else None
    first = _first(verification, readings)
    if last is not None and first is not None and readings[-1].at - first.at >= verification.hold:
        return Effect.EFFECTIVE if verification.is_healthy(last) else Effect.WORSE
    if not final:
        return None
    lately = [one.value for one in readings if readings[-1].at - one.at <= verification.hold]
    flaps = any(value is not None and verification.is_healthy(value) for value in lately)
    return Effect.INCONCLUSIVE if last is None or flaps else Effect.INEFFECTIVE


def _first(verification: Verification, readings: Sequence[Reading]) -> Reading | None:
    """Give the first of the latest unbroken run of healthy, or of worse, readings; ``None``: neither."""
    last = readings[-1].value if readings else None
    holds: Callable[[float], bool] = partial(is_worse, verification)
    if last is not None and verification.is_healthy(last):
        holds = verification.is_healthy
    run = list(takewhile(lambda one: one.value is not None and holds(one.value), reversed(readings)))
    return run[-1] if run else None


def _to_keep(verification: Verification, readings: Sequence[Reading]) -> Sequence[Reading]:
    """Give what says all that counts of readings: where their latest run began, and the latest."""
    first, latest = _first(verification, readings), readings[1 - KEPT :]
    return latest if first is None or first in latest else [first, *latest]


def says(verification: Verification, effect: Effect, readings: Sequence[Reading]) -> str:
    """Say the judgement in one sentence with its numbers."""
    unit = f" {verification.unit}" if verification.unit else ""
    word, bound = verification.bound
    before = verification.baseline.value if verification.baseline else None
    last = next((reading.value for reading in reversed(readings) if reading.value is not None), None)
    from_to = f"{_number(before)} → {_number(last)}{unit}"
    return f"{verification.signal} {from_to}: {effect.value} (healthy is {word} {_number(bound)}{unit})"


def _span(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds / 60:.3g} min" if seconds >= 60 else f"{seconds:.3g} s"  # noqa: PLR2004  (a minute)


def _number(value: float | None) -> str:
    return "no data" if value is None else f"{value:.3g}"


class Kept(Frozen):
    """What a worker that goes on after a killed one has to know of a verification.

    Attributes:
        spent: How long the present part of it has been looked at: until it has settled, or since.
        until: How long that may take.
        said: What the provider has said while the step was settling.
        settled: The end of that part.
    """

    spent: timedelta = timedelta()
    until: timedelta = timedelta()
    said: tuple[str, ...] = ()
    settled: Progress | None = None


def effect_of(ledger: Ledger, action: str) -> EffectResult | None:
    """Give what was judged of an action of the journal, once it was: the log's first judgement stands."""
    body = ledger.evidence.body_of(f"{action}/verification")
    return None if body is None else EffectResult.model_validate(body)


def call_of(step: Step, direction: Direction) -> ActionCall | None:
    """Give what a step calls in one of its ways, where it has that."""
    calls = {Direction.APPLY: step.action, Direction.FORCE: step.forced, Direction.UNDO: step.undo}
    return calls[direction]


class Looking:
    """How long somebody has looked, whatever the machine's clock does meanwhile."""

    def __init__(
        self, clock: Callable[[], datetime], monotonic: Callable[[], float], spent: timedelta
    ) -> None:
        self.spent = spent
        self._clock = clock
        self._monotonic = monotonic
        self._last = clock(), monotonic()

    def since(self) -> timedelta:
        """Give how long ago the last look was."""
        return timedelta(seconds=self._monotonic() - self._last[1])

    def looked(self, allowed: timedelta) -> bool:
        """Count the time since the last look, at most ``allowed``.

        Returns:
            False when nobody has looked meanwhile for all that is known: it was longer, as of a process that
            was frozen, or the clocks do not agree, as after a suspended machine or a jump.
        """
        (before, began), self._last = self._last, (self._clock(), self._monotonic())
        passed, told = timedelta(seconds=self._last[1] - began), self._last[0] - before
        self.spent += min(passed, allowed)
        return passed <= allowed and abs(told - passed) <= JUMP


@dataclass
class Signal:
    """A signal that is read again and again, and what was read of it.

    Attributes:
        looking: How long it has been looked at.
        is_here: Nobody has been away since the last reading.
    """

    rule: Verification
    read: Callable[[], Reading]
    looking: Looking
    readings: list[Reading]
    is_here: bool

    def take(self) -> bool:
        """Read it once more; False: before that there was time in which nobody looked."""
        allowed = gap(self.rule.hold, self.rule.every)
        is_here = self.looking.looked(allowed) and self.is_here
        reading = self.read()
        is_here = self.looking.looked(max(allowed, LONGEST_PROBE)) and is_here
        if not is_here:
            detail = "nobody looked: the worker was away, or its clock has jumped"
            self.readings.append(Reading(value=None, at=reading.at, detail=detail))
        self.readings.append(reading)
        self.is_here = True
        return is_here

    def gets_worse(self) -> bool:
        """Read it once more when that is due; True: it is clearly worse for long enough."""
        if self.looking.since() < self.rule.every:
            return False
        self.take()
        return judge(self.rule, self.readings, final=False) is Effect.WORSE


class Watching:
    """Verifies steps and watches services; read-only.

    Args:
        ledger: Keeps what was seen.
        catalogue: Says which signals a service has.
        registry: Whose actions and probes.
        clock: The time of what is written down.
        monotonic: Seconds, for how long something takes.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        catalogue: Catalogue,
        registry: Registry,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._registry = registry
        self._clock = clock
        self._monotonic = monotonic

    @activity.defn(name=names.VERIFY_STEP)
    def verify_step(self, order: VerifyOrder) -> EffectResult:
        """Wait until the step has settled, then judge what it did for the users.

        Idempotent: it only looks; a second run gives the first one's judgement, or goes on from its readings.
        """
        with beating():
            plan = self._ledger.approvals.plan(order.plan_digest)
            key = names.action_id(plan.mitigation, order.step, order.direction.value)
            entry = self._ledger.journal.get(key)
            if entry is None or entry.result is None or entry.result.outcome is not Outcome.DONE:
                raise ForbiddenError(f"{key} was not done: there is nothing to verify")
            step = plan.steps[order.step - 1]
            known = effect_of(self._ledger, key)
            if known is not None:
                return known
            watch = self._ledger.watches.get(f"verification/{key}")
            result = self._verify(plan, step, order.direction, watch)
            self._ledger.evidence.append(
                Evidence(
                    key=f"{key}/verification",
                    kind=EvidenceKind.VERIFICATION,
                    incident=plan.incident,
                    actor=ENGINE,
                    at=result.ended_at,
                    summary=f"{plan.mitigation} {step.title}: {result.detail}",
                    body=result.model_dump(mode="json"),
                )
            )
            # A run that was frozen meanwhile gives what the one that took over has judged.
            return effect_of(self._ledger, key) or result

    @activity.defn(name=names.MONITOR)
    def monitor(self, order: MonitorOrder) -> MonitorResult:
        """Watch the signals until they have all been healthy for the whole window, or one is not.

        Idempotent: it only looks; a second run begins a new window.
        """
        entry = self._catalogue.environment(order.service, order.environment)
        signals = entry.signals if entry else {}
        named = [name for name in order.signals if name in signals] or list(signals)
        watched = {name: entry.verification(name) for name in named} if entry else {}
        with beating():
            stable, regressed, detail = self._monitor(watched, order.hold)
            result = MonitorResult(stable=stable, regressed=regressed, detail=detail, ended_at=self._clock())
            self._ledger.evidence.append(
                Evidence(
                    key=f"{order.incident}/monitoring/{result.ended_at.isoformat()}",
                    kind=EvidenceKind.MONITORING,
                    incident=order.incident,
                    actor=ENGINE,
                    at=result.ended_at,
                    summary=detail,
                    body=result.model_dump(mode="json"),
                )
            )
            return result

    def _verify(self, plan: Plan, step: Step, direction: Direction, watch: Watch) -> EffectResult:
        known = Kept.model_validate(watch.state)
        rule = sealed = step.verification if direction is not Direction.UNDO else None
        readings: list[Reading] = []
        settled = known.settled or self._settle(plan, step, direction, watch, known)
        if settled.reached is Reached.SETTLING:
            # It may get there yet: whether to wait, to force it or to go back is a person's to say.
            effect = Effect.INCONCLUSIVE
            detail = f"step {step.number} did not settle in time: {settled.detail}"
        elif settled.reached not in (Reached.YES, Reached.UNKNOWN):
            effect, detail = Effect.INEFFECTIVE, f"step {step.number} did not settle: {settled.detail}"
        elif sealed is None:
            told = "settled" if settled.reached is Reached.YES else f"was taken ({settled.detail})"
            effect, detail = Effect.INCONCLUSIVE, f"step {step.number} {told}; nothing was measured"
        else:
            rule = self._compared(plan, step, sealed)
            if known.settled is None:
                known, watch = Kept(until=rule.within, settled=settled), Watch(item=watch.item)
            effect, readings = self._judge(rule, watch, known)
            detail = says(rule, effect, readings)
            if rule is not sealed and rule.baseline:
                detail += f"; before it: {rule.baseline.detail}"
        return EffectResult(
            effect=effect,
            detail=detail,
            baseline=rule.baseline if rule else None,
            readings=tuple(readings[-100:]),
            settled=None if settled.reached is Reached.UNKNOWN else settled,
            ended_at=self._clock(),
        )

    def _settle(self, plan: Plan, step: Step, direction: Direction, watch: Watch, known: Kept) -> Progress:
        """Wait until the provider has carried the step out; a look that fails counts as not yet.

        When things get worse meanwhile, people are told once. Nothing is undone for it: an outage that still
        grows, while a good release is on its way, looks the same.
        """
        call = call_of(step, direction)
        if call is None:
            return Progress(reached=Reached.NO, detail="there is no undo")
        action, request = self._registry.action(call)
        looking, settling = Looking(self._clock, self._monotonic, known.spent), known.spent
        signal = self._meanwhile(plan, step, direction, watch)
        while True:
            try:
                progress = action.is_reached(request, action.observe(request))
            except (ActionRefusedError, ProviderUnavailableError) as error:
                progress = Progress(reached=Reached.SETTLING, detail=str(error))
            else:
                if progress.detail not in known.said:
                    until = min(looking.spent + action.settles_within, SETTLES_AT_MOST)
                    known = known.model_copy(update={"until": until, "said": (*known.said, progress.detail)})
            looking.looked(LONGEST_LOOK)
            # A look may be stale, or see how a former change ended until a controller gets on with this one:
            # only what stays so means changed back, or failed.
            settling = looking.spent if progress.reached is Reached.SETTLING else settling
            is_open = progress.reached not in (Reached.YES, Reached.UNKNOWN)
            is_open = is_open and looking.spent - settling < STALE_FOR
            if not is_open or looking.spent >= (known.until or action.settles_within):
                return progress
            if signal is not None and signal.gets_worse():
                seen = f"{says(signal.rule, Effect.WORSE, signal.readings)} while it is under way"
                said = f"{plan.mitigation} {step.title}: {seen}: {progress.detail}"
                self._ledger.incidents.warn(plan.incident, f"{watch.item}/worse", said)
                signal = None
            if looking.spent - known.spent >= LEAST:
                known = known.model_copy(update={"spent": looking.spent})
                self._keep(watch, _to_keep(signal.rule, signal.readings) if signal else (), known)
            time.sleep(SETTLE_EVERY)

    def _meanwhile(self, plan: Plan, step: Step, direction: Direction, watch: Watch) -> Signal | None:
        """Give what is read while a step settles; one without a verification has that of a later one."""
        rule = next((one.verification for one in plan.steps[step.number - 1 :] if one.verification), None)
        steady = [name for name, probe in self._registry.probes.items() if probe.steady]
        if rule is None or rule.probe.name not in steady or direction is Direction.UNDO:
            return None
        return self._signal(self._compared(plan, step, rule), watch, timedelta())

    def _compared(self, plan: Plan, step: Step, sealed: Verification) -> Verification:
        """Give the rule with what was measured just before the step: its plan may have waited for hours."""
        entry = self._ledger.journal.get(names.action_id(plan.mitigation, step.number, Direction.APPLY.value))
        if entry is None:
            return sealed
        rules = [(one.number, one.verification) for one in plan.steps]
        # What several steps are verified with is read once, for the first of them.
        first = next(number for number, rule in rules if rule is not None and rule.probe == sealed.probe)
        seen = self._ledger.watches.get(f"{question(entry.approval)}{first}").readings
        began = entry.intent_at or self._clock()
        before = [one for one in seen if began - BEFORE <= one.at <= began]
        values = [one.value for one in before if one.value is not None]
        told = _number(sealed.baseline.value if sealed.baseline else None)
        if values:
            detail = f"median of {len(values)} readings; {told} when the plan was sealed"
            baseline = Reading(value=statistics.median(values), at=before[-1].at, detail=detail)
        elif sealed.baseline is None or began - sealed.baseline.at <= BEFORE:
            return sealed
        else:
            detail = f"{told}, read {_span(began - sealed.baseline.at)} earlier when the plan was sealed"
            baseline = sealed.baseline.model_copy(update={"detail": detail})
        return sealed.model_copy(update={"baseline": baseline})

    def _judge(self, rule: Verification, watch: Watch, known: Kept) -> tuple[Effect, list[Reading]]:
        """Read until there is a judgement; what a killed run of the same step has read counts."""
        signal, until = self._signal(rule, watch, known.spent), known.until
        while True:
            if not signal.take():
                until = min(max(until, signal.looking.spent + rule.hold), 2 * rule.within)
            known = Kept(spent=signal.looking.spent, until=until, settled=known.settled)
            self._keep(watch, _to_keep(rule, signal.readings), known)
            effect = judge(rule, signal.readings, final=signal.looking.spent >= until)
            if effect is not None:
                return effect, signal.readings
            time.sleep(rule.every.total_seconds())

    def _signal(self, rule: Verification, watch: Watch, spent: timedelta) -> Signal:
        looking, kept = Looking(self._clock, self._monotonic, spent), list(watch.readings)
        is_here = not kept or timedelta() <= self._clock() - kept[-1].at <= gap(rule.hold, rule.every)
        read = partial(self._registry.read, rule.probe, self._clock)
        return Signal(rule, read, looking, kept, is_here)

    def _keep(self, watch: Watch, readings: Sequence[Reading], known: Kept) -> None:
        # A run that cannot keep what it has seen is as good as one that could, while it lives.
        with suppress(ProviderUnavailableError):
            self._ledger.watches.keep(watch.item, readings, known.model_dump(mode="json"))

    def _monitor(self, watched: dict[str, Verification], hold: timedelta) -> tuple[bool, bool, str]:
        every = min((one.every for one in watched.values()), default=min(hold, timedelta(seconds=5)))
        looking, healthy_since = Looking(self._clock, self._monotonic, timedelta()), timedelta()
        ill_since: dict[str, timedelta] = {}
        while True:
            is_here = looking.looked(gap(hold, every))
            readings = {name: self._registry.read(one.probe, self._clock) for name, one in watched.items()}
            is_here = looking.looked(max(gap(hold, every), LONGEST_PROBE)) and is_here
            silent = [name for name, reading in readings.items() if reading.value is None]
            values = {name: reading.value for name, reading in readings.items() if reading.value is not None}
            ill = {name: value for name, value in values.items() if not watched[name].is_healthy(value)}
            if not is_here or silent or ill:
                healthy_since = looking.spent
            # One bad reading begins the window anew; only a stretch of them says that it is back.
            ill_since = {
                name: ill_since.get(name, looking.spent) if is_here else looking.spent for name in ill
            }
            for name, since in ill_since.items():
                if looking.spent - since >= min(watched[name].hold, hold):
                    return False, True, f"{name} is {_number(ill[name])} again: not healthy"
            if looking.spent - healthy_since >= hold:
                said = ", ".join(f"{name} {_number(reading.value)}" for name, reading in readings.items())
                return True, False, f"stable for {_span(hold)}: {said or 'no signal to watch'}"
            if looking.spent >= hold * MONITOR_WINDOWS:
                lacks = (
                    f"no data for {', '.join(silent)}"
                    if silent
                    else "neither healthy nor ill for long enough"
                )
                return False, False, lacks
            time.sleep(every.total_seconds())
