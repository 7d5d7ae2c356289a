"""The dry run of a failover, long before it is needed: would it be proposed, and would it work?"""

from collections.abc import Callable, Iterator
from datetime import datetime

from activities.planning import Planning
from activities.readiness import readiness
from activities.registry import Registry
from contracts.base import JsonObject
from contracts.catalogue import Failover, FailoverStep, Move
from contracts.errors import ActionRefusedError, ProviderUnavailableError, StanchError
from contracts.incidents import Incident, Phase, Severity
from contracts.plans import ActionCall
from contracts.playbooks import Playbook
from contracts.readiness import CheckState, Readiness, ReadinessCheck


class Rehearsal:
    """The dry run of a service's failover: every move of it is planned as it would be now, and none is run.

    Args:
        registry: Whose actions and probes.
        planning: Makes the plans.
        playbook: The one that fails over.
        clock: The time.
    """

    def __init__(
        self, *, registry: Registry, planning: Planning, playbook: Playbook, clock: Callable[[], datetime]
    ) -> None:
        self._registry = registry
        self._planning = planning
        self._playbook = playbook
        self._clock = clock

    def look(self, service: str, environment: str, failover: Failover) -> Readiness:
        """Look once at every move."""
        found = [check for move in failover.moves for check in self._move(service, environment, move)]
        return Readiness(checks=tuple(dict.fromkeys(found)))

    def _move(self, service: str, environment: str, move: Move) -> Iterator[ReadinessCheck]:
        way = f"{service} from {move.away_from} to {move.to}"
        calls = []
        for step in move.steps:
            try:
                calls.append(self._call(step))
            except (ActionRefusedError, ProviderUnavailableError) as error:
                detail = f"{step.title}: {error}"
                yield ReadinessCheck(name="step", target=way, state=CheckState.after(error), detail=detail)
        whole = len(calls) == len(move.steps)
        if whole and not any(has_work for _, has_work in calls):
            detail = "nothing to do: it is made already"
            yield ReadinessCheck(name="plan", target=way, state=CheckState.OK, detail=detail)
            return
        yield from readiness(self._registry, [call for call, _ in calls], move.ready).checks
        if whole:
            yield self._plan(service, environment, move, way)

    def _call(self, step: FailoverStep) -> tuple[ActionCall, bool]:
        """Give a step's call as it would be proposed now, and whether it would change anything."""
        request = self._registry.request(step.action, step.arguments)
        action, _ = self._registry.action(request.call())
        observed = action.observe(request)
        request = request.as_of(observed)
        return request.call(), bool(action.change(request, observed))

    def _plan(self, service: str, environment: str, move: Move, way: str) -> ReadinessCheck:
        """Have the playbook propose the move: with its guardrails, and the regions that would serve."""
        incident = Incident(
            id="readiness",
            title=f"Would {service} fail over?",
            service=service,
            environment=environment,
            severity=Severity.SEV1,
            phase=Phase.TRIAGE,
            opened_at=self._clock(),
        )
        # What stands against it is named check by check; a wait against flapping passes by itself.
        ask: JsonObject = {"away_from": move.away_from, "to": move.to, "accept": ["ready", "wait"]}
        try:
            plan = self._planning.propose(self._playbook, incident, "readiness/0", ask)
            state = CheckState.NOT_READY if plan.refusals else CheckState.OK
            planned = f"{plan.title}: {len(plan.steps)} steps would be proposed"
            detail = "; ".join(plan.refusals) or planned
        except StanchError as error:
            state, detail = CheckState.after(error), str(error)
        return ReadinessCheck(name="plan", target=way, state=state, detail=detail)
