"""The activities as the workflows call them: one typed function each, with its time limits in one place."""

from datetime import timedelta
from typing import TypeVar

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy

from contracts import messages, names
from contracts.actions import SETTLES_AT_MOST
from contracts.outcomes import EffectResult, StepResult
from contracts.plans import WITHIN_AT_MOST

ResultT = TypeVar("ResultT", bound=BaseModel)

PLANNING = {"once": timedelta(seconds=90), "total": timedelta(minutes=10)}
PATIENT = RetryPolicy(
    initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(seconds=10)
)


async def _call(
    name: str, order: BaseModel, result: type[ResultT], *, once: timedelta, total: timedelta | None = None
) -> ResultT:
    """Run an activity; ``once`` bounds one attempt, ``total`` all of them."""
    answer: ResultT = await workflow.execute_activity(
        name,
        order,
        result_type=result,
        start_to_close_timeout=once,
        schedule_to_close_timeout=total,
        # This bounds how long a killed worker holds a step up; the activities beat every second.
        heartbeat_timeout=timedelta(seconds=5),
        retry_policy=PATIENT,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    return answer


async def plan(request: messages.PlanRequest) -> messages.PlanAnswer:
    """Ask the playbooks for the next plan, seal it and ask for its approval."""
    return await _call(names.PLAN, request, messages.PlanAnswer, **PLANNING)


async def plan_undo(request: messages.UndoRequest) -> messages.PlanAnswer:
    """Seal a plan that takes a mitigation in force back, and ask for its approval."""
    return await _call(names.PLAN_UNDO, request, messages.PlanAnswer, **PLANNING)


async def run_step(order: messages.StepOrder) -> StepResult:
    """Run one step, or its undo, under a signed decision."""
    once, total = timedelta(minutes=2), timedelta(minutes=30)
    return await _call(names.RUN_STEP, order, StepResult, once=once, total=total)


async def verify_step(order: messages.VerifyOrder) -> EffectResult:
    """See what a step did for the users."""
    # What was begun anew because nobody had looked, and looks that are slow, take longer than the plan says.
    once = SETTLES_AT_MOST + 3 * WITHIN_AT_MOST
    return await _call(names.VERIFY_STEP, order, EffectResult, once=once, total=2 * once)


async def monitor(order: messages.MonitorOrder) -> messages.MonitorResult:
    """Watch the service's signals until they have been healthy long enough."""
    once = order.hold * 4 + timedelta(minutes=5)
    return await _call(names.MONITOR, order, messages.MonitorResult, once=once)


async def write_postmortem(request: messages.PostmortemRequest) -> messages.Written:
    """Write the postmortem from the evidence."""
    return await _call(names.WRITE_POSTMORTEM, request, messages.Written, once=timedelta(minutes=1))


async def _note(name: str, request: BaseModel, result: type[ResultT]) -> ResultT:
    """Run a short activity of the ledger in this process; waits for the ledger as long as it takes."""
    limit = timedelta(seconds=30)
    answer: ResultT = await workflow.execute_local_activity(
        name, request, result_type=result, start_to_close_timeout=limit, retry_policy=PATIENT
    )
    return answer


async def record(request: messages.RecordRequest) -> messages.Written:
    """Bring the ledger's view of an incident up to date."""
    return await _note(names.RECORD, request, messages.Written)


async def check_command(request: messages.CommandCheck) -> messages.CheckedCommand:
    """Ask whether a person has given an order."""
    return await _note(names.CHECK_COMMAND, request, messages.CheckedCommand)


async def end_undo(ended: messages.MitigationEnded) -> messages.Written:
    """Take down how an undo ended."""
    return await _note(names.END_UNDO, ended, messages.Written)


async def close_approval(request: messages.CloseApproval) -> messages.ClosedApproval:
    """Close a request, or learn the decision that came first."""
    return await _note(names.CLOSE_APPROVAL, request, messages.ClosedApproval)
