"""The OpenTelemetry SDK and its exporters: imported only where an endpoint is configured."""

import threading
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from temporalio import activity
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin, create_tracer_provider
from temporalio.plugin import SimplePlugin
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

# A collector that does not answer must not hold up the end of a process for longer.
FLUSH_WITHIN = 2.0
# Seconds: from what a person does not notice to what a verification may take.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


def start_tracing(service: str) -> Callable[[], None]:
    """Export spans from now on, and give what exports the last ones."""
    provider = create_tracer_provider(resource=_resource(service))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return lambda: _within(FLUSH_WITHIN, provider.force_flush)


def start_measuring(service: str) -> Callable[[], None]:
    """Export metrics from now on, and give what exports the last ones."""
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    provider = MeterProvider(resource=_resource(service), metric_readers=[reader])
    metrics.set_meter_provider(provider)
    return lambda: _within(FLUSH_WITHIN, provider.force_flush)


def tracing_plugin() -> SimplePlugin:
    """Give what carries a trace through workflows and activities, with a span for each."""
    return OpenTelemetryPlugin(add_temporal_spans=True)


def _resource(service: str) -> Resource:
    return Resource.create({"service.name": service})


def _within(seconds: float, flush: Callable[[], object]) -> None:
    """Flush, but not for ever: the exporters' own time-outs do not hold while they try again."""
    thread = threading.Thread(target=flush, name="last telemetry", daemon=True)
    thread.start()
    thread.join(seconds)


class Measuring(Interceptor):
    """Measures how long each activity takes, and how it ends."""

    def __init__(self) -> None:
        self._took = metrics.get_meter("stanch").create_histogram(
            "stanch.activity.duration",
            unit="s",
            description="Time of one attempt of an activity, by activity and outcome.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002  (the SDK's own name)
        """Wrap every activity."""
        return _Measured(next, self._took)


class _Measured(ActivityInboundInterceptor):
    def __init__(self, inner: ActivityInboundInterceptor, took: metrics.Histogram) -> None:
        super().__init__(inner)
        self._took = took

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002  (the SDK's own name)
        began = time.monotonic()
        outcome = "failed"
        try:
            result = await super().execute_activity(input)
            outcome = "done"
        finally:
            told = {"activity": activity.info().activity_type, "outcome": outcome}
            self._took.record(time.monotonic() - began, told)
        return result
