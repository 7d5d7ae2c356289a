"""``stanch gateway``: the HTTP side alone, for where it scales apart from the workers."""

import argparse
import os
import sys

from gateway import serve
from runtime import settings


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Take nothing: the settings say everything."""


def run(_: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    code = serve.run(settings.load())
    sys.stdout.flush()
    # The Temporal SDK's runtime can abort while the interpreter shuts down: leave without it.
    os._exit(code)
