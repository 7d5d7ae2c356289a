"""The question to a person, and the signed answer that is bound to the plan's digest."""

from datetime import datetime
from enum import StrEnum

from contracts.base import Frozen
from contracts.incidents import Severity
from contracts.plans import Plan, Risk


class Verdict(StrEnum):
    """What a person said."""

    APPROVE = "approve"
    REJECT = "reject"


class ApprovalState(StrEnum):
    """Where a request is; every state but the first is final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class Decision(Frozen):
    """What one person decided about one request, and how we know that it was that person.

    Attributes:
        request: The approval request's id, ``APR-7``.
        plan_digest: The digest that the person was shown.
        authenticated_by: ``local``: an evaluation sign-in that proves nothing; ``token``: an API token.
        expires_at: The plan's own expiry: after it, nothing is done on this decision.
    """

    request: str
    incident: str
    mitigation: str
    plan_digest: str
    policy_digest: str
    verdict: Verdict
    person: str
    authenticated_by: str
    reason: str = ""
    decided_at: datetime
    expires_at: datetime


class SignedDecision(Frozen):
    """A decision and the gateway's Ed25519 signature over its canonical JSON.

    Attributes:
        key_id: Which key, as the hex of the first 8 bytes of the SHA-256 of its raw public key.
        signature: Base64.
    """

    decision: Decision
    key_id: str
    signature: str


class ApprovalRequest(Frozen):
    """One numbered question: may this sealed plan run? With the answer, once there is one."""

    id: str
    incident: str
    mitigation: str
    title: str
    risk: Risk
    severity: Severity
    plan_digest: str
    state: ApprovalState = ApprovalState.PENDING
    asked_at: datetime
    expires_at: datetime
    signed: SignedDecision | None = None
    closed_at: datetime | None = None
    closed_reason: str = ""


class Approval(Frozen):
    """A request together with the plan that it asks about."""

    request: ApprovalRequest
    plan: Plan
