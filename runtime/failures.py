"""Our errors as Temporal sees them: refused is final, unavailable is tried again."""

from datetime import timedelta
from typing import Any

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from contracts.errors import ProviderUnavailableError, StanchError

# A mistake in our code is the same the next time: a person has to be asked, not the clock.
MISTAKES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)


class FailureMapping(Interceptor):
    """Maps ``contracts.errors`` where an activity ends, so that no caller has to know which are final."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002  (the SDK's own name)
        """Wrap every activity."""
        return _Mapping(next)


class _Mapping(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002  (the SDK's own name)
        try:
            return await super().execute_activity(input)
        except ProviderUnavailableError as error:
            delay = timedelta(seconds=error.retry_after) if error.retry_after else None
            raise ApplicationError(
                str(error),
                type=type(error).__name__,
                next_retry_delay=delay,
                category=ApplicationErrorCategory.BENIGN,
            ) from error
        except StanchError as error:
            raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from error
        except MISTAKES as error:
            said = f"internal error: {type(error).__name__}: {error}"
            raise ApplicationError(said, type=type(error).__name__, non_retryable=True) from error
