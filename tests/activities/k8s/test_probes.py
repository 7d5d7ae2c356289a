"""What playbooks can see."""

import pytest

from activities.k8s import (
    RolloutHistory,
    RolloutHistoryProbe,
    RolloutStatus,
    RolloutStatusProbe,
    WarningEventsProbe,
)
from activities.k8s.fake import FakeKubernetes
from activities.readiness import readiness
from activities.registry import Registry
from contracts.catalogue import Deployment, Signal
from contracts.errors import ActionRefusedError
from contracts.outcomes import Reached
from contracts.readiness import CheckState
from tests.activities.k8s.conftest import BAD_IMAGE, IMAGES, Place, now


def test_the_status_follows_a_release(shop: Place, fake: FakeKubernetes) -> None:
    """A bad release has failed, the good one that follows is reached, and one that nobody saw yet settles."""
    shop.deploy(progressDeadlineSeconds=1)
    shop.release(BAD_IMAGE)
    shop.settled(Reached.FAILED)
    failed = shop.status()
    shop.release(IMAGES[1])
    shop.settled()
    fake.world.lag = 1e6
    shop.release(IMAGES[2])

    said = "cannot pull its image (ImagePullBackOff: bad.invalid/shop:v0): 1 of 3 pods have the new template"
    assert failed.detail == f"shop/web in cluster demo: the rollout {said}, 3 serve"
    assert failed.value == pytest.approx(1 / 3)
    assert shop.status().detail.endswith("the change is stored, its controller has yet to see it")
    assert shop.status().reached is Reached.SETTLING


def test_the_history_gives_requests_that_restore(shop: Place) -> None:
    """A revision of the history becomes a request with its template and its annotations."""
    shop.deploy()
    shop.release(IMAGES[1])
    shop.settled()
    history = shop.history()
    request = history.roll_back_to(history.revisions[-1])

    assert (request.cluster, request.namespace, request.name, request.revision) == ("demo", "shop", "web", 1)
    assert request.template["spec"]["containers"][0]["image"] == IMAGES[0]
    assert "pod-template-hash" not in request.template["metadata"]["labels"]
    assert request.template_hash == history.revisions[-1].template_hash


def test_the_history_has_only_what_the_deployment_owns(shop: Place) -> None:
    """ReplicaSets of another Deployment with the same labels are not in it."""
    shop.deploy()
    other = shop.raw()
    other["metadata"] = {"name": "web-2"}
    assert shop.call("POST", shop.path.removesuffix("/web"), other)[0] == 201

    assert [one.kept_in.rpartition("-")[0] for one in shop.history().revisions] == ["web"]


def test_a_restart_is_the_same_release(shop: Place) -> None:
    """Who looks for the release before this one can step over restarts."""
    shop.deploy()
    shop.release(IMAGES[1])
    shop.settled()
    shop.run(shop.restart())
    revisions = shop.history().revisions

    assert [one.number for one in revisions] == [3, 2, 1]
    assert revisions[0].template_hash != revisions[1].template_hash
    assert revisions[0].release == revisions[1].release == revisions[1].template_hash
    assert revisions[2].release == revisions[2].template_hash != revisions[1].release


def test_selectors_with_expressions_are_asked_for(shop: Place, fake: FakeKubernetes) -> None:
    """A Deployment may select by expressions too."""
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "app", "operator": "In", "values": ["web", "api"]},
            {"key": "app", "operator": "NotIn", "values": ["old"]},
            {"key": "app", "operator": "Exists"},
            {"key": "canary", "operator": "DoesNotExist"},
        ],
    }
    shop.deploy(selector=selector)

    assert len(shop.history().revisions) == 1
    assert fake.requests[-1]["query"]["labelSelector"] == (
        "app=web,app in (web,api),app notin (old),app,!canary"
    )


def test_the_catalogue_can_name_what_is_looked_at_as_a_signal(shop: Place) -> None:
    """A signal of the catalogue is measured as any other; a bad release makes both of them unhealthy."""
    web = Deployment.model_validate(shop.where)
    rules = [Signal(rollout=web).verification("x", {}), Signal(warnings=web).verification("x", {})]
    probes = Registry([], [RolloutStatusProbe(shop.api, now), WarningEventsProbe(shop.api, now)])

    def measured() -> list[float]:
        return [value for one in rules if (value := probes.measure(one.probe).value) is not None]

    shop.deploy()
    well = measured()
    shop.release(BAD_IMAGE)
    shop.settled(Reached.FAILED)
    ill = measured()

    assert (well, ill) == ([1, 0], [pytest.approx(1 / 3), 1])
    assert all(one.is_healthy(value) for one, value in zip(rules, well, strict=True))
    assert not any(one.is_healthy(value) for one, value in zip(rules, ill, strict=True))


def test_a_standby_whose_rollout_is_not_done_is_not_ready(shop: Place) -> None:
    """Pods that serve are not enough where a failover asks for a rollout: it has to be done."""
    registry = Registry([], [RolloutStatusProbe(shop.api, now)])
    asked = RolloutStatus(**shop.where).call()
    shop.deploy()
    (good,) = readiness(registry, (), [asked]).checks
    shop.release(BAD_IMAGE)
    shop.settled(Reached.FAILED)
    (bad,) = readiness(registry, (), [asked]).checks

    assert (good.state, bad.state) == (CheckState.OK, CheckState.NOT_READY)
    assert "1 of 3 pods have the new template, 3 serve" in bad.detail


def test_what_is_not_there_is_refused(shop: Place) -> None:
    """A missing Deployment and an unknown cluster name themselves."""
    missing = {**shop.where, "name": "api"}
    unknown = {**shop.where, "cluster": "prod"}

    with pytest.raises(ActionRefusedError, match=r"^shop/api in cluster demo: no such deployment$"):
        RolloutStatusProbe(shop.api, now).look(RolloutStatus(**missing))
    with pytest.raises(ActionRefusedError, match=r"^shop/api in cluster demo: no such deployment$"):
        RolloutHistoryProbe(shop.api, now).look(RolloutHistory(**missing))
    with pytest.raises(
        ActionRefusedError, match=r"^shop/web in cluster prod: no such cluster in the catalogue"
    ):
        RolloutHistoryProbe(shop.api, now).look(RolloutHistory(**unknown))
