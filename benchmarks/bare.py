"""Bare workflows: as many activities and nothing of ours, as the measure of what the engine itself costs."""

import time
from datetime import timedelta

from temporalio import activity, workflow

QUEUE = "bare"
TOUCH = "bare.touch"
LIMIT = timedelta(seconds=60)


@activity.defn(name=TOUCH)
def touch() -> float:
    """Give the time of the monotonic clock, which all processes of a machine share."""
    return time.monotonic()


async def _touch() -> float:
    touched: float = await workflow.execute_activity(TOUCH, result_type=float, start_to_close_timeout=LIMIT)
    return touched


@workflow.defn(name="BareSteps")
class BareSteps:
    """Runs activities one after another."""

    @workflow.run
    async def run(self, activities: int) -> float:
        """Give the time of the first one."""
        touched = [await _touch() for _ in range(activities)]
        return touched[0]


@workflow.defn(name="BareDecision")
class BareDecision:
    """Waits for an update, then runs one activity."""

    @workflow.init
    def __init__(self) -> None:
        self._decided = False

    @workflow.run
    async def run(self) -> float:
        """Give the time of the activity."""
        await workflow.wait_condition(lambda: self._decided)
        return await _touch()

    @workflow.update
    def decide(self) -> None:
        """Let it go on."""
        self._decided = True
