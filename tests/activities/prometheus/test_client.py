"""The Prometheus client when something is wrong."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from activities.prometheus import PrometheusQuery, PrometheusQueryProbe
from activities.prometheus.client import PrometheusClient
from activities.prometheus.fake import FakePrometheus, Fault
from contracts.catalogue import Prometheus
from contracts.errors import ActionRefusedError, ProviderUnavailableError

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def fake() -> Iterator[FakePrometheus]:
    """A Prometheus where `up` is 1."""
    with FakePrometheus(lambda: NOON) as fake:
        fake.set("up", ({"job": "app"}, "1"))
        yield fake


@pytest.fixture
def probe(fake: FakePrometheus) -> Iterator[PrometheusQueryProbe]:
    """The probe, impatient, with a catalogue URL that ends with a slash."""
    client = PrometheusClient(
        [Prometheus(name="main", url=fake.url + "/")], connect_timeout=1, read_timeout=0.2
    )
    yield PrometheusQueryProbe(client, lambda: NOON)
    client.close()


def test_reading_has_our_time(probe: PrometheusQueryProbe) -> None:
    """A reading's time is our clock's, whatever Prometheus' clock says."""
    reading = probe.look(PrometheusQuery(source="main", query="up"))

    assert (reading.value, reading.at, reading.detail) == (1.0, NOON, "")


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Fault.ERROR, ProviderUnavailableError, "main: answered 503"),
        (Fault.THROTTLED, ProviderUnavailableError, "main: answered 429"),
        (Fault.NONSENSE, ProviderUnavailableError, "main: its answer is not Prometheus'; is http://"),
        (Fault.SILENCE, ProviderUnavailableError, "main: no answer from "),
        (Fault.CUT, ProviderUnavailableError, "main: no answer from "),
        (Fault.UNAUTHORIZED, ActionRefusedError, "main: up was refused with 401"),
        (
            Fault.REDIRECT,
            ActionRefusedError,
            "main: redirects elsewhere; put the final address into the catalogue",
        ),
    ],
)
def test_fault(
    fake: FakePrometheus, probe: PrometheusQueryProbe, fault: Fault, error: type[Exception], words: str
) -> None:
    """Each fault is refused or unavailable, says which source, and is over when the fault is."""
    fake.fault = fault
    with pytest.raises(error) as raised:
        probe.look(PrometheusQuery(source="main", query="up"))
    fake.fault = None

    assert type(raised.value) is error
    assert str(raised.value).startswith(words)
    assert probe.look(PrometheusQuery(source="main", query="up")).value == 1.0


def test_nobody_there() -> None:
    """A refused connection is unavailable."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    client = PrometheusClient([Prometheus(name="gone", url=url)])

    with pytest.raises(ProviderUnavailableError, match=r"^gone: no answer from "):
        PrometheusQueryProbe(client, lambda: NOON).look(PrometheusQuery(source="gone", query="up"))


def test_unknown_source(probe: PrometheusQueryProbe) -> None:
    """A source that the catalogue does not have is refused, and nothing is asked."""
    with pytest.raises(ActionRefusedError, match=r"^Prometheus other: not in the catalogue$"):
        probe.look(PrometheusQuery(source="other", query="up"))


def test_hostile_words_stay_on_one_line(fake: FakePrometheus, probe: PrometheusQueryProbe) -> None:
    """Control characters and endless texts of an error do not reach our sentence."""
    fake.refuse("up", 400, "bad_data", "no\x1b[31m\nINFO all is well " + "x" * 10_000)

    with pytest.raises(ActionRefusedError) as refused:
        probe.look(PrometheusQuery(source="main", query="up"))

    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


def test_hostile_query_is_only_data(fake: FakePrometheus, probe: PrometheusQueryProbe) -> None:
    """Whatever a query holds, it arrives as it is and adds no other parameter."""
    query = 'up{a="&timeout=9h&query=x"} # ü'
    probe.look(PrometheusQuery(source="main", query=query))

    assert fake.queries == [query]


def test_answer_of_another_shape(fake: FakePrometheus, probe: PrometheusQueryProbe) -> None:
    """A value that is no number, or a histogram, is not taken for one."""
    fake.set("up", ({}, "many"))
    with pytest.raises(ProviderUnavailableError, match=r"not Prometheus'"):
        probe.look(PrometheusQuery(source="main", query="up"))
