"""``stanch approval``: what waits for a decision. Also what ``approve`` and ``reject`` share."""

import argparse
import sys
from datetime import datetime
from typing import TextIO

from authority import seals
from authority.grants import around, read_limits
from cli import plans, show
from cli.client import Gateway, add_verb, parse, segment
from contracts import approvals
from contracts.base import JsonObject
from contracts.errors import ConflictError, InputError, StanchError
from contracts.notices import Notice
from contracts.plans import Needs
from contracts.watches import SignalNow
from runtime.clock import utc_now

_SHORTEST_DIGEST = 12  # hex digits that a person may pin instead of all 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``list``, ``show`` and ``force``."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    listing = add_verb(verbs, "list", "list requests, pending ones unless told otherwise", _list)
    states = [*map(str, approvals.ApprovalState), "all"]
    listing.add_argument("--state", choices=states, default=approvals.ApprovalState.PENDING)
    add_verb(verbs, "show", "show one request with its whole plan", _show, about="approval", orders=True)
    text = "switch a running step of an approved plan to its ungraceful variant"
    force = add_verb(verbs, "force", text, _force, about="approval", orders=True, reason=True)
    add_decision_options(force)
    force.add_argument("--step", type=int, required=True, help="its number")


def add_decision_options(parser: argparse.ArgumentParser) -> None:
    """Add what every way to decide takes."""
    parser.add_argument("--yes", action="store_true", help="do not ask on the terminal")
    pinned = "decide only if the plan has this digest (its first 12 digits are enough)"
    parser.add_argument("--digest", help=pinned)


def add_limit(parser: "argparse._ActionsContainer") -> None:
    """Add what limits the arguments of an envelope."""
    limit = "for example replicas<=10 or on=false; repeatable; quote it for the shell"
    parser.add_argument("--limit", action="append", default=[], metavar="LIMIT", help=limit)


def decide(args: argparse.Namespace, verdict: approvals.Verdict) -> int:
    """Show the plan, ask, and send the decision with the digest of what was shown.

    Raises:
        ConflictError: It was decided before, or the plan is not the pinned one.
        InputError: There is no terminal to ask on.
        StanchError: What the gateway said.
    """
    gateway, approval = _looked_at(args)
    request = approval.request
    now = utc_now()
    more, ahead = _said(args), _ahead(args, approval)
    if request.state is not approvals.ApprovalState.PENDING:
        signed = request.signed
        if signed and (signed.decision.person, signed.decision.verdict) == (gateway.person, verdict):
            return _report(args, signed, approval)
        raise ConflictError(f"already decided: {plans.request_line(request, now)}")
    if not _is_whole(approval):
        raise ConflictError(
            f"{request.id}: the plan as shown does not have the digest of the sealed one; "
            "nothing was sent: are gateway and terminal of one version?"
        )
    print("\n".join(plans.approval_lines(approval, now)), file=_aside(args))
    what = "BREAK THE GLASS and approve" if more.get("break_glass") else verdict.capitalize()
    if not _confirmed(args, what, request, gateway.person):
        return 1
    body = {"verdict": verdict, "plan_digest": request.plan_digest, "reason": args.reason}
    answer = gateway.post(f"/v1/approvals/{segment(request.id)}/decision", body | more)
    code = _report(args, parse(approvals.SignedDecision, answer), approval)
    if ahead is not None:
        try:
            given = parse(approvals.StandingGrant, gateway.post("/v1/grants", ahead)).grant
        except StanchError as error:
            raise type(error)(
                f"{request.id} is approved, but the yes ahead of time was refused: {error}"
            ) from error
        until = show.moment(given.expires_at, utc_now())
        print(f"{given.id} says yes to more of it in {given.incident} until {until}.", file=_aside(args))
    return code


def _looked_at(args: argparse.Namespace) -> tuple[Gateway, approvals.Approval]:
    """Give the gateway as a person, and the request, which is about the pinned plan.

    Raises:
        ConflictError: The plan is not the pinned one.
    """
    gateway = Gateway.of(args)
    gateway.check_person()
    approval = _fetch(gateway, args.approval)
    seal = approval.request.plan_digest
    if args.digest is not None and not _is_pinned(seal, args.digest):
        raise ConflictError(f"{approval.request.id} asks about the plan {seal}, not {args.digest!r}")
    return gateway, approval


def _said(args: argparse.Namespace) -> JsonObject:
    """Give what an approval says besides yes."""
    more: JsonObject = {
        "steps": getattr(args, "steps", []),
        "break_glass": getattr(args, "break_glass", False),
        "overrides": getattr(args, "override", []),
    }
    if (more["break_glass"] or more["overrides"]) and not args.reason.strip():
        raise InputError("say why with --reason: others read it afterwards")
    return {name: value for name, value in more.items() if value}


def _ahead(args: argparse.Namespace, approval: approvals.Approval) -> JsonObject | None:
    """Give the grant that is asked for with an approval: around the plan, with the limits that are named.

    Raises:
        InputError: It has a limit that cannot be read, or no reason or no end.
    """
    minutes = getattr(args, "envelope_minutes", None)
    if minutes is None:
        if getattr(args, "limit", None) or getattr(args, "uses", None):
            raise InputError("--limit and --uses are about a yes ahead of time: add --envelope-minutes")
        return None
    if minutes < 1 or not args.reason.strip():
        raise InputError("a yes ahead of time needs a --reason, and at least one minute")
    plan = approval.plan
    envelope = around(plan)
    limits = dict(envelope.limits)
    for name, bound in read_limits(args.limit).items():  # with or without the action's name before it
        said = bound.model_dump(exclude_none=True)  # what it does not say stays as the plan has it
        for known in [one for one in limits if one.endswith(f".{name}")] or [name]:
            limits[known] = limits.get(known, approvals.Bound()).model_copy(update=said)
    return {
        "incident": plan.incident,
        "service": plan.service,
        "environment": plan.environment,
        "envelope": envelope.model_copy(update={"limits": limits}).model_dump(mode="json"),
        "reason": args.reason,
        "lasts": minutes * 60,
        "uses": args.uses,
    }


def _force(args: argparse.Namespace) -> int:
    gateway, approval = _looked_at(args)
    step = next((one for one in approval.plan.steps if one.number == args.step), None)
    if step is None or step.forced is None:
        raise InputError(f"{approval.request.id}: step {args.step} is not there or cannot be forced")
    print("\n".join(plans.forced_lines(step)), file=_aside(args))
    if not _confirmed(args, f"Force step {step.number} of", approval.request, gateway.person):
        return 1
    path = f"/v1/approvals/{segment(approval.request.id)}/force"
    signed = parse(approvals.SignedDecision, gateway.post(path, {"step": step.number, "reason": args.reason}))
    by, which = signed.forced_by, f"Step {step.number} of {approval.request.id}"
    if step.needs is Needs.TWO and len(by) == 1 and not signed.decision.break_glass:
        return show.answer(
            args, signed, [f"{which} asks two people: {by[0]} has ordered it, one more has to."]
        )
    said = f"{which} is forced. Follow it with"
    return show.answer(args, signed, [said, f"`stanch incident show {approval.request.incident}`."])


def _aside(args: argparse.Namespace) -> TextIO:
    """Give where people read while a program reads JSON."""
    return sys.stderr if args.json else sys.stdout


def _fetch(gateway: Gateway, name: str) -> approvals.Approval:
    return parse(approvals.Approval, gateway.get(f"/v1/approvals/{segment(name)}"))


def _is_whole(approval: approvals.Approval) -> bool:
    """Say whether the plan as this version understands it is, to the last field, the sealed one."""
    return seals.digest(approval.plan) == approval.request.plan_digest


def _is_pinned(digest: str, pinned: str) -> bool:
    return len(pinned) >= _SHORTEST_DIGEST and digest.startswith(pinned.lower())


def _confirmed(args: argparse.Namespace, what: str, request: approvals.ApprovalRequest, person: str) -> bool:
    if args.yes:
        return True
    if not sys.stdin.isatty():
        raise InputError(
            f"there is no terminal to ask on: look at `stanch approval show {request.id}`, then say "
            f"--yes --digest {request.plan_digest[:_SHORTEST_DIGEST]}"
        )
    print(f"\n{what} {request.id} as {show.clean(person)}? [y/N] ", end="", file=sys.stderr)
    sys.stderr.flush()
    is_yes = sys.stdin.readline().strip().lower() in {"y", "yes"}
    if not is_yes:
        print("Nothing was sent.", file=sys.stderr)
    return is_yes


def _report(args: argparse.Namespace, signed: approvals.SignedDecision, approval: approvals.Approval) -> int:
    decision = signed.decision
    is_yes = decision.verdict is approvals.Verdict.APPROVE
    at = show.moment(decision.decided_at, utc_now())
    done = "approved" if is_yes else "rejected"
    lines = [f"{decision.request} {done} by {show.clean(decision.person)}, {at}."]
    alone = is_yes and not signed.others and not decision.break_glass
    if alone and approval.plan.needs(decision.steps) is Needs.TWO:
        lines.append("It asks two people: one more has to approve before anything runs.")
    elif decision.break_glass:
        lines.append("The glass is broken: everybody is told, and two others review it with `stanch review`.")
    elif is_yes:
        lines.append(f"Follow it with `stanch incident show {decision.incident}`.")
    return show.answer(args, signed, lines)


def _list(args: argparse.Namespace) -> int:
    query = {} if args.state == "all" else {"state": str(args.state)}
    answer = Gateway.of(args).get("/v1/approvals", query)
    requests = parse(list[approvals.ApprovalRequest], answer)
    now = utc_now()
    rows = [
        (
            request.id,
            request.incident,
            request.severity,
            request.risk,
            plans.asked(request) if request.state is approvals.ApprovalState.PENDING else request.state,
            show.short_moment(request.closed_at or request.expires_at, now),
            request.title,
        )
        for request in requests
    ]
    head = ("ID", "INCIDENT", "SEV", "RISK", "ASKS OR IS", "UNTIL", "PLAN")
    none = "Nothing waits for a decision." if query else "No plan was ever sealed."
    return show.listing(args, [_dump(request) for request in requests], head, rows, none=none)


def _dump(request: approvals.ApprovalRequest) -> JsonObject:
    """Give a request for programs, with how long it waited, or has waited until now, and for whom."""
    waited = (request.closed_at or utc_now()) - request.asked_at
    answers: JsonObject = {person: wait.total_seconds() for person, wait in request.answers.items()}
    more: JsonObject = {"waited_seconds": waited.total_seconds(), "answers": answers}
    more["answered_by"] = next(iter(answers), None) if request.signed else None
    return request.model_dump(mode="json") | more


def _notice_line(notice: Notice, now: datetime) -> str:
    at = notice.seen_at or notice.sent_at or notice.queued_at
    line = f"{notice.person} by {notice.channel}: {notice.state}, {show.moment(at, now)}"
    return show.field("told", f"{line}: {notice.error}" if notice.error else line)


def _show(args: argparse.Namespace) -> int:
    gateway = Gateway.of(args)
    approval = _fetch(gateway, args.approval)
    path = f"/v1/approvals/{segment(approval.request.id)}"
    if gateway.person and approval.request.state is approvals.ApprovalState.PENDING:
        answer = gateway.post(f"{path}/seen", {})
    else:
        answer = gateway.get(f"{path}/notices")
    notices = parse(list[Notice], answer)
    signals = parse(list[SignalNow], gateway.get(f"{path}/readings"))
    now = utc_now()
    lines = [
        *plans.approval_lines(approval, now),
        *(plans.reading_line(one, now) for one in signals if one.readings),
        *(_notice_line(one, now) for one in notices),
    ]
    whole = approval.model_dump(mode="json") | {"notices": notices, "readings": signals}
    code = show.answer(args, whole, lines)
    if not _is_whole(approval):
        print("stanch: sealed by another version; what this one does not know is not shown", file=sys.stderr)
    return code
