"""The Kubernetes manifests, as far as they can be checked without a cluster."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.catalogue import Catalogue
from runtime.settings import load
from tests.deploy.test_rbac import KUBERNETES, objects

BASE = KUBERNETES / "base"


def workloads() -> list[dict[str, Any]]:
    """Give everything that runs pods."""
    return [one for one in objects() if one["kind"] in {"Deployment", "Job"}]


def containers() -> list[Any]:
    """Give each pod's settings with each of its containers."""
    return [
        pytest.param(pod, container, id=f"{one['metadata']['name']}-{container['name']}")
        for one in workloads()
        for pod in [one["spec"]["template"]["spec"]]
        for container in pod["containers"] + pod.get("initContainers", [])
    ]


def test_every_manifest_is_listed() -> None:
    """Each file is in the kustomization beside it, but sync.yaml, and each file listed exists."""
    for kustomization in KUBERNETES.rglob("kustomization.yaml"):
        content = yaml.safe_load(kustomization.read_text(encoding="utf-8"))
        patches = [patch["path"] for patch in content.get("patches", []) if "path" in patch]
        listed = {name for name in content["resources"] + patches if name.endswith(".yaml")}
        there = {path.name for path in kustomization.parent.glob("*.yaml")}
        folders = [name for name in content["resources"] if not name.endswith(".yaml")]

        assert there - {"kustomization.yaml", "sync.yaml"} == listed
        assert [
            name for name in folders if not (kustomization.parent / name / "kustomization.yaml").exists()
        ] == []


@pytest.mark.parametrize(("pod", "container"), containers())
def test_containers_are_locked_down(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """No container runs as root, writes its own files, or can gain rights."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert [volume for volume in pod.get("volumes", []) if "hostPath" in volume] == []


@pytest.mark.parametrize(("pod", "container"), containers())
def test_containers_are_pinned_and_limited(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """Each image has a version that is not a moving one, and each container a limit of memory."""
    del pod
    name, _, tag = container["image"].partition(":")

    assert tag not in {"", "latest"}
    assert "." not in name.split("/")[0]
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize(("pod", "container"), containers())
def test_mounts_have_their_volumes(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """What a container mounts, its pod has."""
    volumes = {volume["name"] for volume in pod.get("volumes", [])}

    assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes


def test_the_worker_cannot_sign() -> None:
    """The private half of the signing key is mounted into the gateway alone."""
    holders = {
        one["metadata"]["name"]
        for one in workloads()
        for volume in one["spec"]["template"]["spec"]["volumes"]
        if volume.get("secret", {}).get("secretName") == "stanch-signing-key"
    }

    assert holders == {"stanch-gateway"}


def test_the_gateway_has_no_cluster_credential() -> None:
    """Only the worker's pods carry a service account's token."""
    without = {
        one["metadata"]["name"]
        for one in workloads()
        if one["spec"]["template"]["spec"].get("automountServiceAccountToken") is False
    }

    assert without == {"stanch-gateway", "stanch-prepare"}


def test_selectors_find_their_pods() -> None:
    """Services, budgets and policies select labels that pods have."""
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in workloads()]
    selectors = []
    for one in objects():
        spec = one.get("spec", {})
        selectors += {
            "Service": lambda spec=spec: [spec["selector"]],
            "PodDisruptionBudget": lambda spec=spec: [spec["selector"]["matchLabels"]],
            "NetworkPolicy": lambda spec=spec: [spec["podSelector"].get("matchLabels", {})],
            "Deployment": lambda spec=spec: [spec["selector"]["matchLabels"]],
        }.get(one["kind"], list)()

    assert selectors
    assert [one for one in selectors if not any(one.items() <= pod.items() for pod in labels)] == []


def test_settings_are_known() -> None:
    """Every variable of ours in the manifests is a setting that the program accepts."""
    told: dict[str, str] = {}
    for one in objects():
        if one["kind"] == "ConfigMap":
            told |= {key: value for key, value in one["data"].items() if key.startswith("STANCH_")}
    for one in workloads():
        for container in one["spec"]["template"]["spec"]["containers"]:
            told |= {env["name"]: "" for env in container.get("env", [])}

    assert {"STANCH_DATABASE_URL", "STANCH_ALERT_TOKEN", "STANCH_TEMPORAL_ADDRESS"} <= set(told)
    assert load(told).temporal_address == told["STANCH_TEMPORAL_ADDRESS"]


@pytest.mark.parametrize("path", ["base/settings.yaml", "overlays/example/catalogue.yaml"])
def test_catalogues_are_valid(path: str) -> None:
    """The catalogues in the manifests are read by the model that the program uses."""
    maps = yaml.safe_load_all((KUBERNETES / path).read_text(encoding="utf-8"))
    content = next(one["data"]["catalogue.yaml"] for one in maps if "catalogue.yaml" in one["data"])

    assert Catalogue.model_validate(yaml.safe_load(content)) is not None


def test_the_example_owns_what_its_role_names() -> None:
    """The example's catalogue and the example's role speak of the same Deployment."""
    content = yaml.safe_load((KUBERNETES / "overlays/example/catalogue.yaml").read_text(encoding="utf-8"))
    catalogue = Catalogue.model_validate(yaml.safe_load(content["data"]["catalogue.yaml"]))
    environment = catalogue.environment("shop", "production")
    shop = yaml.safe_load(
        (KUBERNETES / "overlays/example/shop/kustomization.yaml").read_text(encoding="utf-8")
    )
    patch = yaml.safe_load(shop["patches"][0]["patch"])

    assert environment is not None
    assert patch[0]["value"] == [one.name for one in environment.deployments]
    assert shop["namespace"] == environment.deployments[0].namespace


def test_only_alerts_pass_the_intake() -> None:
    """The one address that others reach forwards alerts and nothing else to the gateway."""
    maps = yaml.safe_load_all((BASE / "settings.yaml").read_text(encoding="utf-8"))
    conf = next(one["data"]["nginx.conf"] for one in maps if "nginx.conf" in one["data"])

    assert conf.count("proxy_pass") == 1
    assert "location ~ ^/v1/alerts/[a-z]+$ {" in conf
    assert "proxy_pass http://127.0.0.1:8420$uri;" in conf
    assert "location / { return 404; }" in conf


def test_the_build_id_is_the_products() -> None:
    """The version that the job makes current is the one that the image's worker has."""
    job = next(one for one in workloads() if one["kind"] == "Job")
    container = job["spec"]["template"]["spec"]["containers"][0]
    tag = container["image"].partition(":")[2]

    assert f"--build-id {tag} " in container["command"][2]
    assert {one["image"] for one in _ours()} == {f"stanch:{tag}"}


def _ours() -> list[dict[str, Any]]:
    return [
        container
        for one in workloads()
        for container in one["spec"]["template"]["spec"]["containers"]
        if container["image"].startswith("stanch:")
    ]


def test_no_secret_is_committed() -> None:
    """Secrets are made by hand: no manifest holds one."""
    assert [one["kind"] for one in objects() if one["kind"] == "Secret"] == []
    assert not (Path(BASE) / "secret.yaml").exists()
