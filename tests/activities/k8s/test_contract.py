"""What our actions rely on of Kubernetes and what they do: the same tests on the fake and on a real one.

Set KUBECONFIG_TEST to a kubeconfig (JSON, an admin's) to run them on that cluster too.
"""

import json
from typing import Any

import pytest

from activities.k8s import RollBackDeployment, RolloutStatus, RolloutStatusProbe
from activities.k8s.fake import Rule, manifest
from activities.k8s.models import ACTION, ASKED, RESTARTED_AT, REVISION, STUCK, template_hash
from contracts.errors import ActionRefusedError, PreconditionFailedError
from contracts.outcomes import Reached
from tests.activities.k8s.conftest import (
    AUTOMATED,
    BAD_IMAGE,
    DEADLINE,
    IMAGES,
    KINDS,
    MERGE,
    REAL,
    Place,
    now,
    path_of,
    until,
)

V1, V2, V3 = IMAGES
JSON_PATCH = "application/json-patch+json"


@pytest.mark.cluster
@pytest.mark.skipif(not REAL, reason="KUBECONFIG_TEST names no kubeconfig: the contract ran on the fake only")
def test_the_contract_runs_on_a_real_cluster_too() -> None:
    """The report says when only the fake was asked."""


# --- what we rely on ---------------------------------------------------------------------------------------


def test_a_new_object_is_given_its_metadata(place: Place) -> None:
    """An object has a uid, a resource version, a generation and a time from the server."""
    metadata = place.deploy(wait=False)["metadata"]

    assert metadata["generation"] == 1
    assert {"uid", "resourceVersion", "creationTimestamp"} <= metadata.keys()


def test_generation_counts_spec_and_annotations_only(place: Place) -> None:
    """Status and labels move the resource version and not the generation: that is why we test generations."""
    first = place.deploy()["metadata"]
    labelled = place.patch({"metadata": {"labels": {"a": "b"}}})["metadata"]
    annotated = place.patch({"metadata": {"annotations": {"a": "b"}}})["metadata"]
    scaled = place.patch({"spec": {"replicas": 2}})["metadata"]
    settled = place.settled()["metadata"]

    generations = [one["generation"] for one in (first, labelled, annotated, scaled, settled)]
    assert generations == [1, 1, 2, 3, 3]
    assert settled["resourceVersion"] != scaled["resourceVersion"]


def test_a_failed_test_in_a_patch_is_told_from_an_invalid_object(place: Place) -> None:
    """Both are a 422 that changes nothing; only the invalid object has causes."""
    before = place.deploy()
    test = {"op": "test", "path": "/metadata/generation", "value": 99}
    status, failed = place.call("PATCH", place.path, [test], kind=JSON_PATCH)
    less = {"op": "replace", "path": "/spec/replicas", "value": -1}
    invalid_status, invalid = place.call("PATCH", place.path, [less], kind=JSON_PATCH)

    assert (status, invalid_status) == (422, 422)
    assert not failed.get("details", {}).get("causes")
    assert invalid["details"]["causes"]
    assert place.raw() == before


def test_a_stale_resource_version_conflicts(place: Place) -> None:
    """A merge patch and a PUT with an older resource version are a 409."""
    old = place.deploy()
    place.patch({"metadata": {"labels": {"moved": "on"}}})
    stale = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"], "labels": {"a": "b"}}}

    assert place.call("PATCH", place.path, stale, kind=MERGE)[0] == 409
    assert place.call("PUT", place.path, old)[0] == 409


def test_a_restored_template_takes_its_replica_set_again(place: Place) -> None:
    """The ReplicaSet of a restored template gets the next number and remembers the former one."""
    first = place.deploy()
    place.release(V2)
    place.settled()
    place.patch(
        [{"op": "replace", "path": "/spec/template", "value": first["spec"]["template"]}], kind=JSON_PATCH
    )
    after = place.settled()
    _, sets = place.call("GET", path_of("replicasets", place.namespace), labelSelector="app=web")
    marks = {
        one["spec"]["template"]["spec"]["containers"][0]["image"]: one["metadata"]["annotations"]
        for one in sets["items"]
    }

    assert after["metadata"]["annotations"][REVISION] == "3"
    assert marks[V1][REVISION] == "3"
    assert marks[V1]["deployment.kubernetes.io/revision-history"] == "1"
    assert marks[V2][REVISION] == "2"


def test_label_selectors_select(place: Place) -> None:
    """A list gives what its selector selects, in each of the selector's forms."""
    place.deploy()
    selectors = ("app=web", "app!=web", "app in (web,api)", "app notin (web)", "app", "!app", "app=web,x")
    found = {selector: len(place.pods(labelSelector=selector)) for selector in selectors}

    assert found == {
        "app=web": 3,
        "app!=web": 0,
        "app in (web,api)": 3,
        "app notin (web)": 0,
        "app": 3,
        "!app": 0,
        "app=web,x": 0,
    }


def test_pods_tell_their_image_and_whether_they_serve(place: Place) -> None:
    """A pod has its template's labels and image, an owner, and the condition Ready."""
    place.deploy()
    pods = place.pods()
    ready = [[one["status"] for one in pod["status"]["conditions"] if one["type"] == "Ready"] for pod in pods]

    assert [pod["spec"]["containers"][0]["image"] for pod in pods] == [V1] * 3
    assert {pod["metadata"]["ownerReferences"][0]["kind"] for pod in pods} == {"ReplicaSet"}
    assert all("pod-template-hash" in pod["metadata"]["labels"] for pod in pods)
    assert ready == [["True"]] * 3


def test_a_deleted_pod_is_replaced(place: Place) -> None:
    """The ReplicaSet has another pod in its place."""
    place.deploy()
    gone = min(place.pod_names())
    place.call("DELETE", path_of("pods", place.namespace, gone), gracePeriodSeconds="0")
    until(lambda: len(place.pod_names() - {gone}) == 3)
    place.settled()

    assert gone not in place.pod_names()


def test_zero_replicas_are_left_out_of_the_scale(place: Place) -> None:
    """A scale at zero has no field `replicas`, so that a patch cannot test or replace it."""
    place.deploy(replicas=0)
    status, scale = place.call("GET", f"{place.path}/scale")

    assert status == 200
    assert scale["spec"] == {}
    assert scale["metadata"]["uid"] == place.raw()["metadata"]["uid"]


def test_a_dry_run_validates_and_changes_nothing(place: Place) -> None:
    """A dry run answers what would be, refuses what would be refused, and stores nothing."""
    before = place.deploy()
    more = [{"op": "replace", "path": "/spec/replicas", "value": 7}]
    less = [{"op": "replace", "path": "/spec/replicas", "value": -7}]
    status, answer = place.call("PATCH", place.path, more, kind=JSON_PATCH, dryRun="All")

    assert status == 200
    assert answer["spec"]["replicas"] == 7
    assert place.call("PATCH", place.path, less, kind=JSON_PATCH, dryRun="All")[0] == 422
    assert place.raw() == before


def test_field_managers_are_noted(place: Place) -> None:
    """What we change is noted under our name, with the subresource."""
    place.deploy()
    place.run(place.restart())
    place.run(place.scale(2))
    noted = {(one["manager"], one.get("subresource", "")) for one in place.raw()["metadata"]["managedFields"]}

    assert {("stanch", ""), ("stanch", "scale")} <= noted


def test_what_is_not_there_is_told_by_kind(place: Place) -> None:
    """A missing object, namespace or API is a 404, an object that is there already a 409."""
    body = place.deploy()
    missing = place.call("GET", f"{place.path}-2")
    body["metadata"] = {"name": "web"}
    other = place.path.replace(place.namespace, "no-such-namespace").removesuffix("/web")

    assert missing[0] == 404
    assert (missing[1]["reason"], missing[1]["details"]["kind"]) == ("NotFound", "deployments")
    assert place.call("POST", place.path.removesuffix("/web"), body)[0] == 409
    assert place.call("POST", other, body)[0] == 404
    assert place.call("GET", "/apis/apps/v7/namespaces/x/deployments/web")[0] == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("/metadata/labels", {"a b": "x"}),
        ("/metadata/labels", {"a": "x y"}),
        ("/metadata/annotations", {"/a": "x"}),
        ("/metadata/annotations", {"a": "x" * 262_145}),
        ("/spec/template/metadata/labels", {"app": "other"}),
        ("/spec/template/spec/containers", []),
        ("/spec/selector/matchLabels", {"app": "other"}),
    ],
)
def test_what_is_not_valid_is_refused(place: Place, field: str, value: Any) -> None:
    """Marks that are no marks, templates that are no templates, and another selector are a 422."""
    place.deploy(wait=False)
    status, answer = place.call(
        "PATCH", place.path, [{"op": "add", "path": field, "value": value}], kind=JSON_PATCH
    )

    assert status == 422
    assert answer["details"]["causes"]


def test_a_missing_deployment_is_told_in_one_sentence(place: Place) -> None:
    """Our client names what is not there, whether the namespace is there or not."""
    where = f"{place.namespace}/web in cluster demo"
    elsewhere = RolloutStatus(cluster="demo", namespace="no-such-namespace", name="web")

    with pytest.raises(ActionRefusedError, match=f"^{where}: no such deployment$"):
        place.status()
    with pytest.raises(ActionRefusedError, match=r"^no-such-namespace/web in cluster demo: "):
        RolloutStatusProbe(place.api, now).look(elsewhere)


# --- what our probes and actions do ------------------------------------------------------------------------


def test_history_tells_the_revisions(place: Place) -> None:
    """The history has each revision with number, image, template, annotations and which one is current."""
    place.deploy()
    good = place.history().revisions[0].kept_in.removeprefix("web-")
    place.patch({"metadata": {"annotations": {"stanch.dev/verified-good": good}}})
    place.settled()
    place.release(V2, annotations={"stanch.dev/verified-good": None, "kubernetes.io/change-cause": "v2"})
    place.settled()
    revisions = until(lambda: place.history().revisions)

    assert [(one.number, one.images, one.current, one.pods) for one in revisions] == [
        (2, (V2,), True, 3),
        (1, (V1,), False, 0),
    ]
    assert revisions[0].annotations == {"kubernetes.io/change-cause": "v2"}
    assert revisions[1].annotations == {"stanch.dev/verified-good": good}
    assert [good in one.hashes for one in revisions] == [False, True]
    assert (now() - revisions[1].created_at).total_seconds() < 120


def test_a_restart_replaces_every_pod(place: Place) -> None:
    """After a restart all pods are other ones, the template has the time, the Deployment the action's id."""
    place.deploy()
    before = place.pod_names()
    place.run(place.restart(), "INC-7/1/1/apply")
    after = place.raw()

    assert after["spec"]["template"]["metadata"]["annotations"] == {RESTARTED_AT: "2026-01-31T03:04:05Z"}
    assert after["metadata"]["annotations"][ACTION] == "INC-7/1/1/apply"
    until(lambda: before.isdisjoint(place.pod_names()))


def test_a_restart_done_is_not_done_again(place: Place) -> None:
    """The same restart has no difference to make, and applying it sends nothing."""
    place.deploy()
    request = place.restart()
    place.run(request)
    before = place.raw()["metadata"]["generation"]
    action = place.action(request)
    observed = action.observe(request)
    action.apply(request, observed, action_id="again")

    assert action.change(request, observed) == ()
    assert place.raw()["metadata"]["generation"] == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_patch_is_accepted_once(place: Place, kind: str) -> None:
    """Applying twice from one observation is turned away by the server the second time."""
    request = place.asked(kind)
    action = place.action(request)
    observed = action.observe(request)
    action.apply(request, observed, action_id="once")

    with pytest.raises(PreconditionFailedError, match="no longer as it was read"):
        action.apply(request, observed, action_id="twice")


def test_a_patch_that_arrives_late_does_nothing_where_all_is_as_before(place: Place) -> None:
    """Paused, resumed by somebody with the same words, and the first patch again: our mark tells it off."""
    request = place.asked("pause_application")
    action = place.action(request)
    observed = action.observe(request)
    action.apply(request, observed, action_id="once")
    spec = {"spec": {"syncPolicy": {"automated": AUTOMATED, "syncOptions": ["A=b"]}}}
    assert place.call("PATCH", place.path_to(request), spec, kind=MERGE)[0] == 200
    resumed = place.touched(request)

    with pytest.raises(PreconditionFailedError):
        action.apply(request, observed, action_id="once")
    assert place.touched(request) == resumed
    action.apply(request, action.observe(request), action_id="again")
    assert place.touched(request) != resumed


def test_annotations_that_came_meanwhile_are_not_lost(place: Place) -> None:
    """What had no annotations when it was read, and got one before our patch, keeps that one."""
    request = place.asked("pause_application")
    action = place.action(request)
    observed = action.observe(request)
    note = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "hard"}}}
    assert place.call("PATCH", place.path_to(request), note, kind=MERGE)[0] == 200

    with pytest.raises(PreconditionFailedError):
        action.apply(request, observed, action_id="late")
    action.apply(request, action.observe(request), action_id="now")
    after = place.call("GET", place.path_to(request))[1]["metadata"]["annotations"]
    assert after == {**note["metadata"]["annotations"], ACTION: "now"}


def test_a_policy_that_came_meanwhile_is_not_lost(place: Place) -> None:
    """An Application that had no sync policy when it was read, and one before our patch, keeps that."""
    place.synced("application", {"project": "shop"})
    request = place.sync("application", suspended=False, restore=AUTOMATED)
    action = place.action(request)
    observed = action.observe(request)
    options = {"spec": {"syncPolicy": {"syncOptions": ["A=b"]}}}
    assert place.call("PATCH", place.path_to(request), options, kind=MERGE)[0] == 200

    with pytest.raises(PreconditionFailedError):
        action.apply(request, observed, action_id="late")
    action.apply(request, action.observe(request), action_id="now")
    after = place.call("GET", place.path_to(request))[1]["spec"]["syncPolicy"]
    assert after == {"automated": AUTOMATED, "syncOptions": ["A=b"]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_changed_since_it_was_read_is_left_alone(place: Place, kind: str) -> None:
    """Somebody else's release or scaling between reading and applying voids the call."""
    request = place.asked(kind)
    action = place.action(request)
    observed = action.observe(request)
    guard = place.meddle(request)
    now_there = place.touched(request)
    seen = action.observe(request)

    with pytest.raises(PreconditionFailedError):
        action.apply(request, observed, action_id="late")
    assert place.touched(request) == now_there
    assert [key for key in seen.guard if seen.guard[key] != observed.guard[key]] == [guard]


def test_status_noise_voids_nothing(place: Place) -> None:
    """While a rollout goes on the guards stay as they are."""
    place.deploy(wait=False)
    requests: list[Any] = [place.restart(), place.scale(4)]
    early = [place.action(one).observe(one).guard for one in requests]
    place.settled()
    late = [place.action(one).observe(one).guard for one in requests]

    assert early == late


@pytest.mark.parametrize("kind", KINDS)
def test_a_deployment_made_anew_is_another_target(place: Place, kind: str) -> None:
    """The same name with another uid voids an approval, and the call."""
    request = place.asked(kind)
    action = place.action(request)
    observed = action.observe(request)
    place.clear()
    place.asked(kind)

    with pytest.raises(PreconditionFailedError):
        action.apply(request, observed, action_id="x")
    assert action.observe(request).guard != observed.guard


def test_a_rollback_restores_template_and_annotations(place: Place) -> None:
    """A rollback brings a revision's template and annotations back, as kubectl does, and tells so before."""
    place.deploy()
    place.patch({"metadata": {"annotations": {"kubernetes.io/change-cause": "first", "team": "a"}}})
    place.settled()
    place.release(V2, annotations={"kubernetes.io/change-cause": "second", "since": "then", "team": None})
    place.settled()
    request = until(lambda: place.roll_back(1))
    action = place.action(request)
    changes = {one.path: (one.before, one.after) for one in action.change(request, action.observe(request))}
    place.run(request, "INC-7/2/1/apply")
    after = place.raw()

    assert changes == {
        "spec.template.spec.containers[web].image": (V2, V1),
        "metadata.annotations[kubernetes.io/change-cause]": ("second", "first"),
        "metadata.annotations[since]": ("then", None),
        "metadata.annotations[team]": (None, "a"),
    }
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == V1
    assert after["metadata"]["annotations"] == {
        REVISION: "3",
        "kubernetes.io/change-cause": "first",
        "team": "a",
        ACTION: "INC-7/2/1/apply",
        ASKED: request.template_hash,
    }


def test_what_the_tools_have_annotated_stays_in_a_rollback(place: Place) -> None:
    """Who has told Flux to leave a deployment alone is not overruled by the revision from before that."""
    place.deploy()
    told = {
        "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
        "argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/web",
        "meta.helm.sh/release-name": "shop",
    }
    place.release(V2, annotations=told)
    place.settled()
    request = until(lambda: place.roll_back(1))
    action = place.action(request)
    changes = [one.path for one in action.change(request, action.observe(request))]
    place.run(request)

    assert changes == ["spec.template.spec.containers[web].image"]
    assert place.raw()["metadata"]["annotations"].items() >= told.items()


def test_what_admission_makes_of_a_rollback_is_the_rollback(place: Place) -> None:
    """A policy's label in the template, written in our name, is no other release; another's is."""
    place.deploy()
    place.release(V2)
    place.settled()
    place.next_second()  # a field manager's time is in whole seconds
    request = place.roll_back(1)
    place.run(request)
    action = place.action(request)

    def reached() -> Reached:
        found: Reached = action.is_reached(request, action.observe(request)).reached
        return found

    def label(text: str, manager: str) -> None:
        body = {"spec": {"template": {"metadata": {"annotations": {"policy": text}}}}}
        assert place.call("PATCH", place.path, body, kind=MERGE, fieldManager=manager)[0] == 200
        place.settled()

    label("seen", "stanch")
    admitted = (reached(), action.change(request, action.observe(request)))
    place.next_second()
    label("other", "kubectl-edit")
    changed = reached()
    place.next_second()
    place.run(place.restart())

    assert admitted == (Reached.YES, ())
    assert (changed, reached()) == (Reached.NO, Reached.NO)


def test_a_restart_by_somebody_else_takes_no_rollback_back(place: Place) -> None:
    """Restarted by kubectl afterwards it is the same release: nothing was changed back, and it is undone."""
    request = place.asked("roll_back")
    observed = place.run(request)
    action = place.action(request)
    again = {"metadata": {"annotations": {RESTARTED_AT: "2026-02-28T03:04:05Z"}}}
    body = {"spec": {"template": again}}
    assert place.call("PATCH", place.path, body, kind=MERGE, fieldManager="kubectl-rollout")[0] == 200
    place.settled()
    seen = action.observe(request)
    undo, _ = action.undo(request, observed)

    assert action.is_reached(request, seen).reached is Reached.YES
    assert "changed_by" not in seen.state
    place.run(undo)
    assert place.raw()["spec"]["template"]["spec"]["containers"][0]["image"] == V2


def test_who_has_made_a_deployment_is_named(place: Place) -> None:
    """What an operator keeps may be put back by it, which the approver reads before."""
    place.deploy()
    made = {"apiVersion": "v1", "kind": "Shop", "name": "mine", "uid": place.raw()["metadata"]["uid"]}
    place.patch({"metadata": {"ownerReferences": [{**made, "controller": True}]}}, kind=MERGE)
    for request in (place.restart(), place.scale(4)):
        action = place.action(request)
        said = action.blast_radius(request, action.observe(request))

        assert " Shop mine has made it, and may put back what this changes." in said


def test_a_replica_sets_template_is_restored_without_its_hash(place: Place) -> None:
    """Who takes the template from a ReplicaSet need not clean it; its ReplicaSet is found again."""
    place.deploy()
    name = place.history().revisions[0].kept_in
    _, replica_set = place.call("GET", path_of("replicasets", place.namespace, name))
    template = replica_set["spec"]["template"]
    place.release(V2)
    place.settled()
    place.run(
        RollBackDeployment(
            **place.where, revision=1, template=template, template_hash=template_hash(template)
        )
    )

    assert "pod-template-hash" in template["metadata"]["labels"]
    assert place.raw()["spec"]["template"]["metadata"]["labels"] == {"app": "web"}
    assert [(one.number, one.kept_in == name) for one in place.history().revisions] == [
        (3, True),
        (2, False),
    ]


def test_a_mark_on_a_revision_stays_there(place: Place) -> None:
    """A mark of ours on a ReplicaSet is seen in the history and does not wander by a rollback."""
    place.deploy()
    name = place.history().revisions[0].kept_in
    replica_set = place.call("GET", path_of("replicasets", place.namespace, name))[1]
    good = replica_set["metadata"]["labels"]["pod-template-hash"]
    mark = {"metadata": {"annotations": {"stanch.dev/verified-good": good}}}
    assert place.call("PATCH", path_of("replicasets", place.namespace, name), mark, kind=MERGE)[0] == 200
    place.release(V2)
    place.settled()
    request = place.roll_back(1)
    place.run(request)
    place.release(V3)
    place.settled()
    found = place.history().revisions
    marked = {one.images: one.annotations.get("stanch.dev/verified-good") in one.hashes for one in found}

    assert request.annotations == {"stanch.dev/verified-good": good}
    assert marked == {(V3,): False, (V2,): False, (V1,): True}


def test_an_undone_rollback_is_as_before(place: Place) -> None:
    """The undo of a rollback restores the template and the annotations that were there."""
    place.deploy()
    place.release(V2, annotations={"team": "b"})
    place.settled()
    request = place.roll_back(1)
    before = place.raw()
    observed = place.run(request)
    undo, note = place.action(request).undo(request, observed)
    assert undo is not None
    place.run(RollBackDeployment.model_validate(undo.model_dump(mode="json")), "INC-1/1/1/undo")
    after = place.raw()

    assert "revision 2" in note
    assert after["spec"] == before["spec"]
    marks = {ACTION: "INC-1/1/1/undo", ASKED: undo.template_hash}
    assert after["metadata"]["annotations"] == {REVISION: "4", "team": "b", **marks}


def test_a_rollback_to_what_is_there_is_nothing(place: Place) -> None:
    """Where the template is already that of the revision there is no difference to make."""
    place.deploy()
    request = place.roll_back(1)
    action = place.action(request)
    observed = action.observe(request)

    assert action.change(request, observed) == ()
    assert action.preflight(request, observed) == ()
    assert action.is_reached(request, observed).reached is Reached.YES


def test_a_rollback_gets_out_of_a_bad_release(place: Place) -> None:
    """A release that cannot start is told as failed while the old pods serve, and a rollback ends it."""
    place.deploy(progressDeadlineSeconds=DEADLINE)
    place.release(BAD_IMAGE)
    place.settled(Reached.FAILED)
    counted = "1 of 3 pods have the new template, 3 serve"  # by the controller, after the kubelet's word
    failed = until(lambda: said if counted in (said := place.status().detail) else "")
    request = place.roll_back(1)
    action = place.action(request)
    radius = action.blast_radius(request, action.observe(request))
    place.run(request)

    assert "cannot pull its image (ImagePullBackOff: " in failed
    assert "Its last rollout is not complete." in radius
    assert place.status().reached is Reached.YES


@pytest.mark.parametrize("kind", ["deployment", "stateful_set", "daemon_set"])
def test_a_rollback_to_an_image_that_cannot_be_pulled_fails_plainly_and_goes_forward_again(
    place: Place, kind: str
) -> None:
    """The image is named long before any deadline, and the undo restores the release that was there."""
    place.kind = kind
    place.deploy(BAD_IMAGE, wait=False)
    until(lambda: place.history().revisions)
    clear_way(place, V1)
    request = place.roll_back(1)
    action = place.action(request)
    before = action.observe(request)
    action.apply(request, before, action_id="x")
    until(lambda: action.is_reached(request, action.observe(request)).reached is Reached.FAILED)
    said = action.is_reached(request, action.observe(request)).detail
    undo, _ = action.undo(request, before)
    action.apply(undo, action.observe(undo), action_id="y")
    clear_way(place)

    assert "the rollout cannot pull its image (ImagePullBackOff: " in said
    assert action.is_reached(undo, action.observe(undo)).reached is Reached.YES
    assert place.raw()["spec"]["template"]["spec"]["containers"][0]["image"] == V1


def clear_way(place: Place, image: str = "") -> None:
    """Release an image, and delete the pods of a StatefulSet that would hold it up, as a person has to."""
    if image:
        place.release(image)

    def serves() -> bool:
        # Again and again: a controller that has not seen the release yet makes the same pod once more.
        for pod in place.pods() if place.kind == "stateful_set" else ():
            if pod["spec"]["containers"][0]["image"] == BAD_IMAGE:
                path = path_of("pods", place.namespace, pod["metadata"]["name"])
                place.call("DELETE", path, gracePeriodSeconds="0")
        return place.status().reached is Reached.YES

    until(serves)


def test_a_stateful_set_that_is_stuck_says_what_to_do(place: Place) -> None:
    """It goes on to no other pod while one never gets ready, whichever template that has."""
    place.kind = "stateful_set"
    place.deploy()
    place.release(BAD_IMAGE)
    place.settled(Reached.FAILED)
    request = place.roll_back(1)
    action = place.action(request)
    action.apply(request, action.observe(request), action_id="x")
    until(lambda: place.status().detail.endswith(f"have the new template; {STUCK}"))
    clear_way(place)

    assert action.is_reached(request, action.observe(request)).reached is Reached.YES


def test_a_revision_that_the_history_lost_is_restored_from_the_plan(place: Place) -> None:
    """The request carries the template, so a pruned ReplicaSet is told and does not matter."""
    place.deploy(revisionHistoryLimit=0)
    request = place.roll_back(1)
    place.release(V2)
    place.settled()
    until(lambda: len(place.history().revisions) == 1)
    action = place.action(request)
    radius = action.blast_radius(request, action.observe(request))
    place.run(request)

    assert "The history has lost that revision" in radius
    assert place.raw()["spec"]["template"]["spec"]["containers"][0]["image"] == V1


@pytest.mark.parametrize("kind", ["restart", "roll_back"])
def test_a_paused_deployment_is_refused_beforehand(place: Place, kind: str) -> None:
    """Nothing rolls out while it is paused, so the plan says so; pausing later voids an approval."""
    request = place.asked(kind)
    action = place.action(request)
    before = action.observe(request)
    place.patch({"spec": {"paused": True}})
    observed = action.observe(request)

    assert action.preflight(request, observed) == (
        f"{place.namespace}/web in cluster demo: it is paused; resume it first (kubectl rollout resume)",
    )
    assert before.guard != observed.guard


def test_a_paused_release_never_settles(place: Place) -> None:
    """A template that was changed under a pause is told as paused, and rolls out when it is resumed."""
    place.deploy()
    place.patch({"spec": {"paused": True}})
    place.release(V2)
    until(lambda: "it is paused" in place.status().detail)
    paused = place.status()
    place.patch({"spec": {"paused": None}})
    place.settled()

    assert paused.reached is Reached.SETTLING


@pytest.mark.parametrize("steps", [(5, 2), (0, 3), (1, 0, 1)])
def test_scaling_goes_up_and_down_and_to_zero_and_back(place: Place, steps: tuple[int, ...]) -> None:
    """Each count is reached, and the undo of each is the count before."""
    place.deploy()
    before = 3
    for count in steps:
        request = place.scale(count)
        observed = place.run(request)
        undo, _ = place.action(request).undo(request, observed)

        assert undo == place.scale(before)
        assert len(place.pods()) == count
        before = count


def test_scaling_what_cannot_start_settles_into_failed(place: Place) -> None:
    """More pods of an image that cannot be pulled are never told as reached."""
    place.deploy(BAD_IMAGE, wait=False, replicas=1, progressDeadlineSeconds=DEADLINE)
    place.settled(Reached.FAILED)
    request = place.scale(2)
    action = place.action(request)
    action.apply(request, action.observe(request), action_id="x")
    until(lambda: action.is_reached(request, action.observe(request)).reached is Reached.FAILED)

    assert "0 of 2 pods serve" in action.is_reached(request, action.observe(request)).detail


def test_an_autoscaled_deployment_is_refused_beforehand(place: Place) -> None:
    """Where an autoscaler owns the count, the plan names it and its limits; another one's does not matter."""
    place.deploy()
    request = place.scale(5)
    action = place.action(request)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}
    other = {"metadata": {"name": "other"}, "spec": {"maxReplicas": 9, "scaleTargetRef": reference}}
    path = path_of("horizontalpodautoscalers", place.namespace)
    assert place.call("POST", path, other)[0] == 201
    alone = action.preflight(request, action.observe(request))
    place.autoscaled()
    owned = action.preflight(request, action.observe(request))

    assert alone == ()
    where = f"{place.namespace}/web in cluster demo"
    said = "autoscaler web (2 to 9) owns its count and would set it again"
    assert owned == (f"{where}: {said}; change the autoscaler's limits instead",)


@pytest.mark.parametrize("kind", ["stateful_set", "daemon_set"])
def test_a_set_has_a_history_and_goes_back_in_it(place: Place, kind: str) -> None:
    """ControllerRevisions are the history; a restored one gets the next number, and nothing else changes."""
    place.kind = kind
    place.deploy()
    first = place.raw()
    place.release(V2, annotations={"team": "b"})
    place.settled()
    history = until(lambda: place.history() if len(place.history().revisions) > 1 else None)
    request = place.roll_back(1)
    place.run(request, "INC-7/2/1/apply")
    after = place.raw()

    assert [(one.number, one.images, one.current) for one in history.revisions] == [
        (2, (V2,), True),
        (1, (V1,), False),
    ]
    assert request.annotations is None
    assert after["spec"] == first["spec"]
    own = {key: value for key, value in after["metadata"]["annotations"].items() if "deprecated" not in key}
    assert own == {"team": "b", ACTION: "INC-7/2/1/apply", ASKED: request.template_hash}
    until(lambda: [one.number for one in place.history().revisions if one.current] == [3])
    assert {pod["spec"]["containers"][0]["image"] for pod in place.pods()} == {V1}


@pytest.mark.parametrize("kind", ["stateful_set", "daemon_set"])
def test_a_set_that_waits_for_deletions_is_refused_beforehand(place: Place, kind: str) -> None:
    """With OnDelete a new template reaches no pod by itself: neither a restart nor a rollback would help."""
    place.kind = kind
    place.deploy(updateStrategy={"type": "OnDelete"})
    place.release(V2)
    until(lambda: len(place.history().revisions) > 1)
    requests: list[Any] = [place.restart(), place.roll_back(1)]
    said = [" ".join(place.action(one).preflight(one, place.action(one).observe(one))) for one in requests]

    assert [one.partition(": ")[2].partition(",")[0] for one in said] == [
        "its update strategy is OnDelete"
    ] * 2


def test_a_partition_is_kept(place: Place) -> None:
    """A StatefulSet that is released in part goes back in that part, and says which pods it leaves alone."""
    place.kind = "stateful_set"
    place.deploy(updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})
    place.release(V2)
    place.settled()
    part = sorted(pod["spec"]["containers"][0]["image"] for pod in place.pods())
    done = place.status().detail
    request = place.roll_back(1)
    radius = place.action(request).blast_radius(request, place.action(request).observe(request))
    place.run(request)

    assert part == [V1, V1, V2]
    assert done.endswith("all 1 pods are new and serve; its partition keeps 2 as they were")
    assert "Its partition keeps 2 pods as they are." in radius
    assert {pod["spec"]["containers"][0]["image"] for pod in place.pods()} == {V1}


# --- data, images, owners and who changed what -------------------------------------------------------------


def marked(place: Place, image: str, **annotations: str | None) -> None:
    """Release an image whose pod template declares something."""
    marks = {f"stanch.dev/{key}": value for key, value in annotations.items()}
    containers = [{"name": "web", "image": image}]
    template = {"metadata": {"annotations": marks}, "spec": {"containers": containers}}
    place.patch({"spec": {"template": template}})
    place.settled()


@pytest.mark.parametrize("kind", ["deployment", "stateful_set"])
def test_a_release_that_cannot_work_with_the_data_is_refused(place: Place, kind: str) -> None:
    """What any later release has done to the data counts, and the refusal names it and both annotations."""
    place.kind = kind
    place.deploy()
    marked(place, V2, **{"schema": "7", "schema-back-to": "7"})
    marked(place, V3, **{"schema": "8", "schema-back-to": None})  # the one before counts all the same
    numbers = {one.images[0]: one.number for one in place.history().revisions}
    old, good = place.roll_back(1), place.roll_back(numbers[V2])
    action = place.action(old)

    assert action.preflight(good, action.observe(good)) == ()
    refusals = action.preflight(old, action.observe(old))
    assert len(refusals) == 1
    assert "has changed the stored data: with it work releases of schema 7 or later" in refusals[0]
    assert "(stanch.dev/schema-back-to); this one declares none (stanch.dev/schema)" in refusals[0]


def test_images_that_run_now_are_known(place: Place) -> None:
    """A revision with the images of the pods that serve needs no warning that they may be gone."""
    place.deploy()
    place.patch({"spec": {"template": {"metadata": {"annotations": {"config": "2"}}}}})
    place.settled()
    request = until(lambda: place.roll_back(1))

    assert place.action(request).observe(request).state["images_run"]


@pytest.mark.parametrize("kind", KINDS)
def test_who_changed_it_back_is_in_the_state(place: Place, kind: str) -> None:
    """The manager that put another value there is told while it is there, and nobody once it is as wanted."""
    request = place.asked(kind)
    place.run(request)
    action = place.action(request)
    done = action.observe(request)
    place.meddle(request, manager="argocd-controller")
    back = action.observe(request)

    assert "changed_by" not in done.state
    assert action.is_reached(request, back).reached is Reached.NO
    assert back.state["changed_by"] == "argocd-controller"
    assert "changed_by" not in back.guard


def test_a_namespace_without_room_is_refused_with_numbers(place: Place) -> None:
    """More pods than a quota has room for are refused; what there is room for is shown to the approver."""
    place.deploy()
    path = f"/api/v1/namespaces/{place.namespace}/resourcequotas"
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "5"}}}
    assert place.call("POST", path, quota)[0] == 201
    until(lambda: place.call("GET", path)[1]["items"][0].get("status", {}).get("used", {}).get("pods") == "3")
    much, fits = place.scale(6), place.scale(5)
    action = place.action(much)
    room = "quota small has room for 2 more pods (pods: 3 of 5 used)"

    assert action.preflight(much, action.observe(much)) == (
        f"{place.namespace}/web in cluster demo: {room}, and 3 are wanted",
    )
    assert action.preflight(fits, action.observe(fits)) == ()
    assert action.blast_radius(fits, action.observe(fits)).endswith(f" Q{room[1:]}.")


def test_limits_bring_pods_and_are_given_back(place: Place) -> None:
    """The autoscaler raises the count to its new minimum, all of them serve, and the undo gives both back."""
    place.deploy()
    place.autoscaled(2, 9)
    request = place.limits(5, 12)
    observed = place.run(request, "INC-1/1/1/apply")
    many = len(place.pods())
    undo, note = place.action(request).undo(request, observed)
    place.run(undo, "INC-1/1/1/undo")
    after = place.call("GET", place.path_to(request))[1]

    assert many == 5
    assert "2 to 9" in note
    assert (after["spec"]["minReplicas"], after["spec"]["maxReplicas"]) == (2, 9)
    assert after["metadata"]["annotations"][ACTION] == "INC-1/1/1/undo"


def test_limits_that_would_not_last_or_not_work_are_refused(place: Place) -> None:
    """An autoscaler that something else made, one that is switched off, and another's are told apart."""
    place.deploy()
    uid = place.raw()["metadata"]["uid"]
    scaled = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "controller": True}
    place.autoscaled(ownerReferences=[{**scaled, "uid": uid}])
    request = place.limits(5, 12)
    action = place.action(request)
    owned = action.preflight(request, action.observe(request))
    place.patch({"spec": {"replicas": 0}})
    place.call("PATCH", place.path_to(request), {"metadata": {"ownerReferences": None}}, kind=MERGE)
    off = action.preflight(request, action.observe(request))
    reference = {"spec": {"scaleTargetRef": {"name": "api"}}}
    place.call("PATCH", place.path_to(request), reference, kind=MERGE)

    where = f"{place.namespace}/web in cluster demo"
    made = "autoscaler web is made by ScaledObject web, which would set it again; change that instead"
    assert owned == (f"{where}: {made}",)
    assert off == (f"{where}: it has no pods, which switches its autoscaler off; scale it first",)
    with pytest.raises(ActionRefusedError, match="autoscaler web scales something else"):
        action.observe(request)


SPECS: dict[str, list[dict[str, Any]]] = {
    "application": [
        {"project": "a", "syncPolicy": {"automated": {"prune": True, "selfHeal": True}}},
        {"project": "a", "syncPolicy": {"automated": {}, "syncOptions": ["CreateNamespace=true"]}},
    ],
    "kustomization": [{"path": "./x"}, {"path": "./x", "suspend": False}],
    "helm_release": [{"interval": "5m"}],
}


@pytest.mark.parametrize(("kind", "spec"), [(kind, spec) for kind, specs in SPECS.items() for spec in specs])
def test_a_sync_is_paused_and_resumed_as_it_was(place: Place, kind: str, spec: dict[str, Any]) -> None:
    """Pausing leaves everything else alone; the undo restores the field literally, absent fields too."""
    place.synced(kind, spec)
    pause = place.sync(kind, suspended=True)
    action, path = place.action(pause), place.path_to(pause)
    observed = place.run(pause, "INC-1/1/1/apply")
    paused = place.call("GET", path)[1]
    undo, _ = action.undo(pause, observed)
    place.run(undo, "INC-1/1/1/undo")
    after = place.call("GET", path)[1]
    policy = {key: value for key, value in spec.get("syncPolicy", {}).items() if key != "automated"}
    without = {**spec, "syncPolicy": policy} if kind == "application" else {**spec, "suspend": True}

    assert paused["spec"] == without
    assert paused["metadata"]["annotations"] == {ACTION: "INC-1/1/1/apply"}
    assert after["spec"] == spec


@pytest.mark.parametrize("kind", ["limits", "resume_application"])
def test_a_late_repetition_finds_that_others_were_there_since(place: Place, kind: str) -> None:
    """Even when somebody else has restored by hand what our call was based on, it is turned away later."""
    request = place.asked(kind)
    action, path = place.action(request), place.path_to(request)
    mark = {"metadata": {"annotations": {ACTION: "INC-1/1/1/apply"}}}
    assert place.call("PATCH", path, mark, kind=MERGE)[0] == 200
    before = place.call("GET", path)[1]["spec"]
    observed = action.observe(request)
    action.apply(request, observed, action_id="INC-1/1/1/undo")
    back = [{"op": "replace", "path": "/spec", "value": before}]
    assert place.call("PATCH", path, back, kind=JSON_PATCH)[0] == 200

    with pytest.raises(PreconditionFailedError):
        action.apply(request, observed, action_id="INC-1/1/1/undo")
    assert place.call("GET", path)[1]["spec"] == before


def test_a_sync_that_is_off_already_is_left_alone(place: Place) -> None:
    """An Application that is not automated, or whose automation is switched off, has nothing to pause."""
    place.synced("application", {"syncPolicy": {"automated": {"enabled": False, "prune": True}}})
    request = place.sync("application", suspended=True)
    action = place.action(request)
    off = action.observe(request)
    place.call("PATCH", place.path_to(request), {"spec": {"syncPolicy": None}}, kind=MERGE)
    absent = action.observe(request)

    assert [action.change(request, one) for one in (off, absent)] == [(), ()]
    assert action.undo(request, off)[0] == request


def test_what_would_resume_a_pause_is_told(place: Place) -> None:
    """An Application of an ApplicationSet is refused; a sync that runs, and a difference to Git, are told."""
    made = {"apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet", "name": "all", "uid": "u"}
    place.synced(
        "application", {"syncPolicy": {"automated": {}}}, ownerReferences=[{**made, "controller": True}]
    )
    pause = place.sync("application", suspended=True)
    action = place.action(pause)
    refused = action.preflight(pause, action.observe(pause))
    status = {"operationState": {"phase": "Running"}, "sync": {"status": "OutOfSync"}}
    assert place.call("PATCH", place.path_to(pause), {"status": status}, kind=MERGE)[0] == 200
    running = action.blast_radius(pause, action.observe(pause))
    resume = place.sync("application", suspended=False, restore={"prune": True})

    assert refused == (
        f"{pause.where}: it is made by ApplicationSet all, which would set it again; pause it there",
    )
    assert "A sync of it is running now and may still apply once more." in running
    assert "it is not as Git has it" in action.blast_radius(resume, action.observe(resume))


def test_warnings_about_a_deployment_are_counted(place: Place) -> None:
    """Pods that cannot pull their image warn; those of a deployment with a longer name are not counted."""
    place.deploy()
    quiet = place.warnings()
    body = manifest("web-api", BAD_IMAGE, namespace=place.namespace)
    assert place.call("POST", place.path.removesuffix("/web"), body)[0] == 201
    until(lambda: any("web-api" in one["metadata"]["name"] for one in place.pods()))
    place.release(BAD_IMAGE)
    warned = until(lambda: found if (found := place.warnings()).value else None)

    assert (quiet.value, quiet.detail) == (0, "0 warnings")
    assert {one.about.partition("-")[0] for one in warned.events} == {"Pod web"}
    assert not any("web-api" in one.about for one in warned.events)
    assert warned.detail.startswith(f"{len(warned.events)} warnings: Pod web-")


# --- what a server fills in, and what is hostile -----------------------------------------------------------

RICH: dict[str, Any] = {
    "metadata": {"labels": {"app": "web", "protocol": "TCP", "scheme": "HTTP"}, "annotations": {"type": ""}},
    "spec": {
        "serviceAccountName": "default",
        "initContainers": [{"name": "first", "image": "busybox"}],
        "containers": [
            {
                "name": "web",
                "image": V1,
                "command": ["run"],
                "ports": [{"containerPort": 80, "name": "http"}],
                "env": [
                    {"name": "EMPTY", "value": ""},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
                "livenessProbe": {"httpGet": {"port": "http"}},
                "readinessProbe": {"grpc": {"port": 81}, "periodSeconds": 3},
                "startupProbe": {"tcpSocket": {"port": 80}, "failureThreshold": 30},
                "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/bye"}}},
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  (in a container)
            }
        ],
        "volumes": [
            {"name": "tmp"},
            {"name": "config", "configMap": {"name": "c"}},
            {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "host", "hostPath": {"path": "/var"}},
            {
                "name": "down",
                "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]},
            },
            {
                "name": "all",
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "t"}},
                        {
                            "downwardAPI": {
                                "items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]
                            }
                        },
                    ]
                },
            },
        ],
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {}}}
                ]
            }
        },
    },
}


def test_a_template_is_known_again_with_the_defaults_filled_in(place: Place) -> None:
    """A template written by hand is reached, and is no change, once the server has filled it in."""
    place.deploy()
    request = RollBackDeployment(**place.where, revision=1, template=RICH, template_hash=template_hash(RICH))
    place.run(request)
    action = place.action(request)
    observed = action.observe(request)

    assert place.raw()["spec"]["template"] != RICH
    assert action.change(request, observed) == ()
    assert observed.state["kept_as"] == 2


def test_a_template_that_is_not_valid_is_refused_for_what_it_is(place: Place) -> None:
    """An invalid object is told by its fields, beforehand too, and not taken for a target that changed."""
    place.deploy()
    template = place.raw()["spec"]["template"]
    template["metadata"]["labels"] = {"app": "other"}
    request = RollBackDeployment(
        **place.where, revision=1, template=template, template_hash=template_hash(template)
    )
    action = place.action(request)
    observed = action.observe(request)
    refusals = action.preflight(request, observed)

    assert len(refusals) == 1
    assert "`selector` does not match template `labels`" in refusals[0]
    with pytest.raises(ActionRefusedError, match="does not match template") as error:
        action.apply(request, observed, action_id="x")
    assert not isinstance(error.value, PreconditionFailedError)


HOSTILE = {
    "example.com/quotes": '"}],"op":"remove","path":"/spec',
    "example.com/lines": "a\nb\r\n\x00\x1b[31mred\x7f",
    "example.com/unicode": "é \u202e 日本 \U0001f525 \ufeff",
    "example.com/markup": "<script>alert(1)</script>{{7*7}}${jndi:ldap://x}",
    "example.com/json": '{"op":"replace","path":"/metadata/uid","value":"x"}',
    "a~b": "tilde",
    "example.com/long": "x" * 100_000,
    "__proto__": "x",
}


def test_hostile_annotations_pass_unchanged(place: Place) -> None:
    """Whatever annotations hold comes back byte for byte after a rollback, and moves nothing else."""
    hostile = {key: value for key, value in HOSTILE.items() if "~" not in key and not key.startswith("_")}
    place.deploy()
    place.patch(
        {"metadata": {"annotations": hostile}, "spec": {"template": {"metadata": {"annotations": hostile}}}}
    )
    place.settled()
    number = max(one.number for one in place.history().revisions)
    request = place.roll_back(number)
    before = place.raw()
    place.release(V2, annotations=dict.fromkeys(hostile, "replaced"))
    place.settled()
    place.run(request)
    after = place.raw()

    assert {key: after["metadata"]["annotations"][key] for key in hostile} == hostile
    assert after["spec"] == before["spec"]


# --- who may ------------------------------------------------------------------------------------------------

COUNTED = [("list", "horizontalpodautoscalers"), ("list", "resourcequotas")]
NEEDS = {
    "restart": [("get", "deployments"), ("patch", "deployments")],
    "roll_back": [("get", "deployments"), ("patch", "deployments"), ("list", "replicasets")],
    "scale": [("get", "deployments"), ("get", "deployments/scale"), ("patch", "deployments/scale"), *COUNTED],
    "roll_back_stateful_set": [
        ("get", "statefulsets"),
        ("patch", "statefulsets"),
        ("list", "controllerrevisions"),
    ],
    "restart_daemon_set": [("get", "daemonsets"), ("patch", "daemonsets")],
    "scale_stateful_set": [
        ("get", "statefulsets"),
        ("get", "statefulsets/scale"),
        ("patch", "statefulsets/scale"),
        *COUNTED,
    ],
    "limits": [
        ("get", "deployments"),
        ("get", "horizontalpodautoscalers"),
        ("patch", "horizontalpodautoscalers"),
        *COUNTED,
    ],
    "pause_application": [("get", "applications"), ("patch", "applications")],
    "pause_kustomization": [("get", "kustomizations"), ("patch", "kustomizations")],
    "pause_helm_release": [("get", "helmreleases"), ("patch", "helmreleases")],
}


@pytest.mark.parametrize("kind", NEEDS)
def test_the_least_rules_are_enough(place: Place, kind: str) -> None:
    """With exactly the documented verbs the whole action works."""
    request = place.asked(kind)
    action = place.action(request, place.limited(*(Rule((verb,), (what,)) for verb, what in NEEDS[kind])))
    observed = action.observe(request)
    refusals = action.preflight(request, observed)
    action.apply(request, observed, action_id="least")

    assert refusals == ()
    until(lambda: action.is_reached(request, action.observe(request)).reached is Reached.YES)


@pytest.mark.parametrize(
    ("kind", "verb", "what"), [(kind, *need) for kind, needs in NEEDS.items() for need in needs]
)
def test_one_verb_less_is_refused_by_name(place: Place, kind: str, verb: str, what: str) -> None:
    """Each missing verb is found before anything runs; the sentence names the verb and the resource."""
    request = place.asked(kind)
    rules = [Rule((v,), (w,)) for v, w in NEEDS[kind] if (v, w) != (verb, what)]
    action = place.action(request, place.limited(*rules))
    before = place.touched(request)

    def refusals() -> str:
        try:
            return " ".join(action.preflight(request, action.observe(request)))
        except ActionRefusedError as error:
            return str(error)

    said = refusals()
    assert f"{request.where}: " in said
    assert verb == "patch" or f'cannot {verb} resource "{what}"' in said
    assert place.touched(request) == before
    if verb == "patch":
        assert f"the credential may not patch {what} in namespace {place.namespace}" in said
        observed = action.observe(request)
        with pytest.raises(ActionRefusedError, match=f'cannot patch resource "{what}"'):
            action.apply(request, observed, action_id="x")
        assert place.touched(request) == before


def test_the_answer_to_a_forbidden_call_names_who_and_what(place: Place) -> None:
    """A 403 names the user, the verb and the resource, and all of it reaches the person."""
    place.deploy()
    action = place.action(place.restart(), place.limited())

    with pytest.raises(ActionRefusedError) as caught:
        action.observe(place.restart())
    assert 'deployments.apps "web" is forbidden: User "' in str(caught.value)
    assert f'in API group "apps" in the namespace "{place.namespace}"' in str(caught.value)
    assert json.dumps(str(caught.value)).isascii()
