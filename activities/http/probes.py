"""What can be seen of a URL."""

from collections.abc import Callable
from datetime import datetime

from activities.http.models import HttpCheck, WebService
from contracts.actions import Probe
from contracts.plans import Reading


class HttpCheckProbe(Probe[HttpCheck, Reading]):
    """Asks a URL as a user would, once and without following redirects.

    No answer counts as unhealthy, since that is what users get; only a name that cannot be resolved from here
    is no data.
    """

    request_type = HttpCheck

    def __init__(self, service: WebService, clock: Callable[[], datetime]) -> None:
        self._service = service
        self._clock = clock

    def look(self, request: HttpCheck) -> Reading:
        """Look once."""
        answer = self._service.get(request.url, request.timeout)
        took = f"{answer.seconds * 1000:.0f} ms"
        if not answer.known:
            return Reading(value=None, at=self._clock(), detail=f"no data: {answer.problem}")
        if answer.status is None:
            return Reading(value=0.0, at=self._clock(), detail=f"no answer in {took}: {answer.problem}")
        low, high = request.expect_status
        if low <= answer.status <= high:
            return Reading(value=1.0, at=self._clock(), detail=f"{answer.status} in {took}")
        expected = str(low) if low == high else f"{low} to {high}"
        return Reading(value=0.0, at=self._clock(), detail=f"{answer.status} in {took}, expected {expected}")
