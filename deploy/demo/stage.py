"""What stands on the stage when the curtain opens: flags with a past, a kubeconfig, the service catalogue."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import urllib3
import yaml

from activities.k8s.fake import TOKENS, FakeKubernetes, manifest
from activities.launchdarkly.fake import FakeLaunchDarkly
from contracts.catalogue import (
    Catalogue,
    Cluster,
    Deployment,
    Flag,
    LaunchDarklyProject,
    Person,
    Prometheus,
    Service,
    ServiceEnvironment,
    Signal,
)
from contracts.incidents import Severity
from deploy.demo.shop import DEPLOYMENT, FLAG, FLAGGED, NAMESPACE

PROJECT, ENVIRONMENT = "shop", "production"
PEOPLE = {"ada": "Ada Lovelace", "grace": "Grace Hopper", "linus": "Linus Pauling"}
ERROR_RATIO = 'sum(rate(shop_requests_total{code=~"5.."}[5s])) / sum(rate(shop_requests_total[5s]))'
LATENCY = "sum(rate(shop_request_seconds_total[5s])) / sum(rate(shop_requests_total[5s]))"
ADMIN_TOKEN, LEAST_TOKEN = TOKENS  # of the Kubernetes API: for the shop and people, and for Stanch
LEAST_FLAG_RIGHTS = ("viewProject", "viewAuditLog", "updateOn")
CHANGE_CAUSE = "kubernetes.io/change-cause"

RELEASES = (
    (timedelta(days=6), "shop:v1", "Release v1: product pages"),
    (timedelta(minutes=92), FLAGGED, "Release v2: recommendations, behind a flag"),
)

# Key, age when it was created (off), age when it was turned on, and by whom. The last is still to come.
FLAGS = (
    ("dark-mode", timedelta(days=40), timedelta(days=21), PEOPLE["grace"]),
    ("express-checkout", timedelta(days=9), timedelta(hours=5), PEOPLE["linus"]),
    (FLAG, timedelta(days=3), None, ""),
)


def write_cluster(path: Path, *, now: datetime) -> None:
    """Write the cluster's state: the shop's Deployment, released twice, the second time 92 minutes ago.

    Args:
        path: The file from which the Kubernetes API will be started.
        now: The present.
    """
    moment = [(now - RELEASES[0][0]).timestamp()]
    with (
        FakeKubernetes(state=path, clock=lambda: moment[0]) as past,
        urllib3.PoolManager(retries=False, timeout=5.0) as http,
    ):
        for age, image, cause in RELEASES:
            moment[0] = (now - age).timestamp()
            wanted = manifest(DEPLOYMENT, image, namespace=NAMESPACE)
            wanted["metadata"]["annotations"] = {CHANGE_CAUSE: cause}
            if not past.objects("deployments", NAMESPACE):
                past.create("deployments", wanted)
            else:
                path_of = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{DEPLOYMENT}"
                headers = {
                    "Authorization": f"Bearer {ADMIN_TOKEN}",
                    "Content-Type": "application/merge-patch+json",
                }
                http.request("PATCH", past.url + path_of, headers=headers, body=json.dumps(wanted).encode())
            moment[0] += 60.0  # long enough for its pods
            past.objects("pods", NAMESPACE)


def write_flags(path: Path, *, now: datetime, tokens: dict[str, list[str]], names: dict[str, str]) -> None:
    """Write LaunchDarkly's state with flags whose audit log reaches back.

    Args:
        path: The file from which the server will be started.
        now: The present.
        tokens: API tokens and the actions that each may do.
        names: API tokens and whom the audit log names for their changes.
    """
    moment = [now]
    with FakeLaunchDarkly(lambda: moment[0], state=path) as past:
        past.state.tokens = tokens
        past.state.names = names
        for key, created, _, _ in FLAGS:
            moment[0] = now - created
            past.add_flag(PROJECT, ENVIRONMENT, key, on=False)
        for key, _, turned_on, by in FLAGS:
            if turned_on is not None:
                moment[0] = now - turned_on
                past.turn(PROJECT, ENVIRONMENT, key, on=True, by=by)


def write_kubeconfig(path: Path, *, server: str, token: str) -> None:
    """Write a kubeconfig with one context, ``demo``, that only its owner can read."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "demo",
        "clusters": [{"name": "demo", "cluster": {"server": server}}],
        "users": [{"name": "stanch", "user": {"token": token}}],
        "contexts": [
            {"name": "demo", "context": {"cluster": "demo", "user": "stanch", "namespace": NAMESPACE}}
        ],
    }
    write_private(path, yaml.safe_dump(config, sort_keys=False))


def write_catalogue(path: Path, *, kubeconfig: Path, launchdarkly: str, prometheus: str, shop: str) -> None:
    """Write the service catalogue of this world: one service, everything that it consists of, short times."""
    times = {
        "every": timedelta(seconds=1),
        "hold": timedelta(seconds=4),
        "within": timedelta(seconds=14),  # the queries look back 5 seconds: healed is seen only after these
    }
    shop_in_production = ServiceEnvironment(
        regions=("eu-west-1",),
        deployments=(Deployment(cluster="demo", namespace=NAMESPACE, name=DEPLOYMENT),),
        flags=tuple(Flag(project=PROJECT, environment=ENVIRONMENT, key=key) for key, *_ in FLAGS),
        signals={
            "error_rate": Signal(prometheus="demo", query=ERROR_RATIO, healthy_below=0.05, **times),
            "latency": Signal(prometheus="demo", query=LATENCY, unit="s", healthy_below=0.5, **times),
        },
        dashboards={"metrics": f"{shop}/metrics", "prometheus": prometheus},
        checks={"health": f"{shop}/healthz"},
    )
    catalogue = Catalogue(
        people=tuple(Person(id=person, name=name) for person, name in PEOPLE.items()),
        clusters=(Cluster(name="demo", kubeconfig=str(kubeconfig), context="demo"),),
        launchdarkly=(
            LaunchDarklyProject(
                project=PROJECT,
                api=launchdarkly,
                token_env="LAUNCHDARKLY_TOKEN",  # noqa: S106  (a variable's name)
                sdk_key_env="LAUNCHDARKLY_SDK_KEY",
                stream=launchdarkly,
                sdk_environment=ENVIRONMENT,
            ),
        ),
        prometheus=(Prometheus(name="demo", url=prometheus),),
        severities={"critical": Severity.SEV1, "major": Severity.SEV2, "minor": Severity.SEV3},
        monitoring=timedelta(seconds=6),
        services=(
            Service(
                name="shop",
                description="Product pages with recommendations.",
                on_call=tuple(PEOPLE),
                alerts={"HighErrorRate": "error_rate"},
                environments={ENVIRONMENT: shop_in_production},
            ),
        ),
    )
    plain = catalogue.model_dump(mode="json", exclude_unset=True)
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
