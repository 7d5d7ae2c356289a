"""`stanch gateway` as a process."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import urllib3

from runtime.engine import free_port
from tests.cli.test_main import ROOT, STANCH


@contextmanager
def gateway(home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the HTTP side with a catalogue, and with no engine anywhere."""
    (home / "catalogue.yaml").write_text("people: [{id: ada, name: Ada}]\n", encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith("STANCH_")}
    env |= {"STANCH_HOME": str(home), "STANCH_HTTP_PORT": str(port), "STANCH_TEMPORAL_ADDRESS": "127.0.0.1:1"}
    with subprocess.Popen([*STANCH, "gateway"], cwd=ROOT, env=env, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process answers."""
    pool = urllib3.PoolManager(retries=False, timeout=2)
    until = time.monotonic() + 40
    while time.monotonic() < until and process.poll() is None:
        with suppress(urllib3.exceptions.HTTPError):
            if pool.request("GET", url).status == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.timeout(90)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_starts_without_an_engine_and_ends_cleanly(home: Path, number: signal.Signals) -> None:
    """It serves while the engine is away; a signal ends it with exit code 0."""
    port = free_port()

    with gateway(home, port) as process:
        wait_for(f"http://127.0.0.1:{port}/livez", process)
        process.send_signal(number)

        assert process.wait(20) == 0
        assert process.stderr is not None
        assert b"LOCAL EVALUATION MODE: whoever reaches this port can be anybody" in process.stderr.read()


def test_a_missing_catalogue_is_one_sentence(home: Path) -> None:
    """Without a catalogue it does not start, and says which file it looked for."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("STANCH_")}

    ended = subprocess.run(
        [*STANCH, "gateway"],
        cwd=ROOT,
        env=env | {"STANCH_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    assert f"service catalogue {home / 'catalogue.yaml'}: No such file or directory" in ended.stderr
