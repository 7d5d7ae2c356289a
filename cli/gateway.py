"""``stanch gateway``: the HTTP side alone, for where it scales apart from the workers."""

import argparse
import os
import signal
import sys

from gateway import serve
from runtime import settings


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Take nothing: the settings say everything."""


def run(_: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; both end it cleanly, with exit code 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        code = serve.run(settings.load())
    except SystemExit:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    # The Temporal SDK's runtime can abort while the interpreter shuts down: leave without it.
    os._exit(code)


def _stop(*_: object) -> None:
    """End: the server takes the signal itself while it serves, and raises it again when it has stopped."""
    raise SystemExit
