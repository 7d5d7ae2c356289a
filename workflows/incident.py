"""The way of one incident: triage, mitigate, monitor, resolve, learn; a person is asked when it is stuck."""

import asyncio

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception
from temporalio.workflow import ContinueAsNewVersioningBehavior, ParentClosePolicy

from contracts import messages, names
from contracts.evidence import ENGINE, Evidence, EvidenceKind
from contracts.incidents import PLAN_AGAIN, Alert, AlertStatus, AttemptEnd, Phase
from contracts.outcomes import MitigationResult
from workflows import calls
from workflows.mitigation import FAILURES, MitigationWorkflow, sentence

# Replay of an uncached run costs about 0.4 ms an event: two thousand keep it under a second.
EVENTS_PER_RUN = 2000
# Nothing was found to be wrong with these plans: when all alerts are over it is watched whether it stays so.
UNDECIDED = (AttemptEnd.WITHDRAWN, AttemptEnd.EXPIRED, AttemptEnd.HELD)


@workflow.defn(
    name=names.INCIDENT_WORKFLOW,
    versioning_behavior=VersioningBehavior.PINNED,
    failure_exception_types=FAILURES,
)
class IncidentWorkflow:
    """Leads one incident from its first alert to its postmortem."""

    @workflow.init
    def __init__(self, start: messages.IncidentInput) -> None:
        self._start = start
        self._incident = start.incident.model_copy(update={"alerts": (), "attempts": ()})
        self._alerts = {alert.episode: alert for alert in start.incident.alerts}
        self._attempts = list(start.incident.attempts)
        self._mitigations = start.mitigations
        self._version = start.version
        self._running = start.running
        self._obeyed = list(start.commands)
        self._resolution: messages.Command | None = None
        self._order = start.order
        self._replan = start.order is not None
        self._news = False
        self._relapsed = False
        self._is_closing = False
        self._in_question = 0
        self._late: list[Alert] = []
        self._ended: MitigationResult | None = None

    @workflow.run
    async def run(self, start: messages.IncidentInput) -> None:
        """Go from phase to phase until the incident is resolved and its postmortem written."""
        if start.version == 0:
            await self._enter(Phase.TRIAGE, "looking for a mitigation")
        while self._resolution is None and not await self._is_over():
            await self._continue_as_new_if_long()
        await self._resolve()
        await workflow.wait_condition(workflow.all_handlers_finished)
        await self._hand_back()

    @workflow.signal(name=names.SIGNAL_ALERTS)
    def alerts(self, batch: messages.AlertBatch) -> None:
        """Attach alerts; one that is known is brought up to date, and a resolved one never fires again."""
        for alert in batch.alerts:
            known = self._alerts.get(alert.episode)
            if (
                known is None
                and (self._is_closing or self._in_question)
                and alert.status is AlertStatus.FIRING
            ):
                self._late.append(alert)
            elif known is None or known.status is AlertStatus.FIRING:
                self._alerts[alert.episode] = alert
                self._news = self._news or known is None

    @workflow.signal(name=names.SIGNAL_COMMAND)
    async def command(self, command: messages.Command) -> None:
        """Obey a person's order that the ledger has recorded, once; what nobody has ordered is not obeyed."""
        if command.id in self._obeyed:
            return
        self._in_question += 1
        checked = await calls.check_command(
            messages.CommandCheck(incident=self._incident.id, command=command)
        )
        self._in_question -= 1
        if checked.is_given and command.id not in self._obeyed:
            self._obeyed.append(command.id)
            match command.kind:  # the severity is the ledger's: it is read there
                case messages.CommandKind.RESOLVE:
                    self._resolution, self._is_closing = command, True
                case messages.CommandKind.REPLAN:
                    self._replan = True
                    self._order = command if command.playbook else None
        if not (self._is_closing or self._in_question):
            late, self._late = tuple(self._late), []
            self.alerts(messages.AlertBatch(alerts=late))

    @workflow.signal(name=names.SIGNAL_MITIGATION_ENDED)
    def mitigation_ended(self, ended: messages.MitigationEnded) -> None:
        """Learn how the running mitigation ended."""
        if self._running is not None and ended.result.mitigation == self._running.mitigation:
            self._ended = ended.result

    async def _is_over(self) -> bool:
        """Take one turn: decide and run a mitigation, or propose one; True once everything stayed healthy."""
        if self._running is None:
            if self._is_clear() and not self._relapsed and self._order is None:
                return await self._monitor()
            return await self._propose()
        result = await self._mitigation(self._running)
        if result is None:
            return False
        self._attempts.append(result.attempt(self._running.actions))
        if result.end is AttemptEnd.DRIFTED:
            self._order = self._order or self._running.order
        self._running = None
        healthy = result.end is AttemptEnd.EFFECTIVE or (result.end in UNDECIDED and self._is_clear())
        if healthy and self._order is None:
            return await self._monitor()
        await self._enter(Phase.TRIAGE, f"{result.mitigation} ended {result.end.value}")
        if result.end not in PLAN_AGAIN and self._order is None:
            await self._ask(f"{result}; look at it, then plan again or resolve")
        return False

    async def _propose(self) -> bool:
        """Plan, and start the plan; True once all stayed healthy while a named playbook had none."""
        order, self._order = self._order, None
        self._replan = self._news = self._relapsed = False
        number = self._mitigations + 1
        request = messages.PlanRequest(incident=self._incident, number=number, order=order)
        try:
            answer = await calls.plan(request)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            answer = messages.PlanAnswer(mitigation="", notes=(sentence(error),))
        why = "; ".join(answer.notes) or "no playbook matches"
        if not answer.approval and order is not None:
            # What was there goes on: the watch, or the playbooks that fit.
            said = f"{order.person} asks for {order.wish}, which has nothing to propose: {why}"
            await self._record(self._incident.phase, self._evidence(EvidenceKind.ATTENTION_NEEDED, said))
            return self._incident.phase is Phase.MONITORING and not self._news and await self._monitor()
        if not answer.approval:
            await self._ask(f"no mitigation to propose: {why}")
            return False
        self._mitigations += 1
        self._running = answer.model_copy(update={"order": order})
        await workflow.start_child_workflow(
            MitigationWorkflow.run,
            messages.MitigationOrder(incident=self._incident.id, answer=answer),
            id=names.mitigation_workflow_id(answer.mitigation),
            parent_close_policy=ParentClosePolicy.ABANDON,
            task_timeout=names.TASK_TIMEOUT,
        )
        await self._enter(Phase.MITIGATING, f"{answer.mitigation} {answer.title}: waiting for approval")
        return False

    async def _mitigation(self, running: messages.PlanAnswer) -> MitigationResult | None:
        """Wait for the running mitigation; withdraw it when it is not wanted and nobody has approved it."""
        await workflow.wait_condition(
            lambda: self._ended is not None or self._unwanted() is not None or self._is_long()
        )
        reason = self._unwanted()
        if self._ended is None and reason is None:
            return None
        if self._ended is None:
            await self._withdraw(running, reason or "")
        ended, self._ended = self._ended, None
        self._replan = False
        return ended

    def _unwanted(self) -> str | None:
        if self._resolution is not None:
            return "the incident was resolved by a person"
        if self._replan:
            return "a person asked for another plan"
        if self._running is not None and self._running.order is not None:
            return None  # a person wants it, whatever the alerts say
        return "all alerts are resolved" if self._is_clear() else None

    async def _withdraw(self, running: messages.PlanAnswer, reason: str) -> None:
        """Ask the mitigation to end if it still waits, and see it end: what runs already is not torn off."""
        handle = workflow.get_external_workflow_handle(names.mitigation_workflow_id(running.mitigation))
        try:
            await handle.signal(names.SIGNAL_WITHDRAW, messages.Withdrawal(reason=reason))
            while self._ended is None:
                await workflow.wait_condition(lambda: self._ended is not None or bool(self._late))
                await self._hand_back()
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            if self._ended is None:
                detail = "its workflow is gone; look at the target"
                self._ended = running.ended(AttemptEnd.IN_DOUBT, detail)

    async def _monitor(self) -> bool:
        """Watch until everything has been healthy for the whole window and no alert fires any more."""
        await self._enter(Phase.MONITORING, "watching that it stays healthy")
        self._news = False
        result = await self._watch()
        is_asked = self._order is not None and not self._news  # planned at once; else it is watched on
        if is_asked or self._resolution is not None:
            return self._resolution is not None
        if not result.stable:
            await self._enter(Phase.TRIAGE, result.detail)
            self._relapsed = result.regressed
            if not result.regressed:
                await self._ask(f"cannot tell whether it is healthy: {result.detail}")
            return False
        try:
            await workflow.wait_condition(
                lambda: self._resolution is not None or self._order is not None or not self._firing(),
                timeout=self._start.monitoring,
            )
        except TimeoutError:
            await self._ask("the signals are healthy but alerts still fire; resolve it or plan again")
            return False
        return self._order is None or self._resolution is not None

    async def _watch(self) -> messages.MonitorResult:
        order = messages.MonitorOrder(
            incident=self._incident.id,
            service=self._incident.service,
            environment=self._incident.environment,
            signals=tuple(dict.fromkeys(alert.signal for alert in self._alerts.values() if alert.signal)),
            hold=self._start.monitoring,
        )
        watching = asyncio.create_task(calls.monitor(order))
        await workflow.wait_condition(
            lambda: (
                watching.done()
                or self._resolution is not None
                or self._order is not None
                or (self._news and bool(self._firing()))
            )
        )
        interrupted = not watching.done()
        if interrupted:
            watching.cancel()
        try:
            return await watching
        except (ActivityError, asyncio.CancelledError) as error:
            if not interrupted and is_cancelled_exception(error):
                raise
            detail = "a new alert fired" if interrupted else sentence(error)
            return messages.MonitorResult(
                stable=False, regressed=interrupted, detail=detail, ended_at=workflow.now()
            )

    async def _ask(self, attention: str) -> None:
        """Say what a person is needed for, and wait for a command, a new alert or the end of all alerts."""
        note = self._evidence(EvidenceKind.ATTENTION_NEEDED, attention)
        await self._record(self._incident.phase, note, attention=attention)
        self._news, was_clear = False, self._is_clear()
        await workflow.wait_condition(
            lambda: (
                self._replan
                or self._news
                or self._resolution is not None
                or self._is_clear() is not was_clear
            )
        )

    async def _resolve(self) -> None:
        """End: what still runs, the postmortem; an alert that comes from now on is for the next incident."""
        self._is_closing = True
        why = self._resolution.reason if self._resolution else "monitoring confirmed stable"
        while self._running is not None:
            result = await self._mitigation(self._running)
            if result is not None:
                self._attempts.append(result.attempt(self._running.actions))
                self._running = None
        await self._enter(Phase.RESOLVED, why, by=self._resolution)
        says = "postmortem drafted; a person completes it"
        try:
            await calls.write_postmortem(messages.PostmortemRequest(incident=self._incident.id))
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            says = f"the postmortem could not be drafted: {sentence(error)}"
        await self._enter(Phase.LEARNING, says)

    async def _hand_back(self) -> None:
        while self._late:
            late, self._late = tuple(self._late), []
            await self._record(self._incident.phase, hand_back=late)

    async def _enter(self, phase: Phase, why: str, *, by: messages.Command | None = None) -> None:
        actor = by.person if by else ENGINE
        note = self._evidence(EvidenceKind.PHASE_CHANGED, f"{phase.value}: {why}", actor)
        await self._record(phase, note, command=by)

    async def _record(
        self,
        phase: Phase,
        *notes: Evidence,
        attention: str | None = None,
        hand_back: tuple[Alert, ...] = (),
        command: messages.Command | None = None,
    ) -> None:
        self._version += 1
        self._incident = self._incident.model_copy(update={"phase": phase, "attention": attention})
        request = messages.RecordRequest(
            incident=self._incident.id,
            version=self._version,
            phase=phase,
            attention=attention,
            attempts=tuple(self._attempts),
            evidence=notes,
            hand_back=hand_back,
            command=command,
        )
        await calls.record(request)

    def _evidence(self, kind: EvidenceKind, summary: str, actor: str = ENGINE) -> Evidence:
        return Evidence(
            key=f"{self._incident.id}/{kind.value}/v{self._version + 1}",
            kind=kind,
            incident=self._incident.id,
            actor=actor,
            at=workflow.now(),
            summary=summary,
        )

    def _firing(self) -> list[Alert]:
        return [alert for alert in self._alerts.values() if alert.status is AlertStatus.FIRING]

    def _is_clear(self) -> bool:
        return bool(self._alerts) and not self._firing()

    def _is_long(self) -> bool:
        info = workflow.info()
        return info.is_continue_as_new_suggested() or info.get_current_history_length() > EVENTS_PER_RUN

    async def _continue_as_new_if_long(self) -> None:
        if not self._is_long():
            return
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._resolution or self._replan or self._relapsed or self._ended:
            return  # the next run would not know of it; the next turn takes it up, and then there is none
        known = {"alerts": tuple(self._alerts.values()), "attempts": tuple(self._attempts)}
        workflow.continue_as_new(
            messages.IncidentInput(
                incident=self._incident.model_copy(update=known),
                monitoring=self._start.monitoring,
                mitigations=self._mitigations,
                version=self._version,
                running=self._running,
                commands=tuple(self._obeyed),
                order=self._order,
            ),
            initial_versioning_behavior=ContinueAsNewVersioningBehavior.AUTO_UPGRADE,
        )
