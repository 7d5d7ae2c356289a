"""Plans for tests: one that has everything."""

from datetime import UTC, datetime, timedelta

from contracts.approvals import Envelope, Grant
from contracts.incidents import Effect
from contracts.plans import (
    ActionCall,
    Difference,
    Needs,
    Observation,
    Plan,
    ProbeCall,
    Reach,
    Reading,
    Risk,
    Step,
    Target,
    Verification,
)

NOW = datetime(2026, 11, 21, 14, 50, tzinfo=UTC)
TARGET = Target(provider="launchdarkly", kind="flag", path=("shop", "production", "new"))


def plan() -> Plan:
    """Give a plan with a value in every field."""
    call = ActionCall(name="launchdarkly.set_flag", target=TARGET, arguments={"key": "new", "on": False})
    return Plan(
        incident="INC-1",
        mitigation="INC-1/1",
        service="shop",
        environment="production",
        playbook="disable-flag",
        playbook_digest="a" * 64,
        policy_digest="b" * 64,
        title="Disable flag new",
        rationale="It is the latest change.",
        steps=(
            Step(
                number=1,
                title="Disable flag new",
                action=call,
                observed=Observation(state={"on": True, "version": 7}, guard={"on": True}, at=NOW),
                change=(Difference(path="on", before=True, after=False),),
                verification=Verification(
                    signal="error_rate",
                    probe=ProbeCall(name="prometheus.query", arguments={"query": "x"}),
                    healthy_below=0.05,
                    unit="ratio",
                    baseline=Reading(value=0.4, at=NOW, detail="one series"),
                ),
                undo=call.model_copy(update={"arguments": {"key": "new", "on": True}}),
                undo_note="as it was",
                forced=call,
                needs=Needs.TWO,
                rules=("high-risk",),
                risk=Risk.LOW,
                blast_radius="everybody",
                reach=Reach(region="eu", replicas=(4, 3), places={"eu": (True, True)}),
                idempotent="a second call changes nothing",
                refusals=("would be refused",),
            ),
        ),
        undo_when=(Effect.WORSE,),
        undoes="INC-1/0",
        author="erin",
        requester="dan",
        supersedes="c" * 64,
        differences=(Difference(path="on", before=False, after=True),),
        sealed_at=NOW,
        expires_at=NOW + timedelta(minutes=15),
    )


def grant() -> Grant:
    """Give a grant that covers the plan."""
    return Grant(
        id="GRT-1",
        service="shop",
        environment="production",
        envelope=Envelope(actions=("launchdarkly.set_flag",), targets=(str(TARGET),)),
        given_by="ada",
        authenticated_by="local",
        reason="flags are safe",
        given_at=NOW,
        expires_at=NOW + timedelta(days=7),
    )
