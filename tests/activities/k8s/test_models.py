"""When requests are good, templates the same, and rollouts done."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from activities.k8s import (
    DeploymentState,
    History,
    RestartDeployment,
    RollBackDeployment,
    RolloutStatus,
    ScaleDeployment,
    SetAutoscalerLimits,
    SetSync,
    WarningEvents,
    Warnings,
)
from activities.k8s.models import (
    Room,
    bare_template,
    last_manager,
    owners,
    quantity,
    room,
    same_template,
    template_differences,
    template_hash,
    waiting,
)
from authority.seals import canonical
from contracts.errors import ProviderUnavailableError
from contracts.outcomes import Reached
from contracts.plans import Difference

WEB: dict[str, Any] = {"cluster": "demo", "namespace": "shop", "name": "web"}
HERE = RolloutStatus(**WEB)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AGAIN = "2026-01-01T11:59:59Z"
MINE = {"ownerReferences": [{"uid": "u"}]}


def template(**container: Any) -> dict[str, Any]:
    """Give a small pod template."""
    one = {"name": "web", "image": "shop:v1", **container}
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [one]}}


def deployment(**status: Any) -> dict[str, Any]:
    """Give a Deployment as the API does, in generation 2."""
    return {
        "metadata": {"uid": "u", "generation": 2, "annotations": {}},
        "spec": {"replicas": 3, "template": template()},
        "status": {"observedGeneration": 2, **status},
    }


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secrets", "a/b", "A", "a b", "web\n", "-a", "a" * 254, "a?x=1"]
)
@pytest.mark.parametrize("field", ["namespace", "name"])
def test_names_are_dns_names(field: str, name: str) -> None:
    """A name that could become anything else than one segment of a path is refused."""
    with pytest.raises(ValidationError):
        RolloutStatus(**{**WEB, field: name})


@pytest.mark.parametrize("time", ["", "now", "2026-01-31", "2026-01-31T03:04:05", "2026-13-31T03:04:05Z"])
def test_a_restart_has_a_time_with_a_zone(time: str) -> None:
    """A restart without an absolute time is refused."""
    with pytest.raises(ValidationError):
        RestartDeployment(**WEB, restarted_at=time)


@pytest.mark.parametrize("replicas", [-1, 10_001, "many", 2.5])
def test_a_count_is_a_count(replicas: Any) -> None:
    """A count below zero, absurd or broken is refused."""
    with pytest.raises(ValidationError):
        ScaleDeployment(**WEB, replicas=replicas)


def test_a_rollback_is_of_one_piece() -> None:
    """A template that is not the one that the hash stands for is refused."""
    wanted = template()
    RollBackDeployment(**WEB, revision=1, template=wanted, template_hash=template_hash(wanted))

    with pytest.raises(ValidationError, match="is not that of the template"):
        RollBackDeployment(
            **WEB, revision=1, template=template(image="x"), template_hash=template_hash(wanted)
        )


def test_requests_can_be_sealed_and_read_again() -> None:
    """A request has a canonical form and is the same after a way through JSON."""
    wanted = template(env=[{"name": "A", "value": "\U0001f525\u202e"}])
    requests: list[Any] = [
        RestartDeployment(**WEB, restarted_at="2026-01-31T03:04:05+01:00"),
        ScaleDeployment(**WEB, replicas=3),
        RollBackDeployment(
            **WEB, revision=1, template=wanted, template_hash=template_hash(wanted), annotations={"a": "b"}
        ),
    ]
    for request in requests:
        assert canonical(request.call())
        assert type(request).model_validate(request.call().arguments) == request
        assert str(request.target) == "k8s:deployment/demo/shop/web"


SAME = {
    "what a controller adds": {
        "metadata": {"labels": {"app": "web", "pod-template-hash": "x"}, "creationTimestamp": None},
        "spec": {"containers": [{"name": "web", "image": "shop:v1"}]},
    },
    "filled in": template(imagePullPolicy="IfNotPresent", terminationMessagePolicy="File", resources={}),
    "former name": {**template(), "spec": {**template()["spec"], "volumes": [], "dnsPolicy": "ClusterFirst"}},
}
OTHER = {
    "image": template(image="shop:v2"),
    "pull policy": template(imagePullPolicy="Always"),
    "command": template(command=["x"]),
    "value": template(env=[{"name": "A", "value": "b"}]),
    "a label that is called as a field": {
        "metadata": {"labels": {"app": "web", "protocol": "TCP"}},
        "spec": template()["spec"],
    },
    "an empty label": {"metadata": {"labels": {"app": "web", "x": ""}}, "spec": template()["spec"]},
    "an empty annotation": {
        "metadata": {"labels": {"app": "web"}, "annotations": {"value": ""}},
        "spec": template()["spec"],
    },
    "a field that nobody knows yet": {**template(), "spec": {**template()["spec"], "newField": False}},
    "a selector of all": {
        **template(),
        "spec": {**template()["spec"], "topologySpreadConstraints": [{"labelSelector": {}}]},
    },
}


@pytest.mark.parametrize("other", SAME.values(), ids=SAME)
def test_templates_that_mean_the_same_are_the_same(other: dict[str, Any]) -> None:
    """What the server or a controller adds makes no difference."""
    assert same_template(template(), other)
    assert template_differences(template(), other) == ()


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_templates_that_differ_are_told_apart(other: dict[str, Any]) -> None:
    """Everything that somebody may have meant makes a difference, and the difference is told."""
    assert not same_template(template(), other)
    assert template_differences(template(), other) != ()
    assert template_hash(template()) != template_hash(other)


def test_an_empty_selector_is_not_an_absent_one() -> None:
    """In an affinity `{}` selects everything and nothing at all selects nothing; either way that is told."""
    term: dict[str, Any] = {"topologyKey": "zone"}
    one, other = template(), template()
    one["spec"]["affinity"] = {"podAffinity": {"required": [term]}}
    other["spec"]["affinity"] = {"podAffinity": {"required": [{**term, "labelSelector": {}}]}}
    path = "spec.template.spec.affinity.podAffinity.required[0].labelSelector"

    assert not same_template(one, other)
    assert template_differences(one, other) == (Difference(path=path, before=None, after={}),)
    assert template_differences(other, one) == (Difference(path=path, before={}, after=None),)


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("shop", "Always"),
        ("shop:latest", "Always"),
        ("shop:v1", "IfNotPresent"),
        ("host:5000/shop", "Always"),
        ("host:5000/shop:v1", "IfNotPresent"),
        ("shop@sha256:abc", "IfNotPresent"),
    ],
)
def test_the_pull_policy_that_is_filled_in_depends_on_the_tag(image: str, policy: str) -> None:
    """An image without a tag is pulled always: that is filled in, and so it is no difference."""
    other = "Always" if policy == "IfNotPresent" else "IfNotPresent"

    assert same_template(template(image=image), template(image=image, imagePullPolicy=policy))
    assert not same_template(template(image=image), template(image=image, imagePullPolicy=other))


def test_differences_name_containers_and_variables() -> None:
    """A difference is told where a person would look for it."""
    before = template(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], args=["a", "b"])
    after = template(env=[{"name": "A", "value": "1"}, {"name": "C", "value": "3"}], args=["a", "c"])
    after["metadata"]["annotations"] = {"example.com/a.b": "x"}
    after["spec"]["containers"].append({"name": "sidecar", "image": "s:1"})

    assert template_differences(before, after) == (
        Difference(path="spec.template.metadata.annotations[example.com/a.b]", after="x"),
        Difference(path="spec.template.spec.containers[web].args[1]", before="b", after="c"),
        Difference(path="spec.template.spec.containers[web].env[B].name", before="B"),
        Difference(path="spec.template.spec.containers[web].env[B].value", before="2"),
        Difference(path="spec.template.spec.containers[web].env[C].name", after="C"),
        Difference(path="spec.template.spec.containers[web].env[C].value", after="3"),
        Difference(path="spec.template.spec.containers[sidecar].image", after="s:1"),
        Difference(path="spec.template.spec.containers[sidecar].name", after="sidecar"),
    )


def test_a_new_order_of_variables_is_told_whole() -> None:
    """Variables refer to earlier ones, so their order counts."""
    one, other = {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)"}

    assert [
        each.path for each in template_differences(template(env=[one, other]), template(env=[other, one]))
    ] == [
        "spec.template.spec.containers[web].env[0].name",
        "spec.template.spec.containers[web].env[0].value",
        "spec.template.spec.containers[web].env[1].name",
        "spec.template.spec.containers[web].env[1].value",
    ]


def test_what_is_sent_keeps_everything_but_nulls_and_the_hash() -> None:
    """The template that is restored keeps fields that nobody here knows."""
    whole: dict[str, Any] = {
        "metadata": {"labels": {"app": "web", "pod-template-hash": "x"}, "creationTimestamp": None},
        "spec": {"containers": [{"name": "web", "newField": {"a": [None, 1]}}], "newField": False},
    }

    assert bare_template(whole) == {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "newField": {"a": [None, 1]}}], "newField": False},
    }
    assert whole["metadata"]["labels"]["pod-template-hash"] == "x"


def progressing(reason: str) -> list[dict[str, str]]:
    """Give the condition."""
    return [{"type": "Available", "reason": "x"}, {"type": "Progressing", "reason": reason}]


DONE = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}
EXCEEDED = progressing("ProgressDeadlineExceeded")


@pytest.mark.parametrize(
    ("status", "reached", "said"),
    [
        (DONE, Reached.YES, "all 3 pods are new and serve"),
        (DONE | {"observedGeneration": 1}, Reached.SETTLING, "its controller has yet to see it"),
        (
            DONE | {"observedGeneration": 1, "conditions": EXCEEDED},
            Reached.SETTLING,
            "its controller has yet",
        ),
        (
            DONE | {"updatedReplicas": 1, "conditions": EXCEEDED},
            Reached.FAILED,
            "exceeded its progress deadline",
        ),
        (DONE | {"updatedReplicas": 2}, Reached.SETTLING, "2 of 3 pods have the new template"),
        (DONE | {"replicas": 4}, Reached.SETTLING, "1 former pods are still there"),
        (DONE | {"availableReplicas": 2}, Reached.SETTLING, "2 of 3 new pods serve"),
        ({}, Reached.SETTLING, "0 of 3 pods have the new template"),
    ],
)
def test_a_rollout_is_done_when_kubectl_says_so(status: dict[str, Any], reached: Reached, said: str) -> None:
    """The rule and its order are those of `kubectl rollout status`."""
    progress = DeploymentState.read(HERE, deployment(**status)).progress("shop/web in cluster demo")

    assert progress.reached is reached
    assert progress.detail.startswith("shop/web in cluster demo: ")
    assert said in progress.detail


def pod(**status: Any) -> dict[str, Any]:
    """Give a pod of the template."""
    return {"spec": template()["spec"], "status": status}


def unstarted(reason: str, message: str) -> dict[str, Any]:
    """Give a pod whose container waits."""
    waits = {"reason": reason, "message": message}
    return pod(containerStatuses=[{"image": "shop:v1", "state": {"waiting": waits}}])


BACK_OFF = unstarted("ImagePullBackOff", "Back-off pulling image")


@pytest.mark.parametrize(
    ("pods", "updated", "reached"),
    [
        ([BACK_OFF], 1, Reached.FAILED),
        ([BACK_OFF] * 3, 3, Reached.FAILED),
        ([BACK_OFF, BACK_OFF], 0, Reached.FAILED),
        ([BACK_OFF], 3, Reached.SETTLING),
        ([BACK_OFF, unstarted("CreateContainerConfigError", "no secret")], 2, Reached.SETTLING),
        ([unstarted("ErrImagePull", "429")] * 3, 3, Reached.SETTLING),
    ],
)
def test_an_image_that_some_nodes_have_pulled_is_there(
    pods: list[dict[str, Any]], updated: int, reached: Reached
) -> None:
    """What one node cannot pull for now, and others could, is waited for and said; it is no failure yet."""
    state = DeploymentState.read(HERE, deployment(**DONE | {"updatedReplicas": updated, "replicas": 4}))
    state = state.model_copy(update=waiting(state.template, pods))
    progress = state.progress("here")

    assert progress.reached is reached
    assert state.waiting in progress.detail or updated == 3


FORBIDDEN = (
    'pods "web-5d-{}" is forbidden: exceeded quota: q, requested: requests.cpu=1, used: requests.cpu={}'
)
FAILED_CREATE = {
    "type": "ReplicaFailure",
    "reason": "FailedCreate",
    "message": 'admission webhook "v.example.com" denied the request: no root',
}
UNBOUND = "0/{0} nodes are available: {0} Insufficient cpu, 1 node(s) had untolerated taint. preemption: no."


def test_why_no_pod_is_made_is_said_in_words_that_stay() -> None:
    """Names and numbers change from try to try: with them each would look like a rollout that gets on."""

    def said(number: int) -> set[str]:
        failed = {
            "type": "ReplicaFailure",
            "reason": "FailedCreate",
            "message": FORBIDDEN.format(number, number),
        }
        made = DeploymentState.read(HERE, deployment(updatedReplicas=1, conditions=[failed]))
        unbound = {"type": "PodScheduled", "reason": "Unschedulable", "message": UNBOUND.format(number)}
        bound = made.model_copy(update=waiting(made.template, [pod(conditions=[unbound])]))
        return {one.progress("here").detail for one in (made, bound)}

    late = DeploymentState.read(HERE, deployment(updatedReplicas=1, conditions=[*EXCEEDED, FAILED_CREATE]))
    has = "here: 1 of 3 pods have the new template"

    assert (
        said(2)
        == said(7)
        == {
            f"{has}; exceeded quota: q, requested: requests.cpu=1",
            f"{has}; Unschedulable: Insufficient cpu, node(s) had untolerated taint",
        }
    )
    assert late.progress("here").detail == (
        'here: the rollout exceeded its progress deadline (admission webhook "v.example.com" denied the '
        "request: no root): 1 of 3 pods have the new template, 0 serve"
    )


@pytest.mark.parametrize(
    ("status", "reached", "said"),
    [
        (DONE, Reached.YES, "3 of 3 pods serve"),
        (DONE | {"observedGeneration": 1}, Reached.SETTLING, "its controller has yet to see it"),
        (DONE | {"availableReplicas": 2}, Reached.SETTLING, "2 of 3 pods serve"),
        (
            DONE | {"availableReplicas": 2, "conditions": EXCEEDED},
            Reached.FAILED,
            "it exceeded its progress deadline",
        ),
        (
            {"replicas": 5, "updatedReplicas": 5, "availableReplicas": 5},
            Reached.SETTLING,
            "2 pods are still to go",
        ),
        ({"replicas": 4, "updatedReplicas": 1, "availableReplicas": 3}, Reached.YES, "3 of 3 pods serve"),
    ],
)
def test_a_scaling_is_done_when_as_many_serve(status: dict[str, Any], reached: Reached, said: str) -> None:
    """Counts decide, and not which template the pods have: a stuck rollout does not hold a scaling up."""
    progress = DeploymentState.read(HERE, deployment(**status)).progress_of_scale("here")

    assert progress.reached is reached
    assert said in progress.detail


BROKEN: list[Any] = [
    {},
    {"metadata": None, "spec": {}},
    {"metadata": {"uid": "u", "generation": 1}, "spec": {}},
    {"metadata": {"uid": "u", "generation": "x"}, "spec": {"template": template()}},
    {"metadata": {"uid": "u", "generation": 1}, "spec": {"template": {"spec": {"containers": "none"}}}},
    {"metadata": {"uid": "u", "generation": 1, "annotations": [1]}, "spec": {"template": template()}},
    {"metadata": {"uid": "u", "generation": 1}, "spec": {"template": template()}, "status": "x"},
    {
        "metadata": {"uid": "u", "generation": 1},
        "spec": {"template": template()},
        "status": {"conditions": [1]},
    },
]


@pytest.mark.parametrize("broken", BROKEN)
def test_an_answer_that_is_no_deployment_is_not_believed(broken: Any) -> None:
    """Whatever an API gives instead of a Deployment ends in one sentence that can be retried."""
    with pytest.raises(
        ProviderUnavailableError, match="web in cluster demo: the answer does not look like a Deployment"
    ):
        DeploymentState.read(HERE, broken)


@pytest.mark.parametrize(
    "broken",
    [
        {"metadata": {"name": "x", **MINE, "annotations": {"deployment.kubernetes.io/revision": "1"}}},
        {"metadata": {"name": "x", **MINE, "annotations": {"deployment.kubernetes.io/revision": 1}}},
        {
            "metadata": {"name": "x", **MINE, "annotations": {"deployment.kubernetes.io/revision": "1"}},
            "spec": None,
        },
    ],
)
def test_answers_that_are_no_replica_sets_are_not_believed(broken: Any) -> None:
    """The same for the history."""
    state = DeploymentState.read(HERE, deployment())

    with pytest.raises(ProviderUnavailableError, match="does not look like its revisions"):
        History.read(RolloutStatus(**WEB), state, [broken])


@pytest.mark.parametrize("number", ["", "x", "-1", "1.5", "\u0661x"])
def test_a_replica_set_without_a_number_is_not_in_the_history(number: str) -> None:
    """What no controller has numbered cannot be rolled back to."""
    one = {
        "metadata": {
            "name": "x",
            **MINE,
            "creationTimestamp": "2026-01-31T03:04:05Z",
            "annotations": {"deployment.kubernetes.io/revision": number},
        },
        "spec": {"template": template()},
    }

    assert History.read(RolloutStatus(**WEB), DeploymentState.read(HERE, deployment()), [one]).revisions == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", "2"),
        ("500m", "0.5"),
        ("1.5Gi", str(3 * 2**29)),
        ("2e3", "2000"),
        ("100k", "1e5"),
        ("3E", "3e18"),
    ],
)
def test_quantities_are_read(text: str, value: str) -> None:
    """All suffixes of Kubernetes, decimal and binary, and exponents."""
    assert quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1KiB", "--1", ".", "1e9999", None])
def test_what_is_no_quantity_is_told(text: Any) -> None:
    """Anything else is a ValueError and never a number."""
    with pytest.raises(ValueError, match="is no quantity"):
        quantity(text)


def quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> dict[str, Any]:
    """Give a quota."""
    return {"metadata": {"name": "q"}, "spec": spec, "status": {"hard": hard, "used": used}}


ASKING = template(resources={"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "1Gi"}})


@pytest.mark.parametrize(
    ("hard", "used", "pods"),
    [
        ({"pods": "10"}, {"pods": "7"}, 3),
        ({"requests.cpu": "4"}, {"requests.cpu": "2300m"}, 3),
        ({"cpu": "4"}, {"cpu": "3500m"}, 1),
        ({"limits.cpu": "4"}, {"limits.cpu": "3500m"}, 0),
        ({"requests.memory": "5Gi"}, {}, 5),
        ({"pods": "10", "memory": "2Gi"}, {"pods": "1", "memory": "0"}, 2),
        ({"pods": "2"}, {"pods": "5"}, 0),
        ({"requests.nvidia.com/gpu": "0", "count/secrets": "0", "requests.storage": "0"}, {}, None),
    ],
)
def test_the_tightest_number_of_a_quota_counts(
    hard: dict[str, str], used: dict[str, str], pods: int | None
) -> None:
    """A limit stands in for a request that is not given; what pods do not use does not matter."""
    found = room(HERE, ASKING, [quota(hard, used)])

    assert (found.pods if found else None) == pods


def test_init_containers_count_where_they_ask_for_more() -> None:
    """They run before the others and alone."""
    first = {
        **ASKING,
        "spec": {**ASKING["spec"], "initContainers": [{"resources": {"requests": {"cpu": "2"}}}]},
    }

    assert room(HERE, first, [quota({"cpu": "4"}, {})]) == Room(
        quota="q", resource="cpu", used="0", hard="4", pods=2
    )


def test_sidecars_count_with_the_others() -> None:
    """An init container that stays is there as long as the others, and asks for its part beside them."""
    stays = {"restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}}
    with_it = {**ASKING, "spec": {**ASKING["spec"], "initContainers": [stays]}}
    found = room(HERE, with_it, [quota({"cpu": "4"}, {})])

    assert found is not None
    assert found.pods == 4


@pytest.mark.parametrize("spec", [{"scopes": ["BestEffort"]}, {"scopeSelector": {"matchExpressions": []}}])
def test_a_quota_for_some_pods_only_is_left_out(spec: dict[str, Any]) -> None:
    """Whether it counts these pods cannot be told here; the API server will."""
    assert room(HERE, ASKING, [quota({"pods": "0"}, {}, **spec)]) is None


@pytest.mark.parametrize("broken", [{"pods": "many"}, {"cpu": "9e999"}, ["pods"]])
def test_answers_that_are_no_quotas_are_not_believed(broken: Any) -> None:
    """Whatever else comes is one sentence that can be retried."""
    with pytest.raises(ProviderUnavailableError, match="does not look like quotas"):
        room(HERE, ASKING, [quota(broken, {})])


def entry(manager: str, second: int, *path: str) -> dict[str, Any]:
    """Give one entry of ``managedFields``."""
    fields: dict[str, Any] = {}
    for name in reversed(path):
        fields = {f"f:{name}": fields}
    return {"manager": manager, "time": f"2026-01-31T03:04:{second:02}Z", "fieldsV1": fields}


@pytest.mark.parametrize(
    ("entries", "manager"),
    [
        ([entry("kubectl", 1, "spec", "template"), entry("stanch", 2, "spec", "template", "spec")], "stanch"),
        (
            [entry("stanch", 2, "spec", "template"), entry("argocd-controller", 2, "spec", "template")],
            "argocd-controller",
        ),
        (
            [entry("a", 1, "spec", "template"), entry("b", 9, "spec", "replicas"), entry("c", 9, "status")],
            "a",
        ),
        ([entry("a", 1, "spec")], None),
        ([{"manager": "a"}, {"manager": "b", "fieldsV1": {"f:spec": "x"}}], None),
        (None, None),
    ],
)
def test_the_last_manager_of_a_path_is_found(entries: Any, manager: str | None) -> None:
    """Only who wrote at or below the path counts, the latest of them; of two in one second the other one."""
    assert last_manager({"managedFields": entries}, "spec", "template") == manager


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, []),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "x:apps/Deployment:shop/other"}}, []),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "a\n<b>:apps/Deployment:shop/web"}}, ["Argo CD"]),
        ({"labels": {"argocd.argoproj.io/instance": "x"}}, ["Argo CD (application x)"]),
        ({"labels": {"app.kubernetes.io/instance": "x"}}, []),
        ({"managedFields": [{"manager": "argocd-controller"}]}, ["Argo CD"]),
        ({"managedFields": [{"manager": "argocd-application-controller"}]}, ["Argo CD"]),
        ({"managedFields": [{"manager": "kustomize-controller"}]}, ["Flux"]),
        (
            {
                "labels": {"kustomize.toolkit.fluxcd.io/name": "x"},
                "annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"},
            },
            [],
        ),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, ["Helm"]),
        ({"annotations": {"meta.helm.sh/release-name": "x"}}, ["Helm (release x)"]),
    ],
)
def test_owners_are_found_by_their_marks(metadata: dict[str, Any], said: list[str]) -> None:
    """Marks that were copied from elsewhere, or switched off, are none; hostile ones name nothing."""
    about = {"namespace": "shop", "name": "web", **metadata}

    assert [str(one) for one in owners(HERE.resource, about)] == said


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "application", "suspended": True, "restore": {"prune": True}},
        {"kind": "application", "suspended": False},
        {"kind": "application", "suspended": False, "restore": True},
        {"kind": "kustomization", "suspended": False, "restore": True},
        {"kind": "kustomization", "suspended": True, "restore": False},
        {"kind": "deployment", "suspended": True},
    ],
)
def test_a_sync_is_asked_for_absolutely(arguments: dict[str, Any]) -> None:
    """What to restore is given exactly where something is restored."""
    with pytest.raises(ValidationError):
        SetSync(**WEB, **arguments)


def test_limits_are_in_order_and_a_daemon_set_has_no_count() -> None:
    """Requests that no cluster could carry out are refused when they are made."""
    with pytest.raises(ValidationError, match="minimum 3 is more than maximum 2"):
        SetAutoscalerLimits(**WEB, autoscaler="web", minimum=3, maximum=2)
    with pytest.raises(ValidationError):
        ScaleDeployment(**WEB, kind="daemon_set", replicas=3)


@pytest.mark.parametrize("number", ["x", "-1", "", "9" * 5000])
def test_a_schema_that_cannot_be_read_allows_nothing(number: str) -> None:
    """Whatever is declared and is no number refuses, on either side."""

    def declaring(**marks: str) -> dict[str, Any]:
        one = template()
        one["metadata"]["annotations"] = {f"stanch.dev/{key}": value for key, value in marks.items()}
        return one

    def history(present: dict[str, Any]) -> History:
        revision = {
            "metadata": {"name": "x", **MINE, "creationTimestamp": "2026-01-31T03:04:05Z"},
            "revision": 2,
            "data": {"spec": {"template": present}},
        }
        return History.read(HERE, DeploymentState.read(HERE, deployment()), [revision])

    unreadable = history(declaring(**{"schema-back-to": number}))
    needs = history(declaring(**{"schema-back-to": "3"}))

    assert "has changed the stored data" in unreadable.incompatible(declaring(schema="7"))
    assert "has changed the stored data" in needs.incompatible(declaring(schema=number))
    assert needs.incompatible(declaring(schema="3")) == ""


@pytest.mark.parametrize(
    "broken", [{}, {"involvedObject": "x"}, {"involvedObject": {}, "lastTimestamp": "then"}]
)
def test_answers_that_are_no_events_are_not_believed(broken: Any) -> None:
    """The same for events."""
    request = WarningEvents(**WEB, within=timedelta(minutes=1))

    with pytest.raises(ProviderUnavailableError, match="does not look like events"):
        Warnings.read(request, [{"metadata": {}, **broken}], now=NOW)


@pytest.mark.parametrize(
    ("said", "at", "count"),
    [
        ({"lastTimestamp": "2026-01-01T11:59:01Z", "count": 7}, 59, 7),
        ({"lastTimestamp": "2026-01-01T11:58:59Z"}, None, 0),
        ({"eventTime": "2026-01-01T11:59:30.5Z", "lastTimestamp": None, "count": None}, 29.5, 1),
        ({"eventTime": "2026-01-01T11:00:00.5Z", "lastTimestamp": None}, None, 0),
        ({"eventTime": "2026-01-01T11:00:00.5Z", "series": {"lastObservedTime": AGAIN, "count": 3}}, 1, 3),
        ({}, 0, 1),
        ({"lastTimestamp": "2026-01-01T12:00:03Z"}, -3, 1),
        ({"type": "Normal"}, None, 0),
        ({"involvedObject": {"kind": "Pod", "name": "web-api-x"}}, None, 0),
    ],
)
def test_warnings_are_counted_that_were_said_lately(
    said: dict[str, Any], at: float | None, count: int
) -> None:
    """One that is said again and again counts while it is, in either way in which Kubernetes writes that."""
    about = {"kind": "Pod", "name": "web-0"}
    event = {"metadata": {"creationTimestamp": NOW.isoformat()}, "involvedObject": about, "type": "Warning"}
    request = WarningEvents(**WEB, kind="stateful_set", within=timedelta(minutes=1))
    seen = Warnings.read(request, [{**event, **said}], now=NOW)

    assert [(one.at, one.count) for one in seen.events] == (
        [] if at is None else [(NOW - timedelta(seconds=at), count)]
    )
    assert seen.value == len(seen.events)
