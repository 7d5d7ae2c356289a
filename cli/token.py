"""``stanch token``: API tokens, made where the ledger is by whoever may reach it there."""

import argparse
import getpass
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime

from pydantic import ValidationError

from cli import show
from cli.client import add_verb
from contracts.errors import InputError, first_wrong
from contracts.identities import ApiToken, Scope, TokenOrder
from ledger import Ledger
from runtime import settings as configuration
from runtime.clock import utc_now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``create``, ``list`` and ``revoke``."""
    parser.epilog = "It works on the ledger itself, so STANCH_HOME or STANCH_DATABASE_URL has to lead there."
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    create = add_verb(verbs, "create", "make one, and print it this once", _create)
    whose = create.add_mutually_exclusive_group(required=True)
    whose.add_argument("--person", metavar="ID", help="for whom it speaks, from the catalogue's people")
    whose.add_argument("--machine", metavar="NAME", help="or what uses it; a machine gives no orders")
    create.add_argument("--scopes", required=True, metavar="SCOPES", help=f"of {','.join(Scope)}")
    create.add_argument(
        "--expires", type=show.span, default="30d", metavar="SPAN", help="30d, 12h or 15m; at most a year"
    )
    create.add_argument("--name", default="terminal", help="what a person's token is for")
    listing = add_verb(verbs, "list", "list them; nobody can read their secrets", _list)
    listing.add_argument("--person", metavar="ID", help="only those of this person")
    add_verb(verbs, "revoke", "end one at once", _revoke, about="token")


def _create(args: argparse.Namespace) -> int:
    try:
        order = TokenOrder(
            name=args.machine or args.name,
            person=args.person,
            scopes=tuple(Scope(scope.strip()) for scope in args.scopes.split(",")),
            lasts=args.expires,
        )
    except ValidationError as error:
        raise InputError(first_wrong(error)) from error
    except ValueError as error:
        raise InputError(f"--scopes {args.scopes}: write some of {','.join(Scope)}") from error
    with _ledger() as ledger:
        if args.person:
            catalogue = configuration.load_catalogue(configuration.load().catalogue_path)
            if args.person not in {person.id for person in catalogue.people}:
                raise InputError(f"{args.person} is not in the service catalogue's people")
        token, secret = ledger.tokens.create(order, by=_operator())
    said = f"{token.id} is valid until {show.moment(token.expires_at, utc_now())}. It is shown this once."
    return show.answer(args, token.model_dump(mode="json") | {"secret": secret}, [secret, said])


def _list(args: argparse.Namespace) -> int:
    with _ledger() as ledger:
        tokens = ledger.tokens.list(args.person)
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
    return show.listing(args, tokens, head, rows, none="No API token.")


def _revoke(args: argparse.Namespace) -> int:
    with _ledger() as ledger:
        token = ledger.tokens.revoke(args.token, by=_operator())
    said = show.clean(f"{token.id} ({token.name}) is {_state(token, utc_now())}")
    return show.answer(args, token, [said])


@contextmanager
def _ledger() -> Iterator[Ledger]:
    with closing(Ledger.open(configuration.load().ledger_url, clock=utc_now)) as ledger:
        ledger.check()
        yield ledger


def _operator() -> str:
    """Say who is at this terminal, as the machine knows them: who reaches the ledger needs no sign-in."""
    return f"operator:{getpass.getuser()}"


def _state(token: ApiToken, now: datetime) -> str:
    if token.revoked_at:
        return f"revoked by {token.revoked_by} {show.ago(token.revoked_at, now)}"
    is_over = token.expires_at <= now
    return f"expire{'d' if is_over else 's'} {show.ago(token.expires_at, now)}"
