"""``stanch grant``: say yes ahead of time, see what was said, and take it back."""

import argparse
from datetime import datetime, timedelta

from pydantic import JsonValue, ValidationError

from authority.grants import read_limits, write_limits
from cli import approval, show
from cli.client import Gateway, add_verb, parse, segment
from contracts.approvals import Envelope, StandingGrant
from contracts.base import JsonObject
from contracts.errors import InputError, first_wrong
from contracts.plans import Risk
from runtime.clock import utc_now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``list``, ``show``, ``give`` and ``revoke``."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    listing = add_verb(verbs, "list", "list what may still answer something", _list)
    listing.add_argument("--all", action="store_true", help="also what is over, used up or revoked")
    add_verb(verbs, "show", "show one", _show, about="grant")
    give = add_verb(
        verbs, "give", "say yes to whatever is inside an envelope", _give, orders=True, reason=True
    )
    give.add_argument("--service", required=True)
    give.add_argument("--environment", default="production")
    where = "only in this one; without it in every one of the service"
    give.add_argument("--incident", metavar="ID", help=where)
    give.add_argument(
        "--action", action="append", required=True, help="for example k8s.scale_deployment; repeatable"
    )
    named = "as plans name it, or ending in /*; repeatable"
    give.add_argument("--target", action="append", required=True, help=named)
    approval.add_limit(give)
    give.add_argument("--max-risk", choices=[*map(str, Risk)], default=Risk.LOW)
    give.add_argument("--for", dest="lasts", type=show.span, required=True, metavar="SPAN", help=show.SPANS)
    give.add_argument("--uses", type=int, help="for so many plans; without it for any number")
    silent = "only when all were silent for so long"
    give.add_argument("--after", type=show.span, default=timedelta(), metavar="SPAN", help=silent)
    text = "take one back; what runs under it goes on"
    add_verb(verbs, "revoke", text, _revoke, about="grant", orders=True, reason=True)


def _path(grant: str) -> str:
    return f"/v1/grants/{segment(grant)}"


def _show(args: argparse.Namespace) -> int:
    return _print(args, Gateway.of(args).get(_path(args.grant)))


def _revoke(args: argparse.Namespace) -> int:
    return _print(args, Gateway.of(args).post(f"{_path(args.grant)}/revoke", {"reason": args.reason}))


def _give(args: argparse.Namespace) -> int:
    named = {"actions": args.action, "targets": args.target, "max_risk": args.max_risk}
    try:
        envelope = Envelope.model_validate(named | {"limits": read_limits(args.limit)})
    except ValidationError as error:
        raise InputError(first_wrong(error)) from error
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
    none = "Nobody has given a grant." if args.all else "No grant is in use."
    return show.listing(args, answer, ("ID", "WHERE", "BY", "USED", "UNTIL", "WHAT"), rows, none=none)


def _used(standing: StandingGrant) -> str:
    uses = standing.grant.uses
    return f"{standing.used} of {uses}" if uses else str(standing.used)


def _until(standing: StandingGrant, now: datetime) -> str:
    return "revoked" if standing.revoked_at else show.short_moment(standing.grant.expires_at, now)


def _print(args: argparse.Namespace, answer: JsonValue) -> int:
    standing = parse(StandingGrant, answer)
    now, grant = utc_now(), standing.grant
    envelope, silent = grant.envelope, show.size(grant.after.total_seconds())
    revoked = standing.revoked_at
    lines = [
        f"{grant.id}  {'revoked' if revoked else 'given'}  {show.clean(grant.reason)}",
        *show.fields(
            ("by", f"{grant.given_by} ({grant.authenticated_by}), {show.moment(grant.given_at, now)}"),
            ("where", f"{grant.service} in {grant.environment}, {grant.incident or 'every incident'}"),
            ("actions", ", ".join(envelope.actions)),
            ("targets", ", ".join(envelope.targets)),
            ("limits", "; ".join(write_limits(envelope)) or "none"),
            ("max risk", envelope.max_risk),
            ("answers", f"after {silent} of silence" if grant.after else "at once"),
            ("used", _used(standing)),
            ("until", show.moment(grant.expires_at, now)),
            ("revoked", revoked and f"by {standing.revoked_by}, {show.moment(revoked, now)}"),
        ),
    ]
    return show.answer(args, answer, lines)
