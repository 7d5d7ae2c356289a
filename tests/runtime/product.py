"""A whole product as ``stanch up`` runs it, in real processes, for tests and benchmarks; fake providers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import urllib3
import yaml
from pydantic import TypeAdapter

from activities.launchdarkly.fake import FakeLaunchDarkly
from activities.prometheus.fake import FakePrometheus
from contracts.approvals import ApprovalRequest, ApprovalState
from contracts.incidents import Incident
from runtime import settings, tether
from runtime.clock import utc_now
from tests import site

ResultT = TypeVar("ResultT")

LOOK_EVERY = 0.02
COMMANDER = "ada"


def until(
    look: Callable[[], ResultT | None], *, within: float = 30.0, every: float = LOOK_EVERY, what: str = ""
) -> ResultT:
    """Wait until ``look`` gives something, looking every so many seconds."""
    deadline = time.monotonic() + within
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"did not happen within {within} s: {what or look}"
        time.sleep(every)


class Product:
    """One installation: its folder, its processes while it is up, and what a person does to it.

    Args:
        home: The state folder.
        flags: The LaunchDarkly that it acts on.
        metrics: The Prometheus that it asks.
        services: How many services the catalogue has, ``s0`` and up, each with two flags.
        environ: More environment for all its processes.
    """

    def __init__(
        self,
        home: Path,
        flags: FakeLaunchDarkly,
        metrics: FakePrometheus,
        *,
        services: int = 1,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.home = home
        self.flags = flags
        self.metrics = metrics
        self.url = ""
        self.engine = ""
        self.process: subprocess.Popen[bytes] | None = None
        self._log = home / "up.log"
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=10), maxsize=50)
        told = {"STANCH_HTTP_PORT": "0", "STANCH_HOME": str(home), "LAUNCHDARKLY_TOKEN": site.TOKEN}
        self._environ = settings.inherited() | told | (environ or {})
        home.mkdir(parents=True, exist_ok=True)
        book = site.catalogue(flags, metrics, timedelta(minutes=15), services)
        for service in book.services:
            for flag in service.environments["production"].flags:
                flags.add_flag(flag.project, flag.environment, flag.key)
            self.break_service(service.name)
        path = home / "catalogue.yaml"
        path.write_text(yaml.safe_dump(book.model_dump(mode="json", exclude_none=True)), encoding="utf-8")

    # Its processes.

    def launch(self) -> None:
        """Start it as a person does, and wait for nothing."""
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                # Tied to us: what a killed test run has started is gone with it.
                [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *self.command],
                cwd=self.home,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self, *, within: float = 60.0) -> str:
        """Start it, wait until it says that it is ready, and give what it said."""
        self.launch()
        assert self.process is not None
        process = self.process

        def ready() -> bool:
            assert process.poll() is None, self.said()
            return "\nready" in self.said()

        try:
            until(ready, within=within, what="ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()}") from error
        run = json.loads((self.home / "run.json").read_text(encoding="utf-8"))
        self.url, self.engine = run["gateway"], run["engine"]
        return self.said()

    @property
    def command(self) -> list[str]:
        """Give the command line of ``stanch up``."""
        return [sys.executable, "-m", "cli.main", "up"]

    def said(self) -> str:
        """Give what ``stanch up`` has printed since it was started."""
        return self._log.read_text(encoding="utf-8")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop, wait until it has, and give its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def kill(self) -> None:
        """Kill ``stanch up`` as the kernel does when memory runs out; its children die with it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def children(self) -> dict[str, int]:
        """Give the running child processes by what they run: ``engine``, ``worker`` and ``gateway``."""
        found: dict[str, int] = {}
        for pid in _children_of(self.process.pid if self.process else 0):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                names = {"worker": "worker", "gateway.serve": "gateway", "start-dev": "engine"}
                found |= {name: pid for word, name in names.items() if word in words}
        return found

    # What a person and an alert source do.

    def request(
        self, method: str, path: str, body: object = None, *, headers: dict[str, str] | None = None
    ) -> Any:
        """Ask the gateway as the commander, and give its JSON; anything but a 2xx is a failure."""
        token = (self.home / "local.token").read_text(encoding="utf-8")
        who = {"Authorization": f"Bearer {token}", "X-Stanch-Person": COMMANDER}
        answer = self._pool.request(
            method, self.url + path, json=body if method == "POST" else None, headers=who | (headers or {})
        )
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.data.decode()}"
        return answer.json()

    def alert(
        self, service: str, status: str = "firing", *, name: str = "HighErrorRate", trace: str = ""
    ) -> None:
        """Deliver an alert of a service, as Alertmanager does; ``trace`` is the sender's traceparent."""
        labels = {
            "alertname": name,
            "service": service,
            "severity": "SEV2",
            "signal": "error_rate",
        }
        alert = {
            "status": status,
            "labels": labels,
            "annotations": {"summary": f"40% of {service} requests fail"},
            "startsAt": "2026-11-21T14:32:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": f"{name}-{service}",
        }
        body = {"version": "4", "alerts": [alert]}
        self.request("POST", "/v1/alerts/alertmanager", body, headers={"traceparent": trace} if trace else {})

    def break_service(self, service: str, ratio: float = 0.4) -> None:
        """Let a service's error rate be this."""
        self.metrics.set(site.query(service), ({}, str(ratio)))

    def incident(self, service: str) -> Incident | None:
        """Give a service's incident, once there is one."""
        listed = TypeAdapter(list[Incident]).validate_python(self.request("GET", "/v1/incidents?limit=1000"))
        return next((one for one in listed if one.service == service), None)

    def asked(self, incident: str) -> ApprovalRequest | None:
        """Give the open question about an incident, once there is one."""
        query = f"/v1/approvals?state={ApprovalState.PENDING}&incident={incident}"
        listed = TypeAdapter(list[ApprovalRequest]).validate_python(self.request("GET", query))
        return listed[0] if listed else None

    def acknowledge(self, incident: str) -> None:
        """Take command of an incident."""
        self.request("POST", f"/v1/incidents/{incident}/ack")

    def approve(self, request: ApprovalRequest, person: str = COMMANDER) -> None:
        """Approve a plan."""
        order = {"verdict": "approve", "plan_digest": request.plan_digest}
        path = f"/v1/approvals/{request.id}/decision"
        self.request("POST", path, order, headers={"X-Stanch-Person": person})

    def reject(self, request: ApprovalRequest) -> None:
        """Reject a plan."""
        order = {"verdict": "reject", "plan_digest": request.plan_digest, "reason": "not that one"}
        self.request("POST", f"/v1/approvals/{request.id}/decision", order)

    def changes(self, service: str) -> int:
        """Count the changes of a service's flags that arrived at LaunchDarkly: its own log is the witness."""
        return len([seen for seen in self.flags.arrived("PATCH") if f"/{service}-" in seen.path])


@contextlib.contextmanager
def product(home: Path, *, services: int = 1, environ: dict[str, str] | None = None) -> Iterator[Product]:
    """Give an installation, not started yet, with its providers; whatever runs at the end is killed."""
    with FakeLaunchDarkly(utc_now) as flags, FakePrometheus(utc_now) as metrics:
        installed = Product(home, flags, metrics, services=services, environ=environ)
        try:
            yield installed
        finally:
            if installed.process is not None and installed.process.poll() is None:
                installed.kill()


def is_running(pid: int) -> bool:
    """Say whether a process is there and not a mere entry that nobody has read yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]
    except OSError:
        return False
    return state != "Z"


def _children_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            if int(path.read_text(encoding="utf-8").rpartition(") ")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found
