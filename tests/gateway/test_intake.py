"""Alerts over HTTP: what is stored, what is refused, and that nothing is lost or counted twice."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.errors import ProviderUnavailableError
from contracts.evidence import EvidenceKind
from contracts.incidents import Phase
from gateway import intake
from ledger import Ledger
from runtime.settings import Settings
from tests.gateway.conftest import Door, delivery
from tests.gateway.seed import Scene

URL = "/v1/alerts/alertmanager"
JSON = {"Content-Type": "application/json"}
CAPTURED = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "alertmanager.jsonl").read_text().splitlines()
]


async def post(door: Door, body: dict[str, Any] | bytes, **headers: str) -> httpx.Response:
    """Deliver."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with door.client() as client:
        return await client.post(URL, content=content, headers=JSON | headers)


async def test_an_alert_is_durable_when_it_is_answered(door: Door, scene: Scene) -> None:
    """A 200 means that the alert is in the ledger, and that the dispatcher was woken."""
    answer = await post(door, delivery())

    assert answer.status_code == 200
    assert answer.json() == {"delivery": 1, "accepted": 1, "duplicates": 0, "refused": [], "notes": []}
    assert door.woken == [True]
    [incident] = [scene.ledger.incidents.get(name) for name in scene.ledger.inbox.dispatch()]
    assert (incident.service, incident.title) == ("web", "40 % of checkout requests fail")


async def test_an_incident_continues_the_senders_trace(door: Door, scene: Scene) -> None:
    """The trace that a delivery came with is the incident's trace."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"

    await post(door, delivery(), traceparent=f"00-{trace}-00f067aa0ba902b7-01")

    [incident] = scene.ledger.inbox.dispatch()
    assert scene.ledger.incidents.trace(incident)["traceparent"].split("-")[1] == trace


async def test_all_captured_deliveries(door: Door, scene: Scene) -> None:
    """A whole real evening opens one incident for each service, and counts each episode's ends once."""
    seen: set[tuple[str, str, str]] = set()
    expected = 0
    accepted = 0
    for captured in CAPTURED:
        for alert in captured["body"]["alerts"]:
            key = (alert["fingerprint"], alert["startsAt"], alert["status"])
            expected += key not in seen
            seen.add(key)
        answer = await post(door, captured["body"])
        assert answer.status_code == 200, answer.text
        accepted += answer.json()["accepted"]
        scene.ledger.inbox.dispatch()

    assert accepted == expected
    assert sorted(incident.service for incident in scene.ledger.incidents.list()) == ["pay", "web", "x"]


async def test_an_ha_pair_is_one(door: Door, scene: Scene) -> None:
    """Two Alertmanagers that deliver the same at the same instant are one alert and one incident."""
    answers = await asyncio.gather(*(post(door, delivery()) for _ in range(8)))

    assert [answer.status_code for answer in answers] == [200] * 8
    assert sum(answer.json()["accepted"] for answer in answers) == 1
    assert sum(answer.json()["duplicates"] for answer in answers) == 7
    assert len(scene.ledger.inbox.dispatch()) == 1


async def test_a_flap_is_another_episode_of_one_incident(door: Door, scene: Scene) -> None:
    """Firing, resolved, firing again with a new start: three things said, one incident."""
    resolved, again = deepcopy(delivery()), deepcopy(delivery())
    resolved["alerts"][0] |= {"status": "resolved", "endsAt": "2026-03-10T14:33:00Z"}
    again["alerts"][0]["startsAt"] = "2026-03-10T14:34:00Z"

    accepted = [
        (await post(door, body)).json()["accepted"] for body in (delivery(), resolved, again, resolved)
    ]

    assert accepted == [1, 1, 1, 0]
    assert len(scene.ledger.inbox.dispatch()) == 1


async def test_a_resolved_alert_starts_nothing(door: Door, scene: Scene) -> None:
    """What was never seen firing opens no incident."""
    body = deepcopy(delivery())
    body["alerts"][0]["status"] = "resolved"

    answer = await post(door, body)

    assert answer.status_code == 200
    assert scene.ledger.inbox.dispatch() == []


async def test_a_mixed_batch(door: Door, scene: Scene) -> None:
    """The usable alerts are taken, the others are named and recorded."""
    body = deepcopy(delivery())
    body["alerts"] += deepcopy(delivery(service=""))["alerts"]

    answer = await post(door, body)

    assert answer.status_code == 200
    assert answer.json()["accepted"] == 1
    assert answer.json()["refused"] == [
        "alert CheckoutErrors has no label `service`: add it to the rule, naming a service of the catalogue"
    ]
    [refusal] = [e for e in scene.ledger.evidence.entries() if e.kind is EvidenceKind.ALERT_REFUSED]
    assert "no label `service`" in refusal.summary


async def test_a_truncated_group_says_so(door: Door) -> None:
    """An incomplete group is taken, and the answer notes it."""
    answer = await post(door, delivery() | {"truncatedAlerts": 3})

    assert answer.json()["notes"] == ["3 more alerts of this group were cut off by the receiver's max_alerts"]


async def test_an_unknown_service_asks_a_person(door: Door, scene: Scene) -> None:
    """An alert for a service outside the catalogue opens an incident all the same."""
    answer = await post(door, delivery(service="unheard-of"))

    assert answer.status_code == 200
    [incident] = scene.ledger.inbox.dispatch()
    assert scene.ledger.incidents.get(incident).phase is Phase.DETECTED


DEEP = b"[" * 40 + b"]" * 40
REFUSED: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"", {}, 400, "the body is not JSON"),
    (b"{", {}, 400, "the body is not JSON"),
    (b"\xff\xfe{}", {}, 400, "the body is not UTF-8 at byte 0"),
    (b'{"a": NaN}', {}, 400, "the body is not JSON: NaN is not a JSON number"),
    (b'{"a": ' + b"9" * 5000 + b"}", {}, 400, "the body is not JSON"),
    (DEEP, {}, 400, "the JSON is nested deeper than 32 levels"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, {}, 400, "the JSON is nested deeper than 32 levels"),
    (b"[" * 500_000, {}, 400, "the JSON is nested deeper than 32 levels"),
    (b"{}", {}, 422, "this is not an Alertmanager webhook: alerts: Field required"),
    (b'{"alerts": []}', {}, 422, "the delivery holds no alerts"),
    (json.dumps(delivery(service="")).encode(), {}, 422, "alert CheckoutErrors has no label `service`"),
    (
        b"{}",
        {"Content-Type": "text/plain"},
        415,
        "Content-Type 'text/plain' is not taken: send application/json",
    ),
    (b"{}", {"Content-Type": ""}, 415, "Content-Type '' is not taken"),
    (b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "Content-Type"),
    (gzip.compress(b"{}"), {"Content-Encoding": "gzip"}, 415, "Content-Encoding 'gzip' is not taken"),
    (b" " * (1024 * 1024 + 1), {}, 413, "the body is larger than 1048576 bytes"),
    (b" " * (5 * 1024 * 1024), {}, 413, "the body is larger than 1048576 bytes"),
]


@pytest.mark.parametrize(("body", "headers", "status", "sentence"), REFUSED, ids=range(len(REFUSED)))
async def test_refused_deliveries(
    door: Door, scene: Scene, *, body: bytes, headers: dict[str, str], status: int, sentence: str
) -> None:
    """What cannot be used is refused with one sentence, recorded, counted, and opens nothing."""
    answer = await post(door, body, **headers)

    assert answer.status_code == status
    assert answer.json()["error"].startswith(sentence)
    assert list(answer.json()) == ["error"]
    [entry] = scene.ledger.evidence.entries()
    assert entry.kind is EvidenceKind.ALERT_REFUSED
    assert len(str(entry.body["body"])) <= 4096
    assert scene.ledger.inbox.dispatch() == []
    async with door.client() as client:
        metrics = (await client.get("/metrics")).text
    assert 'stanch_deliveries_total{result="refused",source="alertmanager"} 1.0' in metrics


async def test_json_at_the_depth_that_is_allowed(door: Door) -> None:
    """32 levels are read; what is wrong with them is said then."""
    answer = await post(door, b"[" * 32 + b"]" * 32)

    assert answer.status_code == 422


async def test_a_charset_is_no_other_type(door: Door) -> None:
    """A content type may carry parameters, in any case."""
    answer = await post(door, delivery(), **{"Content-Type": "Application/JSON; charset=utf-8"})

    assert answer.status_code == 200


async def test_an_unknown_source(door: Door) -> None:
    """A source that is not there is named not, and those that are there are."""
    async with door.client() as client:
        answer = await client.post("/v1/alerts/nagios", json={})

    assert (answer.status_code, answer.json()["error"]) == (
        404,
        "no alert source is called that; there is alertmanager",
    )


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer s3cret", 200),
        ("bearer s3cret", 200),
        ("", 401),
        ("Bearer", 401),
        ("Bearer S3cret", 401),
        ("Basic s3cret", 401),
        ("Bearer s3cret\u00e9", 401),
        ("s3cret", 401),
    ],
)
async def test_the_senders_token(scene: Scene, tmp_path: Path, header: str, status: int) -> None:
    """With STANCH_ALERT_TOKEN set, nothing is taken or kept of a sender without it."""
    door = Door(scene, Settings(home=tmp_path, alert_token="s3cret"))  # noqa: S106  (a test's)
    async with door.client() as client:
        answer = await client.post(
            URL, json=delivery(), headers=httpx.Headers({b"Authorization": header.encode("latin-1")})
        )

    assert answer.status_code == status
    assert bool(scene.ledger.evidence.size()) is (status == 200)
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_without_the_ledger_the_sender_is_told_to_come_again(door: Door, scene: Scene) -> None:
    """Ledger trouble is a 503 with Retry-After, never a 2xx and never a 429."""
    (scene.folder / "ledger.db").write_bytes(b"this is no database" * 1000)
    for leftover in scene.folder.glob("ledger.db-*"):
        leftover.unlink()
    scene.ledger.close()

    answer = await post(door, delivery())

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert list(answer.json()) == ["error"]
    assert door.woken == []


async def test_refusals_need_the_ledger_too(
    door: Door, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal that cannot be recorded is not given: the sender comes again."""
    await post(door, delivery())

    class Gone:
        """An inbox whose database went away between two calls."""

        accept = scene.ledger.inbox.accept

        def refuse(self, *_: object) -> None:
            raise ProviderUnavailableError("ledger: gone")

    monkeypatch.setattr(scene.ledger, "inbox", Gone())
    body = deepcopy(delivery(service=""))
    body["alerts"] += delivery()["alerts"]

    answers = [await post(door, b"{"), await post(door, body)]

    assert [answer.status_code for answer in answers] == [503, 503]


async def test_a_slow_body_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that drips its body is told so; it does not hold the gateway."""
    monkeypatch.setattr(intake, "READ_WITHIN", 0.05)

    async def drip() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    async with door.client() as client:
        answer = await client.post(URL, content=drip(), headers=JSON)

    assert answer.status_code == 408


async def test_log_lines_cannot_be_forged(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """No label puts a line break into the gateway's log."""
    caplog.set_level(logging.INFO)

    await post(door, delivery(service="", alertname="x\nCRITICAL forged\r\x1b[31m"))

    assert caplog.records
    assert not any(set("\n\r\x1b") & set(record.getMessage()) for record in caplog.records)


async def test_two_gateways_on_one_ledger(door: Door, scene: Scene, tmp_path: Path) -> None:
    """An HA pair that reaches two gateways is still one alert."""
    other = Scene(tmp_path, scene.clock)
    second = Door(other, Settings(home=tmp_path))
    assert isinstance(other.ledger, Ledger)

    answers = await asyncio.gather(*(post(one, delivery()) for one in (door, second) * 4))

    assert sum(answer.json()["accepted"] for answer in answers) == 1
    other.ledger.close()
