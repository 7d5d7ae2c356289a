"""Wrong approvals by whoever may write to the engine's namespace: messages of every sort, without a gateway.

Decisions that the gateway never signed go one after the other, and each has to be in the evidence; so do
orders that nobody gave, and true decisions that are not due. The other messages may stall or end a
mitigation, as whoever may write there can end every workflow; none may act.
"""

import asyncio
import random
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import (
    ActivityFailureError,
    RPCTimeoutOrCancelledError,
    WorkflowFailureError,
    WorkflowUpdateFailedError,
)
from temporalio.service import RPCError

from activities.steps import forbidden_key
from authority.decisions import Signer
from authority.seals import digest
from contracts import messages, names
from contracts.approvals import Approval, Decision, Envelope, SignedDecision, Verdict
from contracts.base import Frozen
from contracts.evidence import Evidence, EvidenceKind
from contracts.incidents import AttemptEnd, Incident, Phase, Severity
from contracts.outcomes import Direction, MitigationResult
from runtime.clock import utc_now
from tests import site as sites
from tests.campaigns.forging import Count, Table, memory, other
from tests.site import Site, until

GRANTED = "s2"
STRANGER = Signer(Ed25519PrivateKey.generate())
SIGNALS = (
    names.SIGNAL_ALERTS,
    names.SIGNAL_COMMAND,
    names.SIGNAL_DECISION,
    names.SIGNAL_MITIGATION_ENDED,
    names.SIGNAL_WITHDRAW,
)
# The SDK has a word of its own for an update that no worker has answered when we stop to wait.
REFUSED = (WorkflowUpdateFailedError, RPCError, RPCTimeoutOrCancelledError)


class Raw:
    """A client of the engine with nothing of ours but the names."""

    def __init__(self, site: Site, seeded: int) -> None:
        self.rng = random.Random(seeded)  # noqa: S311  (forgeries that can be repeated, not secrets)
        self.site = site
        self.client = site.client

    def grant(self) -> None:
        """Let a person say yes ahead to all flags of a service that has no incident."""
        self.site.ledger.grants.give(
            Envelope(actions=("launchdarkly.set_flag",), targets=("launchdarkly:flag/web/production/*",)),
            service=GRANTED,
            environment="production",
            incident=None,
            person="grace",
            authenticated_by="local",
            reason="flags are safe",
            expires_at=utc_now() + timedelta(days=1),
            uses=None,
            after=timedelta(),
            signer=self.site.signer,
        )

    async def waiting(self, service: str) -> Approval:
        """Give a request whose workflow waits for the decision."""
        self.site.alert(service)
        incident = await self.site.command(service)
        asked = await self.site.asked(incident.id)
        await self.site.phase(incident.id, Phase.MITIGATING, within=60)
        return asked

    def forged(self, asked: Approval) -> SignedDecision:
        """Give a decision on a request that our gateway never signed, or that was changed afterwards."""
        decision = Decision(
            request=asked.request.id,
            incident=asked.plan.incident,
            mitigation=asked.plan.mitigation,
            plan_digest=asked.request.plan_digest,
            policy_digest=asked.plan.policy_digest,
            verdict=self.rng.choice(list(Verdict)),
            person=f"person{self.rng.getrandbits(32):x}",
            authenticated_by=self.rng.choice(["oidc", "policy", "grant"]),
            steps=self.rng.choice([(), (1,), (9,)]),
            break_glass=self.rng.random() < 0.2,
            decided_at=utc_now(),
            expires_at=self.rng.choice([asked.plan.expires_at, other(self.rng, asked.plan.expires_at)]),
        )
        signed = STRANGER.sign(decision)
        return signed.model_copy(update={"key_id": self.rng.choice([self.site.signer.key_id, signed.key_id])})

    def order(self, asked: Approval, signed: SignedDecision) -> messages.StepOrder:
        """Give the order that a workflow makes of a decision."""
        return messages.StepOrder(
            incident=asked.plan.incident,
            mitigation=asked.plan.mitigation,
            step=1,
            direction=Direction.APPLY,
            plan_digest=asked.request.plan_digest,
            signed=signed,
        )

    async def decide(self, asked: Approval, count: Count) -> None:
        """Deliver one forged decision by update or signal, and wait for it in the evidence."""
        signed = self.forged(asked)
        key = forbidden_key(self.order(asked, signed))
        handle = self.client.get_workflow_handle(names.mitigation_workflow_id(asked.plan.mitigation))
        if self.rng.random() < 0.5:
            await handle.execute_update(names.UPDATE_DECIDE, signed)
        else:
            await handle.signal(names.SIGNAL_DECISION, signed)
        count.tried += 1
        count.logged += await until(lambda: self.site.ledger.evidence.has(key), within=60, what=f"{signed}")
        count.entries += 1
        await asyncio.sleep(0.1)  # until the workflow has looked at the ledger and waits again

    async def misdeliver(self, asked: Approval, count: Count) -> None:
        """Send what our workflows do not take: another request's decision, nonsense, unknown messages."""
        workflow = self.rng.choice(
            [
                names.mitigation_workflow_id(asked.plan.mitigation),
                names.incident_workflow_id(asked.plan.incident),
            ]
        )
        handle = self.client.get_workflow_handle(workflow)
        signed = self.forged(asked)
        elsewhere = signed.model_copy(
            update={"decision": signed.decision.model_copy(update={"request": "APR-999999"})}
        )
        nonsense: list[Any] = [{}, "x", None, b"x", [], {"decision": {"verdict": "approve"}}, {"alerts": 1}]
        content: Any = self.rng.choice([elsewhere, *nonsense])
        name = self.rng.choice([names.UPDATE_DECIDE, names.SIGNAL_DECISION, "approve", "run_step", "__reset"])
        count.tried += 1
        try:
            async with asyncio.timeout(10):
                if self.rng.random() < 0.5:
                    await handle.execute_update(name, content)
                elif self.rng.random() < 0.5:
                    await handle.signal(self.rng.choice(["approve", "", "decisions"]), content)
                else:
                    await handle.signal(self.rng.choice(SIGNALS), self.rng.choice(nonsense))
        except (*REFUSED, TimeoutError):
            pass

    async def start(self, asked: Approval, count: Count) -> None:
        """Start a workflow type of ours with crafted input, under a name of its own, and approve it there."""
        number = self.rng.getrandbits(32)
        plan = asked.plan
        step = messages.StepBrief(number=1, title="x", verified=False, undoable=True)
        answer = messages.PlanAnswer(
            mitigation=plan.mitigation,
            approval=self.rng.choice([asked.request.id, "APR-999999"]),
            plan_digest=self.rng.choice([asked.request.plan_digest, "0" * 64]),
            expires_at=asked.plan.expires_at,
            steps=(step,),
        )
        undo = messages.UndoRequest(
            incident=plan.incident,
            mitigation=f"{plan.incident}/7-undo",
            undoes=f"{plan.incident}/7",
            person="ada",
            reason="x",
        )
        made = messages.MitigationOrder(
            incident=plan.incident, answer=answer, undo=self.rng.choice([None, None, undo])
        )
        invented = Incident(
            id=f"INC-{number}",
            title="x",
            service="s0",
            environment="production",
            severity=Severity.SEV1,
            phase=Phase.TRIAGE,
            opened_at=utc_now(),
        )
        whole = messages.IncidentInput(
            incident=invented, monitoring=timedelta(seconds=1), running=self.rng.choice([None, answer])
        )
        orders: list[tuple[str, Frozen]] = [
            (names.MITIGATION_WORKFLOW, made),
            (names.MITIGATION_WORKFLOW, made),
            (names.INCIDENT_WORKFLOW, whole),
        ]
        kind, order = self.rng.choice(orders)
        handle = await self.client.start_workflow(
            kind, order, id=f"crafted/{number}", task_queue=names.WORKER_QUEUE
        )
        if kind == names.MITIGATION_WORKFLOW:
            signed = self.forged(asked)
            signed = signed.model_copy(
                update={"decision": signed.decision.model_copy(update={"request": answer.approval})}
            )
            with suppress(RPCError):
                await handle.signal(names.SIGNAL_DECISION, signed)
        count.tried += 1
        await asyncio.sleep(0.2)
        with suppress(RPCError):  # it has ended by itself
            await handle.terminate("tried")

    async def redirect(self, asked: Approval, count: Count) -> None:
        """Start an incident's workflow again, about a service for which a standing grant answers at once."""
        number = self.rng.getrandbits(32)
        real = self.site.ledger.incidents.get(asked.plan.incident)
        wrong = {"service": GRANTED, "attempts": (), "alerts": (self.site.firing(GRANTED),)}
        order = messages.IncidentInput(
            incident=real.model_copy(update=wrong),
            monitoring=timedelta(seconds=1),
            mitigations=number,
        )
        await self.client.start_workflow(
            names.INCIDENT_WORKFLOW, order, id=f"redirected/{number}", task_queue=names.WORKER_QUEUE
        )
        count.tried += 1
        planned = f"{real.id}/{number + 1}"
        made = await until(lambda: self.site.ledger.approvals.for_mitigation(planned), within=60)
        count.acted += made.plan.service != real.service
        with suppress(RPCError):
            await self.client.get_workflow_handle(f"redirected/{number}").terminate("tried")

    async def command(self, asked: Approval, count: Count) -> None:
        """Signal an order that nobody gave, and write down in somebody's name that it was obeyed."""
        kind = self.rng.choice([messages.CommandKind.RESOLVE, messages.CommandKind.REPLAN])
        command = messages.Command(id=f"{self.rng.getrandbits(32):x}", kind=kind, person="grace", reason="x")
        incident = asked.plan.incident
        handle = self.client.get_workflow_handle(names.incident_workflow_id(incident))
        await handle.signal(names.SIGNAL_COMMAND, command)
        ledger = self.site.ledger
        key = f"{incident}/refused/{digest(command)[:32]}"
        count.tried += 1
        count.logged += await until(lambda: ledger.evidence.has(key), within=60, what=f"{command}")
        count.entries += 1
        told = Evidence(
            key=f"{incident}/{self.rng.choice(['command/x', '1/ended', 'phase_changed/v9'])}",
            kind=self.rng.choice(list(EvidenceKind)),
            incident=incident,
            actor="grace",
            at=utc_now(),
            summary="resolved: all good",
        )
        record = messages.RecordRequest(
            incident=incident, version=10**6, phase=Phase.RESOLVED, evidence=(told,), command=command
        )
        with suppress(WorkflowFailureError, ActivityFailureError):
            await self._run(names.RECORD, record)
        seen = ledger.incidents.get(incident)
        said = [
            one.actor for one in ledger.evidence.entries(incident=incident) if one.summary == told.summary
        ]
        count.acted += (seen.phase is not Phase.MITIGATING) + len(said)

    async def repeat(self, asked: Approval, count: Count) -> None:
        """Order with the decision that is right what is not due: again, back, by force, another step."""
        signed = self.site.ledger.approvals.get(asked.request.id).request.signed
        assert signed is not None
        changes = {"direction": Direction.UNDO}
        if self.site.ledger.evidence.has(names.ended_key(asked.plan.mitigation)):
            changes["direction"] = self.rng.choice(list(Direction))
        order = self.order(asked, signed).model_copy(update=changes)
        before = len(self.site.flags.arrived("PATCH"))
        await self._run(names.RUN_STEP, order)
        count.tried += 1
        count.acted += len(self.site.flags.arrived("PATCH")) - before
        count.logged += self.site.ledger.evidence.has(forbidden_key(order))
        count.entries += 1

    async def undo(self, asked: Approval, count: Count) -> None:
        """Start the undo of what is in force, which nobody has asked for, in somebody's name."""
        undoes, ledger = asked.plan.mitigation, self.site.ledger
        name = f"{undoes}-undo-{self.rng.randrange(2, 10**6)}"
        facts = {"incident": asked.plan.incident, "mitigation": name, "undoes": undoes, "reason": "fixed"}
        wanted = messages.UndoRequest.model_validate(facts | {"person": self.rng.choice(["ada", "stanch"])})
        answer = messages.PlanAnswer(mitigation=name)
        order = messages.MitigationOrder(incident=wanted.incident, answer=answer, undo=wanted)
        workflow = names.mitigation_workflow_id(name)
        handle = await self.client.start_workflow(
            names.MITIGATION_WORKFLOW, order, id=workflow, task_queue=names.WORKER_QUEUE
        )
        async with asyncio.timeout(60):
            await handle.result()
        count.tried += 1
        count.acted += ledger.approvals.for_mitigation(name) is not None
        count.logged += ledger.evidence.has(names.ended_key(name))
        count.entries += 1

    async def _run(self, activity: str, order: Frozen) -> Any:
        """Run an activity of ours by itself."""
        name, limit = f"raw/{self.rng.getrandbits(64):x}", timedelta(seconds=30)
        return await self.client.execute_activity(
            activity, order, id=name, task_queue=names.WORKER_QUEUE, schedule_to_close_timeout=limit
        )

    async def end(self, asked: Approval, count: Count) -> None:
        """Tell an incident how its mitigation ended, withdraw it, reset and terminate it."""
        handle = self.client.get_workflow_handle(names.mitigation_workflow_id(asked.plan.mitigation))
        incident = self.client.get_workflow_handle(names.incident_workflow_id(asked.plan.incident))
        result = MitigationResult(
            mitigation=asked.plan.mitigation,
            playbook=asked.plan.playbook,
            title=asked.plan.title,
            plan_digest=asked.request.plan_digest,
            end=AttemptEnd.EFFECTIVE,
            detail="it helped",
            applied=True,
        )
        withdrawal = messages.Withdrawal(reason="x")
        for _ in range(3):
            with suppress(RPCError):  # it has ended meanwhile
                await incident.signal(names.SIGNAL_MITIGATION_ENDED, messages.MitigationEnded(result=result))
                await handle.signal(names.SIGNAL_WITHDRAW, withdrawal)
            await asyncio.sleep(0.3)
            await self._reset(handle.id)
            with suppress(RPCError):
                await handle.terminate("x")
            await self._reset(handle.id)
            count.tried += 5

    async def _reset(self, workflow: str) -> None:
        asked = ResetWorkflowExecutionRequest(
            namespace=self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow),
            workflow_task_finish_event_id=4,
            request_id=f"{self.rng.getrandbits(64):x}",
            reason="x",
        )
        with suppress(RPCError):  # its history is too short by now
            await self.client.workflow_service.reset_workflow_execution(asked)
        await asyncio.sleep(0.3)


async def forge(seeded: int, total: int) -> Table:
    """Try so many messages; raises when a true decision does not act in the end."""
    names_of = (
        "T10 forged decision, straight",
        "T10 message that is not taken",
        "T12 crafted workflow",
        "T12 incident about something else",
        "T12 order that nobody gave",
        "T9 true decision, out of turn",
        "T12 ended, reset",
        "T12 undo that nobody asked for",
    )
    table = {name: Count(is_silent=number in (1, 2, 3, 6)) for number, name in enumerate(names_of)}
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        # Its requests wait for as long as the campaign lasts.
        async with sites.site(Path(folder), services=3, approval=timedelta(days=1)) as site:
            raw = Raw(site, seeded)
            raw.grant()
            first, second = [await raw.waiting(service) for service in ("s0", "s1")]
            for number in range(total):
                kinds = (raw.decide, raw.misdeliver, raw.start, raw.redirect, raw.command)
                kind = (0, 0, 1, 2, 3, 4)[number % 6]
                await kinds[kind](first, table[names_of[kind]])
            await raw.end(second, table[names_of[6]])
            await asyncio.sleep(1)
            sent = len(site.flags.arrived("PATCH"))
            site.decide(first)
            flag = first.plan.steps[0].action.target.path[-1]
            await until(lambda: site.changes(flag) == 1, within=60, what="the true decision")
            table[names_of[0]].acted += sent
            await raw.repeat(first, table[names_of[5]])
            ended = names.ended_key(first.plan.mitigation)
            await until(lambda: site.ledger.evidence.has(ended), within=60, what="its end")
            for _ in range(total // 6 + 1):
                await raw.repeat(first, table[names_of[5]])
                await raw.undo(first, table[names_of[7]])
            site.check_audit()
    return table
