"""Deciding in the console: what a person sees of questions, grants and reviews, and what their forms do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from authority.decisions import approved
from authority.directory import groups_of
from authority.grants import around, read_limits
from contracts import approvals
from contracts.base import JsonObject
from contracts.errors import ForbiddenError, InputError
from contracts.incidents import OPEN_PHASES, Incident
from contracts.outcomes import Direction
from contracts.plans import Difference, Needs, Risk, Step
from gateway import forms
from gateway.authority import Authority, ForceOrder, GrantOrder, ReviewOrder
from gateway.forms import see
from gateway.identity import OIDC, Identity, Principal, Session, decision_form
from gateway.orders import LONGEST_REASON, spoken
from gateway.pages import Pages
from gateway.sources.reading import storable
from ledger import JournalState

EnumT = TypeVar("EnumT", bound=StrEnum)
ModelT = TypeVar("ModelT", bound=BaseModel)

FORCE: Final = "force"  # what the token of such a form is bound to, in place of a verdict
REVIEW: Final = "review"
_SPAN: Final = {"minutes": timedelta(minutes=1), "hours": timedelta(hours=1), "days": timedelta(days=1)}
_SOMEBODY = "somebody"  # who has no part in the incident
_MOST_PEOPLE = 100  # of the catalogue are asked about when a page says who else may approve
_LISTED = 200
_DIGITS = 6


@dataclass(frozen=True)
class Forcing:
    """A step of an approved plan that has begun and can be switched to its ungraceful variant.

    Attributes:
        differences: What is different in the forced call.
        ordered: Somebody has ordered it already.
    """

    step: Step
    differences: tuple[Difference, ...]
    ordered: bool


@dataclass(frozen=True)
class Question:
    """An approval request as a page shows it to one person.

    Attributes:
        tokens: By verdict, or ``force``, for its form: bound to the session, this request and this plan.
        refusal: Why this person may not approve anything of it; empty when they may approve a step now.
        no_reject: Why they may not reject it.
        closed: Number of a step to why they cannot approve it.
        may_break_glass: Only outside the rules they may approve it.
        stale: Whether approving needs a sign-in that is newer than this person's.
        others: Who else in the catalogue may approve it now; ``None`` when it was not asked.
        teams: Teams whose people at the identity provider may approve it now, besides.
        forcings: What can be forced now, or was.
        no_force: Why this person may not force it.
        ahead: An envelope around the plan, to start from.
    """

    approval: approvals.Approval
    tokens: Mapping[str, str]
    refusal: str = ""
    no_reject: str = ""
    closed: Mapping[int, str] | None = None
    may_break_glass: bool = False
    stale: bool = False
    others: tuple[str, ...] | None = None
    teams: tuple[str, ...] = ()
    forcings: tuple[Forcing, ...] = ()
    no_force: str = ""
    ahead: approvals.Envelope | None = None

    @property
    def needs(self) -> Needs:
        """Whom the policy asks about the steps that are open to this person."""
        closed = self.closed or {}
        plan = self.approval.plan
        return plan.needs([step.number for step in plan.steps if step.number not in closed])


@dataclass(frozen=True)
class ShownGrant:
    """A grant, whether it may still answer something, and why a person may not revoke it."""

    standing: approvals.StandingGrant
    is_usable: bool
    refusal: str


@dataclass(frozen=True)
class ShownReview:
    """A broken glass, why this person may not review it, and the token of the form."""

    reviewed: approvals.Reviewed
    refusal: str
    token: str


class Deciding:
    """What pages show of authority, and what their forms do with it."""

    def __init__(self, authority: Authority, identity: Identity) -> None:
        self._authority = authority
        self._orders = authority.orders
        self._ledger = authority.orders.ledger
        self._identity = identity

    def question(self, approval: str, incident: Incident, session: Session) -> Question:
        """Give a request as this person sees it, whatever its state."""
        found = self._ledger.approvals.get(approval)
        request = found.request
        tokens = {
            what: self._identity.form_token(session, decision_form(approval, request.plan_digest, what))
            for what in (*approvals.Verdict, FORCE)
        }
        if request.state is approvals.ApprovalState.APPROVED:
            return self._approved(found, incident, session, tokens)
        if request.state is not approvals.ApprovalState.PENDING:
            return Question(found, tokens)
        if request.expires_at <= self._identity.now():
            late = f"{approval} has expired: ask for a new plan"
            return Question(found, tokens, refusal=late, no_reject=late)
        groups = self._groups(session)
        refusal, closed = self._closed(found, incident, session.person.id, groups)
        check = self._orders.policy.check_may_break_glass
        is_grantable = found.plan.needs() in {Needs.NOBODY, Needs.ONE} and not found.plan.violations
        return Question(
            found,
            tokens,
            refusal=refusal,
            no_reject=_said(
                lambda: self._orders.policy.check_may_reject(
                    incident, session.person.id, plan=found.plan, groups=groups, given=_given(found)
                )
            ),
            closed=closed,
            may_break_glass=bool(refusal)
            and any(step.needs is not Needs.DENIED for step in found.plan.steps)
            and not _said(lambda: check(incident, session.person.id, groups=groups)),
            stale=bool(_said(lambda: self._identity.check_may_approve(session.principal, request))),
            others=self._others(found, incident, session) if refusal or request.given else None,
            teams=self._teams(found, incident),
            ahead=around(found.plan) if found.plan.steps and not refusal and is_grantable else None,
        )

    def decide(self, approval: str, form: Mapping[str, str], principal: Principal) -> Response:
        """Answer a request; with ``ahead``, say yes ahead of time as well."""
        verdict = choice(approvals.Verdict, form.get("verdict", ""))
        found = self._ledger.approvals.get(approval)
        steps = tuple(step.number for step in found.plan.steps if form.get(f"step-{step.number}"))
        if verdict is approvals.Verdict.APPROVE and not steps:
            raise InputError("tick the steps that you approve, or reject the plan")
        given = None
        if verdict is approvals.Verdict.APPROVE and "ahead" in form:
            plan = found.plan
            given = self._order(form, plan.service, plan.environment, incident=plan.incident)
            self._authority.check_may_grant(given, principal)
        signed = self._orders.decide(
            approval,
            verdict=verdict,
            plan_digest=form.get("plan_digest", ""),
            reason=form.get("reason", ""),
            principal=principal,
            steps=() if verdict is approvals.Verdict.REJECT or len(steps) == len(found.plan.steps) else steps,
            break_glass="break_glass" in form,
            overrides=tuple(
                dict.fromkeys(
                    one.rule.value for one in found.plan.violations if form.get(f"override-{one.rule.value}")
                )
            ),
        )
        if given is not None and not self._is_given(given, principal.person):
            self._authority.grant(given, principal)
        return see(f"/incidents/{signed.decision.incident}")

    def force(self, approval: str, form: Mapping[str, str], principal: Principal) -> Response:
        """Switch a step to its ungraceful variant."""
        order = _read(ForceOrder, step=_number(form, "step"), reason=form.get("reason", ""))
        self._authority.force(approval, order, principal)
        return see(f"/approvals/{approval}")

    def review(self, approval: str, form: Mapping[str, str], principal: Principal) -> Response:
        """Say whether breaking the glass was right."""
        if form.get("was_right") not in {"yes", "no"}:
            raise InputError("say whether breaking the glass was right")
        order = _read(ReviewOrder, was_right=form["was_right"] == "yes", remark=form.get("remark", ""))
        self._authority.review(approval, order, principal)
        return see("/reviews")

    def give(self, form: Mapping[str, str], principal: Principal) -> Response:
        """Give a standing grant."""
        service, _, environment = form.get("place", "").partition("|")
        order = self._order(form, service, environment, incident=None)
        self._authority.grant(order, principal)
        return see("/grants")

    def grants(self, session: Session) -> list[ShownGrant]:
        """Give the grants, those that may still answer something first."""
        usable = {one.grant.id for one in self._ledger.grants.list(usable_only=True, limit=_LISTED)}
        shown = [
            ShownGrant(
                standing=one,
                is_usable=one.grant.id in usable,
                refusal=_said(self._revoking(one, session.person.id)),
            )
            for one in self._ledger.grants.list(limit=_LISTED)
        ]
        return sorted(shown, key=lambda one: not one.is_usable)

    def reviews(self, session: Session) -> list[ShownReview]:
        """Give the broken glasses, those that lack a review first."""
        still = {one.request.id for one in self._ledger.reviews.list(open_only=True, limit=_LISTED)}
        listed = self._ledger.reviews.list(limit=_LISTED)
        return [
            self._shown(one, session) for one in sorted(listed, key=lambda one: one.request.id not in still)
        ]

    def _shown(self, reviewed: approvals.Reviewed, session: Session) -> ShownReview:
        request, person = reviewed.request, session.person.id
        said = [one.person for one in reviewed.reviews]
        refusal = ""
        if request.signed is not None and request.signed.decision.person == person:
            refusal = "you broke it: two others review it"
        elif person in said:
            refusal = "you have reviewed it"
        token = self._identity.form_token(session, decision_form(request.id, request.plan_digest, REVIEW))
        return ShownReview(reviewed, refusal, token)

    def _groups(self, session: Session) -> tuple[str, ...]:
        return groups_of(self._orders.catalogue, session.person.id, session.principal.groups)

    def _closed(
        self, found: approvals.Approval, incident: Incident, person: str, groups: tuple[str, ...]
    ) -> tuple[str, dict[int, str]]:
        """Say why a person may approve nothing of it, or else why not some of the steps."""
        closed: dict[int, str] = {}
        for step in found.plan.steps:
            unasked = next((one for one in found.request.given if not one.allows(step.number)), None)
            if step.needs is Needs.DENIED:
                closed[step.number] = "the policy denies it, whoever approves it"
            elif unasked is not None:
                closed[step.number] = f"{unasked.decision.person} has not approved it"
        still = tuple(step for step in found.plan.steps if step.number not in closed)
        refusal = _said(lambda: self._check(found, incident, person, groups, still or found.plan.steps))
        if not refusal:
            return "", closed
        alone = {
            step.number: _said(lambda: self._check(found, incident, person, groups, (step,)))  # noqa: B023  (at once)
            for step in still
        }
        if not found.request.given and not all(alone.values()):
            return "", closed | {number: reason for number, reason in alone.items() if reason}
        return refusal, closed

    def _check(
        self,
        found: approvals.Approval,
        incident: Incident,
        person: str,
        groups: tuple[str, ...],
        steps: tuple[Step, ...],
    ) -> None:
        self._orders.policy.check_may_decide(
            incident,
            person,
            plan=found.plan.model_copy(update={"steps": steps}),
            groups=groups,
            given=_given(found),
        )

    def _others(self, found: approvals.Approval, incident: Incident, session: Session) -> tuple[str, ...]:
        catalogue = self._orders.catalogue
        people = [one.id for one in catalogue.people if one.id != session.person.id][:_MOST_PEOPLE]
        return tuple(
            one for one in people if not self._closed(found, incident, one, groups_of(catalogue, one))[0]
        )

    def _teams(self, found: approvals.Approval, incident: Incident) -> tuple[str, ...]:
        """Name the teams whose members the provider knows, and who may approve it once they sign in."""
        teams = [one.name for one in self._orders.catalogue.teams if one.oidc_groups]
        known = teams if self._identity.how == OIDC else []
        return tuple(one for one in known if not self._closed(found, incident, _SOMEBODY, (one,))[0])

    def _approved(
        self, found: approvals.Approval, incident: Incident, session: Session, tokens: Mapping[str, str]
    ) -> Question:
        request, plan = found.request, found.plan
        is_over = incident.phase not in OPEN_PHASES or request.mitigation in {
            attempt.mitigation for attempt in incident.attempts
        }
        allowed = approved(request.signed, plan) if request.signed is not None else ()
        steps = [step for step in plan.steps if step.forced is not None and step.number in allowed]
        if is_over or not steps:
            return Question(found, tokens)
        begun = {
            entry.step
            for entry in self._ledger.journal.for_incident(incident.id)
            if (entry.mitigation, entry.direction) == (request.mitigation, Direction.APPLY)
            and entry.state is not JournalState.PLANNED
        }
        groups = self._groups(session)
        return Question(
            found,
            tokens,
            forcings=tuple(
                Forcing(step, forced(step), self._ledger.evidence.has(f"{request.id}/force/{step.number}"))
                for step in steps
                if step.number in begun
            ),
            no_force=_said(
                lambda: self._orders.policy.check_may_decide(
                    incident, session.person.id, plan=plan, groups=groups
                )
            ),
        )

    def _order(
        self, form: Mapping[str, str], service: str, environment: str, *, incident: str | None
    ) -> GrantOrder:
        """Read the fields of a grant.

        Raises:
            InputError: One of them cannot be read; the sentence says which.
        """
        envelope = _read(
            approvals.Envelope,
            actions=tuple(_lines(form, "actions")),
            targets=tuple(_lines(form, "targets")),
            limits=read_limits(_lines(form, "limits")),
            max_risk=choice(Risk, form.get("max_risk", "")),
        )
        unit = _SPAN.get(form.get("unit", "minutes"), _SPAN["minutes"])
        return _read(
            GrantOrder,
            incident=incident,
            service=service,
            environment=environment,
            envelope=envelope,
            reason=spoken(form.get("reason", ""), "a reason", LONGEST_REASON),
            lasts=_number(form, "lasts") * unit,
            uses=_number(form, "uses") if form.get("uses", "").strip() else None,
            after=timedelta(minutes=_number(form, "after") if form.get("after", "").strip() else 0),
        )

    def _is_given(self, order: GrantOrder, person: str) -> bool:
        """Say whether the same form has given it before, and its answer was lost."""
        return any(
            (one.grant.given_by, one.grant.incident, one.grant.envelope, one.grant.reason)
            == (person, order.incident, order.envelope, order.reason)
            for one in self._ledger.grants.list(usable_only=True)
        )

    def _revoking(self, standing: approvals.StandingGrant, person: str) -> Callable[[], None]:
        return lambda: self._authority.check_may_revoke(standing.grant, person)


def forced(step: Step) -> tuple[Difference, ...]:
    """Say in what the forced call of a step differs from the graceful one."""
    graceful, ungraceful = step.action, step.forced or step.action
    before: JsonObject = {"action": graceful.name, **graceful.arguments}
    after: JsonObject = {"action": ungraceful.name, **ungraceful.arguments}
    return tuple(
        Difference(path=name, before=before.get(name), after=after.get(name))
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    )


def _given(found: approvals.Approval) -> tuple[str, ...]:
    return tuple(one.decision.person for one in found.request.given)


def pages(  # noqa: C901  (a list of routes, not a decision)
    deciding: Deciding, authority: Authority, identity: Identity, pages: Pages
) -> APIRouter:
    """Give the pages of grants and reviews, and what the forms about authority send."""
    routes = APIRouter(include_in_schema=False)
    ledger, catalogue = authority.orders.ledger, authority.orders.catalogue
    looks = Annotated[Session, Depends(identity.session)]
    filled = Annotated[dict[str, str], Depends(forms.read)]

    def sender(request: Request, session: looks, form: filled) -> Principal:
        identity.check_form(request, session, form.get("token", ""))
        return session.principal

    def about(what: str) -> Callable[..., Principal]:
        def decider(request: Request, approval: str, session: looks, form: filled) -> Principal:
            bound = decision_form(approval, form.get("plan_digest", ""), what or form.get("verdict", ""))
            identity.check_form(request, session, form.get("token", ""), bound)
            return session.principal

        return decider

    def shared(session: Session) -> dict[str, Any]:
        return {
            "session": session,
            "form": identity.form_token(session),
            "last": ledger.evidence.size() - 1,  # before reading: what comes meanwhile arrives as an event
            "names": {person.id: person.name for person in identity.people},
        }

    sent_by = Annotated[Principal, Depends(sender)]

    @routes.get("/grants")
    def grants(session: looks) -> Response:
        page = shared(session) | {"services": catalogue.services, "risks": list(Risk)}
        return pages.page("grants.html", **page, listed=deciding.grants(session))

    @routes.post("/grants")
    def give(principal: sent_by, form: filled) -> Response:
        return deciding.give(form, principal)

    @routes.post("/grants/{grant}/revoke")
    def revoke(grant: str, principal: sent_by, form: filled) -> Response:
        authority.revoke(grant, form.get("reason", ""), principal)
        return see("/grants")

    @routes.get("/reviews")
    def reviews(session: looks) -> Response:
        return pages.page("reviews.html", **shared(session), listed=deciding.reviews(session))

    @routes.post("/approvals/{approval}/decision")
    def decide(approval: str, principal: Annotated[Principal, Depends(about(""))], form: filled) -> Response:
        return deciding.decide(approval, form, principal)

    @routes.post("/approvals/{approval}/force")
    def force(
        approval: str, principal: Annotated[Principal, Depends(about(FORCE))], form: filled
    ) -> Response:
        return deciding.force(approval, form, principal)

    @routes.post("/approvals/{approval}/review")
    def review(
        approval: str, principal: Annotated[Principal, Depends(about(REVIEW))], form: filled
    ) -> Response:
        return deciding.review(approval, form, principal)

    return routes


def choice(kind: type[EnumT], text: str) -> EnumT:
    """Read one of several.

    Raises:
        InputError: It is none of them.
    """
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"choose one of {', '.join(kind)}") from error


def _said(check: Callable[[], None]) -> str:
    """Give what a check objects to; empty when it does not."""
    try:
        check()
    except ForbiddenError as error:
        return str(error)
    return ""


def _lines(form: Mapping[str, str], name: str) -> list[str]:
    return [storable(line.strip(), 500) for line in form.get(name, "").splitlines() if line.strip()]


def _number(form: Mapping[str, str], name: str) -> int:
    text = form.get(name, "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        raise InputError(f"{name}: {text[:40]!r} is no whole number")
    return int(text)


def _read(kind: type[ModelT], **content: object) -> ModelT:
    """Make a model of what a form says.

    Raises:
        InputError: It cannot be that; the sentence names the field.
    """
    try:
        return kind(**content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
