"""Spans for what comes in; free while nobody has configured OpenTelemetry."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.context import Context

_TRACER = trace.get_tracer("stanch.gateway")


@contextmanager
def span(name: str, parent: Mapping[str, str], **attributes: str) -> Iterator[dict[str, str]]:
    """Open a span below a W3C carrier and give the carrier of the new span, empty when nothing is traced.

    The request's own span, which FastAPI makes, comes in between when it is of the same trace or there is no
    other; else it is linked: an incident stays one trace, whoever asks for something in it.
    """
    above: Context | None = propagate.extract(parent)
    wanted = trace.get_current_span(above).get_span_context()
    request = trace.get_current_span().get_span_context()
    links = []
    if request.is_valid:
        if not wanted.is_valid or wanted.trace_id == request.trace_id:
            above = None
        else:
            links = [trace.Link(request)]
    with _TRACER.start_as_current_span(name, context=above, attributes=attributes, links=links):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        yield carrier
