"""``stanch key``: the gateway's signing key, changed and listed where its files are."""

import argparse

from authority.decisions import key_id
from cli import show
from runtime import settings as configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``list`` and ``rotate``."""
    parser.epilog = (
        "It works on the files in <STANCH_HOME>/keys; docs/how-to/rotate-the-key.md tells the rest."
    )
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    listing = verbs.add_parser("list", help="list the keys that decisions may be signed with")
    show.add_json(listing)
    listing.set_defaults(call=_list)
    rotate = verbs.add_parser("rotate", help="make a new signing key; what the old one signed still verifies")
    show.add_json(rotate)
    rotate.set_defaults(call=_rotate)


def _list(args: argparse.Namespace) -> int:
    settings = configuration.load()
    signs = None
    if settings.signing_key_path.exists():
        signs = key_id(configuration.signing_key(settings).public_key())
    keys = [
        {"id": key_id(key), "file": str(path), "signs": key_id(key) == signs}
        for path, key in configuration.public_key_files(settings).items()
    ]
    if args.json:
        print(show.as_json(keys))
        return 0
    rows = [(str(one["id"]), "signs" if one["signs"] else "verifies", str(one["file"])) for one in keys]
    print(
        "\n".join(show.table(("KEY", "IT", "FILE"), rows)) if rows else "no keys yet: the gateway makes them"
    )
    return 0


def _rotate(args: argparse.Namespace) -> int:
    settings = configuration.load()
    new = key_id(configuration.rotate_key(settings).public_key())
    if args.json:
        print(show.as_json({"id": new}))
        return 0
    print(f"{new} signs as soon as the gateway has been restarted.")
    print(
        f"Workers find its public half in {settings.keys}; give it first to those with a folder of their own."
    )
    print("The old public half stays there: what it has signed still verifies.")
    return 0
