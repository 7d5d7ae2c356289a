"""The engine as the gateway needs it; the gateway's rooms know no more of it."""

from typing import Protocol

from contracts.messages import PreviewAnswer, PreviewRequest


class Engine(Protocol):
    """Is it there, and what would a playbook propose."""

    async def check(self) -> None:
        """Check that the engine answers.

        Raises:
            ProviderUnavailableError: It does not.
        """

    async def preview(self, request: PreviewRequest) -> PreviewAnswer:
        """Ask a worker what a playbook would propose now.

        Raises:
            ProviderUnavailableError: The engine or every worker is away.
            ActionRefusedError: The worker could not plan.
        """
        ...
