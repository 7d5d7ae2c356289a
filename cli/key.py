"""``stanch key``: the gateway's signing key, changed and listed where its files are."""

import argparse

from authority.decisions import key_id
from cli import show
from cli.client import add_verb
from runtime import settings as configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``list`` and ``rotate``."""
    parser.epilog = (
        "It works on the files in <STANCH_HOME>/keys; docs/how-to/rotate-the-key.md tells the rest."
    )
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    add_verb(verbs, "list", "list the keys that decisions may be signed with", _list)
    add_verb(verbs, "rotate", "make a new signing key; what the old one signed still verifies", _rotate)


def _list(args: argparse.Namespace) -> int:
    settings = configuration.load()
    signs = None
    if settings.signing_key_path.exists():
        signs = key_id(configuration.signing_key(settings).public_key())
    keys = [
        {"id": key_id(key), "file": str(path), "signs": key_id(key) == signs}
        for path, key in configuration.public_key_files(settings).items()
    ]
    rows = [(one["id"], "signs" if one["signs"] else "verifies", one["file"]) for one in keys]
    return show.listing(args, keys, ("KEY", "IT", "FILE"), rows, none="no keys yet: the gateway makes them")


def _rotate(args: argparse.Namespace) -> int:
    settings = configuration.load()
    new = key_id(configuration.rotate_key(settings).public_key())
    found = f"Workers find its public half in {settings.keys}"
    lines = [
        f"{new} signs as soon as the gateway has been restarted.",
        f"{found}; give it first to those with a folder of their own.",
        "The old public half stays there: what it has signed still verifies.",
    ]
    return show.answer(args, {"id": new}, lines)
