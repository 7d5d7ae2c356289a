"""``stanch token``: API tokens, made where the ledger is by whoever may reach it there."""

import argparse
import getpass
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from pydantic import ValidationError

from cli import show
from contracts.errors import InputError
from contracts.identities import ApiToken, Scope, TokenOrder
from ledger import Ledger
from runtime import settings as configuration
from runtime.clock import utc_now

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``create``, ``list`` and ``revoke``."""
    parser.epilog = "It works on the ledger itself, so STANCH_HOME or STANCH_DATABASE_URL has to lead there."
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    create = verbs.add_parser("create", help="make one, and print it this once")
    whose = create.add_mutually_exclusive_group(required=True)
    whose.add_argument("--person", metavar="ID", help="for whom it speaks, from the catalogue's people")
    whose.add_argument("--machine", metavar="NAME", help="or what uses it; a machine gives no orders")
    create.add_argument("--scopes", required=True, metavar="SCOPES", help=f"of {','.join(Scope)}")
    create.add_argument("--expires", default="30d", metavar="SPAN", help="30d, 12h or 15m; at most a year")
    create.add_argument("--name", default="terminal", help="what a person's token is for")
    show.add_json(create)
    create.set_defaults(call=_create)

    listing = verbs.add_parser("list", help="list them; nobody can read their secrets")
    listing.add_argument("--person", metavar="ID", help="only those of this person")
    show.add_json(listing)
    listing.set_defaults(call=_list)

    revoke = verbs.add_parser("revoke", help="end one at once")
    revoke.add_argument("token", metavar="TOKEN", help="its id, for example TOK-3")
    show.add_json(revoke)
    revoke.set_defaults(call=_revoke)


def run(args: argparse.Namespace) -> int:
    """Run the chosen one."""
    code: int = args.call(args)
    return code


def _create(args: argparse.Namespace) -> int:
    try:
        order = TokenOrder(
            name=args.machine or args.name,
            person=args.person,
            scopes=tuple(Scope(scope.strip()) for scope in args.scopes.split(",")),
            lasts=_span(args.expires),
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"][:1])
        raise InputError(f"{where}{first['msg'].removeprefix('Value error, ')}") from error
    except ValueError as error:
        raise InputError(f"--scopes {args.scopes}: write some of {','.join(Scope)}") from error
    with _ledger() as ledger:
        if args.person:
            catalogue = configuration.load_catalogue(configuration.load().catalogue_path)
            if args.person not in {person.id for person in catalogue.people}:
                raise InputError(f"{args.person} is not in the service catalogue's people")
        token, secret = ledger.tokens.create(order, by=_operator())
    if args.json:
        print(show.as_json(token.model_dump(mode="json") | {"secret": secret}))
    else:
        print(secret)
        print(f"{token.id} is valid until {show.moment(token.expires_at, utc_now())}. It is shown this once.")
    return 0


def _list(args: argparse.Namespace) -> int:
    with _ledger() as ledger:
        tokens = ledger.tokens.list(args.person)
    if args.json:
        print(show.as_json([token.model_dump(mode="json") for token in tokens]))
        return 0
    now = utc_now()
    head = ("ID", "FOR", "NAME", "LAST USED", "STATE", "MAY")
    rows = [
        (
            token.id,
            token.person or "a machine",
            token.name,
            show.short_moment(token.used_at, now) if token.used_at else "never",
            _state(token, now),
            ", ".join(token.scopes),
        )
        for token in tokens
    ]
    print("\n".join(show.table(head, rows)))
    return 0


def _revoke(args: argparse.Namespace) -> int:
    with _ledger() as ledger:
        token = ledger.tokens.revoke(args.token, by=_operator())
    if args.json:
        print(show.as_json(token.model_dump(mode="json")))
    else:
        print(show.clean(f"{token.id} ({token.name}) is {_state(token, utc_now())}"))
    return 0


@contextmanager
def _ledger() -> Iterator[Ledger]:
    ledger = Ledger.open(configuration.load().ledger_url, clock=utc_now)
    try:
        ledger.check()
        yield ledger
    finally:
        ledger.close()


def _operator() -> str:
    """Say who is at this terminal, as the machine knows them: who reaches the ledger needs no sign-in."""
    return f"operator:{getpass.getuser()}"


def _state(token: ApiToken, now: datetime) -> str:
    if token.revoked_at:
        return f"revoked by {token.revoked_by} {show.ago(token.revoked_at, now)}"
    is_over = token.expires_at <= now
    return f"expire{'d' if is_over else 's'} {show.ago(token.expires_at, now)}"


def _span(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if found is None:
        raise InputError(f"--expires {text}: write it as 30d, 12h or 15m")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
