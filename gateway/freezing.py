"""Freezing: anybody stops all changes at once; who set it, or is in command, lets them begin again."""

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from authority.guardrails import check_may_lift
from contracts.errors import InputError
from contracts.guardrails import Freeze, Lock
from gateway import forms
from gateway.api import Reason
from gateway.asking import READS, By, Sent
from gateway.identity import Principal
from gateway.orders import LONGEST_REASON, Orders, spoken


class FreezeOrder(Reason):
    """What is stopped, and why."""

    service: str | None = Field(None, description="Only its changes; without it those of every service.")


def set_freeze(orders: Orders, principal: Principal, *, service: str | None, reason: str) -> Freeze:
    """Stop all changes, of one service or of every one; whoever is signed in may.

    Raises:
        InputError: There is no reason, or no such service.
    """
    if service is not None and orders.catalogue.service(service) is None:
        raise InputError(
            f"service {service[:64]!r} is not in the service catalogue; without one every service is frozen"
        )
    why = spoken(reason, "a reason", LONGEST_REASON)
    return orders.ledger.freezes.set(service=service, reason=why, person=principal.person)


def lift_freeze(orders: Orders, principal: Principal, *, freeze: str, reason: str) -> Freeze:
    """Let changes begin again.

    Raises:
        InputError: There is no reason.
        NotFoundError: There is no such freeze.
        ForbiddenError: It is somebody else's to lift.
        ConflictError: Somebody else has lifted it.
    """
    why = spoken(reason, "a reason", LONGEST_REASON)
    open_now = orders.ledger.incidents.list(open_only=True, limit=1_000)
    check_may_lift(orders.ledger.freezes.get(freeze), principal.person, open_now)
    return orders.ledger.freezes.lift(freeze, reason=why, person=principal.person)


def api(orders: Orders) -> APIRouter:
    """Give the routes for programs and the terminal."""
    routes = APIRouter(prefix="/v1", tags=["guardrails"])

    @routes.get("/freezes", dependencies=READS)
    def list_freezes() -> list[Freeze]:
        """List the freezes that stand."""
        return orders.ledger.freezes.list()

    @routes.post("/freezes", status_code=201)
    def freeze_changes(order: FreezeOrder, principal: By) -> Freeze:
        """Stop all changes; from the answer on no call to a provider begins. One on its way ends."""
        return set_freeze(orders, principal, **dict(order))

    @routes.post("/freezes/{freeze}/lift")
    def unfreeze_changes(freeze: str, order: Reason, principal: By) -> Freeze:
        """Let changes begin again; what was refused meanwhile does not come back by itself."""
        return lift_freeze(orders, principal, freeze=freeze, reason=order.reason)

    @routes.get("/locks", dependencies=READS)
    def list_locks() -> list[Lock]:
        """List the targets that a mitigation has to itself, with that mitigation."""
        return orders.ledger.guardrails.locks()

    return routes


def pages(orders: Orders) -> APIRouter:
    """Give what the console's forms send."""
    routes = APIRouter(include_in_schema=False)

    @routes.post("/freezes")
    def freeze_by_form(session: Sent, form: forms.Filled) -> Response:
        set_freeze(orders, session.principal, service=None, reason=form.get("reason", ""))
        return forms.see("/")

    @routes.post("/freezes/{freeze}/lift")
    def lift_by_form(freeze: str, session: Sent, form: forms.Filled) -> Response:
        lift_freeze(orders, session.principal, freeze=freeze, reason=form.get("reason", ""))
        return forms.see("/")

    return routes
