"""Alerts in: a 2xx is sent only when the ledger holds them, and nothing that came is forgotten."""

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Annotated, Final, NoReturn

from fastapi import APIRouter, Depends, Request
from pydantic import JsonValue

from contracts.base import Frozen
from contracts.errors import ForbiddenError, InputError, NotFoundError, ProviderUnavailableError
from gateway.identity import UnauthenticatedError
from gateway.metrics import Metrics
from gateway.orders import Orders
from gateway.sources import SOURCES, Parsed
from gateway.sources.reading import storable
from gateway.tracing import span

DEEPEST: Final = 32
READ_WITHIN: Final = 10.0  # seconds for a whole body; a sender on the same network needs milliseconds
_DRAIN = 4  # times the cap: read and thrown away, so that an honest sender hears the 413
_MOST_SENTENCES = 20
_LONGEST_REASON = 2_000

log = logging.getLogger(__name__)


class RefusedDeliveryError(InputError):
    """A delivery that could not be read at all.

    Attributes:
        status: The HTTP status that says why.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class IntakeAnswer(Frozen):
    """What became of a delivery.

    Attributes:
        delivery: Its number in the inbox.
        accepted: Alerts that said something new.
        duplicates: Alerts that were known already.
        refused: One sentence for each alert that could not be used.
        notes: What else a person should know.
    """

    delivery: int
    accepted: int
    duplicates: int
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Body:
    """A body read once, and why it was not read to its end, if it was not."""

    content: bytes
    status: int = 0
    problem: str = ""


class Intake:
    """Takes deliveries of every source; never talks to the engine."""

    def __init__(self, orders: Orders, metrics: Metrics, *, most: int) -> None:
        """Put it together; ``most`` is the size of the largest body, in bytes."""
        self._orders = orders
        self._ledger = orders.ledger
        self._metrics = metrics
        self._most = most

    async def read(self, source: str, request: Request) -> _Body:
        """Read the body once, capped in size and time, after the sender has shown its token.

        Raises:
            NotFoundError: There is no such source.
            UnauthenticatedError: The token is missing or wrong. Nothing is kept of what a stranger sends.
            ForbiddenError: The API token is not for alerts.
            ProviderUnavailableError: The ledger does not answer: send it again.
        """
        if source not in SOURCES:
            raise NotFoundError(f"no alert source is called that; there is {', '.join(SOURCES)}")
        try:
            await asyncio.to_thread(self._orders.identity.check_source, request)
        except (UnauthenticatedError, ForbiddenError):
            self._metrics.deliveries.labels(source, "unauthorized").inc()
            raise
        content = bytearray()
        size = 0
        try:
            async with asyncio.timeout(READ_WITHIN):
                async for chunk in request.stream():
                    size += len(chunk)
                    content += chunk[: self._most - len(content)]
                    if size > self._most * _DRAIN:
                        break
        except TimeoutError:
            return _Body(bytes(content), 408, f"the body did not arrive within {READ_WITHIN:.0f} s")
        if size <= self._most:
            return _Body(bytes(content))
        why = "lower the receiver's max_alerts, or raise STANCH_MAX_BODY"
        return _Body(bytes(content), 413, f"the body is larger than {self._most} bytes: {why}")

    def take(self, source: str, request: Request, body: _Body) -> IntakeAnswer:
        """Store one delivery, or record why not.

        Raises:
            InputError: Nothing of it can be used; that is recorded.
            ProviderUnavailableError: The ledger does not answer: send it again.
        """
        try:
            with span("alert delivery", request.headers, source=source) as trace:
                return self._take(source, request, body, trace)
        except ProviderUnavailableError:
            self._metrics.deliveries.labels(source, "unavailable").inc()
            raise

    def _take(self, source: str, request: Request, body: _Body, trace: dict[str, str]) -> IntakeAnswer:
        try:
            _check_envelope(request, body)
            parsed = SOURCES[source](_json(body.content), self._orders.catalogue)
            _check_usable(parsed)
        except InputError as error:
            self._ledger.inbox.refuse(source, body.content, str(error))
            self._metrics.deliveries.labels(source, "refused").inc()
            log.warning("refused a delivery from %s: %s", source, json.dumps(str(error)))
            raise
        receipt = self._ledger.inbox.accept(source, body.content, parsed.alerts, trace=trace)
        self._orders.wake()
        if parsed.refused:
            self._ledger.inbox.refuse(source, body.content, _sentences(parsed.refused))
        self._metrics.deliveries.labels(source, "accepted").inc()
        for result, count in (
            ("accepted", receipt.accepted),
            ("duplicate", receipt.duplicates),
            ("refused", len(parsed.refused)),
        ):
            self._metrics.alerts.labels(source, result).inc(count)
        return IntakeAnswer(
            delivery=receipt.delivery,
            accepted=receipt.accepted,
            duplicates=receipt.duplicates,
            refused=parsed.refused[:_MOST_SENTENCES],
            notes=parsed.notes,
        )


def router(intake: Intake) -> APIRouter:
    """Give the one route of all sources."""
    routes = APIRouter(tags=["alerts"])
    described = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    }

    @routes.post("/v1/alerts/{source}", openapi_extra=described)
    def receive_alerts(
        source: str, request: Request, body: Annotated[_Body, Depends(intake.read)]
    ) -> IntakeAnswer:
        """Take a delivery of alerts; a 200 means that they are stored durably."""
        return intake.take(source, request, body)

    return routes


def _check_envelope(request: Request, body: _Body) -> None:
    if body.problem:
        raise RefusedDeliveryError(body.status, body.problem)
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise RefusedDeliveryError(
            415, f"Content-Encoding {storable(encoding, 40)!r} is not taken: send the body as it is"
        )
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise RefusedDeliveryError(
            415, f"Content-Type {storable(kind, 80)!r} is not taken: send application/json"
        )


def _check_usable(parsed: Parsed) -> None:
    if not parsed.alerts:
        raise InputError(_sentences(parsed.refused))


def _json(body: bytes) -> JsonValue:
    try:
        document: JsonValue = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise RefusedDeliveryError(400, f"the body is not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise RefusedDeliveryError(400, f"the JSON is nested deeper than {DEEPEST} levels") from error
    except ValueError as error:
        raise RefusedDeliveryError(400, f"the body is not JSON: {error}"[:200]) from error
    if _is_deeper(document, DEEPEST):
        raise RefusedDeliveryError(400, f"the JSON is nested deeper than {DEEPEST} levels")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _is_deeper(document: JsonValue, most: int) -> bool:
    """Say whether containers are nested deeper than this, level by level: no recursion of our own."""
    level: list[JsonValue] = [document]
    for _ in range(most):
        below: list[JsonValue] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
        if not below:
            return False
        level = below
    return any(isinstance(value, dict | list) for value in level)


def _sentences(refused: tuple[str, ...]) -> str:
    shown = "; ".join(refused[:_MOST_SENTENCES])
    more = len(refused) - _MOST_SENTENCES
    return storable(shown + (f"; and {more} more" if more > 0 else ""), _LONGEST_REASON)
