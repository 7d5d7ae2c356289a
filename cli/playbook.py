"""``stanch playbook``: what Stanch knows to do, and what it would propose now."""

import argparse
import json

from pydantic import JsonValue

from cli import plans, show
from cli.client import Gateway, add_verb, parse, segment
from contracts.base import Frozen, JsonObject
from contracts.errors import InputError
from contracts.incidents import Severity
from contracts.messages import PreviewAnswer
from contracts.plans import Risk


class _Listed(Frozen):
    name: str
    summary: str
    risk: Risk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``list`` and ``plan``."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    add_verb(verbs, "list", "list the playbooks", _list)
    text = "see what a playbook would propose now; nothing is sealed or done"
    plan = add_verb(verbs, "plan", text, _plan, orders=True)
    plan.add_argument("name", metavar="NAME", help="for example disable-flag")
    plan.add_argument("--service", required=True, help="a service of the catalogue")
    plan.add_argument("--environment", default="production")
    plan.add_argument("--severity", default=Severity.SEV3, choices=[*map(str, Severity)])
    plan.add_argument("--signal", help="as if an alert spoke of this signal, for example error_rate")
    add_params(plan)


def add_params(parser: argparse.ArgumentParser) -> None:
    """Add the option for a playbook's parameters, which ``params_of`` reads."""
    how = "a parameter of the playbook; may be repeated"
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help=how)


def params_of(args: argparse.Namespace) -> JsonObject:
    """Give the parameters that were typed.

    Raises:
        InputError: One of them is not NAME=VALUE.
    """
    return dict(_param(text) for text in args.param)


def _list(args: argparse.Namespace) -> int:
    answer = Gateway.of(args).get("/v1/playbooks")
    rows = [(book.name, book.risk, book.summary) for book in parse(list[_Listed], answer)]
    return show.answer(args, answer, show.table(("NAME", "RISK", "WHAT IT DOES"), rows))


def _plan(args: argparse.Namespace) -> int:
    body: JsonObject = {
        "service": args.service,
        "environment": args.environment,
        "severity": args.severity,
        "params": params_of(args),
    }
    if args.signal:
        body["signal"] = args.signal
    with show.waiting(f"{args.name} looks at {args.service}"):
        answer = parse(PreviewAnswer, Gateway.of(args).post(f"/v1/playbooks/{segment(args.name)}/plan", body))
    if answer.plan is None:
        return show.answer(args, answer, [f"{args.name} proposes nothing: {show.clean(answer.note)}"])
    end = "\nThis is a preview: nothing was sealed, and nobody was asked."
    return show.answer(args, answer, [*plans.plan_lines(answer.plan), end])


def _param(text: str) -> tuple[str, JsonValue]:
    """Read ``name=value``; the value is JSON where it is JSON, else text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--param {text}: write it as NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
