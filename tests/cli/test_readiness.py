"""`stanch readiness`: how ready failovers are, on the terminal; and how a signal reads beside a plan."""

import json
from datetime import timedelta

import pytest

from contracts.plans import Reading
from contracts.readiness import CheckState, ReadinessCheck, ReadinessLook, ServiceReadiness
from contracts.watches import SignalNow
from tests.cli.answers import NOW, STEP, Answers
from tests.cli.conftest import Terminal
from tests.cli.test_decide import PATH, asks

AT = "/v1/readiness/shop/production"
BAD = ReadinessCheck(name="lag", target="aws:x/y", state=CheckState.NOT_READY, detail="9 s\x1b[31m behind")
GOOD = ReadinessCheck(name="permissions", target="k8s:z", state=CheckState.OK)
FOUND = ServiceReadiness(
    service="shop",
    environment="production",
    state=CheckState.NOT_READY,
    at=NOW,
    since=NOW - timedelta(hours=1),
    next_at=NOW + timedelta(minutes=30),
    checks=(GOOD, BAD),
    history=tuple(
        ReadinessLook(at=NOW - timedelta(hours=3 - number), state=state)
        for number, state in enumerate([CheckState.OK, CheckState.OK, CheckState.NOT_READY])
    ),
)
__all__ = ["asks"]


def test_list(stanch: Terminal, gateway: Answers) -> None:
    """Each failover has its state, since when, and what stands against it, and nothing moves the cursor."""
    never = ServiceReadiness(service="pay", environment="staging")
    gateway.give("GET /v1/readiness", [FOUND, never])
    said = stanch("readiness", "list").out
    words = " ".join(said.split())

    assert "shop production not ready" in words
    assert "lag: 9 s" in words
    assert "pay staging not known never never" in words
    assert "\x1b" not in said
    assert [one["service"] for one in json.loads(stanch("readiness", "list", "--json").out)] == [
        "shop",
        "pay",
    ]


def test_nothing(stanch: Terminal, gateway: Answers) -> None:
    """A catalogue without a failover is said in a sentence."""
    gateway.give("GET /v1/readiness", [])

    assert stanch("readiness", "list").out == "No service of the catalogue has a failover.\n"


def test_show(stanch: Terminal, gateway: Answers) -> None:
    """One is shown with its checks and with the stretches of its history."""
    gateway.give(f"GET {AT}", FOUND)
    words = " ".join(stanch("readiness", "show", "shop").out.split())

    for part in (
        "shop production not ready",
        "check ready, permissions of k8s:z",
        "check not ready, lag of aws:x/y: 9 s",
        "was ready from",
        ", 2 looks",
        "was not ready from",
    ):
        assert part in words
    assert json.loads(stanch("readiness", "show", "shop", "--json").out)["state"] == "not_ready"


def test_run(stanch: Terminal, gateway: Answers) -> None:
    """Having it looked at now is an order, of somebody."""
    gateway.give(f"POST {AT}/run", FOUND)
    said = stanch("readiness", "run", "shop", "production")

    assert "A worker looks at it now." in said.out
    assert [one.path for one in gateway.orders] == [f"{AT}/run"]


@pytest.mark.parametrize(
    ("last", "said"),
    [(0.25, "now error_rate 0.25 %"), (None, "now error_rate no data")],
)
def test_how_a_signal_reads_now(stanch: Terminal, asks: Answers, last: float | None, said: str) -> None:
    """Beside a plan that waits the terminal says how its signal is now, and was since it was sealed."""
    assert STEP.verification is not None
    readings = tuple(Reading(value=value, at=NOW) for value in (12.0, None, last))
    now = SignalNow(
        step=1, verification=STEP.verification, readings=readings, healthy_since=NOW, recovered=True
    )
    asks.give(f"GET {PATH}/readings", [now])
    words = " ".join(stanch("approval", "show", "APR-2").out.split())
    for_programs = json.loads(stanch("approval", "show", "APR-2", "--json").out)

    assert said in words
    assert "when sealed 12.5 %" in words
    assert ("█·▁" if last else "▁··") in words
    assert for_programs["readings"][0]["readings"][-1]["value"] == last
