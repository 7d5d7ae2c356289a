"""``stanch reject``: turn a sealed plan down, with the reason that the next planning learns from."""

import argparse

from cli import approval
from cli.client import add_options
from contracts.approvals import Verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the request and how to answer it."""
    add_options(parser, about="approval", orders=True, reason=True)
    approval.add_decision_options(parser)


def run(args: argparse.Namespace) -> int:
    """Reject."""
    return approval.decide(args, Verdict.REJECT)
