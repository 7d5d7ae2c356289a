"""Signing a decision, and verifying it again where it is acted on (Ed25519, RFC 8032)."""

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authority.seals import canonical, digest
from contracts.approvals import Decision, SignedDecision, Verdict
from contracts.errors import ForbiddenError
from contracts.plans import Plan


def key_id(key: Ed25519PublicKey) -> str:
    """Give the short name of a public key: the first 8 bytes of the SHA-256 of its raw form, in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


class Signer:
    """Holds the private key; only the gateway has one."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.key_id = key_id(key.public_key())

    def sign(self, decision: Decision) -> SignedDecision:
        """Sign one decision."""
        signature = base64.b64encode(self._key.sign(canonical(decision))).decode()
        return SignedDecision(decision=decision, key_id=self.key_id, signature=signature)

    def sign_bytes(self, data: bytes) -> bytes:
        """Sign a checkpoint of the evidence log."""
        return self._key.sign(data)


class Verifier:
    """Knows the public keys, old ones included; everything that acts on a decision asks it first."""

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        self._keys = {key_id(key): key for key in keys}

    def check_signature(self, signed: SignedDecision) -> None:
        """Check that one of our keys signed exactly this decision.

        Raises:
            ForbiddenError: It did not.
        """
        key = self._keys.get(signed.key_id)
        if key is None:
            raise ForbiddenError(
                f"decision on {signed.decision.request}: signed by the unknown key {signed.key_id}"
            )
        try:
            key.verify(base64.b64decode(signed.signature, validate=True), canonical(signed.decision))
        except (InvalidSignature, ValueError) as error:
            raise ForbiddenError(
                f"decision on {signed.decision.request}: the signature is not valid"
            ) from error

    def check_approves(self, signed: SignedDecision, plan: Plan, *, now: datetime) -> None:
        """Check that this decision approves exactly this plan, now.

        Raises:
            ForbiddenError: The signature, the verdict, the plan's digest, the incident, the mitigation, the
                policy or the time is wrong; the message says which.

        ``now`` is when the first step begins: what was begun in time may be finished, and undone, later.
        """
        self.check_signature(signed)
        decision = signed.decision
        wrong = {
            "it does not approve": decision.verdict is not Verdict.APPROVE,
            "it is about another plan": decision.plan_digest != digest(plan),
            "it is about another incident": decision.incident != plan.incident,
            "it is about another mitigation": decision.mitigation != plan.mitigation,
            "it was given under another policy": decision.policy_digest != plan.policy_digest,
            "its expiry is not the plan's": decision.expires_at != plan.expires_at,
            f"it expired at {plan.expires_at.isoformat()}": now >= plan.expires_at,
        }
        for reason, is_wrong in wrong.items():
            if is_wrong:
                raise ForbiddenError(
                    f"decision on {decision.request} does not allow {plan.mitigation}: {reason}"
                )
