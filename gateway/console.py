"""The console: server-rendered pages and forms that work without JavaScript, at 3 a.m., on a phone."""

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authority.directory import on_call
from authority.seals import canonical
from contracts.approvals import ApprovalState
from contracts.errors import ForbiddenError
from contracts.evidence import EvidenceEntry, EvidenceKind
from contracts.incidents import OPEN_PHASES, Incident, Phase, Role, Severity
from contracts.messages import CommandKind
from gateway import forms
from gateway.deciding import Deciding, choice
from gateway.forms import see
from gateway.handoffs import Handovers
from gateway.identity import Identity, Principal, Session
from gateway.orders import Orders
from gateway.pages import Pages

_SHOWN = 300  # entries of the timeline on the page; the log itself has all of them
_PAGE = 1_000
_MOST_PAGES = 20
_LISTED = 200
_CLOSED_SHOWN = 25
_STATUS_KEPT = timedelta(seconds=5)  # the public page asks the ledger no more often, whoever reloads it
_STATUS_CLOSED = 5
_PUBLIC = {
    EvidenceKind.INCIDENT_OPENED,
    EvidenceKind.INCIDENT_DECLARED,
    EvidenceKind.PHASE_CHANGED,
    EvidenceKind.SEVERITY_CHANGED,
}


@dataclass(frozen=True)
class PublicIncident:
    """All that strangers may know of an incident."""

    title: str
    severity: Severity
    phase: Phase
    updated: datetime


class Console:
    """What the pages show and what their forms do."""

    def __init__(
        self,
        orders: Orders,
        handovers: Handovers,
        deciding: Deciding,
        identity: Identity,
        pages: Pages,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._orders = orders
        self._handovers = handovers
        self._deciding = deciding
        self._ledger = orders.ledger
        self._catalogue = orders.catalogue
        self._identity = identity
        self._pages = pages
        self._clock = clock
        self._status: tuple[datetime, list[PublicIncident]] | None = None
        self._status_lock = threading.Lock()

    def incidents(self, session: Session) -> Response:
        """Show all incidents, the open ones first."""
        last = self._ledger.evidence.size() - 1  # before reading: what comes meanwhile arrives as an event
        listed = self._ledger.incidents.list(limit=_LISTED)
        open_now = self._ledger.incidents.list(open_only=True, limit=_LISTED)
        pending = self._ledger.approvals.list(ApprovalState.PENDING, limit=_LISTED)
        return self._pages.page(
            "incidents.html",
            session=session,
            form=self._identity.form_token(session),
            last=last,
            open_now=sorted(open_now, key=lambda incident: incident.severity),
            closed=[incident for incident in listed if incident.phase not in OPEN_PHASES][:_CLOSED_SHOWN],
            pending={request.incident: request for request in pending},
            reviews=len(self._ledger.reviews.list(open_only=True)),
            services=self._catalogue.services,
            severities=list(Severity),
            names={person.id: person.name for person in self._identity.people},
        )

    def incident(self, incident: str, session: Session) -> Response:
        """Show one incident."""
        entries = self._entries(incident)
        found = self._ledger.incidents.get(incident)
        requests = self._ledger.approvals.list(incident=incident, limit=_LISTED)
        pending = [request for request in requests if request.state is ApprovalState.PENDING]
        latest = max(requests, key=lambda request: request.asked_at, default=None)
        environment = self._catalogue.environment(found.service, found.environment)
        return self._pages.page(
            "incident.html",
            session=session,
            form=self._identity.form_token(session),
            incident=found,
            is_open=found.phase in OPEN_PHASES,
            entries=entries[: -_SHOWN - 1 : -1],
            hidden=max(0, len(entries) - _SHOWN),
            last=entries[-1].index if entries else -1,
            questions=[self._deciding.question(request.id, found, session) for request in pending],
            latest=latest,
            forcings=self._deciding.question(latest.id, found, session).forcings if latest else (),
            requests={request.mitigation: request for request in requests},
            commands=found.roles.get(Role.INCIDENT_COMMANDER) == session.person.id,
            cannot_take=self._cannot_take(found, session),
            people=self._identity.people,
            names={person.id: person.name for person in self._identity.people},
            on_call=self._on_call(found),
            roles=list(Role),
            severities=list(Severity),
            dashboards=environment.dashboards if environment else {},
            offers=[one for one in self._ledger.handoffs.list(incident) if one.state == "offered"],
            told=self._ledger.notices.list(subject=incident),
            may_take_over=self._may_take_over(found, session),
            has_postmortem=any(entry.kind is EvidenceKind.POSTMORTEM_WRITTEN for entry in entries),
        )

    def approval(self, approval: str, session: Session) -> Response:
        """Show one plan with everything that its digest covers."""
        found = self._ledger.approvals.get(approval)
        request = found.request
        incident = self._ledger.incidents.get(request.incident)
        return self._pages.page(
            "approval.html",
            session=session,
            watched=self._ledger.watches.signals(found),
            question=self._deciding.question(approval, incident, session),
            incident=incident,
            form=self._identity.form_token(session),
            cannot_take=self._cannot_take(incident, session),
            told=self._ledger.notices.list(subject=request.id),
            last=self._ledger.evidence.size() - 1,
            names={person.id: person.name for person in self._identity.people},
        )

    def plan(self, approval: str) -> Response:
        """Give a plan's canonical JSON: the very bytes whose SHA-256 is the digest."""
        digest = self._ledger.approvals.get(approval).request.plan_digest
        headers = {"Content-Disposition": f'attachment; filename="plan-{digest[:12]}.json"'}
        content = canonical(self._ledger.approvals.plan(digest))
        return Response(content, media_type="application/json", headers=headers)

    def postmortem(self, incident: str, session: Session) -> Response:
        """Show an incident's postmortem as it was written."""
        return self._pages.page(
            "postmortem.html",
            session=session,
            form=self._identity.form_token(session),
            incident=self._ledger.incidents.get(incident),
            text=self._ledger.postmortems.get(incident),
        )

    def status(self) -> Response:
        """Show the public what is wrong: no internals, no names."""
        now = self._clock()
        with self._status_lock:
            if self._status is None or now - self._status[0] > _STATUS_KEPT:
                self._status = (now, self._public())
            _, incidents = self._status
        return self._pages.page(
            "status.html",
            session=None,
            open_now=[item for item in incidents if item.phase in OPEN_PHASES],
            closed=[item for item in incidents if item.phase not in OPEN_PHASES],
        )

    def declare(self, form: Mapping[str, str], principal: Principal) -> Response:
        """Open an incident."""
        service, _, environment = form.get("place", "").partition("|")
        incident = self._orders.declare(
            title=form.get("title", ""),
            service=service,
            environment=environment,
            severity=choice(Severity, form.get("severity", "")),
            principal=principal,
        )
        return see(f"/incidents/{incident.id}")

    def assign(self, incident: str, form: Mapping[str, str], principal: Principal) -> Response:
        """Give a role to somebody; command is offered, for the other to accept."""
        role, person = choice(Role, form.get("role", "")), form.get("person", "")
        if role is Role.INCIDENT_COMMANDER and person != principal.person:
            self._handovers.offer(incident, role, person, principal)
        else:
            self._orders.assign(incident, role, person, principal)
        return see(f"/incidents/{incident}")

    def command(
        self, incident: str, kind: CommandKind, form: Mapping[str, str], principal: Principal
    ) -> Response:
        """Give an order; a form that is sent twice, as it was shown once, is one order."""
        severity = choice(Severity, form.get("severity", "")) if kind is CommandKind.SEVERITY else None
        reason = form.get("reason", "")
        said = hashlib.sha256(f"{form.get('seen', '')}|{severity}|{reason}".encode()).hexdigest()
        self._orders.command(
            incident, kind, principal=principal, reason=reason, key=said[:16], severity=severity
        )
        return see(f"/incidents/{incident}")

    def _entries(self, incident: str) -> list[EvidenceEntry]:
        entries: list[EvidenceEntry] = []
        for _ in range(_MOST_PAGES):
            after = entries[-1].index if entries else -1
            page = self._ledger.evidence.entries(incident=incident, after=after, limit=_PAGE)
            entries += page
            if len(page) < _PAGE:
                break
        return entries

    def _cannot_take(self, incident: Incident, session: Session) -> str | None:
        """Say why the person cannot take command; ``""`` when it is free, ``None`` when it is taken."""
        if Role.INCIDENT_COMMANDER in incident.roles or incident.phase not in OPEN_PHASES:
            return None
        try:
            self._orders.check_may_command(incident, session.person.id)
        except ForbiddenError as error:
            return str(error)
        return ""

    def _may_take_over(self, incident: Incident, session: Session) -> bool:
        """Say whether the person is on call while somebody else commands the incident."""
        holder = incident.roles.get(Role.INCIDENT_COMMANDER, session.person.id)
        if holder == session.person.id or incident.phase not in OPEN_PHASES:
            return False
        try:
            self._orders.check_may_command(incident, session.person.id)
        except ForbiddenError:
            return False
        return True

    def _on_call(self, incident: Incident) -> tuple[str, ...]:
        return on_call(self._catalogue, incident.service, self._clock())

    def _public(self) -> list[PublicIncident]:
        listed = self._ledger.incidents.list(open_only=True, limit=_LISTED)
        latest = self._ledger.incidents.list(limit=_LISTED)
        listed += [incident for incident in latest if incident.phase not in OPEN_PHASES][:_STATUS_CLOSED]
        public = []
        for incident in listed:
            told = [entry.at for entry in self._entries(incident.id) if entry.kind in _PUBLIC]
            updated = max(told, default=incident.opened_at)
            public.append(PublicIncident(incident.title, incident.severity, incident.phase, updated))
        return public


def router(  # noqa: C901  (a list of routes, not a decision)
    console: Console, identity: Identity, pages: Pages
) -> APIRouter:
    """Give the pages; none of them is part of the API."""
    routes = APIRouter(include_in_schema=False)
    looks = Annotated[Session, Depends(identity.session)]
    filled = Annotated[dict[str, str], Depends(forms.read)]

    def sender(request: Request, session: looks, form: filled) -> Principal:
        identity.check_form(request, session, form.get("token", ""))
        return session.principal

    sent_by = Annotated[Principal, Depends(sender)]

    @routes.get("/")
    def incidents(session: looks) -> Response:
        return console.incidents(session)

    @routes.get("/incidents/{incident}")
    def incident(incident: str, session: looks) -> Response:
        return console.incident(incident, session)

    @routes.get("/incidents/{incident}/postmortem")
    def postmortem(incident: str, session: looks) -> Response:
        return console.postmortem(incident, session)

    @routes.get("/approvals/{approval}")
    def approval(approval: str, session: looks) -> Response:
        return console.approval(approval, session)

    @routes.get("/approvals/{approval}/plan.json", dependencies=[Depends(identity.session)])
    def plan(approval: str) -> Response:
        return console.plan(approval)

    @routes.post("/incidents")
    def declare(principal: sent_by, form: filled) -> Response:
        return console.declare(form, principal)

    @routes.post("/incidents/{incident}/roles")
    def assign(incident: str, principal: sent_by, form: filled) -> Response:
        return console.assign(incident, form, principal)

    @routes.post("/incidents/{incident}/{kind}")
    def command(incident: str, kind: CommandKind, principal: sent_by, form: filled) -> Response:
        return console.command(incident, kind, form, principal)

    @routes.get("/status")
    def status() -> Response:
        return console.status()

    @routes.get("/static/{version}/{name}")
    def static(version: str, name: str) -> Response:  # noqa: ARG001  (the version is for the browser's cache)
        return pages.static(name)

    @routes.get("/favicon.ico")
    def favicon() -> Response:
        return pages.static("stanch.svg")

    return routes
