"""A decision allows exactly what was shown, and nothing else."""

import base64
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from authority.decisions import Signer, Verifier, approved, key_id
from authority.seals import canonical, digest
from contracts.approvals import Decision, SignedDecision, Verdict
from contracts.errors import ForbiddenError, UnknownKeyError
from contracts.outcomes import Direction
from contracts.plans import Needs, Plan
from tests.authority.plans import NOW, grant, plan
from tests.campaigns.forging import respelled

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


SIGNED = Signer(KEY).sign(decision().model_copy(update={"person": "grace"}))
SIGNED = SIGNED.model_copy(update={"others": (Signer(KEY).sign(decision()),)})


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
    document = SIGNED.decision.model_dump(mode="json")
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


@pytest.mark.parametrize("way", [1, 7, 15])
def test_the_signature_is_spelled_in_one_way(way: int) -> None:
    """Base64 has letters whose last bits say nothing: another spelling of the right signature is not it."""
    spelled = respelled(SIGNED.signature, way)
    assert base64.b64decode(spelled, validate=True) == base64.b64decode(SIGNED.signature)

    with pytest.raises(ForbiddenError, match="signature is not valid"):
        VERIFIER.check_signature(SIGNED.model_copy(update={"signature": spelled}))


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


def two_steps(**changes: Any) -> Plan:
    """Give a plan with two steps that one person may approve."""
    first = PLAN.steps[0].model_copy(update={"needs": Needs.ONE} | changes)
    return PLAN.model_copy(update={"steps": (first, first.model_copy(update={"number": 2}))})


def signed_by(person: str, of: Plan, **changes: Any) -> SignedDecision:
    """Give one person's approval of a plan."""
    return Signer(KEY).sign(decision(of).model_copy(update={"person": person} | changes))


def test_one_approval_is_not_two() -> None:
    """Where the policy asks two people, one alone, or the same one twice, allows nothing."""
    alone = signed_by("ada", PLAN)
    for signed, why in {
        alone: "two people have to approve it",
        alone.model_copy(update={"others": (alone,)}): "one person has approved twice",
    }.items():
        with pytest.raises(ForbiddenError, match=why):
            VERIFIER.check_approves(signed, PLAN, now=LATER)


def test_second_approval_is_verified_too() -> None:
    """An earlier approval that was edited, or is about another request, does not count."""
    first, second = signed_by("ada", PLAN), signed_by("grace", PLAN)
    edited = first.model_copy(update={"decision": first.decision.model_copy(update={"person": "bob"})})
    other = signed_by("bob", PLAN, request="APR-2")
    for earlier in (edited, other):
        with pytest.raises(ForbiddenError):
            VERIFIER.check_approves(second.model_copy(update={"others": (earlier,)}), PLAN, now=LATER)


def test_break_glass_stands_for_the_second_person_but_never_for_a_denied_step() -> None:
    """One person breaks the glass; what the policy denies stays denied."""
    VERIFIER.check_approves(signed_by("ada", PLAN, break_glass=True), PLAN, now=LATER)
    denied = two_steps(needs=Needs.DENIED)

    with pytest.raises(ForbiddenError, match="the policy denies it"):
        VERIFIER.check_approves(signed_by("ada", denied, break_glass=True), denied, now=LATER)


def test_narrow_approval_allows_its_steps_only() -> None:
    """A step that was not approved may not run; two people have approved what both have."""
    of = two_steps()
    narrow = signed_by("ada", of, steps=(2,))
    VERIFIER.check_approves(narrow, of, now=LATER, step=2)

    assert approved(narrow, of) == (2,)
    with pytest.raises(ForbiddenError, match="step 1 is not among"):
        VERIFIER.check_approves(narrow, of, now=LATER, step=1)
    apart = signed_by("grace", of, steps=(1,)).model_copy(update={"others": (narrow,)})
    with pytest.raises(ForbiddenError, match="no step is approved by everybody"):
        VERIFIER.check_approves(apart, of, now=LATER)


def test_forcing_is_its_own_yes() -> None:
    """An approval of the plan does not allow the ungraceful variant of a step."""
    of = two_steps()
    VERIFIER.check_approves(
        signed_by("ada", of, forced=(1,)), of, now=LATER, step=1, direction=Direction.FORCE
    )

    with pytest.raises(ForbiddenError, match="may not be forced"):
        VERIFIER.check_approves(signed_by("ada", of), of, now=LATER, step=1, direction=Direction.FORCE)


def test_policy_answers_only_what_nobody_has_to_be_asked() -> None:
    """A decision of the policy itself runs what the policy asks nobody for, and nothing else."""
    free = two_steps(needs=Needs.NOBODY)
    VERIFIER.check_approves(signed_by("stanch", free, authenticated_by="policy"), free, now=LATER)
    of = two_steps()

    with pytest.raises(ForbiddenError, match="a person has to approve it"):
        VERIFIER.check_approves(signed_by("stanch", of, authenticated_by="policy"), of, now=LATER)


def test_grant_is_checked_again() -> None:
    """A decision under a grant allows what is inside the grant, and nothing outside."""
    of = two_steps()
    VERIFIER.check_approves(signed_by("ada", of, grant=grant()), of, now=LATER)
    foreign = grant().model_copy(update={"environment": "staging"})

    with pytest.raises(ForbiddenError, match="GRT-1 is for shop in staging"):
        VERIFIER.check_approves(signed_by("ada", of, grant=foreign), of, now=LATER)


def test_a_guardrail_is_set_aside_by_everybody() -> None:
    """What the second person alone sets aside still holds."""
    first = signed_by("ada", PLAN, overrides=("cooldown", "target-lock"))
    second = signed_by("grace", PLAN, overrides=("cooldown", "freeze"))

    assert second.model_copy(update={"others": (first,)}).overrides == ("cooldown",)
    assert second.overrides == ("cooldown", "freeze")


def test_keys_are_read_again_when_one_is_unknown() -> None:
    """A key that was rotated in while we run is found; one that nobody has given us stays unknown."""
    old, new, stranger = (Ed25519PrivateKey.generate() for _ in range(3))
    known = [old.public_key()]
    verifier = Verifier(known, reread=lambda: known)
    known.append(new.public_key())
    for key in (old, new):
        verifier.check_signature(Signer(key).sign(decision()))

    assert verifier.keys == tuple(known)
    with pytest.raises(UnknownKeyError, match=f"signed by the unknown key {Signer(stranger).key_id}"):
        verifier.check_signature(Signer(stranger).sign(decision()))
