"""Roll back, restart and scale on a real control plane: twice, late, and while somebody fights back."""

from collections.abc import Callable
from typing import Any

import pytest

from activities import verification
from activities.k8s.models import ACTION, ASKED, REVISION
from contracts.actions import Action, ActionRequest
from contracts.incidents import Effect
from contracts.outcomes import Direction, Outcome, Reached
from contracts.plans import Observation
from tests.activities.k8s.conftest import BAD_IMAGE, KINDS, MERGE, Place, now, path_of, until
from tests.control_plane.scene import V1, V2, V3, Scene, apply, image, is_ready, self_healing, synced_release

pytestmark = pytest.mark.cluster


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
    marks = {ACTION: f"{plan.plan.mitigation}/1/apply", ASKED: plan.request.model_dump()["template_hash"]}
    assert after["metadata"]["annotations"] == {REVISION: "3", **marks}
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
    path = place.path_to(request)
    sent = place.call("GET", path)[1]["metadata"]["annotations"].get(ACTION)
    result = plan.run()

    assert (result.outcome, result.observed_only) == (Outcome.DONE, True)
    assert place.call("GET", path)[1]["metadata"]["annotations"].get(ACTION) == sent


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_done_once_and_its_undo_too(scene: Scene, kind: str) -> None:
    """Each action settles for real; its undo, where it has one, brings the former spec back, once."""
    place = scene.place
    request = place.asked(kind)
    plan = scene.approved(request)
    before, pods = place.touched(request), place.pod_names()
    first, again = plan.run(), plan.run()
    settled = plan.verify().settled
    done = place.touched(request)
    undone = [plan.run(Direction.UNDO).outcome for _ in range(2)]

    assert (first.outcome, again) == (Outcome.DONE, first)
    assert settled is not None
    assert settled.reached is Reached.YES
    assert done != before
    if kind == "restart":
        until(lambda: pods.isdisjoint(place.pod_names()))
        assert (undone, place.touched(request)) == ([Outcome.NOT_DONE] * 2, done)
    else:
        assert undone == [Outcome.DONE] * 2
        # The count that an autoscaler has raised it lowers by metrics only, and there are none.
        after = place.touched(request)
        assert after[place.path_to(request)] == before[place.path_to(request)]


# --- late --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_drift_since_the_approval_is_not_overwritten(scene: Scene, kind: str) -> None:
    """What changed between plan and run is found before anything is sent, and stays."""
    place = scene.place
    request = place.asked(kind)
    plan = scene.approved(request)
    guard = place.meddle(request)
    there = place.touched(request)
    result = plan.run()

    assert (result.outcome, result.before != {}) == (Outcome.NOT_DONE, True)
    assert [one.path for one in result.drift] == [guard]
    assert place.touched(request) == there


def overtaken(base: type[Any], place: Place, meddler: Callable[[], None]) -> Action[Any]:
    """Give an action before whose one call, and after whose last look, somebody else is quicker."""

    class Overtaken(base):  # type: ignore[misc]
        def apply(self, request: ActionRequest, observed: Observation, *, action_id: str) -> None:
            meddler()
            super().apply(request, observed, action_id=action_id)

    overtaken: Action[Any] = Overtaken(place.api, now)
    return overtaken


@pytest.mark.parametrize("kind", KINDS)
def test_drift_after_the_last_look_is_refused_by_the_server(scene: Scene, kind: str) -> None:
    """Between our last look and our call the API server itself is the guard: 422, and nothing is changed."""
    place = scene.place
    request = place.asked(kind)
    plan = scene.approved(request)
    guards: list[str] = []
    base = type(place.action(request))
    result = plan.run(action=overtaken(base, place, lambda: guards.append(place.meddle(request))))

    assert result.outcome is Outcome.NOT_DONE
    assert "no longer as it was read just before" in result.detail
    assert [one.path for one in result.drift] == guards
    assert ACTION not in (place.call("GET", place.path_to(request))[1]["metadata"].get("annotations") or {})


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


def test_what_was_put_back_before_anybody_looked_is_not_sent_again(scene: Scene) -> None:
    """The worker died after its call, and a controller was quicker than the next one: no fight."""
    place = scene.place
    plan = synced_release(scene)
    plan.die_after_intent()
    action = place.action(plan.request)
    action.apply(plan.request, plan.step.observed, action_id=f"{plan.plan.mitigation}/1/apply")
    apply(place, V2)
    before = place.raw()["metadata"]["generation"]
    result, verified = plan.run(), plan.verify()

    assert (result.outcome, result.observed_only) == (Outcome.DONE, True)
    assert "found by our mark on the target, changed again since: " in result.detail
    assert verified.effect is Effect.INEFFECTIVE
    assert (image(place), place.raw()["metadata"]["generation"]) == (V2, before)


def test_a_controller_that_heals_late_is_found_by_looking_again(scene: Scene) -> None:
    """What was reached once is seen to be gone when somebody put it back afterwards, and who that was."""
    place = scene.place
    plan = synced_release(scene)
    plan.run()
    action = place.action(plan.request)
    until(lambda: action.is_reached(plan.request, action.observe(plan.request)).reached is Reached.YES)
    apply(place, V2)
    seen = action.observe(plan.request)

    assert action.is_reached(plan.request, seen).reached is Reached.NO
    assert seen.state["changed_by"] == "argocd-controller"


def test_with_its_sync_paused_a_rollback_stays_until_it_is_undone(scene: Scene) -> None:
    """Pause, roll back: nobody puts it back. Undone in reverse, the controller has its way again."""
    place = scene.place
    spec = {"project": "shop", "syncPolicy": {"automated": {"prune": True, "selfHeal": True}}}
    place.synced("application", spec)
    request = place.sync("application", suspended=True)

    def application() -> dict[str, Any]:
        found: dict[str, Any] = place.call("GET", place.path_to(request))[1]["spec"]
        return found

    back = synced_release(scene)
    pause = scene.approved(request)
    with self_healing(place, V2, automated=lambda: "automated" in application()["syncPolicy"]) as healed:
        paused = pause.run()
        rolled = back.run()
        place.settled()
        stayed = (image(place), healed())
        seen = place.action(back.request).observe(back.request)
        undone = [back.run(Direction.UNDO).outcome, pause.run(Direction.UNDO).outcome]

    assert (paused.outcome, rolled.outcome) == (Outcome.DONE, Outcome.DONE)
    assert (stayed, "changed_by" in seen.state) == ((V1, 0), False)
    assert (undone, application(), image(place)) == ([Outcome.DONE] * 2, spec, V2)


def test_an_autoscaler_that_comes_later_is_found(scene: Scene) -> None:
    """The real autoscaler puts back a count beyond its limits, and the count is no longer told as reached."""
    place = scene.place
    place.deploy()
    request = place.scale(6)
    plan = scene.approved(request)
    place.autoscaled(2, 4)
    result = plan.run()
    action = place.action(request)
    until(lambda: action.is_reached(request, action.observe(request)).reached is Reached.NO)
    told, seen = action.is_reached(request, action.observe(request)).detail, action.observe(request)
    undo = plan.run(Direction.UNDO)

    assert (result.outcome, undo.outcome) == (Outcome.DONE, Outcome.NOT_DONE)
    assert "4 pods are wanted there, not 6" in told
    assert seen.state["changed_by"] == "kube-controller-manager"


# --- what cannot work --------------------------------------------------------------------------------------


def bad_first(place: Place, container: dict[str, Any]) -> ActionRequest:
    """Have a good version in place whose former revision cannot start, and ask for that one."""
    place.deploy(V2, wait=False)
    until(lambda: place.history().revisions)  # else a slow controller makes the next one the first
    template = {"spec": {"containers": [{"name": "web", **container}]}}
    place.patch({"spec": {"template": template}})
    until(lambda: [one.number for one in place.history().revisions] == [2, 1])  # its cache may lag
    place.patch(
        {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": V1, "resources": None}]}}}}
    )
    place.settled()
    return place.roll_back(2)


def test_what_never_starts_ends_by_our_own_deadline(scene: Scene) -> None:
    """The cluster says after ten minutes that it failed; until then a person goes back."""
    place = scene.place
    much = {"resources": {"requests": {"cpu": "5000"}}}  # more than any node has
    plan = scene.approved(bad_first(place, much), within=2)
    result = plan.run()
    verified = plan.verify()
    left = serving(place)
    undo = plan.run(Direction.UNDO)
    place.settled()

    assert result.outcome is Outcome.DONE
    assert verified.settled is not None
    assert verified.settled.reached is Reached.SETTLING, (verified.settled, result.after, plan.request)
    assert verified.effect is Effect.INCONCLUSIVE
    assert "did not settle in time" in verified.detail
    assert "of 3 pods have the new template; Unschedulable: Insufficient cpu" in verified.detail
    assert left == {V1}
    assert (undo.outcome, image(place), serving(place)) == (Outcome.DONE, V1, {V1})


def test_how_the_former_rollout_failed_is_not_said_of_this_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until pods move, a Deployment still says that its bad rollout is over time: not the rollback."""
    monkeypatch.setattr(verification, "SETTLE_EVERY", 0)
    place, half = scene.place, {"maxSurge": "50%", "maxUnavailable": "50%"}
    strategy = {"type": "RollingUpdate", "rollingUpdate": half}
    place.deploy(replicas=10, progressDeadlineSeconds=3, strategy=strategy)
    much = {"name": "web", "image": V2, "resources": {"requests": {"cpu": "5000"}}}
    place.patch({"spec": {"template": {"spec": {"containers": [much]}}}})
    place.settled(Reached.FAILED)
    plan = scene.approved(place.roll_back(1))
    result, settled = plan.run(), plan.verify().settled

    assert result.outcome is Outcome.DONE
    assert settled is not None
    assert settled.reached is Reached.YES, settled


def test_a_policy_that_changes_what_is_restored_does_not_undo_it(scene: Scene) -> None:
    """What admission writes into the template beside is no other release: the bad one stays away."""
    place = scene.place
    release_badly(place)
    name, path = place.namespace, "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolic"
    here = {"matchLabels": {"kubernetes.io/metadata.name": name}}
    updates = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["deployments"],
    }
    annotated = (
        "Object{spec: Object.spec{template: Object.spec.template{metadata:"
        ' Object.spec.template.metadata{annotations: {"policy": "seen"}}}}}'
    )
    made = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": annotated}}
    match = {"namespaceSelector": here, "resourceRules": [updates]}
    policy = {"matchConstraints": match, "reinvocationPolicy": "Never", "mutations": [made]}
    for what, spec in (("ies", policy), ("ybindings", {"policyName": name})):
        status, answer = place.call("POST", path + what, {"metadata": {"name": name}, "spec": spec})
        assert status == 201, answer
    try:
        touched: dict[str, Any] = {"metadata": {"annotations": {"touched": "yes"}}}

        def is_seen() -> bool:
            template = place.call("PATCH", place.path, touched, kind=MERGE, dryRun="All")[1]["spec"][
                "template"
            ]
            return "policy" in template["metadata"].get("annotations", {})

        until(is_seen)
        place.next_second()  # a field manager's time is in whole seconds
        plan = scene.approved(place.roll_back(1), within=10)
        result, verified = plan.run(), plan.verify()
        template = place.raw()["spec"]["template"]
    finally:
        for what in ("ybindings", "ies"):
            place.call("DELETE", f"{path}{what}/{name}")

    assert template["metadata"]["annotations"] == {"policy": "seen"}
    assert (result.outcome, verified.effect) == (Outcome.DONE, Effect.INCONCLUSIVE)
    assert verified.detail == "step 1 settled; nothing was measured"
    assert serving(place) == {V1}


def test_a_quota_that_lets_no_pod_be_made_is_named(scene: Scene) -> None:
    """Where a LimitRange says what pods ask for, only the controller meets the quota, and it is said."""
    place = scene.place
    place.deploy()
    ranges = {"limits": [{"type": "Container", "defaultRequest": {"cpu": "1"}}]}
    for what, spec in (("limitranges", ranges), ("resourcequotas", {"hard": {"requests.cpu": "2"}})):
        path = f"/api/v1/namespaces/{place.namespace}/{what}"
        assert place.call("POST", path, {"metadata": {"name": "tight"}, "spec": spec})[0] == 201
    until(lambda: "used" in place.call("GET", f"{path}/tight")[1]["status"])
    plan = scene.approved(place.scale(8), within=2)
    plan.run()
    verified = plan.verify()

    assert verified.effect is Effect.INCONCLUSIVE
    assert "of 8 pods serve; exceeded quota: tight, requested: requests.cpu=1" in verified.detail


def test_an_unpullable_image_is_said_plainly_and_rolled_forward_from(scene: Scene) -> None:
    """The kubelet's word ends the wait long before any deadline, and the undo restores what was released."""
    place = scene.place
    plan = scene.approved(bad_first(place, {"image": BAD_IMAGE}), within=30)
    result = plan.run()
    verified = plan.verify()
    left = serving(place)
    undo = plan.run(Direction.UNDO)
    place.settled()

    assert (result.outcome, verified.effect) == (Outcome.DONE, Effect.INEFFECTIVE)
    assert verified.settled is not None
    assert verified.settled.reached is Reached.FAILED
    assert f"cannot pull its image (ImagePullBackOff: Back-off pulling image {BAD_IMAGE})" in verified.detail
    assert left == {V1}
    assert (undo.outcome, image(place), serving(place)) == (Outcome.DONE, V1, {V1})


def test_owners_delete_what_they_own(place: Place) -> None:
    """The garbage collector runs: with the Deployment its ReplicaSets and pods go, as on any cluster."""
    place.deploy()
    place.call("DELETE", place.path)

    until(lambda: not place.pods())
    assert place.call("GET", path_of("replicasets", place.namespace))[1]["items"] == []
