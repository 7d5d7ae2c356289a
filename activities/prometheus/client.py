"""Prometheus over its HTTP API."""

from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlencode

import urllib3

from activities import wire
from activities.prometheus.models import Answered
from contracts.catalogue import Prometheus
from contracts.errors import ActionRefusedError, ProviderUnavailableError, one_line

LARGEST_ANSWER = 4 * 1024 * 1024  # bytes; an answer of one series has some hundred
LONGEST_SAID = 300  # characters of Prometheus' own words that go into our sentence
NO_NUMBER = {"matrix", "string"}
KINDS = {"vector", "scalar"} | NO_NUMBER


class PrometheusClient:
    """What the catalogue's Prometheus servers answer. Used from threads.

    Args:
        sources: The catalogue's query APIs; a path in the URL is kept.
        connect_timeout: Seconds.
        read_timeout: Seconds; Prometheus is told to give up a query after the same time.
    """

    def __init__(
        self, sources: Iterable[Prometheus], *, connect_timeout: float = 2.0, read_timeout: float = 5.0
    ) -> None:
        self._sources = {source.name: source.url.rstrip("/") for source in sources}
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._http = urllib3.PoolManager(retries=False, maxsize=4)

    def close(self) -> None:
        """Let go of every connection."""
        self._http.clear()

    def query(self, source: str, query: str) -> Answered:
        """Evaluate an expression now.

        Raises:
            ActionRefusedError: There is no such source, or the expression is wrong or gives no number.
            ProviderUnavailableError: No usable answer.
        """
        url = self._sources.get(source)
        if url is None:
            raise ActionRefusedError(f"Prometheus {source}: not in the catalogue")
        answer = wire.exchange(
            self._http,
            "POST",
            f"{url}/api/v1/query",
            what=source,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode({"query": query, "timeout": f"{self._read_timeout:g}s"}).encode(),
            connect=self._connect_timeout,
            read=self._read_timeout,
            largest=LARGEST_ANSWER,
        )
        if answer.status != HTTPStatus.OK:
            raise _error(source, query, answer)
        asked = one_line(query, LONGEST_SAID)
        wrong = f"{source}: its answer is not Prometheus'; is {url} the right address?"
        with wire.reading(answer.content, wrong) as said:
            kind, result = said["data"]["resultType"], said["data"]["result"]
            if (said["status"], kind in KINDS) != ("success", True):
                raise ValueError(kind)
            if kind in NO_NUMBER:
                raise ActionRefusedError(f"{source}: {asked} gives a {kind}; make it an instant vector")
            samples = [result] if kind == "scalar" else [sample.get("value") for sample in result]
            if None in samples:
                raise ActionRefusedError(f"{source}: {asked} gives a histogram; make it a number")
            warnings = [one_line(warning, LONGEST_SAID) for warning in (said.get("warnings") or ())[:3]]
            return Answered(values=tuple(value for _, value in samples), warnings=tuple(warnings))


def _error(source: str, query: str, answer: wire.Answer) -> ActionRefusedError | ProviderUnavailableError:
    words, status = answer.field("error"), answer.status
    said = f": {one_line(words, LONGEST_SAID)}" if isinstance(words, str) and words else ""
    # Prometheus answers 503 when a query takes too long and 422 when it cannot be carried out at all.
    again = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    if status in again or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ProviderUnavailableError(f"{source}: answered {status}{said}")
    if answer.redirects:
        return ActionRefusedError(f"{source}: redirects elsewhere; put the final address into the catalogue")
    return ActionRefusedError(f"{source}: {one_line(query, LONGEST_SAID)} was refused with {status}{said}")
