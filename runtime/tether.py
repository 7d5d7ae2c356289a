"""Run a program that cannot outlive its starter: ``tether.py PARENT PROGRAM [ARGUMENT...]``."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when ``parent`` dies; a no-op where there is no such request.

    The kernel forgets the wish in children, and keeps it over exec.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(f"the parent process {parent} is gone")


def main() -> None:
    """Tie ourselves to the parent and become the program."""
    die_with(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  (no shell is wanted)


if __name__ == "__main__":
    main()
