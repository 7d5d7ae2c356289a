"""A web service whose answers are chosen: a status, a redirect, or what goes wrong instead."""

import socket
import threading
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Self

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
