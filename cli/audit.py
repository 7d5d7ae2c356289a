"""``stanch audit``: verify the evidence where it is stored, without asking the gateway."""

import argparse
from contextlib import closing

from authority.decisions import Verifier
from cli import show
from cli.client import add_verb
from ledger import Ledger
from ledger.audit import verify
from runtime import settings as configuration
from runtime.clock import utc_now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``verify``."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    add_verb(verbs, "verify", "recompute the log's tree and check every signature", _verify)


def _verify(args: argparse.Namespace) -> int:
    """Verify the evidence log, its checkpoints and every decision.

    Returns:
        1 when anything is wrong; each problem is a sentence on standard output.
    """
    settings = configuration.load()
    with closing(Ledger.open(settings.ledger_url, clock=utc_now)) as ledger:
        ledger.check()
        with show.waiting("reading the evidence log"):
            report = verify(ledger, Verifier(configuration.public_keys(settings)))
    lines = [
        f"entries      {report.entries}",
        f"root         {show.clean(report.root)}",
        f"checkpoints  {report.checkpoints}, decisions {report.decisions}",
        *(f"WRONG        {show.clean(problem)}" for problem in report.problems),
        "The evidence is whole." if report.ok else "The evidence is NOT whole.",
    ]
    return show.answer(args, report, lines) or int(not report.ok)
