"""Which hook is proposed as a temporary hotfix."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities.http import CallHookAction
from activities.http.fake import FakeEndpoint
from activities.planning import RegistryLook
from activities.registry import Registry
from contracts.catalogue import Hook, ServiceEnvironment, Signal
from contracts.errors import NothingToProposeError
from contracts.incidents import Alert, Attempt, AttemptEnd, Incident, Severity
from contracts.plans import Risk
from playbooks.hotfix import Params, plan
from tests.activities.http.conftest import client

NOW = datetime(2026, 11, 21, 15, tzinfo=UTC)


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    """An endpoint that serves everything."""
    with FakeEndpoint({"recommendations": "on", "search": "on"}) as endpoint:
        yield endpoint


def hook(endpoint: FakeEndpoint, name: str, desired: dict[str, Any], *signals: str, **more: Any) -> Hook:
    """Give a hook of the endpoint."""
    spec = {"name": name, "url": endpoint.url, "status_url": endpoint.status_url, "secret_env": "S"}
    more = {"desired": desired, "signals": signals, "blast_radius": "Everybody.", **more}
    return Hook.model_validate({**spec, **more})


def look(*hooks: Hook) -> RegistryLook:
    """Give a look at a service with these hooks."""
    signal = Signal(prometheus="main", query="q", healthy_below=0.05)
    service = ServiceEnvironment(hooks=hooks, signals={"error_rate": signal, "latency": signal})
    return RegistryLook(Registry([CallHookAction(client(*hooks))], []), service, NOW)


def incident(*signals: str, attempts: tuple[Attempt, ...] = ()) -> Incident:
    """Give an incident whose alerts speak of these signals."""
    alerts = tuple(
        Alert(source="t", fingerprint=signal, starts_at=NOW, name=signal, service="shop", signal=signal)
        for signal in signals
    )
    return Incident(
        id="INC-1",
        title="t",
        service="shop",
        environment="production",
        severity=Severity.SEV2,
        opened_at=NOW,
        alerts=alerts,
        attempts=attempts,
    )


async def test_the_hook_for_the_signal(endpoint: FakeEndpoint) -> None:
    """The first hook for what is wrong is proposed, with its own risk and for its own time."""
    off, light = {"recommendations": "off"}, {"search": "light"}
    seen = look(
        hook(endpoint, "light-search", light, "latency"),
        hook(endpoint, "shed-load", off, "error_rate", risk="high", in_force_for=7200),
    )
    proposal = await plan(incident("error_rate"), Params(), seen)
    (step,) = proposal.steps

    assert proposal.title == "Apply the temporary hotfix shed-load"
    assert step.action.arguments == {"hook": "shed-load", "desired": off}
    assert (step.risk, proposal.in_force_for) == (Risk.HIGH, timedelta(hours=2))
    assert step.verification is not None
    assert step.verification.signal == "error_rate"
    assert endpoint.orders() == []


async def test_a_declared_incident_may_have_any(endpoint: FakeEndpoint) -> None:
    """Without alerts nobody knows the signal, and the first hook is proposed; a named one comes first."""
    seen = look(
        hook(endpoint, "light-search", {"search": "light"}, "latency"),
        hook(endpoint, "shed-load", {"recommendations": "off"}, "error_rate"),
    )

    assert (await plan(incident(), Params(), seen)).title.endswith("light-search")
    assert (await plan(incident(), Params(hook="shed-load"), seen)).title.endswith("shed-load")


async def test_what_is_in_place_or_was_tried_is_passed_over(endpoint: FakeEndpoint) -> None:
    """A hotfix that is there already, or did not help, is not proposed; a hook for no signal is none."""
    endpoint.state["recommendations"] = "off"
    light = hook(endpoint, "light-search", {"search": "light"}, "error_rate")
    seen = look(
        hook(endpoint, "dns", {"region": "b"}),
        hook(endpoint, "shed-load", {"recommendations": "off"}, "error_rate"),
        light,
    )
    proposal = await plan(incident("error_rate"), Params(), seen)
    tried = Attempt(
        mitigation="INC-1/1",
        playbook="hotfix",
        title="t",
        plan_digest="0" * 64,
        end=AttemptEnd.INEFFECTIVE,
        actions=(str(proposal.steps[0].action),),
    )

    assert proposal.title.endswith("light-search")
    with pytest.raises(NothingToProposeError, match="no hook of shop is a hotfix for error_rate"):
        await plan(incident("error_rate", attempts=(tried,)), Params(), seen)
