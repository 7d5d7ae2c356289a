"""One battery for the fake and for Debian's real Prometheus: the same answers, the same readings."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from activities.prometheus import PrometheusQuery, PrometheusQueryProbe
from activities.prometheus.client import PrometheusClient
from activities.prometheus.fake import FakePrometheus
from contracts.catalogue import Prometheus
from contracts.errors import ActionRefusedError

PROGRAM = shutil.which("prometheus")
LABELS = {"instance": "shop", "job": "app"}
UNCLOSED = "1:8: parse error: unexpected end of input inside braces"
UNMATCHED = (
    "found duplicate series for the match group {} on the right hand-side of the operation: "
    '[{__name__="requests", instance="shop", job="app", region="us"}, '
    '{__name__="requests", instance="shop", job="app", region="eu"}]'
    ";many-to-many matching not allowed: matching labels must be unique on one side"
)

UNPROCESSABLE = 422  # the words name the series in the order in which it met them, which is chance

# What is asked, the value that is read, and the reading's detail or the refusal.
EXPECTED: list[tuple[str, float | None, str]] = [
    ("error_ratio", 0.25, ""),
    ("sum(requests)", 7.0, ""),
    ("scalar(error_ratio)", 0.25, ""),
    ("nothing_like_this", None, "no data"),
    ("idle", None, "no data (nan)"),
    ("error_ratio / 0", None, "no data (inf)"),
    ("-error_ratio / 0", None, "no data (-inf)"),
    ("requests", None, "gives 2 series; aggregate it to one"),
    ("error_ratio[1s]", None, "gives a matrix; make it an instant vector"),
    ('"text"', None, "gives a string; make it an instant vector"),
    ("errors{", None, f'was refused with 400: invalid parameter "query": {UNCLOSED}'),
    ("requests * on() requests", None, f"was refused with 422: {UNMATCHED}"[:322]),
]
QUERIES = [query for query, *_ in EXPECTED]


def normal(found: tuple[str, float | None, str]) -> tuple[str, float | None, str]:
    """Leave out what is chance."""
    query, value, words = found
    return query, value, words.partition(": found duplicate series")[0]


def prepare(fake: FakePrometheus) -> None:
    """Let the fake hold what the real one scrapes."""
    fake.set("error_ratio", ({"__name__": "error_ratio", **LABELS}, "0.25"))
    fake.set("sum(requests)", ({}, "7"))
    fake.set_plain("scalar(error_ratio)", "scalar", "0.25")
    fake.set("idle", ({"__name__": "idle", **LABELS}, "NaN"))
    fake.set("error_ratio / 0", (LABELS, "+Inf"))
    fake.set("-error_ratio / 0", (LABELS, "-Inf"))
    fake.set(
        "requests",
        *(({"__name__": "requests", **LABELS, "region": name}, n) for name, n in (("eu", "3"), ("us", "4"))),
    )
    fake.set_matrix("error_ratio[1s]", {"__name__": "error_ratio", **LABELS}, "0.25")
    fake.set_plain('"text"', "string", "text")
    fake.refuse("errors{", 400, "bad_data", f'invalid parameter "query": {UNCLOSED}')
    fake.refuse("requests * on() requests", 422, "execution", UNMATCHED)


def serve_metrics(stack: ExitStack) -> int:
    """Serve three metrics; give the port."""
    registry = CollectorRegistry()
    Gauge("error_ratio", "Failed requests in all requests.", registry=registry).set(0.25)
    Gauge("idle", "Not measured.", registry=registry).set(float("nan"))
    requests = Gauge("requests", "Requests now.", ["region"], registry=registry)
    requests.labels("eu").set(3)
    requests.labels("us").set(4)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return int(server.server_port)


def start_prometheus(stack: ExitStack, home: Path) -> str:
    """Start Debian's Prometheus on a free port, and wait until it has scraped."""
    assert PROGRAM
    app = serve_metrics(stack)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    scrape = {
        "job_name": "app",
        "static_configs": [{"targets": [f"127.0.0.1:{app}"], "labels": {"instance": "shop"}}],
    }
    config = {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, "scrape_configs": [scrape]}
    (home / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    process = subprocess.Popen(
        [
            PROGRAM,
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ],
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if raw(url, "requests")[1]["data"]["result"]:
                return url
        except (urllib3.exceptions.HTTPError, ValueError, KeyError):
            pass
        time.sleep(0.1)
    raise AssertionError("Prometheus did not scrape within 20 s")


def raw(url: str, query: str) -> tuple[int, Any]:
    """Give status and body of a query."""
    with urllib3.PoolManager(retries=False) as http:
        response = http.request(
            "POST", f"{url}/api/v1/query", fields={"query": query}, encode_multipart=False
        )
        return response.status, response.json()


def shape(answer: Any) -> Any:
    """Give an answer without its times, and its series in order."""
    if isinstance(answer, dict):
        return {name: shape(value) for name, value in sorted(answer.items())}
    if isinstance(answer, list) and len(answer) == 2 and isinstance(answer[0], float | int):
        return ["a time", answer[1]]
    if isinstance(answer, list):
        return sorted({json.dumps(shape(value), sort_keys=True) for value in answer})
    return answer


def battery(url: str) -> list[tuple[str, float | None, str]]:
    """Ask everything through the probe; give query, value, and the reading's detail or the refusal."""
    client = PrometheusClient([Prometheus(name="main", url=url)])
    probe = PrometheusQueryProbe(client, lambda: datetime.now(UTC))
    found: list[tuple[str, float | None, str]] = []
    with closing(client):
        for query in QUERIES:
            try:
                reading = probe.look(PrometheusQuery(source="main", query=query))
            except ActionRefusedError as refused:
                found.append((query, None, str(refused).removeprefix(f"main: {query} ")))
            else:
                found.append((query, reading.value, reading.detail))
    return found


@pytest.fixture
def fake() -> Iterator[FakePrometheus]:
    """The fake with the battery's metrics."""
    with FakePrometheus(lambda: datetime.now(UTC)) as fake:
        prepare(fake)
        yield fake


def test_fake(fake: FakePrometheus) -> None:
    """One series or scalar is the value; no number is no data; what is not one number is refused."""
    assert battery(fake.url) == EXPECTED


@pytest.mark.skipif(PROGRAM is None, reason="Debian's prometheus is not installed")
def test_real_one(fake: FakePrometheus, tmp_path: Path) -> None:
    """Debian's Prometheus passes the same battery, and its answers equal the fake's, times aside."""
    with ExitStack() as stack:
        url = start_prometheus(stack, tmp_path)
        found = battery(url)
        answers = [(raw(fake.url, query), raw(url, query)) for query in QUERIES]

    assert [normal(one) for one in found] == [normal(one) for one in EXPECTED]
    for (status, body), (real_status, real_body) in answers:
        if status == UNPROCESSABLE:
            body["error"] = real_body["error"]
        assert (status, shape(body)) == (real_status, shape(real_body))
