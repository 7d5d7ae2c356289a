"""A small real HTTP server that answers as the gateway does, from the contract's models."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel

from authority import seals
from contracts.approvals import Approval, ApprovalRequest, Decision, SignedDecision, Verdict
from contracts.evidence import EvidenceEntry, EvidenceKind
from contracts.incidents import Alert, Attempt, AttemptEnd, Effect, Incident, Phase, Role, Severity
from contracts.notices import Handoff, Notice, NoticeState, Packet, PendingQuestion, Timer, Tried
from contracts.plans import (
    ActionCall,
    Difference,
    Observation,
    Plan,
    ProbeCall,
    Reading,
    Risk,
    Step,
    Target,
    Verification,
)
from runtime.clock import utc_now

NOW = utc_now()
TARGET = Target(provider="launchdarkly", kind="flag", path=("shop", "production", "new-recommendations"))

STEP = Step(
    number=1,
    title="Turn new-recommendations off",
    action=ActionCall(name="launchdarkly.set_flag", target=TARGET, arguments={"on": False}),
    observed=Observation(state={"on": True}, guard={"version": 7}, at=NOW),
    change=(Difference(path="on", before=True, after=False),),
    verification=Verification(
        signal="error_rate",
        probe=ProbeCall(name="prometheus.query", arguments={"query": "up"}),
        healthy_below=1.0,
        unit="%",
        baseline=Reading(value=12.5, at=NOW),
    ),
    undo=ActionCall(name="launchdarkly.set_flag", target=TARGET, arguments={"on": True}),
    risk=Risk.LOW,
    blast_radius="everybody who is served new-recommendations in production",
    idempotent="A second call finds the flag off and changes nothing.",
)

PLAN = Plan(
    incident="INC-1",
    mitigation="INC-1/2",
    service="web",
    environment="production",
    playbook="disable-flag",
    playbook_digest="a" * 64,
    policy_digest="b" * 64,
    title="Disable flag new-recommendations",
    rationale="It was turned on 12 minutes before the first alert.",
    steps=(STEP,),
    undo_when=(Effect.WORSE,),
    sealed_at=NOW,
    expires_at=NOW + timedelta(minutes=15),
)

REQUEST = ApprovalRequest(
    id="APR-2",
    incident="INC-1",
    mitigation=PLAN.mitigation,
    title=PLAN.title,
    risk=Risk.LOW,
    severity=Severity.SEV2,
    plan_digest=seals.digest(PLAN),
    asked_at=NOW,
    expires_at=PLAN.expires_at,
)

APPROVAL = Approval(request=REQUEST, plan=PLAN)

NOTICE = Notice(
    subject="APR-2",
    incident="INC-1",
    person="grace",
    channel="webhook",
    title="APR-2",
    text="may this run?",
    state=NoticeState.FAILED,
    times=1,
    attempts=3,
    queued_at=NOW,
    error="webhook of grace at chat.example.com: 500",
)

HANDOFF = Handoff(
    id="HND-1",
    incident="INC-1",
    role=Role.INCIDENT_COMMANDER,
    giver="ada",
    person="bo",
    packet=Packet(
        title="5xx rate above 5 %",
        severity=Severity.SEV2,
        phase=Phase.MITIGATING,
        attention="a decision on APR-2",
        firing=("HighErrorRate",),
        pending=(
            PendingQuestion(
                id="APR-2",
                title=PLAN.title,
                risk=Risk.LOW,
                plan_digest=seals.digest(PLAN),
                expires_at=PLAN.expires_at,
            ),
        ),
        in_force=("INC-1/1: Restart web (ada)",),
        timers=(Timer(what="APR-2 expires", at=PLAN.expires_at),),
        tried=(Tried(mitigation="INC-1/1", title="Restart web", end=AttemptEnd.INEFFECTIVE),),
    ),
    offered_at=NOW,
    expires_at=NOW + timedelta(minutes=15),
)

INCIDENT = Incident(
    id="INC-1",
    title="5xx rate above 5 %",
    service="web",
    environment="production",
    severity=Severity.SEV2,
    phase=Phase.MITIGATING,
    opened_at=NOW - timedelta(minutes=4),
    alerts=(
        Alert(source="alertmanager", fingerprint="f1", starts_at=NOW, name="HighErrorRate", service="web"),
    ),
    roles={Role.INCIDENT_COMMANDER: "ada"},
    attempts=(
        Attempt(
            mitigation="INC-1/1",
            playbook="restart-pods",
            title="Restart web",
            plan_digest="c" * 64,
            end=AttemptEnd.INEFFECTIVE,
            detail="error_rate stayed at 12 %",
        ),
    ),
    attention="a decision on APR-2",
)


def entry(index: int, summary: str) -> EvidenceEntry:
    """Make one entry of the timeline."""
    return EvidenceEntry(
        key=f"key-{index}",
        kind=EvidenceKind.OUTCOME,
        incident="INC-1",
        actor="stanch",
        at=datetime(2026, 3, 1, 23, 59, 50, tzinfo=UTC) + timedelta(seconds=index),
        summary=summary,
        index=index,
        leaf_hash="d" * 64,
    )


def signed(verdict: Verdict, person: str = "ada", reason: str = "") -> SignedDecision:
    """Make a recorded decision on ``REQUEST``; the terminal does not check its signature."""
    decision = Decision(
        request=REQUEST.id,
        incident=REQUEST.incident,
        mitigation=REQUEST.mitigation,
        plan_digest=REQUEST.plan_digest,
        policy_digest=PLAN.policy_digest,
        verdict=verdict,
        person=person,
        authenticated_by="local",
        reason=reason,
        decided_at=NOW,
        expires_at=PLAN.expires_at,
    )
    return SignedDecision(decision=decision, key_id="0011223344556677", signature="c2lnbmVk")


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Answers:
    """What the server answers, by method and path without the query, and what it was asked."""

    port: int = 0
    by_path: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def give(self, what: str, answer: object, *, status: int = 200) -> None:
        """Answer ``"GET /path"`` with a model, a list of models, JSON, or bytes as they are."""
        content = answer if isinstance(answer, bytes) else json.dumps(answer, default=_plain).encode()
        self.by_path[what] = (status, content)

    @property
    def orders(self) -> list[Asked]:
        """Everything that was told, not only read."""
        return [one for one in self.asked if one.method != "GET"]


def _plain(value: object) -> object:
    assert isinstance(value, BaseModel)
    return value.model_dump(mode="json")


@contextmanager
def serve() -> Iterator[Answers]:
    """Serve until the end of the block."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            answers.asked.append(Asked(self.command, self.path, headers, body))
            what = f"{self.command} {self.path.partition('?')[0]}"
            status, content = answers.by_path.get(what, (404, b'{"error": "there is no such thing"}'))
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815  (the names that http.server calls)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answers.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
