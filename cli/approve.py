"""``stanch approve``: let a sealed plan run."""

import argparse

from cli import approval
from contracts.approvals import Verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the request and how to answer it."""
    approval.add_decision_arguments(parser)
    parser.add_argument("--reason", default="", help="kept with the decision")


def run(args: argparse.Namespace) -> int:
    """Approve."""
    return approval.decide(args, Verdict.APPROVE)
