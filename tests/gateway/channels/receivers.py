"""A mail server and a webhook's receiver on loopback, real as far as a client can tell, that fail as told."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """What arrived, and what is done with what arrives next.

    Attributes:
        plan: What the next deliveries meet, in order; when it is empty, all is well. ``hang`` waits until the
            receiver ends, ``cut`` takes it and closes without an answer, a number is the answer's code.
    """

    port: int = 0
    plan: list[str | int] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    tries: int = 0

    def next(self) -> str | int:
        """Give what happens to this delivery."""
        self.tries += 1
        return self.plan.pop(0) if self.plan else "ok"


@dataclass
class Mailbox(Receiver):
    """What a mail server has taken."""

    mails: list[EmailMessage] = field(default_factory=list)


@dataclass
class Posted:
    """One POST as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Hooks(Receiver):
    """What a webhook has taken."""

    posts: list[Posted] = field(default_factory=list)


@contextmanager
def _served(server: socketserver.BaseServer, receiver: Receiver) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        receiver.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def mail_server() -> Iterator[Mailbox]:  # noqa: C901  (the words of SMTP, one by one)
    """Serve SMTP until the end of the block."""
    box = Mailbox()

    class Talk(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")

        def handle(self) -> None:
            fate = box.next()
            if fate == "hang":
                box.over.wait(20)
                return
            self.say("220 ready")
            while line := self.rfile.readline().decode().strip():
                verb = line.upper()
                if verb.startswith("EHLO"):
                    self.say("250-here")
                    self.say("250 8BITMIME")
                elif verb.startswith("RCPT") and isinstance(fate, int):
                    self.say(f"{fate} not this one")
                elif verb == "DATA":
                    self.say("354 go on")
                    self.take()
                    if fate == "cut":
                        return
                    self.say("250 taken")
                elif verb == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 fine")

        def take(self) -> None:
            lines = []
            while (line := self.rfile.readline()) not in {b".\r\n", b""}:
                lines.append(line)
            box.mails.append(message_from_bytes(b"".join(lines), policy=policy.default))

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk)
    box.port = server.server_address[1]
    with _served(server, box):
        yield box


@contextmanager
def hook_server() -> Iterator[Hooks]:
    """Serve a webhook until the end of the block."""
    hooks = Hooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            fate = hooks.next()
            body = self.rfile.read(int(self.headers["content-length"]))
            if fate == "hang":
                hooks.over.wait(20)
                return
            hooks.posts.append(Posted(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            if fate == "cut":
                return
            code = fate if isinstance(fate, int) else 200
            self.send_response(code)
            if code == 302:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hooks.port = server.server_address[1]
    with _served(server, hooks):
        yield hooks
