"""Prometheus over its HTTP API."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlencode

import urllib3
from pydantic import Field, ValidationError

from activities import wire
from activities.prometheus.models import Answered
from contracts.base import Frozen
from contracts.catalogue import Prometheus
from contracts.errors import ActionRefusedError, ProviderUnavailableError, one_line

LARGEST_ANSWER = 4 * 1024 * 1024  # bytes; an answer of one series has some hundred
LONGEST_SAID = 300  # characters of Prometheus' own words that go into our sentence
ModelT = TypeVar("ModelT", bound=Frozen)


class _Sample(Frozen):
    value: tuple[float, float] | None = None


class _Vector(Frozen):
    kind: Literal["vector"] = Field(alias="resultType")
    result: tuple[_Sample, ...]


class _Scalar(Frozen):
    kind: Literal["scalar"] = Field(alias="resultType")
    result: tuple[float, float]


class _Other(Frozen):
    kind: Literal["matrix", "string"] = Field(alias="resultType")


class _Success(Frozen):
    status: Literal["success"]
    data: Annotated[_Vector | _Scalar | _Other, Field(discriminator="kind")]
    warnings: tuple[str, ...] = ()


class _Failure(Frozen):
    error: str = ""


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
        success = _parsed(_Success, answer.content)
        if success is None:
            raise ProviderUnavailableError(
                f"{source}: its answer is not Prometheus'; is {url} the right address?"
            )
        data, asked = success.data, one_line(query, LONGEST_SAID)
        warnings = tuple(one_line(warning, LONGEST_SAID) for warning in success.warnings[:3])
        if isinstance(data, _Scalar):
            return Answered(values=(data.result[1],), warnings=warnings)
        if isinstance(data, _Other):
            raise ActionRefusedError(f"{source}: {asked} gives a {data.kind}; make it an instant vector")
        values = [sample.value[1] for sample in data.result if sample.value is not None]
        if len(values) < len(data.result):
            raise ActionRefusedError(f"{source}: {asked} gives a histogram; make it a number")
        return Answered(values=tuple(values), warnings=warnings)


def _error(source: str, query: str, answer: wire.Answer) -> ActionRefusedError | ProviderUnavailableError:
    failure, status = _parsed(_Failure, answer.content), answer.status
    said = f": {one_line(failure.error, LONGEST_SAID)}" if failure and failure.error else ""
    # Prometheus answers 503 when a query takes too long and 422 when it cannot be carried out at all.
    again = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    if status in again or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ProviderUnavailableError(f"{source}: answered {status}{said}")
    if answer.redirects:
        return ActionRefusedError(f"{source}: redirects elsewhere; put the final address into the catalogue")
    return ActionRefusedError(f"{source}: {one_line(query, LONGEST_SAID)} was refused with {status}{said}")


def _parsed(model: type[ModelT], content: bytes) -> ModelT | None:
    try:
        return model.model_validate_json(content)
    except ValidationError:
        return None
