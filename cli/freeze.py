"""``stanch freeze``: stop all changes at once, and see what stops them now."""

import argparse

from cli import show
from cli.client import Gateway, add_options, parse
from contracts.errors import InputError
from contracts.guardrails import Freeze, Lock
from runtime.clock import utc_now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is frozen, and why."""
    parser.add_argument("--reason", help="why; kept with the evidence")
    parser.add_argument("--service", help="only changes of this service; without it those of every one")
    parser.add_argument("--show", action="store_true", help="change nothing: list freezes and locked targets")
    add_options(parser, orders=True)


def run(args: argparse.Namespace) -> int:
    """Freeze, or show."""
    gateway = Gateway.of(args)
    if args.show:
        return _show(args, gateway)
    if not args.reason:
        raise InputError("say why with --reason; `stanch freeze --show` only looks")
    body = {"service": args.service, "reason": args.reason}
    freeze = parse(Freeze, gateway.post("/v1/freezes", body))
    lines = [f"{freeze.id}: {what(freeze)} stopped. No call to a provider begins until it is lifted."]
    lines += [
        show.field("", f"{action} was on its way: its call ends, look at its outcome")
        for action in freeze.running
    ]
    lines.append(f"Lift it with `stanch unfreeze {freeze.id} --reason ...`.")
    return show.answer(args, freeze, lines)


def what(freeze: Freeze) -> str:
    """Say what a freeze stops."""
    return f"changes of {show.clean(freeze.service)} are" if freeze.service else "all changes are"


def standing(gateway: Gateway) -> list[Freeze]:
    """Give the freezes that stand."""
    return parse(list[Freeze], gateway.get("/v1/freezes"))


def _show(args: argparse.Namespace, gateway: Gateway) -> int:
    freezes = standing(gateway)
    locks = parse(list[Lock], gateway.get("/v1/locks"))
    now = utc_now()
    lines = [] if freezes else ["Nothing is frozen."]
    for freeze in freezes:
        said = f"{what(freeze)} stopped by {freeze.person}, {show.moment(freeze.at, now)}"
        lines.append(show.field(freeze.id, f"{said}: {freeze.reason}"))
    if locks:
        rows = [(lock.mitigation, show.short_moment(lock.since, now), lock.target) for lock in locks]
        lines += ["", *show.table(("HELD BY", "SINCE", "TARGET"), rows)]
    return show.answer(args, {"freezes": freezes, "locks": locks}, lines)
