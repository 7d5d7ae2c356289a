"""What stands on the stage has a past, and is what the product reads."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from activities.k8s.fake import FakeKubernetes
from deploy.demo import stage
from runtime.settings import load_catalogue

NOW = datetime(2026, 3, 10, 14, 32, tzinfo=UTC)


def test_the_deployment_was_released_twice(tmp_path: Path) -> None:
    """Revision 1 has image v1 and no pods, revision 2 has v2 and three ready ones since 92 minutes."""
    stage.write_cluster(tmp_path / "cluster.json", now=NOW)

    with FakeKubernetes(state=tmp_path / "cluster.json", clock=NOW.timestamp) as cluster:
        sets = cluster.objects("replicasets")
        pods = cluster.objects("pods")
        (deployment,) = cluster.objects("deployments")
    history = {
        one["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: (
            one["spec"]["template"]["spec"]["containers"][0]["image"],
            one["spec"]["replicas"],
            one["metadata"]["creationTimestamp"],
        )
        for one in sets
    }
    assert history == {
        "1": ("shop:v1", 0, "2026-03-04T14:32:00Z"),
        "2": ("shop:v2", 3, "2026-03-10T13:00:00Z"),
    }
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"shop:v2"}
    assert deployment["status"]["availableReplicas"] == 3
    assert deployment["metadata"]["annotations"]["kubernetes.io/change-cause"].startswith("Release v2")


def test_the_flags_have_an_audit_log(tmp_path: Path) -> None:
    """Two older flags are on, the new one is off, and each change is dated and has its author."""
    stage.write_flags(tmp_path / "flags.json", now=NOW, tokens={"t": ["viewProject"]}, names={"t": "Ada"})

    state = json.loads((tmp_path / "flags.json").read_text())
    turned_on = [
        (entry["name"], entry["member"]["firstName"], NOW - datetime.fromtimestamp(entry["date"] / 1000, UTC))
        for entry in state["audit"]
        if entry["accesses"][0]["action"] == "updateOn"
    ]
    on = {key: flag["environments"]["production"]["on"] for key, flag in state["flags"]["shop"].items()}
    assert on == {"dark-mode": True, "express-checkout": True, "new-recommendations": False}
    assert turned_on == [
        ("express-checkout", "Linus", timedelta(hours=5)),
        ("dark-mode", "Grace", timedelta(days=21)),
    ]
    assert state["tokens"] == {"t": ["viewProject"]}


def test_the_catalogue_is_one(tmp_path: Path) -> None:
    """The product reads it without a complaint, finds the service, and who is on call first."""
    stage.write_catalogue(
        tmp_path / "catalogue.yaml",
        kubeconfig=tmp_path / "kubeconfig.yaml",
        launchdarkly="http://127.0.0.1:1",
        prometheus="http://127.0.0.1:2",
        shop="http://127.0.0.1:3",
    )

    catalogue = load_catalogue(tmp_path / "catalogue.yaml")

    shop = catalogue.service("shop")
    production = catalogue.environment("shop", "production")
    assert shop is not None
    assert production is not None
    assert shop.on_call[0] == "ada"
    assert [flag.key for flag in production.flags][-1] == "new-recommendations"
    assert set(production.signals) == {"error_rate", "latency"}
    assert catalogue.severities["major"] == "SEV2"
    assert catalogue.monitoring == timedelta(seconds=6)


def test_only_its_owner_reads_the_kubeconfig(tmp_path: Path) -> None:
    """It holds a token, so its mode is 0600, also when it replaces another file."""
    path = tmp_path / "kubeconfig.yaml"
    path.write_text("old")

    stage.write_kubeconfig(path, server="http://127.0.0.1:1", token=stage.LEAST_TOKEN)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert yaml.safe_load(path.read_text())["users"][0]["user"] == {"token": "stanch-token"}
