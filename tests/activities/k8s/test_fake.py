"""The fake as a server of its own; what it does for Kubernetes is in the contract."""

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
from kubernetes.client.models.v1_deployment import V1Deployment
from kubernetes.client.models.v1_pod import V1Pod
from kubernetes.client.models.v1_replica_set import V1ReplicaSet

from activities.k8s.fake import FakeKubernetes, Fault, PatchError, json_patch, manifest, merge_patch
from tests.activities.k8s.conftest import HASTE, IMAGES, Place, until

ADMIN = {"Authorization": "Bearer admin-token"}
PATCH = {**ADMIN, "Content-Type": "application/merge-patch+json"}
WEB = "/apis/apps/v1/namespaces/shop/deployments/web"


@contextmanager
def process(state: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run one as a process; give it and its URL."""
    command = [sys.executable, "-m", "activities.k8s.fake", "--state", str(state), "--ready-after", "0.01"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running, running.stdout.readline().strip()
        finally:
            running.kill()


def test_the_sdk_knows_its_objects(shop: Place) -> None:
    """The official models, which check every field, read what it gives."""
    web = V1Deployment.from_dict(shop.deploy())
    _, sets = shop.call("GET", "/apis/apps/v1/namespaces/shop/replicasets")
    pods = [V1Pod.from_dict(one) for one in shop.pods()]

    assert web
    assert web.status
    assert web.status.available_replicas == 3
    assert V1ReplicaSet.from_dict(sets["items"][0])
    assert len(pods) == 3


def test_it_leaves_no_thread_behind() -> None:
    """Idle and hanging connections end with it."""
    before = set(threading.enumerate())
    with FakeKubernetes() as server, urllib3.PoolManager(retries=False) as http:
        http.request("GET", server.url + "/version", headers=ADMIN)
        server.fail(Fault.TIMEOUT_BEFORE, method="GET")
        with pytest.raises(urllib3.exceptions.HTTPError):
            http.request("GET", server.url + "/version", headers=ADMIN, timeout=0.05)

    assert set(threading.enumerate()) == before


def test_state_and_log_are_there_after_a_stop(tmp_path: Path) -> None:
    """A new one with the same file has the objects, goes on counting, and still has the log."""
    state = tmp_path / "state"
    with FakeKubernetes(state=state) as first, urllib3.PoolManager(retries=False) as http:
        first.create("deployments", manifest("web", "shop:v1"))
        http.request("PATCH", first.url + WEB, headers=PATCH, body=b'{"spec": {"replicas": 2}}')
        version = int(first.objects("deployments")[0]["metadata"]["resourceVersion"])
    with FakeKubernetes(state=state) as second:
        web = until(
            lambda: [one for one in second.objects("deployments") if one["status"].get("readyReplicas")]
        )[0]

        assert web["spec"]["replicas"] == 2
        assert int(web["metadata"]["resourceVersion"]) >= version
        assert [one["method"] for one in second.changes] == ["PATCH"]


def test_a_killed_process_comes_back_with_every_change(tmp_path: Path) -> None:
    """What was answered is on the disk: after SIGKILL the next one has the change and the log of it."""
    with urllib3.PoolManager(retries=False) as http:
        with process(tmp_path / "state") as (running, url):
            created = http.request(
                "POST", url + WEB.removesuffix("/web"), headers=ADMIN, json=manifest("web", "a:b")
            )
            http.request("PATCH", url + WEB, headers=PATCH, body=b'{"metadata": {"labels": {"a": "b"}}}')
            running.send_signal(signal.SIGKILL)
        with process(tmp_path / "state") as (running, url):
            web = http.request("GET", url + WEB, headers=ADMIN).json()
            log = http.request("GET", url + "/_fake/requests").json()
            running.send_signal(signal.SIGTERM)
            stopped = running.wait(10)

    assert created.status == 201
    assert log[0]["body"] == manifest("web", "a:b")
    assert web["metadata"]["labels"] == {"a": "b"}
    assert [(one["method"], one["status"], one["applied"]) for one in log][:2] == [
        ("POST", 201, True),
        ("PATCH", 200, True),
    ]
    assert stopped == 0


def test_another_process_can_plan_faults_and_read_the_log(fake: FakeKubernetes) -> None:
    """Faults and the log are reached over HTTP too, and a fault that is none is told."""
    with urllib3.PoolManager(retries=False) as http:
        planned = http.request(
            "POST", fake.url + "/_fake/faults", json={"fault": "throttled", "method": "GET", "retry_after": 3}
        )
        wrong = http.request("POST", fake.url + "/_fake/faults", json={"fault": "earthquake"})
        other = http.request("GET", fake.url + "/_fake/other")
        answer = http.request("GET", fake.url + "/version", headers=ADMIN)
        log = http.request("GET", fake.url + "/_fake/requests").json()

    assert (planned.status, wrong.status, other.status) == (200, 400, 404)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
    assert [(one["path"], one["status"], one["fault"]) for one in log] == [("/version", 429, "throttled")]


def test_the_log_tells_who_sent_what(fake: FakeKubernetes) -> None:
    """Each entry has what is needed to say whether a change arrived once, and from whom; no credential."""
    fake.create("deployments", manifest("web", "a:b"))
    with urllib3.PoolManager(retries=False, headers={"User-Agent": "me/1"}) as http:
        body = {"metadata": {"labels": {"a": "b"}}}
        http.request(
            "PATCH", f"{fake.url}{WEB}?fieldManager=x", headers={**PATCH, "User-Agent": "me/1"}, json=body
        )
    entry = fake.requests[0]
    at = entry.pop("at")

    assert at > 0
    assert entry == {
        "number": 1,
        "method": "PATCH",
        "path": WEB,
        "query": {"fieldManager": "x"},
        "content_type": "application/merge-patch+json",
        "user_agent": "me/1",
        "body": body,
        "user": "admin",
        "status": 200,
        "applied": True,
        "ended": True,
        "fault": None,
    }
    assert "admin-token" not in json.dumps(fake.requests)


def test_old_reads_leave_the_log_and_changes_stay(shop: Place, fake: FakeKubernetes) -> None:
    """Something that looks all day does not fill the memory."""
    shop.deploy()
    fake.reads_kept = 5
    for _ in range(30):
        shop.raw()
    methods = Counter(one["method"] for one in fake.requests)

    assert methods["POST"] == 1
    assert methods["GET"] <= 10
    assert fake.requests[-1]["number"] > 30


@pytest.mark.parametrize(
    ("request_line", "headers", "body", "status"),
    [
        (("GET", "/version"), {}, None, 401),
        (("GET", "/version"), {"Authorization": "Bearer x"}, None, 401),
        (("GET", "/version"), {"Authorization": "Basic admin-token"}, None, 401),
        (("GET", "/api/v1/secrets"), ADMIN, None, 404),
        (("GET", "/"), ADMIN, None, 404),
        (("GET", WEB.removesuffix("/web") + "?watch=true"), ADMIN, None, 400),
        (("POST", WEB.removesuffix("/web")), ADMIN, b"{", 400),
        (("POST", WEB.removesuffix("/web")), ADMIN, b"[]", 400),
        (("POST", WEB.removesuffix("/web")), ADMIN, b'{"metadata": {"name": "A b"}}', 422),
        (("POST", WEB.removesuffix("/web")), ADMIN, b'{"metadata": {"name": "x"}, "spec": 3}', 422),
        (("POST", WEB.removesuffix("/web")), ADMIN, b" " * (3 * 1024 * 1024 + 1), 413),
        (("PATCH", WEB), {**ADMIN, "Content-Type": "text/plain"}, b'{"a": "b"}', 415),
        (("PATCH", WEB), {**ADMIN, "Content-Type": "application/json-patch+json"}, b'{"a": "b"}', 422),
        (("PATCH", WEB + "/status"), PATCH, b"{}", 404),
        (("DELETE", WEB + "-2"), ADMIN, None, 404),
    ],
)
def test_bad_requests_are_answered(
    fake: FakeKubernetes,
    request_line: tuple[str, str],
    headers: dict[str, str],
    body: bytes | None,
    status: int,
) -> None:
    """Whatever is asked wrongly gets a status, changes nothing, and the server goes on."""
    fake.create("deployments", manifest("web", "a:b"))
    with urllib3.PoolManager(retries=False) as http:
        answer = http.request(request_line[0], fake.url + request_line[1], headers=headers, body=body)

        assert answer.status == status
        assert http.request("GET", fake.url + WEB, headers=ADMIN).status == 200
    assert fake.changes == []


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/a/x~1y~0z", "value": 1}], {"a": {"b": [1, 2], "x/y~z": 1}}),
        ([{"op": "add", "path": "/a/b/1", "value": 9}], {"a": {"b": [1, 9, 2]}}),
        ([{"op": "add", "path": "/a/b/-", "value": 9}], {"a": {"b": [1, 2, 9]}}),
        ([{"op": "remove", "path": "/a/b/0"}], {"a": {"b": [2]}}),
        ([{"op": "replace", "path": "", "value": 3}], 3),
        ([{"op": "test", "path": "/a/b", "value": [1, 2]}], {"a": {"b": [1, 2]}}),
        ([{"op": "test", "path": "/a/b/0", "value": True}], None),
        ([{"op": "test", "path": "/a/c", "value": None}], {"a": {"b": [1, 2]}}),  # as the API server
        ([{"op": "test", "path": "/a/b", "value": None}], None),
        ([{"op": "test", "path": "/c/d", "value": None}], None),
        ([{"op": "replace", "path": "/a/c", "value": 1}], None),
        ([{"op": "remove", "path": "/a/c"}], None),
        ([{"op": "add", "path": "/c/d", "value": 1}], None),
        ([{"op": "add", "path": "/a/b/x", "value": 1}], None),
        ([{"op": "move", "path": "/a"}], None),
        ([{"path": "/a"}], None),
        (["x"], None),
    ],
)
def test_json_patches(operations: list[Any], result: Any) -> None:
    """The operations do as RFC 6902 says, or nothing at all is done."""
    document = {"a": {"b": [1, 2]}}
    if result is None:
        with pytest.raises(PatchError):
            json_patch(document, operations)
    else:
        assert json_patch(document, operations) == result
    assert document == {"a": {"b": [1, 2]}}


@pytest.mark.parametrize(
    ("patch", "strategic", "result"),
    [
        ({"a": None, "n": {"x": 1}}, False, {"c": [{"name": "p", "i": 1}], "n": {"x": 1}}),
        ({"c": [{"name": "q"}]}, False, {"a": 1, "c": [{"name": "q"}]}),
        (
            {"c": [{"name": "p", "j": 2}, {"name": "q"}]},
            True,
            {"a": 1, "c": [{"name": "p", "i": 1, "j": 2}, {"name": "q"}]},
        ),
        ({"c": [{"name": "p", "$patch": "delete"}]}, True, {"a": 1, "c": []}),
    ],
)
def test_merge_patches(patch: Any, strategic: bool, result: Any) -> None:  # noqa: FBT001  (a case's field)
    """A merge patch replaces lists; a strategic one merges those of named things."""
    assert merge_patch({"a": 1, "c": [{"name": "p", "i": 1}]}, patch, strategic=strategic) == result


def test_a_rolling_update_keeps_enough_serving(shop: Place, fake: FakeKubernetes) -> None:
    """At no moment there are fewer ready pods than wanted, or more pods than the surge allows."""
    shop.deploy(replicas=4)
    fake.world.ready_after = 0.1 * HASTE  # seconds
    shop.release(IMAGES[1])
    seen = []
    while shop.status().reached.value != "yes":
        pods = fake.objects("pods")
        ready = sum(one["status"]["conditions"][0]["status"] == "True" for one in pods)
        seen.append((ready >= 3, len(pods) <= 5))  # 25 % of 4 less, or more

    assert set(seen) == {(True, True)}


def test_recreate_never_mixes_images(shop: Place, fake: FakeKubernetes) -> None:
    """With this strategy all old pods go before a new one comes."""
    shop.deploy(strategy={"type": "Recreate"})
    fake.world.ready_after = 0.1 * HASTE  # seconds
    shop.release(IMAGES[1])
    seen = set()
    while shop.status().reached.value != "yes":
        seen.add(tuple(sorted({one["spec"]["containers"][0]["image"] for one in fake.objects("pods")})))

    assert (IMAGES[1],) in seen
    assert (IMAGES[0], IMAGES[1]) not in seen


def test_events_tell_of_scaling(shop: Place, fake: FakeKubernetes) -> None:
    """People who look at the events see what the controllers did, and the list does not grow for ever."""
    shop.deploy()
    for number in range(120):
        fake.create("deployments", manifest(f"web-{number}", "a:b", replicas=2))
    events = until(lambda: fake.objects("events"))

    assert "Scaled up replica set" in events[0]["message"]
    assert len(events) <= 200
