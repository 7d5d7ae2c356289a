"""The whole demo world: ``python -m deploy.demo.world --state DIR --gateway URL``.

It begins healthy. ``break_it`` does what a person did at the start of the incident; after that the shop fails
until somebody mitigates. All addresses and credentials are in ``world.json`` in the state folder, which is
written when everything is ready.
"""

import argparse
import contextlib
import json
import math
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import urllib3
from prometheus_client.parser import text_string_to_metric_families

from activities.k8s.fake import TOKENS
from deploy.demo import monitoring, stage
from deploy.demo.processes import HTTP, Processes, WorldError, free_ports
from deploy.demo.shop import DEPLOYMENT, FLAG, NAMESPACE, UNFLAGGED

WEBHOOK = "/v1/alerts/alertmanager"
STANCH, ENGINEER = "stanch", "release engineer"
SEMANTIC_PATCH = "application/json; domain-model=launchdarkly.semanticpatch"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
LOOK_EVERY = 1.0  # seconds between two looks whether all processes run


class Scenario(StrEnum):
    """What goes wrong: ``flag`` turns the new feature on, ``rollback`` releases it without its flag."""

    FLAG = "flag"
    ROLLBACK = "rollback"


class Change(NamedTuple):
    """One request that changed something at a provider, from the provider's own log.

    Attributes:
        provider: ``kubernetes`` or ``launchdarkly``.
        by: Whose token it had: ``stanch``, ``release engineer`` or ``somebody``.
    """

    provider: str
    by: str
    method: str
    path: str
    body: Any


class World:
    """The Kubernetes API, LaunchDarkly, the shop and what watches it, from enter to exit.

    Enter it in a thread that lives as long as the world shall: the processes die with that thread.

    Args:
        state: The folder for everything that is written; what a former world left in it is removed.
        gateway: URL to whose ``/v1/alerts/alertmanager`` the alerts go.
        builtin: Use the built-in alerter although Prometheus and Alertmanager are installed.
        scenario: What ``break_it`` breaks.
        alert_token: A file with the bearer token that the gateway wants, or None.
    """

    def __init__(
        self,
        state: Path,
        gateway: str,
        *,
        builtin: bool = False,
        scenario: Scenario = Scenario.FLAG,
        alert_token: Path | None = None,
    ) -> None:
        self.state = state.resolve()
        self.scenario = scenario
        self.prometheus = ""
        self._webhook = gateway.rstrip("/") + WEBHOOK
        self._builtin = builtin
        self._alert_token = alert_token.resolve() if alert_token else None
        self._began = time.time()
        self._open = contextlib.ExitStack()
        self._processes = Processes(self.state / "logs")
        self._shop_port, kubernetes, launchdarkly = free_ports(3)
        self.shop = f"http://127.0.0.1:{self._shop_port}"
        self.kubernetes = f"http://127.0.0.1:{kubernetes}"
        self.launchdarkly = f"http://127.0.0.1:{launchdarkly}"
        self._flag_tokens = {who: secrets.token_urlsafe(16) for who in (STANCH, ENGINEER)}
        self._sdk_key = f"sdk-{secrets.token_urlsafe(16)}"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            stack.enter_context(self._processes)
            self._start()
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def catalogue(self) -> Path:
        """The service catalogue for the product."""
        return self.state / "catalogue.yaml"

    @property
    def environ(self) -> dict[str, str]:
        """The variables that the catalogue names, for the product's processes."""
        return {"LAUNCHDARKLY_TOKEN": self._flag_tokens[STANCH], "LAUNCHDARKLY_SDK_KEY": self._sdk_key}

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by name."""
        return self._processes.pids

    def check(self) -> None:
        """Look whether all processes run.

        Raises:
            WorldError: One has ended.
        """
        self._processes.check()

    def break_it(self) -> None:
        """Begin the incident, as a person would: a second time changes nothing.

        Raises:
            WorldError: The provider did not take the change.
        """
        if self.scenario is Scenario.FLAG:
            self.set_flag(on=True, comment="Release of the new recommendations.")
        else:
            self.release(UNFLAGGED, cause="Release v3: recommendations for everybody")

    def set_flag(self, *, on: bool, comment: str) -> None:
        """Turn the feature's flag on or off through LaunchDarkly's REST API."""
        instruction = {"kind": "turnFlagOn" if on else "turnFlagOff"}
        patch = {"environmentKey": stage.ENVIRONMENT, "comment": comment, "instructions": [instruction]}
        headers = {"Authorization": self._flag_tokens[ENGINEER], "Content-Type": SEMANTIC_PATCH}
        _send("PATCH", f"{self.launchdarkly}/api/v2/flags/{stage.PROJECT}/{FLAG}", headers, patch)

    def release(self, image: str, *, cause: str) -> None:
        """Deploy another image through the Kubernetes API."""
        patch = {
            "metadata": {"annotations": {stage.CHANGE_CAUSE: cause}},
            "spec": {"template": {"spec": {"containers": [{"name": DEPLOYMENT, "image": image}]}}},
        }
        self.patch_deployment(patch)

    def patch_deployment(self, patch: dict[str, Any]) -> None:
        """Send a strategic merge patch of the shop's Deployment."""
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{DEPLOYMENT}"
        headers = {"Authorization": f"Bearer {stage.ADMIN_TOKEN}", "Content-Type": STRATEGIC_PATCH}
        _send("PATCH", self.kubernetes + path, headers, patch)

    def requests(self) -> dict[str, int]:
        """Give how many requests the shop has answered, by status code."""
        metrics = HTTP.request("GET", f"{self.shop}/metrics").data.decode()
        return {
            sample.labels["code"]: int(sample.value)
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
            if sample.name == "shop_requests_total"
        }

    def error_ratio(self) -> float | None:
        """Give the share of the shop's requests that fail now, as the product sees it; None without data."""
        answer = HTTP.request("GET", f"{self.prometheus}/api/v1/query", fields={"query": stage.ERROR_RATIO})
        result = answer.json()["data"]["result"]
        ratio = float(result[0]["value"][1]) if result else math.nan
        return ratio if math.isfinite(ratio) else None

    def changes(self) -> list[Change]:
        """Give every request that changed something, from the providers' own logs."""
        users = {TOKENS[stage.LEAST_TOKEN].user: STANCH, TOKENS[stage.ADMIN_TOKEN].user: ENGINEER}
        tokens = {token: name for name, token in self._flag_tokens.items()}
        seen = HTTP.request("GET", f"{self.kubernetes}/_fake/requests").json()
        changes = [
            Change("kubernetes", users.get(one["user"], "somebody"), one["method"], one["path"], one["body"])
            for one in seen
            if one["applied"] and one["at"] >= self._began
        ]
        for one in HTTP.request("GET", f"{self.launchdarkly}/_fake/requests").json():
            if one["changed"]:
                by = tokens.get(one["headers"].get("authorization"), "somebody")
                changes.append(Change("launchdarkly", by, one["method"], one["path"], one["body"]))
        return changes

    def status(self) -> dict[str, Any]:
        """Give how the world is, as JSON."""
        return {
            "error_ratio": self.error_ratio(),
            "requests": self.requests(),
            "changes": [change._asdict() for change in self.changes()],
        }

    def _start(self) -> None:
        for left in ("catalogue.yaml", "world.json", "cluster.json", "flags.json"):
            (self.state / left).unlink(missing_ok=True)
        for left in ("tsdb", "alertmanager"):
            shutil.rmtree(self.state / left, ignore_errors=True)
        start = self._processes.start_module
        self.prometheus, ready = monitoring.start(
            self._processes,
            self.state,
            shop=self._shop_port,
            webhook=self._webhook,
            credentials=self._alert_token,
            builtin=self._builtin,
        )
        cluster, flags = self.state / "cluster.json", self.state / "flags.json"
        now = datetime.now(UTC)
        tokens = {
            self._flag_tokens[STANCH]: list(stage.LEAST_FLAG_RIGHTS),
            self._flag_tokens[ENGINEER]: ["*"],
        }
        stage.write_cluster(cluster, now=now)
        names = {self._flag_tokens[ENGINEER]: stage.PEOPLE["linus"]}
        stage.write_flags(flags, now=now, tokens=tokens, names=names)
        start(
            "kubernetes", "activities.k8s.fake",
            f"--port={_port(self.kubernetes)}", f"--state={cluster}", "--ready-after=0.5",
        )  # fmt: skip
        start(
            "launchdarkly", "activities.launchdarkly.fake",
            f"--port={_port(self.launchdarkly)}", f"--state={flags}",
            f"--token={self._flag_tokens[ENGINEER]}",
            f"--sdk-key={self._sdk_key}={stage.PROJECT}/{stage.ENVIRONMENT}",
        )  # fmt: skip
        wait = self._processes.wait_until_ready
        wait("kubernetes", f"{self.kubernetes}/_fake/requests")
        wait("launchdarkly", f"{self.launchdarkly}/_fake/requests")
        start(
            "shop", "deploy.demo.shop",
            f"--port={self._shop_port}", f"--k8s={self.kubernetes}", f"--ld-stream={self.launchdarkly}",
            environ={"SHOP_K8S_TOKEN": stage.ADMIN_TOKEN, "SHOP_LD_SDK_KEY": self._sdk_key},
        )  # fmt: skip
        wait("shop", f"{self.shop}/healthz")
        for name, url in ready.items():
            wait(name, url)
        kubeconfig = self.state / "kubeconfig.yaml"
        stage.write_kubeconfig(kubeconfig, server=self.kubernetes, token=stage.LEAST_TOKEN)
        stage.write_catalogue(
            self.catalogue,
            kubeconfig=kubeconfig,
            launchdarkly=self.launchdarkly,
            prometheus=self.prometheus,
            shop=self.shop,
        )


def _port(url: str) -> str:
    return url.rpartition(":")[2]


def _send(method: str, url: str, headers: dict[str, str], body: Any) -> None:
    answer = HTTP.request(method, url, headers=headers, body=json.dumps(body).encode())
    if answer.status != 200:  # noqa: PLR2004  (OK)
        raise WorldError(
            f"{method} {url}: HTTP {answer.status}: {answer.data[:200].decode(errors='replace')}"
        )


@contextlib.contextmanager
def controlled(world: World) -> Iterator[str]:
    """Serve ``POST /break`` and ``GET /status`` on loopback; give the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {"GET /status": world.status, "POST /break": world.break_it}.get(
                f"{self.command} {self.path}"
            )
            if known is None:
                self._answer(404, {"error": "there are POST /break and GET /status"})
                return
            try:
                self._answer(200, known())
            except (WorldError, urllib3.exceptions.HTTPError) as error:
                self._answer(502, {"error": str(error)})

        do_POST = do_GET  # noqa: N815  (the name is the base class's)

        def _answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is the base class's)
            """Write no line per request."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main(argv: list[str] | None = None) -> None:
    """Run a world until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.world", description=main.__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--gateway", required=True, help="URL to whose /v1/alerts/alertmanager alerts go")
    parser.add_argument("--alert-token", type=Path, help="file with the bearer token that the gateway wants")
    parser.add_argument("--builtin", action="store_true", help="do not use Prometheus and Alertmanager")
    parser.add_argument("--scenario", type=Scenario, choices=list(Scenario), default=Scenario.FLAG)
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    world = World(
        options.state,
        options.gateway,
        builtin=options.builtin,
        scenario=options.scenario,
        alert_token=options.alert_token,
    )
    written = world.state / "world.json"
    try:
        with world, controlled(world) as control:
            addresses = {
                "control": control,
                "shop": world.shop,
                "kubernetes": world.kubernetes,
                "launchdarkly": world.launchdarkly,
                "prometheus": world.prometheus,
                "catalogue": str(world.catalogue),
                "environ": world.environ,
                "processes": world.processes,
            }
            stage.write_private(written, json.dumps(addresses, indent=1))
            while True:
                time.sleep(LOOK_EVERY)
                world.check()
    except WorldError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass
    finally:
        written.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
