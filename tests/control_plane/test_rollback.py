"""Roll back, restart and scale on a real control plane: twice, late, and while somebody fights back."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from activities.k8s import RestartDeploymentAction, RollBackDeploymentAction, ScaleDeploymentAction
from activities.k8s.models import ACTION, REVISION
from contracts.actions import Action, ActionRequest
from contracts.incidents import Effect
from contracts.outcomes import Direction, Outcome, Reached
from contracts.plans import Observation
from tests.activities.k8s.conftest import BAD_IMAGE, DEADLINE, IMAGES, KINDS, Place, now, path_of, until
from tests.control_plane.scene import Approved, Scene, is_ready

pytestmark = pytest.mark.cluster

V1, V2, V3 = IMAGES


def image(place: Place) -> str:
    """Give the image that `web` has."""
    found: str = place.raw()["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def serving(place: Place) -> set[str]:
    """Give the images of the pods that serve."""
    return {pod["spec"]["containers"][0]["image"] for pod in place.pods() if is_ready(pod)}


def release_badly(place: Place) -> None:
    """Deploy a good version and after it one that is to be rolled back."""
    place.deploy()
    place.release(V2)
    place.settled()


# --- twice -------------------------------------------------------------------------------------------------


def test_a_rollback_run_twice_never_rolls_forward(scene: Scene) -> None:
    """Whoever runs a rollback again, by the same plan or an equal one, gets the good version and no other."""
    place = scene.place
    release_badly(place)
    plan = scene.approved(place.roll_back(1))
    equal = scene.approved(place.roll_back(1))
    first, again = plan.run(), plan.run()
    verified = plan.verify()
    after = place.raw()
    late = equal.run()

    assert (first.outcome, again, verified.effect) == (Outcome.DONE, first, Effect.INCONCLUSIVE)
    assert (late.outcome, [one.path for one in late.drift]) == (Outcome.NOT_DONE, ["template_hash"])
    assert after["metadata"]["annotations"] == {REVISION: "3", ACTION: f"{plan.plan.mitigation}/1/apply"}
    assert place.raw()["spec"] == after["spec"]
    assert (image(place), serving(place)) == (V1, {V1})


def test_a_plan_made_after_a_rollback_has_nothing_to_do(scene: Scene) -> None:
    """The same request, planned anew when the version is back, changes nothing: kubectl's undo would."""
    place = scene.place
    release_badly(place)
    request = place.roll_back(1)
    scene.approved(request).run()
    place.settled()
    before = place.raw()["metadata"]["generation"]
    result = scene.approved(request).run()

    assert (result.outcome, result.no_op) == (Outcome.DONE, True)
    assert (place.raw()["metadata"]["generation"], image(place)) == (before, V1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_killed_after_the_call_is_found_out_by_reading(scene: Scene, kind: str) -> None:
    """The next worker finds an intent and the target as it should be, and sends nothing."""
    place = scene.place
    request = place.asked(kind)
    plan = scene.approved(request)
    plan.die_after_intent()
    place.action(request).apply(request, plan.step.observed, action_id="killed")
    sent = place.raw()["metadata"]["generation"]
    result = plan.run()

    assert (result.outcome, result.observed_only) == (Outcome.DONE, True)
    assert place.raw()["metadata"]["generation"] == sent


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_done_once_and_its_undo_too(scene: Scene, kind: str) -> None:
    """Each action settles for real; its undo, where it has one, brings the former spec back, once."""
    place = scene.place
    plan = scene.approved(place.asked(kind))
    before, pods = place.raw()["spec"], place.pod_names()
    first, again = plan.run(), plan.run()
    settled = plan.verify().settled
    done = place.raw()["spec"]
    undone = [plan.run(Direction.UNDO).outcome for _ in range(2)]

    assert (first.outcome, again) == (Outcome.DONE, first)
    assert settled is not None
    assert settled.reached is Reached.YES
    assert done != before
    if kind == "restart":
        until(lambda: pods.isdisjoint(place.pod_names()))
        assert (undone, place.raw()["spec"]) == ([Outcome.NOT_DONE] * 2, done)
    else:
        assert (undone, place.settled()["spec"]) == ([Outcome.DONE] * 2, before)


# --- late --------------------------------------------------------------------------------------------------


def meddle(place: Place, kind: str) -> None:
    """Change what an action of that kind is about, as somebody else would."""
    if kind == "scale":
        place.patch({"spec": {"replicas": 5}})
    else:
        place.release(V3)


@pytest.mark.parametrize("kind", KINDS)
def test_drift_since_the_approval_is_not_overwritten(scene: Scene, kind: str) -> None:
    """What changed between plan and run is found before anything is sent, and stays."""
    place = scene.place
    plan = scene.approved(place.asked(kind))
    meddle(place, kind)
    there = place.raw()["spec"]
    result = plan.run()

    assert (result.outcome, result.before != {}) == (Outcome.NOT_DONE, True)
    assert [one.path for one in result.drift] == ["replicas" if kind == "scale" else "template_hash"]
    assert place.raw()["spec"] == there


def overtaken(base: type[Any], place: Place, meddler: Callable[[], None]) -> Action[Any]:
    """Give an action before whose one call, and after whose last look, somebody else is quicker."""

    class Overtaken(base):  # type: ignore[misc]
        def apply(self, request: ActionRequest, observed: Observation, *, action_id: str) -> None:
            meddler()
            super().apply(request, observed, action_id=action_id)

    overtaken: Action[Any] = Overtaken(place.api, now)
    return overtaken


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        ("restart", RestartDeploymentAction),
        ("roll_back", RollBackDeploymentAction),
        ("scale", ScaleDeploymentAction),
    ],
)
def test_drift_after_the_last_look_is_refused_by_the_server(scene: Scene, kind: str, base: type[Any]) -> None:
    """Between our last look and our call the API server itself is the guard: 422, and nothing is changed."""
    place = scene.place
    plan = scene.approved(place.asked(kind))
    result = plan.run(action=overtaken(base, place, lambda: meddle(place, kind)))
    there = place.settled()["spec"]

    assert result.outcome is Outcome.NOT_DONE
    assert "no longer as it was read just before" in result.detail
    assert [one.path for one in result.drift] == ["replicas" if kind == "scale" else "template_hash"]
    assert there["replicas"] == (5 if kind == "scale" else 3)
    assert image(place) == (V2 if kind == "scale" else V3)


def test_an_undo_does_not_overwrite_who_came_after(scene: Scene) -> None:
    """An undo is due only while our own change is in place: a newer release is not undone with it."""
    place = scene.place
    release_badly(place)
    plan = scene.approved(place.roll_back(1))
    plan.run()
    place.settled()
    place.release(V3)
    result = plan.run(Direction.UNDO)

    assert (result.outcome, image(place)) == (Outcome.NOT_DONE, V3)


# --- somebody fights back ----------------------------------------------------------------------------------


@contextmanager
def self_healing(place: Place, wanted: str) -> Iterator[Callable[[], int]]:
    """Be Argo CD with selfHeal: apply the own manifest whenever the live object differs; count how often."""
    stop = threading.Event()
    healed: list[str] = []

    def heal() -> None:
        while not stop.wait(0.1):
            if image(place) != wanted:
                apply(place, wanted)
                healed.append(wanted)

    thread = threading.Thread(target=heal)
    thread.start()
    try:
        yield lambda: len(healed)
    finally:
        stop.set()
        thread.join()


def apply(place: Place, wanted: str) -> None:
    """Apply the manifest of `web` on the server, as Argo CD does it."""
    labels = {"app": "web"}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": place.namespace},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": wanted}]},
            },
        },
    }
    status, answer = place.call(
        "PATCH",
        place.path,
        body,
        kind="application/apply-patch+yaml",
        fieldManager="argocd-controller",
        force="true",
    )
    assert status in {200, 201}, answer


def synced_release(scene: Scene) -> Approved:
    """Let Argo CD release two versions, and plan to roll the second one back."""
    place = scene.place
    apply(place, V1)
    place.settled()
    apply(place, V2)
    place.settled()
    return scene.approved(place.roll_back(1), within=20)


def test_a_self_healing_controller_is_named_before_and_found_after(scene: Scene) -> None:
    """The plan names who may put it back; when that happens the step is ineffective, and nobody fights on."""
    place = scene.place
    plan = synced_release(scene)
    with self_healing(place, V2) as healed:
        result = plan.run()
        until(healed)
        verified = plan.verify()
        again, undo = plan.run(), plan.run(Direction.UNDO)
        times = healed()

    assert "Argo CD may put back what this changes." in plan.step.blast_radius
    assert (result.outcome, again) == (Outcome.DONE, result)
    assert verified.effect is Effect.INEFFECTIVE
    assert verified.settled is not None
    assert verified.settled.reached is Reached.NO
    assert "did not settle" in verified.detail
    assert f"({V2})" in verified.detail
    assert (undo.outcome, times, image(place)) == (Outcome.NOT_DONE, 1, V2)


def test_a_controller_that_heals_late_is_found_by_looking_again(scene: Scene) -> None:
    """What was reached once is seen to be gone when somebody put it back afterwards, and who that may be."""
    place = scene.place
    plan = synced_release(scene)
    plan.run()
    action = place.action(plan.request)
    until(lambda: action.is_reached(plan.request, action.observe(plan.request)).reached is Reached.YES)
    apply(place, V2)
    seen = action.observe(plan.request)

    assert action.is_reached(plan.request, seen).reached is Reached.NO
    assert seen.state["reverted_by"] == ["Argo CD"]


def test_an_autoscaler_that_comes_later_is_found(scene: Scene) -> None:
    """The real autoscaler puts back a count beyond its limits, and the count is no longer told as reached."""
    place = scene.place
    place.deploy()
    request = place.scale(6)
    plan = scene.approved(request)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"minReplicas": 2, "maxReplicas": 4, "scaleTargetRef": reference}
    path = f"/apis/autoscaling/v2/namespaces/{place.namespace}/horizontalpodautoscalers"
    assert place.call("POST", path, {"metadata": {"name": "web"}, "spec": spec})[0] == 201
    result = plan.run()
    action = place.action(request)
    until(lambda: action.is_reached(request, action.observe(request)).reached is Reached.NO)
    told = action.is_reached(request, action.observe(request)).detail
    undo = plan.run(Direction.UNDO)

    assert (result.outcome, undo.outcome) == (Outcome.DONE, Outcome.NOT_DONE)
    assert "4 pods are wanted there, not 6" in told


# --- what cannot work --------------------------------------------------------------------------------------


def bad_first(place: Place, **spec: Any) -> ActionRequest:
    """Have a good version in place whose former revision cannot be pulled, and ask for that one."""
    place.deploy(BAD_IMAGE, wait=False, **spec)
    until(lambda: place.history().revisions)
    place.release(V1)
    place.settled()
    return place.roll_back(1)


def pull_failures(place: Place) -> set[str]:
    """Give why pods wait."""
    return {
        one["state"].get("waiting", {}).get("reason", "")
        for pod in place.pods()
        for one in pod["status"].get("containerStatuses", ())
    } - {""}


def test_an_unpullable_image_ends_by_our_own_deadline(scene: Scene) -> None:
    """The cluster would wait ten minutes; we say after our time that it did not settle, and go back."""
    place = scene.place
    plan = scene.approved(bad_first(place), within=2)
    result = plan.run()
    verified = plan.verify()
    reasons, left = until(lambda: pull_failures(place)), serving(place)
    undo = plan.run(Direction.UNDO)
    place.settled()

    assert result.outcome is Outcome.DONE
    assert verified.effect is Effect.INEFFECTIVE
    assert verified.settled is not None
    assert verified.settled.reached is Reached.SETTLING
    assert "did not settle" in verified.detail
    assert "of 3 pods have the new template" in verified.detail
    assert reasons <= {"ImagePullBackOff", "ErrImagePull"}
    assert left == {V1}
    assert (undo.outcome, image(place), serving(place)) == (Outcome.DONE, V1, {V1})


def test_an_unpullable_image_ends_as_failed_where_the_cluster_says_so_first(scene: Scene) -> None:
    """A shorter progress deadline of the Deployment's own ends the wait earlier, as failed."""
    place = scene.place
    plan = scene.approved(bad_first(place, progressDeadlineSeconds=DEADLINE), within=30)
    plan.run()
    verified = plan.verify()

    assert verified.effect is Effect.INEFFECTIVE
    assert verified.settled is not None
    assert verified.settled.reached is Reached.FAILED
    assert "exceeded its progress deadline" in verified.detail


def test_owners_delete_what_they_own(place: Place) -> None:
    """The garbage collector runs: with the Deployment its ReplicaSets and pods go, as on any cluster."""
    place.deploy()
    place.call("DELETE", place.path)

    until(lambda: not place.pods())
    assert place.call("GET", path_of("replicasets", place.namespace))[1]["items"] == []
