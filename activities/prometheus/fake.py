"""A Prometheus query API whose answers are set by query; unknown queries give an empty vector."""

import json
import threading
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs


class Fault(StrEnum):
    """What can come instead of an answer."""

    ERROR = "error"
    THROTTLED = "throttled"
    UNAUTHORIZED = "unauthorized"
    REDIRECT = "redirect"
    NONSENSE = "nonsense"
    SILENCE = "silence"
    CUT = "cut"


STATUS = {Fault.ERROR: 503, Fault.THROTTLED: 429, Fault.UNAUTHORIZED: 401, Fault.REDIRECT: 302}


class FakePrometheus:
    """The server. Its attributes may be set at any time.

    Attributes:
        url: Where it is.
        queries: Every query that arrived, in order.
        fault: What happens instead of the right answer.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.queries: list[str] = []
        self.fault: Fault | None = None
        self.closing = threading.Event()
        self._clock = clock
        self._answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="fake-prometheus"
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def set(self, query: str, *series: tuple[dict[str, str], str]) -> None:
        """Let a query give a vector of these series: labels and value as text."""
        result = [{"metric": labels, "value": [self._now(), value]} for labels, value in series]
        self._answers[query] = 200, _success("vector", result)

    def set_plain(self, query: str, kind: str, value: str) -> None:
        """Let a query give a ``scalar`` or a ``string``."""
        self._answers[query] = 200, _success(kind, [self._now(), value])

    def set_matrix(self, query: str, labels: dict[str, str], *values: str) -> None:
        """Let a query give one series over time."""
        points = [[self._now(), value] for value in values]
        self._answers[query] = 200, _success("matrix", [{"metric": labels, "values": points}])

    def refuse(self, query: str, status: int, kind: str, error: str) -> None:
        """Let a query be refused."""
        self._answers[query] = status, {"status": "error", "errorType": kind, "error": error}

    def answer(self, query: str) -> tuple[int, dict[str, Any]]:
        """Give status and body for a query."""
        self.queries.append(query)
        return self._answers.get(query, (200, _success("vector", [])))

    def _now(self) -> float:
        return round(self._clock().timestamp(), 3)


def _success(kind: str, result: list[Any]) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them

    def __init__(self, address: tuple[str, int], fake: FakePrometheus) -> None:
        self.fake = fake
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # HTTP/1.0: one request a connection, so that closing needs to cut none

    def do_POST(self) -> None:
        fake = self.server.fake
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        status, body = fake.answer(form["query"][0])
        if fake.fault is Fault.SILENCE:
            fake.closing.wait(10.0)
        if fake.fault in (Fault.SILENCE, Fault.CUT):
            return
        content = json.dumps(body).encode()
        if fake.fault is not None:
            status, content = STATUS.get(fake.fault, 200), b"<html>"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the library's name)
        """Keep quiet."""
