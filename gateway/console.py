"""The console: server-rendered pages and forms that work without JavaScript, at 3 a.m., on a phone."""

import hashlib
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import APIRouter
from starlette.responses import Response

from authority.directory import on_call
from authority.seals import canonical
from contracts.approvals import ApprovalState
from contracts.evidence import EvidenceEntry, EvidenceKind
from contracts.incidents import OPEN_PHASES, Phase, Role, Severity
from contracts.messages import CommandKind
from gateway.asking import Looks, Sent
from gateway.deciding import Deciding
from gateway.forms import Filled, choice, model, see
from gateway.handoffs import Handovers
from gateway.orders import Declaration, Orders, said
from gateway.pages import Pages

_SHOWN = 300  # entries of the timeline on the page; the log itself has all of them
_READ = 20_000
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

    def __init__(self, orders: Orders, handovers: Handovers, deciding: Deciding, pages: Pages) -> None:
        self._orders = orders
        self._handovers = handovers
        self._deciding = deciding
        self._ledger = orders.ledger
        self._catalogue = orders.catalogue
        self._pages = pages
        self._clock = orders.identity.now
        self._status: tuple[datetime, list[PublicIncident]] | None = None
        self._status_lock = threading.Lock()

    def incidents(self, session: Looks) -> Response:
        """Show all incidents, the open ones first."""
        listed = self._ledger.incidents.list(limit=_LISTED)
        open_now = self._ledger.incidents.list(open_only=True, limit=_LISTED)
        pending = self._ledger.approvals.list(ApprovalState.PENDING, limit=_LISTED)
        return self._pages.page(
            "incidents.html",
            session,
            open_now=sorted(open_now, key=lambda incident: incident.severity),
            closed=[incident for incident in listed if incident.phase not in OPEN_PHASES][:_CLOSED_SHOWN],
            pending={request.incident: request for request in pending},
            reviews=len(self._ledger.reviews.list(open_only=True)),
            services=self._catalogue.services,
            severities=list(Severity),
        )

    def incident(self, incident: str, session: Looks) -> Response:
        """Show one incident."""
        entries = self._entries(incident)
        found = self._ledger.incidents.get(incident)
        requests = self._ledger.approvals.list(incident=incident, limit=_LISTED)
        pending = [request for request in requests if request.state is ApprovalState.PENDING]
        latest = max(requests, key=lambda request: request.asked_at, default=None)
        environment = self._catalogue.environment(found.service, found.environment)
        commander = found.roles.get(Role.INCIDENT_COMMANDER)
        person, may_move = session.person.id, self._orders.may_move_roles(found)
        no_command = said(self._orders.check_may_command, found, person)
        return self._pages.page(
            "incident.html",
            session,
            incident=found,
            is_open=found.phase in OPEN_PHASES,
            may_move=may_move,
            entries=entries[: -_SHOWN - 1 : -1],
            hidden=max(0, len(entries) - _SHOWN),
            last=entries[-1].index if entries else -1,
            questions=[self._deciding.question(request.id, found, session) for request in pending],
            latest=latest,
            now_runs=self._deciding.question(latest.id, found, session) if latest else None,
            requests={request.mitigation: request for request in requests},
            in_force=self._ledger.in_force.list(incident=incident),
            commands=commander == person,
            asks=person in (commander, found.roles.get(Role.TECHNICAL_LEAD)),
            playbooks=self._orders.playbooks,
            solo=self._orders.policy.solo,
            cannot_take=no_command if may_move and commander is None else None,
            people=self._catalogue.people,
            on_call=on_call(self._catalogue, found.service, self._clock()),
            roles=list(Role),
            severities=list(Severity),
            dashboards=environment.dashboards if environment else {},
            offers=[one for one in self._ledger.handoffs.list(incident) if one.state == "offered"],
            told=self._ledger.notices.list(subject=incident),
            may_take_over=may_move and commander not in {None, person} and not no_command,
            has_postmortem=any(entry.kind is EvidenceKind.POSTMORTEM_WRITTEN for entry in entries),
        )

    def approval(self, approval: str, session: Looks) -> Response:
        """Show one plan with everything that its digest covers."""
        found = self._ledger.approvals.get(approval)
        incident = self._ledger.incidents.get(found.request.incident)
        is_free = Role.INCIDENT_COMMANDER not in incident.roles and self._orders.may_move_roles(incident)
        return self._pages.page(
            "approval.html",
            session,
            watched=self._ledger.watches.signals(found),
            question=self._deciding.question(approval, incident, session),
            incident=incident,
            cannot_take=said(self._orders.check_may_command, incident, session.person.id)
            if is_free
            else None,
            told=self._ledger.notices.list(subject=found.request.id),
        )

    def plan(self, approval: str, _: Looks) -> Response:
        """Give a plan's canonical JSON: the very bytes whose SHA-256 is the digest."""
        digest = self._ledger.approvals.get(approval).request.plan_digest
        headers = {"Content-Disposition": f'attachment; filename="plan-{digest[:12]}.json"'}
        content = canonical(self._ledger.approvals.plan(digest))
        return Response(content, media_type="application/json", headers=headers)

    def postmortem(self, incident: str, session: Looks) -> Response:
        """Show an incident's postmortem as it was written."""
        return self._pages.page(
            "postmortem.html",
            session,
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
            None,
            open_now=[item for item in incidents if item.phase in OPEN_PHASES],
            closed=[item for item in incidents if item.phase not in OPEN_PHASES],
        )

    def declare(self, sent: Sent, form: Filled) -> Response:
        """Open an incident."""
        service, environment, region, *_ = [*form.get("place", "").split("|"), "", ""]
        place = {"service": service, "environment": environment, "region": region or None}
        severity = form.get("severity", "")
        order = model(Declaration, title=form.get("title", ""), severity=choice(Severity, severity), **place)
        return see(f"/incidents/{self._orders.declare(order, sent.principal).id}")

    def assign(self, incident: str, sent: Sent, form: Filled) -> Response:
        """Give a role to somebody; command is offered, for the other to accept."""
        role, person = choice(Role, form.get("role", "")), form.get("person", "")
        if role is Role.INCIDENT_COMMANDER and person != sent.person.id:
            self._handovers.offer(incident, role, person, sent.principal)
        else:
            self._orders.assign(incident, role, person, sent.principal)
        return see(f"/incidents/{incident}")

    def command(self, incident: str, kind: CommandKind, sent: Sent, form: Filled) -> Response:
        """Give an order; a form that is sent twice, as it was shown once, is one order."""
        severity = choice(Severity, form.get("severity", "")) if kind is CommandKind.SEVERITY else None
        typed = {
            name.removeprefix("param-"): form[name].strip() for name in form if name.startswith("param-")
        }
        reason, playbook = form.get("reason", ""), form.get("playbook", "")
        content = f"{form.get('seen', '')}|{severity}|{reason}|{playbook}|{typed}"
        self._orders.command(
            incident,
            kind,
            principal=sent.principal,
            reason=reason,
            key=hashlib.sha256(content.encode()).hexdigest()[:16],
            severity=severity,
            playbook=playbook,
            params={name: value for name, value in typed.items() if value},
        )
        return see(f"/incidents/{incident}")

    def _entries(self, incident: str) -> list[EvidenceEntry]:
        return self._ledger.evidence.entries(incident=incident, limit=_READ)

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


def router(console: Console, pages: Pages) -> APIRouter:
    """Give the pages; none of them is part of the API."""
    routes = APIRouter(include_in_schema=False)
    routes.get("/")(console.incidents)
    routes.get("/incidents/{incident}")(console.incident)
    routes.get("/incidents/{incident}/postmortem")(console.postmortem)
    routes.get("/approvals/{approval}")(console.approval)
    routes.get("/approvals/{approval}/plan.json")(console.plan)
    routes.post("/incidents")(console.declare)
    routes.post("/incidents/{incident}/roles")(console.assign)
    routes.post("/incidents/{incident}/{kind}")(console.command)
    routes.get("/status")(console.status)

    @routes.get("/static/{version}/{name}")
    def static(version: str, name: str) -> Response:  # noqa: ARG001  (the version is for the browser's cache)
        return pages.static(name)

    @routes.get("/favicon.ico")
    def favicon() -> Response:
        return pages.static("stanch.svg")

    return routes
