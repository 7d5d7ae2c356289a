"""Knowing whether a step helped the users, and whether everything stays healthy."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import activity

from activities.beating import beating
from activities.registry import Registry
from contracts import names
from contracts.catalogue import Catalogue
from contracts.errors import ActionRefusedError, ProviderUnavailableError
from contracts.evidence import ENGINE, Evidence, EvidenceKind
from contracts.incidents import Effect
from contracts.messages import MonitorOrder, MonitorResult, VerifyOrder
from contracts.outcomes import Direction, EffectResult, Progress, Reached
from contracts.plans import Reading, Step, Verification
from contracts.watches import Watch, gap
from ledger import Ledger

SETTLE_WITHIN = timedelta(minutes=10)
SETTLE_EVERY = 0.5
STALE_FOR = timedelta(seconds=5)
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
    healthy = _stretch(readings, verification.is_healthy)
    if healthy is not None and healthy >= verification.hold:
        return Effect.EFFECTIVE
    worse = _stretch(readings, lambda value: is_worse(verification, value))
    if worse is not None and worse >= verification.hold:
        return Effect.WORSE
    if not final:
        return None
    last = readings[-1].value if readings else None
    if last is None or verification.is_healthy(last):
        return Effect.INCONCLUSIVE
    return Effect.INEFFECTIVE


def _stretch(readings: Sequence[Reading], holds: Callable[[float], bool]) -> timedelta | None:
    """Give how long the latest unbroken run of readings for which ``holds`` is, or ``None`` without one."""
    first: datetime | None = None
    for reading in reversed(readings):
        if reading.value is None or not holds(reading.value):
            break
        first = reading.at
    return readings[-1].at - first if first is not None else None


def says(verification: Verification, effect: Effect, readings: Sequence[Reading]) -> str:
    """Say the judgement in one sentence with its numbers."""
    unit = f" {verification.unit}" if verification.unit else ""
    bound = (
        verification.healthy_below if verification.healthy_below is not None else verification.healthy_above
    )
    word = "below" if verification.healthy_below is not None else "above"
    before = verification.baseline.value if verification.baseline else None
    last = next((reading.value for reading in reversed(readings) if reading.value is not None), None)
    from_to = f"{_number(before)} → {_number(last)}{unit}"
    return f"{verification.signal} {from_to}: {effect.value} (healthy is {word} {_number(bound)}{unit})"


def _span(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds / 60:.3g} min" if seconds >= 60 else f"{seconds:.3g} s"  # noqa: PLR2004  (a minute)


def _number(value: float | None) -> str:
    return "no data" if value is None else f"{value:.3g}"


class Watching:
    """Verifies steps and watches services; read-only."""

    def __init__(
        self, *, ledger: Ledger, catalogue: Catalogue, registry: Registry, clock: Callable[[], datetime]
    ) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._registry = registry
        self._clock = clock

    @activity.defn(name=names.VERIFY_STEP)
    def verify_step(self, order: VerifyOrder) -> EffectResult:
        """Wait until the step has settled, then judge what it did for the users.

        Idempotent: it only looks; a second run gives the first one's judgement, or goes on from its readings.
        """
        with beating():
            key = names.action_id(order.mitigation, order.step, order.direction.value)
            step = self._ledger.approvals.plan(order.plan_digest).steps[order.step - 1]
            kept = self._ledger.watches.get(f"verification/{key}")
            if "result" in kept.state:
                result = EffectResult.model_validate(kept.state["result"])
            else:
                result = self._verify(step, order.direction, kept)
                self._ledger.watches.keep(kept.item, (), {"result": result.model_dump(mode="json")})
            self._ledger.evidence.append(
                Evidence(
                    key=f"{key}/verification",
                    kind=EvidenceKind.VERIFICATION,
                    incident=order.incident,
                    actor=ENGINE,
                    at=result.ended_at,
                    summary=f"{order.mitigation} {step.title}: {result.detail}",
                    body=result.model_dump(mode="json"),
                )
            )
            return result

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

    def _verify(self, step: Step, direction: Direction, kept: Watch) -> EffectResult:
        settled = self._settle(step, direction)
        verification = step.verification if direction is not Direction.UNDO else None
        readings: list[Reading] = []
        if settled.reached not in (Reached.YES, Reached.UNKNOWN):
            effect, detail = Effect.INEFFECTIVE, f"step {step.number} did not settle: {settled.detail}"
        elif verification is None:
            told = "settled" if settled.reached is Reached.YES else f"was taken ({settled.detail})"
            effect, detail = Effect.INCONCLUSIVE, f"step {step.number} {told}; nothing was measured"
        else:
            effect, readings = self._judge(verification, kept)
            detail = says(verification, effect, readings)
        return EffectResult(
            effect=effect,
            detail=detail,
            baseline=verification.baseline if verification else None,
            readings=tuple(readings[-100:]),
            settled=None if settled.reached is Reached.UNKNOWN else settled,
            ended_at=self._clock(),
        )

    def _settle(self, step: Step, direction: Direction) -> Progress:
        """Wait until the provider has carried the step out; unavailable counts as not yet."""
        call = {Direction.APPLY: step.action, Direction.FORCE: step.forced, Direction.UNDO: step.undo}[
            direction
        ]
        if call is None:
            return Progress(reached=Reached.NO, detail="there is no undo")
        action, request = self._registry.action(call)
        began = self._clock()
        until = began + (step.verification.within if step.verification else SETTLE_WITHIN)
        while True:
            try:
                progress = action.is_reached(request, action.observe(request))
            except ProviderUnavailableError as error:
                progress = Progress(reached=Reached.SETTLING, detail=str(error))
            now = self._clock()
            # A read may be stale for a moment after the change: only later does "no" mean changed back.
            is_open = progress.reached is Reached.SETTLING
            is_open = is_open or (progress.reached is Reached.NO and now - began < STALE_FOR)
            if not is_open or now >= until:
                return progress
            time.sleep(SETTLE_EVERY)

    def _judge(self, verification: Verification, kept: Watch) -> tuple[Effect, list[Reading]]:
        """Read until there is a judgement; what a killed run of the same step has read counts."""
        now = began = self._clock()
        until = began + verification.within
        readings = list(kept.readings)
        if readings:
            began = datetime.fromisoformat(str(kept.state["began"]))
            left = verification.within - (readings[-1].at - began)
            until = now + max(left, verification.hold)  # while nobody looked no time has passed
            if now - readings[-1].at > gap(verification, verification.every):
                readings.append(Reading(value=None, at=now, detail="nobody looked: the worker was away"))
        while True:
            readings.append(self._read(verification))
            # A run that cannot keep its readings is as good as one that could, while it lives.
            with suppress(ProviderUnavailableError):
                self._ledger.watches.keep(kept.item, readings, {"began": began.isoformat()})
            effect = judge(verification, readings, final=self._clock() >= until)
            if effect is not None:
                return effect, readings
            time.sleep(verification.every.total_seconds())

    def _read(self, verification: Verification) -> Reading:
        try:
            return self._registry.measure(verification.probe)
        except (ActionRefusedError, ProviderUnavailableError) as error:
            return Reading(value=None, at=self._clock(), detail=str(error))

    def _monitor(self, watched: dict[str, Verification], hold: timedelta) -> tuple[bool, bool, str]:
        began = healthy_since = self._clock()
        every = min((one.every for one in watched.values()), default=min(hold, timedelta(seconds=5)))
        while True:
            readings = {name: self._read(one) for name, one in watched.items()}
            now = self._clock()
            for name, reading in readings.items():
                if reading.value is None:
                    healthy_since = now
                elif not watched[name].is_healthy(reading.value):
                    return False, True, f"{name} is {_number(reading.value)} again: not healthy"
            if now - healthy_since >= hold:
                said = ", ".join(f"{name} {_number(reading.value)}" for name, reading in readings.items())
                return True, False, f"stable for {_span(hold)}: {said or 'no signal to watch'}"
            if now - began >= hold * MONITOR_WINDOWS:
                silent = ", ".join(name for name, reading in readings.items() if reading.value is None)
                return False, False, f"no data for {silent}"
            time.sleep(every.total_seconds())
