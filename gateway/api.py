"""The HTTP interface under /v1: what programs and the terminal use."""

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from pydantic import BeforeValidator, Field
from starlette.responses import PlainTextResponse, StreamingResponse

from contracts.approvals import Approval, ApprovalRequest, ApprovalState, SignedDecision
from contracts.base import Frozen, JsonObject, Strict
from contracts.evidence import EvidenceEntry
from contracts.incidents import Alert, Incident, Phase, Severity
from contracts.messages import CommandKind, PreviewAnswer, PreviewRequest, RoleAssignment
from contracts.plans import Risk
from contracts.playbooks import find
from gateway.asking import READS, By
from gateway.engine import Engine
from gateway.live import Live
from gateway.orders import LONGEST_REASON, DecisionOrder, Declaration, Orders

PAGE: Final = 1_000
SSE_HEADERS: Final = {"X-Accel-Buffering": "no"}

Limit = Annotated[int, Query(ge=1, le=PAGE)]
After = Annotated[int, Query(ge=-1)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=100)]


class Reason(Strict):
    """Why; kept with the evidence."""

    reason: str = Field(max_length=LONGEST_REASON)


class SeverityOrder(Reason):
    """How bad it is now, and why."""

    severity: Severity


LONGEST_NAME = 200


class ReplanOrder(Reason):
    """Why another plan is wanted, and perhaps of which playbook, with its parameters."""

    playbook: str = Field("", max_length=LONGEST_NAME)
    params: JsonObject = {}


class PreviewOrder(Strict):
    """For what a playbook should propose something."""

    service: str = Field(max_length=LONGEST_NAME)
    environment: str = Field("production", max_length=LONGEST_NAME)
    severity: Severity = Severity.SEV3
    signal: str | None = Field(None, max_length=LONGEST_NAME)
    params: JsonObject = {}


class ListedPlaybook(Frozen):
    """A playbook of the catalogue.

    Attributes:
        params: JSON schema of its parameters.
    """

    name: str
    summary: str
    description: str
    digest: str
    risk: Risk
    order: int
    params: Annotated[JsonObject, BeforeValidator(lambda params: params.model_json_schema())]


def incidents_router(orders: Orders, live: Live) -> APIRouter:  # noqa: C901  (a list of routes)
    """Give the routes about incidents."""
    routes = APIRouter(prefix="/v1", tags=["incidents"])
    ledger = orders.ledger

    @routes.get("/incidents", dependencies=READS)
    def list_incidents(
        *, open_only: Annotated[bool, Query(alias="open")] = False, limit: Limit = 100
    ) -> list[Incident]:
        """List incidents, the newest first."""
        return ledger.incidents.list(open_only=open_only, limit=limit)

    @routes.post("/incidents", status_code=201)
    def declare_incident(order: Declaration, principal: By) -> Incident:
        """Open an incident without an alert."""
        return orders.declare(order, principal)

    @routes.get("/incidents/{incident}", dependencies=READS)
    def get_incident(incident: str) -> Incident:
        """Show one incident."""
        return ledger.incidents.get(incident)

    @routes.post("/incidents/{incident}/ack")
    def acknowledge_incident(incident: str, principal: By) -> Incident:
        """Take the Incident Commander's role."""
        return orders.take_command(incident, principal)

    @routes.post("/incidents/{incident}/roles")
    def assign_role(incident: str, order: RoleAssignment, principal: By) -> Incident:
        """Give a role to somebody."""
        return orders.assign(incident, order.role, order.person, principal)

    @routes.post("/incidents/{incident}/severity")
    def change_severity(incident: str, order: SeverityOrder, principal: By, key: Key = "") -> Incident:
        """Say how bad it is."""
        return orders.command(incident, CommandKind.SEVERITY, principal=principal, key=key, **dict(order))

    @routes.post("/incidents/{incident}/resolve")
    def resolve_incident(incident: str, order: Reason, principal: By, key: Key = "") -> Incident:
        """Say that it is over; the engine takes that up."""
        return orders.command(incident, CommandKind.RESOLVE, principal=principal, key=key, **dict(order))

    @routes.post("/incidents/{incident}/replan")
    def replan_incident(incident: str, order: ReplanOrder, principal: By, key: Key = "") -> Incident:
        """Ask for another plan, perhaps of a playbook by name; the engine takes that up."""
        return orders.command(incident, CommandKind.REPLAN, principal=principal, key=key, **dict(order))

    @routes.get("/incidents/{incident}/evidence", dependencies=READS)
    def list_evidence(incident: str, after: After = -1, limit: Limit = PAGE) -> list[EvidenceEntry]:
        """List an incident's entries of the evidence log, in order."""
        ledger.incidents.get(incident)
        return ledger.evidence.entries(incident=incident, after=after, limit=limit)

    @routes.get("/incidents/{incident}/postmortem", dependencies=READS, response_class=PlainTextResponse)
    def get_postmortem(incident: str) -> PlainTextResponse:
        """Give the postmortem as Markdown."""
        ledger.incidents.get(incident)
        return PlainTextResponse(ledger.postmortems.get(incident), media_type="text/markdown")

    @routes.get("/incidents/{incident}/events", dependencies=READS, response_class=StreamingResponse)
    def incident_events(
        incident: str, after: After = -1, last_event_id: Annotated[str, Header(max_length=20)] = ""
    ) -> StreamingResponse:
        """Stream an incident's evidence as server-sent events: all of it after ``after``, and what comes."""
        ledger.incidents.get(incident)
        return _events(live, incident=incident, after=_place(last_event_id, after))

    @routes.get("/events", dependencies=READS, response_class=StreamingResponse)
    def all_events(
        after: Annotated[int | None, Query(ge=-1)] = None,
        last_event_id: Annotated[str, Header(max_length=20)] = "",
    ) -> StreamingResponse:
        """Stream the evidence of all incidents as server-sent events, from now on or after ``after``."""
        return _events(live, incident=None, after=_place(last_event_id, after))

    return routes


def approvals_router(orders: Orders) -> APIRouter:
    """Give the routes about approvals."""
    routes = APIRouter(prefix="/v1", tags=["approvals"])
    ledger = orders.ledger

    @routes.get("/approvals", dependencies=READS)
    def list_approvals(
        state: ApprovalState | None = None, incident: str | None = None, limit: Limit = 100
    ) -> list[ApprovalRequest]:
        """List approval requests."""
        return ledger.approvals.list(state, incident, limit)

    @routes.get("/approvals/{approval}", dependencies=READS)
    def get_approval(approval: str) -> Approval:
        """Show a request and the plan that it asks about."""
        return ledger.approvals.get(approval)

    @routes.post("/approvals/{approval}/decision")
    def decide_approval(approval: str, order: DecisionOrder, principal: By) -> SignedDecision:
        """Approve or reject; the same answer again gives the recorded decision."""
        return orders.decide(approval, order, principal)

    return routes


def playbooks_router(orders: Orders, engine: Engine) -> APIRouter:
    """Give the routes about playbooks."""
    routes = APIRouter(prefix="/v1", tags=["playbooks"])

    @routes.get("/playbooks", dependencies=READS)
    def list_playbooks() -> list[ListedPlaybook]:
        """List the playbooks in the order in which they are tried."""
        return [
            ListedPlaybook.model_validate(playbook, from_attributes=True) for playbook in orders.playbooks
        ]

    @routes.post("/playbooks/{name}/plan")
    async def preview_playbook(name: str, order: PreviewOrder, _: By) -> PreviewAnswer:
        """See what a playbook would propose now; nothing is sealed and nobody is asked."""
        playbook = find(orders.playbooks, name)
        orders.place(order.service, order.environment)
        playbook.read(order.params)
        incident = _imagined(order, orders.identity.now())
        return await engine.preview(PreviewRequest(playbook=name, incident=incident, params=order.params))

    return routes


def _imagined(order: PreviewOrder, now: datetime) -> Incident:
    """Give the incident that a preview is for: nobody has it."""
    place = order.model_dump(include={"service", "environment", "severity"})
    alert = Alert(
        source="preview", fingerprint="preview", starts_at=now, name="preview", signal=order.signal, **place
    )
    return Incident(
        id="preview",
        title=f"Preview for {order.service}",
        phase=Phase.TRIAGE,
        opened_at=now,
        alerts=(alert,) if order.signal else (),
        **place,
    )


def _place(last_event_id: str, after: int | None) -> int | None:
    """Say where a stream goes on: where the browser was, else where it asks for."""
    return int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else after


def _events(live: Live, *, incident: str | None, after: int | None) -> StreamingResponse:
    return StreamingResponse(
        live.stream(incident=incident, after=after), media_type="text/event-stream", headers=SSE_HEADERS
    )
