"""Our errors as the engine sees them."""

from typing import Any

import pytest
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from contracts.errors import ActionRefusedError, ConflictError, ProviderUnavailableError, StanchError
from runtime.failures import FailureMapping


class Raising(ActivityInboundInterceptor):
    """An activity that raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002  (the SDK's own name)
        """Raise it."""
        del input
        raise self._error


async def ended(error: Exception) -> ApplicationError:
    """Give what an activity's end becomes."""
    order = ExecuteActivityInput(fn=print, args=(), executor=None, headers={})
    with pytest.raises(ApplicationError) as raised:
        await FailureMapping().intercept_activity(Raising(error)).execute_activity(order)
    return raised.value


@pytest.mark.parametrize("error", [ActionRefusedError("no"), ConflictError("no"), StanchError("no")])
async def test_refused_is_final(error: StanchError) -> None:
    """Whatever was refused is not tried again, and the workflow reads the sentence."""
    seen = await ended(error)

    assert (seen.non_retryable, seen.message, seen.type) == (True, "no", type(error).__name__)


async def test_unavailable_is_tried_again_when_the_provider_says() -> None:
    """Unavailable is tried again, after what the provider asked for, and alarms nobody's log."""
    told = await ended(ProviderUnavailableError("later", retry_after=7))
    untold = await ended(ProviderUnavailableError("later"))

    assert not told.non_retryable
    assert told.category is ApplicationErrorCategory.BENIGN
    assert told.next_retry_delay is not None
    assert told.next_retry_delay.total_seconds() == 7
    assert untold.next_retry_delay is None


async def test_what_nobody_foresaw_is_tried_again() -> None:
    """An error that says nothing about a second try is left to the engine's patience."""
    order = ExecuteActivityInput(fn=print, args=(), executor=None, headers={})
    with pytest.raises(RuntimeError, match="lost"):
        await FailureMapping().intercept_activity(Raising(RuntimeError("lost"))).execute_activity(order)


@pytest.mark.parametrize("error", [ValueError("bad"), KeyError("bad"), TypeError("bad")])
async def test_mistake_is_final(error: Exception) -> None:
    """A mistake in the code is the same the next time, so it is final and says that it is ours."""
    seen = await ended(error)

    assert seen.non_retryable
    assert "internal error" in seen.message
