"""Which flag is switched off, and what is said of the others."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from activities.launchdarkly import FlagChange, RecentChanges, SetFlag
from contracts.catalogue import Flag, ServiceEnvironment, Signal
from contracts.errors import NothingToProposeError
from contracts.incidents import Attempt, AttemptEnd, Incident, Severity
from contracts.plans import Proposal
from playbooks.disable_flag import Params, plan

NOW = datetime(2026, 11, 21, 15, 0, tzinfo=UTC)
INCIDENT = Incident(
    id="INC-1", title="t", service="shop", environment="production", severity=Severity.SEV2, opened_at=NOW
)


class Look:
    """A look at a service whose flags were changed so many minutes ago."""

    now = NOW

    def __init__(self, *, off: str = "", **minutes_ago: int) -> None:
        self._off, self._changed = off, minutes_ago
        keys = (*minutes_ago, "unchanged")
        self.service = ServiceEnvironment(
            flags=tuple(Flag(project="shop", environment="production", key=key) for key in keys),
            signals={"error_rate": Signal(prometheus="main", query="q", healthy_below=0.05)},
        )

    async def at(self, request: Any) -> RecentChanges:
        """Give the changes."""
        assert request.probe == "launchdarkly.recent_changes"
        return RecentChanges(
            changes=tuple(
                FlagChange(
                    key=key,
                    name=key,
                    on=key != self._off,
                    changed_at=NOW - timedelta(minutes=ago),
                    title=f"Ada changed {key}",
                )
                for key, ago in self._changed.items()
            )
        )


async def proposed(look: Look, incident: Incident = INCIDENT, **params: Any) -> tuple[str, str]:
    """Give the flag that is to be switched off, and why."""
    proposal: Proposal = await plan(incident, Params(**params), cast("Any", look))
    request = SetFlag.model_validate(proposal.steps[0].action.arguments)
    assert request.on is False
    return request.key, proposal.rationale


def tried(key: str) -> Incident:
    """Give the incident after switching this one off was turned down."""
    attempt = Attempt(
        mitigation="INC-1/1",
        playbook="disable-flag",
        title="t",
        plan_digest="0" * 64,
        end=AttemptEnd.REJECTED,
        actions=(SetFlag(project="shop", environment="production", key=key, on=False).attempt,),
    )
    return INCIDENT.model_copy(update={"attempts": (attempt,)})


async def test_the_latest_change_with_the_others() -> None:
    """The flag that was changed last is proposed; the approver reads what else was changed."""
    look = Look(old=90, off="gone", gone=2, new=5)

    key, why = await proposed(look)
    assert key == "new"
    assert why == (
        "It is the latest change of shop's flags that is still on: Ada changed new, 5 min ago. "
        "Others that were changed: Ada changed gone, 2 min ago, which is off; Ada changed old, 90 min ago."
    )
    key, why = await proposed(look, tried("new"))
    assert key == "old"
    assert "Ada changed new, 5 min ago, which was tried" in why


async def test_a_person_names_the_flag() -> None:
    """A named flag is proposed whenever it was changed; one that the service does not have is said."""
    assert (await proposed(Look(new=5), flag="unchanged"))[0] == "unchanged"
    with pytest.raises(NothingToProposeError, match="shop has no flag other; it has new, unchanged"):
        await proposed(Look(new=5), flag="other")
    with pytest.raises(NothingToProposeError, match="flag new was tried already"):
        await proposed(Look(new=5), tried("new"), flag="new")


async def test_none_is_left() -> None:
    """When every changed flag was tried, that is the reason."""
    with pytest.raises(NothingToProposeError, match="no flag of shop that is on and left to try"):
        await proposed(Look(new=5), tried("new"))
