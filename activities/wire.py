"""One request over HTTP, as the providers that speak it send theirs: once, bounded, no redirect followed."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from contracts.errors import ActionRefusedError, ProviderUnavailableError, one_line

PROBLEMS = (  # the first that fits; some are subclasses of others
    (NameResolutionError, "its name cannot be resolved from here"),
    (NewConnectionError, "the connection was refused"),
    (ConnectTimeoutError, "no connection in time"),
    (ReadTimeoutError, "connected, but no status in time"),
    (SSLError, "its certificate or TLS is not accepted"),
    (ProtocolError, "the connection was cut or what came is not HTTP"),
)


# What reading an answer raises that is not what it should be.
STRANGE = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)


@contextmanager
def reading(content: bytes, otherwise: str) -> Iterator[Any]:
    """Give the JSON of an answer, to be read within this.

    Args:
        content: The answer.
        otherwise: What is said when it is not JSON, or not as it is read.

    Raises:
        ProviderUnavailableError: It is not.
    """
    try:
        yield json.loads(content)
    except STRANGE as error:
        raise ProviderUnavailableError(otherwise) from error


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether it is a yes."""
        return self.status // 100 == 2  # noqa: PLR2004  (2xx)

    @property
    def redirects(self) -> bool:
        """Whether it names another address."""
        return self.status // 100 == 3  # noqa: PLR2004  (3xx)

    def field(self, name: str) -> object:
        """Give a field of the JSON object that it is; ``None`` when it has none, or is none."""
        try:
            said = json.loads(self.content)
        except (ValueError, RecursionError):
            return None
        return said.get(name) if isinstance(said, dict) else None


def exchange(
    http: urllib3.PoolManager,
    method: str,
    url: str,
    *,
    what: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    connect: float,
    read: float,
    largest: int,
    changes: bool = False,
    cut: bool = False,
) -> Answer:
    """Send a request, once.

    Args:
        http: Its connections; those with whole answers are kept as it says.
        method: The HTTP method.
        url: Where.
        what: What it is about, for people.
        headers: As they are sent.
        body: Likewise.
        connect: Seconds to connect.
        read: Seconds between two packets; the answer has to be there after this and the former.
        largest: Bytes of an answer; more is not read.
        changes: Whether it may change something, so that a lost answer leaves a doubt.
        cut: Whether the beginning will do of an answer that is too long or trickles in.

    Raises:
        ActionRefusedError: The URL is none.
        ProviderUnavailableError: No answer, or not the whole of it.
    """
    deadline = time.monotonic() + connect + read
    content = bytearray()
    try:
        response = http.request(
            method,
            url,
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(connect=connect, read=read),
            redirect=False,
            preload_content=False,
        )
        try:
            while chunk := response.read1(65536):
                content += chunk
                if len(content) > largest or time.monotonic() > deadline:
                    if not cut:
                        said = f"{what}: the answer is too long or too slow"
                        raise ProviderUnavailableError(said, may_have_applied=changes)
                    break
            else:
                response.release_conn()
        finally:
            response.close()
    except LocationValueError as error:
        raise ActionRefusedError(f"{what}: {url} is not a URL: {error}") from error
    except HTTPError as error:
        never_sent = isinstance(error, NewConnectionError | ConnectTimeoutError)
        raise ProviderUnavailableError(
            f"{what}: no answer from {url}: {problem(error)}", may_have_applied=changes and not never_sent
        ) from error
    return Answer(response.status, response.headers, bytes(content))


def problem(error: HTTPError) -> str:
    """Say why there is no answer."""
    said = (why for kind, why in PROBLEMS if isinstance(error, kind))
    return next(said, one_line(error, 200) or type(error).__name__)


def retry_after(said: str, now: datetime) -> float | None:
    """Read how long to wait, in seconds or until a date."""
    try:
        number = re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", said)
        wait = float(said) if number else (parsedate_to_datetime(said) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(wait, 0.0)
