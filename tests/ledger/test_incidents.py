"""Incidents as people change them and as the engine records them."""

from datetime import timedelta
from functools import partial

import pytest

from contracts.errors import ConflictError, InputError, NotFoundError
from contracts.evidence import Evidence, EvidenceKind
from contracts.incidents import Attempt, AttemptEnd, Incident, Phase, Role, Severity
from contracts.messages import Command, CommandKind, RecordRequest
from ledger import Ledger, ladders, outbox
from tests.ledger.crowd import at_once
from tests.ledger.samples import NOON, TRACE, Clock, open_incident, to_engine

LEASE = timedelta(minutes=1)


def declare(ledger: Ledger, service: str = "shop", title: str = "Shop is down") -> Incident:
    """Declare an incident."""
    return ledger.incidents.declare(
        title=title,
        service=service,
        environment="production",
        severity=Severity.SEV1,
        person="ada",
        trace=TRACE,
    )


def kinds(ledger: Ledger) -> list[EvidenceKind]:
    """Give the kinds of the log's entries."""
    return [entry.kind for entry in ledger.evidence.entries()]


def test_declare(ledger: Ledger) -> None:
    """A person's word opens an incident, starts its workflow and is evidence."""
    incident = declare(ledger, title="Shop\nis  down")

    assert incident == ledger.incidents.get("INC-1")
    assert incident == Incident(
        id="INC-1",
        title="Shop is down",
        service="shop",
        environment="production",
        severity=Severity.SEV1,
        opened_at=NOON,
        declared_by="ada",
    )
    assert ledger.incidents.trace("INC-1") == TRACE
    (message,) = to_engine(ledger)
    assert (message.kind, message.incident, message.payload) == (outbox.ALERTS, "INC-1", {"alerts": []})
    (entry,) = ledger.evidence.entries()
    assert (entry.kind, entry.actor, entry.incident) == (EvidenceKind.INCIDENT_DECLARED, "ada", "INC-1")
    assert entry.summary == "ada declares SEV1 on shop (production): Shop is down"


@pytest.mark.parametrize(("service", "title"), [("", "t"), ("x" * 201, "t"), ("shop", " \n ")])
def test_declare_needs_names(ledger: Ledger, service: str, title: str) -> None:
    """A declaration without a title or a usable service is refused."""
    with pytest.raises(InputError):
        declare(ledger, service, title)


@pytest.mark.parametrize(
    "name", ["INC-2", "INC-0", "INC-01", "inc-1", "INC-", "INC-1 ", "INC-" + "9" * 40, "\x00", "APR-1"]
)
def test_not_found(ledger: Ledger, name: str) -> None:
    """What is no incident is not found, whatever is asked for."""
    declare(ledger)

    with pytest.raises(NotFoundError, match="not found"):
        ledger.incidents.get(name)
    with pytest.raises(NotFoundError):
        ledger.incidents.assign(name, Role.SCRIBE, "ada", by="ada")
    with pytest.raises(NotFoundError):
        ledger.incidents.command(name, Command(id="c", kind=CommandKind.REPLAN, person="ada"), trace={})
    with pytest.raises(NotFoundError):
        ledger.incidents.record(RecordRequest(incident=name, version=1, phase=Phase.TRIAGE))
    with pytest.raises(NotFoundError):
        ledger.incidents.trace(name)


def test_list(ledger: Ledger) -> None:
    """The newest come first, all or the open ones, at most as many as asked for."""
    for service in ("a", "b", "c"):
        declare(ledger, service)
    ledger.incidents.record(RecordRequest(incident="INC-2", version=1, phase=Phase.RESOLVED))

    def ids(*, open_only: bool = False, limit: int = 100) -> list[str]:
        return [incident.id for incident in ledger.incidents.list(open_only=open_only, limit=limit)]

    assert ids() == ["INC-3", "INC-2", "INC-1"]
    assert ids(open_only=True) == ["INC-3", "INC-1"]
    assert ids(limit=1) == ["INC-3"]


def test_assign(ledger: Ledger) -> None:
    """A role moves to a person, with evidence; who holds it already keeps it silently."""
    declare(ledger)
    ledger.incidents.assign("INC-1", Role.INCIDENT_COMMANDER, "ada", by="ada")
    ledger.incidents.assign("INC-1", Role.INCIDENT_COMMANDER, "ada", by="ada")
    ledger.incidents.assign("INC-1", Role.INCIDENT_COMMANDER, "bob", by="ada")
    incident = ledger.incidents.assign("INC-1", Role.INCIDENT_COMMANDER, "ada", by="bob")

    assert incident.roles == {Role.INCIDENT_COMMANDER: "ada"}
    told = [entry for entry in ledger.evidence.entries() if entry.kind is EvidenceKind.ROLE_ASSIGNED]
    assert [(entry.actor, entry.body["person"], entry.body["before"]) for entry in told] == [
        ("ada", "ada", None),
        ("ada", "bob", "ada"),
        ("bob", "ada", "bob"),
    ]


def test_assign_as_seen(ledger: Ledger) -> None:
    """Of two who take a free role on what both saw, one gets it and the other is told to look again."""
    seen = declare(ledger)
    ledger.incidents.assign(seen.id, Role.INCIDENT_COMMANDER, "ada", by="ada", seen=seen)
    ledger.incidents.assign(seen.id, Role.INCIDENT_COMMANDER, "ada", by="ada", seen=seen)

    with pytest.raises(ConflictError, match="look again"):
        ledger.incidents.assign(seen.id, Role.INCIDENT_COMMANDER, "grace", by="grace", seen=seen)
    assert ledger.incidents.get(seen.id).roles == {Role.INCIDENT_COMMANDER: "ada"}


def test_roles_given_at_the_same_moment(ledger: Ledger) -> None:
    """No role that was given is lost."""
    declare(ledger)
    at_once([partial(ledger.incidents.assign, "INC-1", role, "ada", by="ada") for role in Role])

    assert ledger.incidents.get("INC-1").roles == dict.fromkeys(Role, "ada")


@pytest.mark.parametrize("phase", [Phase.CLOSED, Phase.FALSE_ALARM, Phase.MERGED])
def test_a_closed_incident_stays_as_it_is(ledger: Ledger, phase: Phase) -> None:
    """Nobody takes a role in, or orders anything of, an incident that is over."""
    declare(ledger)
    ledger.incidents.record(RecordRequest(incident="INC-1", version=1, phase=phase))

    with pytest.raises(ConflictError, match=f"INC-1 is {phase.value}"):
        ledger.incidents.assign("INC-1", Role.SCRIBE, "ada", by="ada")
    with pytest.raises(ConflictError, match=f"INC-1 is {phase.value}"):
        ledger.incidents.command("INC-1", Command(id="c", kind=CommandKind.RESOLVE, person="ada"), trace={})


def test_command(ledger: Ledger) -> None:
    """A command is evidence and is sent once, however often it comes."""
    declare(ledger)
    order = Command(id="c1", kind=CommandKind.RESOLVE, person="ada", reason="fixed by hand")
    at_once([lambda: ledger.incidents.command("INC-1", order, trace=TRACE)] * 8)
    (start,) = to_engine(ledger)
    ledger.outbox.done(start.id)

    (message,) = to_engine(ledger)
    assert (message.kind, message.key, message.trace) == (outbox.COMMAND, "c1", TRACE)
    assert Command.model_validate(message.payload) == order
    assert kinds(ledger) == [EvidenceKind.INCIDENT_DECLARED, EvidenceKind.COMMAND]
    assert ledger.evidence.entries()[-1].summary == "ada orders resolve: fixed by hand"
    ledger.outbox.done(message.id)
    assert to_engine(ledger) == []


def test_command_repeated_after_the_end(ledger: Ledger) -> None:
    """A command that was taken stays taken: its repeat is no error, even when it has closed the incident."""
    declare(ledger)
    order = Command(id="c1", kind=CommandKind.RESOLVE, person="ada")
    ledger.incidents.command("INC-1", order, trace={})
    ledger.incidents.record(RecordRequest(incident="INC-1", version=1, phase=Phase.CLOSED))
    ledger.incidents.command("INC-1", order, trace={})

    assert kinds(ledger).count(EvidenceKind.COMMAND) == 1


def test_severity_command(ledger: Ledger) -> None:
    """A person lowers or raises the severity at once."""
    declare(ledger)
    order = Command(
        id="c1", kind=CommandKind.SEVERITY, person="ada", reason="only staging", severity=Severity.SEV4
    )
    ledger.incidents.command("INC-1", order, trace={})
    same = order.model_copy(update={"id": "c2"})
    ledger.incidents.command("INC-1", same, trace={})

    assert ledger.incidents.get("INC-1").severity is Severity.SEV4
    assert kinds(ledger)[1:] == [EvidenceKind.COMMAND, EvidenceKind.SEVERITY_CHANGED, EvidenceKind.COMMAND]
    with pytest.raises(InputError, match="say which severity"):
        ledger.incidents.command("INC-1", order.model_copy(update={"id": "c3", "severity": None}), trace={})
    assert kinds(ledger).count(EvidenceKind.COMMAND) == 2


def phase_changed(number: int) -> Evidence:
    """Give what a workflow tells with a record."""
    return Evidence(
        key=f"INC-1/phase/{number}",
        kind=EvidenceKind.PHASE_CHANGED,
        incident="INC-1",
        actor="stanch",
        at=NOON,
        summary=f"phase {number}",
    )


def test_record(ledger: Ledger) -> None:
    """The projection follows the newest version; an older one, or a repeat, never takes it back."""
    open_incident(ledger)
    tried = Attempt(
        mitigation="INC-1/1",
        playbook="p",
        title="t",
        plan_digest="d",
        end=AttemptEnd.INEFFECTIVE,
        undone=True,
    )
    newer = RecordRequest(
        incident="INC-1",
        version=2,
        phase=Phase.MITIGATING,
        attention="look",
        attempts=(tried,),
        evidence=(phase_changed(2),),
    )
    older = RecordRequest(incident="INC-1", version=1, phase=Phase.TRIAGE, evidence=(phase_changed(1),))
    for request in (newer, older, newer, older):
        ledger.incidents.record(request)

    incident = ledger.incidents.get("INC-1")
    assert (incident.phase, incident.attention, incident.attempts) == (Phase.MITIGATING, "look", (tried,))
    assert [entry.key for entry in ledger.evidence.entries()][-2:] == ["INC-1/phase/2", "INC-1/phase/1"]
    ledger.incidents.record(RecordRequest(incident="INC-1", version=3, phase=Phase.MONITORING))
    assert ledger.incidents.get("INC-1").attention is None


@pytest.mark.parametrize(("phase", "attention"), [(Phase.MITIGATING, "worse"), (Phase.LEARNING, None)])
def test_warn(ledger: Ledger, phase: Phase, attention: str | None) -> None:
    """People are warned once, also of a late undo; an incident that is over waits for nobody."""
    incident = open_incident(ledger, commander="ada")
    ledger.incidents.record(RecordRequest(incident=incident, version=1, phase=phase))
    for _ in range(2):
        ledger.incidents.warn(incident, "k", "worse")
    told = [one for one in ledger.outbox.claim(100, timedelta(seconds=9)) if one.kind == ladders.TELL]

    assert ledger.incidents.get(incident).attention == attention
    assert [(one.key, one.payload) for one in told if one.key == "k"] == [
        ("k", {"whom": ["incident_commander"], "text": "worse"})
    ]


def test_times_are_utc(ledger: Ledger, clock: Clock) -> None:
    """A time is the same moment, in UTC, on both databases."""
    clock.forward(timedelta(microseconds=123456))
    opened = declare(ledger).opened_at

    assert opened == NOON + timedelta(microseconds=123456)
    assert opened.utcoffset() == timedelta(0)
