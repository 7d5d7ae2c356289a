"""The world's processes: each on its own port with its own log, and none outlives the world."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import urllib3

from runtime import tether

ROOT = Path(__file__).parents[2]
READY_WITHIN = 15.0  # seconds; a cold start on a busy small machine takes 3
STOP_WITHIN = 3.0
HTTP = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=3.0))


class WorldError(Exception):
    """The demo world cannot be as it should; the message says which part and where its log is."""


def free_ports(count: int) -> list[int]:
    """Give different loopback ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Processes:
    """The children, stopped in reverse order at exit. Enter it in a thread that lives as long as they shall.

    Args:
        logs: The folder for one log file per process.
        ready_within: Seconds that a process has until it is ready.
        stop_within: Seconds that all have to stop before they are killed.
    """

    def __init__(
        self, logs: Path, *, ready_within: float = READY_WITHIN, stop_within: float = STOP_WITHIN
    ) -> None:
        self._logs = logs
        self._ready_within = ready_within
        self._stop_within = stop_within
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process in reversed(self._running):
            process.terminate()
        deadline = time.monotonic() + self._stop_within
        for _, process in reversed(self._running):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    @property
    def pids(self) -> dict[str, int]:
        """The running children by name."""
        return {name: process.pid for name, process in self._running}

    def log(self, name: str) -> Path:
        """Give the path of a process's log."""
        return self._logs / f"{name}.log"

    def start(self, name: str, *argv: str, environ: Mapping[str, str] | None = None) -> None:
        """Start a program; ``environ`` is added to our own environment."""
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        tied = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *argv]
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  (our own programs, no shell)
                tied,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the world, which stops the others
                env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(environ or {})},
            )
        self._running.append((name, process))

    def start_module(
        self, name: str, module: str, *argv: str, environ: Mapping[str, str] | None = None
    ) -> None:
        """Start one of our own modules with this interpreter."""
        self.start(name, sys.executable, "-m", module, *argv, environ=environ)

    def check(self) -> None:
        """Look whether all run.

        Raises:
            WorldError: One has ended.
        """
        for name, process in self._running:
            if process.poll() is not None:
                raise WorldError(f"{name} ended with code {process.returncode}; its log is {self.log(name)}")

    def wait_until_ready(self, name: str, url: str) -> None:
        """Wait until ``url`` answers 200.

        Raises:
            WorldError: A process ended, or this one did not answer in time.
        """
        deadline = time.monotonic() + self._ready_within
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                if HTTP.request("GET", url).status == 200:  # noqa: PLR2004  (OK)
                    return
            time.sleep(0.05)
        raise WorldError(
            f"{name} did not answer {url} within {self._ready_within:.0f} s; its log is {self.log(name)}"
        )
