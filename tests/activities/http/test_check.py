"""The HTTP check: healthy, unhealthy, or not known."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from activities.http import HttpCheck, HttpCheckProbe
from activities.http.client import HttpClient
from activities.http.fake import FakeWeb, Fault
from contracts.errors import ActionRefusedError
from contracts.plans import Reading

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def web() -> Iterator[FakeWeb]:
    """A service that answers 200."""
    with FakeWeb() as web:
        yield web


def look(url: str, *, expected: tuple[int, int] = (200, 299)) -> Reading:
    """Check a URL that the catalogue has."""
    probe = HttpCheckProbe(HttpClient({url}), lambda: NOON)
    return probe.look(HttpCheck(url=url, expect_status=expected, timeout=timedelta(seconds=0.5)))


@pytest.mark.parametrize(
    ("status", "expected", "value", "words"),
    [
        (200, (200, 299), 1.0, "200 in "),
        (204, (200, 299), 1.0, "204 in "),
        (503, (200, 299), 0.0, ", expected 200 to 299"),
        (503, (503, 503), 1.0, "503 in "),
        (200, (503, 503), 0.0, ", expected 503"),
    ],
)
def test_status(web: FakeWeb, status: int, expected: tuple[int, int], value: float, words: str) -> None:
    """The reading is 1 when the status is in the range, else 0; the detail has status and latency."""
    web.status = status
    reading = look(web.url + "/healthz", expected=expected)

    assert (reading.value, reading.at) == (value, NOON)
    assert reading.detail.startswith(f"{status} in ")
    assert words in reading.detail
    assert web.paths == ["/healthz"]


def test_redirect_is_not_followed(web: FakeWeb) -> None:
    """A redirect is an answer like another: nothing is asked elsewhere."""
    web.status, web.location = 302, web.url + "/elsewhere"
    reading = look(web.url + "/healthz")

    assert reading.value == 0.0
    assert web.paths == ["/healthz"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.CUT, "the connection was cut or what came is not HTTP"),
        (Fault.NONSENSE, "the connection was cut or what came is not HTTP"),
        (Fault.SILENCE, "connected, but no status in time"),
    ],
)
def test_no_answer_is_unhealthy(web: FakeWeb, fault: Fault, words: str) -> None:
    """What users would get no answer from counts as 0, with the reason."""
    web.fault = fault
    reading = look(web.url + "/")

    assert reading.value == 0.0
    assert words in reading.detail


def test_nobody_listens() -> None:
    """A refused connection counts as 0."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    reading = look(url)

    assert reading.value == 0.0
    assert "the connection was refused" in reading.detail


def test_unknown_name_is_no_data() -> None:
    """A name that cannot be resolved from here says nothing of what users get."""
    reading = look("http://no-such-host.invalid/")

    assert reading.value is None
    assert reading.detail == "no data: its name cannot be resolved from here"


def test_plain_http_at_a_tls_address(web: FakeWeb) -> None:
    """A server whose TLS is not accepted counts as 0."""
    reading = look(web.url.replace("http:", "https:"))

    assert reading.value == 0.0


def test_endless_body_costs_nothing(web: FakeWeb) -> None:
    """The status is enough: an endless body is not read."""
    web.fault = Fault.ENDLESS

    assert look(web.url + "/").value == 1.0


@pytest.mark.parametrize(
    ("allowed", "asked", "words"),
    [
        ("http://shop/healthz", "http://shop/admin", "not in the catalogue's checks"),
        ("http://shop/healthz", "http://169.254.169.254/", "not in the catalogue's checks"),
        ("file:///etc/passwd", "file:///etc/passwd", "only http and https are asked"),
        ("http://[shop/", "http://[shop/", "not a URL"),
    ],
)
def test_refused(allowed: str, asked: str, words: str) -> None:
    """Only the catalogue's own http and https URLs are asked."""
    probe = HttpCheckProbe(HttpClient({allowed}), lambda: NOON)

    with pytest.raises(ActionRefusedError, match=words):
        probe.look(HttpCheck(url=asked))


def test_range_upside_down() -> None:
    """A range that no status can meet is a mistake in the request."""
    with pytest.raises(ValidationError, match="write the lowest status first"):
        HttpCheck(url="http://shop/", expect_status=(299, 200))
