"""The connection to Temporal: which cluster, which version, and the same ways for everybody."""

import pytest
from temporalio.client import Client

from contracts.messages import Withdrawal
from runtime import temporal
from runtime.settings import Settings


async def target(config: Settings) -> tuple[str, str]:
    """Give the address and namespace of a connection that is not made yet."""
    client: Client = await temporal.connect(config, lazy=True)
    return client.service_client.config.target_host, client.namespace


async def test_our_setting_wins_over_temporals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporal's own client configuration is used, unless our setting names a cluster."""
    assert await target(Settings()) == ("127.0.0.1:7233", "default")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "cluster:7233")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "theirs")

    assert await target(Settings()) == ("cluster:7233", "theirs")
    assert await target(Settings(temporal_address="ours:7233", temporal_namespace="own")) == (
        "ours:7233",
        "own",
    )


async def test_one_runtime_per_process() -> None:
    """Connections share the SDK's threads: each runtime would have a pool of its own."""
    first, second = [await temporal.connect(Settings(), lazy=True) for _ in range(2)]

    assert first.service_client.config.runtime is second.service_client.config.runtime


@pytest.mark.parametrize("sent", [None, b"bytes", "text", {}, []])
async def test_nothing_else_comes_in_the_place_of_a_model(sent: object) -> None:
    """A handler or activity never gets what it does not expect: it is refused where it is decoded."""
    client = await temporal.connect(Settings(), lazy=True)
    payloads = client.data_converter.payload_converter.to_payloads([sent])

    with pytest.raises((TypeError, ValueError)):
        client.data_converter.payload_converter.from_payloads(payloads, [Withdrawal])


def test_the_version_is_the_build() -> None:
    """A worker polls for the build that it was told to be."""
    told = temporal.version(Settings(build_id="7f3a"))

    assert (told.deployment_name, told.build_id) == ("stanch", "7f3a")
