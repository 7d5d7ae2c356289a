"""One incident, and approved plans on ``web``, run step by step as a worker runs them."""

from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.testing import ActivityEnvironment

from activities.registry import Registry
from activities.steps import Steps
from activities.verification import Watching
from authority.decisions import Signer, Verifier
from authority.guardrails import Guard, Guardrails
from authority.policy import Policy
from authority.seals import digest
from contracts.actions import Action, ActionRequest
from contracts.approvals import SignedDecision, Verdict
from contracts.catalogue import Catalogue, Cluster, Deployment, Service, ServiceEnvironment, Sync
from contracts.incidents import Effect, Role, Severity
from contracts.messages import StepOrder, VerifyOrder
from contracts.outcomes import Direction, EffectResult, StepResult
from contracts.plans import Plan, ProbeCall, Step, Verification
from ledger import Ledger
from runtime.clock import utc_now
from tests.activities.k8s.conftest import ACTIONS, Place

POLICY = Policy()
KEY_PAIR = Ed25519PrivateKey.generate()
WORKLOADS: tuple[Any, ...] = ("deployment", "stateful_set", "daemon_set")
SYNCS: tuple[Any, ...] = ("application", "kustomization", "helm_release")


class Approved:
    """A sealed and approved plan with one step."""

    def __init__(self, scene: "Scene", request: ActionRequest, plan: Plan, signed: SignedDecision) -> None:
        self.request = request
        self.plan = plan
        self._scene = scene
        self._signed = signed

    @property
    def step(self) -> Step:
        """Its step."""
        return self.plan.steps[0]

    def run(self, direction: Direction = Direction.APPLY, *, action: Action[Any] | None = None) -> StepResult:
        """Run the step as one attempt of a fresh worker; ``action`` stands in for the worker's own."""
        order = StepOrder(
            incident=self.plan.incident,
            mitigation=self.plan.mitigation,
            step=1,
            direction=direction,
            plan_digest=digest(self.plan),
            signed=self._signed,
        )
        steps = Steps(
            ledger=self._scene.ledger,
            catalogue=self._scene.catalogue,
            registry=self._scene.registry(action),
            verifier=Verifier([KEY_PAIR.public_key()]),
            clock=utc_now,
        )
        result: StepResult = ActivityEnvironment().run(steps.run_step, order)
        return result

    def verify(self, direction: Direction = Direction.APPLY) -> EffectResult:
        """Wait until the step has settled, and judge."""
        watching = Watching(
            ledger=self._scene.ledger,
            catalogue=self._scene.catalogue,
            registry=self._scene.registry(),
            clock=utc_now,
        )
        order = VerifyOrder(
            incident=self.plan.incident,
            mitigation=self.plan.mitigation,
            step=1,
            direction=direction,
            plan_digest=digest(self.plan),
        )
        result: EffectResult = ActivityEnvironment().run(watching.verify_step, order)
        return result

    def die_after_intent(self) -> None:
        """Leave the journal as a worker does that was killed between its intent and its outcome."""
        key, journal = f"{self.plan.mitigation}/1/apply", self._scene.ledger.journal
        entry = journal.begin(
            key,
            incident=self.plan.incident,
            mitigation=self.plan.mitigation,
            step=1,
            direction=Direction.APPLY,
            plan_digest=digest(self.plan),
            approval=self._signed.decision.request,
        )
        before = self.step.observed.model_dump(mode="json")
        journal.intend(
            key, fence=entry.fence, before=before, actor="stanch", guard=Guard(Guardrails(), self.plan)
        )


class Scene:
    """An incident of the service that consists of ``web``, and of what ``shop`` keeps as it is in Git."""

    def __init__(self, place: Place, ledger: Ledger) -> None:
        self.place = place
        self.ledger = ledger
        shop = {"cluster": "demo", "namespace": place.namespace, "name": "shop"}
        environment = ServiceEnvironment(
            deployments=tuple(Deployment(**{**place.where, "kind": kind}) for kind in WORKLOADS),
            syncs=tuple(Sync(**shop, kind=kind) for kind in SYNCS),
        )
        self.catalogue = Catalogue(
            clusters=(Cluster(name="demo"),),
            services=(Service(name="web", environments={"production": environment}),),
        )
        incident = ledger.incidents.declare(
            title="broken",
            service="web",
            environment="production",
            severity=Severity.SEV2,
            person="grace",
            trace={},
        )
        ledger.incidents.assign(incident.id, Role.INCIDENT_COMMANDER, "ada", by="ada")
        self.incident = incident.id
        self._plans = 0

    def registry(self, action: Action[Any] | None = None) -> Registry:
        """Give the worker's verbs, one of them replaced."""
        own = [kind(self.place.api, utc_now) for kind in ACTIONS.values()]
        return Registry([*own, *([action] if action else [])], [])

    def approved(self, request: ActionRequest, *, within: float | None = None) -> Approved:
        """Seal a plan with this one step, and have it approved.

        Args:
            request: What the step does.
            within: Seconds that it has to settle, otherwise those that the product gives to every step.
        """
        self._plans += 1
        plan = self._seal(request, within)
        asked = self.ledger.approvals.ask(plan, severity=Severity.SEV2)
        signed = self.ledger.approvals.decide(
            asked.id,
            verdict=Verdict.APPROVE,
            plan_digest=asked.plan_digest,
            person="ada",
            authenticated_by="local",
            reason="",
            policy=POLICY,
            signer=Signer(KEY_PAIR),
            trace={},
        )
        return Approved(self, request, plan, signed)

    def _seal(self, request: ActionRequest, within: float | None) -> Plan:
        action = self.place.action(request)
        observed = action.observe(request)
        undo, note = action.undo(request, observed)
        step = Step(
            number=1,
            title="Do it",
            action=request.call(),
            observed=observed,
            change=action.change(request, observed),
            verification=None if within is None else _verification(within),
            undo=undo.call() if undo else None,
            undo_note=note,
            risk=action.risk,
            blast_radius=action.blast_radius(request, observed),
            idempotent=action.idempotent,
            refusals=action.preflight(request, observed),
        )
        now = utc_now()
        return Plan(
            incident=self.incident,
            mitigation=f"{self.incident}/{self._plans}",
            service="web",
            environment="production",
            playbook="by-hand",
            playbook_digest="0" * 64,
            policy_digest=POLICY.digest,
            title="Do it",
            rationale="It is broken.",
            steps=(step,),
            undo_when=(Effect.INEFFECTIVE, Effect.WORSE),
            sealed_at=now,
            expires_at=now + timedelta(minutes=10),
        )


def _verification(within: float) -> Verification:
    """Give one whose time matters, and not what it measures: it is for steps that never settle."""
    probe = ProbeCall(name="none", arguments={})
    return Verification(signal="none", probe=probe, healthy_below=1, within=timedelta(seconds=within))


def is_ready(pod: dict[str, Any]) -> bool:
    """Say whether a pod serves."""
    return any(
        (one["type"], one["status"]) == ("Ready", "True") for one in pod["status"].get("conditions", ())
    )
