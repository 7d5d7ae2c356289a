"""The outermost layer of every request: who may speak to us at all, and what every answer carries."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.identity import SAFE_METHODS, host_of
from gateway.intake import READ_WITHIN
from gateway.metrics import Metrics
from runtime.loopback import is_loopback

Answer = Callable[[str, int, str], Response]
"""Makes an error's answer: the request's path, the status, the sentence."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

LARGEST_ORDER: Final = 64 * 1024  # bytes; what comes for intake has a limit of its own
_INTAKE: Final = "/v1/alerts/"
_TOO_SLOW: Final = 408

log = logging.getLogger(__name__)


class Edge:
    """Turns away what is not for us, times the rest, and lets no stack trace out."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, answer: Answer, local: bool) -> None:
        self._app = app
        self._local = local
        self._metrics = metrics
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
                if is_unread or status == _TOO_SLOW:
                    headers["Connection"] = "close"  # nobody waits for the rest of that body
            await send(message)

        connection, looks = HTTPConnection(scope), scope["method"] in SAFE_METHODS
        is_unread = looks and not {"content-length", "transfer-encoding"}.isdisjoint(connection.headers)
        refusal = _refusal(connection, local=self._local)
        # Who only looks is answered at once: no body of theirs is ever read. Intake has limits of its own.
        try:
            order = receive if looks or scope["path"].startswith(_INTAKE) else await _order(scope, receive)
            order = (403, refusal) if refusal else order
            if isinstance(order, tuple):
                await self._answer(scope["path"], *order)(scope, receive, send_guarded)
            else:
                await self._app(scope, order, send_guarded)
        except ClientDisconnect:
            log.info("the client went away in the middle of its request")
        except Exception:
            reference = secrets.token_hex(6)
            log.exception("internal error, reference %s", reference)
            if status:
                raise  # the answer has begun: only a broken connection can still say that it is not whole
            sentence = f"internal error; see the gateway's log, reference {reference}"
            await self._answer(scope["path"], 500, sentence)(scope, receive, send_guarded)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            if not route.endswith("/events"):
                took = time.monotonic() - began
                method = scope["method"] if scope["method"] in SAFE_METHODS | {"POST"} else "other"
                self._metrics.latency.labels(method, route, str(status)).observe(took)


async def _order(scope: Scope, receive: Receive) -> Receive | tuple[int, str]:
    """Read a body before anybody holds it in memory to find out who sent it; or say why not, with a status.

    A little more than is taken is read and thrown away, so that an honest sender hears why.
    """
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(READ_WITHIN):
            async for chunk in Request(scope, receive).stream():
                size += len(chunk)
                body += chunk if size <= LARGEST_ORDER else b""
                if size > 4 * LARGEST_ORDER:
                    break
    except TimeoutError:
        return _TOO_SLOW, f"the order did not arrive within {READ_WITHIN:.0f} s: send it again"
    if size > LARGEST_ORDER:
        return 413, f"an order has at most {LARGEST_ORDER} bytes: say it in fewer words"
    waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def read() -> Message:
        return waiting.pop() if waiting else await receive()

    return read


def _refusal(connection: HTTPConnection, *, local: bool) -> str:
    """Say why this request is turned away: a name that DNS was rebound to, or a page of another site."""
    if local and not is_loopback(host_of(connection)):
        return "in local mode Stanch answers only to localhost and 127.0.0.1, not to another host name"
    site = connection.headers.get("sec-fetch-site", "same-origin")
    if connection.scope["method"] not in SAFE_METHODS and site != "same-origin":
        return "this was sent by a page of another site: use the console itself, or the API"
    return ""
