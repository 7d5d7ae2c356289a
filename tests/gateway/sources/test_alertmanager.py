"""What one Alertmanager delivery says."""

import json
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from contracts.errors import InputError
from contracts.incidents import AlertStatus, Severity
from gateway.sources.alertmanager import LONGEST_LABEL, MOST_LABELS, TRUNCATED, parse
from tests.gateway.conftest import delivery
from tests.gateway.seed import catalogue

CAPTURED = [
    json.loads(line)["body"]
    for line in (Path(__file__).parent.parent / "data" / "alertmanager.jsonl").read_text().splitlines()
]


def changed(**fields: Any) -> dict[str, Any]:
    """Give a delivery whose one alert has these fields; ``None`` takes one away."""
    document = deepcopy(delivery())
    alert = document["alerts"][0]
    alert.update(fields)
    for name in [name for name, value in fields.items() if value is None]:
        del alert[name]
    return document


@pytest.mark.parametrize("body", CAPTURED)
def test_every_captured_delivery_is_read(body: dict[str, Any]) -> None:
    """Each alert of a real delivery is taken, with its own status."""
    parsed = parse(body, catalogue())

    assert parsed.refused == ()
    assert [alert.status for alert in parsed.alerts] == [a["status"] for a in body["alerts"]]


def test_an_alert_is_read_whole() -> None:
    """All that later steps need is taken from where Alertmanager puts it."""
    [alert] = parse(CAPTURED[0], catalogue()).alerts

    assert alert.source == "alertmanager"
    assert alert.fingerprint == "6134757b43cb8239"
    assert alert.starts_at == datetime(2026, 11, 21, 19, 25, 37, 720_000, tzinfo=UTC)
    assert alert.ends_at is None
    assert (alert.name, alert.service, alert.environment, alert.region) == (
        "CheckoutErrors",
        "web",
        "production",
        "us",
    )
    assert alert.severity is Severity.SEV1
    assert alert.signal == "error_rate"
    assert alert.summary == "error ratio 0.9 in web/us"
    assert alert.labels["team"] == "shop"


def test_a_flap_is_a_new_episode() -> None:
    """The same problem that starts again is another episode; the same body again is the same one."""
    episodes = [parse(CAPTURED[number], catalogue()).alerts[0].episode for number in (0, 1, 11)]

    assert episodes[0] == episodes[1] != episodes[2]


def test_nanoseconds_are_taken() -> None:
    """Go's nanoseconds are cut to microseconds, the same way every time."""
    [first, _] = parse(CAPTURED[40], catalogue()).alerts

    assert first.status is AlertStatus.RESOLVED
    assert first.ends_at == datetime(2026, 11, 21, 19, 27, 54, 730_442, tzinfo=UTC)


def test_truncation_is_noted() -> None:
    """A group that was cut says so, in the answer and on each of its alerts."""
    parsed = parse(CAPTURED[38], catalogue())

    assert parsed.notes == ("3 more alerts of this group were cut off by the receiver's max_alerts",)
    assert all(TRUNCATED in alert.annotations for alert in parsed.alerts)


@pytest.mark.parametrize(
    ("label", "severity"),
    [
        ("critical", Severity.SEV1),
        ("CRITICAL", Severity.SEV1),
        (" page ", Severity.SEV2),
        ("sev4", Severity.SEV4),
        ("SEV2", Severity.SEV2),
        ("catastrophe", Severity.SEV3),
        ("", Severity.SEV3),
    ],
)
def test_severities(label: str, severity: Severity) -> None:
    """The catalogue's words and ours are known; what nobody has mapped is SEV3."""
    [alert] = parse(delivery(severity=label), catalogue()).alerts

    assert alert.severity is severity


@pytest.mark.parametrize(
    ("labels", "environment"),
    [({}, "production"), ({"env": "staging"}, "staging"), ({"environment": "eu", "env": "x"}, "eu")],
)
def test_environments(labels: dict[str, str], environment: str) -> None:
    """The environment is a label, by either of its names, and production without one."""
    [alert] = parse(delivery(**labels), catalogue()).alerts

    assert alert.environment == environment


@pytest.mark.parametrize(
    ("labels", "signal"),
    [
        ({}, "error_rate"),
        ({"signal": "latency"}, "latency"),
        ({"alertname": "Other"}, None),
        ({"service": "unknown"}, None),
    ],
)
def test_signals(labels: dict[str, str], signal: str | None) -> None:
    """The label wins over the catalogue's table; an alert may speak of no signal."""
    [alert] = parse(delivery(**labels), catalogue()).alerts

    assert alert.signal == signal


REFUSED: list[tuple[dict[str, JsonValue], str]] = [
    (
        {"labels": {"alertname": "CheckoutErrors"}},
        "alert CheckoutErrors has no label `service`: add it to the rule",
    ),
    ({"labels": {"service": "  "}}, "alert unnamed alert has no label `service`"),
    ({"labels": {"service": 3}}, "alert 1 of the delivery: labels.service: Input should be a valid string"),
    ({"labels": None}, "alert 1 of the delivery: labels: Field required"),
    ({"status": "burning"}, "alert 1 of the delivery: status: Input should be 'firing' or 'resolved'"),
    ({"startsAt": None}, "alert 1 of the delivery: startsAt: Field required"),
    ({"startsAt": "yesterday"}, "alert CheckoutErrors: startsAt is not a time with a zone"),
    ({"startsAt": "2026-03-10T14:32:00"}, "alert CheckoutErrors: startsAt is not a time with a zone"),
    ({"startsAt": "0001-01-01T00:00:00Z"}, "alert CheckoutErrors: startsAt is not a time with a zone"),
    ({"startsAt": "9999-12-31T23:59:59-10:00"}, "alert CheckoutErrors: startsAt is not a time with a zone"),
]


@pytest.mark.parametrize(("fields", "sentence"), REFUSED)
def test_refused_alerts(fields: dict[str, JsonValue], sentence: str) -> None:
    """An alert that cannot be used is refused with a sentence that names it and what to do."""
    parsed = parse(changed(**fields), catalogue())

    assert parsed.alerts == ()
    assert len(parsed.refused) == 1
    assert parsed.refused[0].startswith(sentence)


@pytest.mark.parametrize(
    "document", [None, 1, "x", [], {}, {"alerts": 1}, {"alerts": [], "truncatedAlerts": "x"}]
)
def test_other_documents(document: JsonValue) -> None:
    """What is not a webhook of Alertmanager is refused as a whole."""
    with pytest.raises(InputError, match="this is not an Alertmanager webhook"):
        parse(document, catalogue())


def test_an_empty_delivery() -> None:
    """A delivery without alerts says so."""
    parsed = parse({"alerts": []}, catalogue())

    assert parsed.refused == ("the delivery holds no alerts",)


def test_one_bad_alert_does_not_spoil_the_others() -> None:
    """The usable alerts of a mixed delivery are taken."""
    document = delivery()
    document["alerts"] = [*document["alerts"], {"status": "firing"}, 7]

    parsed = parse(document, catalogue())

    assert len(parsed.alerts) == 1
    assert [sentence[:7] for sentence in parsed.refused] == ["alert 2", "alert 3"]


def test_an_unknown_service_is_taken() -> None:
    """An alert for a service that nobody has in the catalogue is not lost."""
    [alert] = parse(delivery(service="unheard-of"), catalogue()).alerts

    assert alert.service == "unheard-of"


def test_hostile_sizes_are_cut() -> None:
    """Labels are kept up to a number and a length; the alert stays."""
    labels = {f"label_{number}": "x" * 100_000 for number in range(500)}

    [alert] = parse(delivery(**labels, service="s" * 5000), catalogue()).alerts

    assert len(alert.labels) == MOST_LABELS
    assert max(len(value) for value in alert.labels.values()) == LONGEST_LABEL
    assert alert.service == "s" * 199 + "…"


def test_hostile_characters_are_data() -> None:
    """Control characters stay; only what no database stores is replaced."""
    [alert] = parse(delivery(team="a\n\x1b[31m\u202e\x00\ud800b"), catalogue()).alerts

    assert alert.labels["team"] == "a\n\x1b[31m\u202e\ufffd\ufffdb"
    assert alert.model_dump_json().encode()


def test_an_alert_without_a_fingerprint_has_one() -> None:
    """Some relays drop the fingerprint: it is made of the labels, and so the same every time."""
    first, again, other = (
        parse(changed(fingerprint=None, labels=labels), catalogue()).alerts[0].fingerprint
        for labels in (
            {"service": "web", "a": "\ud800"},
            {"a": "\ud800", "service": "web"},
            {"service": "web", "a": "2"},
        )
    )

    assert first == again != other
