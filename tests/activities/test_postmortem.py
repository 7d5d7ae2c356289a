"""The postmortem's draft: the template, filled from evidence, with roles in the place of people."""

from datetime import UTC, datetime, timedelta

from activities.postmortem import compose
from contracts.evidence import EvidenceEntry, EvidenceKind
from contracts.in_force import InForce
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


def in_force(mitigation: str, owner: str) -> InForce:
    """Give what a mitigation has left behind."""
    return InForce(
        mitigation=mitigation,
        incident="INC-1",
        service="shop",
        environment="production",
        title="Disable <b>",
        plan_digest="0" * 64,
        owner=owner,
        steps=(),
        since=START,
        expires_at=START + timedelta(days=1),
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
    assert text.count("to be written by a person") >= 4


def test_names_no_person() -> None:
    """People appear by their role, or as a responder."""
    text = compose(incident(), ENTRIES)

    assert "The Incident Commander takes command" in text
    assert "A responder asks for another plan" in text
    assert "ada" not in text
    assert "grace" not in text


def test_names_nobody_who_had_a_role_or_was_overruled() -> None:
    """Who has handed a role over, and whom a detail names, are no more named than who has one at the end."""
    taken = entry(
        3, "ada takes command; until now bo had it: bo, he is ill.", EvidenceKind.ROLE_ASSIGNED, "ada"
    )
    taken = taken.model_copy(update={"body": {"person": "ada", "before": "bo"}})
    refused = entry(4, "kim-2 rejects", EvidenceKind.DECISION, "kim-2")
    tried = attempt(1, "Board the boat", AttemptEnd.REJECTED).model_copy(update={"detail": "kim-2: no kim"})
    text = compose(incident(attempts=(tried,)), [taken, refused])

    said = "The Incident Commander takes command; until now a responder had it: a responder, he is ill."
    assert said in text
    assert "Board the boat: rejected. A responder: no kim" in text
    assert "kim-2" not in text


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


def test_what_is_still_in_force() -> None:
    """Each debt is an item, with its end and its owner by role; without any there is no such item."""
    text = compose(incident(), ENTRIES, [in_force("INC-1/2", "ada"), in_force("INC-1/3", "grace")])

    said = "[P0] Undo, or make permanent, what is still in force: Disable \\<b\\>"
    assert f"1. {said} (INC-1/2), until 2026-03-11 14:32 UTC; owner: the Incident Commander" in text
    assert f"2. {said} (INC-1/3), until 2026-03-11 14:32 UTC; owner: a responder" in text
    assert "in force" not in compose(incident(), ENTRIES)
