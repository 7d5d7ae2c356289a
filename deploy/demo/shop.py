"""The shop: a small web service whose errors depend on a flag, on the deployed image, and on nothing else.

It has one database with a pool of connections. A product page makes 2 queries. The recommendations,
which came with image ``shop:v2`` behind the flag ``new-recommendations``, make 500 (in ``shop:v3`` the flag
is forgotten). Each query holds its connection for as long as a real one; so with recommendations on,
the pool runs empty under the usual traffic and requests that wait too long for a connection fail with 500.
Restarted pods give their connections back, and take them all again within seconds.

The flag comes through LaunchDarkly's own server SDK; the pods and their images come from the Kubernetes
API. This one process plays all the pods: each request is answered by the next ready one.
"""

import argparse
import contextlib
import html
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import urllib3
from ldclient import Context, LDClient
from ldclient.config import Config

FLAG = "new-recommendations"
NAMESPACE, DEPLOYMENT = "shop", "web"
FLAGGED, UNFLAGGED = "shop:v2", "shop:v3"  # the images with recommendations; all others have none

POOL_SIZE = 40
POOL_WAIT = 0.25  # seconds that a request waits for a connection
QUERY = 1 / 150  # seconds that one query holds its connection
BATCH = 50  # queries between two looks at the flag
RECOMMENDATIONS = 500  # queries: one per product shown, hence N+1
VISITS = 20.0  # per second: capacity with recommendations is 40 / (500/150) = 12, hence 40 % errors
VISIT_PATIENCE = 10.0  # seconds
LOOK_EVERY = 0.5  # seconds between two looks at the pods

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>The shop</title>
<h1>A very good kettle</h1><p>Boils water. Served by {pod} ({image}).</p>{recommendations}</html>
"""


class PoolTimeoutError(Exception):
    """No connection became free in time."""


@dataclass(frozen=True)
class Pod:
    """One ready pod."""

    name: str
    image: str


class Pool:
    """The connections to the database: ``size`` of them, each held by a request of a pod."""

    def __init__(self, size: int, wait: float) -> None:
        self.size = size
        self._wait = wait
        self._holders: dict[object, str] = {}
        self._freed = threading.Condition()

    @property
    def in_use(self) -> int:
        """How many connections are held."""
        return len(self._holders)

    @contextlib.contextmanager
    def connection(self, pod: str) -> Iterator[object]:
        """Hold one connection for a pod.

        Raises:
            PoolTimeoutError: None became free in time.
        """
        ticket = object()
        with self._freed:
            if not self._freed.wait_for(lambda: len(self._holders) < self.size, self._wait):
                raise PoolTimeoutError(f"no database connection became free within {self._wait} s")
            self._holders[ticket] = pod
        try:
            yield ticket
        finally:
            with self._freed:
                self._holders.pop(ticket, None)
                self._freed.notify()

    def holds(self, ticket: object) -> bool:
        """Say whether the connection is still the holder's: its pod may have been stopped."""
        return ticket in self._holders

    def keep_only(self, pods: set[str]) -> None:
        """Close the connections of all other pods."""
        with self._freed:
            self._holders = {ticket: pod for ticket, pod in self._holders.items() if pod in pods}
            self._freed.notify_all()


class Cluster:
    """The Deployment and its ready pods, as the Kubernetes API last showed them."""

    def __init__(self, url: str, token: str) -> None:
        self.revision = "0"
        self.pods: tuple[Pod, ...] = ()
        self._url = url.rstrip("/")
        self._http = urllib3.PoolManager(
            headers={"Authorization": f"Bearer {token}"}, retries=False, timeout=2.0
        )

    def look(self) -> None:
        """Look once; what cannot be read stays as it was."""
        try:
            deployment = self._get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{DEPLOYMENT}")
            wanted = deployment["spec"]["selector"]["matchLabels"]
            selector = ",".join(f"{name}={value}" for name, value in wanted.items())
            pods = self._get(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=selector)["items"]
            revision = deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
            ready = tuple(
                Pod(pod["metadata"]["name"], pod["spec"]["containers"][0]["image"])
                for pod in pods
                if _is_ready(pod)
            )
        except (urllib3.exceptions.HTTPError, LookupError, TypeError, ValueError) as error:
            print(f"the pods cannot be read: {error!r}", file=sys.stderr)  # noqa: T201  (this is its log)
            return
        self.revision, self.pods = revision, ready

    def _get(self, path: str, **fields: str) -> Any:
        answer = self._http.request("GET", self._url + path, fields=fields)
        if answer.status != 200:  # noqa: PLR2004  (OK)
            raise ValueError(f"{path}: HTTP {answer.status}")
        return answer.json()


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    stopping = "deletionTimestamp" in pod["metadata"]
    return not stopping and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@dataclass
class Shop:
    """The service itself; every method may be called from any thread.

    Attributes:
        query: Seconds that one query holds its connection, on average.
    """

    cluster: Cluster
    flags: LDClient
    pool: Pool
    query: float = QUERY
    responses: Counter[int] = field(default_factory=lambda: Counter({200: 0, 500: 0, 503: 0}))
    seconds: float = 0.0
    queries: int = 0
    _visits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        """See which pods are there now; what a stopped pod held is given back."""
        self.cluster.look()
        self.pool.keep_only({pod.name for pod in self.cluster.pods})

    def flag_is_on(self) -> bool:
        """Ask the SDK; without a connection to LaunchDarkly the feature is off."""
        return bool(self.flags.variation(FLAG, Context.create("shop"), default=False))

    def visit(self) -> tuple[int, str]:
        """Answer one product page: a status code and a text."""
        began = time.monotonic()
        status, text = self._page()
        with self._lock:
            self.responses[status] += 1
            self.seconds += time.monotonic() - began
        return status, text

    def metrics(self) -> str:
        """Give the numbers in Prometheus' text format."""
        image = self.cluster.pods[0].image if self.cluster.pods else ""
        flag = "on" if self.flag_is_on() else "off"
        with self._lock:
            lines = [
                "# TYPE shop_requests_total counter",
                *(f'shop_requests_total{{code="{code}"}} {n}' for code, n in sorted(self.responses.items())),
                "# TYPE shop_request_seconds_total counter",
                f"shop_request_seconds_total {self.seconds:.6f}",
                "# TYPE shop_db_queries_total counter",
                f"shop_db_queries_total {self.queries}",
                "# TYPE shop_db_pool_in_use gauge",
                f"shop_db_pool_in_use {self.pool.in_use}",
                "# TYPE shop_db_pool_size gauge",
                f"shop_db_pool_size {self.pool.size}",
                "# TYPE shop_info gauge",
                f'shop_info{{revision="{self.cluster.revision}",image={json.dumps(image)},flag="{flag}"}} 1',
            ]
        return "\n".join(lines) + "\n"

    def _page(self) -> tuple[int, str]:
        pods = self.cluster.pods
        if not pods:
            return 503, "no pod is ready\n"
        with self._lock:
            self._visits += 1
            turn = self._visits
        pod = pods[turn % len(pods)]
        query = self.query * (0.4 + turn * 7 % 13 / 10)  # 0.4 to 1.6 times, or requests would march in step
        try:
            with self.pool.connection(pod.name) as connection:
                self._query(2, query)
                recommendations = ""
                if self._recommends(pod):
                    self._recommend(pod, connection, query)
                    recommendations = "<p>Others also bought 500 other things.</p>"
        except PoolTimeoutError as error:
            return 500, f"{error}\n"
        pod_name, image = html.escape(pod.name), html.escape(pod.image)
        return 200, PAGE.format(pod=pod_name, image=image, recommendations=recommendations)

    def _recommends(self, pod: Pod) -> bool:
        return pod.image == UNFLAGGED or (pod.image == FLAGGED and self.flag_is_on())

    def _recommend(self, pod: Pod, connection: object, query: float) -> None:
        """One query for each product: the bug."""
        for _ in range(RECOMMENDATIONS // BATCH):
            if not (self.pool.holds(connection) and self._recommends(pod)):
                return
            self._query(BATCH, query)

    def _query(self, count: int, seconds: float) -> None:
        with self._lock:
            self.queries += count
        time.sleep(count * seconds)


class Handler(BaseHTTPRequestHandler):
    """The shop's HTTP."""

    shop: Shop

    def do_GET(self) -> None:
        """Answer the product page, the numbers or the health."""
        kind = "text/plain; charset=utf-8"
        if self.path == "/":
            kind = "text/html; charset=utf-8"
            status, text = self.shop.visit()
        elif self.path == "/metrics":
            status, text, kind = 200, self.shop.metrics(), "text/plain; version=0.0.4"
        elif self.path == "/healthz":
            ready = bool(self.shop.cluster.pods) and self.shop.flags.is_initialized()
            status, text = (200, "ok\n") if ready else (503, "no pod is ready, or the flags are not there\n")
        else:
            status, text = 404, "not found\n"
        body = text.encode()
        with contextlib.suppress(ConnectionError):  # a visitor may have left
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is the base class's)
        """Write no line per request."""


class Server(ThreadingHTTPServer):
    """One thread per request; more of them wait at once than the library expects."""

    daemon_threads = True
    request_queue_size = 128


def send_visitors(url: str, per_second: float, stop: threading.Event) -> None:
    """Visit the shop at a steady rate, whether or not the earlier visitors have been answered."""
    http = urllib3.PoolManager(retries=False, timeout=VISIT_PATIENCE)

    def visit() -> None:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            http.request("GET", url, headers={"Connection": "close"})

    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        threading.Thread(target=visit, daemon=True).start()
        due = max(due + 1 / per_second, time.monotonic() - 1.0)  # after a pause of the machine no stampede


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo.shop",
        description="The demo shop. SHOP_K8S_TOKEN and SHOP_LD_SDK_KEY hold its two credentials.",
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--k8s", required=True, help="URL of the Kubernetes API")
    parser.add_argument("--ld-stream", required=True, help="base URL of LaunchDarkly's SDK stream")
    parser.add_argument(
        "--visits", type=float, default=VISITS, help="built-in visitors per second; 0 for none"
    )
    options = parser.parse_args(argv)
    missing = {"SHOP_K8S_TOKEN", "SHOP_LD_SDK_KEY"} - os.environ.keys()
    if missing:
        parser.error(f"set {' and '.join(sorted(missing))}")

    flags = LDClient(
        Config(
            os.environ["SHOP_LD_SDK_KEY"],
            base_uri=options.ld_stream,
            stream_uri=options.ld_stream,
            events_uri=options.ld_stream,
            send_events=False,
            diagnostic_opt_out=True,
            initial_reconnect_delay=0.2,
        )
    )
    shop = Shop(Cluster(options.k8s, os.environ["SHOP_K8S_TOKEN"]), flags, Pool(POOL_SIZE, wait=POOL_WAIT))
    shop.look()
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    Handler.shop = shop
    server = Server(("127.0.0.1", options.port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if options.visits:
        url = f"http://127.0.0.1:{options.port}/"
        threading.Thread(target=send_visitors, args=(url, options.visits, stop), daemon=True).start()
    while not stop.wait(LOOK_EVERY):
        shop.look()
    server.shutdown()
    flags.close()  # type: ignore[no-untyped-call]  # the SDK's own method has no types


if __name__ == "__main__":
    main()
