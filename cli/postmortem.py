"""``stanch postmortem``: the postmortem of a resolved incident, as Markdown."""

import argparse

from cli import show
from cli.client import Gateway, segment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the incident."""
    parser.add_argument("incident", metavar="ID", help="for example INC-42")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    markdown = Gateway.of(args).text(f"/v1/incidents/{segment(args.incident)}/postmortem")
    print(show.clean_block(markdown).rstrip())
    return 0
