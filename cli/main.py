"""The program ``stanch``: finds the verb's module, runs it, and turns every error into one sentence."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from cli import show
from contracts.errors import StanchError

# Verb to module and help. Nothing of these is imported before its verb is used: help stays instant.
VERBS = {
    "up": ("cli.up", "start engine, worker and gateway, with the state in .stanch/"),
    "demo": ("cli.demo", "replay one incident in a small world, from the alert to the postmortem"),
    "incident": ("cli.incident", "list, show, declare, acknowledge, hand over and resolve incidents"),
    "approval": ("cli.approval", "list and show what waits for a decision"),
    "approve": ("cli.approve", "show a sealed plan and let it run"),
    "reject": ("cli.reject", "show a sealed plan and turn it down"),
    "grant": ("cli.grant", "say yes ahead of time, list what was said, and take it back"),
    "review": ("cli.review", "list the broken glasses, and say whether that was right"),
    "mitigation": ("cli.mitigation", "list what mitigations left in force; undo, extend or keep it"),
    "readiness": ("cli.readiness", "say whether failovers would work now, and since when"),
    "freeze": ("cli.freeze", "stop all changes at once, and show what stops them"),
    "unfreeze": ("cli.unfreeze", "let changes begin again"),
    "playbook": ("cli.playbook", "list the playbooks, and see what one would propose now"),
    "policy": ("cli.policy", "say whom a step asks and why, and test the rules"),
    "postmortem": ("cli.postmortem", "print the postmortem of an incident"),
    "audit": ("cli.audit", "verify the evidence log, its checkpoints and every decision"),
    "token": ("cli.token", "make, list and revoke API tokens for people and machines"),
    "key": ("cli.key", "change the key that decisions are signed with, and list the keys"),
    "doctor": ("cli.doctor", "say what is missing here, why it matters and how to get it"),
    "gateway": ("cli.gateway", "run the HTTP side alone"),
}

INTERRUPTED = 130  # as shells count a program that SIGINT ended
BROKEN_PIPE = 141  # as shells count a program that SIGPIPE ended


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        metadata = importlib.import_module("importlib.metadata")  # slow to import, seldom asked
        print(f"stanch {metadata.version('stanch')}")
        parser.exit()


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; only the module of the verb in use adds its arguments and says what to call."""
    parser = argparse.ArgumentParser(
        prog="stanch",
        description="Mitigate incidents: sealed plans, a person's decision, verified steps, evidence.",
        epilog="`stanch VERB --help` tells more. `stanch doctor` says what is missing.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    wanted = next((word for word in argv if not word.startswith("-")), None)
    for verb, (name, text) in VERBS.items():
        subparser = verbs.add_parser(verb, help=text, description=text[0].upper() + text[1:] + ".")
        if verb == wanted:
            module = importlib.import_module(name)
            subparser.set_defaults(call=getattr(module, "run", None))  # a verb of several has one for each
            module.add_arguments(subparser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 when it is done, 1 when it was refused or failed, with one sentence on standard error. A wrong
        command line exits with 2.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a narrow locale must not end the program
    try:
        args = _parse(sys.argv[1:] if argv is None else argv)
        code: int = args.call(args)
        sys.stdout.flush()
    except StanchError as error:
        print(f"stanch: {show.clean(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`stanch incident list | head`); the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


if __name__ == "__main__":
    sys.exit(main())
