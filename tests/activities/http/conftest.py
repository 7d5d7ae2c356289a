"""A team's remediation endpoint, and our client for it."""

from collections.abc import Iterator
from typing import Any

import pytest

from activities.http.client import HookClient
from activities.http.fake import SECRET, FakeEndpoint
from contracts.catalogue import Hook
from contracts.errors import InputError
from runtime.clock import utc_now

BEFORE: dict[str, Any] = {"recommendations": "on", "search": "on"}
AFTER: dict[str, Any] = {"recommendations": "off", "search": "light"}


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    """An endpoint that serves everything."""
    with FakeEndpoint(BEFORE) as endpoint:
        yield endpoint


def hook(url: str, status_url: str | None, **more: Any) -> Hook:
    """Give a hook as the catalogue has it."""
    spec = {"name": "shed-load", "url": url, "status_url": status_url, "secret_env": "HOOK_SECRET"}
    return Hook.model_validate({**spec, "blast_radius": "Everybody.", **more})


def client(*hooks: Hook, patience: float = 2.0, secret: str = SECRET) -> HookClient:
    """Give our client, which waits for so many seconds."""

    def find(name: str) -> str:
        if not secret:
            raise InputError(f"the environment variable {name} is not set")
        return secret

    return HookClient(
        hooks,
        secret=find,
        clock=utc_now,
        connect_timeout=patience,
        read_timeout=patience,
        change_timeout=patience,
    )
