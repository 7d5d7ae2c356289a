"""The HTTP side as a process: the gateway's app, its dispatcher, and a clean end."""

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress

from temporalio.client import Client

import gateway.server
import playbooks.kit
from authority.decisions import Signer, Verifier
from contracts.catalogue import Catalogue
from contracts.errors import InputError
from gateway.app import build
from gateway.authority import considering
from gateway.dispatcher import Dispatcher
from gateway.notices import notifier
from gateway.temporal_engine import TemporalEngine
from ledger import Ledger, outbox
from runtime import settings, telemetry, temporal
from runtime.clock import utc_now
from runtime.policy import load_policy
from runtime.settings import Settings


def listen(config: Settings) -> socket.socket:
    """Take the address before anything else is started.

    Raises:
        InputError: It cannot be taken.
    """
    family = socket.AF_INET6 if ":" in config.http_host else socket.AF_INET
    # With the protocol left open asyncio does not switch Nagle's algorithm off, and answers wait 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((config.http_host, config.http_port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise InputError(f"{config.url}: {error.strerror}; set STANCH_HTTP_PORT to a free port") from error
    return listening


def dispatcher(
    config: Settings, *, ledger: Ledger, client: Client, catalogue: Catalogue, signer: Signer
) -> Dispatcher:
    """Put the dispatcher together, with the handler of every kind of message; the event loop runs already.

    Raises:
        InputError: The mail server's settings would send a password in the clear.
    """
    policy = load_policy(config)
    verifier = Verifier(settings.public_keys(config), reread=lambda: settings.public_keys(config))
    handlers = {
        outbox.ASKED: considering(ledger, policy=policy, signer=signer, verifier=verifier),
        **notifier(config, ledger, catalogue).handlers,
    }
    return Dispatcher(
        ledger=ledger, client=client, catalogue=catalogue, signer=signer, clock=utc_now, handlers=handlers
    )


async def serve(config: Settings, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    catalogue = settings.load_catalogue(config.catalogue_path)
    ledger = Ledger.open(config.ledger_url, clock=utc_now)
    ledger.migrate()
    signer = Signer(settings.signing_key(config))
    ledger.evidence.signs(signer)
    client = await temporal.connect(config, lazy=True)
    dispatching = dispatcher(config, ledger=ledger, client=client, catalogue=catalogue, signer=signer)
    app = build(
        config,
        ledger,
        catalogue,
        signer,
        wake=dispatching.wake,
        engine=TemporalEngine(client),
        playbooks=playbooks.kit.catalogue(),
    )
    server = gateway.server.server(app, host=config.http_host, port=config.http_port)
    delivering = asyncio.create_task(dispatching.run())
    # A dispatcher that ended would leave a gateway that takes alerts and delivers none.
    delivering.add_done_callback(lambda _: setattr(server, "should_exit", True))
    log = logging.getLogger("stanch")
    log.info("gateway on %s", config.url)
    if config.identity == "local":
        log.warning("LOCAL EVALUATION MODE: whoever reaches this port can be anybody")
    await server.serve(sockets=[listening])
    failed = delivering.done() and not delivering.cancelled()
    delivering.cancel()
    with suppress(asyncio.CancelledError):
        await delivering
    ledger.close()
    if failed:
        raise RuntimeError("the dispatcher ended")


def run(config: Settings) -> int:
    """Run the HTTP side alone, for scaling out: ``stanch gateway``."""

    def program() -> None:
        with listen(config) as listening:
            asyncio.run(serve(config, listening))

    return telemetry.run("gateway", program)


def main() -> None:
    """Run as a program; SIGINT and SIGTERM end it cleanly, with exit code 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        code = run(settings.load())
    except SystemExit:
        code = 0
    sys.stdout.flush()
    # The SDK's runtime can abort while the interpreter shuts down (sdk-python issue 300): leave without it.
    os._exit(code)


def _stop(*_: object) -> None:
    """End: the server takes the signal itself while it serves, and raises it again when it has stopped."""
    raise SystemExit


if __name__ == "__main__":
    main()
