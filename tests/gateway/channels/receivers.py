"""A mail server and a webhook's receiver on loopback, real as far as a client can tell, that fail as told."""

import base64
import ipaddress
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ACCOUNT = ("stanch", "s3cret word")
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


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
    signed_in: int = 0


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


def certificate(
    folder: Path, *, of: str = "127.0.0.1", until: datetime = datetime(2100, 1, 1, tzinfo=UTC)
) -> Path:
    """Make a key and a certificate of an address or a name, its own authority, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, of)])
    try:
        its: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(of))
    except ValueError:
        its = x509.DNSName(of)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(_LONG_AGO)
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([its]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{made.serial_number}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


def _context(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


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
def mail_server(  # noqa: C901  (the words of SMTP, one by one)
    pem: Path | None = None, *, implicit: bool = False
) -> Iterator[Mailbox]:
    """Serve SMTP until the end of the block.

    Args:
        pem: Key and certificate; with them mail is taken only in TLS and from who has signed in.
        implicit: Begin with TLS, not with STARTTLS.
    """
    box = Mailbox()

    class Talk(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")

        def in_tls(self, context: ssl.SSLContext) -> None:
            self.connection = context.wrap_socket(self.request, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb", buffering=0)

        def handle(self) -> None:
            try:
                self.talk()
            except (ssl.SSLError, ConnectionError):
                return  # the client does not like our certificate, and is gone
            finally:
                self.connection.close()

        def talk(self) -> None:  # noqa: C901, PLR0912  (the words of SMTP, one by one)
            fate, is_safe, is_known = box.next(), implicit or pem is None, pem is None
            if fate == "hang":
                box.over.wait(20)
                return
            if implicit and pem is not None:
                self.in_tls(_context(pem))
            self.say("220 ready")
            while line := self.rfile.readline().decode().strip():
                verb = line.upper()
                if verb.startswith("EHLO"):
                    self.say("250-here")
                    if pem is not None:
                        self.say("250-AUTH PLAIN" if is_safe else "250-STARTTLS")
                    self.say("250 8BITMIME")
                elif verb == "STARTTLS" and pem is not None:
                    self.say("220 go on")
                    self.in_tls(_context(pem))
                    is_safe = True
                elif verb.startswith("AUTH PLAIN"):
                    said = base64.b64decode(line.split()[2]).decode().split("\0")[1:]
                    is_known = is_safe and tuple(said) == ACCOUNT
                    box.signed_in += is_known
                    self.say("235 welcome" if is_known else "535 5.7.8 that is not your password")
                elif verb.startswith("MAIL") and not is_known:
                    self.say("530 5.7.0 sign in first")
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
def hook_server(pem: Path | None = None) -> Iterator[Hooks]:
    """Serve a webhook until the end of the block, by HTTPS where there is a key and a certificate."""
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

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing of a client that does not like our certificate."""

    server = Server(("127.0.0.1", 0), Handler)
    if pem is not None:
        listening = _context(pem).wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.socket = listening
    hooks.port = server.server_address[1]
    with _served(server, hooks):
        yield hooks
