"""``stanch unfreeze``: let changes begin again."""

import argparse

from cli import freeze, show
from cli.client import Gateway, add_options, parse, segment
from contracts.errors import InputError
from contracts.guardrails import Freeze


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which freeze is lifted, and why."""
    parser.add_argument(
        "freeze", metavar="ID", nargs="?", help="for example FRZ-3; not needed while there is only one"
    )
    add_options(parser, orders=True, reason=True)


def run(args: argparse.Namespace) -> int:
    """Lift it."""
    gateway = Gateway.of(args)
    chosen = args.freeze or _only(freeze.standing(gateway))
    body = {"reason": args.reason}
    lifted = parse(Freeze, gateway.post(f"/v1/freezes/{segment(chosen)}/lift", body))
    lines = [f"{lifted.id} is lifted. What it refused does not come back by itself: plan again."]
    lines += [
        show.field("", f"{one.id} stands: {freeze.what(one)} stopped by {one.person}")
        for one in freeze.standing(gateway)
    ]
    return show.answer(args, lifted, lines)


def _only(standing: list[Freeze]) -> str:
    if len(standing) == 1:
        return standing[0].id
    if not standing:
        raise InputError("nothing is frozen")
    raise InputError(f"say which one: {', '.join(freeze.id for freeze in standing)}")
