"""Messages out: in order within a lane, under a lease, at least once."""

import itertools
from datetime import datetime, timedelta

from sqlalchemy import insert

from contracts.errors import StanchError
from contracts.incidents import Severity
from contracts.messages import Command, CommandKind
from ledger import Ledger, OutboxMessage, outbox, schema
from tests.ledger.crowd import at_once
from tests.ledger.samples import NOON, TRACE, Clock, to_engine

LEASE = timedelta(seconds=30)


def send(
    ledger: Ledger,
    key: str,
    *,
    incident: str = "INC-1",
    kind: str = outbox.ALERTS,
    due: datetime | None = None,
) -> None:
    """Add a message."""
    with ledger.database.write() as connection:
        outbox.add(
            connection,
            kind=kind,
            key=key,
            incident=incident,
            payload={"text": key},
            trace=TRACE,
            due=due,
        )


def claimed(ledger: Ledger, limit: int = 10) -> list[str]:
    """Claim, and give the keys."""
    return [message.key for message in ledger.outbox.claim(limit, LEASE)]


def test_a_message(ledger: Ledger) -> None:
    """A claimed message says all that its delivery needs."""
    send(ledger, "a")

    assert ledger.outbox.backlog() == 1
    assert ledger.outbox.claim(10, LEASE) == [
        OutboxMessage(
            id=1,
            kind="incident.alerts",
            key="a",
            incident="INC-1",
            payload={"text": "a"},
            trace=TRACE,
            attempts=1,
        )
    ]


def test_order_within_an_incident(ledger: Ledger) -> None:
    """The next message of an incident is handed out only when the former has arrived."""
    for key in "abc":
        send(ledger, key)
    send(ledger, "d", incident="INC-2")
    send(ledger, "e", kind=outbox.COMMAND)

    for expected in (["a", "d"], ["b"], ["c"], ["e"]):
        messages = ledger.outbox.claim(10, LEASE)
        assert [message.key for message in messages] == expected
        assert claimed(ledger) == []
        for message in messages:
            ledger.outbox.done(message.id)
    assert ledger.outbox.backlog() == 0


def test_a_lost_claimer(ledger: Ledger, clock: Clock) -> None:
    """A message whose claimer died is handed out again when its lease is over, and counts its attempts."""
    send(ledger, "a")
    ledger.outbox.claim(10, LEASE)
    clock.forward(LEASE - timedelta(seconds=1))

    assert claimed(ledger) == []
    clock.forward(timedelta(seconds=1))
    assert [message.attempts for message in ledger.outbox.claim(10, LEASE)] == [2]


def test_failure(ledger: Ledger, clock: Clock) -> None:
    """A failed message waits as long as it was told, and keeps its incident's others behind it."""
    send(ledger, "a")
    send(ledger, "b")
    (message,) = ledger.outbox.claim(10, LEASE)
    ledger.outbox.failed(message.id, "the engine is away\x00", timedelta(minutes=1))
    clock.forward(timedelta(seconds=59))

    assert claimed(ledger) == []
    clock.forward(timedelta(seconds=1))
    assert claimed(ledger) == ["a"]


def test_a_decision_does_not_wait_behind_alerts(ledger: Ledger) -> None:
    """An approval goes out at once, though alerts of the same incident or another approval wait."""
    send(ledger, "a")
    (message,) = ledger.outbox.claim(10, LEASE)
    ledger.outbox.failed(message.id, "no", timedelta(minutes=1))
    send(ledger, "APR-1", kind=outbox.DECISION)
    send(ledger, "APR-1/force/1", kind=outbox.DECISION)
    send(ledger, "APR-2", kind=outbox.DECISION)

    assert claimed(ledger) == ["APR-1", "APR-2"]


def test_done_counts_whoever_says_it(ledger: Ledger, clock: Clock) -> None:
    """A claimer that lost its lease but did deliver is believed, and a failure after that is not."""
    send(ledger, "a")
    (message,) = ledger.outbox.claim(10, LEASE)
    clock.forward(LEASE)
    assert claimed(ledger) == ["a"]
    ledger.outbox.done(message.id)
    ledger.outbox.done(message.id)
    ledger.outbox.failed(message.id, "too late", timedelta())

    assert ledger.outbox.backlog() == 0
    assert claimed(ledger) == []


def test_the_clock_jumps_back(ledger: Ledger, clock: Clock) -> None:
    """A lease or a pause that was taken under a wrong clock does not hold a message for hours."""
    clock.forward(timedelta(hours=5))
    send(ledger, "a")
    (message,) = ledger.outbox.claim(10, LEASE)
    clock.forward(timedelta(hours=-5))
    assert claimed(ledger) == ["a"]
    ledger.outbox.failed(message.id, "no", timedelta(days=30))
    clock.forward(outbox.LONGEST_WAIT)

    assert claimed(ledger) == ["a"]


def test_a_timer(ledger: Ledger, clock: Clock) -> None:
    """What is due later is handed out then, keeps nobody waiting until then, and is no backlog."""
    send(ledger, "timer", due=NOON + timedelta(days=3))
    send(ledger, "a")

    assert ledger.outbox.backlog() == 1
    assert claimed(ledger) == ["a"]
    clock.forward(timedelta(days=3) - timedelta(seconds=1))
    assert "timer" not in claimed(ledger)
    clock.forward(timedelta(seconds=1))
    assert claimed(ledger) == ["timer"]


def test_a_timer_is_due_again(ledger: Ledger, clock: Clock) -> None:
    """A timer that was handled may be set again; one that was delivered may not."""
    send(ledger, "timer", due=NOON)
    (message,) = ledger.outbox.claim(10, LEASE)
    ledger.outbox.again(message.id, NOON + timedelta(hours=2))
    clock.forward(timedelta(hours=1))

    assert claimed(ledger) == []
    clock.forward(timedelta(hours=1))
    assert [message.attempts for message in ledger.outbox.claim(10, LEASE)] == [1]
    ledger.outbox.done(message.id)
    ledger.outbox.again(message.id, NOON)
    assert claimed(ledger) == []


def test_a_timer_of_a_wrong_clock(ledger: Ledger, clock: Clock) -> None:
    """A timer that was set while the clock was far ahead is handed out, so that its handler sets it anew."""
    clock.forward(timedelta(days=400))
    send(ledger, "timer", due=clock() + timedelta(minutes=5))
    clock.forward(timedelta(days=-400))
    (message,) = ledger.outbox.claim(10, LEASE)
    ledger.outbox.again(message.id, clock() + timedelta(minutes=5))

    assert claimed(ledger) == []


def test_several_gateways(ledger: Ledger) -> None:
    """Claimers at the same moment never get the same message, nor two of one incident."""
    for number in range(60):
        send(ledger, f"m{number}", incident=f"INC-{number % 20}")
    claims = at_once([lambda: ledger.outbox.claim(5, LEASE)] * 8)
    messages = list(itertools.chain(*(claim for claim in claims if not isinstance(claim, StanchError))))
    messages += ledger.outbox.claim(100, LEASE)

    assert sorted(message.key for message in messages) == sorted(f"m{number}" for number in range(20))


def test_limit(ledger: Ledger) -> None:
    """No more are handed out than were asked for, the oldest first."""
    for number in range(5):
        send(ledger, f"m{number}", incident=f"INC-{number}")

    assert claimed(ledger, 2) == ["m0", "m1"]
    assert claimed(ledger, 2) == ["m2", "m3"]


def test_a_message_of_a_command(ledger: Ledger) -> None:
    """A declared incident's workflow is started before a command to it is sent."""
    incident = ledger.incidents.declare(
        title="t", service="shop", environment="e", severity=Severity.SEV1, person="ada", trace=TRACE
    )
    ledger.incidents.command(incident.id, Command(id="c", kind=CommandKind.REPLAN, person="ada"), trace=TRACE)

    assert [message.kind for message in to_engine(ledger)] == [outbox.ALERTS]


def test_delivered_messages_are_not_in_the_way(ledger: Ledger) -> None:
    """A message that waits is found behind thousands that have arrived."""
    done = {"kind": "k", "incident": "INC-1", "lane": "INC-1", "payload": {}, "trace": {}, "attempts": 1}
    done |= {"created_at": NOON, "available_at": NOON, "due_at": NOON, "done_at": NOON, "error": ""}
    with ledger.database.write() as connection:
        connection.execute(insert(schema.outbox), [done | {"key": str(number)} for number in range(2000)])
    send(ledger, "a")

    assert claimed(ledger) == ["a"]
