"""Running one approved step so that a repeat is harmless: verify the decision, intend, call, settle.

A run that finds an outcome gives it back. A run that finds an intent without an outcome reads the target
before anything is sent again, and stops in doubt when it is neither as it was nor as it should be.
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from opentelemetry import trace
from temporalio import activity

from activities.beating import beating
from activities.planning import changed
from activities.registry import Registry
from activities.verification import call_of, effect_of
from authority.decisions import Verifier, approved
from authority.guardrails import Guard, Guardrails
from contracts import errors, names
from contracts.actions import Action, ActionRequest
from contracts.base import JsonObject
from contracts.catalogue import Catalogue
from contracts.evidence import ENGINE, EvidenceKind
from contracts.messages import StepOrder
from contracts.outcomes import Direction, EffectResult, Outcome, Progress, Reached, StepResult
from contracts.plans import ActionCall, Difference, Observation, Plan, Step
from ledger import JournalEntry, JournalState, Ledger
from ledger.storable import canonical_text

TRACER = trace.get_tracer("stanch")

# An intent that is older than this when the call would be sent is not used: the process was frozen meanwhile,
# and another run may already be reading the target.
LEASE = timedelta(seconds=5)
# What was begun in time may go on after its plan's expiry, unless nothing has happened for longer than this:
# the engine was away, and a person has to look again. A step is tried for half as long.
PAUSE = timedelta(hours=1)
LOOK_EVERY = 0.5
SURE_FAILURES = 5


@dataclass(frozen=True)
class Running:
    """One run of one step: what was ordered and what it resolves to."""

    order: StepOrder
    plan: Plan
    step: Step
    key: str
    action: Action[Any]
    request: ActionRequest

    def ended(
        self,
        outcome: Outcome,
        detail: str,
        before: Observation | None = None,
        after: Observation | None = None,
        **facts: Any,
    ) -> StepResult:
        """Say how it ended, with the target as it was read before and after."""
        states = {"before": before.state if before else {}, "after": after.state if after else {}}
        return StepResult(action=self.key, outcome=outcome, detail=detail, **states, **facts)

    def refused(self, error: errors.ActionRefusedError) -> StepResult:
        """Say that nothing was done."""
        held = isinstance(error, errors.GuardrailError)
        return self.ended(Outcome.NOT_DONE, str(error), held=held)


class Steps:
    """Carries out approved steps; the only place that calls ``Action.apply``."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        catalogue: Catalogue,
        registry: Registry,
        verifier: Verifier,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._registry = registry
        self._verifier = verifier
        self._clock = clock

    # A cancelled step is not interrupted between its call and its outcome: whoever cancels waits.
    @activity.defn(name=names.RUN_STEP, no_thread_cancel_exception=True)
    def run_step(self, order: StepOrder) -> StepResult:
        """Run one step of an approved plan, or its undo.

        Idempotent: the journal has one outcome per action; a second run gives it back or finds it by reading.
        """
        with beating(), TRACER.start_as_current_span("run_step") as span:
            key = names.action_id(order.mitigation, order.step, order.direction.value)
            span.set_attribute("stanch.action", key)
            try:
                plan = self._ledger.approvals.plan(order.plan_digest)
                self._check(order, plan)
            except (errors.ForbiddenError, errors.NotFoundError) as error:
                return self._forbidden(order, key, error)
            entry = self._ledger.journal.begin(
                key,
                incident=plan.incident,
                mitigation=plan.mitigation,
                step=order.step,
                direction=order.direction,
                plan_digest=order.plan_digest,
                approval=order.signed.decision.request,
            )
            return entry.result or self._go(order, plan, entry)

    def _go(self, order: StepOrder, plan: Plan, entry: JournalEntry, forbidden: str = "") -> StepResult:
        """Run a step; of one that is forbidden by now, find out what became of its call."""
        step = plan.steps[entry.step - 1]
        try:
            action, request = self._registry.action(_call(step, order.direction))
            return self._run(Running(order, plan, step, entry.action, action, request), entry, forbidden)
        except errors.ActionRefusedError as error:
            # Refused is a look here, not a call: what became of a call that was begun before is not known.
            outcome = Outcome.IN_DOUBT if entry.state is JournalState.INTENT else Outcome.NOT_DONE
            return self._settle(entry, StepResult(action=entry.action, outcome=outcome, detail=str(error)))
        except errors.ConflictError as error:
            raise errors.ProviderUnavailableError(f"{entry.action}: {error}") from error

    def _check(self, order: StepOrder, plan: Plan) -> None:
        """Check the decision again, here where it is acted on: whatever delivered it is not trusted.

        Raises:
            ForbiddenError: It does not allow this step now, or there is no such step.
        """
        step = next((step for step in plan.steps if step.number == order.step), None)
        if step is None:
            raise errors.ForbiddenError(f"{plan.mitigation} has no step {order.step}")
        journal = self._ledger.journal.for_incident(plan.incident)
        entries = {(one.step, one.direction): one for one in journal if one.mitigation == plan.mitigation}
        effects = {
            at: effect for at, one in entries.items() if (effect := effect_of(self._ledger, one.action))
        }
        numbers = approved(order.signed, plan)
        begun = [entries[at] for at in entries if at[0] in numbers and at[1] is Direction.APPLY]
        now = self._now()
        if begun:
            # Nothing is begun late (see ``_run``); what was begun in time goes on, if it goes on soon.
            # Whether the way back is due, what was measured says, and not the time (see ``_check_turn``).
            moments = [order.signed.decision.decided_at, *(effect.ended_at for effect in effects.values())]
            moments += [one.intent_at for one in begun if one.intent_at is not None]
            if order.direction is Direction.UNDO or now - max(moments) < PAUSE:
                now = min(now, plan.expires_at - timedelta(microseconds=1))
        check = self._verifier.check_approves
        check(order.signed, plan, now=now, step=step.number, direction=order.direction)
        applied = entries.get((step.number, Direction.APPLY))
        if order.direction is not Direction.APPLY and not _may_have_acted(applied):
            raise errors.ForbiddenError(f"{plan.mitigation}: step {step.number} was never begun")
        if order.direction is Direction.FORCE and _may_have_acted(entries.get((step.number, Direction.UNDO))):
            raise errors.ForbiddenError(f"{plan.mitigation}: step {step.number} was undone")
        if self._ledger.evidence.has(names.ended_key(plan.mitigation)):
            raise errors.ForbiddenError(f"{plan.mitigation} has ended")
        seen = {n: effects.get((n, Direction.FORCE)) or effects.get((n, Direction.APPLY)) for n in numbers}
        _check_turn(order.direction, step, plan, seen)
        if (plan.incident, plan.mitigation) != (order.incident, order.mitigation):
            raise errors.ForbiddenError(f"the plan is for {plan.mitigation}, not {order.mitigation}")
        if not self._catalogue.owns(plan.service, plan.environment, step.action.target):
            raise errors.ForbiddenError(
                f"{step.action.target}: the catalogue no longer gives it to {plan.service}"
            )
        if not self._ledger.approvals.has_recorded(order.signed):
            # It is true, and does not count: the first of two has said less since, or a backup was restored.
            request = order.signed.decision.request
            raise errors.ForbiddenError(f"the decision on {request} is not the one that is recorded")

    def _now(self) -> datetime:
        """Give the later of this machine's time and the engine's: being behind does not stretch an expiry."""
        return max(self._clock(), activity.info().current_attempt_scheduled_time)

    def _forbidden(self, order: StepOrder, key: str, error: errors.StanchError) -> StepResult:
        """Keep in the log what was refused: each different order once, however often it comes.

        Where its call was begun while the order was allowed, what became of that is found out and counts.

        Raises:
            ProviderUnavailableError: The decision is the ledger's own, and only its key is not known here:
                it was rotated, and the decision must not be lost.
        """
        reason, decision = str(error), order.signed.decision
        self._ledger.evidence.note(
            EvidenceKind.DECISION_REFUSED,
            forbidden_key(order),
            f"a decision was delivered that does not allow {order.mitigation}: {reason}",
            incident=order.incident,
            actor=decision.person,
            body={"order": order.model_dump(mode="json"), "reason": reason},
        )
        refused = StepResult(action=key, outcome=Outcome.NOT_DONE, forbidden=reason)
        if decision.plan_digest != order.plan_digest or not self._ledger.approvals.has_recorded(order.signed):
            return refused
        if isinstance(error, errors.UnknownKeyError) and self._now() < decision.expires_at:
            raise errors.ProviderUnavailableError(
                f"{reason}: give this worker the public half of the gateway's key"
            )
        entry = self._ledger.journal.get(key)
        if entry is None or (entry.plan_digest, entry.approval) != (order.plan_digest, decision.request):
            return refused
        return entry.result or self._after(order, entry, reason)

    def _after(self, order: StepOrder, entry: JournalEntry, reason: str) -> StepResult:
        """Settle a call that was begun before its order was forbidden; without its plan nobody can look."""
        try:
            plan = self._ledger.approvals.plan(order.plan_digest)
        except (errors.ForbiddenError, errors.NotFoundError):
            unknown = StepResult(action=entry.action, outcome=Outcome.IN_DOUBT, detail=reason)
            return self._settle(entry, unknown)
        return self._go(order, plan, entry, forbidden=reason)

    def _run(  # noqa: C901, PLR0911, PLR0912  (one branch for each thing that may have happened)
        self, run: Running, entry: JournalEntry, forbidden: str
    ) -> StepResult:
        unsure = entry.state is JournalState.INTENT
        for failures in itertools.count(1):
            found = self._reconcile(run, entry) if unsure else None
            if found is not None:
                return self._settle(entry, found)
            if forbidden:
                return self._settle(entry, run.ended(Outcome.NOT_DONE, forbidden))
            observed = run.action.observe(run.request)
            drift = self._drift(run, observed)
            if unsure and (drift or not run.action.change(run.request, observed)):
                found = self._reconcile(run, entry)  # the call has shown itself after all
                if found is not None:
                    return self._settle(entry, found)
            if drift:
                return self._drifted(run, observed, drift)
            if not run.action.change(run.request, observed):
                nothing = run.ended(Outcome.DONE, "nothing had to be done", observed, observed, no_op=True)
                return self._settle(entry, nothing)
            self._wait(run, observed)
            try:
                entry = self._ledger.journal.intend(
                    entry,
                    before=observed.model_dump(mode="json"),
                    actor=ENGINE,
                    guard=self._guard(run),
                    not_after=self._not_after(run, entry),
                )
            except errors.ActionRefusedError as error:
                return self._settle(entry, run.refused(error))
            unsure = False
            try:
                self._apply(run, observed, entry)
            except errors.PreconditionFailedError as error:
                return self._settle(entry, self._precondition_failed(run, observed, error))
            except errors.ActionRefusedError as error:
                return self._settle(entry, run.refused(error))
            except errors.ProviderUnavailableError as error:
                unsure = error.may_have_applied
                if not unsure and failures >= SURE_FAILURES:
                    raise
                time.sleep(min(failures if error.retry_after is None else error.retry_after, 60))
            else:
                return self._settle(entry, self._done(run, observed))
        raise AssertionError("unreachable: the loop has no end of its own")

    def _wait(self, run: Running, observed: Observation) -> None:
        """Let it be tried again later while something has to end first, and tell people once what that is.

        Raises:
            ProviderUnavailableError: Something has.
        """
        waits = run.action.waits_for(run.request, observed, partial(self._made, run))
        if waits:
            said = f"{run.plan.mitigation} step {run.step.number} waits: {waits}"
            self._note(run, "waits", EvidenceKind.ATTENTION_NEEDED, said, {"waits": waits})
            raise errors.ProviderUnavailableError(waits)

    def _made(self, run: Running) -> list[tuple[ActionCall, timedelta]]:
        """Give what was lately done to the target, as the journal has it: whichever worker did it."""
        now, found = self._clock(), []
        for entry in self._ledger.journal.lately(str(run.request.target)):
            is_way_back = run.order.direction is Direction.UNDO and entry.mitigation == run.plan.mitigation
            if entry.action != run.key and entry.intent_at is not None and not is_way_back:
                step = self._ledger.approvals.plan(entry.plan_digest).steps[entry.step - 1]
                # A clock that was set back holds nothing up.
                found.append((_call(step, entry.direction), abs(now - entry.intent_at)))
        return found

    def _not_after(self, run: Running, entry: JournalEntry) -> datetime | None:
        """Give when the plan may no longer be begun; what was begun in time may be finished later."""
        is_first = run.step.number == min(approved(run.order.signed, run.plan))
        begins = is_first and run.order.direction is Direction.APPLY and not entry.fence
        return run.plan.expires_at if begins else None

    def _guard(self, run: Running) -> Guard:
        signed = given = run.order.signed
        if run.order.direction is Direction.FORCE:  # it repeats what the approval has set aside, no more
            given = self._ledger.approvals.get(signed.decision.request).request.signed or signed
        return Guard(
            Guardrails(self._catalogue.guardrails),
            run.plan,
            steps=approved(signed, run.plan),
            overrides=signed.overrides,
            given_at=min(one.decision.decided_at for one in (given, *given.others)),
        )

    def _apply(self, run: Running, observed: Observation, entry: JournalEntry) -> None:
        if entry.intent_at is not None and self._clock() - entry.intent_at > LEASE:
            raise errors.ProviderUnavailableError(
                "the worker was frozen, or its clock is ahead of the ledger's"
            )
        with TRACER.start_as_current_span(run.request.action) as span:
            span.set_attribute("stanch.target", str(run.request.target))
            run.action.apply(run.request, observed, action_id=run.key)

    def _look(self, run: Running, before: Observation) -> tuple[Observation, Progress, StepResult | None]:
        """Read the target, and give the outcome when it is as it should be."""
        now = run.action.observe(run.request)
        progress = run.action.is_reached(run.request, now)
        said = f"found by reading the target: {progress.detail}"
        if progress.reached in (Reached.NO, Reached.UNKNOWN):
            # One that was there before is of a ledger that counted its incidents before this one.
            if now.state.get("mark") != run.key or before.state.get("mark") == run.key:
                return now, progress, None
            said = f"found by our mark on the target, changed again since: {progress.detail}"
        return now, progress, run.ended(Outcome.DONE, said, before, now, observed_only=True)

    def _reconcile(self, run: Running, entry: JournalEntry) -> StepResult | None:
        """Find out what became of an intent without an outcome; ``None``: it certainly did nothing."""
        before = Observation.model_validate(entry.before)
        until = (entry.intent_at or self._clock()) + run.action.in_flight
        while True:
            now, progress, found = self._look(run, before)
            if found is not None:
                return found
            if progress.reached is Reached.UNKNOWN and not progress.repeatable:
                return run.ended(
                    Outcome.IN_DOUBT, f"the answer was lost, and nobody can look: {progress.detail}"
                )
            if self._clock() >= until:
                break
            time.sleep(LOOK_EVERY)
        other = changed(before, now)
        if not other:
            return None
        paths = ", ".join(difference.path for difference in other)
        said = f"the answer was lost, and the target is neither as it was nor as it should be: {paths}"
        return run.ended(Outcome.IN_DOUBT, said, before, now)

    def _drift(self, run: Running, observed: Observation) -> tuple[Difference, ...]:
        if run.order.direction is Direction.APPLY:
            return tuple(changed(run.step.observed, observed))
        if run.order.direction is Direction.FORCE:
            return ()  # the graceful change is under way: the target is not as it was, and need not be
        # An undo is due only while our own change is still in place, as its own action sees it: the undo's
        # may look at something else. Which of its two ways has made it is not always known.
        forced = self._ledger.journal.get(
            names.action_id(run.plan.mitigation, run.step.number, Direction.FORCE.value)
        )
        said = []
        for call in (run.step.action, run.step.forced if _may_have_acted(forced) else None):
            if call is not None:
                action, applied = self._registry.action(call)
                progress = action.is_reached(applied, action.observe(applied))
                if progress.reached is not Reached.NO:
                    return ()
                said.append(progress.detail)
        return (Difference(path="what the step had done", before=None, after="; ".join(said)),)

    def _drifted(self, run: Running, observed: Observation, drift: tuple[Difference, ...]) -> StepResult:
        said = ", ".join(difference.path for difference in drift)
        told = f"{run.plan.mitigation} step {run.step.number} not run, changed since shown: {said}"
        differences = [difference.model_dump(mode="json") for difference in drift]
        body: JsonObject = {"differences": [*differences], "now": observed.state}
        self._note(run, "drift", EvidenceKind.DRIFT, told, body)
        return run.ended(
            Outcome.NOT_DONE, f"changed since the plan was sealed: {said}", observed, drift=drift
        )

    def _note(self, run: Running, what: str, kind: EvidenceKind, summary: str, body: JsonObject) -> None:
        """Keep in the log what happened to a step before anything was called: once, however often it runs."""
        key, incident = f"{run.key}/{what}", run.plan.incident
        self._ledger.evidence.note(kind, key, summary, incident=incident, body=body)

    def _precondition_failed(
        self, run: Running, observed: Observation, error: errors.PreconditionFailedError
    ) -> StepResult:
        now, _, found = self._look(run, observed)
        drift = tuple(changed(observed, now)) or (Difference(path="precondition", after=str(error)),)
        return found or run.ended(Outcome.NOT_DONE, str(error), observed, now, drift=drift)

    def _done(self, run: Running, before: Observation) -> StepResult:
        """Read the target once more for the record; whether that works changes nothing about the outcome."""
        after = None
        try:
            after = run.action.observe(run.request)
        except (errors.ActionRefusedError, errors.ProviderUnavailableError):
            activity.logger.warning("%s: applied, but the target could not be read back", run.key)
        return run.ended(Outcome.DONE, "", before, after)

    def _settle(self, entry: JournalEntry, result: StepResult) -> StepResult:
        return self._ledger.journal.settle(entry, result=result, actor=ENGINE)


def _call(step: Step, direction: Direction) -> ActionCall:
    call = call_of(step, direction)
    if call is None:
        why = "cannot be forced" if direction is Direction.FORCE else f"has no undo: {step.undo_note}"
        raise errors.ActionRefusedError(f"step {step.number} {why}")
    return call


def _check_turn(
    direction: Direction, step: Step, plan: Plan, seen: Mapping[int, EffectResult | None]
) -> None:
    """Check that what was seen of the approved steps calls for this: a decision stays true for ever.

    Raises:
        ForbiddenError: It does not.
    """
    if direction is Direction.UNDO and not any(one and one.effect in plan.undo_when for one in seen.values()):
        raise errors.ForbiddenError(f"{plan.mitigation}: nothing was measured that calls for its undo")
    for one in plan.steps:
        if direction is Direction.APPLY and one.number < step.number and one.number in seen:
            effect = seen[one.number]
            if effect is None or not effect.goes_on(verified=one.verification is not None):
                said = (
                    f"{plan.mitigation}: step {step.number} is not due, step {one.number} has not ended well"
                )
                raise errors.ForbiddenError(said)


def _may_have_acted(entry: JournalEntry | None) -> bool:
    if entry is None:
        return False
    return (
        entry.intent_at is not None if entry.result is None else entry.result.outcome is not Outcome.NOT_DONE
    )


def forbidden_key(order: StepOrder) -> str:
    """Give the evidence's key of an order that is refused."""
    seal = hashlib.sha256(canonical_text(order.model_dump(mode="json")).encode()).hexdigest()
    return f"{names.action_id(order.mitigation, order.step, order.direction.value)}/forbidden/{seal[:32]}"
