"""The incident: its severity, phase, roles and alerts, and what was tried so far."""

from datetime import datetime
from enum import StrEnum

from contracts.base import Frozen


class Severity(StrEnum):
    """How bad it is, from SEV1 (service down, data being lost) to SEV4 (cosmetic)."""

    SEV1 = "SEV1"
    SEV2 = "SEV2"
    SEV3 = "SEV3"
    SEV4 = "SEV4"


class Phase(StrEnum):
    """Where an incident is on its way."""

    DETECTED = "detected"
    TRIAGE = "triage"
    MITIGATING = "mitigating"
    MONITORING = "monitoring"
    RESOLVED = "resolved"
    LEARNING = "learning"
    CLOSED = "closed"
    FALSE_ALARM = "false_alarm"
    MERGED = "merged"


OPEN_PHASES = (Phase.DETECTED, Phase.TRIAGE, Phase.MITIGATING, Phase.MONITORING)


class Role(StrEnum):
    """Who owns what during an incident; the engine is the default scribe."""

    INCIDENT_COMMANDER = "incident_commander"
    TECHNICAL_LEAD = "technical_lead"
    COMMUNICATIONS_LEAD = "communications_lead"
    SCRIBE = "scribe"


class AlertStatus(StrEnum):
    """What the source says of the signal now."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Alert(Frozen):
    """One signal from one source.

    Attributes:
        source: Which configured source sent it, for example ``alertmanager``.
        fingerprint: The source's own identity of the problem.
        starts_at: When this episode began (UTC); a flap starts a new one.
        name: What the rule is called.
        service: The catalogue's service, from the label ``service``.
        environment: From the label ``environment`` (``env``), ``production`` when there is none.
        region: From the label ``region``, if there is one.
        severity: From the label ``severity``, by the catalogue's table.
        signal: Which of the service's signals it speaks of (``error_rate``), by label or catalogue.
        labels: All labels, as data; no label ever reaches a provider's call.
    """

    source: str
    fingerprint: str
    starts_at: datetime
    ends_at: datetime | None = None
    status: AlertStatus = AlertStatus.FIRING
    name: str
    service: str
    environment: str = "production"
    region: str | None = None
    severity: Severity = Severity.SEV3
    signal: str | None = None
    summary: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    def slim(self) -> "Alert":
        """Give it without its texts: what the order of things depends on. The ledger keeps the whole."""
        return self.model_copy(update={"labels": {}, "annotations": {}, "summary": ""})

    @property
    def episode(self) -> str:
        """The key under which deliveries of the same episode are one: source, problem, start."""
        return f"{self.source}|{self.fingerprint}|{self.starts_at.isoformat()}"


class Effect(StrEnum):
    """What a mitigation did for the users."""

    EFFECTIVE = "effective"
    INEFFECTIVE = "ineffective"
    INCONCLUSIVE = "inconclusive"
    WORSE = "worse"


class AttemptEnd(StrEnum):
    """How one mitigation ended."""

    EFFECTIVE = "effective"
    INEFFECTIVE = "ineffective"
    INCONCLUSIVE = "inconclusive"
    WORSE = "worse"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    DRIFTED = "drifted"
    REFUSED = "refused"
    HELD = "held"  # back by a guardrail
    IN_DOUBT = "in_doubt"


# After these ends the next plan is made at once; after every other a person is asked first.
PLAN_AGAIN = (
    AttemptEnd.INEFFECTIVE,
    AttemptEnd.WORSE,
    AttemptEnd.REJECTED,
    AttemptEnd.DRIFTED,
    AttemptEnd.REFUSED,
    AttemptEnd.WITHDRAWN,
)


class Ended(Frozen):
    """One mitigation that was tried or proposed, and how it ended."""

    mitigation: str
    playbook: str
    title: str
    plan_digest: str
    end: AttemptEnd
    detail: str = ""
    undone: bool = False


class Attempt(Ended):
    """It, as the next planning sees it.

    Attributes:
        actions: Of each step ``<action> <target>``, and which of several states where there are such: what
            is not proposed again when it did not help.
    """

    actions: tuple[str, ...] = ()


class Incident(Frozen):
    """An incident as playbooks, activities and the console see it at one moment."""

    id: str
    title: str
    service: str
    environment: str
    region: str | None = None
    severity: Severity
    phase: Phase = Phase.DETECTED
    opened_at: datetime
    alerts: tuple[Alert, ...] = ()
    roles: dict[Role, str] = {}
    attempts: tuple[Attempt, ...] = ()
    declared_by: str | None = None
    attention: str | None = None

    def has_tried(self, action: str) -> bool:
        """Say whether this was part of a mitigation that did not help or was not wanted.

        What was refused once may have met a provider's bad moment; twice is a no.

        Args:
            action: A request's ``attempt``; ``<action> <target>`` alone means in any way.
        """
        useless = {AttemptEnd.INEFFECTIVE, AttemptEnd.WORSE, AttemptEnd.REJECTED, AttemptEnd.EFFECTIVE}
        ends = [
            attempt.end
            for attempt in self.attempts
            if any(f"{done} ".startswith(f"{action} ") for done in attempt.actions)
        ]
        return not useless.isdisjoint(ends) or ends.count(AttemptEnd.REFUSED) > 1

    @property
    def signals(self) -> tuple[str, ...]:
        """Which signals its firing alerts speak of, in order, each once."""
        firing = (alert.signal for alert in self.alerts if alert.status is AlertStatus.FIRING)
        return tuple(dict.fromkeys(signal for signal in firing if signal))
