"""The control plane as a program: it comes up, and nothing of it outlives its starter."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from activities.k8s.fake import manifest
from tests.activities.k8s.conftest import IMAGES, Place, until
from tests.control_plane import build
from tests.control_plane.scene import is_ready

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_its_starter(number: signal.Signals, tmp_path: Path) -> None:
    """Whether it is told to end or is killed, all its processes end with it, and its command too."""
    if build.missing():
        pytest.skip(build.why_not() or "the programs are not built yet: see `make test-cluster`")
    told = tmp_path / "kubeconfig"
    code = f"import os, time; open({str(told)!r}, 'w').write(os.environ['KUBECONFIG_TEST']); time.sleep(300)"
    command = [sys.executable, "-m", "tests.control_plane", sys.executable, "-c", code]
    environ = {key: value for key, value in os.environ.items() if key != "KUBECONFIG_TEST"}
    environ["TMPDIR"] = str(tmp_path)
    with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as starter:
        while not (told.exists() and told.read_text(encoding="utf-8")):
            assert starter.poll() is None, starter.stderr
            time.sleep(0.1)
        running = named(str(tmp_path))
        starter.send_signal(number)
        said = starter.communicate(timeout=30)[1]
    deadline = time.monotonic() + 10
    while named(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert set(running) == {*build.PROGRAMS, Path(sys.executable).name}
    assert named(str(tmp_path)) == []
    assert re.search(r"control plane: ready after [\d.]+ s: etcd \d+ MB, ", said)
    assert Path(told.read_text(encoding="utf-8")).exists() is (number is signal.SIGKILL)


def named(folder: str) -> list[str]:
    """Give the programs that run with that folder somewhere in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            words = path.read_text(encoding="utf-8").split("\0")
            if any(folder in word for word in words[1:]):
                found.append(Path(words[0]).name)
    return found


def test_it_is_the_release_that_was_asked_for(place: Place) -> None:
    """The server tells the version of go.mod, where it is ours."""
    _, version = place.call("GET", "/version")
    if not any(
        node["metadata"]["name"] == "node-0" for node in place.call("GET", "/api/v1/nodes")[1]["items"]
    ):
        pytest.skip("KUBECONFIG_TEST names a cluster that is not ours")

    assert version["gitVersion"] == build.required("k8s.io/kubernetes")
    assert json.dumps(version).isascii()


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_the_other_workloads_come_up_and_keep_revisions(place: Place, kind: str) -> None:
    """The controllers of other workloads run too: pods serve, and each release is a ControllerRevision."""
    apps = f"/apis/apps/v1/namespaces/{place.namespace}"
    path = f"{apps}/{kind.lower()}s"
    one = manifest("web", IMAGES[0], namespace=place.namespace)
    body = {**one, "kind": kind, "spec": {key: one["spec"][key] for key in ("selector", "template")}}
    containers = [{"name": "web", "image": IMAGES[1]}]

    def serves(image: str) -> bool:
        pods = [(pod["spec"]["containers"][0]["image"], is_ready(pod)) for pod in place.pods()]
        return bool(pods) and set(pods) == {(image, True)}

    assert place.call("POST", path, body)[0] == 201
    until(lambda: serves(IMAGES[0]))
    release = {"spec": {"template": {"spec": {"containers": containers}}}}
    merge = "application/strategic-merge-patch+json"
    assert place.call("PATCH", f"{path}/web", release, kind=merge)[0] == 200
    until(lambda: serves(IMAGES[1]))
    revisions = place.call("GET", f"{apps}/controllerrevisions")[1]["items"]

    assert sorted(one["revision"] for one in revisions) == [1, 2]
