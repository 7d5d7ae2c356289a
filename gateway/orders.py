"""What a person may tell Stanch to do, with the checks: the same for the API and the console."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, JsonValue

from authority.decisions import Signer
from authority.directory import groups_of, on_call
from authority.policy import Policy
from contracts.approvals import SignedDecision, Verdict
from contracts.base import JsonObject, Strict
from contracts.catalogue import Catalogue, ServiceEnvironment
from contracts.errors import ConflictError, ForbiddenError, InputError
from contracts.incidents import OPEN_PHASES, Incident, Role, Severity
from contracts.messages import Command, CommandKind
from contracts.playbooks import Playbook, find
from gateway.identity import Identity, Principal
from gateway.sources.reading import storable
from gateway.tracing import span
from ledger import Answer, Ledger
from ledger.incidents import FINAL_PHASES
from ledger.storable import plain

LONGEST_REASON = 2_000
LONGEST_TITLE = 200


class Declaration(Strict):
    """An incident that a person opens."""

    title: str = Field(max_length=LONGEST_TITLE)
    service: str
    environment: str = "production"
    region: str | None = None
    severity: Severity


class DecisionOrder(Strict):
    """A person's answer to an approval request; ``plan_digest`` says which plan the person has seen.

    Attributes:
        steps: Approve only these; empty means all.
        break_glass: Approve outside the rules of who may; everybody is told, and two others review it.
        overrides: Guardrails that are set aside, by name.
    """

    verdict: Verdict
    plan_digest: str = Field(max_length=64)
    reason: str = Field("", max_length=LONGEST_REASON)
    steps: tuple[int, ...] = Field((), max_length=100)
    break_glass: bool = False
    overrides: tuple[str, ...] = Field((), max_length=20)


@dataclass
class Orders:
    """Every order that changes something: check, record in the ledger, wake the dispatcher."""

    ledger: Ledger
    catalogue: Catalogue
    identity: Identity
    signer: Signer
    policy: Policy
    playbooks: Sequence[Playbook]
    wake: Callable[[], None]

    def declare(self, order: Declaration, principal: Principal) -> Incident:
        """Open an incident without an alert.

        Raises:
            InputError: There is no title, or the catalogue has no such service, environment or region.
        """
        service, environment = order.service, order.environment
        known = self.catalogue.service(service)
        if known is None:
            names = ", ".join(entry.name for entry in self.catalogue.services) or "none yet"
            raise InputError(f"service {service[:64]!r} is not in the service catalogue; it has {names}")
        if environment not in known.environments:
            names = ", ".join(known.environments)
            raise InputError(f"service {service} has no environment {environment[:64]!r}; it has {names}")
        regions = known.environments[environment].regions
        if order.region is not None and order.region not in regions:
            names = ", ".join(regions) or "none yet, under `regions`"
            where = f"service {service} in {environment}"
            raise InputError(f"{where} has no region {order.region[:64]!r} in the catalogue; it has {names}")
        title = spoken(order.title, "a title", LONGEST_TITLE)
        with span("incident declared", {}, service=service) as trace:
            facts = dict(order) | {"title": title}
            incident = self.ledger.incidents.declare(person=principal.person, trace=trace, **facts)
        self.wake()
        return incident

    def take_command(self, incident: str, principal: Principal) -> Incident:
        """Give the asking person the Incident Commander's role; who has it says that they look at it.

        Raises:
            ForbiddenError: The service has people on call, and the person is neither on call nor was called.
            ConflictError: Somebody holds it, or the incident is closed.
        """
        now, person = self.incident_with_roles(incident), principal.person
        holder = now.roles.get(Role.INCIDENT_COMMANDER)
        if holder != person:
            self.check_may_command(now, person)
            if holder:
                said = f"ask {holder} to hand the role over, or take it over"
                raise ConflictError(f"{incident} is commanded by {holder}: {said}")
            role = Role.INCIDENT_COMMANDER
            now = self.ledger.incidents.assign(incident, role, person, by=person, seen=now)
        return self.looked(now, person)

    def looked(self, incident: Incident, person: str) -> Incident:
        """Say that a person who has a role now looks at what needs one: nobody else is called for a while."""
        if incident.attention:
            self.ledger.notices.seen(incident.id, person)
        self.wake()
        return incident

    def check_may_command(self, incident: Incident, person: str) -> None:
        """Check that this person may hold the Incident Commander's role.

        Whoever is on call may, and whom the ladder has called: then those who are on call did not answer.

        Raises:
            ForbiddenError: The service has people on call, and the person is neither on call nor was called.
        """
        told = self.ledger.notices.list(incident=incident.id)
        if person not in {one.person for one in told if one.rung is not None}:
            self.check_on_call(incident.service, person)

    def check_may_have(self, incident: Incident, role: Role, person: str, *, by: str) -> None:
        """Check that a person may have a role from this giver.

        Who may say yes is on call or was called, who may say the second yes is on call; a technical lead who
        is not comes from the Incident Commander alone.

        Raises:
            ForbiddenError: The service has people on call, and the person may not have it from that one.
        """
        if role is Role.INCIDENT_COMMANDER:
            self.check_may_command(incident, person)
        elif role is Role.TECHNICAL_LEAD and by != incident.roles.get(Role.INCIDENT_COMMANDER):
            self.check_on_call(incident.service, person)

    def check_on_call(self, service: str, person: str) -> None:
        """Check that this person is on call for a service.

        Raises:
            ForbiddenError: The service has people on call now, and the person is not one of them.
        """
        people = on_call(self.catalogue, service, self.ledger.database.now())
        if people and person not in people:
            raise ForbiddenError(f"{person} is not on call for {service}: {', '.join(people)} may do this")

    def assign(self, incident: str, role: Role, person: str, principal: Principal) -> Incident:
        """Give a role to somebody.

        The Incident Commander hands out every role but the own one. Others may take one: that of the
        technical lead, who may say the second yes and break the glass, only when they are on call.

        Raises:
            ForbiddenError: The person is unknown or not on call, the role is not the asking one's to give, or
                it is command, which is offered and accepted.
            ConflictError: The incident is closed.
        """
        chosen = self.identity.person(person).id
        if role is Role.INCIDENT_COMMANDER and chosen == principal.person:
            return self.take_command(incident, principal)
        now = self.incident_with_roles(incident)
        if role is Role.INCIDENT_COMMANDER:
            raise ForbiddenError(f"command is not given but accepted: offer it to {chosen}, as a handoff")
        if chosen != principal.person:
            _check_commands(now, principal.person)
        self.check_may_have(now, role, chosen, by=principal.person)
        after = self.ledger.incidents.assign(incident, role, chosen, by=principal.person, seen=now)
        self.wake()
        return after

    def command(
        self,
        incident: str,
        kind: CommandKind,
        *,
        principal: Principal,
        reason: str,
        key: str = "",
        severity: Severity | None = None,
        playbook: str = "",
        params: Mapping[str, JsonValue] | None = None,
    ) -> Incident:
        """Tell an incident to resolve, to plan again, perhaps with a playbook by name, or how bad it is.

        With the same ``key`` a repeated order is the same order; without it, each one is new.

        Raises:
            InputError: There is no reason, or the parameters are not the playbook's.
            NotFoundError: There is no such playbook.
            ForbiddenError: They do not command the incident; the technical lead may ask for a playbook.
            ConflictError: The incident is closed.
        """
        why = spoken(reason, "a reason", LONGEST_REASON)
        found = self.open_incident(incident)
        may_ask = found.roles.get(Role.TECHNICAL_LEAD) if playbook and kind is CommandKind.REPLAN else None
        if may_ask != principal.person:
            _check_commands(found, principal.person)
        order = Command(
            id=f"{incident}/{kind}/{principal.person}/{key or secrets.token_hex(8)}",
            kind=kind,
            person=principal.person,
            reason=why,
            severity=severity,
            playbook=playbook,
            params=self._params(kind, playbook, params or {}),
        )
        with span(f"incident {kind}", self.ledger.incidents.trace(incident), incident=incident) as trace:
            self.ledger.incidents.command(incident, order, trace=trace)
        self.wake()
        return self.ledger.incidents.get(incident)

    def _params(self, kind: CommandKind, playbook: str, params: Mapping[str, JsonValue]) -> JsonObject:
        """Read a playbook's parameters, before anything starts with them."""
        if not playbook and not params:
            return {}
        if not playbook or kind is not CommandKind.REPLAN:
            raise InputError("parameters belong to a playbook, and a playbook to an order for another plan")
        for name, value in params.items():
            if isinstance(value, int | float) and plain(value) != value:
                raise InputError(f"parameter {name[:64]!r} is a number that is too large, or none")
        if len(str(params)) > LONGEST_REASON or plain(dict(params)) != params:
            raise InputError(f"give parameters of at most {LONGEST_REASON} printable characters")
        read = find(self.playbooks, playbook).read(dict(params))
        return read.model_dump(mode="json", exclude_unset=True)

    def decide(self, approval: str, order: DecisionOrder, principal: Principal) -> SignedDecision:
        """Answer an approval request; the ledger checks who, when and about which plan.

        A rejection, a broken glass and an override need a reason.

        Raises:
            InputError: There is no reason, or no such step or guardrail.
            ForbiddenError: The person may not decide; the attempt is evidence.
            ConflictError: It is decided or expired, or the plan is another one.
        """
        why, leaves_rules = "", order.break_glass or bool(order.overrides)
        if order.verdict is Verdict.REJECT:
            if order.steps or leaves_rules:
                raise InputError(
                    "a rejection is of the whole plan: it names no steps, no guardrail and no glass"
                )
            why = spoken(order.reason, "a reason to reject: the next plan is made with it", LONGEST_REASON)
        elif order.reason.strip() or leaves_rules:
            why = spoken(
                order.reason, "a reason to leave the rules: others read it afterwards", LONGEST_REASON
            )
        request = self.ledger.approvals.get(approval).request
        if order.verdict is Verdict.APPROVE:
            self.identity.check_may_approve(principal, request)
        above = self.ledger.incidents.trace(request.incident)
        facts = {"incident": request.incident, "approval": approval, "verdict": order.verdict}
        with span("decision", above, **facts) as trace:
            answer = Answer(
                person=principal.person,
                authenticated_by=principal.authenticated_by,
                groups=self.groups(principal),
                **(dict(order) | {"reason": why}),
            )
            signed = self.ledger.approvals.decide(
                approval, answer, policy=self.policy, signer=self.signer, trace=trace
            )
        self.wake()
        return signed

    def place(self, service: str, environment: str) -> ServiceEnvironment:
        """Give what a service consists of in an environment.

        Raises:
            InputError: The catalogue has no such place.
        """
        place = self.catalogue.environment(service, environment)
        if place is None:
            raise InputError(f"the service catalogue has no {service[:64]!r} in {environment[:64]!r}")
        return place

    def groups(self, principal: Principal) -> tuple[str, ...]:
        """Give a person's groups, from the catalogue and the identity provider."""
        return groups_of(self.catalogue, principal.person, principal.groups)

    def may_move_roles(self, incident: Incident) -> bool:
        """Say whether roles may move: while it is open, and for as long as it has left something in force.

        Somebody decides about the way back of that, perhaps long after who commanded has gone. Of what is
        closed the ledger changes nothing.
        """
        left = incident.phase not in FINAL_PHASES and self.ledger.in_force.list(incident=incident.id, limit=1)
        return incident.phase in OPEN_PHASES or bool(left)

    def incident_with_roles(self, incident: str) -> Incident:
        """Give an incident whose roles may move.

        Raises:
            NotFoundError: There is none.
            ConflictError: It is over.
        """
        found = self.ledger.incidents.get(incident)
        return found if self.may_move_roles(found) else self.open_incident(incident)

    def open_incident(self, incident: str) -> Incident:
        """Give an incident that can be ordered about.

        Raises:
            NotFoundError: There is none.
            ConflictError: It is over.
        """
        found = self.ledger.incidents.get(incident)
        if found.phase not in OPEN_PHASES:
            raise ConflictError(
                f"{incident} is {found.phase.replace('_', ' ')}: nothing about it can be ordered any more"
            )
        return found


def _check_commands(incident: Incident, person: str) -> None:
    commander = incident.roles.get(Role.INCIDENT_COMMANDER)
    if commander is None:
        raise ForbiddenError(f"{incident.id} has no Incident Commander yet: acknowledge it to take the role")
    if commander != person:
        raise ForbiddenError(
            f"{incident.id}: only the Incident Commander ({commander}) may do this, not {person}"
        )


def said(check: Callable[..., object], *about: Any, **more: Any) -> str:
    """Give what a check objects to; empty when it does not."""
    try:
        check(*about, **more)
    except ForbiddenError as error:
        return str(error)
    return ""


def spoken(text: str, what: str, limit: int) -> str:
    """Give what a person has written, or ask for it.

    Raises:
        InputError: It is empty or too long.
    """
    words = text.strip()
    if not words:
        raise InputError(f"give {what}")
    if len(words) > limit:
        raise InputError(f"give {what} in at most {limit} characters; this has {len(words)}")
    return storable(words, limit)
