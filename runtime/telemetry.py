"""OpenTelemetry and logs: exported when an endpoint is configured, and free when it is not."""

import json
import logging
import sys
from collections.abc import Callable

from contracts.errors import StanchError
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
    """Export traces and metrics over OTLP where OpenTelemetry's own variables name an endpoint.

    Args:
        service: The process's name in the traces, for example ``stanch-worker``.

    Returns:
        What to call at the end, so that nothing is lost.
    """
    if not (settings.exports_traces() or settings.exports_metrics()):
        return lambda: None
    from runtime import otlp  # noqa: PLC0415  (0.2 s and 15 MB that only those pay who export)

    ends: list[Callable[[], None]] = []
    if settings.exports_traces():
        ends.append(otlp.start_tracing(service))
    if settings.exports_metrics():
        ends.append(otlp.start_measuring(service))

    def stop() -> None:
        for end in ends:
            end()

    return stop


def run(name: str, program: Callable[[], None]) -> int:
    """Run one of our programs, with its logs and its telemetry.

    Returns:
        0 when it has ended, 1 when an error ended it, with one sentence on standard error.
    """
    log_to_stderr()
    finish = start(f"stanch-{name}")
    try:
        program()
    except (StanchError, RuntimeError) as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201  (a program's last word)
        return 1
    finally:
        finish()
        sys.stderr.flush()
    return 0
