"""``stanch audit``: verify the evidence where it is stored, without asking the gateway."""

import argparse

from authority.decisions import Verifier
from cli import show
from ledger import Ledger
from ledger.audit import verify
from runtime import settings as configuration
from runtime.clock import utc_now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``verify``."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    verifying = verbs.add_parser("verify", help="recompute the log's tree and check every signature")
    show.add_json(verifying)


def run(args: argparse.Namespace) -> int:
    """Verify the evidence log, its checkpoints and every decision.

    Returns:
        1 when anything is wrong; each problem is a sentence on standard output.
    """
    settings = configuration.load()
    ledger = Ledger.open(settings.ledger_url, clock=utc_now)
    try:
        ledger.check()
        with show.waiting("reading the evidence log"):
            report = verify(ledger, Verifier(configuration.public_keys(settings)))
    finally:
        ledger.close()
    if args.json:
        print(show.as_json(report.model_dump(mode="json")))
    else:
        print(f"entries      {report.entries}")
        print(f"root         {show.clean(report.root)}")
        print(f"checkpoints  {report.checkpoints}, decisions {report.decisions}")
        for problem in report.problems:
            print(f"WRONG        {show.clean(problem)}")
        print("The evidence is whole." if report.ok else "The evidence is NOT whole.")
    return 0 if report.ok else 1
