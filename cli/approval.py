"""``stanch approval``: what waits for a decision. Also what ``approve`` and ``reject`` share."""

import argparse
import sys
from datetime import datetime

from authority import seals
from cli import plans, show
from cli.client import Gateway, add_person, parse, segment
from contracts.approvals import Approval, ApprovalRequest, ApprovalState, SignedDecision, Verdict
from contracts.base import JsonObject
from contracts.errors import ConflictError, InputError
from contracts.notices import Notice
from runtime.clock import utc_now

_SHORTEST_DIGEST = 12  # hex digits that a person may pin instead of all 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``list`` and ``show``."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    listing = verbs.add_parser("list", help="list requests, pending ones unless told otherwise")
    listing.add_argument("--state", choices=[*ApprovalState, "all"], default=ApprovalState.PENDING)
    show.add_json(listing)
    listing.set_defaults(call=_list)
    one = verbs.add_parser("show", help="show one request with its whole plan")
    one.add_argument("approval", metavar="ID", help="for example APR-7")
    add_person(one)
    show.add_json(one)
    one.set_defaults(call=_show)


def run(args: argparse.Namespace) -> int:
    """Run the chosen one."""
    code: int = args.call(args)
    return code


def add_decision_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``approve`` and ``reject`` both take."""
    parser.add_argument("approval", metavar="ID", help="for example APR-7")
    parser.add_argument("--yes", action="store_true", help="do not ask on the terminal")
    parser.add_argument(
        "--digest", help="decide only if the plan has this digest (its first 12 digits are enough)"
    )
    add_person(parser)
    show.add_json(parser)


def decide(args: argparse.Namespace, verdict: Verdict) -> int:
    """Show the plan, ask, and send the decision with the digest of what was shown.

    Raises:
        ConflictError: It was decided before, or the plan is not the pinned one.
        InputError: There is no terminal to ask on.
        StanchError: What the gateway said.
    """
    gateway = Gateway.of(args)
    gateway.check_person()
    approval = _fetch(gateway, args.approval)
    request = approval.request
    now = utc_now()
    if args.digest is not None and not _is_pinned(request.plan_digest, args.digest):
        raise ConflictError(f"{request.id} asks about the plan {request.plan_digest}, not {args.digest!r}")
    if request.state is not ApprovalState.PENDING:
        return _closed(request, verdict, gateway.person, as_json=args.json)
    if not _is_whole(approval):
        raise ConflictError(
            f"{request.id}: the plan as shown does not have the digest of the sealed one; "
            "nothing was sent: are gateway and terminal of one version?"
        )
    print("\n".join(plans.approval_lines(approval, now)), file=sys.stderr if args.json else sys.stdout)
    if not args.yes and not _confirmed(verdict, request, gateway.person):
        print("Nothing was sent.", file=sys.stderr)
        return 1
    answer = gateway.post(
        f"/v1/approvals/{segment(request.id)}/decision",
        {"verdict": verdict, "plan_digest": request.plan_digest, "reason": args.reason},
    )
    return _report(parse(SignedDecision, answer), as_json=args.json)


def _fetch(gateway: Gateway, name: str) -> Approval:
    return parse(Approval, gateway.get(f"/v1/approvals/{segment(name)}"))


def _is_whole(approval: Approval) -> bool:
    """Say whether the plan as this version understands it is, to the last field, the sealed one."""
    return seals.digest(approval.plan) == approval.request.plan_digest


def _is_pinned(digest: str, pinned: str) -> bool:
    return len(pinned) >= _SHORTEST_DIGEST and digest.startswith(pinned.lower())


def _confirmed(verdict: Verdict, request: ApprovalRequest, person: str) -> bool:
    if not sys.stdin.isatty():
        raise InputError(
            f"there is no terminal to ask on: look at `stanch approval show {request.id}`, then say "
            f"--yes --digest {request.plan_digest[:_SHORTEST_DIGEST]}"
        )
    print(f"\n{verdict.capitalize()} {request.id} as {show.clean(person)}? [y/N] ", end="", file=sys.stderr)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _closed(request: ApprovalRequest, verdict: Verdict, person: str, *, as_json: bool) -> int:
    signed = request.signed
    if signed and (signed.decision.person, signed.decision.verdict) == (person, verdict):
        return _report(signed, as_json=as_json)
    raise ConflictError(f"already decided: {plans.request_line(request, utc_now())}")


def _report(signed: SignedDecision, *, as_json: bool) -> int:
    decision = signed.decision
    if as_json:
        print(show.as_json(signed.model_dump(mode="json")))
        return 0
    done = {Verdict.APPROVE: "approved", Verdict.REJECT: "rejected"}[decision.verdict]
    at = show.moment(decision.decided_at, utc_now())
    print(f"{decision.request} {done} by {show.clean(decision.person)}, {at}.")
    if decision.verdict is Verdict.APPROVE:
        print(f"Follow it with `stanch incident show {decision.incident}`.")
    return 0


def _list(args: argparse.Namespace) -> int:
    query = {} if args.state == "all" else {"state": str(args.state)}
    answer = Gateway.of(args).get("/v1/approvals", query)
    requests = parse(list[ApprovalRequest], answer)
    if args.json:
        print(show.as_json([_dump(request) for request in requests]))
        return 0
    if not requests:
        print("Nothing waits for a decision." if query else "No plan was ever sealed.")
        return 0
    now = utc_now()
    rows = [
        (
            request.id,
            request.incident,
            request.severity,
            request.risk,
            request.state,
            show.short_moment(request.closed_at or request.expires_at, now),
            request.title,
        )
        for request in requests
    ]
    head = ("ID", "INCIDENT", "SEV", "RISK", "STATE", "UNTIL", "PLAN")
    print("\n".join(show.table(head, rows)))
    return 0


def _dump(request: ApprovalRequest) -> JsonObject:
    """Give a request for programs, with how long it waited, or has waited until now, and for whom."""
    waited = (request.closed_at or utc_now()) - request.asked_at
    answered_by = request.signed.decision.person if request.signed else None
    more: JsonObject = {"waited_seconds": waited.total_seconds(), "answered_by": answered_by}
    return request.model_dump(mode="json") | more


def _notice_line(notice: Notice, now: datetime) -> str:
    at = notice.seen_at or notice.sent_at or notice.queued_at
    line = f"{show.clean(notice.person)} by {notice.channel}: {notice.state}, {show.moment(at, now)}"
    return show.field("told", f"{line}: {show.clean(notice.error)}" if notice.error else line)


def _show(args: argparse.Namespace) -> int:
    gateway = Gateway.of(args)
    approval = _fetch(gateway, args.approval)
    path = f"/v1/approvals/{segment(approval.request.id)}"
    notices = parse(list[Notice], gateway.get(f"{path}/notices"))
    if gateway.person and approval.request.state is ApprovalState.PENDING:
        gateway.tell(f"{path}/seen")
    if args.json:
        told = [notice.model_dump(mode="json") for notice in notices]
        print(show.as_json(approval.model_dump(mode="json") | {"notices": told}))
        return 0
    now = utc_now()
    print("\n".join([*plans.approval_lines(approval, now), *(_notice_line(one, now) for one in notices)]))
    if not _is_whole(approval):
        print("stanch: sealed by another version; what this one does not know is not shown", file=sys.stderr)
    return 0
