"""A decision allows exactly what was shown, and nothing else."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from authority.decisions import Signer, Verifier, key_id
from authority.seals import canonical, digest
from contracts.approvals import Decision, SignedDecision, Verdict
from contracts.errors import ForbiddenError
from contracts.plans import Plan
from tests.authority.plans import NOW, grant, plan

KEY = Ed25519PrivateKey.generate()
VERIFIER = Verifier([KEY.public_key()])
PLAN = plan()
LATER = NOW + timedelta(minutes=1)


def decision(of: Plan = PLAN) -> Decision:
    """Give the approval of a plan."""
    return Decision(
        request="APR-1",
        incident=of.incident,
        mitigation=of.mitigation,
        plan_digest=digest(of),
        policy_digest=of.policy_digest,
        verdict=Verdict.APPROVE,
        person="ada",
        authenticated_by="local",
        reason="it is new",
        decided_at=NOW,
        expires_at=of.expires_at,
    )


SIGNED = Signer(KEY).sign(decision())


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value in a JSON document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))
    else:
        yield path


def other(value: Any) -> Any:  # noqa: PLR0911  (one return for each kind)
    """Give a different value of the same kind."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str() if value in ("low", "medium"):
            return "high"
        case str() if value == "two":
            return "one"
        case str() if value == "worse":
            return "ineffective"
        case str() if value[:1] == "P":
            return "PT99S"
        case str() if value.startswith("20"):
            return "2027-01-01T00:00:00Z"
        case str():
            return value + "x"
        case _:
            return 0.123


def with_other(document: Any, path: tuple[Any, ...]) -> Any:
    """Give a document in which the value at a path is another one."""
    if not path:
        return other(document)
    if isinstance(document, dict):
        return document | {path[0]: with_other(document[path[0]], path[1:])}
    return [with_other(one, path[1:]) if number == path[0] else one for number, one in enumerate(document)]


DOCUMENT = PLAN.model_dump(mode="json")


def test_approval_allows_its_plan() -> None:
    """The plan that was shown is allowed until it expires."""
    VERIFIER.check_approves(SIGNED, PLAN, now=LATER)


@pytest.mark.parametrize("path", list(leaves(DOCUMENT)), ids=lambda path: ".".join(map(str, path)))
def test_any_changed_field_is_refused(path: tuple[Any, ...]) -> None:
    """A plan in which any single field differs from the one that was shown is not allowed."""
    changed = Plan.model_validate(with_other(DOCUMENT, path))

    assert changed != PLAN
    with pytest.raises(ForbiddenError):
        VERIFIER.check_approves(SIGNED, changed, now=LATER)


@pytest.mark.parametrize("field", sorted(Decision.model_fields))
def test_any_changed_field_of_the_decision_breaks_its_signature(field: str) -> None:
    """A decision in which any single field was edited no longer verifies."""
    document = decision().model_dump(mode="json")
    others: dict[str, Any] = {"verdict": "reject", "steps": [1], "forced": [1], "overrides": ["cooldown"]}
    others |= {"grant": grant().model_dump(mode="json")}
    edited = document | {field: others.get(field) or other(document[field])}
    signed = SIGNED.model_copy(update={"decision": Decision.model_validate(edited)})

    with pytest.raises(ForbiddenError, match="signature is not valid"):
        VERIFIER.check_signature(signed)


@given(signature=st.one_of(st.text(max_size=200), st.binary(max_size=80).map(bytes.hex)))
def test_no_made_up_signature_verifies(signature: str) -> None:
    """Whatever stands in the place of the signature is refused, and never crashes."""
    with pytest.raises(ForbiddenError):
        VERIFIER.check_signature(SIGNED.model_copy(update={"signature": signature}))


def test_unknown_key_is_refused() -> None:
    """A decision under a key that is not ours is refused, also when it claims our key's name."""
    stranger = Ed25519PrivateKey.generate()
    foreign = Signer(stranger).sign(decision())
    for signed in (foreign, foreign.model_copy(update={"key_id": key_id(KEY.public_key())})):
        with pytest.raises(ForbiddenError):
            VERIFIER.check_approves(signed, PLAN, now=LATER)


def test_old_key_still_verifies() -> None:
    """After a rotation decisions under the old key verify, as long as its public half is kept."""
    new = Ed25519PrivateKey.generate()
    Verifier([new.public_key(), KEY.public_key()]).check_approves(SIGNED, PLAN, now=LATER)


@pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=1), timedelta(days=300)])
def test_expired_is_refused(late: timedelta) -> None:
    """From the plan's expiry on nothing begins."""
    with pytest.raises(ForbiddenError, match="expired"):
        VERIFIER.check_approves(SIGNED, PLAN, now=PLAN.expires_at + late)


def test_rejection_allows_nothing() -> None:
    """A signed rejection is not an approval."""
    rejected = Signer(KEY).sign(decision().model_copy(update={"verdict": Verdict.REJECT}))

    with pytest.raises(ForbiddenError, match="does not approve"):
        VERIFIER.check_approves(rejected, PLAN, now=LATER)


def test_canonical_json_is_stable() -> None:
    """A plan has one canonical form, whatever the order of its fields and however often it is read back."""
    back = Plan.model_validate_json(PLAN.model_dump_json())
    shuffled = Plan.model_validate(dict(reversed(DOCUMENT.items())))

    assert canonical(back) == canonical(PLAN) == canonical(shuffled)
    assert digest(back) == digest(PLAN)


def test_signed_decision_survives_json() -> None:
    """What is stored and delivered is what was signed."""
    back = SignedDecision.model_validate_json(SIGNED.model_dump_json())
    VERIFIER.check_approves(back, PLAN, now=LATER)

    assert back == SIGNED
