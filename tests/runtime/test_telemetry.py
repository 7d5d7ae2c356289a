"""One trace per incident, from the alert's POST to the provider's request; free when nobody asks for it."""

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from contracts.incidents import Phase
from runtime import telemetry
from tests.runtime.product import Product, product, until

CALLERS_TRACE = "0af7651916cd43dd8448eb211c80319c"
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_METRIC_EXPORT_INTERVAL": "1000"}


class Collector:
    """An OTLP/HTTP receiver that keeps what arrives."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.measured: set[tuple[str, str]] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the library's name)
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, path: str, body: bytes) -> None:
        """Keep one export."""
        if path == "/v1/traces":
            for spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = _service(spans)
                self.spans += [(service, span) for scope in spans.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                service = _service(metrics)
                self.measured |= {
                    (service, metric.name) for scope in metrics.scope_metrics for metric in scope.metrics
                }

    def names(self, trace: str) -> set[tuple[str, str]]:
        """Give service and name of every span of a trace."""
        return {(service, span.name) for service, span in self.spans if span.trace_id.hex() == trace}


def _service(exported: Any) -> str:
    named = {attribute.key: attribute.value.string_value for attribute in exported.resource.attributes}
    return str(named["service.name"])


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Give a collector that takes everything."""
    with Collector() as running:
        yield running


def lead(running: Product) -> None:
    """Lead one incident to its postmortem, the first plan rejected and the second approved."""
    running.alert("s0", trace=f"00-{CALLERS_TRACE}-b7ad6b7169203331-01")
    incident = until(lambda: running.incident("s0"))
    running.alert("s0", name="Slow")
    running.acknowledge(incident.id)
    first = until(lambda: running.asked(incident.id))
    running.reject(first)
    running.break_service("s0", 0.001)
    running.approve(until(lambda: running.asked(incident.id)))
    in_phase(running, Phase.MONITORING)
    running.alert("s0", "resolved")
    running.alert("s0", "resolved", name="Slow")
    in_phase(running, Phase.LEARNING)


def in_phase(running: Product, phase: Phase) -> None:
    """Wait until the incident is in a phase."""

    def look() -> bool:
        incident = running.incident("s0")
        return incident is not None and incident.phase is phase

    until(look, what=phase)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_one_incident_is_one_trace(tmp_path: Path, collector: Collector) -> None:
    """The sender's trace holds delivery, workflows, activities, decisions and the provider's call."""
    with product(tmp_path, environ=QUICK | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) as running:
        running.start()
        lead(running)
        assert running.stop() == 0
    wanted = {
        ("stanch-gateway", "alert delivery"),
        ("stanch-gateway", "deliver incident.alerts"),
        ("stanch-gateway", "decision"),
        ("stanch-gateway", "deliver mitigation.decision"),
        ("stanch-worker", "RunWorkflow:Incident"),
        ("stanch-worker", "RunWorkflow:Mitigation"),
        ("stanch-worker", "HandleUpdate:decide"),
        ("stanch-worker", "launchdarkly.set_flag"),
    }
    activities = (
        "plan",
        "run_step",
        "verify_step",
        "monitor",
        "record",
        "close_approval",
        "write_postmortem",
    )
    wanted |= {("stanch-worker", f"RunActivity:stanch.{name}") for name in activities}
    deliveries = [span for _, span in collector.spans if span.name == "deliver incident.alerts"]
    # The second alert came without a trace, and so with one of its own, which ends where it is stored.
    its_own = next(span for span in deliveries if span.links).links[0].trace_id.hex()

    assert wanted - collector.names(CALLERS_TRACE) == set()
    assert ("stanch-gateway", "alert delivery") in collector.names(its_own)
    assert {name for _, name in collector.names(its_own) if name.startswith("deliver")} == set()
    assert {service for service, _ in collector.names(its_own)} == {"stanch-gateway"}
    # A decision is of the incident's trace, and linked to the request that brought it.
    decisions = [span for _, span in collector.spans if span.name == "decision"]
    requests = {span.span_id for _, span in collector.spans if span.name == "fastapi.endpoint"}
    assert [[link.span_id in requests for link in span.links] for span in decisions] == [[True], [True]]
    assert collector.measured >= {
        ("stanch-worker", "stanch.activity.duration"),
        ("stanch-gateway", "stanch.delivery.duration"),
    }


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_silent_collector_holds_nobody_up(tmp_path: Path) -> None:
    """A collector that takes connections and never answers slows neither the incident nor the end."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with product(tmp_path, environ=QUICK | {"OTEL_EXPORTER_OTLP_ENDPOINT": address}) as running:
            running.start()
            lead(running)
            began = time.monotonic()
            assert running.stop() == 0
            took = time.monotonic() - began

    assert "was killed" not in running.said()
    assert took < 10


@pytest.mark.slow
@pytest.mark.parametrize("module", ["worker", "gateway.serve"])
def test_free_when_nothing_is_configured(module: str) -> None:
    """Without an endpoint a process has no OpenTelemetry SDK, no exporter, no thread and no provider."""
    script = f"""
import json, sys, threading
import {module}
from opentelemetry import metrics, trace
from runtime import telemetry, temporal
telemetry.start("stanch-test")()
temporal.plugins()
print(json.dumps({{
    "loaded": [one for one in sys.modules if one.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))],
    "threads": [thread.name for thread in threading.enumerate()],
    "providers": [type(trace.get_tracer_provider()).__name__, type(metrics.get_meter_provider()).__name__],
}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env={})
    seen = json.loads(done.stdout)

    assert seen["loaded"] == []
    assert seen["threads"] == ["MainThread"]
    assert seen["providers"] == ["ProxyTracerProvider", "_ProxyMeterProvider"]


@pytest.mark.parametrize("kind", ["traces", "metrics"])
def test_each_kind_is_exported_alone(kind: str, collector: Collector) -> None:
    """With an endpoint for traces only, or for metrics only, the other kind is not set up and not sent."""
    script = """
from opentelemetry import metrics, trace
from runtime import telemetry, temporal
stop = telemetry.start("stanch-test")
temporal.plugins()
metrics.get_meter("stanch").create_counter("tries").add(1)
with trace.get_tracer("stanch").start_as_current_span("try"):
    pass
stop()
"""
    environ = {f"OTEL_EXPORTER_OTLP_{kind.upper()}_ENDPOINT": f"{collector.url}/v1/{kind}"}
    subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environ)

    assert [span.name for _, span in collector.spans] == (["try"] if kind == "traces" else [])
    assert collector.measured == ({("stanch-test", "tries")} if kind == "metrics" else set())


def test_a_log_line_cannot_be_forged() -> None:
    """Whatever a message holds, a record is one line of JSON, with the traceback in it."""
    error = ValueError("first\nsecond")
    said = ("stanch", logging.ERROR, "", 0, 'said %s\n{"level": "info"}', ("so",))
    record = logging.LogRecord(*said, (type(error), error, None))
    line = telemetry.JsonLines().format(record)
    told = json.loads(line)

    assert "\n" not in line
    assert (told["level"], told["logger"]) == ("error", "stanch")
    assert told["message"] == 'said so\n{"level": "info"}'
    assert "ValueError: first" in told["exception"]
