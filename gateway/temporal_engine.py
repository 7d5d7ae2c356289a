"""Temporal as the gateway's engine."""

import secrets
from datetime import timedelta

from temporalio.client import ActivityFailureError, Client
from temporalio.service import RPCError

from contracts import names
from contracts.errors import ActionRefusedError, InputError, ProviderUnavailableError
from contracts.messages import PreviewAnswer, PreviewRequest


class TemporalEngine:
    """Temporal behind the gateway's small protocol.

    The SDK says RuntimeError when it cannot connect at all, and RPCError when it lost what it had.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def check(self) -> None:
        """Check that the engine answers.

        Raises:
            ProviderUnavailableError: It does not.
        """
        try:
            healthy = await self._client.service_client.check_health(timeout=timedelta(seconds=2))
        except (RPCError, RuntimeError) as error:
            raise ProviderUnavailableError(f"the engine does not answer: {error}") from error
        if not healthy:
            raise ProviderUnavailableError("the engine says that it is not serving")

    async def preview(self, request: PreviewRequest) -> PreviewAnswer:
        """Ask a worker what a playbook would propose now.

        Raises:
            ProviderUnavailableError: The engine or every worker is away.
            InputError: The request cannot be sent.
            ActionRefusedError: The worker could not plan.
        """
        try:
            answer: PreviewAnswer = await self._client.execute_activity(
                names.PREVIEW,
                request,
                id=f"preview/{secrets.token_hex(8)}",
                task_queue=names.WORKER_QUEUE,
                result_type=PreviewAnswer,
                schedule_to_close_timeout=timedelta(seconds=60),
                heartbeat_timeout=timedelta(seconds=5),
            )
        except UnicodeEncodeError as error:
            raise InputError(f"{request.playbook}: its parameters are not text that can be sent") from error
        except (RPCError, RuntimeError) as error:
            raise ProviderUnavailableError(f"the engine does not answer: {error}") from error
        except ActivityFailureError as error:
            raise ActionRefusedError(f"{request.playbook}: {error.cause}") from error
        return answer
