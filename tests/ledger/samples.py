"""Alerts, plans and a clock for the ledger's tests."""

import threading
from datetime import UTC, datetime, timedelta

from authority.policy import Policy
from contracts.incidents import Alert, AlertStatus, Role, Severity
from contracts.outcomes import Direction, Outcome, StepResult
from contracts.plans import ActionCall, Difference, Observation, Plan, Risk, Step, Target
from ledger import JournalEntry, Ledger, OutboxMessage, outbox

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Policy()
TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        """Give the time."""
        with self._lock:
            return self._now

    def forward(self, by: timedelta) -> None:
        """Move it; a negative step moves it back."""
        with self._lock:
            self._now += by


def alert(
    fingerprint: str = "f1", *, start: datetime = NOON, resolved: bool = False, **facts: object
) -> Alert:
    """Give an alert on the shop."""
    values: dict[str, object] = {
        "source": "alertmanager",
        "fingerprint": fingerprint,
        "starts_at": start,
        "ends_at": start + timedelta(minutes=5) if resolved else None,
        "status": AlertStatus.RESOLVED if resolved else AlertStatus.FIRING,
        "name": "ShopErrors",
        "service": "shop",
        "severity": Severity.SEV2,
        "summary": "5xx above 5 %",
    }
    return Alert.model_validate(values | facts)


def plan(incident: str = "INC-1", number: int = 1, *, replicas: int = 12, **facts: object) -> Plan:
    """Give a sealed plan of one step."""
    target = Target(provider="k8s", kind="deployment", path=("demo", "shop", "web"))
    step = Step(
        number=1,
        title="Scale web",
        action=ActionCall(name="k8s.scale", target=target, arguments={"replicas": replicas}),
        observed=Observation(state={"replicas": 3, "load": 0.5}, guard={"replicas": 3}, at=NOON),
        change=(Difference(path="replicas", before=3, after=replicas),),
        risk=Risk.LOW,
        blast_radius="web in shop",
        idempotent="A second call changes nothing.",
    )
    values: dict[str, object] = {
        "incident": incident,
        "mitigation": f"{incident}/{number}",
        "service": "shop",
        "environment": "production",
        "playbook": "scale-out",
        "playbook_digest": "0" * 64,
        "policy_digest": POLICY.digest,
        "title": "Scale web to 12",
        "rationale": "It is saturated.",
        "steps": (step,),
        "undo_when": (),
        "sealed_at": NOON,
        "expires_at": NOON + timedelta(minutes=15),
    }
    return Plan.model_validate(values | facts)


def open_incident(ledger: Ledger, *, service: str = "shop", commander: str | None = None) -> str:
    """Open an incident by an alert, and give its role of Incident Commander to somebody."""
    ledger.inbox.accept("alertmanager", service.encode(), [alert(service, service=service)], trace=TRACE)
    (incident,) = ledger.inbox.dispatch()
    if commander is not None:
        ledger.incidents.assign(incident, Role.INCIDENT_COMMANDER, commander, by=commander)
    return incident


def to_engine(ledger: Ledger) -> list[OutboxMessage]:
    """Claim what waits, and give what of it goes to the engine: people are called besides."""
    messages = ledger.outbox.claim(100, timedelta(seconds=30))
    return [one for one in messages if one.kind in (outbox.ALERTS, outbox.COMMAND, outbox.DECISION)]


def begin(
    ledger: Ledger, *, incident: str = "INC-1", plan_digest: str = "d" * 64, approval: str = "APR-1"
) -> JournalEntry:
    """Begin the first step of the incident's first mitigation."""
    return ledger.journal.begin(
        f"{incident}/1/1/apply",
        incident=incident,
        mitigation=f"{incident}/1",
        step=1,
        direction=Direction.APPLY,
        plan_digest=plan_digest,
        approval=approval,
    )


def result(outcome: Outcome = Outcome.DONE, *, incident: str = "INC-1", **facts: object) -> StepResult:
    """Give the result of that step."""
    values: dict[str, object] = {"action": f"{incident}/1/1/apply", "outcome": outcome}
    return StepResult.model_validate(values | facts)
