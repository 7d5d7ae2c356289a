"""One incident, and approved plans on ``web``, run step by step as a worker runs them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.testing import ActivityEnvironment

from activities.k8s import RolloutStatusProbe, WarningEventsProbe
from activities.lookout import Lookout
from activities.registry import Registry
from activities.rehearsal import Rehearsal
from activities.steps import Steps
from activities.verification import Watching
from authority.decisions import Signer, Verifier
from authority.guardrails import Guard, Guardrails
from authority.policy import Policy
from authority.seals import digest
from contracts.actions import Action, ActionRequest
from contracts.approvals import ApprovalRequest, SignedDecision, Verdict
from contracts.catalogue import Catalogue, Cluster, Deployment, Service, ServiceEnvironment, Sync
from contracts.evidence import EvidenceKind
from contracts.incidents import Effect, Role, Severity
from contracts.messages import StepOrder, VerifyOrder
from contracts.outcomes import Direction, EffectResult, StepResult
from contracts.plans import Plan, Step, Verification
from ledger import Answer, Ledger
from runtime.clock import utc_now
from tests.activities.judged import judge
from tests.activities.k8s.conftest import ACTIONS, IMAGES, Place

V1, V2, V3 = IMAGES
POLICY = Policy()
KEY_PAIR = Ed25519PrivateKey.generate()
WORKLOADS: tuple[Any, ...] = ("deployment", "stateful_set", "daemon_set")
SYNCS: tuple[Any, ...] = ("application", "kustomization", "helm_release")


class Approved:
    """A sealed and approved plan with one step."""

    def __init__(
        self,
        scene: "Scene",
        request: ActionRequest,
        plan: Plan,
        signed: SignedDecision,
        within: float | None = None,
    ) -> None:
        self.request = request
        self.plan = plan
        self._within = within
        self._scene = scene
        self._signed = signed

    @property
    def step(self) -> Step:
        """Its step."""
        return self.plan.steps[0]

    def run(self, direction: Direction = Direction.APPLY, *, action: Action[Any] | None = None) -> StepResult:
        """Run the step as one attempt of a fresh worker; ``action`` stands in for the worker's own.

        An undo runs as it was verified, or as if the step had made things worse where that was not done.
        """
        if direction is Direction.UNDO:
            judge(self._scene.ledger, f"{self.plan.mitigation}/1/apply")
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
        action = self._scene.place.action(self.request)
        if self._within is not None:
            action.settles_within = timedelta(seconds=self._within)
        watching = Watching(
            ledger=self._scene.ledger,
            catalogue=self._scene.catalogue,
            registry=self._scene.registry(action),
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
        journal.intend(entry, before=before, actor="stanch", guard=Guard(Guardrails(), self.plan))


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
        probes = (RolloutStatusProbe(self.place.api, utc_now), WarningEventsProbe(self.place.api, utc_now))
        return Registry([*own, *([action] if action else [])], probes)

    def lookout(self, rehearsal: Rehearsal | None = None) -> Lookout:
        """Give what looks on beside the incident."""
        return Lookout(
            ledger=self.ledger,
            catalogue=self.catalogue,
            registry=self.registry(),
            rehearsal=rehearsal,
            clock=utc_now,
        )

    def told(self, kind: EvidenceKind) -> list[str]:
        """Give the evidence of a kind."""
        return [entry.summary for entry in self.ledger.evidence.entries() if entry.kind is kind]

    def approved(self, request: ActionRequest, *, within: float | None = None) -> Approved:
        """Seal a plan with this one step, and have it approved.

        Args:
            request: What the step does.
            within: Seconds that it has to settle, otherwise those that its action has.
        """
        plan, asked = self.ask(request, None)
        signed = self.ledger.approvals.decide(
            asked.id,
            Answer(
                verdict=Verdict.APPROVE,
                plan_digest=asked.plan_digest,
                person="ada",
                authenticated_by="local",
                reason="",
            ),
            policy=POLICY,
            signer=Signer(KEY_PAIR),
            trace={},
        )
        return Approved(self, request, plan, signed, within)

    def ask(self, request: ActionRequest, rule: Verification | None) -> tuple[Plan, ApprovalRequest]:
        """Seal a plan with this one step, and ask whether it may run."""
        self._plans += 1
        plan = self._seal(request, rule)
        return plan, self.ledger.approvals.ask(plan, severity=Severity.SEV2)

    def _seal(self, request: ActionRequest, rule: Verification | None) -> Plan:
        action = self.place.action(request)
        observed = action.observe(request)
        undo, note = action.undo(request, observed)
        step = Step(
            number=1,
            title="Do it",
            action=request.call(),
            observed=observed,
            change=action.change(request, observed),
            verification=rule,
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
            undo_when=(Effect.INEFFECTIVE, Effect.INCONCLUSIVE, Effect.WORSE),
            sealed_at=now,
            expires_at=now + timedelta(minutes=10),
        )


def is_ready(pod: dict[str, Any]) -> bool:
    """Say whether a pod serves."""
    return any(
        (one["type"], one["status"]) == ("Ready", "True") for one in pod["status"].get("conditions", ())
    )


def image(place: Place) -> str:
    """Give the image that `web` has."""
    found: str = place.raw()["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


@contextmanager
def self_healing(
    place: Place, wanted: str, *, automated: Callable[[], bool] = lambda: True
) -> Iterator[Callable[[], int]]:
    """Be Argo CD with selfHeal: apply the own manifest whenever the live object differs; count how often."""
    stop = threading.Event()
    healed: list[str] = []

    def heal() -> None:
        while not stop.wait(0.1):
            if image(place) != wanted and automated():
                apply(place, wanted)
                healed.append(wanted)

    thread = threading.Thread(target=heal)
    thread.start()
    try:
        yield lambda: len(healed)
    finally:
        stop.set()
        thread.join()


def apply(place: Place, wanted: str) -> None:
    """Apply the manifest of `web` on the server, as Argo CD does it."""
    labels = {"app": "web"}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": place.namespace},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": wanted}]},
            },
        },
    }
    status, answer = place.call(
        "PATCH",
        place.path,
        body,
        kind="application/apply-patch+yaml",
        fieldManager="argocd-controller",
        force="true",
    )
    assert status in {200, 201}, answer


def synced_release(scene: Scene) -> Approved:
    """Let Argo CD release two versions, and plan to roll the second one back."""
    place = scene.place
    apply(place, V1)
    place.settled()
    apply(place, V2)
    place.settled()
    return scene.approved(place.roll_back(1), within=20)
