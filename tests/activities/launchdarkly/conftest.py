"""A LaunchDarkly with one service's flags, and clients of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities.launchdarkly import SetFlag
from activities.launchdarkly.client import LaunchDarklyClient
from activities.launchdarkly.fake import FakeLaunchDarkly
from contracts.catalogue import LaunchDarklyProject
from contracts.errors import InputError

SECRETS = {"TOKEN": "api-token", "SDK_KEY": "sdk-key"}
TURN_OFF = SetFlag(project="shop", environment="production", key="new-search", on=False)
ClientOf = Callable[..., LaunchDarklyClient]


def secret(name: str) -> str:
    """Give a credential as the settings do."""
    if name not in SECRETS:
        raise InputError(f"the environment variable {name} is not set")
    return SECRETS[name]


class Clock:
    """A clock that moves by hand, and a millisecond with every look."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Give the time now."""
        self.at += timedelta(milliseconds=1)
        return self.at


@pytest.fixture
def clock() -> Clock:
    """The clock of the fake and of its clients."""
    return Clock()


@pytest.fixture
def ld(clock: Clock) -> Iterator[FakeLaunchDarkly]:
    """A LaunchDarkly in which the flag `new-search` is on."""
    with FakeLaunchDarkly(clock) as fake:
        fake.state.sdk_keys["sdk-key"] = ["shop", "production"]
        fake.add_flag("shop", "production", "new-search")
        yield fake


def client_at(
    url: str, clock: Callable[[], datetime], *, patience: float = 20.0, sdk_wait: float = 10.0, **project: Any
) -> LaunchDarklyClient:
    """Give our client of a LaunchDarkly, which waits for so many seconds."""
    entry = {"project": "shop", "api": url, "token_env": "TOKEN", "stream": url, **project}
    return LaunchDarklyClient(
        [LaunchDarklyProject.model_validate(entry)],
        secret=secret,
        clock=clock,
        connect_timeout=5.0,
        read_timeout=patience,
        change_timeout=patience,
        sdk_wait=sdk_wait,
        stale_after=0.2,
    )


@pytest.fixture
def client_of(clock: Clock) -> Iterator[ClientOf]:
    """Makes clients of a LaunchDarkly, closed at the end."""
    with ExitStack() as stack:

        def make(url: str, **more: Any) -> LaunchDarklyClient:
            return stack.enter_context(closing(client_at(url, clock, **more)))

        yield make


@pytest.fixture
def client(ld: FakeLaunchDarkly, client_of: ClientOf) -> LaunchDarklyClient:
    """A client without SDK observation."""
    return client_of(ld.url)
