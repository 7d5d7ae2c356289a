"""One entry of the timeline and of the log."""

from datetime import datetime
from enum import StrEnum

from contracts.base import Frozen, JsonObject


class EvidenceKind(StrEnum):
    """What happened. The names are stable for ever: they are in every exported log."""

    ALERT_RECEIVED = "alert_received"
    ALERT_REFUSED = "alert_refused"
    ALERT_RESOLVED = "alert_resolved"
    INCIDENT_OPENED = "incident_opened"
    INCIDENT_DECLARED = "incident_declared"
    PHASE_CHANGED = "phase_changed"
    ROLE_ASSIGNED = "role_assigned"
    SEVERITY_CHANGED = "severity_changed"
    ATTENTION_NEEDED = "attention_needed"
    PLAN_SEALED = "plan_sealed"
    APPROVAL_ASKED = "approval_asked"
    DECISION = "decision"
    DECISION_REFUSED = "decision_refused"
    APPROVAL_CLOSED = "approval_closed"
    INTENT = "intent"
    OUTCOME = "outcome"
    DRIFT = "drift"
    REFUSED = "refused"
    VERIFICATION = "verification"
    MITIGATION_ENDED = "mitigation_ended"
    MONITORING = "monitoring"
    COMMAND = "command"
    POSTMORTEM_WRITTEN = "postmortem_written"
    APPROVAL_GIVEN = "approval_given"
    FORCED = "forced"
    BREAK_GLASS = "break_glass"
    REVIEW = "review"
    GRANT = "grant"
    GUARDRAIL = "guardrail"
    FREEZE = "freeze"
    NOTIFICATION = "notification"
    ESCALATION = "escalation"
    HANDOFF = "handoff"
    IN_FORCE = "in_force"
    READINESS = "readiness"
    RECOVERED = "recovered"
    SIGN_IN_REFUSED = "sign_in_refused"
    ACCESS = "access"
    SIGNING_KEY = "signing_key"


ENGINE = "stanch"


class Evidence(Frozen):
    """Something that happened, before it is appended.

    Attributes:
        key: Makes a repeated append of the same happening a no-op; unique in the log.
        actor: The person's id, or ``stanch`` for the engine itself, or ``source:alertmanager``.
        summary: One line for the timeline; roles and systems as subjects, no markup.
        body: The facts, as JSON. The log's leaf holds their digest, so a body can be erased by law later.
    """

    key: str
    kind: EvidenceKind
    incident: str | None
    actor: str
    at: datetime
    summary: str
    body: JsonObject = {}


class EvidenceEntry(Evidence):
    """An appended entry with its place in the log."""

    index: int
    leaf_hash: str
