"""The question to a person, and the signed answer that is bound to the plan's digest."""

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field, JsonValue, model_validator

from contracts.base import Frozen
from contracts.incidents import Severity
from contracts.plans import Needs, Plan, Risk


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


class Bound(Frozen):
    """What one argument of an action may be; every part that is given holds."""

    at_least: float | None = None
    at_most: float | None = None
    one_of: tuple[JsonValue, ...] | None = None


class Envelope(Frozen):
    """What may be done without a new question.

    Attributes:
        actions: Names of actions, ``k8s.scale_deployment``.
        targets: Targets as they are written, ``k8s:deployment/demo/shop/web``; one may end in ``/*``.
        limits: Argument to bound; an argument that is not named may be anything. With an action's name before
            it, ``k8s.scale_deployment.replicas``, it is about that action alone; else about every one.
        max_risk: A step that risks more is outside.
    """

    actions: tuple[str, ...] = Field(min_length=1)
    targets: tuple[str, ...] = Field(min_length=1)
    limits: dict[str, Bound] = {}
    max_risk: Risk = Risk.LOW

    @model_validator(mode="after")
    def _limits_its_own(self) -> "Envelope":
        for name in self.limits:
            action = name.rpartition(".")[0]
            if action and action not in self.actions:
                raise ValueError(f"{name} is a limit of {action}, which is not among the actions")
        return self


class Grant(Frozen):
    """A standing yes to whatever is inside an envelope: scoped, for a time or a number of uses, revocable.

    Attributes:
        id: ``GRT-3``.
        incident: Only in this incident: an envelope approved with a plan. ``None``: in every one.
        uses: How many plans may run under it; ``None``: any number until it expires.
        after: How long a request waits for a person before the grant answers it: zero answers at once, more
            is what happens when everybody is silent.
    """

    id: str
    incident: str | None = None
    service: str
    environment: str
    envelope: Envelope
    given_by: str
    authenticated_by: str
    reason: str
    given_at: datetime
    expires_at: datetime
    uses: int | None = Field(None, ge=1)
    after: timedelta = timedelta()


class Decision(Frozen):
    """What one person decided about one request, and how we know that it was that person.

    Attributes:
        request: The approval request's id, ``APR-7``.
        plan_digest: The digest that the person was shown.
        authenticated_by: ``local``: an evaluation sign-in that proves nothing; ``token``: an API token;
            ``oidc``: a sign-in at the identity provider; ``policy``: nobody has to be asked; ``grant``: a
            standing grant of the person answered.
        steps: The numbers of the steps that are approved; empty means all. Fewer is a narrower yes.
        forced: Steps whose ungraceful variant is allowed too.
        grant: The grant under which it was given, whole: who acts on the decision checks it again.
        break_glass: Given outside the rules of who may approve; a review by two others follows.
        overrides: Names of the guardrails that are set aside for this plan.
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
    steps: tuple[int, ...] = ()
    forced: tuple[int, ...] = ()
    grant: Grant | None = None
    break_glass: bool = False
    overrides: tuple[str, ...] = ()
    decided_at: datetime
    expires_at: datetime


class SignedDecision(Frozen):
    """A decision and the gateway's Ed25519 signature over its canonical JSON.

    Attributes:
        key_id: Which key, as the hex of the first 8 bytes of the SHA-256 of its raw public key.
        signature: Base64.
        others: The approvals that came before this one, where the policy asks more than one person.
    """

    decision: Decision
    key_id: str
    signature: str
    others: "tuple[SignedDecision, ...]" = ()

    @model_validator(mode="after")
    def _one_deep(self) -> "SignedDecision":
        if any(other.others for other in self.others):
            raise ValueError("an earlier approval carries no others")
        return self

    def allows(self, step: int) -> bool:
        """Say whether everybody who was asked has approved this step of the plan."""
        decisions = (one.decision for one in (self, *self.others))
        return all(not decision.steps or step in decision.steps for decision in decisions)

    @property
    def forced_by(self) -> tuple[str, ...]:
        """Who has ordered what it forces."""
        return tuple(one.decision.person for one in (self, *self.others) if one.decision.forced)

    @property
    def overrides(self) -> tuple[str, ...]:
        """Which guardrails everybody who was asked has set aside."""
        others = [one.decision.overrides for one in self.others]
        return tuple(name for name in self.decision.overrides if all(name in named for named in others))


class ApprovalRequest(Frozen):
    """One numbered question: may this sealed plan run? With the answer, once there is one.

    Attributes:
        needs: Whom the policy asks: one person, two, or nobody.
        given: Approvals so far, while more are needed.
    """

    id: str
    incident: str
    mitigation: str
    title: str
    risk: Risk
    severity: Severity
    plan_digest: str
    state: ApprovalState = ApprovalState.PENDING
    needs: Needs = Needs.ONE
    given: tuple[SignedDecision, ...] = ()
    asked_at: datetime
    expires_at: datetime
    signed: SignedDecision | None = None
    closed_at: datetime | None = None
    closed_reason: str = ""

    @property
    def answers(self) -> dict[str, timedelta]:
        """Who answered, how long after it was asked; what the policy or a grant answered nobody did."""
        signed = (self.signed, *self.signed.others) if self.signed else self.given
        people = (one.decision for one in signed if one.decision.authenticated_by not in ("policy", "grant"))
        return {one.person: one.decided_at - self.asked_at for one in people}


class Approval(Frozen):
    """A request together with the plan that it asks about."""

    request: ApprovalRequest
    plan: Plan


class StandingGrant(Frozen):
    """A grant as the ledger has it.

    Attributes:
        used: How many plans have run under it.
        revoked_at: From then on it answers nothing.
    """

    grant: Grant
    used: int = 0
    revoked_at: datetime | None = None
    revoked_by: str | None = None


class Review(Frozen):
    """What somebody else says, afterwards, of an approval that broke the glass.

    Attributes:
        request: The approval request, ``APR-7``.
        was_right: Whether breaking the glass was the right thing at that moment.
    """

    request: str
    person: str
    was_right: bool
    remark: str
    at: datetime


class Reviewed(Frozen):
    """An approval that broke the glass, and what was said of it; two others have to say something."""

    request: ApprovalRequest
    reviews: tuple[Review, ...] = ()
