"""A cluster to test in: the fake for every test, and for the contract a real one too where there is one."""

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from activities.k8s import (
    RestartDeployment,
    RollBackDeployment,
    Rollout,
    RolloutHistory,
    RolloutHistoryProbe,
    RolloutStatus,
    RolloutStatusProbe,
    ScaleDeployment,
    SetAutoscalerLimits,
    SetSync,
    WarningEvents,
    WarningEventsProbe,
    Warnings,
)
from activities.k8s.actions import (
    RestartDeploymentAction,
    RollBackDeploymentAction,
    ScaleDeploymentAction,
    SetAutoscalerLimitsAction,
    SetSyncAction,
)
from activities.k8s.client import KubernetesClusters
from activities.k8s.fake import GROUPS, Access, FakeKubernetes, Rule, manifest
from activities.k8s.models import RESOURCES, History
from contracts.catalogue import Cluster
from contracts.outcomes import Reached

REAL = os.environ.get("KUBECONFIG_TEST")
# Where a kubelet really pulls, name three images that it can.
IMAGES = os.environ.get("KUBECONFIG_TEST_IMAGES", "shop:v1,shop:v2,shop:v3").split(",")
BAD_IMAGE = "bad.invalid/shop:v0"
PATIENCE = 60.0 if REAL else 10.0
DEADLINE = 5 if REAL else 1  # seconds until a rollout without progress has failed
# What is done to a Deployment; the whole table of faults; and what differs from these in its target only.
DEPLOYMENT_KINDS = ("restart", "roll_back", "scale")
KINDS = (
    *DEPLOYMENT_KINDS,
    "roll_back_stateful_set",
    "roll_back_daemon_set",
    "limits",
    "pause_application",
    "resume_application",
    "pause_kustomization",
)
ALL_KINDS = (
    *KINDS,
    "restart_stateful_set",
    "restart_daemon_set",
    "scale_stateful_set",
    "pause_helm_release",
    "resume_kustomization",
)
ACTIONS: dict[Any, Any] = {
    RestartDeployment: RestartDeploymentAction,
    RollBackDeployment: RollBackDeploymentAction,
    ScaleDeployment: ScaleDeploymentAction,
    SetAutoscalerLimits: SetAutoscalerLimitsAction,
    SetSync: SetSyncAction,
}
AUTOMATED = {"prune": True, "selfHeal": True, "retry": {"limit": 5}}
MERGE = "application/merge-patch+json"
MADE: dict[str, tuple[Any, Any, Any]] = {}  # by kind: the fake's world, what ``web`` is in it, the request
HASTE = 400  # how many times as fast the fake's time runs
BEGAN, START = time.time(), time.monotonic()


def path_of(resource: str, namespace: str, name: str = "") -> str:
    """Give the path of a list or of an object."""
    path = f"/{GROUPS[resource][0]}/namespaces/{namespace}/{resource}"
    return f"{path}/{name}" if name else path


def call(
    sdk: Any, method: str, path: str, body: Any = None, *, kind: str = "application/json", **query: str
) -> tuple[int, dict[str, Any]]:
    """Send a request through the SDK's client, which would take seconds to load its models of everything."""
    request = sdk.param_serialize(
        method,
        path,
        query_params=list(query.items()),
        header_params={"Content-Type": kind, "Accept": "application/json"},
        body=body,
        auth_settings=["BearerToken"],
    )
    answer = sdk.call_api(*request, _request_timeout=20)
    return answer.status, json.loads(answer.read())


def now() -> datetime:
    """The time that observations are stamped with."""
    return datetime.now(UTC)


def until(look: Callable[[], Any], *, patience: float = PATIENCE) -> Any:
    """Look until something true is seen, and give it."""
    end = time.monotonic() + patience
    while not (seen := look()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.03 if REAL else 0.005)  # a real one has other things to do
    return seen


@dataclass
class Place:
    """A namespace to work in: as an admin with the SDK's own client, and with ours.

    Attributes:
        limited: Gives our client with a credential that has these rules only.
        fake: What it is of, if it is not a real cluster.
        kind: What ``web`` is.
    """

    sdk: Any
    namespace: str
    api: KubernetesClusters
    limited: Callable[..., KubernetesClusters]
    fake: FakeKubernetes | None = None
    kind: Any = "deployment"

    @property
    def where(self) -> dict[str, Any]:
        """The fields of a request about ``web``."""
        return {"cluster": "demo", "namespace": self.namespace, "name": "web", "kind": self.kind}

    @property
    def path(self) -> str:
        """The path of ``web``."""
        return path_of(RESOURCES[self.kind].name, self.namespace, "web")

    def call(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", **query: str
    ) -> tuple[int, dict[str, Any]]:
        """Send any request as an admin; give status and body."""
        return call(self.sdk, method, path, body, kind=kind, **query)

    def pods(self, **query: str) -> list[dict[str, Any]]:
        """List the pods."""
        status, answer = self.call("GET", path_of("pods", self.namespace), **query)
        assert status == 200, answer
        items: list[dict[str, Any]] = answer["items"]
        return items

    def pod_names(self) -> set[str]:
        """List the pods' names."""
        return {pod["metadata"]["name"] for pod in self.pods()}

    def deploy(self, image: str = IMAGES[0], *, wait: bool = True, **spec: Any) -> dict[str, Any]:
        """Create ``web``, and wait until it serves."""
        one = manifest("web", image, namespace=self.namespace, kind=RESOURCES[self.kind].kind, **spec)
        status, answer = self.call("POST", self.path.removesuffix("/web"), one)
        assert status == 201, answer
        return self.settled() if wait else self.raw()

    def raw(self) -> dict[str, Any]:
        """Read ``web`` as JSON."""
        return self.call("GET", self.path)[1]

    def patch(self, body: Any, *, kind: str = "application/strategic-merge-patch+json") -> dict[str, Any]:
        """Patch ``web`` as an admin."""
        status, answer = self.call("PATCH", self.path, body, kind=kind)
        assert status == 200, answer
        return answer

    def release(self, image: str, **metadata: Any) -> None:
        """Give ``web`` another image, as a deployer would."""
        containers = [{"name": "web", "image": image}]
        self.patch({"metadata": metadata, "spec": {"template": {"spec": {"containers": containers}}}})

    def status(self) -> Rollout:
        """Ask our probe."""
        return RolloutStatusProbe(self.api, now).look(RolloutStatus(**self.where))

    def warnings(self) -> Warnings:
        """Ask our probe."""
        return WarningEventsProbe(self.api, now).look(
            WarningEvents(**self.where, within=timedelta(minutes=9))
        )

    def history(self) -> History:
        """Ask our probe."""
        return RolloutHistoryProbe(self.api, now).look(RolloutHistory(**self.where))

    def next_second(self) -> None:
        """Wait until the cluster's next whole second has begun."""
        began = int(time.time())
        until(lambda: int(time.time()) > began)

    def settled(self, wanted: Reached = Reached.YES) -> dict[str, Any]:
        """Wait until its last rollout is done, or has failed, and give it."""
        until(lambda: self.status().reached is wanted)
        return self.raw()

    def restart(self, at: str = "2026-01-31T03:04:05Z") -> RestartDeployment:
        """Ask for a restart of ``web``."""
        return RestartDeployment(**self.where, restarted_at=at)

    def scale(self, replicas: int) -> ScaleDeployment:
        """Ask for that many pods of ``web``."""
        return ScaleDeployment(**self.where, replicas=replicas)

    def roll_back(self, number: int) -> RollBackDeployment:
        """Ask for a former revision of ``web``."""
        history = self.history()
        return history.roll_back_to(next(one for one in history.revisions if one.number == number))

    def autoscaled(self, minimum: int = 2, maximum: int = 9, **metadata: Any) -> None:
        """Have an autoscaler keep ``web`` between two counts."""
        reference = {"apiVersion": "apps/v1", "kind": RESOURCES[self.kind].kind, "name": "web"}
        spec = {"minReplicas": minimum, "maxReplicas": maximum, "scaleTargetRef": reference}
        body = {"metadata": {"name": "web", **metadata}, "spec": spec}
        status, answer = self.call("POST", path_of("horizontalpodautoscalers", self.namespace), body)
        assert status == 201, answer

    def limits(self, minimum: int, maximum: int) -> SetAutoscalerLimits:
        """Ask for other limits of that autoscaler."""
        return SetAutoscalerLimits(**self.where, autoscaler="web", minimum=minimum, maximum=maximum)

    def synced(self, kind: str, spec: dict[str, Any], **metadata: Any) -> None:
        """Have an object of Argo CD or Flux with the name ``shop``."""
        one = RESOURCES[kind]
        metadata = {"name": "shop", **metadata}
        body = {
            "apiVersion": one.api.removeprefix("apis/"),
            "kind": one.kind,
            "metadata": metadata,
            "spec": spec,
        }
        path = path_of(RESOURCES[kind].name, self.namespace)
        status, answer = self.call("POST", path, body)
        assert status == 201, answer

    def sync(self, kind: Any, *, suspended: bool, restore: Any = None) -> SetSync:
        """Ask for it to be paused or resumed."""
        where = {"cluster": "demo", "namespace": self.namespace, "name": "shop", "kind": kind}
        return SetSync(**where, suspended=suspended, restore=restore)

    def asked(self, kind: str) -> Any:
        """Have what an action of that kind is about, and give a request that has something to change.

        The fake makes it once in a process, and has it again as it was then.
        """
        if self.fake is None or self.fake.requests:  # it is not as it began
            return self._asked(kind)
        if kind not in MADE:
            request = self._asked(kind)
            MADE[kind] = self.fake.world.dump(), self.kind, request
        world, self.kind, request = MADE[kind]
        self.fake.world.load(deepcopy(world))
        return request

    def _asked(self, kind: str) -> Any:
        verb, _, what = kind.partition("_")
        if verb in {"pause", "resume"}:
            argo = what == "application"
            policy = {"syncOptions": ["A=b"], **({"automated": AUTOMATED} if verb == "pause" else {})}
            suspend = {} if verb == "pause" else {"suspend": True}
            self.synced(what, {"project": "shop", **({"syncPolicy": policy} if argo else suspend)})
            restore = AUTOMATED if argo and verb == "resume" else None
            return self.sync(what, suspended=verb == "pause", restore=restore)
        self.kind = next((one for one in ("stateful_set", "daemon_set") if kind.endswith(one)), "deployment")
        self.deploy()
        self.release(IMAGES[1])
        self.settled()
        if kind == "limits":
            self.autoscaled()
            return self.limits(4, 12)
        if kind.startswith("roll_back"):
            return self.roll_back(1)
        return self.restart() if verb == "restart" else self.scale(4)

    def meddle(self, request: Any, *, manager: str = "somebody") -> str:
        """Change what a request is about as somebody else would; give the name of the guard that sees it."""
        if isinstance(request, SetSync):
            argo = request.kind == "application"
            spec: dict[str, Any] = (
                {"syncPolicy": {"automated": {"prune": False}}} if argo else {"suspend": False}
            )
            guard, body = "value", {"spec": spec}
        elif isinstance(request, SetAutoscalerLimits):
            guard, body = "maximum", {"spec": {"maxReplicas": 7}}
        elif isinstance(request, ScaleDeployment):
            guard, body = "replicas", {"spec": {"replicas": 5}}
        else:
            container = {"name": "web", "image": IMAGES[2]}
            template = {"metadata": {"annotations": None}, "spec": {"containers": [container]}}
            guard, body = "template_hash", {"spec": {"template": template}}
        path = self.path_to(request)
        status, answer = self.call("PATCH", path, body, kind=MERGE, fieldManager=manager)
        assert status == 200, answer
        return guard

    def path_to(self, request: Any) -> str:
        """Give the path of the object that a request is about."""
        at = request.limits if isinstance(request, SetAutoscalerLimits) else request
        return path_of(at.resource.name, at.namespace, at.name)

    def touched(self, request: Any) -> dict[str, Any]:
        """Read the spec of the object that a request is about, and of ``web`` if that is another."""
        found = {path: self.call("GET", path)[1].get("spec") for path in {self.path_to(request), self.path}}
        return {path: spec for path, spec in found.items() if spec is not None}

    def clear(self) -> None:
        """Take away whatever ``asked`` made."""
        kinds = ("autoscaler", "application", "kustomization", "helm_release")
        paths = [path_of(RESOURCES[kind].name, self.namespace, "shop") for kind in kinds[1:]]
        for path in (*paths, path_of(RESOURCES[kinds[0]].name, self.namespace, "web"), self.path):
            self.call("DELETE", path)
            until(lambda path=path: self.call("GET", path)[0] == 404)  # type: ignore[misc]
        until(lambda: not self.pods())

    def action(self, request: Any, api: KubernetesClusters | None = None) -> Any:
        """Give the action of a request."""
        return ACTIONS[type(request)](api or self.api, now)

    def run(self, request: Any, action_id: str = "INC-1/1/1/apply") -> Any:
        """Observe, check beforehand, apply and wait until it is reached; give what was observed first."""
        action = self.action(request)
        observed = action.observe(request)
        assert action.preflight(request, observed) == ()
        action.apply(request, observed, action_id=action_id)
        until(lambda: action.is_reached(request, action.observe(request)).reached is Reached.YES)
        return observed


def hurried() -> FakeKubernetes:
    """Give a cluster of our own; the time of all of them is one, and runs faster."""
    return FakeKubernetes(ready_after=0.1, lag=0.05, clock=lambda: BEGAN + HASTE * (time.monotonic() - START))


@pytest.fixture
def fake() -> Iterator[FakeKubernetes]:
    """Such a cluster."""
    with hurried() as server:
        yield server


@pytest.fixture
def shop(fake: FakeKubernetes, tmp_path: Path) -> Iterator[Place]:
    """The namespace ``shop`` of the fake."""
    with ExitStack() as stack:
        yield fake_place(fake, tmp_path, stack)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)] if REAL else ["fake"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """The same of the fake and, when KUBECONFIG_TEST names a kubeconfig, of a real cluster."""
    with ExitStack() as stack:
        if request.param == "fake":
            yield fake_place(request.getfixturevalue("fake"), tmp_path, stack)
        else:
            yield real_place(Path(str(REAL)), tmp_path, stack)


def clusters(kubeconfig: Path, stack: ExitStack, **timeouts: float) -> KubernetesClusters:
    """Give our client of one cluster, closed at the end."""
    cluster = Cluster(name="demo", kubeconfig=str(kubeconfig))
    return stack.enter_context(closing(KubernetesClusters([cluster], **timeouts)))


def sdk_of(kubeconfig: Path, stack: ExitStack) -> Any:
    """Give the SDK's own client."""
    new: Any = config.new_client_from_config
    return stack.enter_context(new(str(kubeconfig)))


def fake_place(server: FakeKubernetes, path: Path, stack: ExitStack) -> Place:
    """Give the fake's namespace ``shop``; our client has no more than the least rules."""
    admin = client.Configuration(
        server.url, api_key={"BearerToken": "admin-token"}, api_key_prefix={"BearerToken": "Bearer"}
    )
    sdk = stack.enter_context(client.ApiClient(admin))

    def limited(*rules: Rule) -> KubernetesClusters:
        token = f"token-{len(server.tokens)}"
        server.tokens[token] = Access("limited", rules)
        return clusters(server.kubeconfig(path / token, token=token), stack)

    return Place(sdk, "shop", clusters(server.kubeconfig(path / "ours"), stack), limited, server)


def real_place(kubeconfig: Path, path: Path, stack: ExitStack) -> Place:
    """Give a new namespace of a real cluster; a cluster without nodes gets pods that say they serve."""
    sdk = sdk_of(kubeconfig, stack)
    name = f"stanch-test-{uuid.uuid4().hex[:12]}"
    assert call(sdk, "POST", "/api/v1/namespaces", {"metadata": {"name": name}})[0] == 201
    stack.callback(call, sdk, "DELETE", f"/api/v1/namespaces/{name}")
    define(sdk)
    if not call(sdk, "GET", "/api/v1/nodes")[1]["items"]:
        stop = threading.Event()
        kubelet = threading.Thread(target=play_kubelet, args=(sdk, name, stop))
        kubelet.start()
        stack.callback(kubelet.join)
        stack.callback(stop.set)

    def limited(*rules: Rule) -> KubernetesClusters:
        user = f"limited-{uuid.uuid4().hex[:8]}"
        groups = sorted({one.group for one in RESOURCES.values()})
        told = [{"apiGroups": groups, "resources": [*r.resources], "verbs": [*r.verbs]} for r in rules]
        subject = {"kind": "ServiceAccount", "name": user, "namespace": name}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user}
        core, rbac = f"/api/v1/namespaces/{name}", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{name}"
        made: list[tuple[str, dict[str, Any]]] = [
            (f"{core}/serviceaccounts", {}),
            (f"{rbac}/roles", {"rules": told}),
            (f"{rbac}/rolebindings", {"roleRef": role, "subjects": [subject]}),
            (f"{core}/serviceaccounts/{user}/token", {"spec": {}}),
        ]
        for path_to, body in made:
            status, answer = call(sdk, "POST", path_to, {"metadata": {"name": user}, **body})
            assert status == 201, answer
        ours = json.loads(kubeconfig.read_text(encoding="utf-8"))
        ours["users"][0]["user"] = {"token": answer["status"]["token"]}
        (path / user).write_text(json.dumps(ours), encoding="utf-8")
        return clusters(path / user, stack)

    return Place(sdk, name, clusters(kubeconfig, stack), limited)


def define(sdk: Any) -> None:
    """Have the kinds of Argo CD and Flux, as bare as they can be, and with a status subresource as theirs."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for kind in ("application", "kustomization", "helm_release"):
        one = RESOURCES[kind]
        name = f"{one.name}.{one.group}"
        if call(sdk, "GET", f"{path}/{name}")[0] == 404:
            version = {"name": one.api.rpartition("/")[2], "served": True, "storage": True}
            keep = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            fields = {"spec": keep, "status": keep}
            version |= {"schema": {"openAPIV3Schema": {"type": "object", "properties": fields}}}
            version |= {} if kind == "application" else {"subresources": {"status": {}}}
            names = {"kind": one.kind, "plural": one.name, "singular": one.kind.lower()}
            spec = {"group": one.group, "scope": "Namespaced", "names": names, "versions": [version]}
            made, said = call(sdk, "POST", path, {"metadata": {"name": name}, "spec": spec})
            assert made in {201, 409}, said  # another test's process may have been quicker
        until(lambda path=f"{path}/{name}": _established(call(sdk, "GET", path)[1]))  # type: ignore[misc]


def _established(there: dict[str, Any]) -> bool:
    conditions = there.get("status", {}).get("conditions") or ()
    return any((one["type"], one["status"]) == ("Established", "True") for one in conditions)


def play_kubelet(sdk: Any, namespace: str, stop: threading.Event) -> None:
    """Let the pods of a namespace say that they serve, those with a bad image excepted."""
    path = path_of("pods", namespace)
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    while not stop.wait(0.05):
        for pod in call(sdk, "GET", path)[1]["items"]:
            known = any(one["type"] == "Ready" for one in pod["status"].get("conditions", ()))
            if not known and not any("bad" in one["image"] for one in pod["spec"]["containers"]):
                name = pod["metadata"]["name"]
                kind = "application/strategic-merge-patch+json"
                call(sdk, "PATCH", f"{path}/{name}/status", {"status": status}, kind=kind)
