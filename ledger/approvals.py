"""The questions to people, the sealed plans that they are about, and the signed answers."""

import builtins
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, select

from authority.decisions import Signer, Verifier, approved
from authority.grants import outside
from authority.guardrails import check_names
from authority.policy import Policy
from authority.seals import digest
from contracts.approvals import (
    Approval,
    ApprovalRequest,
    ApprovalState,
    Decision,
    Grant,
    SignedDecision,
    Verdict,
)
from contracts.errors import ConflictError, ForbiddenError, InputError, NotFoundError, StanchError
from contracts.evidence import ENGINE, EvidenceKind
from contracts.incidents import AttemptEnd, Severity
from contracts.messages import ClosedApproval
from contracts.names import ended_key
from contracts.plans import Needs, Plan, Step
from ledger import evidence, grants, incidents, ladders, outbox, rows
from ledger.database import Stored, moment_of
from ledger.schema import approval as approvals
from ledger.schema import journal
from ledger.schema import plan as plans
from ledger.storable import clean, one_line

_STATE = {Verdict.APPROVE: ApprovalState.APPROVED, Verdict.REJECT: ApprovalState.REJECTED}
_VERB = {Verdict.APPROVE: "approves", Verdict.REJECT: "rejects"}


@dataclass(frozen=True)
class Answer:
    """What a person says to a request, and how we know that it is that person.

    Attributes:
        verdict: Yes or no.
        plan_digest: Of the plan that the person was shown.
        person: Who.
        authenticated_by: How we know that it is that person.
        reason: Why.
        groups: The person's groups at the identity provider.
        steps: The numbers of the steps that are approved; empty means all.
        break_glass: Approve outside the rules of who may; a review by two others follows.
        overrides: Names of guardrails that are set aside.
        grant: What said it ahead of time.
    """

    verdict: Verdict
    plan_digest: str
    person: str
    authenticated_by: str
    reason: str = ""
    groups: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    break_glass: bool = False
    overrides: tuple[str, ...] = ()
    grant: Grant | None = None


class Approvals(Stored):
    """All requests, and the one place where they are decided."""

    def ask(self, plan: Plan, *, severity: Severity, is_urgent: bool = True) -> ApprovalRequest:
        """Keep a sealed plan and ask about it. A mitigation is asked about once: again gives the request.

        Args:
            plan: The plan.
            severity: Of its incident.
            is_urgent: Call people until somebody answers; else the Incident Commander is told, once.

        Raises:
            InputError: The plan holds a value that has no canonical form.
        """
        try:
            seal = digest(plan)
        except ValueError as error:
            raise InputError(f"{plan.mitigation}: the plan cannot be sealed: {error}") from error
        with self._database.write() as connection:
            known = rows.one(connection, approvals, mitigation=plan.mitigation)
            if known is not None:
                return _request(known)
            content = plan.model_dump(mode="json")
            sealed: dict[str, Any] = {"plan_digest": seal, "mitigation": plan.mitigation}
            if rows.one(connection, plans, digest=seal) is None:
                rows.add(connection, plans, digest=seal, mitigation=plan.mitigation, content=content)
            row = rows.add(
                connection,
                approvals,
                **plan.model_dump(include={"incident", "title", "expires_at"}),
                risk=plan.risk,
                **sealed,
                severity=severity,
                state=ApprovalState.PENDING,
                needs=plan.needs(),
                given=[],
                broke_glass=False,
                asked_at=moment_of(connection),
                closed_reason="",
            )
            request, incident = _request(row), plan.incident
            kind, key = EvidenceKind.PLAN_SEALED, f"{plan.mitigation}/sealed"
            body = sealed | {"plan": content}
            said = f"{plan.playbook} proposes {plan.mitigation}: {plan.title}"
            evidence.note(connection, kind, key, said, incident=incident, at=plan.sealed_at, body=body)
            named = {"approval": request.id}
            kind, key = EvidenceKind.APPROVAL_ASKED, f"{request.id}/asked"
            body = sealed | named | {"expires_at": plan.expires_at.isoformat()}
            asks = f"{request.id} asks whether {plan.mitigation} may run"
            evidence.note(connection, kind, key, f"{asks}: {plan.title}", incident=incident, body=body)
            due = request.asked_at
            outbox.add(connection, outbox.ASKED, request.id, incident=incident, payload=named, due=due)
            if is_urgent:
                ladders.begin(connection, request.id, incident)
            else:
                ladders.tell(connection, incident, ["incident_commander"], asks, key=key)
            return request

    def for_mitigation(self, mitigation: str) -> Approval | None:
        """Give the request about a mitigation with its plan, if it was asked about.

        Raises:
            ForbiddenError: The stored plan is not the one that was sealed.
        """
        with self._database.read() as connection:
            row = rows.one(connection, approvals, mitigation=mitigation)
            if row is None:
                return None
            return Approval(request=_request(row), plan=_plan(connection, row.plan_digest))

    def get(self, approval: str) -> Approval:
        """Give a request with its plan.

        Raises:
            NotFoundError: There is none with this id.
            ForbiddenError: The stored plan is not the one that was sealed.
        """
        with self._database.read() as connection:
            row = rows.find(connection, approvals, approval)
            return Approval(request=_request(row), plan=_plan(connection, row.plan_digest))

    def list(
        self, state: ApprovalState | None = None, incident: str | None = None, limit: int = 100
    ) -> builtins.list[ApprovalRequest]:
        """Give requests, the newest first."""
        query = select(approvals).order_by(approvals.c.number.desc()).limit(limit)
        query = query.filter_by(**rows.given(state=state, incident=incident))
        return [_request(row) for row in self._database.rows(query)]

    def waited(self) -> builtins.list[ApprovalRequest]:
        """Give the requests that people answered or let expire; not those that a grant answered for them."""
        ended = (ApprovalState.APPROVED, ApprovalState.REJECTED, ApprovalState.EXPIRED)
        query = select(approvals).where(approvals.c.state.in_(ended), approvals.c.needs != Needs.NOBODY)
        found = [_request(row) for row in self._database.rows(query)]
        return [request for request in found if request.answers or request.signed is None]

    def decide(
        self, approval: str, answer: Answer, *, policy: Policy, signer: Signer, trace: Mapping[str, str]
    ) -> SignedDecision:
        """Decide a request: of all who try, exactly one does. The same answer again gives the recorded one.

        Where two people have to approve, the first approval is kept and the request goes on waiting. Every
        refused attempt is in the log when this raises.

        Args:
            approval: The request's id.
            answer: What the person says.
            policy: The rules of who may.
            signer: Holds the gateway's key.
            trace: The W3C carrier of the order.

        Raises:
            NotFoundError: There is no such request.
            ConflictError: It is decided, closed or expired, or about another plan or under another policy
                than the person was shown; the message says who and when.
            ForbiddenError: The person may not decide it; the message says who may.
            InputError: The plan has no such step, or there is no such guardrail.
        """
        check_names(answer.overrides)
        with self._database.write() as connection:
            row = rows.find(connection, approvals, approval)
            try:
                repeated = _repeated(connection, row, answer)
                if repeated is not None:
                    return repeated
                plan = _check(connection, row, answer, policy)
                return self._take(connection, row, plan, answer, signer=signer, trace=trace)
            except (ConflictError, ForbiddenError) as error:
                refusal = error
            if row.state == ApprovalState.PENDING and moment_of(connection) >= row.expires_at:
                _close(connection, row, ApprovalState.EXPIRED, "nobody decided in time")
            _note_refused(connection, row, answer, refusal)
        raise refusal

    def close(self, approval: str, state: ApprovalState, reason: str) -> ClosedApproval:
        """Close a request that is still pending, and say how it stands; a decision that came first counts.

        Raises:
            NotFoundError: There is no such request.
            InputError: The state is one that only a person's decision gives.
        """
        if state not in (ApprovalState.EXPIRED, ApprovalState.WITHDRAWN):
            raise InputError(f"{approval} cannot be closed as {state.value}: only a person decides that")
        with self._database.write() as connection:
            row = rows.find(connection, approvals, approval)
            if row.state == ApprovalState.PENDING:
                row = _close(connection, row, state, reason)
            request = _request(row)
            return ClosedApproval(state=request.state.value, signed=request.signed)

    def has_helped(self, playbook_digest: str) -> bool:
        """Say whether a plan of exactly this version of a playbook was ever effective."""
        of_playbook = select(plans.c.digest).where(
            plans.c.content["playbook_digest"].as_string() == playbook_digest
        )
        helped = journal.c.plan_digest.in_(of_playbook) & (journal.c.ended == AttemptEnd.EFFECTIVE)
        return bool(self._database.rows(select(1).where(helped).limit(1)))

    def has_recorded(self, signed: SignedDecision) -> bool:
        """Say whether exactly this decision, or this order to force a step, was taken here."""
        decision = signed.decision
        with self._database.read() as connection:
            row = rows.one(connection, approvals, mitigation=decision.mitigation)
            forced = [_signed_in(connection, f"{decision.request}/force/{step}") for step in decision.forced]
        return signed in forced or (row is not None and signed.model_dump(mode="json") == row.signed)

    def forced_by(self, approval: str, step: int) -> tuple[str, ...]:
        """Give who has ordered a step forced, be it as the first of two."""
        key = f"{approval}/force/{step}"
        with self._database.read() as connection:
            signed = _signed_in(connection, key) or _signed_in(connection, f"{key}/first")
        return () if signed is None else signed.forced_by

    def plan(self, digest: str) -> Plan:
        """Give the sealed plan with this digest.

        Raises:
            NotFoundError: There is none.
            ForbiddenError: What is stored does not have this digest.
        """
        with self._database.read() as connection:
            return _plan(connection, digest)

    def consider(
        self, approval: str, *, policy: Policy, signer: Signer, verifier: Verifier
    ) -> datetime | None:
        """Answer a request that no person has to answer: by the policy itself or under a standing grant.

        Grants that stand for everybody's silence answer only after their time, and then perhaps for some of
        the steps alone. What its time finds unanswered is expired, also where its workflow is not there to
        say so. Once it is answered or closed this does nothing.

        Returns:
            When to consider it again, if time may change something.

        Raises:
            NotFoundError: There is no such request.
        """
        with self._database.write() as connection:
            row, now = rows.find(connection, approvals, approval), moment_of(connection)
            expiry: datetime = row.expires_at
            if row.state != ApprovalState.PENDING:
                return None
            if now >= expiry:
                _close(connection, row, ApprovalState.EXPIRED, "nobody decided in time")
                return None
            plan = _plan(connection, row.plan_digest)
            if plan.policy_digest != policy.digest or plan.refusals or row.given:
                return expiry  # what would be refused, or was sealed under other rules, a person sees
            if plan.needs() is Needs.NOBODY:
                reason = "nobody has to be asked"
                answer = Answer(Verdict.APPROVE, row.plan_digest, ENGINE, "policy", reason)
                self._take(connection, row, plan, answer, signer=signer, trace={})
                return None
            later = [expiry]
            declared_by = incidents.find(connection, plan.incident).declared_by
            for grant in grants.usable(connection, plan.service, plan.environment, now, verifier):
                # Who asks for something, or wrote it just now, does not say yes to it, ahead of time neither.
                own = grant.given_by in {declared_by, plan.requester, plan.author if plan.fresh else None}
                if own and not policy.solo:
                    continue
                beyond = outside(grant, plan, now)
                inside = tuple(step.number for step in plan.steps if step.number not in beyond)
                due = row.asked_at + grant.after
                if not inside or (beyond and not grant.after):
                    continue
                if now < due:
                    later.append(due)
                    continue
                grants.use(connection, grant)
                reason, steps = f"{grant.id}: {grant.reason}", inside if beyond else ()
                facts = (row.plan_digest, grant.given_by, "grant", reason)
                answer = Answer(Verdict.APPROVE, *facts, steps=steps, grant=grant)
                self._take(connection, row, plan, answer, signer=signer, trace={})
                return None
            return min(later)

    def force(
        self,
        approval: str,
        step: int,
        *,
        person: str,
        authenticated_by: str,
        reason: str,
        policy: Policy,
        signer: Signer,
        groups: tuple[str, ...] = (),
        trace: Mapping[str, str],
    ) -> SignedDecision:
        """Switch a step of an approved plan to its ungraceful variant, once: again gives what is recorded.

        A step that asks two people is forced by two, unless the glass was broken for its plan: the first
        order is kept, the second is carried out.

        Raises:
            NotFoundError: There is no such request.
            ConflictError: It is not approved or has ended, or others have forced the step before.
            InputError: The step is not among the approved ones, or has no such variant.
            ForbiddenError: The person may not decide it.
        """
        with self._database.write() as connection:
            row = rows.find(connection, approvals, approval)
            request = _request(row)
            if request.signed is None or request.state is not ApprovalState.APPROVED:
                raise ConflictError(f"{_standing(request)}: only an approved plan's steps can be forced")
            plan = _plan(connection, request.plan_digest)
            allowed = approved(request.signed, plan)
            if step not in allowed or plan.steps[step - 1].forced is None:
                raise InputError(f"{request.mitigation}: step {step} was not approved or cannot be forced")
            key = f"{request.id}/force/{step}"
            forced, first = (_signed_in(connection, one) for one in (key, f"{key}/first"))
            for recorded in (forced, first):
                if recorded is not None and person in recorded.forced_by:
                    return forced or recorded
            incident = incidents.read(connection, request.incident)
            asked = plan.model_copy(update={"steps": _chosen(plan, (step,))})
            given = () if first is None else (first,)
            names = () if first is None else (first.decision.person,)
            policy.check_may_decide(incident, person, plan=asked, groups=groups, given=names)
            if forced is not None:
                raise ConflictError(f"{key}: {' and '.join(forced.forced_by)} forced it before")
            if evidence.has(connection, ended_key(request.mitigation)):
                raise ConflictError(f"{request.mitigation} has ended: nothing of it can be forced any more")
            before = given or (request.signed, *request.signed.others)
            decision = request.signed.decision.model_copy(
                update={
                    "person": person,
                    "authenticated_by": authenticated_by,
                    "reason": reason,
                    "forced": (step,),
                    # Of two people's decisions, what both have said: nobody widens it by forcing.
                    "steps": allowed,
                    "overrides": request.signed.overrides,
                    "grant": None,
                    "decided_at": moment_of(connection),
                }
            )
            others = (
                one.model_copy(update={"others": ()}) for one in before if one.decision.person != person
            )
            signed = signer.sign(decision).model_copy(update={"others": tuple(others)})
            said = f"{person} forces step {step} of {request.mitigation}: {reason}"
            if asked.needs() is Needs.TWO and not given and not decision.break_glass:
                said = said.replace(" forces", ", the first of two, forces", 1)
                self._log(connection, EvidenceKind.APPROVAL_GIVEN, f"{key}/first", said, signed)
                whom, key = ["technical_lead", "incident_commander", "on_call"], f"{key}/first"
                said += f". One more has to order it: stanch approval force {request.id} --step {step}"
                ladders.tell(connection, request.incident, whom, said, key=key)
                return signed
            self._log(connection, EvidenceKind.FORCED, key, said, signed)
            self._deliver(connection, key, signed, trace)
            return signed

    def undelivered(self, signed: SignedDecision) -> None:
        """Tell people once that no workflow takes a decision any more, unless its mitigation has ended."""
        decision, mitigation = signed.decision, signed.decision.mitigation
        person, key = decision.person, f"{decision.request}/undelivered"
        said = f"{decision.request}: nothing runs under {person}'s answer, {mitigation} is gone"
        with self._database.write() as connection:
            if any(evidence.has(connection, one) for one in (key, ended_key(mitigation))):
                return
            kind, where = EvidenceKind.ATTENTION_NEEDED, decision.incident
            evidence.note(connection, kind, key, said, incident=where)
            ladders.tell(connection, where, ["incident_commander", "on_call"], said, key=key)

    def _take(
        self,
        connection: Connection,
        row: Row[Any],
        plan: Plan,
        answer: Answer,
        *,
        signer: Signer,
        trace: Mapping[str, str],
    ) -> SignedDecision:
        """Sign an answer that counts, and keep it: as the decision, or as the first of two approvals.

        Raises:
            ConflictError: The two have approved different steps.
        """
        request, now = _request(row), moment_of(connection)
        decision = Decision(
            request=request.id,
            incident=request.incident,
            mitigation=request.mitigation,
            policy_digest=plan.policy_digest,
            decided_at=now,
            expires_at=request.expires_at,
            **{field: value for field, value in vars(answer).items() if field != "groups"},
        )
        signed = signer.sign(decision)
        if answer.verdict is Verdict.APPROVE:
            given = tuple(one for one in request.given if one.decision.person != answer.person)
            others = () if answer.break_glass else given
            signed = signed.model_copy(update={"others": others})
            numbers = approved(signed, plan)
            if not numbers:
                raise ConflictError(f"{_said_so_far(request)}: no step is approved by both")
            if plan.needs(numbers) is Needs.TWO and not others and not answer.break_glass:
                rows.change(connection, approvals, row, given=[signed.model_dump(mode="json")])
                said = f"{answer.person} approves {request.mitigation}, the first of two: {request.title}"
                key = f"{request.id}/given/{signed.signature[:16]}"
                self._log(connection, EvidenceKind.APPROVAL_GIVEN, key, said, signed)
                ladders.look_again(connection, subject=request.id)
                return signed
        values = {"state": _STATE[answer.verdict], "closed_at": now, "broke_glass": answer.break_glass}
        rows.change(connection, approvals, row, signed=signed.model_dump(mode="json"), **values)
        summary = f"{answer.person} {_VERB[answer.verdict]} {request.mitigation}: {request.title}"
        summary = f"{summary} ({answer.reason})" if answer.reason else summary
        self._log(connection, EvidenceKind.DECISION, f"{request.id}/decision", summary, signed)
        if answer.break_glass:
            said = f"{answer.person} broke the glass for {request.mitigation}: {answer.reason}"
            self._log(connection, EvidenceKind.BREAK_GLASS, f"{request.id}/break-glass", said, signed)
            whom, key = [ladders.EVERYBODY], f"{request.id}/break-glass"
            ladders.tell(connection, request.incident, whom, said, key=key)
        self._deliver(connection, request.id, signed, trace)
        return signed

    def _log(
        self, connection: Connection, kind: EvidenceKind, key: str, summary: str, signed: SignedDecision
    ) -> None:
        incident, actor = signed.decision.incident, signed.decision.person
        body = {"signed": signed.model_dump(mode="json")}
        evidence.note(connection, kind, key, summary, incident=incident, actor=actor, body=body)

    def _deliver(
        self, connection: Connection, key: str, signed: SignedDecision, trace: Mapping[str, str]
    ) -> None:
        incident, payload = signed.decision.incident, signed.model_dump(mode="json")
        outbox.add(connection, outbox.DECISION, key, incident=incident, payload=payload, trace=trace)


def _signed_in(connection: Connection, key: str) -> SignedDecision | None:
    """Give the decision that an entry of the log holds, if there is one."""
    body = evidence.body_of(connection, key)
    return None if body is None else SignedDecision.model_validate(body["signed"])


def _request(row: Row[Any]) -> ApprovalRequest:
    return ApprovalRequest.model_validate(rows.facts(approvals, row))


def _plan(connection: Connection, seal: str) -> Plan:
    row = rows.one(connection, plans, digest=clean(seal))
    if row is None:
        raise NotFoundError(f"plan {one_line(seal, 80)}: not found")
    try:
        plan = Plan.model_validate(row.content)
        is_sealed = digest(plan) == seal
    except (ValidationError, ValueError):
        is_sealed = False
    if not is_sealed:
        raise ForbiddenError(f"plan {seal}: what is stored is not what was sealed; nothing may be done on it")
    return plan


def _repeated(connection: Connection, row: Row[Any], answer: Answer) -> SignedDecision | None:
    """Give the recorded decision or approval if this is the same person's same answer again.

    The first of two approvals counts only while its request waits. Until then its giver may still say
    something else: fewer steps, other guardrails, a broken glass.
    """
    request = _request(row)
    waits = request.state is ApprovalState.PENDING and moment_of(connection) < request.expires_at
    recorded = request.given if waits else ()
    if request.signed is not None:
        recorded = (request.signed, *request.signed.others)
    for signed in recorded:
        said = signed.decision
        same = (said.person, said.verdict) == (answer.person, answer.verdict)
        if not same or said.plan_digest != answer.plan_digest:
            continue
        plan = _plan(connection, request.plan_digest)
        more = answer.break_glass and not said.break_glass and waits
        same = _chosen(plan, said.steps) == _chosen(plan, answer.steps)
        if said.verdict is Verdict.REJECT or (same and said.overrides == answer.overrides and not more):
            return signed
    return None


def _chosen(plan: Plan, numbers: tuple[int, ...]) -> tuple[Step, ...]:
    """Give the steps that numbers mean; none means all."""
    return tuple(step for step in plan.steps if not numbers or step.number in numbers)


def _check(connection: Connection, row: Row[Any], answer: Answer, policy: Policy) -> Plan:
    """Check that this answer counts, and give the plan that it is about.

    Raises:
        ConflictError: It is too late, or about another plan or another policy.
        ForbiddenError: It is not this person's to give.
        InputError: The plan has no such step.
    """
    request = _request(row)
    if request.state is not ApprovalState.PENDING:
        raise ConflictError(_standing(request))
    if moment_of(connection) >= request.expires_at:
        raise ConflictError(f"{request.id} expired at {request.expires_at.isoformat()}: plan again")
    if answer.plan_digest != request.plan_digest:
        raise ConflictError(
            f"{request.id} is about plan {request.plan_digest[:12]}, not {one_line(answer.plan_digest, 12)}:"
            " look at it again before you decide"
        )
    plan = _plan(connection, request.plan_digest)
    unknown = set(answer.steps) - {step.number for step in plan.steps}
    if unknown:
        raise InputError(f"{request.mitigation} has no step {min(unknown)}")
    if answer.verdict is Verdict.APPROVE and plan.policy_digest != policy.digest:
        raise ConflictError(
            f"{request.id}: the policy has changed since {plan.mitigation} was sealed: plan again"
        )
    incident = incidents.read(connection, request.incident)
    given = tuple(one.decision.person for one in request.given if one.decision.person != answer.person)
    if answer.verdict is Verdict.REJECT:
        policy.check_may_reject(incident, answer.person, plan=plan, groups=answer.groups, given=given)
        return plan
    chosen = _chosen(plan, answer.steps)
    narrow = plan.model_copy(update={"steps": chosen})
    if narrow.needs() is Needs.DENIED:
        denied = ", ".join(str(step.number) for step in chosen if step.needs is Needs.DENIED)
        raise ForbiddenError(
            f"the policy denies step {denied} of {plan.mitigation}: approve the others alone"
        )
    if answer.break_glass:
        policy.check_may_break_glass(incident, answer.person, groups=answer.groups)
    else:
        policy.check_may_decide(incident, answer.person, plan=narrow, groups=answer.groups, given=given)
    return plan


def _said_so_far(request: ApprovalRequest) -> str:
    names = ", ".join(one.decision.person for one in request.given)
    return f"{request.id} was approved by {names} for other steps" if names else f"{request.id} has no steps"


def _standing(request: ApprovalRequest) -> str:
    if request.closed_at is None:
        return f"{request.id} waits for an answer"
    at = request.closed_at.isoformat()
    if request.signed is not None:
        return f"{request.id} was {request.state.value} by {request.signed.decision.person} at {at}"
    return f"{request.id} was closed as {request.state.value} at {at}: {request.closed_reason}"


def _note_refused(connection: Connection, row: Row[Any], answer: Answer, refusal: StanchError) -> None:
    approval, person, verdict = f"APR-{row.number}", answer.person, answer.verdict.value
    facts = (person, verdict, answer.plan_digest, str(refusal), moment_of(connection).isoformat())
    attempt = hashlib.sha256("\n".join(facts).encode(errors="replace")).hexdigest()[:32]
    body = {
        "approval": approval,
        "verdict": verdict,
        "plan_digest": answer.plan_digest,
        "authenticated_by": answer.authenticated_by,
        "reason": answer.reason,
        "refusal": str(refusal),
    }
    kind, key, where = EvidenceKind.DECISION_REFUSED, f"{approval}/refused/{attempt}", row.incident
    said = f"{person} may not {verdict} {row.mitigation}: {refusal}"
    evidence.note(connection, kind, key, said, incident=where, actor=person, body=body)


def _close(connection: Connection, row: Row[Any], state: ApprovalState, reason: str) -> Row[Any]:
    values = {"state": state, "closed_at": moment_of(connection), "closed_reason": reason}
    row, approval = rows.change(connection, approvals, row, **values), f"APR-{row.number}"
    said = f"{approval} is closed as {state.value}: {reason}"
    body = {"approval": approval, "mitigation": row.mitigation, "state": state.value, "reason": reason}
    kind, key = EvidenceKind.APPROVAL_CLOSED, f"{approval}/closed"
    evidence.note(connection, kind, key, said, incident=row.incident, body=body)
    return row
