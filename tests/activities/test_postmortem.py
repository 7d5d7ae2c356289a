"""The postmortem's draft: the template, filled from evidence, with roles in the place of people."""

from datetime import UTC, datetime, timedelta

from activities.postmortem import compose
from contracts.evidence import EvidenceEntry, EvidenceKind
from contracts.incidents import Alert, Attempt, AttemptEnd, Incident, Role, Severity

START = datetime(2026, 3, 10, 14, 32, tzinfo=UTC)


def incident(**changes: object) -> Incident:
    """Give an incident with two mitigations."""
    known = {
        "id": "INC-1",
        "title": "5xx rate up",
        "service": "shop",
        "environment": "production",
        "severity": Severity.SEV2,
        "opened_at": START,
        "roles": {Role.INCIDENT_COMMANDER: "ada"},
        "alerts": (
            Alert(
                source="am", fingerprint="f", starts_at=START, name="E", service="shop", summary="40% fail"
            ),
        ),
        "attempts": (
            attempt(1, "Restart the pods", AttemptEnd.INEFFECTIVE),
            attempt(2, "Disable the flag", AttemptEnd.EFFECTIVE),
        ),
    }
    return Incident.model_validate(known | changes)


def attempt(number: int, title: str, end: AttemptEnd) -> Attempt:
    """Give one attempt."""
    return Attempt(
        mitigation=f"INC-1/{number}", playbook="p", title=title, plan_digest="0" * 64, end=end, detail="why"
    )


def entry(minutes: int, summary: str, kind: EvidenceKind, actor: str = "stanch") -> EvidenceEntry:
    """Give one entry of the log."""
    return EvidenceEntry(
        key=f"{minutes}",
        kind=kind,
        incident="INC-1",
        actor=actor,
        at=START + timedelta(minutes=minutes),
        summary=summary,
        index=minutes,
        leaf_hash="00",
    )


ENTRIES = [
    entry(0, "HighErrorRate fires", EvidenceKind.ALERT_RECEIVED),
    entry(3, "ada takes command", EvidenceKind.ROLE_ASSIGNED, "ada"),
    entry(18, "stanch is about to restart", EvidenceKind.INTENT),
    entry(20, "grace asks for another plan", EvidenceKind.COMMAND, "grace"),
    entry(75, "resolved: monitoring confirmed stable", EvidenceKind.PHASE_CHANGED),
]


def test_has_the_whole_template() -> None:
    """Summary with times, duration, severity and impact; timeline; cause; factors; prioritised items."""
    text = compose(incident(), ENTRIES)
    headings = [line for line in text.splitlines() if line.startswith("## ")]

    assert headings == [
        "## Incident Summary",
        "## Timeline",
        "## Root Cause",
        "## Contributing Factors",
        "## Action Items",
    ]
    assert "- Date/Time: 2026-03-10, 14:32 - 15:47 UTC" in text
    assert "- Duration: 1 hour 15 minutes" in text
    assert "- Severity: SEV-2" in text
    assert "- Impact: 40% fail" in text
    assert "14:32:00 - HighErrorRate fires" in text
    assert "1. [P0] Make permanent, or undo, what is still in force: Disable the flag" in text
    assert text.count("to be written by a person") >= 4


def test_names_no_person() -> None:
    """People appear by their role, or as a responder."""
    text = compose(incident(), ENTRIES)

    assert "The Incident Commander takes command" in text
    assert "A responder asks for another plan" in text
    assert "ada" not in text
    assert "grace" not in text


def test_leaves_inner_workings_out() -> None:
    """What belongs to the log alone is not on the timeline that people read."""
    assert "is about to" not in compose(incident(), ENTRIES)


def test_text_from_outside_stays_text() -> None:
    """Nothing in a title or a summary can begin a line, a heading, a link or a tag."""
    evil = "x\n# Root cause: John\u2028<script>alert(1)</script> [a](javascript:b) `c` a_b _d_"
    hostile = [entry(1, evil, EvidenceKind.ALERT_RECEIVED)]
    text = compose(incident(title=evil, alerts=()), hostile)

    assert [line for line in text.splitlines() if line.startswith("# ")] == [text.splitlines()[0]]
    assert "\\<script\\>" in text
    assert "\\[a\\]" in text
    assert "a_b \\_d\\_" in text


def test_undone_mitigation_is_not_in_force() -> None:
    """What was undone needs no decision any more."""
    undone = attempt(2, "Disable the flag", AttemptEnd.EFFECTIVE).model_copy(update={"undone": True})

    assert "in force" not in compose(incident(attempts=(undone,)), ENTRIES)
