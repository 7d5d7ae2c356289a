"""Asking the playbooks, sealing what they propose, and putting the question to a person."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

from pydantic import ValidationError
from temporalio import activity

from activities.beating import beating
from activities.readiness import readiness
from activities.registry import Registry
from authority.guardrails import Guardrails
from authority.policy import Policy
from authority.seals import digest
from contracts import errors, names
from contracts.actions import ActionRequest, ProbeRequest, ResultT
from contracts.base import JsonObject
from contracts.catalogue import Catalogue, ServiceEnvironment
from contracts.in_force import InForce
from contracts.incidents import OPEN_PHASES, Attempt, AttemptEnd, Incident
from contracts.messages import Command, PlanAnswer, PlanRequest, PreviewAnswer, PreviewRequest, StepBrief
from contracts.plans import (
    ActionCall,
    Difference,
    Observation,
    Plan,
    ProbeCall,
    Proposal,
    ProposedStep,
    Risk,
    Step,
    Verification,
)
from contracts.playbooks import Playbook, find
from contracts.policy import Question
from contracts.readiness import Readiness
from ledger import Ledger

RISKS = list(Risk)
# A playbook sees this many of an incident's alerts.
ALERTS = 100


@dataclass
class RegistryLook:
    """A playbook's read-only view of the world: probes and observations, each in a thread."""

    registry: Registry
    service: ServiceEnvironment
    now: datetime
    left: Callable[[], Sequence[InForce]] = tuple

    async def at(self, request: ProbeRequest[ResultT]) -> ResultT:
        """Look once through a probe."""
        seen: Any = await asyncio.to_thread(self.registry.look, request)
        return cast(ResultT, seen)

    async def observe(self, request: ActionRequest) -> Observation:
        """Read an action's target."""
        action, _ = self.registry.action(request.call())
        return await asyncio.to_thread(action.observe, request)

    def request(self, action: str, arguments: JsonObject) -> ActionRequest:
        """Make an action's request of what the catalogue has written."""
        return self.registry.request(action, arguments)

    async def in_force(self) -> Sequence[InForce]:
        """Give what the service's mitigations have left behind, newest first, also what is over."""
        return await asyncio.to_thread(self.left)

    async def readiness(self, calls: Sequence[ActionCall], probes: Sequence[ProbeCall] = ()) -> Readiness:
        """Say whether these calls would work now, and what these probes say of it."""
        return await asyncio.to_thread(readiness, self.registry, calls, probes)


@dataclass(frozen=True, kw_only=True)
class Planning:
    """Makes plans: read-only towards the world, and repeatable."""

    ledger: Ledger
    catalogue: Catalogue
    playbooks: Sequence[Playbook]
    registry: Registry
    policy: Policy
    clock: Callable[[], datetime]

    @activity.defn(name=names.PLAN)
    def plan(self, request: PlanRequest) -> PlanAnswer:
        """Find the first playbook with something to propose, seal its plan and ask for approval.

        A plan that would run comes before one that the provider would refuse; the latter is still shown, with
        the reasons, when there is nothing better.

        Idempotent: the plan that was asked under this mitigation's number is given again.
        """
        mitigation = f"{request.incident.id}/{request.number}"
        with beating():
            asked = self.ledger.approvals.for_mitigation(mitigation)
            if asked is not None:
                return answer_of(asked.plan, asked.request.id, self.registry)
            # Whoever asks does not say what it is about.
            incident = self.ledger.incidents.get(request.incident.id)
            incident = incident.model_copy(update={"alerts": incident.alerts[:ALERTS]})
            if incident.phase not in OPEN_PHASES:
                said = f"{incident.id} is {incident.phase}: nothing is planned for it any more"
                return PlanAnswer(mitigation=mitigation, notes=(said,))
            if request.order and not self.ledger.incidents.has_ordered(incident.id, request.order):
                raise errors.ForbiddenError(f"{request.order.person} has not ordered a plan of {incident.id}")
            plans, notes = self._candidates(incident, mitigation, request.order)
            best = next((plan for plan in plans if not plan.refusals), plans[0] if plans else None)
            if best is None:
                return PlanAnswer(mitigation=mitigation, notes=tuple(notes))
            approval = self.ledger.approvals.ask(best, severity=incident.severity)
            # Somebody else's attempt may have asked first: what was asked is what counts.
            stored = self.ledger.approvals.get(approval.id)
            answer = answer_of(stored.plan, approval.id, self.registry)
            return answer.model_copy(update={"notes": tuple(notes)})

    @activity.defn(name=names.PREVIEW)
    def preview(self, request: PreviewRequest) -> PreviewAnswer:
        """Say what a playbook would propose now; nothing is stored and nobody is asked.

        Idempotent: it only looks.
        """
        with beating():
            try:
                playbook = find(self.playbooks, request.playbook)
                plan = self.propose(playbook, request.incident, f"{request.incident.id}/0", request.params)
            except Exception as error:  # noqa: BLE001  (an author's mistake is said to who asks)
                return PreviewAnswer(note=_why(request.playbook, error))
        return PreviewAnswer(plan=plan)

    def _candidates(
        self, incident: Incident, mitigation: str, order: Command | None
    ) -> tuple[list[Plan], list[str]]:
        """Give the plans of the matching playbooks until one would run, and why the others have none.

        A person who names a playbook gets that one.
        """
        plans: list[Plan] = []
        notes: list[str] = []
        if self.catalogue.environment(incident.service, incident.environment) is None:
            return [], [f"the catalogue has no service {incident.service} in {incident.environment}: add it"]
        matching = [playbook for playbook in self.playbooks if playbook.fits(incident)]
        if order is not None:
            try:
                matching = [find(self.playbooks, order.playbook)]
            except errors.NotFoundError as error:
                return [], [str(error)]
        for playbook in matching:
            try:
                plan = self._wished(playbook, incident, mitigation, order)
            except Exception as error:  # noqa: BLE001  (an author's mistake must not stop the other playbooks)
                is_named = isinstance(error, errors.InputError)  # that one says of which playbook it is
                notes.append(("" if is_named else f"{playbook.name}: ") + _why(playbook.name, error))
                continue
            plans.append(plan)
            if not plan.refusals:
                break
            notes.append(f"{playbook.name}: would be refused: {'; '.join(plan.refusals)}")
        return plans, notes

    def _wished(self, playbook: Playbook, incident: Incident, mitigation: str, order: Command | None) -> Plan:
        """Seal what a playbook proposes; a person who names it gets also what was tried, if nothing else.

        Raises:
            errors.StanchError: As ``propose``.
        """
        if order is None:
            return self.propose(playbook, incident, mitigation)
        said = f"{order.person} asks for {order.wish}: {order.reason}."
        try:
            plan = self.propose(playbook, incident, mitigation, order.params)
        except errors.NothingToProposeError:
            if not incident.attempts:
                raise
            drifted = _drifted(incident)  # the plan that replaces it still shows what changed
            untried = incident.model_copy(update={"attempts": (drifted,) if drifted else ()})
            plan = self.propose(playbook, untried, mitigation, order.params)
            actions = {self.registry.action(step.action)[1].attempt for step in plan.steps}
            before = [one for one in incident.attempts if not actions.isdisjoint(one.actions)]
            tried = ", ".join(f"{one.mitigation} ({one.end})" for one in before)
            said += f" It was tried before, in {tried}." if before else ""
        return plan.model_copy(update={"requester": order.person, "rationale": f"{said} {plan.rationale}"})

    def propose(
        self,
        playbook: Playbook,
        incident: Incident,
        mitigation: str,
        params: JsonObject | None = None,
        *,
        undoes: str | None = None,
        stays: timedelta | None = None,
    ) -> Plan:
        """Seal what a playbook proposes now.

        Args:
            playbook: Who is asked.
            incident: For which incident.
            mitigation: The plan's own id.
            params: The playbook's.
            undoes: The mitigation in force that the plan takes back.
            stays: How long it may be approved; as the catalogue says when not given.

        Raises:
            errors.NothingToProposeError: There is nothing to do.
            errors.ActionRefusedError: A step is one that may not be done.
            errors.ProviderUnavailableError: A provider does not answer.
            errors.InputError: The parameters are not the playbook's.
        """
        wanted = playbook.read(params or {})
        service = self.catalogue.environment(incident.service, incident.environment)
        if service is None:
            where = f"{incident.service} in {incident.environment}"
            raise errors.NothingToProposeError(f"the catalogue has no service {where}: add it")
        now = self.clock()
        in_force = partial(self.ledger.in_force.latest, incident.service, incident.environment)
        look = RegistryLook(self.registry, service, now, in_force)

        async def ask() -> Proposal:
            return await playbook.plan(incident, wanted, look)

        plan = self._seal(playbook, incident, mitigation, asyncio.run(ask()), now, undoes=undoes)
        return plan if stays is None else plan.model_copy(update={"expires_at": now + stays})

    def _seal(
        self,
        playbook: Playbook,
        incident: Incident,
        mitigation: str,
        proposal: Proposal,
        now: datetime,
        *,
        undoes: str | None,
    ) -> Plan:
        for proposed in proposal.steps:
            if proposed.forced is not None and proposed.forced.target != proposed.action.target:
                raise errors.ActionRefusedError(
                    f"{proposed.action}: forced, it would change {proposed.forced.target} instead"
                )
            if not self.catalogue.owns(incident.service, incident.environment, proposed.action.target):
                where = f"{incident.service} in {incident.environment}"
                raise errors.ActionRefusedError(
                    f"{proposed.action.target}: the catalogue does not give it to {where}"
                )
        tried = [
            step.action
            for step in proposal.steps
            if incident.has_tried(self.registry.action(step.action)[1].attempt)
        ]
        if proposal.steps and len(tried) == len(proposal.steps) and not proposal.repeats:
            # A step that others share, as a paused sync, is no reason: a plan of nothing new is.
            raise errors.NothingToProposeError(f"{tried[0]} was already tried in {incident.id}")
        with ThreadPoolExecutor(max_workers=max(1, len(proposal.steps))) as pool:
            steps = tuple(pool.map(partial(self._step, playbook), itertools.count(1), proposal.steps))
        if not any(step.change for step in steps):
            raise errors.NothingToProposeError(f"{proposal.title}: everything is already as it should be")
        fresh = not self.ledger.approvals.has_helped(playbook.digest)
        drifted = _drifted(incident)

        def ruled(step: Step) -> Step:
            question = Question(
                severity=incident.severity,
                environment=incident.environment,
                service=incident.service,
                action=step.action.name,
                target=str(step.action.target),
                risk=step.risk,
                playbook=playbook.name,
                fresh=fresh,
                at=now,
                undoes=undoes is not None,
            )
            return step.model_copy(update=dict(self.policy.rule(question)))

        plan = Plan(
            incident=incident.id,
            mitigation=mitigation,
            undoes=undoes,
            service=incident.service,
            environment=incident.environment,
            playbook=playbook.name,
            playbook_digest=playbook.digest,
            policy_digest=self.policy.digest,
            title=proposal.title,
            rationale=proposal.rationale,
            steps=tuple(map(ruled, steps)),
            undo_when=proposal.undo_when,
            in_force_for=proposal.in_force_for,
            supersedes=drifted.plan_digest if drifted else None,
            differences=self._differences(drifted, steps),
            author=playbook.author,
            fresh=fresh,
            sealed_at=now,
            expires_at=now + self.catalogue.approval,
        )
        rules = Guardrails(self.catalogue.guardrails)
        violations = rules.violations(plan, self.ledger.guardrails.facts(plan, rules))
        return plan.model_copy(update={"violations": violations})

    def _step(self, playbook: Playbook, number: int, proposed: ProposedStep) -> Step:
        action, request = self.registry.action(proposed.action)
        observed = action.observe(request)
        change = action.change(request, observed)
        back, undo_note = action.undo(request, observed)
        undo = back.call() if back is not None else None
        try:
            if undo is not None:
                self.registry.action(undo)
        except errors.ActionRefusedError as error:
            undo, undo_note = None, f"What is there now cannot be asked for again: {error}"
        risk = max((action.risk, playbook.risk, proposed.risk or Risk.NONE), key=RISKS.index)
        touched, harder = action.blast_radius(request, observed), self._forced(proposed)
        return Step(
            number=number,
            title=proposed.title,
            action=proposed.action,
            forced=proposed.forced,
            undo_first=proposed.undo_first,
            observed=observed,
            change=change,
            verification=proposed.verification and self._with_baseline(proposed.verification),
            undo=undo,
            undo_note=undo_note,
            risk=risk,
            blast_radius=f"{touched} Forced: {harder}" if harder not in ("", touched) else touched,
            reach=action.reach(request, observed),
            idempotent=action.idempotent,
            refusals=action.preflight(request, observed) if change else (),
        )

    def _forced(self, proposed: ProposedStep) -> str:
        """Say who and what is touched when a step is forced in flight: what that loses."""
        if proposed.forced is None:
            return ""
        action, request = self.registry.action(proposed.forced)
        return action.blast_radius(request, action.observe(request))

    def _with_baseline(self, verification: Verification) -> Verification:
        baseline = self.registry.read(verification.probe, self.clock)
        return verification.model_copy(update={"baseline": baseline})

    def _differences(self, drifted: Attempt | None, steps: Sequence[Step]) -> tuple[Difference, ...]:
        """Give what changed in the targets since the plan that this one replaces, to be shown highlighted."""
        if drifted is None:
            return ()
        former = self.ledger.approvals.plan(drifted.plan_digest)
        journal = self.ledger.journal.for_incident(former.incident)
        ended = {one.step: one.result for one in journal if one.mitigation == former.mitigation}
        now = {step.action.target: step.observed for step in steps}
        found = []
        for step in former.steps:
            target, result = step.action.target, ended.get(step.number)
            drift = result.drift if result else ()
            if drift or not result:  # what ran has made its difference itself
                # What is wanted now may have another target: what was found then is told all the same.
                seen = (changed(step.observed, now[target]) if target in now else ()) or drift
                found += [one.model_copy(update={"path": f"{target} {one.path}"}) for one in seen]
        return tuple(found)


def changed(before: Observation, now: Observation) -> list[Difference]:
    """Compare the guarded parts of two observations, field by field."""
    keys = sorted(before.guard.keys() | now.guard.keys())
    return [
        Difference(path=key, before=before.guard.get(key), after=now.guard.get(key))
        for key in keys
        if before.guard.get(key) != now.guard.get(key)
    ]


def _why(playbook: str, error: Exception) -> str:
    """Say why it has no plan: in one line what its author has not thought of, which the log has whole."""
    if isinstance(error, errors.StanchError):
        return str(error)
    activity.logger.error("playbook %s failed", playbook, exc_info=error)
    what = errors.first_wrong(error) if isinstance(error, ValidationError) else error
    return f"failed with {type(error).__name__}: {errors.one_line(what)}"


def _drifted(incident: Incident) -> Attempt | None:
    last = incident.attempts[-1] if incident.attempts else None
    return last if last is not None and last.end is AttemptEnd.DRIFTED else None


def answer_of(plan: Plan, approval: str, registry: Registry) -> PlanAnswer:
    """Give what the order of things depends on, of a sealed plan."""
    return PlanAnswer(
        mitigation=plan.mitigation,
        playbook=plan.playbook,
        title=plan.title,
        plan_digest=digest(plan),
        approval=approval,
        expires_at=plan.expires_at,
        steps=tuple(
            StepBrief(
                number=step.number,
                title=step.title,
                verified=step.verification is not None,
                undoable=step.undo is not None,
                undo_first=step.undo_first,
            )
            for step in plan.steps
        ),
        actions=tuple(registry.action(step.action)[1].attempt for step in plan.steps),
        undo_when=plan.undo_when,
    )
