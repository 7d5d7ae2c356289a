"""Roles that are handed over: offered with a packet, had from accepting on, and never lost in between."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from authority.decisions import Signer
from contracts.approvals import Envelope, Verdict
from contracts.errors import ConflictError, ForbiddenError, NotFoundError, StanchError
from contracts.evidence import EvidenceKind
from contracts.incidents import Role, Severity
from contracts.notices import Handoff, HandoffState
from ledger import Answer, Ledger, schema
from tests.ledger.crowd import at_once
from tests.ledger.samples import POLICY, Clock, open_incident, plan
from tests.ledger.test_notices import Post, said

IC = Role.INCIDENT_COMMANDER


@pytest.fixture
def incident(ledger: Ledger) -> str:
    """Give an incident that Ada commands."""
    return open_incident(ledger, commander="ada")


def offer(ledger: Ledger, incident: str, person: str = "grace", role: Role = IC) -> Handoff:
    """Let Ada offer a role."""
    return ledger.handoffs.offer(ledger.incidents.get(incident), role, person, by="ada")


def decide(ledger: Ledger, approval: str, person: str, signer: Signer) -> None:
    """Let somebody approve."""
    ledger.approvals.decide(
        approval,
        Answer(
            verdict=Verdict.APPROVE,
            plan_digest=ledger.approvals.get(approval).request.plan_digest,
            person=person,
            authenticated_by="local",
            reason="",
        ),
        policy=POLICY,
        signer=signer,
        trace={},
    )


def test_pending_questions_follow(ledger: Ledger, incident: str, signer: Signer) -> None:
    """Until the other accepts, the old Incident Commander decides; from then on only the new one does."""
    first = ledger.approvals.ask(plan(incident), severity=Severity.SEV1)
    second = ledger.approvals.ask(plan(incident, 2), severity=Severity.SEV1)
    handoff = offer(ledger, incident)
    decide(ledger, first.id, "ada", signer)
    accepted = ledger.handoffs.accept(incident, "grace")

    assert (handoff.state, accepted.state) == (HandoffState.OFFERED, HandoffState.ACCEPTED)
    assert ledger.incidents.get(incident).roles == {IC: "grace"}
    with pytest.raises(ForbiddenError, match="grace"):
        decide(ledger, second.id, "ada", signer)
    decide(ledger, second.id, "grace", signer)
    assert said(ledger, EvidenceKind.HANDOFF) == [
        "ada offers command to grace",
        "grace accepts command from ada",
    ]
    assert said(ledger, EvidenceKind.ROLE_ASSIGNED)[-1] == "grace takes command; until now ada had it"


def test_the_packet(ledger: Ledger, clock: Clock, incident: str, post: Post) -> None:
    """The packet says what waits, what fires and what happens next, as it was at the offer."""
    approval = ledger.approvals.ask(plan(incident), severity=Severity.SEV1)
    post.round()
    packet = offer(ledger, incident).packet

    assert [(one.id, one.title) for one in packet.pending] == [(approval.id, "Scale web to 12")]
    assert [timer.what for timer in packet.timers] == [
        f"the next people are called about {approval.id}",
        f"{approval.id} expires",
    ]
    assert packet.timers[0].at == clock() + timedelta(minutes=5)
    assert (packet.roles, packet.firing) == ({IC: "ada"}, ("ShopErrors",))
    assert ledger.handoffs.list(incident)[0].packet == packet


def test_the_packet_says_what_else_stands(
    ledger: Ledger, clock: Clock, incident: str, signer: Signer
) -> None:
    """Who takes over hears of what may run without a question, and of what may not run at all."""
    facts: dict[str, Any] = {"person": "ada", "authenticated_by": "local", "reason": "it is safe"}
    facts |= {"service": "shop", "environment": "production", "uses": None, "after": timedelta()}
    envelope = Envelope(actions=("k8s.scale",), targets=("k8s:deployment/*",))
    for about, lasts in ((incident, 30), (None, 60), ("INC-9", 90)):
        end = clock() + timedelta(minutes=lasts)
        ledger.grants.give(envelope, incident=about, expires_at=end, signer=signer, **facts)
    ledger.grants.revoke("GRT-2", person="ada", reason="enough")
    with ledger.database.write() as connection:  # a damaged one stops no handoff
        damaged = update(schema.standing_grant).where(schema.standing_grant.c.number == 3)
        connection.execute(damaged.values(content={}))
    for service in ("billing", "shop"):
        ledger.freezes.set(service=service, reason="the network", person="grace")
    packet = offer(ledger, incident).packet

    assert [timer.what for timer in packet.timers] == ["GRT-1 says yes no more to k8s.scale"]
    assert packet.in_force == ("FRZ-2: grace has stopped changes of shop: the network",)


@pytest.fixture
def post(ledger: Ledger) -> Post:
    """Give who delivers."""
    return Post(ledger)


def test_who_is_told(ledger: Ledger, incident: str, post: Post) -> None:
    """The other hears of the offer, and the giver of its acceptance."""
    handoff = offer(ledger, incident)
    post.round()
    ledger.handoffs.accept(incident, "grace")
    post.round()

    assert [one for one in post.sent if not one.startswith(f"{incident}/ada/webhook")] == [
        f"{handoff.id}/grace/email/1",
        f"{incident}/role/2/ada/webhook/1",
    ]


@pytest.mark.parametrize(
    ("person", "error", "sentence"),
    [
        ("linus", ForbiddenError, "offered to grace, not to linus"),
        ("ada", ForbiddenError, "offered to grace, not to ada"),
    ],
)
def test_only_the_person_accepts(
    ledger: Ledger, incident: str, person: str, error: type[StanchError], sentence: str
) -> None:
    """Nobody but the one to whom it is offered gets the role."""
    offer(ledger, incident)

    with pytest.raises(error, match=sentence):
        ledger.handoffs.accept(incident, person)
    assert ledger.incidents.get(incident).roles == {IC: "ada"}


def test_an_offer_that_is_over(ledger: Ledger, clock: Clock, incident: str, post: Post) -> None:
    """An offer that nobody accepts in time ends, and its giver hears that the role is still theirs."""
    handoff = offer(ledger, incident)
    clock.forward(timedelta(minutes=15))
    with pytest.raises(ConflictError, match="expired at 12:15 UTC"):
        ledger.handoffs.accept(incident, "grace")
    post.round()

    (known,) = ledger.handoffs.list(incident)
    assert (known.state, known.closed_at) == (HandoffState.EXPIRED, clock())
    assert f"{handoff.id}/expired/ada/webhook/1" in post.sent
    with pytest.raises(ConflictError, match="no role is offered to grace"):
        ledger.handoffs.accept(incident, "grace")


def test_withdrawing(ledger: Ledger, incident: str, post: Post) -> None:
    """What is taken back cannot be accepted, and the other hears of it; taking back nothing is no error."""
    handoff = offer(ledger, incident)
    taken = ledger.handoffs.withdraw(incident, "ada")
    again = ledger.handoffs.withdraw(incident, "ada")
    post.round()

    assert ([one.state for one in taken], again) == ([HandoffState.WITHDRAWN], [])
    assert f"{handoff.id}/withdrawn/grace/email/1" in post.sent
    with pytest.raises(ConflictError, match="no role is offered"):
        ledger.handoffs.accept(incident, "grace")


def test_another_offer_takes_its_place(ledger: Ledger, incident: str) -> None:
    """A role is offered to one person at a time; the same offer twice is one."""
    first = offer(ledger, incident)
    same = offer(ledger, incident)
    offer(ledger, incident, "linus")

    assert first == same
    assert [one.state for one in ledger.handoffs.list(incident)] == ["offered", "withdrawn"]
    with pytest.raises(ForbiddenError, match="offered to linus"):
        ledger.handoffs.accept(incident, "grace")


@pytest.mark.parametrize("role", [IC, Role.TECHNICAL_LEAD])
def test_a_role_that_moved_meanwhile(ledger: Ledger, incident: str, role: Role) -> None:
    """An offer of somebody who commands no more gives nothing."""
    offer(ledger, incident, role=role)
    ledger.incidents.assign(incident, IC, "linus", by="linus")

    with pytest.raises(ConflictError, match="the roles have changed"):
        ledger.handoffs.accept(incident, "grace")
    assert ledger.incidents.get(incident).roles == {IC: "linus"}


def test_two_roles_to_one_person(ledger: Ledger, incident: str) -> None:
    """Who is offered two roles says which one is accepted."""
    offer(ledger, incident)
    offer(ledger, incident, role=Role.SCRIBE)
    with pytest.raises(ConflictError, match="several roles"):
        ledger.handoffs.accept(incident, "grace")
    ledger.handoffs.accept(incident, "grace", role=Role.SCRIBE)

    assert ledger.incidents.get(incident).roles == {IC: "ada", Role.SCRIBE: "grace"}


def test_accepting_against_withdrawing(ledger: Ledger, incident: str) -> None:
    """Of acceptances and withdrawals at once exactly one wins, and the roles say which."""
    offer(ledger, incident)
    results: list[str] = []

    def accept() -> None:
        try:
            results.append(ledger.handoffs.accept(incident, "grace").state)
        except ConflictError:
            results.append("late")

    def withdraw() -> None:
        results.extend(one.state for one in ledger.handoffs.withdraw(incident, "ada"))

    calls: list[Callable[[], object]] = [accept, withdraw, accept, withdraw]
    at_once(calls)

    (handoff,) = ledger.handoffs.list(incident)
    holder = ledger.incidents.get(incident).roles[IC]
    assert sorted(one for one in results if one != "late") == [handoff.state]
    assert holder == ("grace" if handoff.state is HandoffState.ACCEPTED else "ada")


def test_what_cannot_be_offered(ledger: Ledger, incident: str) -> None:
    """A role is not offered to its holder, nor on the word of an incident as it no longer is."""
    seen = ledger.incidents.get(incident)
    with pytest.raises(ConflictError, match="ada holds this role already"):
        offer(ledger, incident, "ada")
    ledger.incidents.assign(incident, Role.SCRIBE, "linus", by="linus")
    with pytest.raises(ConflictError, match="changed since just now"):
        ledger.handoffs.offer(seen, IC, "grace", by="ada")
    with pytest.raises(NotFoundError, match="INC-9"):
        ledger.handoffs.accept("INC-9", "grace")
    with pytest.raises(NotFoundError, match="HND-9"):
        ledger.handoffs.lapse("HND-9")

    assert ledger.handoffs.list(incident) == []
