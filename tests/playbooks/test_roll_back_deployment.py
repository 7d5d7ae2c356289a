"""Which revision is restored: the last good one of another release."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from activities.k8s import History, Revision, RollBackDeployment
from activities.k8s.models import template_hash
from contracts.actions import ActionRequest, ProbeRequest
from contracts.catalogue import Deployment, ServiceEnvironment, Signal
from contracts.errors import NothingToProposeError
from contracts.incidents import Attempt, AttemptEnd, Incident, Severity
from contracts.plans import Observation, Proposal
from playbooks.roll_back_deployment import VERIFIED_GOOD, Params, plan

NOW = datetime(2026, 11, 21, 15, 0, tzinfo=UTC)
INCIDENT = Incident(
    id="INC-1", title="t", service="shop", environment="production", severity=Severity.SEV2, opened_at=NOW
)


def revision(
    number: int,
    image: str,
    minutes_ago: float,
    *,
    current: bool = False,
    restarted: bool = False,
    good: str = "",
) -> Revision:
    """Give one revision of the history."""
    template: dict[str, Any] = {"metadata": {}, "spec": {"containers": [{"name": "web", "image": image}]}}
    if restarted:
        template["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "2026-11-21T14:50:00Z"}
    mark = {"hash": template_hash(template), "other": "0" * 12}.get(good)
    return Revision(
        number=number,
        kept_in=f"web-{number}",
        template_hash=template_hash(template),
        release=image,
        images=(image,),
        created_at=NOW - timedelta(minutes=minutes_ago),
        current=current,
        pods=3 if current else 0,
        template=template,
        annotations={VERIFIED_GOOD: mark} if mark else {},
    )


class Look:
    """A look at a service with one deployment of this history."""

    now = NOW

    def __init__(self, *revisions: Revision) -> None:
        self.service = ServiceEnvironment(
            deployments=(Deployment(cluster="demo", namespace="shop", name="web"),),
            signals={"error_rate": Signal(prometheus="main", query="q", healthy_below=0.05)},
        )
        newest_first = sorted(revisions, key=lambda one: -one.number)
        self._history = History(cluster="demo", namespace="shop", name="web", revisions=tuple(newest_first))

    async def at(self, request: ProbeRequest[Any]) -> Any:
        """Give the history."""
        assert request.probe == "k8s.rollout_history"
        return self._history

    async def observe(self, request: ActionRequest) -> Observation:
        """Nobody asks."""
        raise AssertionError(request)


async def restored(*revisions: Revision, incident: Incident = INCIDENT) -> int:
    """Give the number of the revision that is proposed."""
    proposal: Proposal = await plan(incident, Params(), cast("Any", Look(*revisions)))
    return RollBackDeployment.model_validate(proposal.steps[0].action.arguments).revision


async def test_the_one_before() -> None:
    """Without marks it is the release before the present one."""
    assert (
        await restored(revision(1, "v1", 900), revision(2, "v2", 300), revision(3, "v3", 60, current=True))
        == 2
    )


async def test_the_last_verified_one() -> None:
    """A marked release comes before a newer one without a mark; a mark of another template is none."""
    marked = revision(1, "v1", 900, good="hash")
    copied = revision(2, "v2", 300, good="other")

    assert await restored(marked, copied, revision(3, "v3", 60, current=True)) == 1


async def test_a_restart_is_no_release() -> None:
    """After a restart the revision before it is the same release and is passed over."""
    before_restart = revision(2, "v2", 60)
    restarted = revision(3, "v2", 1, current=True, restarted=True)

    assert await restored(revision(1, "v1", 900), before_restart, restarted) == 1


async def test_an_old_release_is_no_suspect() -> None:
    """A release from long ago is not rolled back, also when its pods were restarted just now."""
    history = [
        revision(1, "v1", 9000),
        revision(2, "v2", 8000),
        revision(3, "v2", 1, current=True, restarted=True),
    ]

    with pytest.raises(NothingToProposeError, match="was released within"):
        await restored(*history)


async def test_nothing_before() -> None:
    """The first release has nothing to go back to."""
    with pytest.raises(NothingToProposeError):
        await restored(revision(1, "v1", 60, current=True))


async def test_what_was_tried_is_not_proposed_again() -> None:
    """A rollback that did not help is not proposed again."""
    history = (revision(1, "v1", 900), revision(2, "v2", 60, current=True))
    proposal = await plan(INCIDENT, Params(), cast("Any", Look(*history)))
    attempt = Attempt(
        mitigation="INC-1/1",
        playbook="roll-back-deployment",
        title="t",
        plan_digest="0" * 64,
        end=AttemptEnd.INEFFECTIVE,
        actions=(str(proposal.steps[0].action),),
    )

    with pytest.raises(NothingToProposeError):
        await restored(*history, incident=INCIDENT.model_copy(update={"attempts": (attempt,)}))
