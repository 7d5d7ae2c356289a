"""Killing parts of a real installation in the middle of an incident changes nothing but the duration."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from temporalio.service import RPCError

from authority.decisions import Verifier
from authority.policy import DEFAULT
from cli.client import Gateway
from contracts.base import JsonObject
from contracts.errors import StanchError
from contracts.evidence import EvidenceKind
from deploy.demo import play as demo
from ledger import Ledger, audit
from runtime import engine, temporal
from runtime.clock import utc_now
from runtime.settings import Settings, public_keys

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

HTTP = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=5))
PATIENCE = 150.0


def settings(home: Path, **more: Any) -> Settings:
    """Give the settings of one installation."""
    catalogue = home / "world" / "catalogue.yaml"
    return Settings(home=home, http_port=engine.free_port(), catalogue=catalogue, **more)


def child(parent: int, module: str) -> int | None:
    """Find the child process that runs a module."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(") ")[2].split()
            words = path.with_name("cmdline").read_bytes().split(b"\0")
            if int(fields[1]) == parent and module.encode() in words:
                return int(path.parent.name)
    return None


@contextlib.contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do something in a thread until the block ends; what it raises is raised here."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work(stop)
        except BaseException as error:  # noqa: BLE001  (it is raised again in the test's own thread)
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


def alert(config: Settings) -> urllib3.BaseHTTPResponse:
    """Deliver an alert for the shop."""
    body = {
        "version": "4",
        "status": "firing",
        "receiver": "stanch",
        "groupKey": "{}",
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "HighErrorRate", "service": "shop", "severity": "critical"},
                "annotations": {},
                "startsAt": "2026-11-21T14:32:00Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "fingerprint": "0123456789abcdef",
            }
        ],
    }
    return HTTP.request("POST", f"{config.url}/v1/alerts/alertmanager", json=body)


def until(look: Callable[[], Any]) -> Any:
    """Wait until there is something to see; a gateway that is starting has nothing to show."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(StanchError):
            if seen := look():
                return seen
        assert time.monotonic() < deadline
        time.sleep(0.2)


# Each of these kills the worker as soon as it is in the log; a decision kills the gateway that took it, too.
MOMENTS = {
    EvidenceKind.INCIDENT_OPENED,
    EvidenceKind.PLAN_SEALED,
    EvidenceKind.DECISION,
    EvidenceKind.INTENT,
    EvidenceKind.OUTCOME,
    EvidenceKind.VERIFICATION,
    EvidenceKind.PHASE_CHANGED,
}


def test_killed_at_every_moment(tmp_path: Path) -> None:
    """With worker and gateway killed at each thing that happens, the demo ends as told, each change once."""
    config = settings(tmp_path)
    killed: list[str] = []
    with demo.small_world(config, builtin=True) as world, demo.product(config, world) as up:
        ledger = Ledger.open(config.ledger_url, clock=utc_now)

        def kill(stop: threading.Event) -> None:
            seen = -1
            while not stop.wait(0.01):
                for entry in ledger.evidence.entries(after=seen):
                    seen = entry.index
                    modules = ["worker"] if entry.kind in MOMENTS else []
                    modules += ["gateway.serve"] if entry.kind is EvidenceKind.DECISION else []
                    for module in modules:
                        pid = child(up.pid, module)
                        if pid is not None:
                            os.kill(pid, signal.SIGKILL)
                            killed.append(module)

        with meanwhile(kill):
            demo.Play(config, world, up, patience=PATIENCE).all()
        ledger.close()

    assert killed.count("worker") >= 8
    assert "gateway.serve" in killed


class Engine:
    """An engine that the test may kill and start again on the same file."""

    def __init__(self, home: Path) -> None:
        self.address = f"127.0.0.1:{engine.free_port()}"
        binary = engine.find_binary(Settings())
        port = int(self.address.rpartition(":")[2])
        self._argv = engine.command(binary, port=port, state=home / "engine.db")
        self._log = home / "engine.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready for our worker."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        config = Settings(temporal_address=self.address)
        deadline = time.monotonic() + 30
        while True:
            try:
                asyncio.run(self._prepare(config))
            except (RPCError, RuntimeError):
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.2)
            else:
                return

    def kill(self) -> None:
        """Kill it as a power cut does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @staticmethod
    async def _prepare(config: Settings) -> None:
        await temporal.prepare(await temporal.connect(config), config)


def test_engine_away_for_a_minute_as_a_step_finishes(tmp_path: Path) -> None:
    """With the engine away for a minute right when a provider took a change, it is still made once."""
    own = Engine(tmp_path)
    own.start()
    config = settings(tmp_path, temporal_address=own.address)
    outages: list[float] = []
    try:
        with demo.small_world(config, builtin=True) as world, demo.product(config, world) as up:

            def changes() -> int:
                status = HTTP.request("GET", f"{world['control']}/status").json()
                return len([change for change in status["changes"] if change["by"] == "stanch"])

            def outage(stop: threading.Event) -> None:
                while not stop.wait(0.02):
                    if changes() > len(outages) and not outages:
                        own.kill()
                        outages.append(time.monotonic())
                        stop.wait(60)
                        own.start()

            with meanwhile(outage):
                demo.Play(config, world, up, patience=PATIENCE).all()
    finally:
        own.kill()

    assert outages


def test_engine_killed_at_every_moment(tmp_path: Path) -> None:
    """With the engine killed at each thing that happens, the demo ends as told, each change once."""
    own = Engine(tmp_path)
    own.start()
    config = settings(tmp_path, temporal_address=own.address)
    killed: list[EvidenceKind] = []
    try:
        with demo.small_world(config, builtin=True) as world, demo.product(config, world) as up:
            ledger = Ledger.open(config.ledger_url, clock=utc_now)

            def kill(stop: threading.Event) -> None:
                seen = -1
                while not stop.wait(0.01):
                    new = ledger.evidence.entries(after=seen)
                    seen = new[-1].index if new else seen
                    moments = [entry.kind for entry in new if entry.kind in MOMENTS]
                    if moments:  # what has happened while it was away is one moment
                        own.kill()
                        own.start()
                        killed.extend(moments)

            with meanwhile(kill):
                demo.Play(config, world, up, patience=PATIENCE).all()
            ledger.close()
    finally:
        own.kill()

    assert set(killed) == MOMENTS


def test_accepted_alert_survives_the_death_of_everything(tmp_path: Path) -> None:
    """An alert that was answered with 2xx is there after everything was killed at once, as one incident."""
    config = settings(tmp_path)
    with demo.small_world(config, builtin=True) as world:
        with demo.product(config, world) as up:
            answer = alert(config)
            up.kill()
            up.wait()
        assert answer.status == 200
        with demo.product(config, world):
            incidents = until(lambda: Gateway(config, "ada").get("/v1/incidents"))

    assert len(incidents) == 1


def test_two_approvals_survive_the_death_of_everything(tmp_path: Path) -> None:
    """With everything killed right after each of two approvals was taken, the plan runs once, under both."""
    config = settings(tmp_path)
    (tmp_path / "policy.cedar").write_text(
        DEFAULT
        + '@id("always-two") forbid (principal, action == Action::"run", resource)'
        + " when { context.approvals < 2 };",
        encoding="utf-8",
    )
    with demo.small_world(config, builtin=True) as world:

        def changes() -> int:
            status = HTTP.request("GET", f"{world['control']}/status").json()
            return len([change for change in status["changes"] if change["by"] == "stanch"])

        ada, grace = Gateway(config, "ada"), Gateway(config, "grace")

        def approve(person: Gateway) -> Any:
            question: Any = person.get("/v1/approvals/APR-1")
            answer: JsonObject = {"verdict": "approve", "plan_digest": question["request"]["plan_digest"]}
            return person.post("/v1/approvals/APR-1/decision", answer)

        with demo.product(config, world) as up:
            alert(config)
            until(lambda: ada.get("/v1/approvals"))
            ada.post("/v1/incidents/INC-1/ack", {})
            role: JsonObject = {"role": "technical_lead", "person": "grace"}
            ada.post("/v1/incidents/INC-1/roles", role)
            approve(ada)
            up.kill()
            up.wait()
        assert changes() == 0
        with demo.product(config, world) as up:
            signed = approve(grace)
            up.kill()
            up.wait()
        assert [one["decision"]["person"] for one in signed["others"]] == ["ada"]
        with demo.product(config, world):
            until(changes)
            until(lambda: ada.get("/v1/incidents/INC-1")["attempts"])  # type: ignore[index, call-overload]
            assert changes() == 1
        ledger = Ledger.open(config.ledger_url, clock=utc_now)
        report = audit.verify(ledger, Verifier(public_keys(config)))
        ledger.close()

    assert report.problems == ()
    assert report.decisions == 1
