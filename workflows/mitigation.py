"""One sealed plan: wait for the decision on it, run its steps, verify them, undo what made things worse."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

from contracts import messages, names
from contracts.approvals import ApprovalState, SignedDecision, Verdict
from contracts.incidents import AttemptEnd, Effect
from contracts.outcomes import Direction, EffectResult, MitigationResult, Outcome, StepResult
from contracts.plans import undo_order
from workflows import calls

# Programming errors fail this workflow and so reach a person; NondeterminismError must not be among them.
FAILURES = [ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError]


class EndedError(Exception):
    """The mitigation ends here, before all its steps ran."""

    def __init__(self, end: AttemptEnd, detail: str) -> None:
        super().__init__(detail)
        self.end = end


class ForbiddenStepError(Exception):
    """The decision that was delivered does not allow the step."""


def sentence(error: BaseException) -> str:
    """Give the innermost message of a failure: the outer ones only say that an activity failed."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    return str(error)


@workflow.defn(
    name=names.MITIGATION_WORKFLOW,
    versioning_behavior=VersioningBehavior.PINNED,
    failure_exception_types=FAILURES,
)
class MitigationWorkflow:
    """Runs exactly one sealed plan, and tells its incident how it ended."""

    @workflow.init
    def __init__(self, order: messages.MitigationOrder) -> None:
        self._order = order
        self._answer = order.answer
        self._signed: SignedDecision | None = None
        self._others: list[SignedDecision] = []
        self._forced: dict[int, tuple[SignedDecision, ...]] = {}
        self._withdrawn: str | None = None
        self._closed = False
        self._applied = False
        self._left: set[int] = set()  # the steps that are in force

    @workflow.run
    async def run(self, order: messages.MitigationOrder) -> MitigationResult:
        """Decide, run, verify, undo; always end with a result."""
        try:
            result = await self._mitigate()
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            result = self._ended(AttemptEnd.IN_DOUBT, sentence(error))
        except tuple(FAILURES) as error:
            result = self._ended(AttemptEnd.IN_DOUBT, f"internal error: {error!r}")
        ended = messages.MitigationEnded(result=result)
        if order.undo is not None:
            await calls.end_undo(ended)  # its incident may have ended long ago, and does not wait for it
        else:
            await self._tell(ended)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return result

    async def _tell(self, ended: messages.MitigationEnded) -> None:
        parent = workflow.get_external_workflow_handle(names.incident_workflow_id(self._order.incident))
        try:
            await parent.signal(names.SIGNAL_MITIGATION_ENDED, ended)
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("%s: its incident is no longer running", ended.result.mitigation)

    @workflow.update(name=names.UPDATE_DECIDE)
    def decide(self, signed: SignedDecision) -> str:
        """Take the decision; the same one again changes nothing. The step that acts on it verifies it."""
        self._take(signed)
        return signed.decision.verdict.value

    @decide.validator
    def _is_ours(self, signed: SignedDecision) -> None:
        if self._answer.approval and signed.decision.request != self._answer.approval:
            raise ApplicationError(
                f"{self._answer.mitigation} asks {self._answer.approval}", type="OtherRequest"
            )
        if self._closed:
            raise ApplicationError(f"{self._answer.approval} is closed", type="Closed")

    @workflow.signal(name=names.SIGNAL_DECISION)
    def decision(self, signed: SignedDecision) -> None:
        """Take the decision from a script that signals; what is not ours changes nothing."""
        if signed.decision.request == self._answer.approval:
            self._take(signed)

    @workflow.signal(name=names.SIGNAL_WITHDRAW)
    def withdraw(self, withdrawal: messages.Withdrawal) -> None:
        """Stop waiting for a decision, unless one has been given."""
        self._withdrawn = withdrawal.reason

    def _take(self, signed: SignedDecision) -> None:
        if signed.decision.forced:  # which of several is ours, the step that acts on them finds out
            for step in signed.decision.forced:
                self._forced[step] = (*self._forced.get(step, ()), signed)
        elif self._signed is None:
            self._signed = signed
        else:
            self._others.append(signed)  # its turn comes when the first one turns out to be forged

    async def _mitigate(self) -> MitigationResult:
        if self._order.undo is not None:
            self._answer = await calls.plan_undo(self._order.undo)
            if not self._answer.approval:
                return self._ended(AttemptEnd.REFUSED, "; ".join(self._answer.notes))
        while True:
            try:
                return await self._run_steps(await self._decision())
            except EndedError as ended:
                return self._ended(ended.end, str(ended))
            except ForbiddenStepError as forbidden:
                # Somebody delivered a decision that our gateway never signed, or it came too late to act on.
                if workflow.now() >= self._expiry:
                    return self._ended(AttemptEnd.EXPIRED, str(forbidden))
                # A true one may have come meanwhile; when it is the ledger's own, that does not allow it.
                closed = await calls.close_approval(messages.CloseApproval(approval=self._answer.approval))
                if closed.signed is not None and closed.signed == self._signed:
                    return self._ended(AttemptEnd.REFUSED, str(forbidden))
                self._signed = closed.signed or (self._others.pop(0) if self._others else None)

    @property
    def _expiry(self) -> datetime:
        return self._answer.expires_at or workflow.now()

    async def _decision(self) -> SignedDecision:
        """Wait for an approval; whatever else closes the request ends the mitigation."""
        approval, late = self._answer.approval, "nobody answered in time"
        while True:
            left = max(self._expiry - workflow.now(), timedelta())
            try:
                await workflow.wait_condition(
                    lambda: self._signed is not None or self._withdrawn is not None, timeout=left
                )
            except TimeoutError:
                close = messages.CloseApproval(approval=approval, state=ApprovalState.EXPIRED, reason=late)
            else:
                if self._signed is not None and self._signed.decision.verdict is Verdict.APPROVE:
                    return self._signed
                state = ApprovalState.WITHDRAWN if self._signed is None else None
                reason = self._withdrawn or ""
                close = messages.CloseApproval(approval=approval, state=state, reason=reason)
            # The ledger says what counts: an answer may have come first, and a delivered one may be forged.
            closed = await calls.close_approval(close)
            match closed.state:
                case ApprovalState.APPROVED if closed.signed is not None:
                    self._signed = closed.signed
                    return closed.signed
                case ApprovalState.PENDING if self._signed is not None:
                    return self._signed  # not the ledger's: the step refuses it, and so it is in the log
                case ApprovalState.REJECTED:
                    reason = closed.signed.decision.reason if closed.signed else ""
                    raise EndedError(AttemptEnd.REJECTED, reason)
                case ApprovalState.WITHDRAWN:
                    raise EndedError(AttemptEnd.WITHDRAWN, close.reason)
                case _:
                    raise EndedError(AttemptEnd.EXPIRED, late)

    async def _run_steps(self, signed: SignedDecision) -> MitigationResult:
        done: list[messages.StepBrief] = []
        last = AttemptEnd.INCONCLUSIVE, "applied; the plan has nothing to verify it with"
        allowed = [step for step in self._answer.steps if signed.allows(step.number)]
        for step in allowed or self._answer.steps[:1]:  # who allows none is refused by the step, not here
            result = await self._act(step, Direction.APPLY, signed)
            if result.drift:
                changed = ", ".join(difference.path for difference in result.drift)
                said = f"step {step.number}: changed since the plan was sealed: {changed}"
                raise EndedError(AttemptEnd.DRIFTED, said)
            if result.outcome is not Outcome.DONE:
                end = AttemptEnd.HELD if result.held else AttemptEnd.REFUSED
                end = AttemptEnd.IN_DOUBT if result.outcome is Outcome.IN_DOUBT else end
                raise EndedError(end, f"step {step.number}: {result.detail}")
            self._left |= set() if result.no_op else {step.number}
            self._applied = self._applied or not result.no_op
            done.append(step)
            effect = await self._verified(step)
            if not effect.goes_on(verified=step.verified):
                undone, note = await self._undo(done, effect.effect, signed)
                return self._ended(AttemptEnd(effect.effect.value), f"{effect.detail}{note}", undone=undone)
            if step.verified:
                last = AttemptEnd.EFFECTIVE, effect.detail
        return self._ended(*last)

    async def _verified(self, step: messages.StepBrief) -> EffectResult:
        """Verify a step; the order to force it interrupts that, runs its ungraceful variant and goes on."""
        direction = Direction.APPLY
        while True:
            verifying = asyncio.create_task(calls.verify_step(self._verify(step, direction)))
            await workflow.wait_condition(lambda: verifying.done() or step.number in self._forced)  # noqa: B023  (awaited here)
            forced = self._forced.pop(step.number, ())
            if not forced or verifying.done():
                return await verifying
            verifying.cancel()
            await workflow.wait([verifying])
            for signed in forced:
                try:
                    if (await self._act(step, Direction.FORCE, signed)).outcome is Outcome.DONE:
                        direction = Direction.FORCE
                except ForbiddenStepError as forbidden:
                    workflow.logger.warning("%s", forbidden)

    async def _undo(
        self, done: list[messages.StepBrief], effect: Effect, signed: SignedDecision
    ) -> tuple[bool, str]:
        """Run the declared undo of every step that ran, in its order, where the approved plan says so."""
        if effect not in self._answer.undo_when:
            return False, ""
        undone, notes = False, []
        for step in undo_order(done):
            if not step.undoable:
                notes.append(f"step {step.number} has no undo")
                continue
            try:
                result = await self._act(step, Direction.UNDO, signed)
                notes.append(f"undo of step {step.number}: {result.outcome.value} {result.detail}".strip())
                if result.outcome is Outcome.DONE:
                    undone = undone or not result.no_op
                    self._left.discard(step.number)
                    await calls.verify_step(self._verify(step, Direction.UNDO))
            except (ActivityError, ForbiddenStepError) as error:
                if is_cancelled_exception(error):
                    raise
                notes.append(f"undo of step {step.number} went wrong: {sentence(error)}")
        return undone, "; " + "; ".join(notes)

    async def _act(
        self, step: messages.StepBrief, direction: Direction, signed: SignedDecision
    ) -> StepResult:
        order = messages.StepOrder(**self._about(step, direction), signed=signed)
        result = await calls.run_step(order)
        if result.forbidden:
            raise ForbiddenStepError(result.forbidden)
        return result

    def _verify(self, step: messages.StepBrief, direction: Direction) -> messages.VerifyOrder:
        return messages.VerifyOrder(**self._about(step, direction))

    def _about(self, step: messages.StepBrief, direction: Direction) -> dict[str, Any]:
        return {
            "incident": self._order.incident,
            "mitigation": self._answer.mitigation,
            "step": step.number,
            "direction": direction,
            "plan_digest": self._answer.plan_digest,
        }

    def _ended(self, end: AttemptEnd, detail: str, *, undone: bool = False) -> MitigationResult:
        self._closed = True
        if end is not AttemptEnd.EFFECTIVE and self._order.undo is None:
            detail += self._answer.in_force(self._left)
        return self._answer.ended(end, detail, undone=undone, applied=self._applied)
