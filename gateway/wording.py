"""How the console says things: short, exact, and never by colour or position alone. Pure functions."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from markupsafe import Markup
from pydantic import JsonValue

from contracts.approvals import ApprovalState
from contracts.evidence import EvidenceKind
from contracts.incidents import AttemptEnd, Incident, Phase, Role, Severity
from contracts.notices import NoticeState
from contracts.plans import ASKED, ActionCall, Plan, Reading, Risk, Step, Verification

SEVERITIES: Final = {
    Severity.SEV1: "critical",
    Severity.SEV2: "major",
    Severity.SEV3: "minor",
    Severity.SEV4: "low",
}
PUBLIC_SEVERITIES: Final = {
    Severity.SEV1: "Major outage",
    Severity.SEV2: "Partial outage",
    Severity.SEV3: "Degraded",
    Severity.SEV4: "Minor problem",
}
PUBLIC_PHASES: Final = {
    Phase.DETECTED: "We have noticed a problem and are looking at it.",
    Phase.TRIAGE: "We are investigating.",
    Phase.MITIGATING: "We are working on restoring the service.",
    Phase.MONITORING: "The service is back; we are watching that it stays so.",
}
ROLES: Final = {role: role.replace("_", " ").capitalize() for role in Role}
ROLES[Role.INCIDENT_COMMANDER] = "Incident Commander"
RISKS: Final = {risk: f"{risk.capitalize()} risk" for risk in Risk}
RISKS[Risk.NONE] = "No risk"
NEEDS: Final = ASKED
ENDS: Final = {
    AttemptEnd.EFFECTIVE: ("✓", "effective"),
    AttemptEnd.INEFFECTIVE: ("✕", "ineffective"),
    AttemptEnd.INCONCLUSIVE: ("?", "inconclusive"),
    AttemptEnd.WORSE: ("‼", "made it worse"),
    AttemptEnd.REJECTED: ("⊘", "rejected"),
    AttemptEnd.EXPIRED: ("⌛", "expired unanswered"),
    AttemptEnd.WITHDRAWN: ("↶", "withdrawn"),
    AttemptEnd.DRIFTED: ("≠", "target changed meanwhile"),
    AttemptEnd.REFUSED: ("⊘", "refused by the provider"),
    AttemptEnd.HELD: ("‖", "held back by a guardrail"),
    AttemptEnd.IN_DOUBT: ("?", "in doubt: look at the target"),
}
STATES: Final = {state: state.value for state in ApprovalState} | {
    ApprovalState.PENDING: "waits for a decision",
    ApprovalState.EXPIRED: "expired unanswered",
}
NOTICES: Final = {
    NoticeState.QUEUED: ("…", "on its way since"),
    NoticeState.SENT: ("→", "told, not seen yet,"),
    NoticeState.FAILED: ("✕", "did not arrive"),
    NoticeState.SEEN: ("✓", "seen"),
    NoticeState.DROPPED: ("↶", "settled before it was sent"),
}
RAIL: Final = (Phase.DETECTED, Phase.TRIAGE, Phase.MITIGATING, Phase.MONITORING, Phase.RESOLVED)
_AFTER_RESOLVED: Final = {Phase.LEARNING, Phase.CLOSED}

# What matters most when the timeline is skimmed at night.
_TONES: Final = {
    EvidenceKind.ATTENTION_NEEDED: "loud",
    EvidenceKind.DECISION_REFUSED: "loud",
    EvidenceKind.ALERT_REFUSED: "loud",
    EvidenceKind.DRIFT: "loud",
    EvidenceKind.REFUSED: "loud",
    EvidenceKind.ESCALATION: "loud",
    EvidenceKind.BREAK_GLASS: "loud",
    EvidenceKind.FORCED: "loud",
    EvidenceKind.FREEZE: "loud",
    EvidenceKind.GUARDRAIL: "loud",
    EvidenceKind.DECISION: "human",
    EvidenceKind.APPROVAL_GIVEN: "human",
    EvidenceKind.GRANT: "human",
    EvidenceKind.REVIEW: "human",
    EvidenceKind.ROLE_ASSIGNED: "human",
    EvidenceKind.HANDOFF: "human",
    EvidenceKind.COMMAND: "human",
    EvidenceKind.INCIDENT_DECLARED: "human",
    EvidenceKind.SEVERITY_CHANGED: "human",
    EvidenceKind.APPROVAL_ASKED: "human",
    EvidenceKind.INTENT: "deed",
    EvidenceKind.OUTCOME: "deed",
    EvidenceKind.VERIFICATION: "deed",
    EvidenceKind.MITIGATION_ENDED: "deed",
}

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR

# Control characters and those that turn the direction of text are shown, not obeyed; tab and newline stay.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u115f\u1160\u3164\uffa0\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0001-\U000e007f]"
)


class RailStep(NamedTuple):
    """One phase on the rail; ``state`` is done, now or later."""

    label: str
    state: str


def visible(value: object) -> object:
    """Make what would hide or turn text visible, in anything that a template prints."""
    if type(value) is str:  # not Markup: that is our own
        return _INVISIBLE.sub(lambda found: f"⟦U+{ord(found.group()):04X}⟧", value)
    return value


def path(text: object) -> Markup:
    """Give a path that a narrow screen may break after a dot or a slash, and nowhere else without need."""
    parts = re.findall(r"[^./]*[./]|[^./]+", str(visible(str(text))))
    return Markup("<wbr>").join(parts)  # escapes each of them


def age(at: datetime, now: datetime) -> str:
    """Say how long ago: ``4 min ago``."""
    seconds = int((now - at).total_seconds())
    return "just now" if seconds < _MINUTE else f"{_coarse(seconds)} ago"


def seconds_ago(at: datetime, now: datetime) -> str:
    """Say how long ago, to the second while that matters: ``4 s ago``."""
    seconds = max(0, int((now - at).total_seconds()))
    return f"{seconds} s ago" if seconds < _MINUTE else age(at, now)


def left(until: datetime, now: datetime) -> str:
    """Say how much time there is: ``12 min left`` or ``expired``."""
    seconds = int((until - now).total_seconds())
    if seconds <= 0:
        return "expired"
    return f"{seconds} s left" if seconds < _MINUTE else f"{_coarse(seconds)} left"


def _coarse(seconds: int) -> str:
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h {seconds % _HOUR // _MINUTE:02} min"
    return f"{seconds // _DAY} d {seconds % _DAY // _HOUR} h"


def utc(at: datetime) -> str:
    """Give the whole moment: ``2026-03-10 14:32:05 UTC``."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock(at: datetime, now: datetime) -> str:
    """Give the time of day, with the day when it is another one."""
    moment, today = at.astimezone(UTC), now.astimezone(UTC)
    return f"{moment:%H:%M:%S}" if moment.date() == today.date() else f"{moment:%d %b %H:%M:%S}"


def duration(span: timedelta) -> str:
    """Give a span as people say it: ``90 s``, ``5 min``."""
    seconds = span.total_seconds()
    for size, unit in ((_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"


def quantity(value: float | None, unit: str) -> str:
    """Give a number with its unit; no number is said, not shown as zero."""
    return "no data" if value is None else f"{value:.4g} {unit}".strip()


def goal(verification: Verification) -> str:
    """Say when the step counts as effective."""
    word, bound = verification.bound
    return (
        f"{verification.signal} {word} {quantity(bound, verification.unit)} "
        f"for {duration(verification.hold)}, read every {duration(verification.every)}; "
        f"known within {duration(verification.within)} after it has settled"
    )


def baseline(verification: Verification) -> str:
    """Say what was measured when the plan was sealed."""
    reading: Reading | None = verification.baseline
    if reading is None:
        return "not measured"
    said = quantity(reading.value, verification.unit)
    if reading.value is None:
        return said
    return f"{said}, {'healthy' if verification.is_healthy(reading.value) else 'unhealthy'}"


def value(content: JsonValue) -> str:
    """Give one side of a difference, exactly."""
    return "absent" if content is None else json.dumps(content, ensure_ascii=False)


def pretty(content: JsonValue) -> str:
    """Give JSON for reading."""
    return json.dumps(content, ensure_ascii=False, indent=2)


def arguments(call: ActionCall) -> str:
    """Give a call's arguments on one line."""
    return ", ".join(f"{name}={value(content)}" for name, content in call.arguments.items())


def undo(step: Step) -> str:
    """Say how the step is taken back."""
    if step.undo is None:
        return f"None: {step.undo_note}" if step.undo_note else "None"
    return f"{step.undo.name}({arguments(step.undo)})"


def undo_rule(plan: Plan) -> str:
    """Say when the undo runs without another question."""
    if not plan.undo_when or not any(step.undo for step in plan.steps):
        return "Nothing is undone without a new decision."
    return f"If the effect is {' or '.join(plan.undo_when)}, the undo runs by itself under this approval."


def short(digest: str) -> str:
    """Give the first part of a digest in groups, to be compared by eye."""
    return " ".join(digest[start : start + 4] for start in range(0, 12, 4))


def rail(incident: Incident) -> tuple[RailStep, ...]:
    """Say where an incident is on its way."""
    place = RAIL.index(incident.phase) if incident.phase in RAIL else -1
    if incident.phase in _AFTER_RESOLVED:
        place = len(RAIL)
    return tuple(
        RailStep(step.value, "done" if number < place else "now" if number == place else "later")
        for number, step in enumerate(RAIL)
    )


def kind(of: EvidenceKind) -> str:
    """Give an evidence kind as words."""
    return of.replace("_", " ")


def tone(of: EvidenceKind) -> str:
    """Give the class that styles an entry of the timeline."""
    return _TONES.get(of, "plain")
