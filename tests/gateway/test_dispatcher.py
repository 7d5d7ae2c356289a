"""The dispatcher against an engine that is slow, away or picky: what waits, what does not, in which order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select
from temporalio.client import Client, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from authority.decisions import Signer
from contracts.approvals import Verdict
from contracts.catalogue import Catalogue
from contracts.evidence import EvidenceKind
from contracts.incidents import Attempt, AttemptEnd, Phase, Role, Severity
from contracts.messages import Command, CommandKind, RecordRequest
from gateway.dispatcher import Dispatcher
from ledger import Answer, Ledger, OutboxMessage, ladders, outbox
from ledger.schema import outbox as messages
from runtime.clock import utc_now
from tests.ledger.samples import POLICY, TRACE, plan


class Engine:
    """The part of the SDK's client that the dispatcher calls.

    Attributes:
        heard: Every call that came, as verb and workflow id.
        answers: What the next calls about a workflow do, in order: hang until the event is set, or raise.
    """

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.answers: dict[str, list[asyncio.Event | Exception]] = {}

    async def start_workflow(self, *_: Any, id: str, **__: Any) -> None:  # noqa: A002  (the SDK's own name)
        """Start a workflow, or signal it."""
        await self._answer("start", id)

    def get_workflow_handle(self, workflow: str) -> "Handle":
        """Give a handle."""
        return Handle(self, workflow)

    async def answer(self, verb: str, workflow: str) -> None:
        """Do what was set, or nothing."""
        await self._answer(verb, workflow)

    async def _answer(self, verb: str, workflow: str) -> None:
        self.heard.append((verb, workflow))
        answers = self.answers.get(workflow)
        answer = answers.pop(0) if answers else None
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        elif answer is not None:
            raise answer


class Handle:
    """One workflow's handle."""

    def __init__(self, engine: Engine, workflow: str) -> None:
        self._engine = engine
        self._workflow = workflow

    async def signal(self, *_: Any, **__: Any) -> None:
        """Signal it."""
        await self._engine.answer("signal", self._workflow)

    async def execute_update(self, *_: Any, **__: Any) -> None:
        """Deliver a decision."""
        await self._engine.answer("update", self._workflow)


class Desk:
    """A ledger with a dispatcher at work on it."""

    def __init__(self, ledger: Ledger, engine: Engine) -> None:
        self.ledger = ledger
        self.engine = engine
        self.dispatcher = Dispatcher(
            ledger=ledger,
            client=cast("Client", engine),
            catalogue=Catalogue(),
            signer=Signer(Ed25519PrivateKey.generate()),
            clock=utc_now,
            handlers={"tick": self.tick, ladders.LADDER: self.nobody, ladders.TELL: self.nobody},
        )
        self.ticks: list[str] = []

    def declare(self, service: str) -> str:
        """Open an incident, and give its workflow's id."""
        incident = self.ledger.incidents.declare(
            title=service, service=service, environment="e", severity=Severity.SEV2, person="ada", trace={}
        )
        self.dispatcher.wake()
        return f"incident/{incident.id}"

    def order(self, workflow: str, number: int) -> None:
        """Give an order to an incident."""
        command = Command(id=f"{workflow}/{number}", kind=CommandKind.REPLAN, person="ada")
        self.ledger.incidents.command(workflow.removeprefix("incident/"), command, trace={})
        self.dispatcher.wake()

    def send(self, kind: str, key: str) -> None:
        """Add a message."""
        with self.ledger.database.write() as connection:
            outbox.add(connection, kind=kind, key=key, incident="INC-1", payload={}, trace={}, due=utc_now())
        self.dispatcher.wake()

    async def tick(self, message: OutboxMessage) -> datetime | None:
        """Handle a timer three times."""
        self.ticks.append(message.key)
        return utc_now() + timedelta(milliseconds=50) if len(self.ticks) < 3 else None

    async def nobody(self, message: OutboxMessage) -> None:
        """Call nobody."""

    async def until(self, look: Callable[[], bool], *, within: float = 5.0) -> float:
        """Wait until something is so, and give how long that took."""
        began = asyncio.get_running_loop().time()
        while not look():
            await asyncio.sleep(0.005)
            assert asyncio.get_running_loop().time() - began < within, self.engine.heard
        return asyncio.get_running_loop().time() - began


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Give a desk with nothing on it."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=utc_now)
    ledger.migrate()
    desk = Desk(ledger, Engine())
    running = asyncio.create_task(desk.dispatcher.run())
    yield desk
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    ledger.close()


async def test_a_slow_delivery_holds_up_nobody_else(desk: Desk) -> None:
    """While one workflow does not answer, another incident's messages arrive at once."""
    slow = "incident/INC-1"
    desk.engine.answers[slow] = [asyncio.Event()]
    assert desk.declare("slow") == slow
    await desk.until(lambda: ("start", slow) in desk.engine.heard)
    other = desk.declare("other")
    await desk.until(lambda: ("start", other) in desk.engine.heard)

    assert desk.ledger.outbox.backlog() >= 1


async def test_a_lane_keeps_its_order(desk: Desk) -> None:
    """An order does not overtake the start of its own incident, however long that takes."""
    started = asyncio.Event()
    workflow = "incident/INC-1"
    desk.engine.answers[workflow] = [started]
    desk.declare("slow")
    for number in range(3):
        desk.order(workflow, number)
    await asyncio.sleep(0.3)
    before = list(desk.engine.heard)
    started.set()
    await desk.until(lambda: desk.ledger.outbox.backlog() == 0)

    assert before == [("start", workflow)]
    assert desk.engine.heard == [("start", workflow), *[("signal", workflow)] * 3]


@pytest.mark.parametrize(
    "error",
    [
        RPCError("away", RPCStatusCode.UNAVAILABLE, b""),
        WorkflowUpdateRPCTimeoutOrCancelledError(),
        KeyError("a mistake of ours"),
    ],
    ids=["unavailable", "unanswered", "mistake"],
)
async def test_a_failed_delivery_is_tried_again_when_it_is_due(desk: Desk, error: Exception) -> None:
    """What did not arrive is sent again after its short pause, not when the next poll happens to come."""
    workflow = "incident/INC-1"
    desk.engine.answers[workflow] = [error, error, error]
    desk.declare("picky")
    took = await desk.until(lambda: desk.ledger.outbox.backlog() == 0)

    assert desk.engine.heard == [("start", workflow)] * 4
    assert took < 2.5  # three polls would be three seconds


async def test_a_handler_that_gives_a_time_is_called_again_then(desk: Desk) -> None:
    """A timer goes off as often as its handler sets it anew."""
    desk.send("tick", "t")
    await desk.until(lambda: len(desk.ticks) == 3)
    await asyncio.sleep(0.2)

    assert desk.ticks == ["t", "t", "t"]


async def test_a_message_that_nobody_here_knows_stays(desk: Desk) -> None:
    """What a newer gateway has written waits for one that can handle it."""
    desk.send("of tomorrow", "t")
    await asyncio.sleep(0.3)

    assert desk.ledger.outbox.backlog() == 1


async def test_more_than_fit_at_once_all_arrive(desk: Desk) -> None:
    """When all places are taken by deliveries that hang, the rest arrives as soon as places are free."""
    free = asyncio.Event()
    workflows = [f"incident/INC-{number}" for number in range(1, 31)]
    desk.engine.answers = {workflow: [free] for workflow in workflows}
    for workflow in workflows:
        desk.declare(workflow)
    await desk.until(lambda: len(desk.engine.heard) == 20)
    await asyncio.sleep(0.2)
    at_once = len(desk.engine.heard)
    free.set()
    await desk.until(lambda: desk.ledger.outbox.backlog() == 0)

    assert at_once == 20
    assert sorted(desk.engine.heard) == sorted(("start", workflow) for workflow in workflows)


@pytest.mark.parametrize("has_ended", [False, True])
async def test_a_decision_that_no_workflow_takes_is_not_lost_silently(desk: Desk, *, has_ended: bool) -> None:
    """Where a mitigation's workflow is gone, people are told that nothing runs, unless it has ended."""
    incident = desk.declare("shop").removeprefix("incident/")
    desk.ledger.incidents.assign(incident, Role.INCIDENT_COMMANDER, "bob", by="bob")
    sealed = plan(incident, expires_at=utc_now() + timedelta(hours=1))
    request = desk.ledger.approvals.ask(sealed, severity=Severity.SEV2)
    if has_ended:
        facts = {"mitigation": sealed.mitigation, "playbook": "p", "title": "t", "plan_digest": ""}
        attempts = (Attempt(**facts, end=AttemptEnd.REFUSED),)
        ended = RecordRequest(incident=incident, version=1, phase=Phase.TRIAGE, attempts=attempts)
        desk.ledger.incidents.record(ended)
    gone = RPCError("gone", RPCStatusCode.NOT_FOUND, b"")
    desk.engine.answers[f"mitigation/{sealed.mitigation}"] = [gone] * 99
    desk.ledger.approvals.decide(
        request.id,
        Answer(Verdict.APPROVE, request.plan_digest, "bob", "local"),
        policy=POLICY,
        signer=desk.dispatcher._signer,  # noqa: SLF001  (any will do)
        trace=TRACE,
    )
    desk.dispatcher._clock = lambda: sealed.expires_at  # noqa: SLF001  (nobody waits for an hour)
    desk.dispatcher.wake()
    query = select(messages.c.done_at).where(messages.c.kind == outbox.DECISION)
    await desk.until(lambda: [row.done_at for row in desk.ledger.database.rows(query)] != [None])
    entries = desk.ledger.evidence.entries(incident=incident)
    said = [one.summary for one in entries if one.kind is EvidenceKind.ATTENTION_NEEDED]
    told = desk.ledger.database.rows(select(messages.c.id).where(messages.c.kind == ladders.TELL))

    lost = f"{request.id}: nothing runs under bob's answer, {sealed.mitigation} is gone"
    assert said == ([] if has_ended else [lost])
    assert len(told) == len(said)


async def test_what_is_cut_off_is_delivered_by_the_next(desk: Desk, tmp_path: Path) -> None:
    """A delivery that the end of the process cut off is sent again once its lease is over."""
    workflow = "incident/INC-1"
    desk.engine.answers[workflow] = [asyncio.Event()]
    desk.declare("slow")
    await desk.until(lambda: desk.engine.heard == [("start", workflow)])
    later = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=lambda: utc_now() + timedelta(minutes=1))
    claimed = later.outbox.claim(10, timedelta(seconds=30))
    later.close()

    assert [(message.incident, message.attempts) for message in claimed] == [("INC-1", 2)]
