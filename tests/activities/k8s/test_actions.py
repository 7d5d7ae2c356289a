"""What the actions say: differences, blast radius, refusals, and how they word it."""

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from activities.k8s.actions import RestartDeploymentAction, RollBackDeploymentAction, ScaleDeploymentAction
from activities.k8s.fake import FakeKubernetes, Fault
from activities.k8s.models import ACTION, RESTARTED_AT, InCluster, KubernetesObject
from contracts.errors import ActionRefusedError, PreconditionFailedError, ProviderUnavailableError
from contracts.outcomes import Outcome, Reached
from contracts.plans import Difference, Reach, Risk
from ledger import Ledger
from runtime.clock import utc_now
from tests.activities.k8s.conftest import (
    ALL_KINDS,
    BAD_IMAGE,
    DEPLOYMENT_KINDS,
    HASTE,
    IMAGES,
    KINDS,
    MERGE,
    Place,
    now,
    until,
)
from tests.control_plane.scene import Scene


def test_risks_are_declared() -> None:
    """A restart is the least; what changes the template or the count is more."""
    assert RestartDeploymentAction.risk is Risk.LOW
    assert RollBackDeploymentAction.risk is Risk.MEDIUM
    assert ScaleDeploymentAction.risk is Risk.MEDIUM


def test_a_restart_tells_its_one_difference(shop: Place) -> None:
    """The difference is the annotation in the template, before and after."""
    shop.deploy()
    shop.run(shop.restart())
    request = shop.restart("2026-01-31T04:00:00Z")
    action = shop.action(request)
    path = f"spec.template.metadata.annotations[{RESTARTED_AT}]"

    assert action.change(request, action.observe(request)) == (
        Difference(path=path, before="2026-01-31T03:04:05Z", after="2026-01-31T04:00:00Z"),
    )
    progress = action.is_reached(request, action.observe(request))
    assert progress.reached is Reached.NO
    assert progress.detail == (
        "shop/web in cluster demo: not restarted at 2026-01-31T04:00:00Z, but at 2026-01-31T03:04:05Z"
    )


def test_a_restart_has_no_undo_and_says_why(shop: Place) -> None:
    """The approver reads that it cannot be taken back."""
    shop.deploy()
    request = shop.restart()
    action = shop.action(request)

    assert action.undo(request, action.observe(request)) == (
        None,
        "A restart cannot be taken back: the former pods are gone.",
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "restart",
            "Replaces all 3 pods of shop/web in cluster demo, a few at a time (at most 25% of them missing).",
        ),
        (
            "roll_back",
            (
                "Replaces all 3 pods of shop/web in cluster demo by what was revision 1 (shop:v1), "
                "a few at a time (at most 25% of them missing). No pod of it is known to serve: it is not "
                "known whether its images can still be pulled."
            ),
        ),
        ("scale", "Goes from 3 to 4 pods of shop/web in cluster demo."),
        (
            "roll_back_stateful_set",
            (
                "Replaces all 3 pods of shop/web in cluster demo by what was revision 1 (shop:v1), "
                "one at a time, the last first. No pod of it is known to serve: it is not known "
                "whether its images can still be pulled."
            ),
        ),
        (
            "restart_daemon_set",
            "Replaces all 3 pods of shop/web in cluster demo, node by node (at most 1 of them missing).",
        ),
        (
            "limits",
            "Has autoscaler web keep shop/web in cluster demo at 4 to 12 pods, not 2 to 9; it has 3.",
        ),
        (
            "pause_application",
            (
                "Argo CD leaves application shop/shop in cluster demo alone: "
                "nothing new in Git is rolled out there until it is resumed."
            ),
        ),
        ("resume_kustomization", "Flux applies to kustomization shop/shop in cluster demo what is in Git."),
    ],
)
def test_the_blast_radius_is_one_sentence(shop: Place, kind: str, said: str) -> None:
    """It says how many pods of what are touched, and how."""
    request = shop.asked(kind)
    action = shop.action(request)

    assert action.blast_radius(request, action.observe(request)) == said


@pytest.mark.parametrize(
    ("kind", "replicas"),
    [("scale", (3, 4)), ("restart", None), ("limits", None), ("pause_application", None)],
)
def test_what_the_guardrails_count(shop: Place, kind: str, replicas: tuple[int, int] | None) -> None:
    """Every action tells its cluster, and the one that sets a number of pods tells that too."""
    request = shop.asked(kind)
    action = shop.action(request)

    assert action.reach(request, action.observe(request)) == Reach(region="demo", replicas=replicas)


def test_the_blast_radius_tells_of_an_outage(shop: Place) -> None:
    """A Recreate strategy and a scaling to zero leave nothing that serves, and the approver reads it."""
    shop.deploy(strategy={"type": "Recreate"})
    radius = {
        type(request).__name__: shop.action(request).blast_radius(
            request, shop.action(request).observe(request)
        )
        for request in (shop.restart(), shop.scale(0))
    }

    assert radius == {
        "RestartDeployment": "Replaces all 3 pods of shop/web in cluster demo, "
        "all at once, so that none serves meanwhile.",
        "ScaleDeployment": "Takes all 3 pods of shop/web in cluster demo away: nothing serves any more.",
    }


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (
            {"annotations": {"argocd.argoproj.io/tracking-id": "apps_x:apps/Deployment:shop/web"}},
            "Argo CD (application apps/x) may put back what this changes.",
        ),
        (
            {
                "labels": {
                    "kustomize.toolkit.fluxcd.io/name": "x",
                    "kustomize.toolkit.fluxcd.io/namespace": "y",
                }
            },
            "Flux (kustomization y/x) may put back what this changes.",
        ),
        (
            {"labels": {"helm.toolkit.fluxcd.io/name": "x", "app.kubernetes.io/managed-by": "Helm"}},
            "Flux (helm release x) may put back what this changes.",
        ),
        (
            {"annotations": {"meta.helm.sh/release-name": "x"}},
            "Helm (release x) overwrites this at its next upgrade.",
        ),
    ],
)
@pytest.mark.parametrize("kind", DEPLOYMENT_KINDS)
def test_the_blast_radius_tells_who_may_put_it_back(
    shop: Place, kind: str, metadata: dict[str, Any], said: str
) -> None:
    """A Deployment that a GitOps controller owns is told, since that one may revert what we do."""
    request = shop.asked(kind)
    shop.patch({"metadata": metadata})
    shop.settled()
    action = shop.action(request)

    assert action.blast_radius(request, action.observe(request)).endswith(said)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_is_not_there_is_refused_in_one_sentence(shop: Place, kind: str) -> None:
    """A missing Deployment names itself, and nothing is retried."""
    request = shop.asked(kind).model_copy(update={"name": "wbe"})
    action = shop.action(request)

    what = request.kind.replace("_", " ")
    with pytest.raises(ActionRefusedError, match=f"^shop/wbe in cluster demo: no such {what}$"):
        action.observe(request)


@pytest.mark.parametrize("kind", KINDS)
def test_the_refusal_of_a_dry_run_is_told_beforehand(fake: FakeKubernetes, shop: Place, kind: str) -> None:
    """What admission says no to is in the plan, in the server's words."""
    request = shop.asked(kind)
    action = shop.action(request)
    observed = action.observe(request)
    fake.fail(Fault.REFUSED, status=403)

    assert action.preflight(request, observed) == (
        f"{request.where}: the request was refused as a test wanted it",
    )


def test_a_webhook_that_knows_no_dry_run_refuses_nothing(fake: FakeKubernetes, shop: Place) -> None:
    """Clusters with such webhooks can be worked with; the real call still passes through them."""
    request = shop.asked("restart")
    action = shop.action(request)
    observed = action.observe(request)
    fake.fail(Fault.REFUSED, said='admission webhook "x" does not support dry run')

    assert action.preflight(request, observed) == ()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_nothing_is_sent_where_nothing_has_to_be_done(fake: FakeKubernetes, shop: Place, kind: str) -> None:
    """The no-op is found by reading: not even a dry run is sent."""
    request = shop.asked(kind)
    shop.run(request)
    action = shop.action(request)
    observed = action.observe(request)
    before = len(fake.requests)
    action.apply(request, observed, action_id="again")

    assert action.change(request, observed) == ()
    assert action.preflight(request, observed) == ()
    assert len(fake.requests) == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_names_the_action(fake: FakeKubernetes, shop: Place, kind: str) -> None:
    """The journal's key is in what the cluster's audit log keeps; the server knows our patience too."""
    request = shop.asked(kind)
    action = shop.action(request)
    action.apply(request, action.observe(request), action_id="INC-42/1/1/apply")
    last = fake.changes[-1]

    assert last["user_agent"] == "stanch (INC-42/1/1/apply)"
    assert last["query"] == {"fieldManager": "stanch", "timeout": "8s"}
    assert last["user"] == "system:serviceaccount:stanch:stanch"


@pytest.mark.parametrize("kind", ["restart", "roll_back"])
def test_a_repetition_is_turned_away_before_any_controller_has_seen_the_first(
    fake: FakeKubernetes, shop: Place, kind: str
) -> None:
    """The generation moves with the change itself, so nothing else has to happen first."""
    request = shop.asked(kind)
    action = shop.action(request)
    observed = action.observe(request)
    fake.world.lag = 1e6
    action.apply(request, observed, action_id="once")

    with pytest.raises(PreconditionFailedError):
        action.apply(request, observed, action_id="twice")


@pytest.mark.parametrize("kind", ["restart", "roll_back"])
def test_a_release_that_its_controller_had_not_seen_is_read_again(
    fake: FakeKubernetes, shop: Place, kind: str
) -> None:
    """When the revision gets its number between reading and applying, the call is turned away."""
    request = shop.asked(kind)
    fake.world.lag = 0.2 * HASTE  # seconds
    shop.release(IMAGES[2])
    action = shop.action(request)
    observed = action.observe(request)
    shop.settled()

    with pytest.raises(PreconditionFailedError):
        action.apply(request, observed, action_id="early")


def test_a_deployment_without_annotations_can_be_changed(fake: FakeKubernetes, shop: Place) -> None:
    """A patch cannot add to annotations that are not there, so it makes them first."""
    fake.world.lag = 1e6  # its controller never writes a revision
    shop.deploy(wait=False)
    request = shop.restart()
    action = shop.action(request)
    observed = action.observe(request)
    action.apply(request, observed, action_id="x")

    assert not observed.state["annotated"]
    assert action.is_reached(request, action.observe(request)).reached is Reached.SETTLING


def test_a_rollback_may_leave_annotations_alone(shop: Place) -> None:
    """Without annotations in the request, those that are there stay, and stay at its undo."""
    shop.deploy()
    shop.release(IMAGES[1], annotations={"team": "b"})
    shop.settled()
    request = shop.roll_back(1).model_copy(update={"annotations": None})
    action = shop.action(request)
    observed = shop.run(request)

    assert shop.raw()["metadata"]["annotations"]["team"] == "b"
    assert action.undo(request, observed)[0].annotations is None


def test_two_reads_of_different_objects_are_not_mixed(shop: Place) -> None:
    """When the Deployment is replaced between the reads of itself and of its scale, both are read again."""

    class Replaced:
        """The same cluster, in which the scale is already that of another Deployment."""

        items = staticmethod(shop.api.items)

        def read(self, at: InCluster, subresource: str = "") -> KubernetesObject:
            """Read the other one's scale."""
            found = shop.api.read(at, subresource)
            return {**found, "metadata": {"uid": "another"}} if subresource else found

    request = shop.asked("scale")
    action = ScaleDeploymentAction(cast(Any, Replaced()), now)

    with pytest.raises(ProviderUnavailableError, match="it was replaced while it was read"):
        action.observe(request)


def test_limits_settle_until_the_autoscaler_has_acted(fake: FakeKubernetes, shop: Place) -> None:
    """Limits that are stored have brought no pod yet."""
    request = shop.asked("limits")
    action = shop.action(request)
    fake.world.lag = 1e6
    action.apply(request, action.observe(request), action_id="x")
    progress = action.is_reached(request, action.observe(request))

    assert progress.reached is Reached.SETTLING
    assert progress.detail.endswith("its autoscaler has yet to set its count, which is 3")


def under_way(fake: FakeKubernetes, shop: Place, request: Any) -> tuple[Any, Any, Any]:
    """Begin a change whose pods take their time; give its action, its undo, and how it is meanwhile."""
    action = shop.action(request)
    before = action.observe(request)
    fake.world.ready_after = 2 * HASTE  # seconds
    action.apply(request, before, action_id="INC-1/1/1/apply")
    until(lambda: "its controller has yet to see it" not in shop.status().detail)
    return action, action.undo(request, before)[0], action.observe(request)


@pytest.mark.parametrize("kind", ["roll_back", "roll_back_stateful_set", "roll_back_daemon_set"])
def test_a_rollback_under_way_is_turned_back(fake: FakeKubernetes, shop: Place, kind: str) -> None:
    """Who wants it back need not wait until it has rolled out: the template that was there is back."""
    request = shop.asked(kind)
    action, undo, seen = under_way(fake, shop, request)
    action.apply(undo, action.observe(undo), action_id="INC-1/1/1/undo")
    fake.world.ready_after = 0.1
    shop.settled()
    after = action.observe(undo)

    assert action.is_reached(request, seen).reached is Reached.SETTLING
    assert action.is_reached(undo, after).reached is Reached.YES
    assert after.state["images"] == [IMAGES[1]]


def test_another_minimum_alone_turns_a_change_of_the_limits_away(shop: Place) -> None:
    """Each of the two numbers is what the change was planned upon."""
    request = shop.asked("limits")
    action = shop.action(request)
    observed = action.observe(request)
    lower = {"spec": {"minReplicas": 1}}
    assert shop.call("PATCH", shop.path_to(request), lower, kind=MERGE)[0] == 200

    with pytest.raises(PreconditionFailedError):
        action.apply(request, observed, action_id="x")


@pytest.mark.parametrize("first", [IMAGES[2], BAD_IMAGE])
def test_the_images_of_init_containers_count_too(shop: Place, first: str) -> None:
    """One that cannot be pulled ends the wait, and one that no pod has now is no image that runs."""
    run = first != BAD_IMAGE
    shop.deploy(wait=False)
    init = [{"name": "first", "image": first}]
    shop.patch({"spec": {"template": {"spec": {"initContainers": init}}}})
    shop.settled(Reached.YES if run else Reached.FAILED)
    later = {
        "metadata": {"annotations": {"config": "2"}},
        **({} if run else {"spec": {"initContainers": None}}),
    }
    status = shop.status()
    shop.patch({"spec": {"template": later}}, kind=MERGE)
    shop.settled()
    request = shop.roll_back(2)
    state = shop.action(request).observe(request).state

    assert run or "cannot pull its image (ImagePullBackOff: bad.invalid/shop:v0)" in status.detail
    assert state["images_run"] is run


def test_limits_from_zero_on_can_be_given_back(shop: Place) -> None:
    """An autoscaler that may go down to no pod gets its former limits again."""
    shop.deploy()
    shop.autoscaled(minimum=0)
    request = shop.limits(4, 12)
    action = shop.action(request)
    undo, _ = action.undo(request, shop.run(request))
    shop.run(type(request).model_validate(undo.call().arguments))

    assert shop.call("GET", shop.path_to(request))[1]["spec"]["minReplicas"] == 0


@pytest.mark.parametrize("kind", ["roll_back", "restart", "limits", "pause_application"])
def test_what_was_done_and_put_back_is_not_done_again(shop: Place, tmp_path: Path, kind: str) -> None:
    """The answer is lost and somebody puts the target back at once: our mark says that the call was made."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=utc_now)
    ledger.migrate()
    request = shop.asked(kind)
    before = shop.touched(request)[shop.path_to(request)]
    plan = Scene(shop, ledger).approved(request)
    plan.die_after_intent()
    key = f"{plan.plan.mitigation}/1/apply"
    shop.action(request).apply(request, plan.step.observed, action_id=key)
    there = shop.call("GET", shop.path_to(request))[1]
    assert shop.call("PUT", shop.path_to(request), {**there, "spec": before})[0] == 200
    result = plan.run()
    ledger.close()

    assert (result.outcome, result.observed_only) == (Outcome.DONE, True)
    assert result.detail.startswith("found by our mark on the target, changed again since: ")
    assert shop.touched(request)[shop.path_to(request)] == before


def test_a_mark_of_a_former_ledger_is_not_ours(
    shop: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that begins anew counts from one again: what is marked with our number was not done by us."""
    monkeypatch.setattr(RestartDeploymentAction, "in_flight", timedelta())
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=utc_now)
    ledger.migrate()
    request = shop.asked("restart")
    shop.patch({"metadata": {"annotations": {ACTION: "INC-1/1/1/apply"}}})
    shop.settled()
    plan = Scene(shop, ledger).approved(request)
    assert f"{plan.plan.mitigation}/1/apply" == "INC-1/1/1/apply"
    plan.die_after_intent()
    result = plan.run()
    ledger.close()

    assert (result.outcome, result.observed_only) == (Outcome.DONE, False)
    template = shop.raw()["spec"]["template"]["metadata"]
    assert template["annotations"][RESTARTED_AT] == request.restarted_at
