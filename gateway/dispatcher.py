"""From the ledger's inbox and outbox to whoever acts on it: at least once, in order, harmless when repeated.

Each kind of message has one handler; ``gateway.serve.dispatcher`` names them all. A handler that raises is
called again after a short pause, one that gives a time is called again then, to the second; ``ledger.outbox``
tells of such timers. It runs in the event loop: what it asks of the ledger goes to a thread.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from temporalio import common
from temporalio.client import Client, RPCTimeoutOrCancelledError, WorkflowUpdateFailedError
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from authority.decisions import Signer
from contracts import messages, names
from contracts.approvals import SignedDecision
from contracts.base import Frozen
from contracts.catalogue import Catalogue
from contracts.errors import ProviderUnavailableError
from contracts.in_force import InForceTimer
from ledger import Ledger, OutboxMessage, in_force, outbox
from runtime import temporal

LOG = logging.getLogger("stanch.dispatcher")
TRACER = trace.get_tracer("stanch")
DELIVERED = metrics.get_meter("stanch").create_histogram(
    "stanch.delivery.duration",
    unit="s",
    description="Time of one attempt to deliver a message to the engine, by kind and outcome.",
    explicit_bucket_boundaries_advisory=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

# The SDK says RuntimeError when it cannot connect at all, RPCError when it lost what it had, and has a word
# of its own for an update that no worker answered in time.
UNAVAILABLE = (RPCError, RPCTimeoutOrCancelledError, RuntimeError, ProviderUnavailableError)
# Longer than a delivery takes, and how late one comes whose gateway was killed in the middle of it.
LEASE = timedelta(seconds=10)
RPC_TIMEOUT = timedelta(seconds=5)
# Another gateway's writes wake nobody here: this is how late they are seen at the most.
POLL = 1.0
AT_ONCE = 20
RETRIES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
CHECKPOINT_EVERY = timedelta(seconds=10)

Handler = Callable[[OutboxMessage], Awaitable[datetime | None]]


class Dispatcher:
    """Delivers what the ledger holds; several may run at once, and any may die at any moment.

    Attributes:
        handlers: Kind of message to what delivers it.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        client: Client,
        catalogue: Catalogue,
        signer: Signer,
        clock: Callable[[], datetime],
        handlers: Mapping[str, Handler] | None = None,
    ) -> None:
        """Put it together.

        Args:
            ledger: Whose inbox and outbox.
            client: The engine's.
            catalogue: How long an incident is monitored.
            signer: Signs the evidence log's checkpoints.
            clock: The time.
            handlers: Of the kinds of messages that do not go to an incident or a mitigation that runs.
        """
        own: dict[str, Handler] = {
            outbox.ALERTS: self._alerts,
            outbox.COMMAND: self._command,
            outbox.DECISION: self._decision,
            in_force.UNDO: self._undo,
            in_force.WITHDRAW: self._withdraw,
            in_force.TIMER: self._in_force_timer,
        }
        self.handlers = own | dict(handlers or {})
        self._ledger = ledger
        self._client = client
        self._catalogue = catalogue
        self._signer = signer
        self._clock = clock
        self._news = asyncio.Event()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._checkpoint_at = clock()

    def wake(self) -> None:
        """Say that something was written; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._news.set)

    async def run(self) -> None:
        """Deliver until cancelled; trouble with the ledger or the engine is waited out."""
        try:
            while True:
                self._news.clear()
                try:
                    await self._turn()
                except ProviderUnavailableError as error:
                    LOG.warning("the ledger does not answer: %s", error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL):  # wait_for of Python 3.11 can lose a cancellation
                        await self._news.wait()
        finally:
            for delivery in self._deliveries:
                delivery.cancel()
            await asyncio.gather(*self._deliveries, return_exceptions=True)

    async def _turn(self) -> None:
        """Begin to deliver what waits; a delivery that takes long holds up only its own lane."""
        for message in await asyncio.to_thread(self._claim, AT_ONCE - len(self._deliveries)):
            delivery = asyncio.create_task(self._deliver(message), name=f"outbox {message.id}")
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._delivered)
        if self._clock() >= self._checkpoint_at:
            self._checkpoint_at = self._clock() + CHECKPOINT_EVERY
            await asyncio.to_thread(self._ledger.evidence.checkpoint, self._signer)

    def _claim(self, limit: int) -> list[OutboxMessage]:
        """Correlate what came in and take what can be delivered, both on one way to a thread and back."""
        self._ledger.inbox.dispatch()
        return self._ledger.outbox.claim(limit, LEASE) if limit else []

    def _delivered(self, delivery: asyncio.Task[None]) -> None:
        self._deliveries.discard(delivery)
        self._news.set()  # its lane may hold more
        if not delivery.cancelled() and (error := delivery.exception()) is not None:
            LOG.error("%s: %r; again when its lease is over", delivery.get_name(), error)

    async def _deliver(self, message: OutboxMessage) -> None:
        began = self._loop.time()
        outcome = "done"
        try:
            context, links = await self._cause(message)
            with TRACER.start_as_current_span(f"deliver {message.kind}", context=context, links=links):
                due = await self.handlers[message.kind](message)
        except Exception as error:  # noqa: BLE001  (one message that cannot be sent must not stop the others)
            outcome = "again"
            again = RETRIES[min(message.attempts, len(RETRIES)) - 1]
            level = logging.INFO if isinstance(error, UNAVAILABLE) else logging.ERROR
            LOG.log(level, "outbox %s (%s): %r; again in %s s", message.id, message.kind, error, again)
            retry_in = timedelta(seconds=again)
            await asyncio.to_thread(self._ledger.outbox.failed, message.id, str(error), retry_in)
            self._loop.call_later(again, self._news.set)
        else:
            if due is None:
                await asyncio.to_thread(self._ledger.outbox.done, message.id)
            else:
                await asyncio.to_thread(self._ledger.outbox.again, message.id, due)
        DELIVERED.record(self._loop.time() - began, {"kind": message.kind, "outcome": outcome})

    async def _cause(self, message: OutboxMessage) -> tuple[Context, list[trace.Link]]:
        """Give the span that a delivery belongs to: an incident is one trace, whatever brought the message.

        A message that came by another trace, as a second alert does, is linked to that.
        """
        near = propagate.extract(message.trace)
        if not message.trace:
            return near, []
        opened = propagate.extract(await asyncio.to_thread(self._ledger.incidents.trace, message.incident))
        cause, first = (trace.get_current_span(one).get_span_context() for one in (near, opened))
        if not first.is_valid or cause.trace_id == first.trace_id:
            return near, []
        return opened, [trace.Link(cause)]

    async def _command(self, message: OutboxMessage) -> None:
        """Signal a person's order."""
        workflow = names.incident_workflow_id(message.incident)
        if not await self._signal(
            workflow, names.SIGNAL_COMMAND, messages.Command.model_validate(message.payload)
        ):
            LOG.warning("%s has ended: command %s came too late", message.incident, message.key)

    async def _withdraw(self, message: OutboxMessage) -> None:
        """Tell an undo that it is not wanted any more; one that has ended needs no telling."""
        workflow = names.mitigation_workflow_id(str(message.payload["mitigation"]))
        await self._signal(
            workflow, names.SIGNAL_WITHDRAW, messages.Withdrawal.model_validate(message.payload)
        )

    async def _in_force_timer(self, message: OutboxMessage) -> datetime | None:
        """Do what is due about a mitigation in force: remind, or order its undo."""
        timer = InForceTimer.model_validate(message.payload)
        return await asyncio.to_thread(self._ledger.in_force.tick, timer)

    async def _undo(self, message: OutboxMessage) -> None:
        """Start the workflow of an undo; the same message again starts nothing, even when it has ended."""
        request = messages.UndoRequest.model_validate(message.payload)
        answer = messages.PlanAnswer(mitigation=request.mitigation)
        await self._start(
            names.MITIGATION_WORKFLOW,
            messages.MitigationOrder(incident=request.incident, answer=answer, undo=request),
            id=names.mitigation_workflow_id(request.mitigation),
            static_summary=f"undo of {request.undoes}",
        )

    async def _alerts(self, message: OutboxMessage) -> None:
        """Start the incident's workflow, or signal the running one: durable at once, with no worker up."""
        incident = await asyncio.to_thread(self._ledger.incidents.get, message.incident)
        whole = messages.AlertBatch.model_validate({"alerts": message.payload.get("alerts") or []})
        # A payload of the engine ends at 2 MiB: texts stay in the ledger, alerts come by signals only.
        batch = messages.AlertBatch(alerts=tuple(alert.slim() for alert in whole.alerts))
        incident = incident.model_copy(update={"alerts": ()})
        attributes = {
            temporal.SERVICE: incident.service,
            temporal.ENVIRONMENT: incident.environment,
            temporal.SEVERITY: incident.severity.value,
        }
        if not await self._start(
            names.INCIDENT_WORKFLOW,
            messages.IncidentInput(incident=incident, monitoring=self._catalogue.monitoring),
            id=names.incident_workflow_id(incident.id),
            start_signal=names.SIGNAL_ALERTS,
            start_signal_args=[batch],
            search_attributes=common.TypedSearchAttributes(
                [common.SearchAttributePair(key, value) for key, value in attributes.items()]
            ),
            static_summary=f"{incident.id} {incident.severity.value} {incident.service}",
        ):
            # It ended between the correlation and now: what still fires opens a new incident.
            await asyncio.to_thread(self._ledger.inbox.requeue, message.incident, batch.alerts)

    async def _decision(self, message: OutboxMessage) -> None:
        """Deliver a decision as an Update with a stable id: a time-out is ambiguous, the repeat is not."""
        signed = SignedDecision.model_validate(message.payload)
        decision = signed.decision
        handle = self._client.get_workflow_handle(names.mitigation_workflow_id(decision.mitigation))
        try:
            await handle.execute_update(names.UPDATE_DECIDE, signed, id=message.key, rpc_timeout=RPC_TIMEOUT)
        except WorkflowUpdateFailedError as error:
            LOG.warning("%s: the decision changes nothing any more: %s", decision.request, error.cause)
        except RPCError as error:
            # The question is asked before its workflow is started: not found is too early, or long ended.
            if error.status is not RPCStatusCode.NOT_FOUND or self._clock() < decision.expires_at:
                raise
            await asyncio.to_thread(self._ledger.approvals.undelivered, signed)

    async def _start(self, workflow: str, order: Frozen, **options: Any) -> bool:
        """Start a workflow, or leave the running one alone; say ``False`` when it was there and has ended."""
        try:
            await self._client.start_workflow(
                workflow,
                order,
                task_queue=names.WORKER_QUEUE,
                id_conflict_policy=common.WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=common.WorkflowIDReusePolicy.REJECT_DUPLICATE,
                task_timeout=names.TASK_TIMEOUT,
                rpc_timeout=RPC_TIMEOUT,
                **options,
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def _signal(self, workflow: str, signal: str, content: Frozen) -> bool:
        """Signal a workflow; say ``False`` when it has ended."""
        try:
            handle = self._client.get_workflow_handle(workflow)
            await handle.signal(signal, content, rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True
