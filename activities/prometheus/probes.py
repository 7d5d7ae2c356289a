"""What can be measured."""

import math
from collections.abc import Callable
from datetime import datetime

from activities.prometheus.models import PrometheusQuery, QueryService
from contracts.actions import Probe
from contracts.errors import ActionRefusedError
from contracts.plans import Reading


class PrometheusQueryProbe(Probe[PrometheusQuery, Reading]):
    """Takes one reading.

    Nothing, NaN and infinities are no data: the value is ``None``, never zero. The reading's time is ours, so
    that readings of several sources can be compared.
    """

    request_type = PrometheusQuery

    def __init__(self, service: QueryService, clock: Callable[[], datetime]) -> None:
        self._service = service
        self._clock = clock

    def look(self, request: PrometheusQuery) -> Reading:
        """Look once."""
        answered = self._service.query(request.source, request.query)
        if len(answered.values) > 1:
            raise ActionRefusedError(
                f"{request.source}: {request.query[:300]} gives {len(answered.values)} series; "
                "aggregate it to one"
            )
        details = list(answered.warnings)
        value: float | None = next(iter(answered.values), None)
        if value is None:
            details.insert(0, "no data")
        elif not math.isfinite(value):
            details.insert(0, f"no data ({value})")
            value = None
        return Reading(value=value, at=self._clock(), detail="; ".join(details))
