"""Saying yes ahead of time, in flight and after the fact: standing grants, forced steps, reviews."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from authority.decisions import Signer, Verifier
from authority.grants import fits
from authority.policy import Policy
from contracts.approvals import Envelope, Grant, Review, Reviewed, SignedDecision, StandingGrant
from contracts.base import Strict
from contracts.errors import InputError
from contracts.incidents import Role, Severity
from contracts.plans import Risk
from gateway.api import Limit, Reason
from gateway.asking import READS, By
from gateway.identity import TOKEN, Principal
from gateway.orders import LONGEST_REASON, Orders, spoken
from gateway.tracing import span
from ledger import Ledger, OutboxMessage
from ledger.grants import LONGEST


class GrantOrder(Reason):
    """A standing yes that a person gives: to what, where, and for how long.

    Attributes:
        incident: Only in this one; without it in every incident of the service.
        lasts: ISO 8601 duration, at most 90 days.
        uses: How many plans may run under it; without it any number.
        after: How long people are asked first: it answers only when all stay silent.
    """

    incident: str | None = None
    service: str
    environment: str
    envelope: Envelope
    lasts: timedelta = Field(timedelta(hours=1), gt=timedelta(), le=LONGEST)
    uses: int | None = Field(None, ge=1)
    after: timedelta = Field(timedelta(), ge=timedelta(), le=LONGEST)


class ForceOrder(Reason):
    """Switch a running step to its ungraceful variant."""

    step: int


class ReviewOrder(Strict):
    """What somebody else says of a broken glass, afterwards."""

    was_right: bool
    remark: str = Field(max_length=LONGEST_REASON)


@dataclass(frozen=True)
class Authority:
    """The orders about authority itself; the policy says who may give them."""

    orders: Orders

    def check_may_grant(self, order: GrantOrder, principal: Principal) -> None:
        """Check that this person may give this grant.

        Raises:
            InputError: It names what is not the service's.
            ForbiddenError: The person may not, or nobody could approve this alone.
            FreshSignInNeededError: It reaches up to high risk, and the sign-in is old.
        """
        orders = self.orders
        if order.envelope.max_risk is Risk.HIGH and principal.authenticated_by != TOKEN:
            orders.identity.check_fresh(principal, "a grant of high risk")
        incident = orders.ledger.incidents.get(order.incident) if order.incident else None
        if incident and (incident.service, incident.environment) != (order.service, order.environment):
            raise InputError(f"{incident.id} is about {incident.service} in {incident.environment}")
        known = [str(target) for target in orders.place(order.service, order.environment).targets()]
        for pattern in order.envelope.targets:
            if not any(fits(pattern, target) for target in known):
                has = f"{order.service} in {order.environment} has {', '.join(known) or 'no target'}"
                raise InputError(f"no grant is about {pattern[:200]!r}: {has}")
        orders.policy.check_may_grant(
            incident,
            principal.person,
            order.envelope,
            service=order.service,
            environment=order.environment,
            severity=incident.severity if incident else Severity.SEV1,
            groups=orders.groups(principal),
        )

    def grant(self, order: GrantOrder, principal: Principal) -> StandingGrant:
        """Give a standing grant.

        Raises:
            InputError: It has no reason or names what is not the service's, or lasts too long.
            ForbiddenError: The person may not, or nobody could approve this alone.
        """
        self.check_may_grant(order, principal)
        facts = {name: value for name, value in order if name not in {"lasts", "reason"}}
        orders, clock = self.orders, self.orders.ledger.database.now
        given = orders.ledger.grants.give(
            reason=spoken(order.reason, "a reason", LONGEST_REASON),
            expires_at=clock() + order.lasts,
            person=principal.person,
            authenticated_by=principal.authenticated_by,
            signer=orders.signer,
            **facts,
        )
        orders.wake()
        return given

    def revoke(self, grant: str, reason: str, principal: Principal) -> StandingGrant:
        """Take a grant back: whoever gave it, commands its incident or is on call for its service may.

        Raises:
            InputError: There is no reason.
            ForbiddenError: The person is none of these.
        """
        ledger = self.orders.ledger
        self.check_may_revoke(ledger.grants.get(grant).grant, principal.person)
        why = spoken(reason, "a reason", LONGEST_REASON)
        return ledger.grants.revoke(grant, person=principal.person, reason=why)

    def check_may_revoke(self, grant: Grant, person: str) -> None:
        """Check that this person gave the grant, commands its incident or is on call for its service.

        Raises:
            ForbiddenError: The person is none of these.
        """
        orders = self.orders
        incident = orders.ledger.incidents.get(grant.incident) if grant.incident else None
        commands = incident is not None and incident.roles.get(Role.INCIDENT_COMMANDER) == person
        if person != grant.given_by and not commands:
            orders.check_on_call(grant.service, person)

    def force(self, approval: str, order: ForceOrder, principal: Principal) -> SignedDecision:
        """Switch a step of an approved plan that is running to its ungraceful variant.

        Raises:
            InputError: There is no reason, or the step was not approved or has no such variant.
            ConflictError: The plan is not approved.
            ForbiddenError: The person may not decide it.
        """
        orders = self.orders
        request = orders.ledger.approvals.get(approval).request
        orders.identity.check_may_approve(principal, request)
        with span("forced", orders.ledger.incidents.trace(request.incident), approval=approval) as trace:
            signed = orders.ledger.approvals.force(
                approval,
                order.step,
                person=principal.person,
                authenticated_by=principal.authenticated_by,
                reason=spoken(order.reason, "a reason", LONGEST_REASON),
                policy=orders.policy,
                signer=orders.signer,
                groups=orders.groups(principal),
                trace=trace,
            )
        orders.wake()
        return signed

    def review(self, approval: str, order: ReviewOrder, principal: Principal) -> Review:
        """Say afterwards whether breaking the glass was right.

        Raises:
            InputError: There is no remark.
            ForbiddenError: The person broke it themselves.
            ConflictError: No glass was broken, or the person has said it already.
        """
        remark = spoken(order.remark, "a remark", LONGEST_REASON)
        return self.orders.ledger.reviews.add(
            approval, person=principal.person, was_right=order.was_right, remark=remark
        )


def considering(
    ledger: Ledger, *, policy: Policy, signer: Signer, verifier: Verifier
) -> Callable[[OutboxMessage], Awaitable[datetime | None]]:
    """Give the handler of ``outbox.ASKED``: it answers a request that no person has to answer."""
    consider = partial(ledger.approvals.consider, policy=policy, signer=signer, verifier=verifier)
    return lambda message: asyncio.to_thread(consider, str(message.payload["approval"]))


def router(authority: Authority) -> APIRouter:
    """Give the routes."""
    routes = APIRouter(prefix="/v1", tags=["authority"])
    ledger = authority.orders.ledger

    @routes.get("/grants", dependencies=READS)
    def list_grants(*, usable: bool = False, limit: Limit = 100) -> list[StandingGrant]:
        """List standing grants, the newest first."""
        return ledger.grants.list(usable_only=usable, limit=limit)

    @routes.post("/grants", status_code=201)
    def give_grant(order: GrantOrder, principal: By) -> StandingGrant:
        """Say yes ahead of time to whatever is inside an envelope."""
        return authority.grant(order, principal)

    @routes.get("/grants/{grant}", dependencies=READS)
    def get_grant(grant: str) -> StandingGrant:
        """Show one standing grant."""
        return ledger.grants.get(grant)

    @routes.post("/grants/{grant}/revoke")
    def revoke_grant(grant: str, order: Reason, principal: By) -> StandingGrant:
        """Take a grant back; what already runs under it goes on."""
        return authority.revoke(grant, order.reason, principal)

    @routes.post("/approvals/{approval}/force")
    def force_step(approval: str, order: ForceOrder, principal: By) -> SignedDecision:
        """Switch a running step to its ungraceful variant."""
        return authority.force(approval, order, principal)

    @routes.get("/reviews", dependencies=READS)
    def list_reviews(
        *, open_only: Annotated[bool, Query(alias="open")] = False, limit: Limit = 100
    ) -> list[Reviewed]:
        """List the approvals that broke the glass, and what two others say of each."""
        return ledger.reviews.list(open_only=open_only, limit=limit)

    @routes.post("/approvals/{approval}/review", status_code=201)
    def review_approval(approval: str, order: ReviewOrder, principal: By) -> Review:
        """Say whether breaking the glass was right."""
        return authority.review(approval, order, principal)

    return routes
