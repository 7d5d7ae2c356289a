"""A ledger with one realistic incident in it, at the moment when its second plan waits for a decision."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authority.decisions import Signer, Verifier
from authority.policy import Policy
from contracts.approvals import ApprovalRequest, SignedDecision, Verdict
from contracts.catalogue import (
    Catalogue,
    Cluster,
    Deployment,
    Failover,
    FailoverStep,
    Flag,
    LaunchDarklyProject,
    Move,
    Person,
    Prometheus,
    Service,
    ServiceEnvironment,
    Signal,
)
from contracts.evidence import ENGINE, Evidence, EvidenceKind
from contracts.incidents import Alert, Attempt, AttemptEnd, Effect, Phase, Role, Severity
from contracts.messages import RecordRequest
from contracts.plans import (
    ActionCall,
    Difference,
    Observation,
    Plan,
    ProbeCall,
    Reading,
    Risk,
    Step,
    Verification,
)
from ledger import Answer, Ledger

DEPLOYMENT = Deployment(cluster="eu-1", namespace="shop", name="web")
FLAG = Flag(project="shop", environment="production", key="new-recommendations")


@dataclass
class Clock:
    """A clock that a test sets."""

    at: datetime

    def __call__(self) -> datetime:
        """Give the time."""
        return self.at

    def forward(self, **span: float) -> None:
        """Let time pass."""
        self.at += timedelta(**span)


def catalogue() -> Catalogue:
    """Give the catalogue of a small shop."""
    return Catalogue(
        people=(
            Person(id="ada", name="Ada Lovelace"),
            Person(id="grace", name="Grace Hopper"),
            Person(id="linus", name="Linus Pauling"),
        ),
        clusters=(Cluster(name="eu-1", kubeconfig="/nowhere"),),
        launchdarkly=(LaunchDarklyProject(project="shop"),),
        prometheus=(Prometheus(name="main", url="http://127.0.0.1:1"),),
        severities={"critical": Severity.SEV1, "page": Severity.SEV2, "ticket": Severity.SEV4},
        services=(
            Service(
                name="web",
                on_call=("ada", "grace"),
                alerts={"CheckoutErrors": "error_rate"},
                environments={
                    "production": ServiceEnvironment(
                        regions=("eu", "us"),
                        deployments=(DEPLOYMENT,),
                        flags=(FLAG,),
                        signals={"error_rate": Signal(prometheus="main", query="x", healthy_below=1.0)},
                        failover=Failover(
                            moves=(
                                Move(
                                    away_from="eu",
                                    to="us",
                                    steps=(FailoverStep(title="Move", action="toy.move", arguments={}),),
                                ),
                            )
                        ),
                        dashboards={"Shop overview": "https://grafana.example/d/shop"},
                    )
                },
            ),
            Service(
                name="pay", environments={"production": ServiceEnvironment(), "staging": ServiceEnvironment()}
            ),
        ),
    )


def alert(clock: Clock, **changes: object) -> Alert:
    """Give an alert of the shop."""
    facts: dict[str, object] = {
        "source": "alertmanager",
        "fingerprint": "6134757b43cb8239",
        "starts_at": clock(),
        "name": "CheckoutErrors",
        "service": "web",
        "severity": Severity.SEV2,
        "signal": "error_rate",
        "summary": "40 % of checkout requests fail",
        "labels": {"alertname": "CheckoutErrors", "service": "web", "severity": "page", "team": "shop"},
        "annotations": {"summary": "40 % of checkout requests fail"},
    }
    return Alert.model_validate(facts | changes)


def verification(clock: Clock, value: float | None = 41.7) -> Verification:
    """Give the rule by which a step of the shop is judged."""
    return Verification(
        signal="error_rate",
        probe=ProbeCall(name="prometheus.query", arguments={"query": "x"}),
        healthy_below=1.0,
        unit="%",
        baseline=Reading(value=value, at=clock()),
    )


def plan(clock: Clock, incident: str, number: int, **changes: object) -> Plan:
    """Give a sealed plan: the first restarts pods, the next ones switch a flag off."""
    restart = number == 1
    target = DEPLOYMENT.target() if restart else FLAG.target()
    step = Step(
        number=1,
        title="Restart the pods of shop/web" if restart else "Switch off the flag new-recommendations",
        action=ActionCall(
            name="k8s.restart_deployment" if restart else "launchdarkly.set_flag",
            target=target,
            arguments={"restarted_at": clock().isoformat()} if restart else {"key": FLAG.key, "on": False},
        ),
        observed=Observation(state={"on": True, "version": 41}, guard={"version": 41}, at=clock()),
        change=(Difference(path="spec.template.metadata.annotations.restartedAt", after=clock().isoformat()),)
        if restart
        else (
            Difference(path="environments.production.on", before=True, after=False),
            Difference(
                path="environments.production.fallthrough.variation", before="on for 100 %", after="off"
            ),
        ),
        verification=verification(clock),
        undo=None
        if restart
        else ActionCall(name="launchdarkly.set_flag", target=target, arguments={"key": FLAG.key, "on": True}),
        undo_note="a restart cannot be taken back" if restart else "",
        risk=Risk.LOW,
        blast_radius="All 6 pods of shop/web, two at a time; requests in flight are drained."
        if restart
        else "Everybody who sees recommendations in production; the list is hidden for them.",
        idempotent="Does nothing: the pods are already newer than the time in the request."
        if restart
        else "Does nothing: the flag is already off.",
    )
    facts: dict[str, object] = {
        "incident": incident,
        "mitigation": f"{incident}/{number}",
        "service": "web",
        "environment": "production",
        "playbook": "restart-pods" if restart else "disable-flag",
        "playbook_digest": "5e" * 32,
        "policy_digest": Policy().digest,
        "title": "Restart the pods of web" if restart else "Disable the flag new-recommendations",
        "rationale": "The connection pool of web is exhausted; new pods start with an empty one."
        if restart
        else "The flag new-recommendations was turned on 14 min before the first error, and is the youngest "
        "change to web. The restart of the pods did not help: the pool was full again within 2 min.",
        "steps": (step,),
        "undo_when": (Effect.WORSE,),
        "sealed_at": clock(),
        "expires_at": clock() + timedelta(minutes=15),
    }
    return Plan.model_validate(facts | changes)


@dataclass
class Scene:
    """A ledger of its own, migrated when it is new, with what a test needs around it."""

    folder: Path
    clock: Clock
    catalogue: Catalogue = field(default_factory=catalogue)

    def __post_init__(self) -> None:
        file = self.folder / "ledger.db"
        is_new = not file.exists()
        self.ledger = Ledger.open(f"sqlite:///{file}", clock=self.clock)
        if is_new:
            self.ledger.migrate()
        key = Ed25519PrivateKey.generate()
        self.signer = Signer(key)
        self.verifier = Verifier([key.public_key()])

    def open_incident(self, **changes: object) -> str:
        """Let an alert open an incident."""
        self.ledger.inbox.accept(
            "alertmanager", repr(changes).encode(), [alert(self.clock, **changes)], trace={}
        )
        return self.ledger.inbox.dispatch()[0]

    def ask(self, incident: str, number: int = 1, **changes: object) -> ApprovalRequest:
        """Ask about a plan."""
        return self.ledger.approvals.ask(
            plan(self.clock, incident, number, **changes), severity=Severity.SEV2
        )

    def take(self, incident: str, person: str = "ada") -> None:
        """Make somebody the Incident Commander."""
        self.ledger.incidents.assign(incident, Role.INCIDENT_COMMANDER, person, by=person)

    def decide(
        self, request: ApprovalRequest, verdict: Verdict = Verdict.APPROVE, reason: str = ""
    ) -> SignedDecision:
        """Let the Incident Commander Ada decide."""
        return self.ledger.approvals.decide(
            request.id,
            Answer(
                verdict=verdict,
                plan_digest=request.plan_digest,
                person="ada",
                authenticated_by="local",
                reason=reason,
            ),
            policy=Policy(),
            signer=self.signer,
            trace={},
        )

    def happen(
        self, incident: str, kind: EvidenceKind, summary: str, body: dict[str, object] | None = None
    ) -> None:
        """Append one entry to the timeline."""
        size = self.ledger.evidence.size()
        entry = {
            "key": f"{incident}/seed/{size}",
            "kind": kind,
            "incident": incident,
            "actor": ENGINE,
            "at": self.clock(),
            "summary": summary,
            "body": body or {},
        }
        self.ledger.evidence.append(Evidence.model_validate(entry))

    def record(self, incident: str, version: int, phase: Phase, **changes: object) -> None:
        """Bring the incident's projection up to date."""
        facts = {"incident": incident, "version": version, "phase": phase} | changes
        self.ledger.incidents.record(RecordRequest.model_validate(facts))

    def tell(self) -> str:
        """Tell the story up to the second question, and give the incident's id.

        14:32 the alert, 14:35 Ada commands, 14:50 a restart that does not help, 14:57 the flag is proposed.
        """
        incident = self.open_incident()
        self.happen(incident, EvidenceKind.PHASE_CHANGED, "The phase is triage")
        self.clock.forward(seconds=20)
        first = self.ask(incident)
        self.clock.forward(minutes=2, seconds=40)
        self.take(incident)
        self.clock.forward(minutes=1)
        self.decide(first, reason="cheap, and nothing is lost by it")
        self.happen(incident, EvidenceKind.PHASE_CHANGED, "The phase is mitigating")
        self.happen(
            incident, EvidenceKind.INTENT, f"Step 1 of {incident}/1 begins: restart the pods of shop/web"
        )
        self.clock.forward(seconds=31)
        self.happen(
            incident,
            EvidenceKind.OUTCOME,
            "Step 1 is done: 6 of 6 pods are new",
            {
                "before": {"revision": "7"},
                "after": {"revision": "7", "restartedAt": self.clock().isoformat()},
            },
        )
        self.clock.forward(minutes=5)
        self.happen(
            incident,
            EvidenceKind.VERIFICATION,
            "Ineffective: error_rate is 39.8 %, not below 1 %, after 5 min",
        )
        attempt = Attempt(
            mitigation=f"{incident}/1",
            playbook="restart-pods",
            title="Restart the pods of web",
            plan_digest=first.plan_digest,
            end=AttemptEnd.INEFFECTIVE,
            detail="error_rate was 41.7 % before and 39.8 % after 5 min; the pool filled up again.",
        )
        self.record(
            incident,
            1,
            Phase.MITIGATING,
            attention="The restart did not help. A second plan waits for a decision.",
            attempts=(attempt,),
        )
        self.clock.forward(seconds=12)
        self.ask(incident, 2)
        self.clock.forward(seconds=40)
        return incident
