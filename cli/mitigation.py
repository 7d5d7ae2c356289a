"""``stanch mitigation``: what is in force, and its end: undo, extend, make permanent."""

import argparse
from datetime import datetime
from functools import partial

from cli import show
from cli.client import Gateway, add_verb, parse, segment
from contracts.base import JsonObject
from contracts.in_force import ForceState, InForce, StepInForce
from runtime.clock import utc_now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one parser for each thing that can be done."""
    verbs = parser.add_subparsers(dest="command", metavar="WHAT", required=True)
    listing = add_verb(verbs, "list", "list what is in force, the next to end first", _list)
    listing.add_argument("--all", action="store_true", help="also what is over")
    listing.add_argument("--incident", metavar="ID", help="only of this incident")
    add_verb(verbs, "show", "show what a mitigation has left behind", _show, about="mitigation")

    order = partial(add_verb, verbs, call=_order, about="mitigation", orders=True, reason=True)
    undo = order("undo", "plan its way back, and ask whether that may run", body=lambda a: {"steps": a.step})
    undo.add_argument("--step", type=int, action="append", default=[], help="only this step; repeatable")
    extend = order("extend", "let it stay until later", body=_until)
    extend.add_argument("--for", dest="span", type=show.span, required=True, metavar="SPAN", help=show.SPANS)
    order("make-permanent", "let it stay for good", body=lambda _: {})


def _until(args: argparse.Namespace) -> JsonObject:
    return {"until": (utc_now() + args.span).isoformat()}


def _path(mitigation: str) -> str:
    return "/v1/mitigations/" + "/".join(map(segment, mitigation.split("/", 1)))


def _list(args: argparse.Namespace) -> int:
    query = {"limit": "1000"} | ({"closed": "true"} if args.all else {})
    query |= {"incident": args.incident} if args.incident else {}
    listed = parse(list[InForce], Gateway.of(args).get("/v1/mitigations", query))
    now = utc_now()
    rows = [
        (found.mitigation, found.service, found.owner or "nobody", _stands(found, now), found.title)
        for found in listed
    ]
    none = "No mitigation left anything behind." if args.all else "Nothing is in force."
    return show.listing(args, listed, ("ID", "SERVICE", "OWNER", "UNTIL", "MITIGATION"), rows, none=none)


def _stands(found: InForce, now: datetime) -> str:
    if found.state is not ForceState.IN_FORCE:
        return found.state
    until = show.short_moment(found.expires_at, now)
    return f"{until}, {found.undo} runs" if found.undo else until


def _show(args: argparse.Namespace) -> int:
    return _print(args, parse(InForce, Gateway.of(args).get(_path(args.mitigation))))


def _order(args: argparse.Namespace) -> int:
    body: JsonObject = args.body(args) | {"reason": args.reason}
    answer = Gateway.of(args).post(f"{_path(args.mitigation)}/{args.command}", body)
    return _print(args, parse(InForce, answer))


def _print(args: argparse.Namespace, found: InForce) -> int:
    now = utc_now()
    lines = [
        f"{found.mitigation}  {found.state}  {show.clean(found.title)}",
        *show.fields(
            ("service", f"{found.service} in {found.environment}"),
            ("owner", found.owner or "nobody"),
            ("since", show.moment(found.since, now)),
            ("until", show.moment(found.closed_at or found.expires_at, now)),
            *(("step", _step(step, now)) for step in found.steps),
            ("undo", found.undo and f"{found.undo} is on its way; see `stanch approval list`"),
        ),
    ]
    return show.answer(args, found, lines)


def _step(step: StepInForce, now: datetime) -> str:
    said = f"{step.step}. {step.title}: {step.action.target}"
    if step.undone_at:
        return f"{said}, undone {show.moment(step.undone_at, now)}"
    if step.changed_by is None or step.changed_at is None:
        return said
    return (
        f"{said}, CHANGED BACK by {step.changed_by or 'somebody'}, seen {show.moment(step.changed_at, now)}"
    )
