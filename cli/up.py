"""``stanch up``: engine, worker, gateway and console together, with the state in one folder."""

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import urllib3
from temporalio.service import RPCError

from cli import show
from contracts.errors import InputError, ProviderUnavailableError, StanchError
from ledger import Ledger
from runtime import engine, settings, telemetry, temporal
from runtime.clock import utc_now
from runtime.policy import load_policy
from runtime.settings import Settings
from runtime.supervisor import Child, Supervisor

READY_WITHIN = 60.0
LOOK_EVERY = 0.1

STARTER = """\
# The service catalogue: the only place that names targets, people and signals.
# docs/reference/catalogue.md tells every field; `stanch doctor` checks this file.
people:
  - {id: me, name: "You"}

# clusters:
#   - {name: production, kubeconfig: /path/to/kubeconfig}
# prometheus:
#   - {name: main, url: "http://127.0.0.1:9090"}
# services:
#   - name: shop
#     on_call: [me]
#     environments:
#       production:
#         deployments: [{cluster: production, namespace: shop, name: web}]
#         signals:
#           error_rate:
#             prometheus: main
#             query: >-
#               sum(rate(http_requests_total{service="shop",code=~"5.."}[1m]))
#               / sum(rate(http_requests_total{service="shop"}[1m]))
#             healthy_below: 0.01
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: everything is in the settings, so that all processes agree."""
    parser.epilog = "Settings are environment variables: docs/reference/settings.md."


def run(args: argparse.Namespace) -> int:  # noqa: ARG001  (every verb takes them)
    """Run until Ctrl-C or SIGTERM; then stop everything cleanly."""
    telemetry.log_to_stderr(logging.WARNING)
    config = settings.load()
    with _alone(config.home):
        try:
            code = asyncio.run(_up(config))
        except StanchError as error:
            print(f"stanch: {show.clean(error)}", file=sys.stderr)
            code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # The SDK's runtime can abort while the interpreter shuts down (sdk-python issue 300): leave without it.
    os._exit(code)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the state folder: two of us on one SQLite file would be two engines.

    Raises:
        InputError: Another one runs.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise InputError(f"{home}: `stanch up` already runs there (pid {file.read().strip()})") from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


async def _up(config: Settings) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor(config.home / "logs")
    starting = asyncio.create_task(_start(config, supervisor))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
    finally:
        print("stopping ...", flush=True)
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await supervisor.stop()
    print("stopped; `stanch up` goes on from here", flush=True)
    return 0


async def _start(config: Settings, supervisor: Supervisor) -> None:
    path = config.catalogue_path
    if config.catalogue is None and not path.exists():
        path.write_text(STARTER, encoding="utf-8")
        print(f"catalogue  {path} (a starter: tell it your services)", flush=True)
    settings.load_catalogue(path)
    load_policy(config)
    settings.signing_key(config)
    if config.identity == "local":
        settings.local_token(config)
    with contextlib.closing(Ledger.open(config.ledger_url, clock=utc_now)) as ledger:
        ledger.migrate()

    if not config.temporal_address and not settings.names_temporal():
        config = await _start_engine(config, supervisor)
    if not config.http_port:
        config = config.model_copy(update={"http_port": engine.free_port()})
    environ = settings.environment(config)
    await supervisor.start("worker", [sys.executable, "-m", "worker"], environ)
    gateway = await supervisor.start("gateway", [sys.executable, "-m", "gateway.serve"], environ)
    await _wait_for_gateway(config, gateway)
    addresses = {"gateway": config.url, "engine": config.temporal_address, "pid": os.getpid()}
    (config.home / "run.json").write_text(json.dumps(addresses), encoding="utf-8")
    print(f"engine     {config.temporal_address or 'from the Temporal client configuration'}")
    print(f"console    {config.public_url or config.url}/")
    print(f"alerts     {config.url}/v1/alerts/alertmanager")
    print(f"state      {config.home.resolve()}  (logs in {config.home / 'logs'})")
    local = "LOCAL EVALUATION MODE: whoever reaches this port can be anybody. Loopback only."
    print(f"identity   {config.oidc_issuer if config.identity == 'oidc' else local}")
    print("ready; Ctrl-C stops it", flush=True)


async def _start_engine(config: Settings, supervisor: Supervisor) -> Settings:
    """Start the embedded engine where nobody named a cluster, and make it ready for our worker."""
    binary = engine.find_binary(config)
    port = config.temporal_port or engine.free_port()
    argv = engine.command(binary, port=port, state=config.home / "engine.db")
    child = await supervisor.start("engine", argv, settings.inherited())
    config = config.model_copy(update={"temporal_address": f"127.0.0.1:{port}"})

    async def prepare() -> bool:
        await temporal.prepare(await temporal.connect(config), config)
        return True

    # RuntimeError: it does not listen yet; RPCError: it answers before all of it is up.
    await _wait_for(child, prepare, (RPCError, RuntimeError), patience=2)
    return config


async def _wait_for_gateway(config: Settings, gateway: Child) -> None:
    pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=2))

    async def is_ready() -> bool:
        answer = await asyncio.to_thread(pool.request, "GET", f"{config.url}/readyz")
        return bool(answer.status == 200)  # noqa: PLR2004  (OK)

    await _wait_for(gateway, is_ready, (urllib3.exceptions.HTTPError,))


async def _wait_for(
    child: Child,
    is_ready: Callable[[], Awaitable[bool]],
    not_yet: tuple[type[Exception], ...],
    *,
    patience: int = 0,
) -> None:
    """Wait until a child is ready.

    Raises:
        ProviderUnavailableError: It has ended more often than patience allows, or is not ready in time.
    """
    until = asyncio.get_running_loop().time() + READY_WITHIN
    while True:
        with contextlib.suppress(*not_yet):
            if await is_ready():
                return
        if child.restarts > patience or asyncio.get_running_loop().time() > until:
            last = "".join(child.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:])
            raise ProviderUnavailableError(f"the {child.name} does not start: {last} (log: {child.log})")
        await asyncio.sleep(LOOK_EVERY)
