"""What the manifests let the worker do in a cluster: this and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).parent.parent.parent / "deploy" / "kubernetes"

# Role to API group, resource and verbs. A change here is a change of what a stolen worker can do.
ALLOWED = {
    "stanch-observe": {
        ("apps", "deployments"): {"get"},
        ("apps", "statefulsets"): {"get"},
        ("apps", "daemonsets"): {"get"},
        ("apps", "deployments/scale"): {"get"},
        ("apps", "statefulsets/scale"): {"get"},
        ("apps", "replicasets"): {"list"},
        ("apps", "controllerrevisions"): {"list"},
        ("autoscaling", "horizontalpodautoscalers"): {"get", "list"},
        ("", "resourcequotas"): {"list"},
        ("", "pods"): {"list"},
        ("", "events"): {"list"},
    },
    "stanch-change-template": {
        ("apps", "deployments"): {"patch"},
        ("apps", "statefulsets"): {"patch"},
        ("apps", "daemonsets"): {"patch"},
    },
    "stanch-scale": {
        ("apps", "deployments/scale"): {"patch"},
        ("apps", "statefulsets/scale"): {"patch"},
        ("autoscaling", "horizontalpodautoscalers"): {"patch"},
    },
    "stanch-sync": {
        ("argoproj.io", "applications"): {"get", "patch"},
        ("kustomize.toolkit.fluxcd.io", "kustomizations"): {"get", "patch"},
        ("helm.toolkit.fluxcd.io", "helmreleases"): {"get", "patch"},
    },
}
NEVER = {"*", "secrets", "pods/exec", "impersonate", "escalate", "bind", "create", "delete", "update"}
RULE_FIELDS = {"apiGroups", "resources", "verbs"}


def objects() -> list[dict[str, Any]]:
    """Give every object of every manifest."""
    return [
        one
        for path in sorted(KUBERNETES.rglob("*.yaml"))
        for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]


def roles() -> dict[str, dict[str, Any]]:
    """Give every role by its name."""
    return {one["metadata"]["name"]: one for one in objects() if one["kind"] == "Role"}


def verbs(role: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    """Give what a role allows, for each resource."""
    allowed: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                allowed.setdefault((group, resource), set()).update(rule["verbs"])
    return allowed


def test_roles_allow_exactly_this() -> None:
    """The roles are those of the table, with its verbs."""
    assert {name: verbs(role) for name, role in roles().items()} == ALLOWED


@pytest.mark.parametrize("name", ALLOWED)
def test_no_role_allows_what_none_may(name: str) -> None:
    """No wildcard, no secret, no exec, no way to more rights, nothing made and nothing deleted."""
    words = {word for rule in roles()[name]["rules"] for field in RULE_FIELDS for word in rule[field]}

    assert words & NEVER == set()
    assert {field for rule in roles()[name]["rules"] for field in rule} == RULE_FIELDS


def test_nothing_reaches_over_the_whole_cluster() -> None:
    """There is no cluster role and no binding to one."""
    kinds = [one["kind"] for one in objects()]
    bound = {one["roleRef"]["kind"] for one in objects() if one["kind"] == "RoleBinding"}

    assert [kind for kind in kinds if kind.startswith("Cluster")] == []
    assert bound == {"Role"}


def test_every_role_is_bound_to_the_worker_alone() -> None:
    """The gateway gets no right in any cluster."""
    bindings = {
        one["roleRef"]["name"]: [(subject["kind"], subject["name"]) for subject in one["subjects"]]
        for one in objects()
        if one["kind"] == "RoleBinding"
    }

    assert bindings == {name: [("ServiceAccount", "stanch-worker")] for name in ALLOWED}


def test_pausing_a_sync_is_not_granted_unasked() -> None:
    """Who may patch what Argo CD or Flux applies says what is deployed: the default set leaves that out."""
    target = yaml.safe_load((KUBERNETES / "target" / "kustomization.yaml").read_text(encoding="utf-8"))

    assert target["resources"] == ["observe.yaml", "change-template.yaml", "scale.yaml"]
