"""Roles that are handed over and taken over: the checks, the routes and the forms."""

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from contracts.base import Strict
from contracts.errors import ConflictError, ForbiddenError, InputError
from contracts.incidents import Incident, Role
from contracts.notices import Handoff
from gateway import forms
from gateway.api import Reason
from gateway.asking import READS, By, Sent
from gateway.identity import Principal
from gateway.orders import LONGEST_REASON, Orders, spoken


class Offer(Strict):
    """A role for a person, who has it from accepting on."""

    role: Role = Role.INCIDENT_COMMANDER
    person: str


class Offered(Strict):
    """Which offer is meant; without a role the only one."""

    role: Role | None = None


class TakeOver(Reason):
    """Why somebody on call takes command from an Incident Commander who cannot be reached."""

    holder: str = Field(description="Who commands it, as the asking person has seen.")


class Handovers:
    """Every order about who has a role next."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self.ledger = orders.ledger

    def offer(self, incident: str, role: Role, person: str, principal: Principal) -> Handoff:
        """Offer a role; its holder and the Incident Commander may.

        Raises:
            ForbiddenError: The role is not the asking person's to give, or the other may not have it.
            ConflictError: The incident is closed, or the other has the role.
        """
        chosen = self._orders.identity.person(person).id
        now = self._orders.incident_with_roles(incident)
        givers = {now.roles.get(role), now.roles.get(Role.INCIDENT_COMMANDER)} - {None}
        if principal.person not in givers:
            who = (
                " or ".join(sorted(one for one in givers if one)) or "nobody: acknowledge the incident first"
            )
            raise ForbiddenError(f"{incident}: {principal.person} cannot offer this role; it is up to {who}")
        self._orders.check_may_have(now, role, chosen, by=principal.person)
        handoff = self.ledger.handoffs.offer(now, role, chosen, by=principal.person)
        self._orders.wake()
        return handoff

    def accept(self, incident: str, role: Role | None, principal: Principal) -> Handoff:
        """Accept what is offered to the asking person.

        Raises:
            ForbiddenError: It is offered to somebody else, or the person is not on call any more.
            ConflictError: It is not offered any more.
        """
        now = self._orders.incident_with_roles(incident)
        for one in self.ledger.handoffs.list(incident):
            if (one.person, one.state) == (principal.person, "offered") and role in {None, one.role}:
                self._orders.check_may_have(now, one.role, principal.person, by=one.giver)
        handoff = self.ledger.handoffs.accept(incident, principal.person, role=role)
        self._orders.looked(now, principal.person)
        return handoff

    def withdraw(self, incident: str, role: Role | None, principal: Principal) -> list[Handoff]:
        """Take back what the asking person has offered."""
        taken = self.ledger.handoffs.withdraw(incident, principal.person, role=role)
        self._orders.wake()
        return taken

    def take_over(self, incident: str, holder: str, reason: str, principal: Principal) -> Incident:
        """Take command from who has it and cannot be reached; that person hears of it by every way we have.

        Raises:
            ForbiddenError: The asking person is not on call, and no ladder has called them.
            ConflictError: Somebody else commands it, or the incident is closed.
        """
        why = spoken(reason, "a reason", LONGEST_REASON)
        now = self._orders.incident_with_roles(incident)
        person = principal.person
        self._orders.check_may_command(now, person)
        commander = now.roles.get(Role.INCIDENT_COMMANDER)
        if commander not in (holder, person):
            raise ConflictError(f"{incident} is commanded by {commander or 'nobody'}, not by {holder[:64]!r}")
        after = self.ledger.incidents.assign(
            incident, Role.INCIDENT_COMMANDER, person, by=person, seen=now, reason=why
        )
        return self._orders.looked(after, person)


def router(handovers: Handovers) -> APIRouter:
    """Give the routes for programs and the terminal."""
    routes = APIRouter(prefix="/v1/incidents/{incident}", tags=["handoffs"])

    @routes.get("/handoffs", dependencies=READS)
    def list_handoffs(incident: str) -> list[Handoff]:
        """List which roles were offered to whom, with the packets, the newest first."""
        return handovers.ledger.handoffs.list(handovers.ledger.incidents.get(incident).id)

    @routes.post("/handoff", status_code=201)
    def offer_role(incident: str, order: Offer, principal: By) -> Handoff:
        """Offer a role to somebody, who has it from accepting on."""
        return handovers.offer(incident, order.role, order.person, principal)

    @routes.post("/handoff/accept")
    def accept_role(incident: str, order: Offered, principal: By) -> Handoff:
        """Accept the role that is offered to the asking person; pending questions come with it."""
        return handovers.accept(incident, order.role, principal)

    @routes.post("/handoff/withdraw")
    def withdraw_role(incident: str, order: Offered, principal: By) -> list[Handoff]:
        """Take back what the asking person has offered."""
        return handovers.withdraw(incident, order.role, principal)

    @routes.post("/take-over")
    def take_over(incident: str, order: TakeOver, principal: By) -> Incident:
        """Take command from an Incident Commander who cannot be reached; for who is on call or was called."""
        return handovers.take_over(incident, order.holder, order.reason, principal)

    return routes


def pages(handovers: Handovers, orders: Orders) -> APIRouter:
    """Give the console's forms; they come before the console's own, whose last path takes any word."""
    routes = APIRouter(include_in_schema=False)

    @routes.post("/incidents/{incident}/handoff/{answer}")
    def answered(incident: str, answer: str, session: Sent, form: forms.Filled) -> Response:
        role = Role(form["role"]) if form.get("role") in set(Role) else None
        if answer == "accept":
            handovers.accept(incident, role, session.principal)
        elif answer == "withdraw":
            handovers.withdraw(incident, role, session.principal)
        else:
            raise InputError("an offer is accepted or withdrawn")
        return forms.see(f"/incidents/{incident}")

    @routes.post("/incidents/{incident}/take-over")
    def taken(incident: str, session: Sent, form: forms.Filled) -> Response:
        handovers.take_over(incident, form.get("holder", ""), form.get("reason", ""), session.principal)
        return forms.see(f"/incidents/{incident}")

    @routes.post("/approvals/{subject}/seen")
    @routes.post("/incidents/{subject}/seen")
    def seen(subject: str, session: Sent) -> Response:
        orders.ledger.notices.seen(subject, session.person.id)
        orders.wake()
        return forms.see(f"/incidents/{subject}" if subject.startswith("INC-") else f"/approvals/{subject}")

    return routes
