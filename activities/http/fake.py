"""A web service whose answers are chosen, and a team's remediation endpoint that does what it is asked."""

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self

ANSWERS_PER_SECOND = 20  # how often an endless body grows


class Fault(StrEnum):
    """What can come instead of an answer."""

    CUT = "cut"
    NONSENSE = "nonsense"
    SILENCE = "silence"
    ENDLESS = "endless"


class FakeWeb:
    """The server. Its attributes may be set at any time.

    Attributes:
        url: Where it is.
        status: What it answers.
        location: Where it redirects to, when that is set.
        fault: What it does instead.
        paths: Every path that was asked, in order.
    """

    def __init__(self) -> None:
        self.status = 200
        self.location = ""
        self.fault: Fault | None = None
        self.paths: list[str] = []
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, target: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=target, args=args, name="fake-web")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._start(self._answer, connection)

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(1.0)
            try:
                asked = connection.recv(65536).decode("latin-1")
                self.paths.append(asked.split(" ", 2)[1] if asked.count(" ") > 1 else "")
                self._send(connection)
            except OSError:
                return

    def _send(self, connection: socket.socket) -> None:
        if self.fault is Fault.CUT:
            return
        if self.fault is Fault.SILENCE:
            self._closing.wait(10.0)
            return
        if self.fault is Fault.NONSENSE:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            return
        where = f"Location: {self.location}\r\n" if self.location else ""
        length = "" if self.fault is Fault.ENDLESS else "Content-Length: 0\r\n"
        connection.sendall(
            f"HTTP/1.1 {self.status} Chosen\r\n{where}{length}Connection: close\r\n\r\n".encode()
        )
        while self.fault is Fault.ENDLESS and not self._closing.wait(1 / ANSWERS_PER_SECOND):
            connection.sendall(b"x" * 1024)


SECRET = "whsec_c3RhbmNoIHRlYXJzIGFuZCBibG9vZCBhdCAzIGEubS4="  # noqa: S105  (the fake's)


class HookFault(StrEnum):
    """What an endpoint can answer instead."""

    BAD_REQUEST = "bad request"
    FORBIDDEN = "forbidden"
    REDIRECT = "redirect"
    CONFLICT = "conflict"
    THROTTLED = "throttled"
    ERROR_BEFORE = "error before"
    ERROR_AFTER = "error after"
    TIMEOUT_BEFORE = "timeout before"
    TIMEOUT_AFTER = "timeout after"
    CUT_BEFORE = "cut before"
    CUT_AFTER = "cut after"
    PARTIAL = "partial"
    STALE_READ = "stale read"
    ANOTHER = "another"
    NONSENSE = "nonsense"


STATUS = {
    HookFault.BAD_REQUEST: 400,
    HookFault.FORBIDDEN: 403,
    HookFault.REDIRECT: 307,
    HookFault.CONFLICT: 409,
    HookFault.THROTTLED: 429,
    HookFault.ERROR_BEFORE: 503,
    HookFault.ERROR_AFTER: 500,
}
BEFORE = {*STATUS, HookFault.TIMEOUT_BEFORE, HookFault.CUT_BEFORE, HookFault.ANOTHER} - {
    HookFault.ERROR_AFTER
}
SILENT = {HookFault.TIMEOUT_BEFORE, HookFault.TIMEOUT_AFTER}
CUT = {HookFault.CUT_BEFORE, HookFault.CUT_AFTER, HookFault.PARTIAL}


@dataclass(frozen=True)
class Asked:
    """One request that arrived, and whether it changed something."""

    method: str
    path: str
    key: str
    body: dict[str, Any]
    genuine: bool
    changed: bool


class FakeEndpoint:
    """A team's endpoint: ``POST /hook`` brings about what is desired, ``GET /status`` tells how things are.

    Attributes:
        url: Where it is told.
        status_url: Where it is asked.
        state: How things are.
        wanted: What it is working towards.
        problem: Why it does not get there.
        raw_status: Answered instead of the status, when it is set.
        slow: It takes a request and works on it until ``finish``.
        once: It carries out each key once.
        statuses: What a fault is answered with.
        requests: Everything that arrived, in order: the witness.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.state: dict[str, Any] = dict(state or {})
        self.former: dict[str, Any] = dict(self.state)
        self.wanted: dict[str, Any] = {}
        self.problem = ""
        self.raw_status = b""
        self.slow = False
        self.once = False
        self.statuses = dict(STATUS)
        self.requests: list[Asked] = []
        self.closing = threading.Event()
        self._keys: set[str] = set()
        self._faults: list[tuple[HookFault, str]] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"endpoint": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fake-endpoint")
        base = f"http://127.0.0.1:{self._server.server_port}"
        self.url, self.status_url = f"{base}/hook", f"{base}/status"

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

    def fail(self, fault: HookFault, *, times: int = 1) -> None:
        """Let the next requests go wrong: reads where the fault is one of reads, else orders."""
        method = "GET" if fault is HookFault.STALE_READ else "POST"
        self._faults += [(fault, method)] * times

    def orders(self) -> list[Asked]:
        """Give the orders that arrived."""
        return [one for one in self.requests if one.method == "POST"]

    def finish(self) -> None:
        """End the work."""
        self.state |= self.wanted
        self.wanted = {}

    def fault(self, method: str) -> HookFault | None:
        """Take the fault of the next request."""
        with self._lock:
            due = next((one for one in self._faults if one[1] == method), None)
            if due is not None:
                self._faults.remove(due)
            return due[0] if due else None

    def obey(self, order: dict[str, Any], key: str, fault: HookFault | None) -> bool:
        """Do what is asked, or a part of it; say whether that changed something."""
        with self._lock:
            if fault in BEFORE or (self.once and key in self._keys):
                return False
            desired = dict(order["desired"])
            if fault is HookFault.PARTIAL:
                desired.popitem()
            else:
                self._keys.add(key)
            self.former = dict(self.state)
            before = {**self.state, **self.wanted}
            if self.slow:
                self.wanted = desired
            else:
                self.state, self.wanted = self.state | desired, {}
            return {**self.state, **self.wanted} != before


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: ClassVar[FakeEndpoint]

    def do_GET(self) -> None:
        fault = self.endpoint.fault("GET")
        genuine = self._note(b"", changed=False)
        state = self.endpoint.former if fault is HookFault.STALE_READ else self.endpoint.state
        seen = {"state": state, "wanted": self.endpoint.wanted, "problem": self.endpoint.problem}
        said = self.endpoint.raw_status or json.dumps(seen).encode()
        self._say(200 if genuine else 401, said if genuine else {"detail": "not signed"})

    def do_HEAD(self) -> None:
        self._note(b"", changed=False)
        self._say(405, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault, key = self.endpoint.fault("POST"), self.headers["Idempotency-Key"]
        if not self._is_genuine(body):
            self._note(body, changed=False)
            self._say(401, {"detail": "not signed"})
            return
        self._note(body, changed=self.endpoint.obey(json.loads(body), key, fault))
        if fault in SILENT:
            self.endpoint.closing.wait(10.0)
        if fault in SILENT | CUT:
            self.close_connection = True
        elif fault is HookFault.ANOTHER:
            self._say(200, {"welcome": "please log in"})
        elif fault is HookFault.NONSENSE:
            self._say(200, {"action_id": ["?"]})
        elif fault is not None:
            self._say(self.endpoint.statuses[fault], {"detail": f"no: {fault.value}"})
        else:
            self._say(202 if self.endpoint.slow else 200, {"action_id": key})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base's)
        """Say nothing on stderr."""

    def _is_genuine(self, body: bytes) -> bool:
        said = [self.headers.get(name, "") for name in ("webhook-id", "webhook-timestamp")]
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        digest = hmac.new(key, f"{said[0]}.{said[1]}.".encode() + body, hashlib.sha256).digest()
        return self.headers.get("webhook-signature") == f"v1,{base64.b64encode(digest).decode()}"

    def _note(self, body: bytes, *, changed: bool) -> bool:
        genuine = self._is_genuine(body)
        key = self.headers.get("Idempotency-Key", "")
        asked = json.loads(body) if body else {}
        self.endpoint.requests.append(Asked(self.command, self.path, key, asked, genuine, changed))
        return genuine

    def _say(self, status: int, answer: dict[str, Any] | bytes) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        content = b"" if self.command == "HEAD" else content
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if status == STATUS[HookFault.REDIRECT]:
            self.send_header("Location", self.endpoint.url)
        if status == STATUS[HookFault.THROTTLED]:
            self.send_header("Retry-After", "1")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
