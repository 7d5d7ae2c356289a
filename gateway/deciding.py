"""Deciding in the console: what a person sees of questions, grants and reviews, and what their forms do."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authority.decisions import approved
from authority.directory import groups_of
from authority.grants import around, read_limits
from contracts import approvals, names
from contracts.base import JsonObject
from contracts.errors import InputError
from contracts.incidents import OPEN_PHASES, Incident
from contracts.outcomes import Direction
from contracts.plans import Difference, Needs, Risk, Step
from contracts.watches import Watch
from gateway import forms
from gateway.asking import Knows, Looks, Sent
from gateway.authority import Authority, ForceOrder, GrantOrder, ReviewOrder
from gateway.identity import OIDC, Session, decision_form
from gateway.orders import LONGEST_REASON, DecisionOrder, said, spoken
from gateway.pages import Pages
from ledger import JournalState
from ledger.journal import JournalEntry

FORCE: Final = "force"  # what the token of such a form is bound to, in place of a verdict
REVIEW: Final = "review"
_SPAN: Final = {"minutes": timedelta(minutes=1), "hours": timedelta(hours=1), "days": timedelta(days=1)}
_SOMEBODY = "somebody"  # who has no part in the incident
_MOST_PEOPLE = 100  # of the catalogue are asked about when a page says who else may approve
_LISTED = 200


@dataclass(frozen=True)
class Forcing:
    """A step of an approved plan that has begun and can be switched to its ungraceful variant.

    Attributes:
        differences: What is different in the forced call.
        by: Who has ordered it.
        ordered: It is on its way: as many as it asks have ordered it.
        refusal: Why this person may not force it.
    """

    step: Step
    differences: tuple[Difference, ...]
    by: tuple[str, ...]
    ordered: bool
    refusal: str


@dataclass(frozen=True)
class Running:
    """An approved step of a plan that has not ended.

    Attributes:
        entry: How far it is in the journal; ``None`` before it has begun.
        seen: What is read of it since it was done.
        judged: What it did for the users, once that is known.
    """

    step: Step
    entry: JournalEntry | None
    seen: Watch
    judged: str


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
        running: The steps of a plan that has not ended.
        forcings: What can be forced now, or was.
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
    running: tuple[Running, ...] = ()
    forcings: tuple[Forcing, ...] = ()
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


def _about(what: str = "") -> Any:
    """Depend on who sent a form that is bound to a request, its plan, and this or else the verdict in it."""

    def sent(request: Request, approval: str, session: Looks, form: forms.Filled, identity: Knows) -> Session:
        bound = decision_form(approval, form.get("plan_digest", ""), what or form.get("verdict", ""))
        identity.check_form(request, session, form.get("token", ""), bound)
        return session

    return Depends(sent)


class Deciding:
    """What pages show of authority, and what their forms do with it."""

    def __init__(self, authority: Authority, pages: Pages) -> None:
        self._authority = authority
        self._pages = pages
        self._orders = authority.orders
        self._ledger = authority.orders.ledger
        self._policy = authority.orders.policy

    def question(self, approval: str, incident: Incident, session: Session) -> Question:
        """Give a request as this person sees it, whatever its state."""
        found, identity = self._ledger.approvals.get(approval), self._orders.identity
        request, plan = found.request, found.plan
        tokens = {
            what: session.token(decision_form(approval, request.plan_digest, what))
            for what in (*approvals.Verdict, FORCE)
        }
        if request.state is approvals.ApprovalState.APPROVED:
            return self._approved(found, incident, session, tokens)
        if request.state is not approvals.ApprovalState.PENDING:
            return Question(found, tokens)
        if request.expires_at <= identity.now():
            late = f"{approval} has expired: ask for a new plan"
            return Question(found, tokens, refusal=late, no_reject=late)
        person, groups = session.person.id, self._orders.groups(session.principal)
        refusal, closed = self._closed(found, incident, person, groups)
        is_grantable = plan.needs() in {Needs.NOBODY, Needs.ONE} and not plan.violations
        is_denied = all(step.needs is Needs.DENIED for step in plan.steps)
        no_glass = refusal and said(self._policy.check_may_break_glass, incident, person, groups=groups)
        rejecting = {"plan": plan, "groups": groups, "given": _given(found)}
        return Question(
            found,
            tokens,
            refusal=refusal,
            no_reject=said(self._policy.check_may_reject, incident, person, **rejecting),
            closed=closed,
            may_break_glass=bool(refusal) and not is_denied and not no_glass,
            stale=request.risk is Risk.HIGH and not identity.is_fresh(session.principal),
            others=self._others(found, incident, session) if refusal or request.given else None,
            teams=self._teams(found, incident),
            ahead=around(plan) if plan.steps and not refusal and is_grantable else None,
        )

    def decide(self, approval: str, sent: Annotated[Session, _about()], form: forms.Filled) -> Response:
        """Answer a request; with ``ahead``, say yes ahead of time as well."""
        verdict = forms.choice(approvals.Verdict, form.get("verdict", ""))
        plan = self._ledger.approvals.get(approval).plan
        steps = tuple(step.number for step in plan.steps if form.get(f"step-{step.number}"))
        is_yes = verdict is approvals.Verdict.APPROVE
        if is_yes and not steps:
            raise InputError("tick the steps that you approve, or reject the plan")
        given = None
        if is_yes and "ahead" in form:
            given = self._order(form, plan.service, plan.environment, incident=plan.incident)
            self._authority.check_may_grant(given, sent.principal)
        standing = dict.fromkeys(one.rule.value for one in plan.violations)
        order = forms.model(
            DecisionOrder,
            verdict=verdict,
            plan_digest=form.get("plan_digest", ""),
            reason=form.get("reason", ""),
            steps=steps if is_yes and len(steps) < len(plan.steps) else (),
            break_glass="break_glass" in form,
            overrides=tuple(name for name in standing if form.get(f"override-{name}")),
        )
        signed = self._orders.decide(approval, order, sent.principal)
        if given is not None and not self._is_given(given, sent.person.id):
            self._authority.grant(given, sent.principal)
        return forms.see(f"/incidents/{signed.decision.incident}")

    def force(self, approval: str, sent: Annotated[Session, _about(FORCE)], form: forms.Filled) -> Response:
        """Switch a step to its ungraceful variant."""
        order = forms.model(ForceOrder, step=forms.number(form, "step"), reason=form.get("reason", ""))
        self._authority.force(approval, order, sent.principal)
        return forms.see(f"/approvals/{approval}")

    def review(self, approval: str, sent: Annotated[Session, _about(REVIEW)], form: forms.Filled) -> Response:
        """Say whether breaking the glass was right."""
        if form.get("was_right") not in {"yes", "no"}:
            raise InputError("say whether breaking the glass was right")
        remark = form.get("remark", "")
        order = forms.model(ReviewOrder, was_right=form["was_right"] == "yes", remark=remark)
        self._authority.review(approval, order, sent.principal)
        return forms.see("/reviews")

    def give(self, sent: Sent, form: forms.Filled) -> Response:
        """Give a standing grant."""
        service, _, environment = form.get("place", "").partition("|")
        self._authority.grant(self._order(form, service, environment, incident=None), sent.principal)
        return forms.see("/grants")

    def revoke(self, grant: str, sent: Sent, form: forms.Filled) -> Response:
        """Take a grant back."""
        self._authority.revoke(grant, form.get("reason", ""), sent.principal)
        return forms.see("/grants")

    def grants(self, session: Looks) -> Response:
        """Show the grants, those that may still answer something first."""
        usable = {one.grant.id for one in self._ledger.grants.list(usable_only=True, limit=_LISTED)}
        check, person = self._authority.check_may_revoke, session.person.id
        shown = [
            ShownGrant(one, is_usable=one.grant.id in usable, refusal=said(check, one.grant, person))
            for one in self._ledger.grants.list(limit=_LISTED)
        ]
        shown.sort(key=lambda one: not one.is_usable)
        services = self._orders.catalogue.services
        return self._pages.page("grants.html", session, services=services, risks=list(Risk), listed=shown)

    def reviews(self, session: Looks) -> Response:
        """Show the broken glasses, those that lack a review first."""
        still = {one.request.id for one in self._ledger.reviews.list(open_only=True, limit=_LISTED)}
        listed = sorted(self._ledger.reviews.list(limit=_LISTED), key=lambda one: one.request.id not in still)
        return self._pages.page("reviews.html", session, listed=[_shown(one, session) for one in listed])

    def _closed(
        self, found: approvals.Approval, incident: Incident, person: str, groups: tuple[str, ...]
    ) -> tuple[str, dict[int, str]]:
        """Say why a person may approve nothing of it, or else why not some of the steps."""
        given, check = found.request.given, self._policy.check_may_decide
        closed: dict[int, str] = {}
        for step in found.plan.steps:
            unasked = next((one for one in given if not one.allows(step.number)), None)
            if step.needs is Needs.DENIED:
                closed[step.number] = "the policy denies it, whoever approves it"
            elif unasked is not None:
                closed[step.number] = f"{unasked.decision.person} has not approved it"

        def wrong(*steps: Step) -> str:
            plan = found.plan.model_copy(update={"steps": steps})
            return said(check, incident, person, plan=plan, groups=groups, given=_given(found))

        still = [step for step in found.plan.steps if step.number not in closed]
        refusal = wrong(*(still or found.plan.steps))
        if not refusal:
            return "", closed
        alone = {step.number: wrong(step) for step in still}
        if not given and not all(alone.values()):
            return "", closed | {number: reason for number, reason in alone.items() if reason}
        return refusal, closed

    def _others(self, found: approvals.Approval, incident: Incident, session: Session) -> tuple[str, ...]:
        catalogue = self._orders.catalogue
        people = [one.id for one in catalogue.people if one.id != session.person.id][:_MOST_PEOPLE]
        return tuple(
            one for one in people if not self._closed(found, incident, one, groups_of(catalogue, one))[0]
        )

    def _teams(self, found: approvals.Approval, incident: Incident) -> tuple[str, ...]:
        """Name the teams whose members the provider knows, and who may approve it once they sign in."""
        teams = [one.name for one in self._orders.catalogue.teams if one.oidc_groups]
        known = teams if self._orders.identity.how == OIDC else []
        return tuple(one for one in known if not self._closed(found, incident, _SOMEBODY, (one,))[0])

    def _approved(
        self, found: approvals.Approval, incident: Incident, session: Session, tokens: Mapping[str, str]
    ) -> Question:
        request, plan = found.request, found.plan
        is_over = incident.phase not in OPEN_PHASES or request.mitigation in {
            attempt.mitigation for attempt in incident.attempts
        }
        if is_over or request.signed is None:
            return Question(found, tokens)
        allowed = approved(request.signed, plan)
        running = [self._running(step, request.mitigation) for step in plan.steps if step.number in allowed]
        person, groups = session.person.id, self._orders.groups(session.principal)

        def forcing(step: Step) -> Forcing:
            by = self._ledger.approvals.forced_by(request.id, step.number)
            alone, given = (
                plan.model_copy(update={"steps": (step,)}),
                tuple(one for one in by if one != person),
            )
            return Forcing(
                step,
                forced(step),
                by,
                self._ledger.evidence.has(f"{request.id}/force/{step.number}"),
                said(self._policy.check_may_decide, incident, person, plan=alone, groups=groups, given=given),
            )

        begun = [one.step for one in running if one.entry and one.entry.state is not JournalState.PLANNED]
        forcings = tuple(forcing(step) for step in begun if step.forced is not None)
        return Question(found, tokens, running=tuple(running), forcings=forcings)

    def _running(self, step: Step, mitigation: str) -> Running:
        key = names.action_id(mitigation, step.number, Direction.APPLY.value)
        judged = self._ledger.evidence.body_of(f"{key}/verification") or {}
        seen = self._ledger.watches.get(f"verification/{key}")
        return Running(step, self._ledger.journal.get(key), seen, str(judged.get("detail", "")))

    def _order(
        self, form: Mapping[str, str], service: str, environment: str, *, incident: str | None
    ) -> GrantOrder:
        """Read the fields of a grant.

        Raises:
            InputError: One of them cannot be read; the sentence says which.
        """
        envelope = forms.model(
            approvals.Envelope,
            actions=tuple(forms.lines(form, "actions")),
            targets=tuple(forms.lines(form, "targets")),
            limits=read_limits(forms.lines(form, "limits")),
            max_risk=forms.choice(Risk, form.get("max_risk", "")),
        )
        unit = _SPAN.get(form.get("unit", "minutes"), _SPAN["minutes"])
        return forms.model(
            GrantOrder,
            incident=incident,
            service=service,
            environment=environment,
            envelope=envelope,
            reason=spoken(form.get("reason", ""), "a reason", LONGEST_REASON),
            lasts=forms.number(form, "lasts") * unit,
            uses=forms.number(form, "uses") if form.get("uses", "").strip() else None,
            after=timedelta(minutes=forms.number(form, "after") if form.get("after", "").strip() else 0),
        )

    def _is_given(self, order: GrantOrder, person: str) -> bool:
        """Say whether the same form has given it before, and its answer was lost."""
        return any(
            (one.grant.given_by, one.grant.incident, one.grant.envelope, one.grant.reason)
            == (person, order.incident, order.envelope, order.reason)
            for one in self._ledger.grants.list(usable_only=True)
        )


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


def _shown(reviewed: approvals.Reviewed, session: Session) -> ShownReview:
    request, person = reviewed.request, session.person.id
    refusal = ""
    if request.signed is not None and request.signed.decision.person == person:
        refusal = "you broke it: two others review it"
    elif any(one.person == person for one in reviewed.reviews):
        refusal = "you have reviewed it"
    return ShownReview(
        reviewed, refusal, session.token(decision_form(request.id, request.plan_digest, REVIEW))
    )


def pages(deciding: Deciding) -> APIRouter:
    """Give the pages of grants and reviews, and what the forms about authority send."""
    routes = APIRouter(include_in_schema=False)
    routes.get("/grants")(deciding.grants)
    routes.post("/grants")(deciding.give)
    routes.post("/grants/{grant}/revoke")(deciding.revoke)
    routes.get("/reviews")(deciding.reviews)
    routes.post("/approvals/{approval}/decision")(deciding.decide)
    routes.post("/approvals/{approval}/force")(deciding.force)
    routes.post("/approvals/{approval}/review")(deciding.review)
    return routes
