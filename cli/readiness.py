"""``stanch readiness``: whether failovers would work now, found out before anybody needs one."""

import argparse
from itertools import groupby

from cli import show
from cli.client import Gateway, add_verb, parse, segment
from contracts.readiness import CheckState, ServiceReadiness
from runtime.clock import utc_now

_WORDS = {CheckState.OK: "ready", CheckState.NOT_READY: "not ready", CheckState.UNKNOWN: "not known"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one parser for each thing that can be done."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    add_verb(verbs, "list", "list the failovers and whether they would work", _list)
    one = add_verb(verbs, "show", "show one with its checks and its history", _show)
    run = add_verb(verbs, "run", "have one looked at now", _run, orders=True)
    for verb in (one, run):
        verb.add_argument("service", metavar="SERVICE")
        verb.add_argument("environment", metavar="ENVIRONMENT", nargs="?", default="production")


def _path(args: argparse.Namespace) -> str:
    return f"/v1/readiness/{segment(args.service)}/{segment(args.environment)}"


def _list(args: argparse.Namespace) -> int:
    listed = parse(list[ServiceReadiness], Gateway.of(args).get("/v1/readiness"))
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
    head = ("SERVICE", "ENVIRONMENT", "STATE", "SINCE", "LOOKED AT", "WHY")
    return show.listing(args, listed, head, rows, none="No service of the catalogue has a failover.")


def _show(args: argparse.Namespace) -> int:
    found = parse(ServiceReadiness, Gateway.of(args).get(_path(args), {"limit": "1000"}))
    now = utc_now()
    lines = [f"{show.clean(found.service)}  {show.clean(found.environment)}  {_WORDS[found.state]}"]
    lines += show.fields(
        ("looked at", show.moment(found.at, now) if found.at else "never"),
        ("since", found.since and show.moment(found.since, now)),
        ("next", found.next_at and show.moment(found.next_at, now)),
    )
    for check in found.checks:
        what = f"{_WORDS[check.state]}, {check.name} of {check.target}"
        lines.append(show.field("check", f"{what}: {check.detail}" if check.detail else what))
    for state, looks in groupby(found.history, key=lambda look: look.state):
        first, *rest = looks
        said = f"{_WORDS[state]} from {show.moment(first.at, now)}, {len(rest) + 1} looks"
        lines.append(show.field("was", said))
    return show.answer(args, found, lines)


def _run(args: argparse.Namespace) -> int:
    found = parse(ServiceReadiness, Gateway.of(args).post(f"{_path(args)}/run", {}))
    where = f"{found.service} {found.environment}"
    return show.answer(args, found, [f"A worker looks at it now. See `stanch readiness show {where}`."])
