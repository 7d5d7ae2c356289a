"""The play that ``stanch demo`` gives: one incident, from the alert to the postmortem, through the real API.

A feature is released behind a flag, makes hundreds of queries for each page and exhausts the database's
connections. Restarting the pods does not help; switching the flag off does.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import urllib3

from authority.decisions import Verifier
from cli import show
from cli.client import Gateway, parse
from contracts.approvals import Approval, ApprovalRequest
from contracts.base import JsonObject
from contracts.errors import NotFoundError, ProviderUnavailableError, StanchError
from contracts.evidence import EvidenceEntry, EvidenceKind
from contracts.incidents import AttemptEnd, Incident, Phase
from ledger import Ledger, audit
from runtime import engine, settings, tether
from runtime.clock import utc_now
from runtime.settings import Settings

ResultT = TypeVar("ResultT")

COMMANDER = "ada"
FLAG = "new-recommendations"
LOOK_EVERY = 0.2
HTTP = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=10))
STEPS = ("restart-pods", "disable-flag")


class DemoError(StanchError):
    """The demo did not go as it is told."""


def run(*, interactive: bool, builtin: bool, keep: bool) -> int:
    """Play the incident; exit code 0 only when every step was as told.

    Args:
        interactive: A person is the Incident Commander, in the console; everything stays up.
        builtin: Use the built-in alerter although Prometheus is installed.
        keep: Leave everything running at the end.
    """
    home = settings.load().home / "demo"
    if (home / "up.lock").exists():
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = Settings(home=home, http_port=engine.free_port(), catalogue=home / "world" / "catalogue.yaml")
    began = time.monotonic()
    with small_world(config, builtin=builtin) as world, product(config, world) as process:
        patience = 3600.0 if interactive else Play.patience
        Play(config, world, process, interactive=interactive, patience=patience).all()
        print(f"\ndone in {time.monotonic() - began:.0f} s")
        if keep or interactive:
            print("still running; Ctrl-C stops it")
            with contextlib.suppress(KeyboardInterrupt):
                process.wait()
    return 0


@contextlib.contextmanager
def _child(argv: list[str], environ: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that dies with us, until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (our own programs, no shell)
            [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def small_world(config: Settings, *, builtin: bool) -> Iterator[dict[str, Any]]:
    """Start the small world: shop, Kubernetes API, LaunchDarkly and monitoring."""
    print("starting a small world: a shop, a Kubernetes API, a LaunchDarkly, monitoring ...", flush=True)
    state, log = config.home / "world", config.home / "world.log"
    argv = [sys.executable, "-m", "deploy.demo.world", "--state", str(state), "--gateway", config.url]
    argv += ["--builtin"] if builtin else []
    with _child(argv, settings.inherited(), log) as process:
        addresses = state / "world.json"
        _until(lambda: addresses.exists() or None, within=30, of="the world to start", alive=process, log=log)
        yield json.loads(addresses.read_text(encoding="utf-8"))


@contextlib.contextmanager
def product(config: Settings, world: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """Start Stanch as a person does, with ``stanch up``."""
    print("starting stanch up ...", flush=True)
    log = config.home / "up.log"
    environ = settings.environment(config) | world["environ"]
    with _child([sys.executable, "-m", "cli.main", "up"], environ, log) as process:

        def ready() -> bool | None:
            return (b"\nready" in b"\n" + log.read_bytes()) or None

        _until(ready, within=60, of="`stanch up` to be ready", alive=process, log=log)
        terminal = f"STANCH_HOME={config.home} STANCH_HTTP_PORT={config.http_port} STANCH_PERSON={COMMANDER}"
        print(f"console    {config.url}/\nterminal   {terminal} stanch incident list", flush=True)
        print(f"shop       {world['shop']}/\n", flush=True)
        yield process


def _until(
    look: Callable[[], ResultT | None], *, within: float, of: str, alive: subprocess.Popen[bytes], log: Path
) -> ResultT:
    """Wait until ``look`` gives something.

    Raises:
        DemoError: It does not in time, or the process that should do it has ended.
    """
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(ProviderUnavailableError, NotFoundError):
            seen = look()
            if seen is not None:
                return seen
        if alive.poll() is not None:
            raise DemoError(
                f"waited for {of}, but the process ended with {alive.returncode}; its log is {log}"
            )
        if time.monotonic() > deadline:
            raise DemoError(f"waited {within:.0f} s for {of}; the log is {log}")
        time.sleep(LOOK_EVERY)


@dataclass
class Play:
    """The incident as it is told; each scene checks that it was so.

    Attributes:
        config: The product's settings.
        world: What ``world.json`` says.
        product: The running ``stanch up``.
        interactive: A person decides.
        patience: Seconds to wait for each scene.
        told: The last entry of the timeline that was printed.
    """

    config: Settings
    world: dict[str, Any]
    product: subprocess.Popen[bytes]
    interactive: bool = False
    patience: float = 45.0
    told: int = -1

    @cached_property
    def commander(self) -> Gateway:
        """Who commands the incident, at the gateway."""
        return Gateway(self.config, COMMANDER)

    def all(self) -> None:
        """Play all scenes.

        Raises:
            DemoError: One was not as told.
        """
        self._check(self._status()["error_ratio"] in (0.0, None), "the shop is healthy before the release")
        self._say(f"13:00 in the story: a release turns on the flag {FLAG}")
        self._check(HTTP.request("POST", f"{self.world['control']}/break").status == 200, "the release")  # noqa: PLR2004

        incident = self._wait(self._incident, "an alert to open an incident")
        if self.interactive:
            where = f"{self.config.url}/incidents/{incident.id}"
            print(f"\n>>> You are on call: open {where}, take command and decide.\n", flush=True)
        else:
            self.commander.post(f"/v1/incidents/{incident.id}/ack", {})
        for number, playbook in enumerate(STEPS, start=1):
            self._mitigation(incident.id, number, playbook)
        watched = (Phase.MONITORING, Phase.RESOLVED, Phase.LEARNING)
        self._wait(lambda: self._in_phase(incident.id, *watched), "monitoring")
        final = self._wait(lambda: self._in_phase(incident.id, Phase.LEARNING), "it to be resolved")
        self._tell(incident.id)
        ends = [attempt.end for attempt in final.attempts]
        told = "the restart was ineffective, the flag effective"
        self._check(ends == [AttemptEnd.INEFFECTIVE, AttemptEnd.EFFECTIVE], told)
        self._check_world()
        self._check_record(incident.id)

    def _mitigation(self, incident: str, number: int, playbook: str) -> None:
        """See one plan asked, decide it as its commander, and see it end."""
        approval = self._wait(lambda: self._approval(incident, number), f"plan {number}")
        self._tell(incident)
        self._check(approval.plan.playbook == playbook, f"plan {number} is {playbook}")
        self._check(not approval.plan.refusals, "nothing in it would be refused")
        if not self.interactive:
            body: JsonObject = {"verdict": "approve", "plan_digest": approval.request.plan_digest}
            body["reason"] = "scripted commander of the demo"
            self.commander.post(f"/v1/approvals/{approval.request.id}/decision", body)
        self._wait(lambda: self._attempt(incident, number), f"mitigation {number} to end")
        self._tell(incident)

    def _check_world(self) -> None:
        """See in the world itself that it was mitigated, and each change made once."""
        status = self._wait(self._healthy, "the shop to be healthy")
        ours = [change for change in status["changes"] if change["by"] == "stanch"]
        once = [change["provider"] for change in ours] == ["kubernetes", "launchdarkly"]
        self._check(once, "each provider saw each change once, by its own log")
        metrics = HTTP.request("GET", f"{self.world['shop']}/metrics").data.decode()
        self._check('flag="off"' in metrics, "the shop's own LaunchDarkly SDK sees the flag off")

    def _check_record(self, incident: str) -> None:
        """See that the postmortem and the evidence log are there and whole."""
        postmortem = self.commander.text(f"/v1/incidents/{incident}/postmortem")
        sections = ("Incident Summary", "Timeline", "Root Cause", "Contributing Factors", "Action Items")
        self._check(all(f"## {section}" in postmortem for section in sections), "the postmortem is drafted")
        with contextlib.closing(Ledger.open(self.config.ledger_url, clock=utc_now)) as ledger:
            report = audit.verify(ledger, Verifier(settings.public_keys(self.config)))
        counted = f"{report.size} entries, {report.decisions} decisions"
        self._check(report.ok, f"the evidence log verifies: {counted}")
        path = self.config.home / f"postmortem-{incident}.md"
        path.write_text(postmortem, encoding="utf-8")
        print(f"\npostmortem {path}")
        print(f"evidence   {self.config.ledger_url}")
        print(f"logs       {self.config.home / 'logs'}, {self.config.home / 'world' / 'logs'}")

    def _wait(self, look: Callable[[], ResultT | None], of: str) -> ResultT:
        log = self.config.home / "up.log"
        return _until(look, within=self.patience, of=of, alive=self.product, log=log)

    def _check(self, is_so: bool, told: str) -> None:  # noqa: FBT001  (a claim)
        if not is_so:
            raise DemoError(f"not as told: {told}")
        self._say(f"✓ {told}")

    def _say(self, line: str) -> None:
        print(f"  {line}", flush=True)

    def _tell(self, incident: str) -> None:
        """Print what is new on the timeline."""
        seen = self.commander.get(f"/v1/incidents/{incident}/evidence", {"after": str(self.told)})
        for entry in parse(list[EvidenceEntry], seen):
            self.told = entry.index
            if entry.kind is not EvidenceKind.INTENT:
                print(f"{entry.at:%H:%M:%S}  {show.clean(entry.summary)}", flush=True)

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = HTTP.request("GET", f"{self.world['control']}/status").json()
        return status

    def _healthy(self) -> dict[str, Any] | None:
        status = self._status()
        return status if status["error_ratio"] in (0.0, None) else None

    def _incident(self) -> Incident | None:
        found = parse(list[Incident], self.commander.get("/v1/incidents"))
        return found[0] if found else None

    def _in_phase(self, incident: str, *phases: Phase) -> Incident | None:
        seen = parse(Incident, self.commander.get(f"/v1/incidents/{incident}"))
        return seen if seen.phase in phases else None

    def _approval(self, incident: str, number: int) -> Approval | None:
        listed = parse(list[ApprovalRequest], self.commander.get("/v1/approvals"))
        mine = [one for one in listed if one.mitigation == f"{incident}/{number}"]
        return parse(Approval, self.commander.get(f"/v1/approvals/{mine[0].id}")) if mine else None

    def _attempt(self, incident: str, number: int) -> bool | None:
        seen = parse(Incident, self.commander.get(f"/v1/incidents/{incident}"))
        return len(seen.attempts) >= number or None
