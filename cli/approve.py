"""``stanch approve``: let a sealed plan run, or some of its steps, or alone what asks two people."""

import argparse

from cli import approval
from cli.client import add_options
from contracts.approvals import Verdict
from contracts.guardrails import Guardrail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the request and how to answer it."""
    add_options(parser, about="approval", orders=True)
    approval.add_decision_options(parser)
    parser.add_argument("--reason", default="", help="kept with the decision")
    parser.add_argument("--steps", type=_numbers, default=[], metavar="1,2", help="approve only these steps")
    names = [*map(str, Guardrail)]
    override = f"set this guardrail aside; repeatable; of {', '.join(names)}"
    parser.add_argument(
        "--override", action="append", default=[], choices=names, metavar="GUARDRAIL", help=override
    )
    glass = "approve outside the rules of who may: everybody is told, and two others review it"
    parser.add_argument("--break-glass", action="store_true", help=glass)
    ahead = parser.add_argument_group(
        "saying yes ahead of time to later plans of this incident like this one"
    )
    ahead.add_argument("--envelope-minutes", type=int, metavar="MINUTES", help="for so long")
    ahead.add_argument("--uses", type=int, help="for so many plans; without it for any number")
    approval.add_limit(ahead)


def run(args: argparse.Namespace) -> int:
    """Approve."""
    return approval.decide(args, Verdict.APPROVE)


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: write the numbers of steps, as in 1,2") from error
