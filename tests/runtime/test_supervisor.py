"""Child processes: started in order, restarted when they die, stopped in reverse, and never left behind."""

import asyncio
import functools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from runtime import settings, supervisor, tether
from runtime.supervisor import Child, Supervisor
from tests.runtime.product import is_running, until

# Writes its name and number, and its name again when it is told to stop.
POLITE = """
import os, pathlib, signal, sys
diary = pathlib.Path(sys.argv[1])
def note(line):
    with diary.open("a") as file:
        file.write(line + "\\n")
def stop(*_):
    note(f"stopped {sys.argv[2]}")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note(f"started {sys.argv[2]} {os.getpid()}")
while True:
    signal.pause()
"""
STUBBORN = """
import signal, sys, pathlib
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).write_text("started stubborn\\n")
while True:
    signal.pause()
"""


def argv(script: str, *words: str) -> list[str]:
    """Give the command line of a small program."""
    return [sys.executable, "-I", "-S", "-c", script, *words]


async def seen(look: Callable[[], object]) -> None:
    """Wait until something is so."""
    await asyncio.to_thread(until, look)


class Diary:
    """What the children wrote down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        """Give all lines so far."""
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []

    def starts(self, name: str) -> list[int]:
        """Give the numbers of the processes that started under a name."""
        return [int(line.split()[2]) for line in self.lines() if line.startswith(f"started {name} ")]


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    """Give an empty diary."""
    return Diary(tmp_path / "diary")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Supervisor]:
    """Give a supervisor that is stopped after the test."""
    ours = Supervisor(tmp_path / "logs")
    yield ours
    await ours.stop()


async def start(ours: Supervisor, diary: Diary, name: str, script: str = POLITE) -> Child:
    """Start a child that writes into the diary."""
    return await ours.start(name, argv(script, str(diary.path), name), settings.inherited())


async def test_a_killed_child_starts_again(running: Supervisor, diary: Diary) -> None:
    """A child that the kernel kills is there again at once, with the same command line."""
    child = await start(running, diary, "worker")
    await seen(lambda: diary.starts("worker"))
    os.kill(diary.starts("worker")[0], signal.SIGKILL)
    await seen(lambda: len(diary.starts("worker")) == 2)

    assert child.restarts == 1
    assert is_running(diary.starts("worker")[1])


async def test_a_child_that_cannot_run_starts_ever_more_slowly(
    running: Supervisor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A child that ends at once is not started in a busy loop, and what it said is in its log."""
    script = "print('no such database', flush=True); raise SystemExit(3)"
    child = await running.start("gateway", argv(script), settings.inherited())
    await seen(lambda: child.restarts >= 2)
    before = child.restarts
    await asyncio.sleep(0.5)

    assert child.restarts - before <= 2
    assert "no such database" in (tmp_path / "logs" / "gateway.log").read_text(encoding="utf-8")
    assert "gateway ended (exit code 3), starts again in 0.2 s" in caplog.text


async def test_stops_in_reverse_and_leaves_nothing(tmp_path: Path, diary: Diary) -> None:
    """The last started is stopped first, each before the next, and none is left."""
    ours = Supervisor(tmp_path / "logs")
    names = ["engine", "worker", "gateway"]
    for name in names:
        await start(ours, diary, name)
        await seen(functools.partial(diary.starts, name))
    pids = [diary.starts(name)[0] for name in names]
    await ours.stop()

    assert diary.lines()[3:] == ["stopped gateway", "stopped worker", "stopped engine"]
    assert [pid for pid in pids if is_running(pid)] == []


async def test_a_child_that_does_not_stop_is_killed(
    tmp_path: Path, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that ignores SIGTERM does not keep the others, or us, from ending."""
    monkeypatch.setattr(supervisor, "STOP_WITHIN", 0.2)
    ours = Supervisor(tmp_path / "logs")
    child = await start(ours, diary, "stubborn", STUBBORN)
    await seen(diary.lines)
    process = child.process
    await ours.stop()

    assert process is not None
    assert process.returncode == -signal.SIGKILL


async def test_nothing_starts_again_while_stopping(tmp_path: Path) -> None:
    """A child that waits for its next start is not started any more once we stop."""
    ours = Supervisor(tmp_path / "logs")
    child = await ours.start("gateway", argv("raise SystemExit(1)"), settings.inherited())
    await seen(lambda: child.restarts >= 1)
    await ours.stop()
    restarts = child.restarts
    await asyncio.sleep(0.5)

    assert child.restarts == restarts


def test_children_die_with_a_killed_parent(tmp_path: Path, diary: Diary) -> None:
    """When the supervisor's own process is killed, the kernel takes the children with it."""
    script = f"""
import asyncio, os, pathlib
from runtime.supervisor import Supervisor
async def main():
    ours = Supervisor(pathlib.Path({str(tmp_path)!r}))
    for name in ("worker", "gateway"):
        await ours.start(name, {argv(POLITE, str(diary.path))!r} + [name], dict(os.environ))
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        until(lambda: diary.starts("worker") and diary.starts("gateway"))
        parent.kill()
    pids = diary.starts("worker") + diary.starts("gateway")
    until(lambda: not any(map(is_running, pids)), within=5)

    assert len(pids) == 2


def test_a_tether_without_its_parent_does_not_run(diary: Diary) -> None:
    """A child whose starter is gone before the tie is made ends, instead of running unseen."""
    words = [sys.executable, "-I", "-S", tether.__file__, "1", *argv(POLITE, str(diary.path), "orphan")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "the parent process 1 is gone" in done.stderr
    assert diary.lines() == []
