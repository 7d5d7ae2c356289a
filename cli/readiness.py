"""``stanch readiness``: whether failovers would work now, found out before anybody needs one."""

import argparse
from datetime import datetime
from itertools import groupby

from pydantic import TypeAdapter

from cli import show
from cli.client import Gateway, add_person, parse, segment
from contracts.readiness import CheckState, ServiceReadiness
from runtime.clock import utc_now

_WORDS = {CheckState.OK: "ready", CheckState.NOT_READY: "not ready", CheckState.UNKNOWN: "not known"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one parser for each thing that can be done."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    listing = verbs.add_parser("list", help="list the failovers and whether they would work")
    show.add_json(listing)
    listing.set_defaults(call=_list)
    for name, text, call in (
        ("show", "show one with its checks and its history", _show),
        ("run", "have one looked at now", _run),
    ):
        one = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        one.add_argument("service", metavar="SERVICE")
        one.add_argument("environment", metavar="ENVIRONMENT", nargs="?", default="production")
        show.add_json(one)
        one.set_defaults(call=call)
        if call is _run:
            add_person(one)


def _path(args: argparse.Namespace) -> str:
    return f"/v1/readiness/{segment(args.service)}/{segment(args.environment)}"


def _list(args: argparse.Namespace) -> int:
    listed = parse(list[ServiceReadiness], Gateway.of(args).get("/v1/readiness"))
    if args.json:
        print(show.as_json(TypeAdapter(list[ServiceReadiness]).dump_python(listed, mode="json")))
        return 0
    if not listed:
        print("No service of the catalogue has a failover.")
        return 0
    now = utc_now()
    rows = [
        (
            found.service,
            found.environment,
            _WORDS[found.state],
            show.ago(found.since, now) if found.since else "never",
            show.ago(found.at, now) if found.at else "never",
            "; ".join(f"{one.name}: {one.detail}" for one in found.checks if one.state is not CheckState.OK),
        )
        for found in listed
    ]
    print("\n".join(show.table(("SERVICE", "ENVIRONMENT", "STATE", "SINCE", "LOOKED AT", "WHY"), rows)))
    return 0


def _show(args: argparse.Namespace) -> int:
    found = parse(ServiceReadiness, Gateway.of(args).get(_path(args), {"limit": "1000"}))
    if args.json:
        print(show.as_json(found.model_dump(mode="json")))
        return 0
    now = utc_now()
    lines = [f"{show.clean(found.service)}  {show.clean(found.environment)}  {_WORDS[found.state]}"]
    lines += _when(found, now)
    for check in found.checks:
        detail = f": {show.clean(check.detail)}" if check.detail else ""
        what = f"{_WORDS[check.state]}, {show.clean(check.name)} of {show.clean(check.target)}{detail}"
        lines.append(show.field("check", what))
    for state, looks in groupby(found.history, key=lambda look: look.state):
        first, *rest = looks
        lines.append(
            show.field("was", f"{_WORDS[state]} from {show.moment(first.at, now)}, {len(rest) + 1} looks")
        )
    print("\n".join(lines))
    return 0


def _run(args: argparse.Namespace) -> int:
    found = parse(ServiceReadiness, Gateway.of(args).post(f"{_path(args)}/run", {}))
    if args.json:
        print(show.as_json(found.model_dump(mode="json")))
        return 0
    print(f"A worker looks at it now. See `stanch readiness show {found.service} {found.environment}`.")
    return 0


def _when(found: ServiceReadiness, now: datetime) -> list[str]:
    if found.at is None or found.since is None:
        return [show.field("looked at", "never")]
    lines = [
        show.field("looked at", show.moment(found.at, now)),
        show.field("since", show.moment(found.since, now)),
    ]
    return [*lines, show.field("next", show.moment(found.next_at, now))] if found.next_at else lines
