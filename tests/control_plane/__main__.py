"""Run a command with a real control plane: ``python -m tests.control_plane [COMMAND [ARGUMENT...]]``.

The command finds an administrator's kubeconfig in ``KUBECONFIG_TEST``. Where that is set already nothing is
started; where nothing can be started it is left out, and the tests that need it say why. Without a command
the control plane runs until Ctrl-C.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from deploy.demo.processes import WorldError
from runtime import tether
from tests.control_plane import build
from tests.control_plane.cluster import ControlPlane, control_plane


def main(command: list[str]) -> int:
    """Start what is needed, run the command, end everything, and give the command's exit code."""
    signal.signal(signal.SIGTERM, _leave)
    environ = dict(os.environ)
    with ExitStack() as stack:
        reason = build.why_not()
        if environ.get("KUBECONFIG_TEST"):
            _say(f"using {environ['KUBECONFIG_TEST']}")
        elif reason and command:
            _say(reason)
        else:
            try:
                running = start(stack)
            except (build.BuildError, WorldError) as error:
                _say(str(error))
                return 1
            environ["KUBECONFIG_TEST"] = str(running.kubeconfig)
            _say(f"ready after {running.took:.1f} s: {_sizes(running)}")
        if command:
            return _run(command, environ)
        _say(f"export KUBECONFIG={environ['KUBECONFIG_TEST']}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


def start(stack: ExitStack) -> ControlPlane:
    """Build what is missing and start it; it ends with the stack."""
    programs = build.build()
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stanch-control-plane-")))
    return stack.enter_context(control_plane(programs, home))


def _run(command: list[str], environ: dict[str, str]) -> int:
    tied = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *command]
    with subprocess.Popen(tied, env=environ) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:  # the child has heard it too, and says when it is done
                continue
            except SystemExit:
                child.terminate()
                raise


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    sys.exit(128 + number)


def _sizes(running: ControlPlane) -> str:
    """Say how much memory each process has, where the kernel tells."""
    said = []
    for name, pid in running.pids.items():
        status = Path(f"/proc/{pid}/status")
        lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
        size = next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:")), 0)
        said.append(f"{name} {size} MB")
    return ", ".join(said)


def _say(text: str) -> None:
    print(f"control plane: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
