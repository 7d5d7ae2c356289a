"""Deliveries in: what is new, what is a repeat, and which incident it belongs to."""

import itertools
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select

from contracts.errors import InputError, NotFoundError, ProviderUnavailableError
from contracts.evidence import EvidenceKind
from contracts.incidents import Alert, AlertStatus, Phase, Severity
from contracts.messages import AlertBatch, RecordRequest
from ledger import Ledger, Receipt, inbox, schema
from tests.ledger.crowd import at_once, in_processes
from tests.ledger.samples import NOON, TRACE, Clock, alert, to_engine

LEASE = timedelta(minutes=1)


def accept(ledger: Ledger, *alerts: Alert, body: bytes | None = None) -> Receipt:
    """Accept one delivery."""
    raw = repr(alerts).encode() if body is None else body
    return ledger.inbox.accept("alertmanager", raw, alerts, trace=TRACE)


def close(ledger: Ledger, incident: str) -> None:
    """End an incident."""
    ledger.incidents.record(RecordRequest(incident=incident, version=1, phase=Phase.CLOSED))


def kinds(ledger: Ledger, incident: str | None = None) -> list[EvidenceKind]:
    """Give the kinds of the log's entries."""
    return [entry.kind for entry in ledger.evidence.entries(incident=incident)]


def sent(ledger: Ledger) -> list[tuple[str, list[Alert]]]:
    """Deliver everything, and give each message's incident and alerts."""
    told = []
    while messages := to_engine(ledger):
        for message in messages:
            told.append((message.incident, list(AlertBatch.model_validate(message.payload).alerts)))
            ledger.outbox.done(message.id)
    return told


def test_first_delivery(ledger: Ledger) -> None:
    """A new episode is kept with its raw delivery, its evidence and its trace, and opens an incident."""
    receipt = accept(ledger, alert(), body=b"\x00raw")

    assert receipt == Receipt(delivery=1, accepted=1, duplicates=0)
    assert ledger.inbox.dispatch() == ["INC-1"]
    incident = ledger.incidents.get("INC-1")
    assert (incident.title, incident.severity, incident.phase) == (
        "5xx above 5 %",
        Severity.SEV2,
        Phase.DETECTED,
    )
    assert (incident.service, incident.environment, incident.opened_at) == ("shop", "production", NOON)
    assert incident.alerts == (alert(),)
    assert ledger.incidents.trace("INC-1") == TRACE
    assert sent(ledger) == [("INC-1", [alert()])]
    assert kinds(ledger) == [
        EvidenceKind.ALERT_RECEIVED,
        EvidenceKind.INCIDENT_OPENED,
        EvidenceKind.ALERT_RECEIVED,
    ]
    assert kinds(ledger, "INC-1") == [EvidenceKind.INCIDENT_OPENED, EvidenceKind.ALERT_RECEIVED]
    with ledger.database.read() as connection:
        assert connection.scalar(select(schema.delivery.c.body)) == b"\x00raw"


def test_the_same_again(ledger: Ledger) -> None:
    """The same bytes are one delivery, and an episode that fires on is only counted."""
    accept(ledger, alert(), body=b"one")

    assert accept(ledger, alert(), body=b"one") == Receipt(delivery=1, accepted=0, duplicates=1)
    assert accept(ledger, alert(), body=b"two") == Receipt(delivery=2, accepted=0, duplicates=1)
    assert ledger.inbox.dispatch() == ["INC-1"]
    assert ledger.inbox.dispatch() == []
    assert accept(ledger, alert(), alert(), body=b"three").duplicates == 2
    assert len(sent(ledger)) == 1
    assert kinds(ledger).count(EvidenceKind.ALERT_RECEIVED) == 2
    with ledger.database.read() as connection:
        assert connection.scalar(select(schema.alert.c.times)) == 4


def test_the_same_delivery_in_parallel(ledger: Ledger) -> None:
    """Sixteen posts of one delivery, and four dispatchers: one episode and one incident."""
    receipts = at_once([lambda: accept(ledger, alert(), alert("f2"), body=b"same")] * 16)
    touched = at_once([ledger.inbox.dispatch] * 4)

    assert sorted(str(receipt) for receipt in receipts) == sorted(
        [str(Receipt(delivery=1, accepted=2, duplicates=0))]
        + [str(Receipt(delivery=1, accepted=0, duplicates=2))] * 15
    )
    assert sorted(map(str, touched)) == ["['INC-1']", "[]", "[]", "[]"]
    assert len(ledger.incidents.list()) == 1
    assert sent(ledger) == [("INC-1", [alert(), alert("f2")])]


def accept_many(ledger: Ledger, place: int) -> None:
    """Accept what another process accepts too, and dispatch in between."""
    for number in range(20):
        accept(ledger, alert(f"f{number}", service=f"s{number % 4}"), body=b"%d" % number)
        if number % 5 == place:
            ledger.inbox.dispatch()


def test_several_processes(database_url: str, ledger: Ledger) -> None:
    """Two gateways on one database open one incident for each service and environment."""
    in_processes(2, database_url, accept_many)
    ledger.inbox.dispatch()

    assert sorted(incident.service for incident in ledger.incidents.list()) == ["s0", "s1", "s2", "s3"]
    assert sum(len(incident.alerts) for incident in ledger.incidents.list()) == 20
    with ledger.database.read() as connection:
        assert connection.scalar(select(func.sum(schema.alert.c.times))) == 40


def test_resolved(ledger: Ledger) -> None:
    """The end of an episode goes to the incident that has it, once."""
    accept(ledger, alert())
    ledger.inbox.dispatch()

    assert accept(ledger, alert(resolved=True)) == Receipt(delivery=2, accepted=1, duplicates=0)
    assert accept(ledger, alert(resolved=True), body=b"ha").duplicates == 1
    assert ledger.inbox.dispatch() == ["INC-1"]
    assert [batch for _, batch in sent(ledger)] == [[alert()], [alert(resolved=True)]]
    assert ledger.incidents.get("INC-1").alerts == (alert(resolved=True),)
    assert kinds(ledger, "INC-1")[-1] is EvidenceKind.ALERT_RESOLVED


def test_resolved_of_an_unknown_episode(ledger: Ledger) -> None:
    """An end without a beginning is kept and starts nothing, and neither does its late beginning."""
    assert accept(ledger, alert(resolved=True)).accepted == 1
    assert ledger.inbox.dispatch() == []
    assert accept(ledger, alert()) == Receipt(delivery=2, accepted=0, duplicates=1)
    assert ledger.inbox.dispatch() == []
    assert ledger.incidents.list() == []


def test_resolved_before_it_was_dispatched(ledger: Ledger) -> None:
    """What is over before anybody looked starts nothing; the log still has both."""
    accept(ledger, alert())
    accept(ledger, alert(resolved=True))

    assert ledger.inbox.dispatch() == []
    assert kinds(ledger) == [EvidenceKind.ALERT_RECEIVED, EvidenceKind.ALERT_RESOLVED]


def test_resolved_after_the_incident(ledger: Ledger) -> None:
    """The end of an episode whose incident is closed is kept, and nobody is told."""
    accept(ledger, alert())
    ledger.inbox.dispatch()
    close(ledger, "INC-1")
    sent(ledger)
    accept(ledger, alert(resolved=True))

    assert ledger.inbox.dispatch() == []
    assert sent(ledger) == []


LATER = NOON + timedelta(hours=1)
EVENTS = (("first", False), ("first", True), ("second", False), ("second", True))


@pytest.mark.parametrize("looks", [1, 4], ids=["dispatched once", "dispatched each time"])
def test_every_order(ledger: Ledger, looks: int) -> None:
    """In whatever order two episodes arrive, doubled, they end resolved, with one incident at most."""
    orders = list(itertools.permutations(EVENTS))
    for number, order in enumerate(orders):
        service = f"shop-{number}"
        for place, (episode, resolved) in enumerate(order, start=1):
            start = NOON if episode == "first" else LATER
            event = alert(service, service=service, start=start, resolved=resolved)
            accept(ledger, event, event)
            if place % (len(order) // looks) == 0:
                ledger.inbox.dispatch()
        opened = {incident.service for incident in ledger.incidents.list()}
        was_firing = any(
            order.index((name, False)) < order.index((name, True)) for name in ("first", "second")
        )

        assert (service in opened) == (was_firing and looks > 1)
    assert len(ledger.incidents.list()) == (0 if looks == 1 else 18)
    with ledger.database.read() as connection:
        states = select(schema.alert.c.status, schema.alert.c.pending).distinct()
        assert connection.execute(states).all() == [(AlertStatus.RESOLVED, False)]


def test_flapping(ledger: Ledger) -> None:
    """A flapping alert is one incident, which shows its last episode."""
    for minute in range(10):
        start = NOON + timedelta(minutes=minute)
        accept(ledger, alert(start=start))
        ledger.inbox.dispatch()
        accept(ledger, alert(start=start, resolved=True))
        ledger.inbox.dispatch()

    (incident,) = ledger.incidents.list()
    assert incident.alerts == (alert(start=start, resolved=True),)


def test_correlation(ledger: Ledger) -> None:
    """Alerts on one service and environment are one incident; on others they are others."""
    accept(ledger, alert("a"), alert("b"), alert("c", environment="staging"), alert("d", service="pay"))
    accept(ledger, alert("e"))

    assert ledger.inbox.dispatch() == ["INC-1", "INC-2", "INC-3"]
    assert [incident.alerts for incident in reversed(ledger.incidents.list())] == [
        (alert("a"), alert("b"), alert("e")),
        (alert("c", environment="staging"),),
        (alert("d", service="pay"),),
    ]


def test_correlation_with_a_declared_incident(ledger: Ledger) -> None:
    """An alert joins the incident that a person declared before it came."""
    declared = ledger.incidents.declare(
        title="Shop is slow",
        service="shop",
        environment="production",
        severity=Severity.SEV3,
        person="ada",
        trace={},
    )
    accept(ledger, alert())

    assert ledger.inbox.dispatch() == [declared.id]


def test_a_closed_incident_takes_no_more(ledger: Ledger) -> None:
    """What fires after an incident has ended opens the next one."""
    accept(ledger, alert())
    ledger.inbox.dispatch()
    close(ledger, "INC-1")
    accept(ledger, alert(start=NOON + timedelta(hours=1)))

    assert ledger.inbox.dispatch() == ["INC-2"]


def test_severity_rises(ledger: Ledger) -> None:
    """A worse alert raises the severity, with evidence; a lesser one changes nothing."""
    accept(ledger, alert("a"))
    ledger.inbox.dispatch()
    accept(ledger, alert("b", severity=Severity.SEV1))
    accept(ledger, alert("c", severity=Severity.SEV4))
    ledger.inbox.dispatch()

    assert ledger.incidents.get("INC-1").severity is Severity.SEV1
    (changed,) = [entry for entry in ledger.evidence.entries() if entry.kind is EvidenceKind.SEVERITY_CHANGED]
    assert changed.summary == "Severity changes from SEV2 to SEV1: ShopErrors is firing"


def test_dispatch_in_portions(ledger: Ledger) -> None:
    """A long queue is worked off over several rounds."""
    accept(ledger, *(alert(f"f{number}") for number in range(25)))

    rounds = [ledger.inbox.dispatch(limit=10) for _ in range(4)]
    assert rounds == [["INC-1"], ["INC-1"], ["INC-1"], []]
    assert len(ledger.incidents.get("INC-1").alerts) == 25


def test_large_batches_are_split(ledger: Ledger) -> None:
    """No message is larger than the engine can carry."""
    large = [alert(f"f{number}", annotations={"text": "x" * 100_000}) for number in range(5)]
    accept(ledger, *large)
    ledger.inbox.dispatch()

    batches = [batch for _, batch in sent(ledger)]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert list(itertools.chain(*batches)) == large


def test_requeue(ledger: Ledger) -> None:
    """What an ended incident could not take opens another, even while the ended one still looks open."""
    accept(ledger, alert("a"), alert("b"))
    ledger.inbox.dispatch()
    accept(ledger, alert("b", resolved=True))
    ledger.inbox.requeue("INC-1", [alert("a"), alert("b")])
    ledger.inbox.requeue("INC-1", [alert("a"), alert("b")])

    assert ledger.inbox.dispatch() == ["INC-2", "INC-1"]
    assert ledger.incidents.get("INC-2").alerts == (alert("a"),)
    assert ledger.incidents.get("INC-1").alerts == (alert("b", resolved=True),)
    with pytest.raises(NotFoundError):
        ledger.inbox.requeue("INC-x", [])


def test_refused_delivery(ledger: Ledger) -> None:
    """A refused delivery is evidence, with its beginning; the same one again is not new."""
    body = b'{"a": "\xff' + b"x" * 10_000
    ledger.inbox.refuse("alert\x00manager", body, "not JSON: line 1")
    ledger.inbox.refuse("alert\x00manager", body, "not JSON: line 1")

    (entry,) = ledger.evidence.entries()
    assert (entry.kind, entry.body["size"], entry.body["reason"]) == (
        EvidenceKind.ALERT_REFUSED,
        len(body),
        "not JSON: line 1",
    )
    assert str(entry.body["body"]).startswith('{"a": "�xxx')
    assert len(str(entry.body["body"])) == inbox.KEPT_OF_REFUSED


@pytest.mark.parametrize(
    "hostile",
    [
        alert("\x00" * 10_000, name="\x00", summary="a\nb\x00", labels={"\x00": "\x00"}, service="a\x00b"),
        alert("'; DROP TABLE alert; --", service="'; --"),
        alert(annotations={"deep": "[" * 5000}, region="🔥" * 100, summary="\u202e" * 5000),
    ],
)
def test_hostile_alerts(ledger: Ledger, hostile: Alert) -> None:
    """Whatever a label holds, it is kept as data, the same on both databases."""
    accept(ledger, hostile)
    accept(ledger, hostile, body=b"again")

    assert ledger.inbox.dispatch() == ["INC-1"]
    assert ledger.incidents.get("INC-1").alerts == (hostile,)
    assert sent(ledger) == [("INC-1", [hostile])]
    assert "\n" not in ledger.evidence.entries()[-1].summary


@pytest.mark.parametrize("field", ["service", "environment"])
def test_names_that_cannot_be_searched_by(ledger: Ledger, field: str) -> None:
    """A name that no index can hold is refused with a sentence, and nothing of its delivery is kept."""
    with pytest.raises(InputError, match=f"the {field} .* must have 1 to 200 characters"):
        accept(ledger, alert(), alert("f2").model_copy(update={field: "x" * 201}))

    assert ledger.evidence.size() == 0


def test_a_delivery_of_many(ledger: Ledger, database_url: str) -> None:
    """Many alerts let others write in between; where it breaks off, a repeat keeps each once."""
    portion, other = inbox.ALERTS_AT_ONCE, Ledger.open(database_url, clock=Clock())
    kept = []

    def breaks() -> datetime:
        kept.append(len(other.evidence.entries(limit=10_000)))
        if len(kept) == 3:
            raise OSError("the disk is gone")
        return NOON

    broken = Ledger.open(database_url, clock=breaks)
    many = [alert(str(number)) for number in range(2 * portion + 1)]
    with pytest.raises(ProviderUnavailableError, match="the disk is gone"):
        accept(broken, *many)
    broken.close()
    other.close()

    assert kept == [0, portion, 2 * portion]
    assert accept(ledger, *many) == Receipt(delivery=1, accepted=1, duplicates=2 * portion)
    assert ledger.inbox.dispatch(limit=1_000) == ["INC-1"]
    assert len(ledger.incidents.get("INC-1").alerts) == len(many)


def test_an_empty_delivery(ledger: Ledger, clock: Clock) -> None:
    """A delivery with no alerts is kept."""
    clock.forward(timedelta(days=-1))

    assert accept(ledger) == Receipt(delivery=1, accepted=0, duplicates=0)
