"""``stanch reject``: turn a sealed plan down, with the reason that the next planning learns from."""

import argparse

from cli import approval
from contracts.approvals import Verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the request and how to answer it."""
    approval.add_decision_arguments(parser)
    parser.add_argument("--reason", required=True, help="why not; kept with the decision")


def run(args: argparse.Namespace) -> int:
    """Reject."""
    return approval.decide(args, Verdict.REJECT)
