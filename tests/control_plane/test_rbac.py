"""The Roles of deploy/kubernetes/target on a real API server: enough for each action, no verb too many."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from activities.k8s import WarningEvents, WarningEventsProbe
from activities.k8s.client import KubernetesClusters
from activities.k8s.models import RESOURCES
from contracts.errors import ActionRefusedError
from contracts.outcomes import Reached
from tests.activities.k8s.conftest import ALL_KINDS, BAD_IMAGE, REAL, Place, clusters, now, until

pytestmark = pytest.mark.cluster

TARGET = Path(__file__).parents[2] / "deploy" / "kubernetes" / "target"
MANIFESTS = ("observe.yaml", "change-template.yaml", "scale.yaml", "sync.yaml")
WORKER = "stanch-worker"
Manifest = dict[str, Any]

# Each verb of the Roles, and which actions are refused without it.
NEEDED_BY = {
    ("get", "deployments"): {"restart", "roll_back", "scale", "limits"},
    ("get", "statefulsets"): {"restart_stateful_set", "roll_back_stateful_set", "scale_stateful_set"},
    ("get", "daemonsets"): {"restart_daemon_set", "roll_back_daemon_set"},
    ("get", "deployments/scale"): {"scale"},
    ("get", "statefulsets/scale"): {"scale_stateful_set"},
    ("list", "replicasets"): {"roll_back"},
    ("list", "controllerrevisions"): {"roll_back_stateful_set", "roll_back_daemon_set"},
    ("list", "horizontalpodautoscalers"): {"scale", "scale_stateful_set", "limits"},
    ("get", "horizontalpodautoscalers"): {"limits"},
    ("list", "resourcequotas"): {"scale", "scale_stateful_set", "limits"},
    ("patch", "deployments"): {"restart", "roll_back"},
    ("patch", "statefulsets"): {"restart_stateful_set", "roll_back_stateful_set"},
    ("patch", "daemonsets"): {"restart_daemon_set", "roll_back_daemon_set"},
    ("patch", "deployments/scale"): {"scale"},
    ("patch", "statefulsets/scale"): {"scale_stateful_set"},
    ("patch", "horizontalpodautoscalers"): {"limits"},
    ("get", "applications"): {"pause_application"},
    ("patch", "applications"): {"pause_application"},
    ("get", "kustomizations"): {"pause_kustomization"},
    ("patch", "kustomizations"): {"pause_kustomization"},
    ("get", "helmreleases"): {"pause_helm_release"},
    ("patch", "helmreleases"): {"pause_helm_release"},
}
# What is looked at only while something is wrong; the last test tells what is lost without it.
SEEN = {("list", "pods"), ("list", "events")}
# Actions that one scene has requests for, beginning with the one that makes the scene.
SCENES = (
    ("scale", "restart", "roll_back"),
    ("scale_stateful_set", "restart_stateful_set", "roll_back_stateful_set"),
    ("restart_daemon_set", "roll_back_daemon_set"),
    ("limits",),
    ("pause_application",),
    ("pause_kustomization",),
    ("pause_helm_release",),
)

NEVER = [
    ("get", "secrets"),
    ("list", "secrets"),
    ("create", "pods"),
    ("create", "pods/exec"),
    ("delete", "pods"),
    ("patch", "pods"),
    ("list", "nodes"),
    ("create", "applications"),
    ("create", "deployments"),
    ("delete", "deployments"),
    ("update", "deployments"),
    ("list", "deployments"),
    ("patch", "roles"),
    ("impersonate", "users"),
]
RBAC = "apis/rbac.authorization.k8s.io/v1"
GROUPS = {one.name: one.group for one in RESOURCES.values()} | {"roles": "rbac.authorization.k8s.io"}


def manifests() -> list[Manifest]:
    """Read the Roles and their bindings."""
    return [one for name in MANIFESTS for one in yaml.safe_load_all((TARGET / name).read_text("utf-8"))]


def verbs(roles: list[Manifest]) -> set[tuple[str, str]]:
    """Give every verb and resource that Roles allow."""
    return {
        (verb, what)
        for one in roles
        for rule in one.get("rules", ())
        for verb in rule["verbs"]
        for what in rule["resources"]
    }


def without(one: Manifest, missing: tuple[str, str]) -> Manifest:
    """Give a Role less one verb on one resource; anything else as it is."""
    if one["kind"] != "Role":
        return one
    split = [
        {**rule, "verbs": [verb], "resources": [what]}
        for rule in one["rules"]
        for verb in rule["verbs"]
        for what in rule["resources"]
        if (verb, what) != missing
    ]
    return {**one, "rules": split}


class Worker:
    """The worker's service account in a namespace, as the manifests bind it.

    The account is in the same namespace, for a cluster may have a real one in ``stanch``.
    """

    def __init__(self, place: Place, path: Path, stack: ExitStack) -> None:
        self._place = place
        self._path = path
        self._stack = stack

    def with_roles(self, roles: list[Manifest]) -> KubernetesClusters:
        """Apply Roles and bindings, and give our client with the account's token."""
        core, rbac = (f"/{group}/namespaces/{self._place.namespace}" for group in ("api/v1", RBAC))
        self._made(f"{core}/serviceaccounts", {"metadata": {"name": WORKER}})
        for one in roles:
            placed = json.loads(json.dumps(one))
            for subject in placed.get("subjects", ()):
                subject["namespace"] = self._place.namespace
            self._made(f"{rbac}/{one['kind'].lower()}s", placed)
        answer = self._made(f"{core}/serviceaccounts/{WORKER}/token", {"spec": {}})
        for verb, what in verbs(roles):
            until(lambda verb=verb, what=what: self.may(verb, what))  # type: ignore[misc]
        kubeconfig = json.loads(Path(str(REAL)).read_text(encoding="utf-8"))
        kubeconfig["users"][0]["user"] = {"token": answer["status"]["token"]}
        self._path.write_text(json.dumps(kubeconfig), encoding="utf-8")
        return clusters(self._path, self._stack)

    def may(self, verb: str, what: str) -> bool:
        """Ask the API server what the account may."""
        resource, _, subresource = what.partition("/")
        attributes = {
            "verb": verb,
            "resource": resource,
            "subresource": subresource,
            "group": GROUPS.get(resource, ""),
        }
        attributes["namespace"] = self._place.namespace
        user = f"system:serviceaccount:{self._place.namespace}:{WORKER}"
        review = {"spec": {"user": user, "resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(self._made(path, review)["status"].get("allowed"))

    def _made(self, path: str, body: Manifest) -> Manifest:
        status, answer = self._place.call("POST", path, body)
        assert status == 201, answer
        return answer


@pytest.fixture
def worker(place: Place, tmp_path: Path) -> Iterator[Worker]:
    """Give the worker's account, without any right yet."""
    with ExitStack() as stack:
        yield Worker(place, tmp_path / "worker", stack)


def test_the_table_has_every_verb_of_the_roles() -> None:
    """No Role allows a verb that no action needs, as far as the tests below show."""
    assert verbs(manifests()) == set(NEEDED_BY) | SEEN
    assert set().union(*NEEDED_BY.values()) == {kind for scene in SCENES for kind in scene}


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_action_works_under_the_roles_as_shipped(place: Place, worker: Worker, kind: str) -> None:
    """With exactly the shipped Roles an action is planned, carried out and seen to be reached, and undone."""
    request = place.asked(kind)
    action = place.action(request, worker.with_roles(manifests()))
    observed = action.observe(request)
    refusals = action.preflight(request, observed)
    action.apply(request, observed, action_id="least")
    until(lambda: action.is_reached(request, action.observe(request)).reached is Reached.YES)
    undo, _ = action.undo(request, observed)
    if undo is not None:
        action.apply(undo, action.observe(undo), action_id="least")
        until(lambda: action.is_reached(undo, action.observe(undo)).reached is Reached.YES)

    assert refusals == ()


@pytest.mark.parametrize("missing", NEEDED_BY, ids=" ".join)
def test_one_verb_less_is_refused_in_a_sentence(
    place: Place, worker: Worker, missing: tuple[str, str]
) -> None:
    """Without a verb, the actions that need it, and only those, are refused while planned, by its name."""
    verb, what = missing
    roles = [without(one, missing) for one in manifests()]
    scene = next(one for one in SCENES if set(one) & NEEDED_BY[missing])
    first = place.asked(scene[0])
    requests = {kind: first if kind == scene[0] else again(place, kind) for kind in scene}
    before = place.touched(first)
    api = worker.with_roles(roles)

    def said(kind: str) -> str:
        action = place.action(requests[kind], api)
        try:
            return " ".join(action.preflight(requests[kind], action.observe(requests[kind])))
        except ActionRefusedError as error:
            return str(error)

    told = {kind: said(kind) for kind in scene}

    assert {kind for kind, sentence in told.items() if sentence} == NEEDED_BY[missing] & set(scene)
    for kind in NEEDED_BY[missing] & set(scene):
        assert f"{requests[kind].where}: " in told[kind]
        assert f"may not {verb} {what} " in told[kind] or f'cannot {verb} resource "{what}"' in told[kind]
        assert "\n" not in told[kind]
    assert place.touched(first) == before


def again(place: Place, kind: str) -> Any:
    """Give another request about what is there."""
    return place.roll_back(1) if kind.startswith("roll_back") else place.restart()


def test_without_pods_and_events_less_is_seen(place: Place, worker: Worker) -> None:
    """A rollout is still followed, by its counts alone; warnings are refused by the verb's name."""
    place.deploy()
    place.release(BAD_IMAGE)
    roles = manifests()
    for missing in SEEN:
        roles = [without(one, missing) for one in roles]
    api = worker.with_roles(roles)
    request = place.restart()
    place.settled(Reached.FAILED)
    seen = place.action(request, api).observe(request)

    assert seen.state["waiting"] == ""
    with pytest.raises(ActionRefusedError, match='cannot list resource "events"'):
        WarningEventsProbe(api, now).look(WarningEvents(**place.where, within=timedelta(minutes=1)))


def test_the_worker_can_do_nothing_else(place: Place, worker: Worker) -> None:
    """The account reads no secret, makes and deletes nothing, and has no right in another namespace."""
    place.deploy()
    api = worker.with_roles(manifests())
    elsewhere = place.restart().model_copy(update={"namespace": "default"})
    allowed = [one for one in NEVER if worker.may(*one)]

    assert allowed == []
    with pytest.raises(ActionRefusedError, match=r'cannot get resource "deployments".*namespace "default"'):
        place.action(elsewhere, api).observe(elsewhere)
