"""Signing a decision, and verifying it again where it is acted on (Ed25519, RFC 8032)."""

import base64
import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import BaseModel

from authority.grants import outside
from authority.seals import canonical, digest
from contracts.approvals import Decision, SignedDecision, Verdict
from contracts.errors import ForbiddenError, UnknownKeyError
from contracts.outcomes import Direction
from contracts.plans import Needs, Plan


def key_id(key: Ed25519PublicKey) -> str:
    """Give the short name of a public key: the first 8 bytes of the SHA-256 of its raw form, in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


class Signer:
    """Holds the private key; only the gateway has one."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key()
        self.key_id = key_id(self.public_key)

    def sign(self, decision: Decision) -> SignedDecision:
        """Sign one decision."""
        signature = base64.b64encode(self._key.sign(canonical(decision))).decode()
        return SignedDecision(decision=decision, key_id=self.key_id, signature=signature)

    def sign_bytes(self, data: bytes) -> bytes:
        """Sign a checkpoint of the evidence log, or a grant."""
        return self._key.sign(data)


class Verifier:
    """Knows the public keys, old ones included; everything that acts on a decision asks it first.

    Args:
        keys: The public keys.
        reread: Gives them anew when something is signed with one that is not among them: keys are rotated.
    """

    def __init__(
        self,
        keys: Iterable[Ed25519PublicKey],
        *,
        reread: Callable[[], Iterable[Ed25519PublicKey]] | None = None,
    ) -> None:
        self._keys = {key_id(key): key for key in keys}
        self._reread = reread

    @property
    def keys(self) -> tuple[Ed25519PublicKey, ...]:
        """The keys that are known now."""
        return tuple(self._keys.values())

    def check_signature(self, signed: SignedDecision) -> None:
        """Check that one of our keys signed exactly this decision.

        Raises:
            ForbiddenError: It did not.
        """
        what = f"decision on {signed.decision.request}"
        self.check_bytes(what, signed.decision, key_id=signed.key_id, signature=signed.signature)

    def check_bytes(self, what: str, content: BaseModel, *, key_id: str, signature: str) -> None:
        """Check a signature, in base64, over the canonical JSON of anything.

        Raises:
            UnknownKeyError: It names a key that is not among ours; the message begins with ``what``.
            ForbiddenError: It is not valid.
        """
        key = self._keys.get(key_id) or self._read_again().get(key_id)
        if key is None:
            raise UnknownKeyError(f"{what}: signed by the unknown key {key_id[:64]}")
        try:
            raw = base64.b64decode(signature, validate=True)
            key.verify(raw, canonical(content))
        except (InvalidSignature, ValueError) as error:
            raise ForbiddenError(f"{what}: the signature is not valid") from error
        if base64.b64encode(raw).decode() != signature:  # RFC 4648 §3.5: a decoder may pass bits over
            raise ForbiddenError(f"{what}: the signature is not valid base64")

    def _read_again(self) -> dict[str, Ed25519PublicKey]:
        if self._reread is not None:
            self._keys = {key_id(key): key for key in self._reread()}
        return self._keys

    def check_approves(
        self,
        signed: SignedDecision,
        plan: Plan,
        *,
        now: datetime,
        step: int | None = None,
        direction: Direction = Direction.APPLY,
    ) -> None:
        """Check that these decisions approve exactly this plan, now; with a step, that one of it.

        Raises:
            ForbiddenError: A signature, a verdict, the plan's digest, the incident, the mitigation, the
                policy or the time is wrong, too few people have approved, or the step is not among what
                they approved; the message says which.

        ``now`` is when the first step begins: what was begun in time may be finished, and undone, later.
        """
        seal = digest(plan)
        for one in (signed, *signed.others):
            self.check_signature(one)
            _check(one.decision, plan, _wrong(one.decision, plan, seal, now))
        _check(signed.decision, plan, _lacking(signed, plan, step, direction))


def approved(signed: SignedDecision, plan: Plan) -> tuple[int, ...]:
    """Give the numbers of the steps that everybody who was asked has approved."""
    return tuple(step.number for step in plan.steps if signed.allows(step.number))


def _check(decision: Decision, plan: Plan, wrong: dict[str, bool]) -> None:
    for reason, is_wrong in wrong.items():
        if is_wrong:
            raise ForbiddenError(f"decision on {decision.request} does not allow {plan.mitigation}: {reason}")


def _wrong(decision: Decision, plan: Plan, seal: str, now: datetime) -> dict[str, bool]:
    """Give what may be wrong with one decision by itself."""
    return {
        "it does not approve": decision.verdict is not Verdict.APPROVE,
        "it is about another plan": decision.plan_digest != seal,
        "it is about another incident": decision.incident != plan.incident,
        "it is about another mitigation": decision.mitigation != plan.mitigation,
        "it was given under another policy": decision.policy_digest != plan.policy_digest,
        "its expiry is not the plan's": decision.expires_at != plan.expires_at,
        f"it expired at {plan.expires_at.isoformat()}": now >= plan.expires_at,
    }


def _lacking(signed: SignedDecision, plan: Plan, step: int | None, direction: Direction) -> dict[str, bool]:
    """Give what may be lacking in all decisions together."""
    decision, numbers = signed.decision, approved(signed, plan)
    needs = plan.needs(numbers)
    people = {one.decision.person for one in (signed, *signed.others)}
    alone = not signed.others and not decision.break_glass
    grant = decision.grant
    beyond = outside(grant, plan, decision.decided_at) if grant is not None else {}
    forced = direction is Direction.FORCE
    asks_two = step is not None and not decision.break_glass and plan.needs((step,)) is Needs.TWO
    one_forces = not any(step in one.decision.forced for one in signed.others)
    return {
        "it is for another request": any(o.decision.request != decision.request for o in signed.others),
        "one person has approved twice": len(people) <= len(signed.others),
        "no step is approved by everybody": not numbers,
        f"step {step} is not among the approved ones": step is not None and step not in numbers,
        f"step {step} may not be forced": forced and step not in decision.forced,
        "two people have to force it": forced and asks_two and one_forces,
        "the policy denies it": needs is Needs.DENIED,
        "two people have to approve it": needs is Needs.TWO and alone,
        "a person has to approve it": decision.authenticated_by == "policy" and needs is not Needs.NOBODY,
        f"its grant does not cover it: {'; '.join(beyond.values())}": any(n in beyond for n in numbers),
    }
