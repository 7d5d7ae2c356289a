"""The built-in alerter does what Prometheus and Alertmanager do, as far as the demo needs it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3

from deploy.demo import alerter
from deploy.demo.alerter import Alert, ConfigError, Notifier, Route, Watcher
from deploy.demo.monitoring import RULES, write_alertmanager
from deploy.demo.promql import Samples, labels_of
from tests.deploy.demo.peer import CAPTURED, Peer, shape

Run = Callable[[Notifier], Notifier]


@pytest.fixture
def run() -> Iterator[Run]:
    """Run a notifier's thread until the test ends."""
    stop = threading.Event()
    threads = []

    def start(notifier: Notifier) -> Notifier:
        threads.append(threading.Thread(target=notifier.run, args=(stop,)))
        threads[-1].start()
        return notifier

    yield start
    stop.set()
    for thread in threads:
        thread.join()


def route(peer: Peer, **changes: Any) -> Route:
    """A route with short times."""
    times = {"group_wait": 0.0, "group_interval": 0.2, "repeat_interval": 60.0}
    return Route("stanch", peer.url, ("alertname", "service"), **{**times, **changes})


def notifier_to(peer: Peer, **changes: Any) -> Notifier:
    """A notifier with short times."""
    return Notifier(route(peer, **changes), "http://127.0.0.1:1", first_pause=0.1)


def alert(region: str = "eu", *, ends_at: float | None = None) -> Alert:
    """One alert of the service web."""
    labels = labels_of({"alertname": "HighErrorRate", "service": "web", "region": region})
    return Alert(labels, {"summary": "it fails"}, 1_000.5, "http://127.0.0.1:1/graph", ends_at)


def test_fingerprints_are_those_of_alertmanager() -> None:
    """FNV-1a over the sorted labels gives the fingerprints that a real Alertmanager sent."""
    sent = [each for body in CAPTURED for each in body["alerts"]]

    mine = [Alert(labels_of(each["labels"]), {}, 0.0, "").fingerprint for each in sent]

    assert mine == [each["fingerprint"] for each in sent]


def test_the_body_has_the_keys_types_and_spellings_of_alertmanager(peer: Peer) -> None:
    """A firing group and a group with a resolved alert look as a real Alertmanager sent them."""
    group = alerter.Group((("alertname", "HighErrorRate"), ("service", "web")), due=0.0)
    group.alerts = {each.labels: each for each in (alert("us"), alert("eu", ends_at=1_007.0))}

    body = json.loads(json.dumps(group.payload(route(peer), "http://127.0.0.1:1")))

    assert {json.dumps(body).count(": null")} == {0}
    assert [shape(body)] == [shape(CAPTURED[0])]
    assert list(body) == list(CAPTURED[0])
    assert body["status"] == "firing"
    assert [each["status"] for each in body["alerts"]] == ["resolved", "firing"]
    assert body["alerts"][0]["endsAt"] == "1970-01-01T00:16:47Z"
    assert body["alerts"][0]["startsAt"] == "1970-01-01T00:16:40.5Z"
    assert body["alerts"][1]["endsAt"] == CAPTURED[0]["alerts"][0]["endsAt"]
    assert body["groupKey"] == '{}:{alertname="HighErrorRate", service="web"}'
    assert body["commonLabels"] == {"alertname": "HighErrorRate", "service": "web"}


def test_one_group_is_told_once_until_it_changes(peer: Peer, run: Run) -> None:
    """Firing, a second alert, one resolved, all resolved: four deliveries, and silence after that."""
    notifier = run(notifier_to(peer))

    notifier.update([alert("eu")], time.time())
    peer.wait(1)
    notifier.update([alert("eu"), alert("us")], time.time())
    peer.wait(2)
    notifier.update([alert("eu", ends_at=1_007.0), alert("us")], time.time())
    peer.wait(3)
    notifier.update([alert("us", ends_at=1_008.0)], time.time())
    peer.wait(4)
    time.sleep(0.5)

    told = [(body["status"], [each["status"] for each in body["alerts"]]) for body in peer.wait(4)]
    assert told == [
        ("firing", ["firing"]),
        ("firing", ["firing", "firing"]),
        ("firing", ["resolved", "firing"]),
        ("resolved", ["resolved"]),
    ]


@pytest.mark.parametrize(
    ("told", "firing", "resolved", "expected"),
    [
        (None, 1, 0, True),
        (None, 0, 1, False),
        ((1, 0), 1, 0, False),
        ((1, 0), 2, 0, True),
        ((1, 0), 1, 1, True),
        ((1, 0), 0, 1, True),
        ((0, 1), 0, 1, False),
    ],
)
def test_only_news_are_told(
    told: tuple[int, int] | None,
    firing: int,
    resolved: int,
    expected: bool,  # noqa: FBT001  (a case)
) -> None:
    """More firing, more resolved or the last one resolved is news; the same again or a bare end is not."""
    fires = [alert(f"f{n}") for n in range(firing)]
    ends = [alert(f"r{n}", ends_at=1_007.0) for n in range(resolved)]
    group = alerter.Group((), due=0.0, alerts={each.labels: each for each in (*fires, *ends)})
    if told is not None:
        known = [alert(f"f{n}").fingerprint for n in range(told[0])]
        ended = [alert(f"r{n}").fingerprint for n in range(told[1])]
        group.told = (frozenset(known), frozenset(ended), 1_000.0)

    assert group.must_tell(1_010.0, repeat=60.0) is expected


def test_what_still_fires_is_repeated(peer: Peer, run: Run) -> None:
    """After the repeat interval the very same body comes again."""
    notifier = run(notifier_to(peer, repeat_interval=0.3))

    notifier.update([alert()], time.time())

    first, second = peer.wait(2)[:2]
    assert first == second


def test_a_receiver_in_trouble_hears_it_again_at_once(peer: Peer, run: Run) -> None:
    """A 5xx is answered by the same body after a pause, without waiting for the next flush."""
    peer.statuses = [500, 503]
    notifier = run(notifier_to(peer, group_interval=60.0))

    notifier.update([alert()], time.time())

    first, second, third = peer.wait(3)
    assert first == second == third


def test_a_refusal_is_not_repeated_before_the_next_flush(peer: Peer, run: Run) -> None:
    """A 4xx ends this flush; the next one sends it again, for it was never taken."""
    peer.statuses = [400]
    notifier = run(notifier_to(peer, group_interval=1.0))

    notifier.update([alert()], time.time())
    peer.wait(1)
    time.sleep(0.5)
    after_refusal = len(peer.posts)

    assert after_refusal == 1
    assert len(peer.wait(2)) == 2


def test_an_alert_that_ended_before_it_was_told_tells_nothing(peer: Peer, run: Run) -> None:
    """A resolved alert that nobody heard of is dropped."""
    notifier = run(notifier_to(peer, group_wait=0.3))

    notifier.update([alert()], time.time())
    notifier.update([alert(ends_at=1_007.0)], time.time())
    time.sleep(0.8)

    assert peer.posts == []


def test_the_bearer_token_is_read_from_its_file(peer: Peer, run: Run, tmp_path: Path) -> None:
    """The receiver gets the token, by the configuration that Alertmanager reads as well."""
    token, config = tmp_path / "token", tmp_path / "alertmanager.yml"
    token.write_text("s3cret\n")
    write_alertmanager(config, webhook=peer.url, credentials=token)

    run(Notifier(alerter.read_route(config), "http://127.0.0.1:1")).update([alert()], 0.0)
    peer.wait(1)

    headers = peer.posts[0][0]
    assert headers["Authorization"] == "Bearer s3cret"
    assert headers["Content-Type"] == "application/json"


def test_the_shops_rule_fires_after_its_time_and_resolves(peer: Peer) -> None:
    """Above 5 % for 2 s fires with the rule's labels; a gap ends the waiting; no data resolves."""
    watcher = Watcher([("shop", peer.url.removeprefix("http://"))], RULES, route(peer), "http://127.0.0.1:1")
    watched = []
    for second in range(25):
        bad = 4 * min(max(0, second - 4), 8)  # from second 5 to 12: 4 of 24 per second
        good = 20 * second
        peer.metrics = f'shop_requests_total{{code="200"}} {good}\nshop_requests_total{{code="500"}} {bad}\n'
        watched.append(watcher.look(1_000.0 + second))

    firing = [second for second, alerts in enumerate(watched) if any(each.ends_at is None for each in alerts)]
    first = watched[firing[0]][0]
    ended = [each for alerts in watched for each in alerts if each.ends_at is not None]
    assert dict(first.labels) == {
        "alertname": "HighErrorRate",
        "service": "shop",
        "environment": "production",
        "region": "eu-west-1",
        "severity": "major",
        "signal": "error_rate",
    }
    assert firing == list(range(8, 16))  # above 5 % from 6 on, two seconds pending
    assert [(each.starts_at, each.ends_at) for each in ended] == [(1_008.0, 1_016.0)]
    assert ended[0].fingerprint == first.fingerprint


def test_a_target_that_does_not_answer_is_down_and_not_healthy(peer: Peer) -> None:
    """Without an answer ``up`` is 0 and the error ratio is unknown rather than zero."""
    watcher = Watcher([("shop", peer.url.removeprefix("http://"))], RULES, route(peer), "http://127.0.0.1:1")

    watcher.look(1_000.0)

    assert list(watcher.query("up", 1_000.0).values()) == [0.0]  # type: ignore[union-attr]
    assert watcher.query("sum(rate(shop_requests_total[5s]))", 1_000.0) == {}


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("{alert: A, expr: histogram_quantile(0.9)}", "A: histogram_quantile"),
        ("{record: a, expr: x}", "record: not known here"),
        ("{alert: A, expr: x, keep_firing_for: 5s}", "keep_firing_for: not known here"),
        ("{alert: A, expr: x, annotations: {summary: '{{ $value }}'}}", "templates are not known here"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(tmp_path: Path, rule: str, complaint: str) -> None:
    """An unknown part of a rules file stops the start; it is never ignored."""
    path = tmp_path / "rules.yml"
    path.write_text(f"groups: [{{name: g, rules: [{rule}]}}]")

    with pytest.raises(ConfigError, match=complaint):
        alerter.read_rules(path, Samples(), "http://127.0.0.1:1")


def test_a_second_receiver_is_refused(tmp_path: Path) -> None:
    """A route tree is more than the built-in alerter follows."""
    path = tmp_path / "alertmanager.yml"
    path.write_text("{route: {receiver: a, routes: []}, receivers: [{name: a, webhook_configs: [{url: b}]}]}")

    with pytest.raises(ConfigError, match="only one route"):
        alerter.read_route(path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.25, {"resultType": "scalar", "result": [7.0, "0.25"]}),
        ({}, {"resultType": "vector", "result": []}),
        ({(): float("nan")}, {"resultType": "vector", "result": [{"metric": {}, "value": [7.0, "NaN"]}]}),
        ({(): 1e-7}, {"resultType": "vector", "result": [{"metric": {}, "value": [7.0, "0.0000001"]}]}),
        (float("-inf"), {"resultType": "scalar", "result": [7.0, "-Inf"]}),
        (40.0, {"resultType": "scalar", "result": [7.0, "40"]}),
    ],
)  # fmt: skip
def test_query_answers_have_prometheus_shape(value: Any, expected: dict[str, Any]) -> None:
    """Numbers are texts without exponents; series are a vector."""
    assert alerter.query_answer(value, 7.0) == {"status": "success", "data": expected}


@pytest.fixture
def query_api(peer: Peer) -> Iterator[str]:
    """The query API over one scrape of the peer."""
    peer.metrics = "shop_db_pool_size 40\n"
    watcher = Watcher([("shop", peer.url.removeprefix("http://"))], RULES, route(peer), "http://127.0.0.1:1")
    watcher.look(time.time())
    handler = type("Bound", (alerter.Handler,), {"watcher": watcher})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def test_the_query_api_answers_url_and_form(query_api: str) -> None:
    """A GET with the query in the URL and a POST with a form give the same."""
    with urllib3.PoolManager(retries=False, timeout=5.0) as http:
        got = http.request("GET", f"{query_api}/api/v1/query", fields={"query": "sum(shop_db_pool_size)"})
        posted = http.request(
            "POST",
            f"{query_api}/api/v1/query",
            fields={"query": "sum(shop_db_pool_size)", "time": str(time.time())},
            encode_multipart=False,
        )

        values = [answer.json()["data"]["result"][0]["value"][1] for answer in (got, posted)]
        assert values == ["40", "40"]
        assert http.request("GET", f"{query_api}/-/ready").status == 200


@pytest.mark.parametrize(
    ("path", "status", "complaint"),
    [
        ("/api/v1/query?query=1%20>%200", 400, "series on its left"),
        ("/api/v1/query", 400, "is not expected"),
        ("/api/v1/query?query=up&time=yesterday", 400, "yesterday"),
        ("/api/v1/query?query=up&time=nan", 400, "nan"),
        ("/api/v1/query_range?query=up", 404, "is not here"),
    ],
)
def test_a_wrong_query_is_one_clear_error(query_api: str, path: str, status: int, complaint: str) -> None:
    """The answer has Prometheus' error shape and says what is wrong."""
    with urllib3.PoolManager(retries=False, timeout=5.0) as http:
        answer = http.request("GET", query_api + path)

    assert (answer.status, answer.json()["status"]) == (status, "error")
    assert complaint in answer.json()["error"]


def test_a_query_without_a_length_is_turned_away(query_api: str) -> None:
    """A body over the cap is refused unread."""
    with urllib3.PoolManager(retries=False, timeout=5.0) as http:
        answer = http.request("POST", f"{query_api}/api/v1/query", body=b"query=" + b"x" * 70_000)

    assert answer.status == 413
