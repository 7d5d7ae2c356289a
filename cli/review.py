"""``stanch review``: say afterwards whether breaking the glass was right."""

import argparse

from cli import show
from cli.client import Gateway, add_verb, parse, segment
from contracts.approvals import Review, Reviewed
from runtime.clock import utc_now

_ENOUGH = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``list`` and ``sign``."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    listing = add_verb(verbs, "list", "list the broken glasses that lack a review", _list)
    listing.add_argument("--all", action="store_true", help="also those that two people have reviewed")
    sign = add_verb(
        verbs, "sign", "review one; whoever broke it cannot", _sign, about="approval", orders=True
    )
    was = sign.add_mutually_exclusive_group(required=True)
    was.add_argument("--right", action="store_true", help="it was right at that moment")
    was.add_argument("--wrong", action="store_true", help="it was not")
    sign.add_argument("--remark", required=True, help="what should be learnt; kept with the evidence")


def _list(args: argparse.Namespace) -> int:
    query = {"limit": "1000"} | ({} if args.all else {"open": "true"})
    answer = Gateway.of(args).get("/v1/reviews", query)
    listed = parse(list[Reviewed], answer)
    now, lines = utc_now(), []
    for one in listed:
        request, signed = one.request, one.request.signed
        done = f"{len(one.reviews)} of {_ENOUGH} reviews"
        lines.append(f"{request.id}  {request.severity}  {request.incident}  {done}")
        broke = signed and f"by {signed.decision.person}, {show.moment(signed.decision.decided_at, now)}"
        lines += show.fields(
            ("plan", request.title),
            ("broken", signed and f"{broke}: {signed.decision.reason}"),
            *(
                ("right" if review.was_right else "wrong", f"by {review.person}: {review.remark}")
                for review in one.reviews
            ),
            indent=2,
        )
    none = "Nobody has broken the glass." if args.all else "No broken glass waits for a review."
    return show.answer(args, answer, lines or [none])


def _sign(args: argparse.Namespace) -> int:
    path = f"/v1/approvals/{segment(args.approval)}/review"
    answer = Gateway.of(args).post(path, {"was_right": args.right, "remark": args.remark})
    review = parse(Review, answer)
    said = "right" if review.was_right else "wrong"
    return show.answer(
        args, answer, [f"{review.request}: {show.clean(review.person)} says that it was {said}."]
    )
