"""``stanch mitigation``: what is in force, and its end: undo, extend, make permanent."""

import argparse
from datetime import datetime

from pydantic import TypeAdapter

from cli import show
from cli.client import Gateway, add_person, parse, segment
from contracts.base import JsonObject
from contracts.in_force import ForceState, InForce
from runtime.clock import utc_now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one parser for each thing that can be done."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    listing = verbs.add_parser("list", help="list what is in force, the next to end first")
    listing.add_argument("--all", action="store_true", help="also what is over")
    listing.add_argument("--incident", metavar="ID", help="only of this incident")
    show.add_json(listing)
    listing.set_defaults(call=_list)

    one = _mitigation(verbs, "show", "show what a mitigation has left behind")
    one.set_defaults(call=_show)

    undo = _mitigation(verbs, "undo", "plan its way back, and ask whether that may run", orders=True)
    undo.add_argument("--step", type=int, action="append", default=[], help="only this step; repeatable")
    undo.set_defaults(body=lambda a: {"reason": a.reason, "steps": a.step})

    extend = _mitigation(verbs, "extend", "let it stay until later", orders=True)
    extend.add_argument(
        "--for", dest="span", type=show.span, required=True, metavar="SPAN", help="30m, 4h or 3d"
    )
    extend.set_defaults(body=lambda a: {"reason": a.reason, "until": (utc_now() + a.span).isoformat()})

    keep = _mitigation(verbs, "make-permanent", "let it stay for good", orders=True)
    keep.set_defaults(body=lambda a: {"reason": a.reason})


def run(args: argparse.Namespace) -> int:
    """Run the chosen one."""
    code: int = args.call(args)
    return code


def _mitigation(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    *,
    orders: bool = False,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("mitigation", metavar="ID", help="for example INC-42/1")
    if orders:
        parser.add_argument("--reason", required=True, help="kept with the evidence")
        parser.set_defaults(call=_order, command=name)
        add_person(parser)
    show.add_json(parser)
    return parser


def _path(mitigation: str) -> str:
    return "/v1/mitigations/" + "/".join(map(segment, mitigation.split("/", 1)))


def _list(args: argparse.Namespace) -> int:
    query = {"limit": "1000"} | ({"closed": "true"} if args.all else {})
    query |= {"incident": args.incident} if args.incident else {}
    listed = parse(list[InForce], Gateway.of(args).get("/v1/mitigations", query))
    if args.json:
        print(show.as_json(TypeAdapter(list[InForce]).dump_python(listed, mode="json")))
        return 0
    if not listed:
        print("No mitigation left anything behind." if args.all else "Nothing is in force.")
        return 0
    now = utc_now()
    rows = [
        (found.mitigation, found.service, found.owner or "nobody", _stands(found, now), found.title)
        for found in listed
    ]
    print("\n".join(show.table(("ID", "SERVICE", "OWNER", "UNTIL", "MITIGATION"), rows)))
    return 0


def _stands(found: InForce, now: datetime) -> str:
    if found.state is not ForceState.IN_FORCE:
        return found.state
    until = show.short_moment(found.expires_at, now)
    return f"{until}, {found.undo} runs" if found.undo else until


def _show(args: argparse.Namespace) -> int:
    return _print(args, parse(InForce, Gateway.of(args).get(_path(args.mitigation))))


def _order(args: argparse.Namespace) -> int:
    body: JsonObject = args.body(args)
    return _print(
        args, parse(InForce, Gateway.of(args).post(f"{_path(args.mitigation)}/{args.command}", body))
    )


def _print(args: argparse.Namespace, found: InForce) -> int:
    if args.json:
        print(show.as_json(found.model_dump(mode="json")))
        return 0
    now = utc_now()
    lines = [
        f"{found.mitigation}  {found.state}  {show.clean(found.title)}",
        show.field("service", f"{show.clean(found.service)} in {show.clean(found.environment)}"),
        show.field("owner", show.clean(found.owner) or "nobody"),
        show.field("since", show.moment(found.since, now)),
        show.field("until", show.moment(found.closed_at or found.expires_at, now)),
    ]
    for step in found.steps:
        undone = f", undone {show.moment(step.undone_at, now)}" if step.undone_at else ""
        if step.changed_by is not None and step.changed_at is not None and not undone:
            by = show.clean(step.changed_by) or "somebody"
            undone = f", CHANGED BACK by {by}, seen {show.moment(step.changed_at, now)}"
        what = f"{step.step}. {show.clean(step.title)}: {show.clean(step.action.target)}{undone}"
        lines.append(show.field("step", what))
    if found.undo:
        lines.append(show.field("undo", f"{found.undo} is on its way; see `stanch approval list`"))
    print("\n".join(lines))
    return 0
