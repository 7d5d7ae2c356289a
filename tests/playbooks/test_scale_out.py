"""How many pods are asked for, of whom, and what is paused for it."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from activities.k8s import SetAutoscalerLimits
from activities.k8s.fake import FakeKubernetes
from contracts.catalogue import Deployment, ServiceEnvironment, Signal, Sync
from contracts.errors import NothingToProposeError
from contracts.incidents import Attempt, AttemptEnd, Incident, Severity
from contracts.plans import ProposedStep
from playbooks.scale_out import Params, plan
from tests.activities.k8s.conftest import Place, fake_place

NOW = datetime(2026, 11, 21, 15, 0, tzinfo=UTC)
INCIDENT = Incident(
    id="INC-1", title="t", service="shop", environment="production", severity=Severity.SEV2, opened_at=NOW
)
SYNC = Sync(cluster="demo", namespace="argocd", name="shop", kind="application")
TRACKED = {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/web"}
TRACKED_LIMITS = {"argocd.argoproj.io/tracking-id": "shop:autoscaling/HorizontalPodAutoscaler:shop/web"}


class Look:
    """A look at the service whose only deployment is `web` of a cluster."""

    now = NOW

    def __init__(self, place: Place, *syncs: Sync) -> None:
        self._place = place
        self.service = ServiceEnvironment(
            deployments=(Deployment(**place.where),),
            syncs=syncs,
            signals={"latency": Signal(prometheus="main", query="q", healthy_below=1)},
        )

    async def observe(self, request: Any) -> Any:
        """Read through the action."""
        return self._place.action(request).observe(request)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a cluster with three pods of `web`."""
    with FakeKubernetes(ready_after=0) as server, ExitStack() as stack:
        found = fake_place(server, tmp_path, stack)
        found.deploy()
        yield found


async def steps(look: Look, incident: Incident = INCIDENT, **params: Any) -> tuple[ProposedStep, ...]:
    """Give the steps that are proposed."""
    return (await plan(incident, Params(**params), cast("Any", look))).steps


async def asked(look: Look, incident: Incident = INCIDENT, **params: Any) -> list[tuple[str, Any]]:
    """Give the names of the proposed actions with the number that each sets."""
    wanted = ("replicas", "minimum", "suspended")
    return [
        (one.action.name, next(one.action.arguments[key] for key in wanted if key in one.action.arguments))
        for one in await steps(look, incident, **params)
    ]


async def test_half_as_many_again(place: Place) -> None:
    """Three pods become five, verified by the service's signal."""
    proposed = await steps(Look(place))

    assert [(one.title, one.action.arguments["replicas"]) for one in proposed] == [
        ("Scale shop/web to 5 pods", 5)
    ]
    assert proposed[0].verification is not None


@pytest.mark.parametrize(("most", "wanted"), [(4, 4), (20, 5)])
async def test_never_more_than_the_cap(place: Place, most: int, wanted: int) -> None:
    """The cap limits what is asked for."""
    assert await asked(Look(place), most=most) == [("k8s.scale_deployment", wanted)]


async def test_at_the_cap_there_is_nothing_to_propose(place: Place) -> None:
    """Who has as many pods as may be is told so."""
    with pytest.raises(NothingToProposeError, match="shop/web: it has 3 pods, and may have no more"):
        await steps(Look(place), most=3)


async def test_a_quota_limits_it_too(place: Place) -> None:
    """As many as there is room for is better than a plan that would be refused."""
    path = "/api/v1/namespaces/shop/resourcequotas"
    place.call("POST", path, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "4"}}})

    assert await asked(Look(place)) == [("k8s.scale_deployment", 4)]


async def test_the_limits_of_an_autoscaler_are_raised(place: Place) -> None:
    """The minimum brings pods at once, and the maximum is raised only where it is in the way."""
    place.autoscaled(2, 4)
    request = SetAutoscalerLimits.model_validate((await steps(Look(place)))[0].action.arguments)

    assert (request.minimum, request.maximum) == (5, 5)


async def test_a_minimum_that_is_high_already_is_left_alone(place: Place) -> None:
    """An autoscaler that keeps as many pods as would be asked for has nothing to be asked."""
    place.autoscaled(5, 9)

    with pytest.raises(NothingToProposeError, match=r"by autoscaler web \(5 to 9\), and may have no more"):
        await steps(Look(place), most=5)


async def test_a_sync_is_paused_first(place: Place) -> None:
    """What Argo CD would put back is changed after its sync was paused."""
    place.patch({"metadata": {"annotations": TRACKED}})

    assert await asked(Look(place, SYNC)) == [("k8s.set_sync", True), ("k8s.scale_deployment", 5)]
    with pytest.raises(NothingToProposeError, match="Name that application in the catalogue under `syncs`"):
        await steps(Look(place))


async def test_an_autoscaler_that_nobody_keeps_needs_no_pause(place: Place) -> None:
    """It is the owner of the limits that counts where limits are changed."""
    place.patch({"metadata": {"annotations": TRACKED}})
    place.autoscaled(2, 9)

    assert await asked(Look(place)) == [("k8s.set_autoscaler_limits", 5)]


async def test_an_autoscaler_that_is_kept_is_paused_for(place: Place) -> None:
    """The same the other way round."""
    place.autoscaled(2, 9, annotations=TRACKED_LIMITS)

    assert await asked(Look(place, SYNC)) == [("k8s.set_sync", True), ("k8s.set_autoscaler_limits", 5)]


async def test_a_daemon_set_has_no_count(place: Place) -> None:
    """One pod on each node is all that it can have."""
    look = Look(place)
    look.service = ServiceEnvironment(
        deployments=(Deployment(**{**place.where, "kind": "daemon_set"}),), signals=look.service.signals
    )

    with pytest.raises(NothingToProposeError, match="shop/web has one pod on each node"):
        await steps(look)


async def test_what_was_tried_is_not_proposed_again(place: Place) -> None:
    """A scaling that did not help is not repeated."""
    attempt = Attempt(
        mitigation="INC-1/1",
        playbook="scale-out",
        title="t",
        plan_digest="0" * 64,
        end=AttemptEnd.INEFFECTIVE,
        actions=("k8s.scale_deployment k8s:deployment/demo/shop/web",),
    )

    with pytest.raises(NothingToProposeError, match="shop/web: its number was raised already"):
        await steps(Look(place), INCIDENT.model_copy(update={"attempts": (attempt,)}))
