"""``stanch demo``: one incident in a small world, from the alert to the postmortem, through the real API.

A feature is released behind a flag, makes hundreds of queries for each page and exhausts the database's
connections. Restarting the pods does not help; switching the flag off does.
"""

import argparse

from deploy.demo import play


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a person may want of the demo."""
    parser.add_argument(
        "--interactive", action="store_true", help="you are the Incident Commander, in the console; stays up"
    )
    parser.add_argument(
        "--builtin", action="store_true", help="use the built-in alerter although Prometheus is installed"
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")


def run(args: argparse.Namespace) -> int:
    """Play the incident; exit code 0 only when every step was as told."""
    return play.run(interactive=args.interactive, builtin=args.builtin, keep=args.keep)
