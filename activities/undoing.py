"""Planning the way back from a mitigation in force, and taking down how that ended."""

from datetime import timedelta

from temporalio import activity

from activities.beating import beating
from activities.planning import Planning, answer_of
from activities.registry import Registry
from contracts import names
from contracts.actions import Look
from contracts.errors import ForbiddenError, NothingToProposeError, ProviderUnavailableError, StanchError
from contracts.evidence import ENGINE
from contracts.in_force import ForceState, InForce, StepInForce
from contracts.incidents import Incident
from contracts.messages import MitigationEnded, PlanAnswer, UndoRequest, Written
from contracts.outcomes import Reached
from contracts.plans import Plan, Proposal, ProposedStep, Risk, Step, undo_order
from contracts.playbooks import Playbook, PlaybookParams
from ledger import Ledger

# How long an undo may be approved that nobody has asked for: its owner may be asleep.
UNHURRIED = timedelta(hours=12)


class Undoing:
    """Makes plans of the declared undos: read-only towards the world, and repeatable."""

    def __init__(self, *, ledger: Ledger, planning: Planning, registry: Registry) -> None:
        self._ledger = ledger
        self._planning = planning
        self._registry = registry

    @activity.defn(name=names.PLAN_UNDO)
    def plan_undo(self, request: UndoRequest) -> PlanAnswer:
        """Seal a plan of a mitigation's undos, the last step's first, and ask for its approval.

        What is gone already is taken down as undone. A step whose change somebody else has changed further is
        planned with high risk, and the plan says so.

        Idempotent: the plan that was asked about under this name is given again.
        """
        with beating():
            asked = self._ledger.approvals.for_mitigation(request.mitigation)
            if asked is None:
                incident = self._ledger.incidents.get(request.incident)
                try:
                    plan = self._plan(request, incident)
                except ProviderUnavailableError:
                    raise
                except StanchError as error:
                    title = f"Undo {request.undoes}"
                    return PlanAnswer(mitigation=request.mitigation, title=title, notes=(str(error),))
                is_urgent = request.person != ENGINE
                approval = self._ledger.approvals.ask(plan, severity=incident.severity, is_urgent=is_urgent)
                # Somebody else's attempt may have asked first: what was asked is what counts.
                asked = self._ledger.approvals.get(approval.id)
            return answer_of(asked.plan, asked.request.id, self._registry)

    @activity.defn(name=names.END_UNDO)
    def end_undo(self, ended: MitigationEnded) -> Written:
        """Take down how an undo ended: it may be asked for again.

        Idempotent: an end that is there stays as it is.

        Raises:
            ForbiddenError: It is no undo: of those their incidents tell.
        """
        if "-undo" not in ended.result.mitigation:
            raise ForbiddenError(f"{ended.result.mitigation} is no undo")
        self._ledger.in_force.has_ended(ended.result)
        return Written()

    def _plan(self, request: UndoRequest, incident: Incident) -> Plan:
        in_force = self._ledger.in_force.get(request.undoes)
        if not self._ledger.in_force.has_ordered(request):
            raise ForbiddenError(f"{request.person} has not asked to undo {request.undoes} like this")
        undone = self._ledger.approvals.plan(in_force.plan_digest)
        wanted = {step.step: step for step in in_force.left if step.step in (request.steps or {step.step})}
        gone = [number for number, step in wanted.items() if self._is_gone(step)]
        if gone:
            self._ledger.in_force.found_undone(in_force.mitigation, gone)
        if in_force.state is not ForceState.IN_FORCE or len(gone) == len(wanted):
            raise NothingToProposeError(f"{request.undoes}: nothing of it is in force any more")
        steps = [
            (step, wanted[step.number])
            for step in undo_order(undone.steps)
            if step.number in wanted and step.number not in gone
        ]

        async def propose(_: Incident, __: PlaybookParams, ___: Look) -> Proposal:
            return self._proposal(request, in_force, steps)

        playbook = Playbook(
            name="undo",
            summary="Take a mitigation in force back.",
            description="",
            digest=undone.playbook_digest,
            matches=(),
            risk=Risk.NONE,
            order=0,
            params=PlaybookParams,
            plan=propose,
        )
        # What was tried for the incident is no reason against the way back.
        blank = incident.model_copy(update={"attempts": ()})
        stays = UNHURRIED if request.person == ENGINE else None
        return self._planning.propose(playbook, blank, request.mitigation, undoes=request.undoes, stays=stays)

    def _proposal(
        self, request: UndoRequest, in_force: InForce, steps: list[tuple[Step, StepInForce]]
    ) -> Proposal:
        since = f"{in_force.since:%Y-%m-%d %H:%M} UTC"
        said = [f"In force since {since}; {request.person} asks to undo it: {request.reason}."]
        proposed = []
        for step, applied in steps:
            moved = self._moved(applied)
            if moved:
                said.append(
                    f"{applied.action.target} is no longer as {in_force.mitigation} left it: {moved}."
                )
            proposed.append(
                ProposedStep(
                    title=f"Undo: {step.title}",
                    action=applied.undo,
                    undo_first=step.undo_first,
                    verification=step.verification,
                    risk=Risk.HIGH if moved else None,
                )
            )
        return Proposal(title=f"Undo {in_force.title}", rationale=" ".join(said), steps=tuple(proposed))

    def _is_gone(self, step: StepInForce) -> bool:
        """Say whether the target is already as it was before the mitigation."""
        action, request = self._registry.action(step.undo)
        return not action.change(request, action.observe(request))

    def _moved(self, step: StepInForce) -> str:
        """Say how somebody else has changed further what the mitigation had changed."""
        action, request = self._registry.action(step.action)
        observed = action.observe(request)
        progress = action.is_reached(request, observed)
        if progress.reached is Reached.NO:
            return progress.detail or "changed by somebody else"
        back, way = self._registry.action(step.undo)
        return back.moved(way, observed)
