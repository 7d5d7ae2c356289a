"""``stanch review``: say afterwards whether breaking the glass was right."""

import argparse

from cli import show
from cli.client import Gateway, add_person, parse, segment
from contracts.approvals import Review, Reviewed
from runtime.clock import utc_now

_ENOUGH = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``list`` and ``sign``."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    listing = verbs.add_parser("list", help="list the broken glasses that lack a review")
    listing.add_argument("--all", action="store_true", help="also those that two people have reviewed")
    show.add_json(listing)
    listing.set_defaults(call=_list)

    sign = verbs.add_parser("sign", help="review one; whoever broke it cannot")
    sign.add_argument("approval", metavar="ID", help="for example APR-7")
    was = sign.add_mutually_exclusive_group(required=True)
    was.add_argument("--right", action="store_true", help="it was right at that moment")
    was.add_argument("--wrong", action="store_true", help="it was not")
    sign.add_argument("--remark", required=True, help="what should be learnt; kept with the evidence")
    add_person(sign)
    show.add_json(sign)
    sign.set_defaults(call=_sign)


def _list(args: argparse.Namespace) -> int:
    query = {"limit": "1000"} | ({} if args.all else {"open": "true"})
    answer = Gateway.of(args).get("/v1/reviews", query)
    listed = parse(list[Reviewed], answer)
    if args.json:
        print(show.as_json(answer))
        return 0
    if not listed:
        print("Nobody has broken the glass." if args.all else "No broken glass waits for a review.")
        return 0
    now = utc_now()
    for one in listed:
        request, signed = one.request, one.request.signed
        print(
            f"{request.id}  {request.severity}  {request.incident}  {len(one.reviews)} of {_ENOUGH} reviews"
        )
        print(show.field("plan", show.clean(request.title), indent=2))
        if signed is not None:
            by, at = show.clean(signed.decision.person), show.moment(signed.decision.decided_at, now)
            print(show.field("broken", f"by {by}, {at}: {show.clean(signed.decision.reason)}", indent=2))
        for review in one.reviews:
            said = f"by {show.clean(review.person)}: {show.clean(review.remark)}"
            print(show.field("right" if review.was_right else "wrong", said, indent=2))
    return 0


def _sign(args: argparse.Namespace) -> int:
    path = f"/v1/approvals/{segment(args.approval)}/review"
    answer = Gateway.of(args).post(path, {"was_right": args.right, "remark": args.remark})
    review = parse(Review, answer)
    if args.json:
        print(show.as_json(answer))
    else:
        said = "right" if review.was_right else "wrong"
        print(f"{review.request}: {show.clean(review.person)} says that it was {said}.")
    return 0
