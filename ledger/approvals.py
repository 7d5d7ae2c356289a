"""The questions to people, the sealed plans that they are about, and the signed answers."""

import builtins
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, insert, select, update

from authority.decisions import Signer
from authority.policy import Policy
from authority.seals import digest
from contracts.approvals import Approval, ApprovalRequest, ApprovalState, Decision, SignedDecision, Verdict
from contracts.base import JsonObject
from contracts.errors import ConflictError, ForbiddenError, InputError, NotFoundError, StanchError
from contracts.evidence import ENGINE, Evidence, EvidenceKind
from contracts.incidents import Severity
from contracts.messages import ClosedApproval
from contracts.plans import Plan
from ledger import evidence, incidents, outbox
from ledger.database import Database
from ledger.schema import approval as approvals
from ledger.schema import plan as plans
from ledger.storable import one_line

_STATE = {Verdict.APPROVE: ApprovalState.APPROVED, Verdict.REJECT: ApprovalState.REJECTED}
_VERB = {Verdict.APPROVE: "approves", Verdict.REJECT: "rejects"}


@dataclass(frozen=True)
class _Answer:
    """What a person says, and how we know that it is that person."""

    verdict: Verdict
    plan_digest: str
    person: str
    authenticated_by: str
    reason: str


class Approvals:
    """All requests, and the one place where they are decided."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, plan: Plan, *, severity: Severity) -> ApprovalRequest:
        """Keep a sealed plan and ask about it. A mitigation is asked about once: again gives the request.

        Raises:
            InputError: The plan holds a value that has no canonical form.
        """
        try:
            seal = digest(plan)
        except ValueError as error:
            raise InputError(f"{plan.mitigation}: the plan cannot be sealed: {error}") from error
        with self._database.write() as connection:
            query = select(approvals).where(approvals.c.mitigation == plan.mitigation)
            known = connection.execute(query).one_or_none()
            if known is not None:
                return _request(known)
            content = plan.model_dump(mode="json")
            if connection.scalar(select(plans.c.digest).where(plans.c.digest == seal)) is None:
                stored = {"digest": seal, "mitigation": plan.mitigation, "content": content}
                connection.execute(insert(plans).values(stored))
            values = {
                "incident": plan.incident,
                "mitigation": plan.mitigation,
                "plan_digest": seal,
                "title": plan.title,
                "risk": plan.risk,
                "severity": severity,
                "state": ApprovalState.PENDING,
                "asked_at": self._database.now(),
                "expires_at": plan.expires_at,
                "closed_reason": "",
            }
            row = connection.execute(insert(approvals).values(values).returning(approvals)).one()
            request = _request(row)
            body: JsonObject = {"plan_digest": seal, "mitigation": plan.mitigation}
            evidence.append(
                connection,
                Evidence(
                    key=f"{plan.mitigation}/sealed",
                    kind=EvidenceKind.PLAN_SEALED,
                    incident=plan.incident,
                    actor=ENGINE,
                    at=plan.sealed_at,
                    summary=one_line(f"{plan.playbook} proposes {plan.mitigation}: {plan.title}"),
                    body=body | {"plan": content},
                ),
                Evidence(
                    key=f"{request.id}/asked",
                    kind=EvidenceKind.APPROVAL_ASKED,
                    incident=plan.incident,
                    actor=ENGINE,
                    at=request.asked_at,
                    summary=one_line(f"{request.id} asks whether {plan.mitigation} may run: {plan.title}"),
                    body=body | {"approval": request.id, "expires_at": plan.expires_at.isoformat()},
                ),
            )
            return request

    def for_mitigation(self, mitigation: str) -> Approval | None:
        """Give the request about a mitigation with its plan, if it was asked about.

        Raises:
            ForbiddenError: The stored plan is not the one that was sealed.
        """
        query = select(approvals).where(approvals.c.mitigation == mitigation)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
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
            row = _find(connection, approval)
            return Approval(request=_request(row), plan=_plan(connection, row.plan_digest))

    def list(
        self, state: ApprovalState | None = None, incident: str | None = None, limit: int = 100
    ) -> builtins.list[ApprovalRequest]:
        """Give requests, the newest first."""
        query = select(approvals).order_by(approvals.c.number.desc()).limit(limit)
        if state is not None:
            query = query.where(approvals.c.state == state)
        if incident is not None:
            query = query.where(approvals.c.incident == incident)
        with self._database.read() as connection:
            return [_request(row) for row in connection.execute(query)]

    def decide(
        self,
        approval: str,
        *,
        verdict: Verdict,
        plan_digest: str,
        person: str,
        authenticated_by: str,
        reason: str,
        policy: Policy,
        signer: Signer,
        trace: Mapping[str, str],
    ) -> SignedDecision:
        """Decide a request: of all who try, exactly one does. The same answer again gives the recorded one.

        Every refused attempt is in the log when this raises.

        Raises:
            NotFoundError: There is no such request.
            ConflictError: It is decided, closed or expired, or about another plan or under another policy
                than the person was shown; the message says who and when.
            ForbiddenError: The person may not decide it; the message says who may.
        """
        answer = _Answer(verdict, plan_digest, person, authenticated_by, reason)
        with self._database.write() as connection:
            row = _find(connection, approval)
            now = self._database.now()
            repeated = _repeated(row, answer)
            if repeated is not None:
                return repeated
            refusal = _refusal(connection, row, answer, policy, now)
            if refusal is None:
                return self._sign(connection, row, answer, policy=policy, signer=signer, trace=trace, now=now)
            if row.state == ApprovalState.PENDING and now >= row.expires_at:
                _close(connection, row, ApprovalState.EXPIRED, "nobody decided in time", now)
            evidence.append(connection, _refused(row, answer, refusal, now))
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
            row = _find(connection, approval)
            if row.state == ApprovalState.PENDING:
                _close(connection, row, state, reason, self._database.now())
                row = _find(connection, approval)
            request = _request(row)
            return ClosedApproval(state=request.state.value, signed=request.signed)

    def plan(self, digest: str) -> Plan:
        """Give the sealed plan with this digest.

        Raises:
            NotFoundError: There is none.
            ForbiddenError: What is stored does not have this digest.
        """
        with self._database.read() as connection:
            return _plan(connection, digest)

    def _sign(
        self,
        connection: Connection,
        row: Row[Any],
        answer: _Answer,
        *,
        policy: Policy,
        signer: Signer,
        trace: Mapping[str, str],
        now: datetime,
    ) -> SignedDecision:
        request = _request(row)
        signed = signer.sign(
            Decision(
                request=request.id,
                incident=request.incident,
                mitigation=request.mitigation,
                plan_digest=request.plan_digest,
                policy_digest=policy.digest,
                verdict=answer.verdict,
                person=answer.person,
                authenticated_by=answer.authenticated_by,
                reason=answer.reason,
                decided_at=now,
                expires_at=request.expires_at,
            )
        )
        content = signed.model_dump(mode="json")
        values = {"state": _STATE[answer.verdict], "signed": content, "closed_at": now}
        connection.execute(update(approvals).where(approvals.c.number == row.number).values(values))
        summary = f"{answer.person} {_VERB[answer.verdict]} {request.mitigation}: {request.title}"
        evidence.append(
            connection,
            Evidence(
                key=f"{request.id}/decision",
                kind=EvidenceKind.DECISION,
                incident=request.incident,
                actor=answer.person,
                at=now,
                summary=one_line(f"{summary} ({answer.reason})" if answer.reason else summary),
                body={"signed": content},
            ),
        )
        outbox.add(
            connection,
            self._database.now,
            kind=outbox.DECISION,
            key=request.id,
            incident=request.incident,
            payload=content,
            trace=trace,
        )
        return signed


def _find(connection: Connection, approval: str) -> Row[Any]:
    query = select(approvals).where(approvals.c.number == incidents.number_of(approval, "APR"))
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"{approval}: not found")
    return row


def _request(row: Row[Any]) -> ApprovalRequest:
    return ApprovalRequest.model_validate(row._asdict() | {"id": f"APR-{row.number}"})


def _plan(connection: Connection, seal: str) -> Plan:
    content = connection.scalar(select(plans.c.content).where(plans.c.digest == seal))
    if content is None:
        raise NotFoundError(f"plan {one_line(seal, 80)}: not found")
    try:
        plan = Plan.model_validate(content)
        is_sealed = digest(plan) == seal
    except (ValidationError, ValueError):
        is_sealed = False
    if not is_sealed:
        raise ForbiddenError(f"plan {seal}: what is stored is not what was sealed; nothing may be done on it")
    return plan


def _repeated(row: Row[Any], answer: _Answer) -> SignedDecision | None:
    """Give the recorded decision if this is the same person's same answer again."""
    if row.signed is None:
        return None
    signed = SignedDecision.model_validate(row.signed)
    given = signed.decision
    same = (given.person, given.verdict, given.plan_digest)
    return signed if same == (answer.person, answer.verdict, answer.plan_digest) else None


def _refusal(
    connection: Connection, row: Row[Any], answer: _Answer, policy: Policy, now: datetime
) -> StanchError | None:
    """Say why this answer does not count, or ``None`` if it does."""
    request = _request(row)
    if request.state is not ApprovalState.PENDING:
        return ConflictError(_standing(request))
    if now >= request.expires_at:
        return ConflictError(f"{request.id} expired at {request.expires_at.isoformat()}: plan again")
    if answer.plan_digest != request.plan_digest:
        return ConflictError(
            f"{request.id} is about plan {request.plan_digest[:12]}, not {one_line(answer.plan_digest, 12)}:"
            " look at it again before you decide"
        )
    plan = _plan(connection, request.plan_digest)
    if answer.verdict is Verdict.APPROVE and plan.policy_digest != policy.digest:
        return ConflictError(
            f"{request.id}: the policy has changed since {plan.mitigation} was sealed: plan again"
        )
    incident = incidents.load(connection, [incidents.find(connection, request.incident)])[0]
    try:
        policy.check_may_decide(incident, answer.person)
    except ForbiddenError as error:
        return error
    return None


def _standing(request: ApprovalRequest) -> str:
    at = request.closed_at.isoformat() if request.closed_at else "an unknown time"
    if request.signed is not None:
        return f"{request.id} was {request.state.value} by {request.signed.decision.person} at {at}"
    return f"{request.id} was closed as {request.state.value} at {at}: {request.closed_reason}"


def _refused(row: Row[Any], answer: _Answer, refusal: StanchError, now: datetime) -> Evidence:
    approval = f"APR-{row.number}"
    facts = (answer.person, answer.verdict.value, answer.plan_digest, str(refusal), now.isoformat())
    attempt = hashlib.sha256("\n".join(facts).encode(errors="replace")).hexdigest()[:32]
    return Evidence(
        key=f"{approval}/refused/{attempt}",
        kind=EvidenceKind.DECISION_REFUSED,
        incident=row.incident,
        actor=answer.person,
        at=now,
        summary=one_line(f"{answer.person} may not {answer.verdict.value} {row.mitigation}: {refusal}"),
        body={
            "approval": approval,
            "verdict": answer.verdict.value,
            "plan_digest": answer.plan_digest,
            "authenticated_by": answer.authenticated_by,
            "reason": answer.reason,
            "refusal": str(refusal),
        },
    )


def _close(connection: Connection, row: Row[Any], state: ApprovalState, reason: str, now: datetime) -> None:
    values = {"state": state, "closed_at": now, "closed_reason": reason}
    connection.execute(update(approvals).where(approvals.c.number == row.number).values(values))
    approval = f"APR-{row.number}"
    evidence.append(
        connection,
        Evidence(
            key=f"{approval}/closed",
            kind=EvidenceKind.APPROVAL_CLOSED,
            incident=row.incident,
            actor=ENGINE,
            at=now,
            summary=one_line(f"{approval} is closed as {state.value}: {reason}"),
            body={"approval": approval, "mitigation": row.mitigation, "state": state.value, "reason": reason},
        ),
    )
