"""Prometheus over its HTTP API."""

import time
from collections.abc import Iterable
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import urllib3
from pydantic import Field, TypeAdapter, ValidationError
from urllib3.exceptions import HTTPError

from activities.prometheus.models import Answered
from contracts.base import Frozen
from contracts.catalogue import Prometheus
from contracts.errors import ActionRefusedError, ProviderUnavailableError

LARGEST_ANSWER = 4 * 1024 * 1024  # bytes; an answer of one series has some hundred
LARGEST_TEXT = 300  # characters of Prometheus' own words that go into our sentence
OK, REDIRECT, BAD_REQUEST, TIMEOUT, THROTTLED, SERVER_ERROR = 200, 300, 400, 408, 429, 500


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
        status, content = self._post(source, f"{url}/api/v1/query", query)
        if status != OK:
            raise _error(source, query, status, content)
        success = _parsed(TypeAdapter(_Success), content)
        if success is None:
            raise ProviderUnavailableError(
                f"{source}: its answer is not Prometheus'; is {url} the right address?"
            )
        data, asked = success.data, _clean(query)
        warnings = tuple(_clean(warning) for warning in success.warnings[:3])
        if isinstance(data, _Scalar):
            return Answered(values=(data.result[1],), warnings=warnings)
        if isinstance(data, _Other):
            raise ActionRefusedError(f"{source}: {asked} gives a {data.kind}; make it an instant vector")
        values = [sample.value[1] for sample in data.result if sample.value is not None]
        if len(values) < len(data.result):
            raise ActionRefusedError(f"{source}: {asked} gives a histogram; make it a number")
        return Answered(values=tuple(values), warnings=warnings)

    def _post(self, source: str, url: str, query: str) -> tuple[int, bytes]:
        timeout = urllib3.Timeout(connect=self._connect_timeout, read=self._read_timeout)
        deadline = time.monotonic() + self._connect_timeout + self._read_timeout
        form = urlencode({"query": query, "timeout": f"{self._read_timeout:g}s"})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        content = bytearray()
        try:
            response = self._http.request(
                "POST",
                url,
                body=form,
                headers=headers,
                timeout=timeout,
                redirect=False,
                preload_content=False,
            )
            try:
                while chunk := response.read1(65536):
                    content += chunk
                    if len(content) > LARGEST_ANSWER or time.monotonic() > deadline:
                        break
                else:
                    response.release_conn()
                    return response.status, bytes(content)
            finally:
                response.close()
        except HTTPError as error:
            reason = _clean(str(error)) or type(error).__name__
            raise ProviderUnavailableError(f"{source}: no answer: {reason}") from error
        raise ProviderUnavailableError(f"{source}: its answer is too long or too slow")


def _error(
    source: str, query: str, status: int, content: bytes
) -> ActionRefusedError | ProviderUnavailableError:
    failure = _parsed(TypeAdapter(_Failure), content)
    said = f": {_clean(failure.error)}" if failure and failure.error else ""
    # Prometheus answers 503 when a query takes too long and 422 when it cannot be carried out at all.
    if status in (TIMEOUT, THROTTLED) or status >= SERVER_ERROR:
        return ProviderUnavailableError(f"{source}: answered {status}{said}")
    if REDIRECT <= status < BAD_REQUEST:
        return ActionRefusedError(f"{source}: redirects elsewhere; put the final address into the catalogue")
    return ActionRefusedError(f"{source}: {_clean(query)} was refused with {status}{said}")


def _parsed(adapter: TypeAdapter[Any], content: bytes) -> Any:
    try:
        return adapter.validate_json(content)
    except ValidationError:
        return None


def _clean(text: str) -> str:
    """Make somebody else's words safe for one line of a log or a terminal."""
    return "".join(character if character.isprintable() else " " for character in text[:LARGEST_TEXT]).strip()
