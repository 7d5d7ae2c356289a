"""``stanch gateway``: the HTTP side alone, for where it scales apart from the workers."""

import argparse
import os
import sys


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Take nothing: the settings say everything."""


def run(_: argparse.Namespace) -> int:
    """Become the gateway; SIGINT and SIGTERM end it cleanly, with exit code 0."""
    # A surface does not import its sibling: the gateway is a program of its own.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "gateway.serve"])  # noqa: S606  (no shell is wanted)
