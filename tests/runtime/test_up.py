"""``stanch up`` as a person runs it: ready, stopped cleanly, killed, started again, and one at a time."""

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from authority.decisions import key_id
from contracts.approvals import ApprovalRequest
from contracts.incidents import Incident, Phase
from ledger import Ledger
from runtime import settings
from runtime.clock import utc_now
from tests.runtime.product import Product, is_running, product, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def waiting(running: Product) -> tuple[Incident, ApprovalRequest]:
    """Bring an incident to where it waits for a decision."""
    running.alert("s0")
    incident = until(lambda: running.incident("s0"))
    running.acknowledge(incident.id)
    return incident, until(lambda: running.asked(incident.id))


def is_resolved(running: Product) -> bool:
    """Say whether the incident has come to its postmortem."""
    incident = running.incident("s0")
    return incident is not None and incident.phase is Phase.LEARNING


def again(running: Product, *, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one more ``stanch up`` on the same state folder, to its end."""
    told = settings.inherited() | {"STANCH_HOME": str(running.home), "STANCH_HTTP_PORT": "0"}
    return subprocess.run(
        running.command, env=told | (environ or {}), capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """It prints where everything is, and on SIGTERM or Ctrl-C ends with 0 and leaves no process."""
    with product(tmp_path) as running:
        said = running.start()
        children = running.children()
        second = again(running)
        addresses = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
        began = time.monotonic()
        code = running.stop(number)
        took = time.monotonic() - began

    assert sorted(children) == ["engine", "gateway", "worker"]
    assert f"engine     {addresses['engine']}" in said
    assert f"console    {addresses['gateway']}/" in said
    assert f"alerts     {addresses['gateway']}/v1/alerts/alertmanager" in said
    assert f"state      {tmp_path}" in said
    assert "LOCAL EVALUATION MODE" in said
    # A second one on the same folder says who is there and touches nothing.
    pid = addresses["pid"]
    assert (second.returncode, second.stderr) == (
        1,
        f"stanch: {tmp_path}: `stanch up` already runs there (pid {pid})\n",
    )
    assert code == 0
    assert [name for name, pid in children.items() if is_running(pid)] == []
    assert "was killed" not in running.said()
    assert running.said().endswith("stopped; `stanch up` goes on from here\n")
    assert took < 10
    # The evidence begins with the key that signs.
    ledger = Ledger.open(settings.Settings(home=tmp_path).ledger_url, clock=utc_now)
    begins = ledger.evidence.entries(limit=1)[0]
    ledger.close()
    signs = key_id(settings.signing_key(settings.Settings(home=tmp_path)).public_key())
    assert begins.key == f"signing-key/{signs}"


def test_goes_on_after_kill_of_everything(tmp_path: Path) -> None:
    """An incident that waits for approval survives ``kill -9`` of all, and the approval then runs it once."""
    with product(tmp_path) as running:
        running.start()
        incident, asked = waiting(running)
        children = running.children()
        running.kill()
        until(lambda: not any(map(is_running, children.values())), within=10)
        running.start()
        same = running.asked(incident.id)
        running.break_service("s0", 0.001)
        running.approve(asked)
        until(lambda: running.changes("s0"))
        running.alert("s0", "resolved")
        until(lambda: is_resolved(running))
        code = running.stop()

    assert len(children) == 3
    assert same == asked
    assert running.changes("s0") == 1
    assert code == 0


def test_an_alert_is_kept_through_a_stop(tmp_path: Path) -> None:
    """What was answered with a 2xx right before the end is there after the next start, once."""
    with product(tmp_path) as running:
        running.start()
        running.alert("s0")
        running.kill()
        running.start()
        incident = until(lambda: running.incident("s0"))
        # The killed gateway may have held the message: then its lease has to run out first. And an engine
        # that was killed while it registered its first worker's version answers it only after 70 seconds.
        asked = until(lambda: running.asked(incident.id), within=120)
        first = running.stop(), asked.mitigation
        running.start()
        still = running.asked(incident.id)
        running.stop()

    assert first == (0, f"{incident.id}/1")
    assert still == asked


def test_stopped_while_it_starts(tmp_path: Path) -> None:
    """SIGTERM before it is ready ends it as well, with 0 and nothing left."""
    with product(tmp_path) as running:
        running.launch()
        until(lambda: "engine" in running.children())
        children = running.children()
        code = running.stop()

    assert code == 0
    assert [name for name, pid in children.items() if is_running(pid)] == []


def test_trouble_is_one_sentence(tmp_path: Path) -> None:
    """A taken port, a missing engine and a wrong catalogue each end it with 1 and one sentence."""
    with product(tmp_path) as running, socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        failed = {
            f"{port}: Address already in use; set STANCH_HTTP_PORT to a free port": again(
                running, environ={"STANCH_HTTP_PORT": port}
            ),
            "STANCH_TEMPORAL_BINARY": again(running, environ={"STANCH_TEMPORAL_BINARY": "/nowhere"}),
            "No such file or directory": again(running, environ={"STANCH_CATALOGUE": "/nowhere"}),
        }

    for sentence, done in failed.items():
        last = done.stderr.splitlines()[-1]
        assert sentence in last
        assert last.startswith("stanch: ")
        assert "Traceback" not in done.stderr
        assert done.returncode == 1


def test_a_cluster_of_your_own_is_used(tmp_path: Path) -> None:
    """With an address of a cluster no engine is started, and worker and gateway use that one."""
    with product(tmp_path / "cluster") as cluster:
        cluster.start()
        with product(tmp_path / "own", environ={"STANCH_TEMPORAL_ADDRESS": cluster.engine}) as running:
            running.start()
            children = running.children()
            ready = running.request("GET", "/readyz")
            code = running.stop()

    assert sorted(children) == ["gateway", "worker"]
    assert running.engine == cluster.engine
    assert ready["dependencies"]["engine"]["ok"]
    assert code == 0
