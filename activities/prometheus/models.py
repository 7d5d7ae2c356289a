"""What is asked of Prometheus; no HTTP."""

from typing import Annotated, ClassVar, Protocol

from pydantic import Field

from contracts.actions import ProbeRequest
from contracts.base import Frozen
from contracts.plans import Reading


class PrometheusQuery(ProbeRequest[Reading]):
    """What is this expression's value now?

    Attributes:
        source: Its name in the catalogue's ``prometheus``.
        query: PromQL that gives one number: one series or a scalar.
    """

    probe: ClassVar[str] = "prometheus.query"

    source: str
    query: Annotated[str, Field(min_length=1, max_length=10_000)]


class Answered(Frozen):
    """The series of one instant query.

    Attributes:
        values: One for each series, NaN and infinities among them.
        warnings: What Prometheus says of the query besides.
    """

    values: tuple[float, ...]
    warnings: tuple[str, ...] = ()


class QueryService(Protocol):
    """What the probe needs of Prometheus; ``client`` has the real one."""

    def query(self, source: str, query: str) -> Answered:
        """Evaluate an expression now."""
