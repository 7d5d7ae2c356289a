"""The world truly breaks, truly heals, and leaves nothing behind."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from deploy.demo import monitoring
from deploy.demo.processes import Processes, WorldError, free_ports
from deploy.demo.stage import ERROR_RATIO
from deploy.demo.world import Scenario, World
from runtime.settings import load_catalogue
from tests.deploy.demo.peer import CAPTURED, Peer, shape

RESTART = {
    "spec": {
        "template": {
            "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-03-10T14:50:00Z"}}
        }
    }
}
SLACK = 2  # the machine may be busy
VARIANTS = [
    pytest.param(True, id="built-in"),
    pytest.param(
        False,
        id="prometheus",
        marks=pytest.mark.skipif(
            not monitoring.installed(), reason="prometheus and prometheus-alertmanager are not installed"
        ),
    ),
]


def until(holds: Callable[[], bool], seconds: float) -> float:
    """Wait until something holds; give after how many seconds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds * SLACK
        time.sleep(0.1)
    return time.monotonic() - began


def failing(world: World, seconds: float) -> float:
    """Give the share of requests that fail within the next seconds, by the shop's counters; NaN of none."""
    before = world.requests()
    time.sleep(seconds)
    after = world.requests()
    answered = {code: after[code] - before[code] for code in after}
    total = sum(answered.values())
    return 1 - answered["200"] / total if total else math.nan


def ratio(world: World) -> float:
    """The error ratio as the product sees it; a world without data has none."""
    seen = world.error_ratio()
    return 0.0 if seen is None else seen


def runs(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.parametrize("builtin", VARIANTS)
def test_the_incident_of_the_story(tmp_path: Path, peer: Peer, builtin: bool) -> None:  # noqa: FBT001  (a case)
    """The flag breaks the shop, an alert comes, a restart helps for a moment, the flag off heals it."""
    began = time.monotonic()
    with World(tmp_path, peer.url, builtin=builtin) as world:
        assert time.monotonic() - began < 6 * SLACK
        until(lambda: world.error_ratio() == 0.0, 10)
        assert peer.posts == []

        world.break_it()
        until(lambda: ratio(world) > 0.05, 8)
        until(lambda: len(peer.posts) == 1, 8)
        assert failing(world, 3) > 0.25

        world.patch_deployment(RESTART)
        until(lambda: failing(world, 0.5) == 0.0, 3)
        until(lambda: failing(world, 1) > 0.25, 6)
        assert ratio(world) > 0.05

        world.set_flag(on=False, comment="Mitigation.")
        until(lambda: failing(world, 0.5) == 0.0, 2)
        until(lambda: ratio(world) < 0.05, 8)
        until(lambda: peer.posts[-1][1]["status"] == "resolved", 8)

        changes = [(change.provider, change.by, change.method) for change in world.changes()]
        pids = list(world.processes.values())

    assert changes == [
        ("kubernetes", "release engineer", "PATCH"),
        ("launchdarkly", "release engineer", "PATCH"),
        ("launchdarkly", "release engineer", "PATCH"),
    ]
    headers, body = peer.posts[0]
    assert shape(body) == shape(CAPTURED[0])
    assert list(body) == list(CAPTURED[0])
    assert headers["Content-Type"] == "application/json"
    assert body["alerts"][0]["labels"]["signal"] == "error_rate"
    assert body["groupKey"] == '{}:{alertname="HighErrorRate", environment="production", service="shop"}'
    assert {each["alerts"][0]["startsAt"] for _, each in peer.posts} == {body["alerts"][0]["startsAt"]}
    assert [pid for pid in pids if runs(pid)] == []


@pytest.mark.slow
def test_a_bad_release_is_healed_only_by_a_rollback(tmp_path: Path, peer: Peer) -> None:
    """With the flag forgotten in the code, switching it changes nothing; the former image heals."""
    with World(tmp_path, peer.url, builtin=True, scenario=Scenario.ROLLBACK) as world:
        world.break_it()
        until(lambda: failing(world, 1) > 0.25, 8)

        world.set_flag(on=True, comment="Perhaps it is the flag?")
        world.set_flag(on=False, comment="No.")
        assert failing(world, 3) > 0.25

        world.release("shop:v2", cause="Roll back")
        until(lambda: failing(world, 0.5) == 0.0, 5)
        assert failing(world, 3) == 0.0


@contextmanager
def program(state: Path, *argv: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The world as a process of its own, ready; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.demo.world", "--state", state, "--builtin", *argv],
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            until(lambda: (state / "world.json").exists() or process.poll() is not None, 20)
            yield process, json.loads((state / "world.json").read_text())
        finally:
            process.kill()


def gone(pids: list[int]) -> bool:
    """Say whether none of these runs."""
    return not any(runs(pid) for pid in pids)


def test_the_program_serves_its_controls_and_ends_cleanly(tmp_path: Path) -> None:
    """POST /break turns the flag on once, GET /status has the witnesses, SIGTERM ends all with code 0."""
    with (
        program(tmp_path, "--gateway", "http://127.0.0.1:1") as (process, world),
        urllib3.PoolManager(retries=False, timeout=5.0) as http,
    ):
        pids = list(world["processes"].values())
        page = http.request("GET", world["shop"])
        statuses = [http.request("POST", f"{world['control']}/break").status for _ in range(2)]
        told = http.request("GET", f"{world['control']}/status").json()
        unknown = http.request("GET", f"{world['control']}/")
        prometheus = load_catalogue(Path(world["catalogue"])).prometheus[0].url
        asked = http.request("GET", f"{prometheus}/api/v1/query", fields={"query": ERROR_RATIO})
        process.send_signal(signal.SIGTERM)
        code = process.wait(10)

    assert statuses == [200, 200]
    assert [(change["provider"], change["by"]) for change in told["changes"]] == [
        ("launchdarkly", "release engineer")
    ]
    assert told["requests"].keys() == {"200", "500", "503"}
    assert (unknown.status, page.status, asked.status, code) == (404, 200, 200, 0)
    assert set(world["environ"]) == {"LAUNCHDARKLY_TOKEN", "LAUNCHDARKLY_SDK_KEY"}
    assert gone(pids)
    assert not (tmp_path / "world.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_nothing_survives_the_death_of_the_world(tmp_path: Path) -> None:
    """After SIGKILL no process of it is left; a world may start in the same folder again."""
    for _ in range(2):
        with program(tmp_path, "--gateway", "http://127.0.0.1:1") as (process, world):
            pids = list(world["processes"].values())
            process.kill()
            process.wait(10)
            until(lambda: gone(pids), 5)  # noqa: B023  (called in this round only)
        (tmp_path / "world.json").unlink()


@pytest.mark.slow
def test_a_lost_process_ends_the_world_with_one_sentence(tmp_path: Path) -> None:
    """A shop that dies is not a mitigated shop: the world says which process and where its log is."""
    with program(tmp_path, "--gateway", "http://127.0.0.1:1") as (process, world):
        os.kill(world["processes"]["shop"], signal.SIGKILL)
        _, said = process.communicate(timeout=10)

    assert process.returncode == 1
    assert said == f"shop ended with code -9; its log is {tmp_path}/logs/shop.log\n"


def test_a_program_that_ends_at_its_start_is_named(tmp_path: Path) -> None:
    """Waiting for readiness ends at once with the name and the log."""
    with Processes(tmp_path) as processes:
        processes.start("oops", sys.executable, "-c", "raise SystemExit('no such thing')")
        with pytest.raises(WorldError, match=r"oops ended with code 1; its log is .*oops\.log"):
            processes.wait_until_ready("oops", f"http://127.0.0.1:{free_ports(1)[0]}/")

    assert "no such thing" in (tmp_path / "oops.log").read_text()


def test_a_program_that_hangs_is_named_and_stopped(tmp_path: Path) -> None:
    """One that never answers is waited for no longer than the deadline, and killed if it does not stop."""
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    with Processes(tmp_path, ready_within=1.0, stop_within=0.2) as processes:
        processes.start("mute", sys.executable, "-c", stubborn)
        pids = list(processes.pids.values())
        with pytest.raises(WorldError, match=r"mute did not answer .* within 1 s"):
            processes.wait_until_ready("mute", f"http://127.0.0.1:{free_ports(1)[0]}/")

    assert gone(pids)


def test_a_change_that_is_refused_is_told(tmp_path: Path) -> None:
    """When a provider does not take the release the world says so, and is not broken in silence."""
    world = World(tmp_path, "http://127.0.0.1:1", builtin=True)

    with pytest.raises(urllib3.exceptions.HTTPError):
        world.break_it()


def test_free_ports_are_different() -> None:
    """No two processes are given the same port."""
    ports = free_ports(20)

    assert len(set(ports)) == 20
