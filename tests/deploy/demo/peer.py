"""A server for the alerters to scrape and to tell, and what a real Alertmanager said to one."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CAPTURED = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "alertmanager-0.25.jsonl").read_text().splitlines()
]


@dataclass
class Peer:
    """A small server: answers GET with ``metrics``, POST with the next of ``statuses``; keeps the posts."""

    url: str = ""
    metrics: str = ""
    statuses: list[int] = field(default_factory=list)
    posts: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)

    def wait(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many posts have come; give their bodies."""
        deadline = time.monotonic() + 10
        while len(self.posts) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return [body for _, body in self.posts]


def shape(value: Any) -> Any:
    """Give the keys and types of JSON; maps of free names keep only their types."""
    if isinstance(value, list):
        return [shape(value[0])]
    if isinstance(value, dict) and value.keys() & {"alertname", "summary"}:
        return {type(each) for each in value.values()}
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return type(value)


@contextmanager
def serving() -> Iterator[Peer]:
    """A server to scrape and to tell."""
    peer = Peer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = peer.metrics.encode()
            self.send_response(200 if body else 500)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            peer.posts.append((dict(self.headers), body))
            self.send_response(peer.statuses.pop(0) if peer.statuses else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        peer.url = f"http://127.0.0.1:{server.server_port}"
        yield peer
        server.shutdown()
        thread.join()
