"""What an incident has tried already."""

from datetime import UTC, datetime

from contracts.incidents import Attempt, AttemptEnd, Incident, Severity

ACTION = "k8s.roll_back_deployment k8s:deployment/demo/shop/web"


def after(*ends: AttemptEnd, action: str = ACTION) -> Incident:
    """Give an incident in which this ended so."""
    return Incident(
        id="INC-1",
        title="t",
        service="shop",
        environment="production",
        severity=Severity.SEV2,
        opened_at=datetime(2026, 11, 21, tzinfo=UTC),
        attempts=tuple(
            Attempt(
                mitigation=f"INC-1/{number}",
                playbook="p",
                title="t",
                plan_digest="0" * 64,
                end=end,
                actions=(action,),
            )
            for number, end in enumerate(ends, 1)
        ),
    )


def test_what_did_not_help_is_tried() -> None:
    """What did not help, was turned down or helped once is not proposed again; what nobody answered is."""
    tried = {end for end in AttemptEnd if after(end).has_tried(ACTION)}

    assert tried == {AttemptEnd.EFFECTIVE, AttemptEnd.INEFFECTIVE, AttemptEnd.WORSE, AttemptEnd.REJECTED}


def test_a_refusal_counts_from_the_second_time() -> None:
    """A provider's bad moment does not ban an action for ever; a second no does."""
    assert not after(AttemptEnd.REFUSED).has_tried(ACTION)
    assert after(AttemptEnd.REFUSED, AttemptEnd.REFUSED).has_tried(ACTION)


def test_which_of_several_states() -> None:
    """Another state of the same target is another attempt; without one, any way counts."""
    incident = after(AttemptEnd.REJECTED, action=f"{ACTION} v2")

    assert incident.has_tried(f"{ACTION} v2")
    assert incident.has_tried(ACTION)
    assert not incident.has_tried(f"{ACTION} v1")
    assert not incident.has_tried(f"{ACTION}2")
