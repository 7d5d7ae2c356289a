"""Prometheus Alertmanager's webhook, version 4: one group of alerts, each with a status of its own."""

import hashlib
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from authority.seals import canonical
from contracts.catalogue import Catalogue
from contracts.errors import InputError
from contracts.incidents import Alert, AlertStatus, Severity
from gateway.sources.reading import Parsed, storable, storable_all

SOURCE: Final = "alertmanager"

DEFAULT_ENVIRONMENT = "production"
TRUNCATED = "stanch.truncated"

# Far above what Prometheus rules carry, low enough that one alert stays a page that a person can read.
MOST_LABELS = 64
LONGEST_LABEL = 1_024
LONGEST_ANNOTATION = 4_096
LONGEST_NAME = 200
_YEARS = range(2000, 2200)  # year 1 is how Go writes "no time"; near 9999 a zone overflows


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Signal(_Wire):
    """One alert as it is on the wire."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: str = Field(alias="startsAt")
    ends_at: str | None = Field(None, alias="endsAt")
    fingerprint: str = ""


class _Group(_Wire):
    """The whole body. The version is not looked at: an alert is not lost for the sake of a number."""

    alerts: list[JsonValue]
    truncated: int = Field(0, alias="truncatedAlerts")


def parse(document: JsonValue, catalogue: Catalogue) -> Parsed:
    """Read one delivery.

    A service that the catalogue does not know is accepted: the incident then asks a person.

    Raises:
        InputError: The document is not an Alertmanager webhook at all.
    """
    try:
        group = _Group.model_validate(document)
    except ValidationError as error:
        where, message = _first(error)
        raise InputError(
            f"this is not an Alertmanager webhook: {where}: {message}; "
            "point a webhook_configs receiver at this URL"
        ) from error
    notes = _truncation(group.truncated)
    alerts: list[Alert] = []
    refused: list[str] = []
    for number, entry in enumerate(group.alerts, start=1):
        try:
            alerts.append(_alert(number, entry, catalogue, notes))
        except InputError as error:
            refused.append(str(error))
    if not group.alerts:
        refused.append("the delivery holds no alerts")
    return Parsed(alerts=tuple(alerts), refused=tuple(refused), notes=notes)


def _alert(number: int, entry: JsonValue, catalogue: Catalogue, notes: tuple[str, ...]) -> Alert:
    try:
        signal = _Signal.model_validate(entry)
    except ValidationError as error:
        where, message = _first(error)
        raise InputError(f"alert {number} of the delivery: {where}: {message}") from error
    labels = signal.labels
    name = storable(labels.get("alertname") or "unnamed alert", LONGEST_NAME)
    service = storable(labels.get("service", "").strip(), LONGEST_NAME)
    if not service:
        raise InputError(
            f"alert {name} has no label `service`: add it to the rule, naming a service of the catalogue"
        )
    starts_at = _time(signal.starts_at)
    if starts_at is None:
        raise InputError(f"alert {name}: startsAt is not a time with a zone, like 2026-03-10T14:32:00Z")
    annotations = storable_all(signal.annotations, count=MOST_LABELS, limit=LONGEST_ANNOTATION)
    if notes:
        annotations[TRUNCATED] = notes[0]
    environment = labels.get("environment") or labels.get("env") or DEFAULT_ENVIRONMENT
    return Alert(
        source=SOURCE,
        fingerprint=storable(signal.fingerprint, LONGEST_NAME) or _fingerprint(labels),
        starts_at=starts_at,
        ends_at=_time(signal.ends_at),
        status=AlertStatus(signal.status),
        name=name,
        service=service,
        environment=storable(environment, LONGEST_NAME),
        region=storable(labels["region"], LONGEST_NAME) if labels.get("region") else None,
        severity=_severity(labels.get("severity", ""), catalogue),
        signal=_signal(labels, service, catalogue),
        summary=storable(signal.annotations.get("summary", ""), LONGEST_LABEL),
        labels=storable_all(labels, count=MOST_LABELS, limit=LONGEST_LABEL),
        annotations=annotations,
    )


def _first(error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the body"
    return storable(where, LONGEST_NAME), first["msg"]


def _truncation(count: int) -> tuple[str, ...]:
    if count <= 0:
        return ()
    return (f"{count} more alerts of this group were cut off by the receiver's max_alerts",)


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    if time.tzinfo is None or time.year not in _YEARS:
        return None
    return time.astimezone(UTC)


def _fingerprint(labels: dict[str, str]) -> str:
    """Give an identity to an alert without one: some relays drop it."""
    plain: JsonValue = {
        storable(name, len(name)): storable(value, len(value)) for name, value in labels.items()
    }
    return hashlib.sha256(canonical(plain)).hexdigest()[:16]


def _severity(label: str, catalogue: Catalogue) -> Severity:
    """Give our severity for a label; what nobody has mapped is SEV3: looked at, and nobody is woken."""
    word = label.strip()
    known = {name.lower(): severity for name, severity in catalogue.severities.items()}
    known.update({severity.value.lower(): severity for severity in Severity})
    return known.get(word.lower(), Severity.SEV3)


def _signal(labels: dict[str, str], service: str, catalogue: Catalogue) -> str | None:
    if labels.get("signal"):
        return storable(labels["signal"], LONGEST_NAME)
    entry = catalogue.service(service)
    return entry.alerts.get(labels.get("alertname", "")) if entry else None
