"""``stanch grant``: say yes ahead of time, see what was said, and take it back."""

import argparse
from datetime import datetime, timedelta

from pydantic import JsonValue, ValidationError

from authority.grants import read_limits, write_limits
from cli import approval, show
from cli.client import Gateway, add_person, parse, segment
from contracts.approvals import Envelope, StandingGrant
from contracts.base import JsonObject
from contracts.errors import InputError
from contracts.plans import Risk
from runtime.clock import utc_now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``list``, ``show``, ``give`` and ``revoke``."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    listing = verbs.add_parser("list", help="list what may still answer something")
    listing.add_argument("--all", action="store_true", help="also what is over, used up or revoked")
    show.add_json(listing)
    listing.set_defaults(call=_list)

    one = verbs.add_parser("show", help="show one")
    one.add_argument("grant", metavar="ID", help="for example GRT-3")
    show.add_json(one)
    one.set_defaults(call=lambda a: _print(a, Gateway.of(a).get(_path(a.grant))))

    give = verbs.add_parser("give", help="say yes to whatever is inside an envelope")
    give.add_argument("--service", required=True)
    give.add_argument("--environment", default="production")
    give.add_argument(
        "--incident", metavar="ID", help="only in this one; without it in every one of the service"
    )
    give.add_argument("--action", action="append", required=True, help="for example k8s.scale; repeatable")
    give.add_argument(
        "--target", action="append", required=True, help="as plans name it, or ending in /*; repeatable"
    )
    approval.add_limit(give)
    give.add_argument("--max-risk", type=Risk, choices=list(Risk), default=Risk.LOW)
    give.add_argument(
        "--for", dest="lasts", type=show.span, required=True, metavar="SPAN", help="30m, 4h or 3d"
    )
    give.add_argument("--uses", type=int, help="for so many plans; without it for any number")
    give.add_argument(
        "--after",
        type=show.span,
        default=timedelta(),
        metavar="SPAN",
        help="only when all were silent for so long",
    )
    give.set_defaults(call=_give)

    revoke = verbs.add_parser("revoke", help="take one back; what runs under it goes on")
    revoke.add_argument("grant", metavar="ID", help="for example GRT-3")
    revoke.set_defaults(
        call=lambda a: _print(a, Gateway.of(a).post(f"{_path(a.grant)}/revoke", {"reason": a.reason}))
    )
    for order in (give, revoke):
        order.add_argument("--reason", required=True, help="kept with the evidence")
        add_person(order)
        show.add_json(order)


def _path(grant: str) -> str:
    return f"/v1/grants/{segment(grant)}"


def _give(args: argparse.Namespace) -> int:
    try:
        envelope = Envelope(
            actions=tuple(args.action),
            targets=tuple(args.target),
            limits=read_limits(args.limit),
            max_risk=args.max_risk,
        )
    except ValidationError as error:
        raise InputError(error.errors()[0]["msg"]) from error
    body: JsonObject = {
        "incident": args.incident,
        "service": args.service,
        "environment": args.environment,
        "envelope": envelope.model_dump(mode="json"),
        "reason": args.reason,
        "lasts": args.lasts.total_seconds(),
        "uses": args.uses,
        "after": args.after.total_seconds(),
    }
    return _print(args, Gateway.of(args).post("/v1/grants", body))


def _list(args: argparse.Namespace) -> int:
    query = {"limit": "1000"} | ({} if args.all else {"usable": "true"})
    answer = Gateway.of(args).get("/v1/grants", query)
    listed = parse(list[StandingGrant], answer)
    if args.json:
        print(show.as_json(answer))
        return 0
    if not listed:
        print("Nobody has given a grant." if args.all else "No grant is in use.")
        return 0
    now = utc_now()
    rows = [
        (
            one.grant.id,
            one.grant.incident or one.grant.service,
            one.grant.given_by,
            _used(one),
            _until(one, now),
            f"{', '.join(one.grant.envelope.actions)} on {', '.join(one.grant.envelope.targets)}",
        )
        for one in listed
    ]
    print("\n".join(show.table(("ID", "WHERE", "BY", "USED", "UNTIL", "WHAT"), rows)))
    return 0


def _used(standing: StandingGrant) -> str:
    uses = standing.grant.uses
    return f"{standing.used} of {uses}" if uses else str(standing.used)


def _until(standing: StandingGrant, now: datetime) -> str:
    return "revoked" if standing.revoked_at else show.short_moment(standing.grant.expires_at, now)


def _print(args: argparse.Namespace, answer: JsonValue) -> int:
    standing = parse(StandingGrant, answer)
    if args.json:
        print(show.as_json(answer))
        return 0
    now, grant = utc_now(), standing.grant
    envelope, incident = grant.envelope, grant.incident or "every incident"
    lines = [
        f"{grant.id}  {'revoked' if standing.revoked_at else 'given'}  {show.clean(grant.reason)}",
        show.field(
            "by",
            f"{show.clean(grant.given_by)} ({grant.authenticated_by}), {show.moment(grant.given_at, now)}",
        ),
        show.field(
            "where",
            f"{show.clean(grant.service)} in {show.clean(grant.environment)}, {incident}",
        ),
        show.field("actions", show.clean(", ".join(envelope.actions))),
        show.field("targets", show.clean(", ".join(envelope.targets))),
        show.field("limits", show.clean("; ".join(write_limits(envelope))) or "none"),
        show.field("max risk", envelope.max_risk),
        show.field(
            "answers",
            f"after {show.size(grant.after.total_seconds())} of silence" if grant.after else "at once",
        ),
        show.field("used", _used(standing)),
        show.field("until", show.moment(grant.expires_at, now)),
    ]
    if standing.revoked_at:
        lines.append(
            show.field(
                "revoked", f"by {show.clean(standing.revoked_by)}, {show.moment(standing.revoked_at, now)}"
            )
        )
    print("\n".join(lines))
    return 0
