"""The postmortem's draft: its template filled from the evidence, with blanks where a person must think."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from contracts.evidence import ENGINE, EvidenceEntry, EvidenceKind
from contracts.in_force import InForce
from contracts.incidents import AttemptEnd, Incident, Role

# What belongs on a timeline that people read; the log has everything else.
TOLD = {
    EvidenceKind.ALERT_RECEIVED,
    EvidenceKind.ALERT_RESOLVED,
    EvidenceKind.INCIDENT_OPENED,
    EvidenceKind.INCIDENT_DECLARED,
    EvidenceKind.ROLE_ASSIGNED,
    EvidenceKind.SEVERITY_CHANGED,
    EvidenceKind.PHASE_CHANGED,
    EvidenceKind.ATTENTION_NEEDED,
    EvidenceKind.PLAN_SEALED,
    EvidenceKind.DECISION,
    EvidenceKind.APPROVAL_CLOSED,
    EvidenceKind.DRIFT,
    EvidenceKind.OUTCOME,
    EvidenceKind.VERIFICATION,
    EvidenceKind.MONITORING,
    EvidenceKind.COMMAND,
}
# An underscore within a word is no markup, all else that could be is escaped.
MARKUP = re.compile(r"[\\`*{}\[\]<>#|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
NAMING = ("person", "before")  # where the body of an entry has somebody
BLANK = "_(to be written by a person)_"


def compose(incident: Incident, entries: Sequence[EvidenceEntry], in_force: Sequence[InForce] = ()) -> str:
    """Write the draft in Markdown. People appear by their role: the evidence log keeps their names.

    Args:
        incident: As the ledger has it at the end.
        entries: Its evidence, in order.
        in_force: What its mitigations have left behind.
    """
    told = [entry for entry in entries if entry.kind in TOLD]
    began, ended = _span(incident, told)
    blameless = _Blameless(incident, told)
    parts = [
        f"# Postmortem {incident.id}: {_inline(incident.title)}",
        "> Draft by the system from its evidence. Lines marked *to be written* need a person.",
        "## Incident Summary",
        _summary(incident, began, ended),
        "## Timeline",
        "All times UTC.",
        "\n".join(f"- {entry.at:%H:%M:%S} - {_inline(blameless(entry.summary))}" for entry in told) or BLANK,
        "## Root Cause",
        f"{BLANK} What in the system made this possible? What is known:",
        _known(incident, blameless),
        "## Contributing Factors",
        f"- {BLANK}",
        "## Action Items",
        _items(incident, in_force, blameless),
    ]
    return "\n\n".join(parts) + "\n"


def _title(role: Role) -> str:
    return role.value.replace("_", " ").title()


class _Blameless:
    """Puts roles in the place of people: the system is the subject, not a name."""

    def __init__(self, incident: Incident, entries: Sequence[EvidenceEntry]) -> None:
        self._roles = {person: f"the {_title(role)}" for role, person in incident.roles.items()}
        named = [one for entry in entries for one in (entry.actor, *map(entry.body.get, NAMING))]
        people = {one for one in named if isinstance(one, str) and one != ENGINE and ":" not in one}
        names = "|".join(map(re.escape, {*self._roles, *people} - {""})) or "(?!)"  # which matches nothing
        self._people = re.compile(rf"(?<![\w.-])({names})(?!\.?[\w-])")

    def role(self, person: str) -> str:
        """Say who somebody is, without the name."""
        return self._roles.get(person, "a responder" if person else "nobody")

    def __call__(self, text: str) -> str:
        text = self._people.sub(lambda found: self.role(found[1]), text)
        return text[:1].upper() + text[1:]


def _span(incident: Incident, told: Iterable[EvidenceEntry]) -> tuple[datetime, datetime]:
    times = [incident.opened_at, *(entry.at for entry in told)]
    starts = [alert.starts_at for alert in incident.alerts]
    return min(starts + times), max(times)


def _summary(incident: Incident, began: datetime, ended: datetime) -> str:
    impact = next((alert.summary for alert in incident.alerts if alert.summary), "")
    lines = [
        f"- Date/Time: {began:%Y-%m-%d, %H:%M} - {ended:%H:%M} UTC",
        f"- Duration: {_duration(ended - began)}",
        f"- Severity: {incident.severity.value.replace('SEV', 'SEV-')}",
        f"- Impact: {_inline(impact)} {BLANK}",
        f"- Service: {_inline(incident.service)} in {_inline(incident.environment)}",
    ]
    return "\n".join(lines)


def _known(incident: Incident, blameless: "_Blameless") -> str:
    lines = [
        f"- {_inline(attempt.title)}: {attempt.end.value}. {_inline(blameless(attempt.detail))}".rstrip()
        for attempt in incident.attempts
    ]
    return "\n".join(lines) or "- No mitigation was tried."


def _items(incident: Incident, in_force: Iterable[InForce], blameless: "_Blameless") -> str:
    lines = [
        f"[P0] Undo, or make permanent, what is still in force: {_inline(found.title)} ({found.mitigation}),"
        f" until {found.expires_at:%Y-%m-%d %H:%M} UTC; owner: {blameless.role(found.owner)}"
        for found in in_force
    ]
    lines += [f"[P0] {BLANK}", f"[P1] {BLANK}"]
    for attempt in incident.attempts:
        if attempt.end in (AttemptEnd.INEFFECTIVE, AttemptEnd.WORSE):
            lines.append(f"[P2] Review when to propose what did not help: {_inline(attempt.title)}")
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def _duration(span: timedelta) -> str:
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "hour"), (minutes, "minute"), (seconds, "second")]
    said = [f"{number} {unit}{'' if number == 1 else 's'}" for number, unit in parts if number]
    return " ".join(said) or "0 seconds"


def _inline(text: str) -> str:
    """Keep text from outside on one line and out of the document's markup."""
    flat = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return MARKUP.sub(r"\\\g<0>", flat)
