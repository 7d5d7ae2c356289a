"""OpenTelemetry and logs: exported when an endpoint is configured, and free when it is not."""

import json
import logging
import sys
from collections.abc import Callable

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from temporalio.contrib.opentelemetry import create_tracer_provider

from runtime import settings


class JsonLines(logging.Formatter):
    """One JSON object a line: text from outside can never forge a second line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send all logs to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def start(service: str) -> Callable[[], None]:
    """Export traces and metrics over OTLP when ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set.

    Args:
        service: The process's name in the traces, for example ``stanch-worker``.

    Returns:
        What to call at the end, so that nothing is lost.
    """
    if not settings.exports_telemetry():
        return lambda: None
    resource = Resource.create({"service.name": service})
    tracing = create_tracer_provider(resource=resource)
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracing)
    measuring = MeterProvider(
        resource=resource, metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())]
    )
    metrics.set_meter_provider(measuring)

    def stop() -> None:
        tracing.force_flush(5000)
        measuring.shutdown()

    return stop
