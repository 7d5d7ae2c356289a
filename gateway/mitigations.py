"""Mitigations in force: who may undo, extend or keep one, its routes and its page."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.responses import Response

from authority.directory import on_call
from contracts.approvals import ApprovalRequest
from contracts.base import Frozen
from contracts.errors import ForbiddenError, InputError
from contracts.in_force import InForce
from contracts.incidents import Role
from gateway import forms
from gateway.api import PAGE, Limit, Reason
from gateway.asking import READS, By, Looks, Sent
from gateway.identity import Principal
from gateway.orders import LONGEST_REASON, Orders, spoken
from gateway.pages import Pages

SPANS: Final = {"4": "4 hours", "24": "1 day", "72": "3 days", "168": "7 days", "720": "30 days"}


class UndoOrder(Reason):
    """Which steps are taken back, and why; no step means all that are in force."""

    steps: tuple[int, ...] = ()


class Extension(Reason):
    """Until when it stays, and why."""

    until: AwareDatetime


class Shown(Frozen):
    """A mitigation in force as its page shows it to one person.

    Attributes:
        question: The request about its undo that waits for an answer.
        refusal: Why this person may not order anything about it; empty when they may.
    """

    found: InForce
    question: ApprovalRequest | None = None
    refusal: str = ""


@dataclass
class Mitigations:
    """Every order about what is in force: check, record in the ledger, wake the dispatcher."""

    orders: Orders

    def do(
        self, what: Callable[..., object], mitigation: str, order: Reason, principal: Principal
    ) -> InForce:
        """Give an order about a mitigation to the ledger: undo it, extend it, or make it permanent.

        Raises:
            InputError: There is no reason, or the ledger cannot use the order.
            NotFoundError: It left nothing behind, or there is none.
            ForbiddenError: The person may not order this.
            ConflictError: It is undone or permanent, its undo runs, or a step is not in force.
        """
        refusal = self._refusal(self.orders.ledger.in_force.get(mitigation), principal.person)
        if refusal:
            raise ForbiddenError(refusal)
        why = spoken(order.reason, "a reason", LONGEST_REASON)
        what(mitigation, person=principal.person, **(dict(order) | {"reason": why}))
        self.orders.wake()
        return self.orders.ledger.in_force.get(mitigation)

    def shown(self, person: str) -> list[Shown]:
        """Give what is in force, the next to end first, as it is shown to a person."""
        ledger = self.orders.ledger
        listed = []
        for found in ledger.in_force.list(limit=PAGE):
            asked = ledger.approvals.for_mitigation(found.undo) if found.undo else None
            question = asked.request if asked and asked.request.closed_at is None else None
            listed.append(Shown(found=found, question=question, refusal=self._refusal(found, person)))
        return listed

    def _refusal(self, found: InForce, person: str) -> str:
        """Say why a person may not order anything about it; empty when they may."""
        ledger = self.orders.ledger
        commander = ledger.incidents.get(found.incident).roles.get(Role.INCIDENT_COMMANDER)
        turn = on_call(self.orders.catalogue, found.service, ledger.database.now())
        may = [one for one in dict.fromkeys((found.owner, commander, *turn)) if one]
        if person in may:
            return ""
        return (
            f"{found.mitigation}: only its owner, its Incident Commander and who is on call may do this"
            + (f" ({', '.join(may)}), not {person}" if may else "")
        )


def router(mitigations: Mitigations) -> APIRouter:
    """Give the routes about mitigations in force."""
    routes = APIRouter(prefix="/v1/mitigations", tags=["mitigations"])
    ledger = mitigations.orders.ledger

    @routes.get("", dependencies=READS)
    def list_mitigations(
        *,
        incident: str | None = None,
        closed: Annotated[bool, Query(description="Those that are over too.")] = False,
        limit: Limit = 100,
    ) -> list[InForce]:
        """List the mitigations in force, the next to end first."""
        return ledger.in_force.list(incident=incident, closed=closed, limit=limit)

    @routes.get("/{incident}/{number}", dependencies=READS)
    def get_mitigation(incident: str, number: str) -> InForce:
        """Show what a mitigation has left behind."""
        return ledger.in_force.get(f"{incident}/{number}")

    @routes.post("/{incident}/{number}/undo", status_code=202)
    def undo_mitigation(incident: str, number: str, order: UndoOrder, principal: By) -> InForce:
        """Ask for the way back; while one is on its way, asking again changes nothing."""
        return mitigations.do(ledger.in_force.order_undo, f"{incident}/{number}", order, principal)

    @routes.post("/{incident}/{number}/extend")
    def extend_mitigation(incident: str, number: str, order: Extension, principal: By) -> InForce:
        """Say until when it stays."""
        return mitigations.do(ledger.in_force.extend, f"{incident}/{number}", order, principal)

    @routes.post("/{incident}/{number}/make-permanent")
    def make_mitigation_permanent(incident: str, number: str, order: Reason, principal: By) -> InForce:
        """Say that it stays for good."""
        return mitigations.do(ledger.in_force.make_permanent, f"{incident}/{number}", order, principal)

    return routes


def pages(mitigations: Mitigations, pages: Pages) -> APIRouter:
    """Give the page of what is in force, and its forms."""
    routes = APIRouter(include_in_schema=False)
    ledger = mitigations.orders.ledger.in_force

    @routes.get("/mitigations")
    def in_force(session: Looks) -> Response:
        listed = mitigations.shown(session.person.id)
        return pages.page("mitigations.html", session, listed=listed, spans=SPANS)

    @routes.post("/mitigations/{incident}/{number}/{order}")
    def ordered(incident: str, number: str, order: str, session: Sent, form: forms.Filled) -> Response:
        reason, mitigation, by = form.get("reason", ""), f"{incident}/{number}", session.principal
        match order:
            case "undo":
                left = ledger.get(mitigation).left
                steps = tuple(one.step for one in left if form.get(f"step-{one.step}"))
                if left and not steps:
                    raise InputError("tick the steps to undo; what is not ticked stays in force")
                undone = forms.model(UndoOrder, reason=reason, steps=steps)
                mitigations.do(ledger.order_undo, mitigation, undone, by)
            case "extend" if form.get("hours") in SPANS:
                until = mitigations.orders.identity.now() + timedelta(hours=int(form["hours"]))
                extended = forms.model(Extension, reason=reason, until=until)
                mitigations.do(ledger.extend, mitigation, extended, by)
            case "make-permanent":
                mitigations.do(ledger.make_permanent, mitigation, forms.model(Reason, reason=reason), by)
            case _:
                raise InputError("undo it, extend it by one of the spans, or make it permanent")
        return forms.see("/mitigations")

    return routes
