"""Keeping child processes alive: started in order, restarted when they die, stopped in reverse order."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime import tether

LOG = logging.getLogger("stanch.supervisor")

# A child that dies at once is started again ever more slowly, up to this many seconds.
SLOWEST_RESTART = 5.0
FIRST_RESTART = 0.1
STOP_WITHIN = 10.0


@dataclass
class Child:
    """One process that should be running."""

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    watching: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Runs children until it is told to stop. They die with this process, however it dies.

    Args:
        logs: The folder for one log file per child.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []
        self._stopping = False

    async def start(self, name: str, argv: Sequence[str], environ: Mapping[str, str]) -> Child:
        """Start a child, and keep it running."""
        self._logs.mkdir(parents=True, exist_ok=True)
        child = Child(name=name, argv=argv, environ=environ, log=self._logs / f"{name}.log")
        await self._spawn(child)
        child.watching = asyncio.create_task(self._keep(child))
        self._children.append(child)
        return child

    async def stop(self) -> None:
        """Stop every child, the last started first, and wait until all are gone."""
        self._stopping = True
        for child in reversed(self._children):
            process = child.process
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), timeout=STOP_WITHIN)
                except TimeoutError:
                    LOG.warning("%s did not stop within %s s and was killed", child.name, STOP_WITHIN)
                    process.kill()
                    await process.wait()
            if child.watching is not None:
                child.watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await child.watching

    async def _spawn(self, child: Child) -> None:
        with child.log.open("ab") as log:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(tether.__file__),
                str(os.getpid()),
                *child.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(child.environ),
                # Ctrl-C in the terminal is for us alone: we stop the others in order.
                start_new_session=True,
            )

    async def _keep(self, child: Child) -> None:
        delay = FIRST_RESTART
        loop = asyncio.get_running_loop()
        while child.process is not None:
            began = loop.time()
            code = await child.process.wait()
            if self._stopping:
                return
            if loop.time() - began > SLOWEST_RESTART:
                delay = FIRST_RESTART
            said = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            LOG.warning("%s ended (%s), starts again in %.1f s; log %s", child.name, said, delay, child.log)
            await asyncio.sleep(delay)
            delay = min(delay * 2, SLOWEST_RESTART)
            child.restarts += 1
            await self._spawn(child)
