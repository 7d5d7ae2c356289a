"""``stanch policy``: whom a step asks and why, and whether that is what you expect. Needs no gateway."""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from authority.directory import groups_of
from authority.policy import SCHEMA, Policy, Verb
from cli import show
from cli.client import Gateway, add_verb, parse, segment
from contracts.approvals import Approval
from contracts.base import Frozen, Strict
from contracts.errors import ForbiddenError, InputError, NotFoundError, first_wrong
from contracts.incidents import Incident, Role, Severity
from contracts.plans import Needs, Risk
from contracts.policy import Asked, Question
from runtime import settings as configuration
from runtime.clock import utc_now
from runtime.policy import load_policy
from runtime.settings import Settings

ModelT = TypeVar("ModelT")

_WORDS = {Needs.NOBODY: "nobody", Needs.ONE: "one person", Needs.TWO: "two people", Needs.DENIED: "denied"}
_SOMEBODY = "somebody-else"
_ROLES = (Role.INCIDENT_COMMANDER, Role.TECHNICAL_LEAD, None)


def _many(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


OneOrMany = Annotated[tuple[ModelT, ...], BeforeValidator(_many), Field(min_length=1)]


class Who(Strict):
    """Somebody, by what the policy may know of them.

    Attributes:
        requester: They declared the incident.
        author: They wrote the playbook.
        asker: Who asked for the playbook by name: they, or the Incident Commander, somebody else.
        second: The Incident Commander, somebody else, has approved already.
    """

    roles: tuple[Role, ...] = ()
    groups: tuple[str, ...] = ()
    requester: bool = False
    author: bool = False
    asker: Literal["they", "commander"] | None = None
    second: bool = False


class Expectation(Strict):
    """One line of a table of expectations; it holds for every combination of what it lists.

    Attributes:
        needs: Whom the policy has to ask.
        by: A rule that has to be among those that say so.
        who: Somebody who answers.
        may: What they have to be able, or unable, to do.
    """

    severity: OneOrMany[Severity] = tuple(Severity)
    environment: OneOrMany[str] = ("production",)
    action: OneOrMany[str] = ("any.action",)
    risk: OneOrMany[Risk] = tuple(Risk)
    service: str = "any-service"
    target: str = "any:target/of/any"
    playbook: str = "any-playbook"
    fresh: bool = False
    undoes: bool = False
    at: AwareDatetime | None = None
    needs: Needs | None = None
    by: str | None = None
    who: Who = Who()
    may: dict[Verb, bool] = {}

    @model_validator(mode="after")
    def _expects(self) -> "Expectation":
        if self.needs is None and self.by is None and not self.may:
            raise ValueError("it expects nothing: say needs, by or may")
        return self

    def questions(self) -> Iterator[Question]:
        """Give every situation that it speaks of."""
        same = self.model_dump(include={"service", "target", "playbook", "fresh", "undoes"})
        at = self.at or utc_now()
        for severity, environment, action, risk in itertools.product(
            self.severity, self.environment, self.action, self.risk
        ):
            yield Question(
                severity=severity, environment=environment, action=action, risk=risk, at=at, **same
            )


_TABLE = TypeAdapter(dict[int, Expectation])


class Asking(Frozen):
    """Whom one step asks, and by which rules."""

    step: str
    risk: Risk
    needs: Needs
    rules: tuple[str, ...]


class May(Frozen):
    """Whether a person may do something in some role; why not, where they may not."""

    role: Role | None
    verb: Verb
    needs: Needs | None = None
    may: bool
    why: str = ""


class Difference(Frozen):
    """Where the policy does something else than was expected."""

    expectation: int
    situation: str
    expected: str
    got: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``explain``, ``test`` and ``show``."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    explain = add_verb(verbs, "explain", "say whom a step would ask, and by which rules", _explain)
    explain.add_argument("approval", metavar="ID", nargs="?", help="a request, for example APR-7")
    explain.add_argument("--action", help="for example k8s.roll_back_deployment")
    explain.add_argument("--severity", choices=[*map(str, Severity)], default=Severity.SEV2)
    explain.add_argument("--environment", default="production")
    explain.add_argument("--service", default="")
    explain.add_argument("--target", default="", help="for example k8s:deployment/main/shop/web")
    explain.add_argument("--playbook", default="")
    explain.add_argument("--risk", choices=[*map(str, Risk)], help="every one when it is not given")
    explain.add_argument("--fresh", action="store_true", help="the playbook has not helped anybody yet")
    explain.add_argument("--undoes", action="store_true", help="it takes back what a mitigation did")
    explain.add_argument("--at", help="for example 2026-11-21T03:00Z; now when it is not given")
    explain.add_argument("--person", help="say what this person might do, by role")
    how = "and is in this group at the identity provider; repeatable"
    explain.add_argument("--oidc-group", action="append", default=[], metavar="GROUP", help=how)
    explain.add_argument("--requester", default="", help="who declared the incident")
    explain.add_argument("--author", default="", help="who wrote the playbook")
    explain.add_argument("--asker", default="", help="who asked for the playbook by name")
    test = add_verb(verbs, "test", "compare the policy with a table of expectations", _test)
    test.add_argument("file", metavar="FILE", type=Path, help="YAML; see docs/how-to/write-a-policy.md")
    text = add_verb(verbs, "show", "print the rules", _show)
    text.add_argument("--schema", action="store_true", help="print what rules may speak of instead")
    for one in (explain, test, text):
        one.add_argument("--policy", type=Path, metavar="FILE", help="these rules, not those in force")


def _load(args: argparse.Namespace) -> tuple[Settings, Policy]:
    settings = configuration.load()
    if args.policy:
        settings = settings.model_copy(update={"policy": args.policy})
    return settings, load_policy(settings)


def _show(args: argparse.Namespace) -> int:
    settings, policy = _load(args)
    whole = {"digest": policy.digest, "solo": policy.solo, "rules": dict(policy.because)}
    whole |= {"text": policy.text, "schema": SCHEMA, "file": str(settings.policy_path)}
    return show.answer(args, whole, [show.clean_block(SCHEMA if args.schema else policy.text).rstrip()])


def _explain(args: argparse.Namespace) -> int:
    settings, policy = _load(args)
    person, commander = args.person or "", ""
    if args.approval:
        approval = parse(Approval, Gateway.of(args).get(f"/v1/approvals/{segment(args.approval)}"))
        plan = approval.plan
        asking = [
            Asking(step=str(one.action), risk=one.risk, needs=one.needs, rules=one.rules)
            for one in plan.steps
        ]
        same = plan.model_dump(include={"environment", "service", "playbook", "fresh"})
        same |= {"severity": approval.request.severity, "undoes": plan.undoes is not None}
        about = _question(plan.risk, action="", target="", at=plan.sealed_at, **same)
        incident = parse(Incident, Gateway.of(args).get(f"/v1/incidents/{segment(plan.incident)}"))
        args.requester, args.author, args.asker = incident.declared_by, plan.author, plan.requester
        commander = incident.roles.get(Role.INCIDENT_COMMANDER, "")
    elif args.action:
        names = ("severity", "environment", "service", "action", "target", "playbook", "fresh", "undoes")
        given = {name: getattr(args, name) for name in names} | {"at": args.at or utc_now()}
        questions = [_question(risk, **given) for risk in ([Risk(args.risk)] if args.risk else Risk)]
        asking = [_asking(policy, question) for question in questions]
        about = questions[-1]
    else:
        raise InputError("name the step with --action, or a request, for example APR-7")
    groups, teams = _groups(settings, args) if person else ((), [])
    asker = {commander: "commander", person: "they"}.get(args.asker) if args.asker else None
    asked = {"requester": args.requester == person, "author": args.author == person, "asker": asker}
    who = Who.model_validate({"groups": groups, **asked})
    may = list(_may(policy, person, who, about, {one.needs for one in asking})) if person else []
    rows = [(one.risk, _WORDS[one.needs], _by(one.rules), one.step) for one in asking]
    lines = show.table(("RISK", "ASKS", "BY THE RULE", "STEP"), rows)
    for rule in dict.fromkeys(name for one in asking for name in one.rules):
        if policy.because.get(rule):
            lines.append(show.field(rule, policy.because[rule]))
    if may:
        said = [(one.role or "no role", _want(one), "yes" if one.may else f"no: {one.why}") for one in may]
        lines += ["", *show.table((f"{person.upper()} AS", "MAY", ""), said)]
    if teams:
        lines.append(f"A sign-in may count {person} into {', '.join(teams)} too: try that with --oidc-group.")
    return show.answer(args, {"asks": asking, "person": person, "may": may, "teams_by_sign_in": teams}, lines)


def _question(risk: Risk, **given: Any) -> Question:
    try:
        return Question(risk=risk, **given)
    except ValidationError as error:
        raise InputError(f"--{first_wrong(error)}") from error


def _asking(policy: Policy, question: Question) -> Asking:
    ruling = policy.rule(question)
    step = f"{question.action} {question.target}".strip()
    return Asking(step=step, risk=question.risk, needs=ruling.needs, rules=ruling.rules)


def _groups(settings: Settings, args: argparse.Namespace) -> tuple[tuple[str, ...], list[str]]:
    """Give the person's groups, and the teams that a sign-in at the identity provider may add to them."""
    if not settings.catalogue_path.exists():
        return (), []
    catalogue = configuration.load_catalogue(settings.catalogue_path)
    if args.person not in {person.id for person in catalogue.people}:
        raise NotFoundError(f"{args.person}: not among the people of {settings.catalogue_path}")
    groups = groups_of(catalogue, args.person, args.oidc_group)
    return groups, [team.name for team in catalogue.teams if team.oidc_groups and team.name not in groups]


def _may(policy: Policy, person: str, who: Who, about: Question, needs: set[Needs]) -> Iterator[May]:
    """Say what the person may do in each role, for each of these demands."""
    asked = [one for one in Needs if one in needs and one is not Needs.NOBODY]
    wants = [*((Verb.APPROVE, one) for one in asked), (Verb.GRANT, None), (Verb.BREAK_GLASS, None)]
    for role, (verb, demand) in itertools.product(_ROLES, wants):
        second = demand is Needs.TWO and role is not Role.INCIDENT_COMMANDER
        one = who.model_copy(update={"roles": (role,) if role else (), "second": second})
        why = _refusal(policy, about, verb, demand or Needs.ONE, one, person=person)
        yield May(role=role, verb=verb, needs=demand, may=not why, why=why)


def _refusal(
    policy: Policy, question: Question, verb: Verb, needs: Needs, who: Who, *, person: str = "the-person"
) -> str:
    """Say why the policy does not let somebody, or nothing where it does."""
    roles = {Role.INCIDENT_COMMANDER: _SOMEBODY} | dict.fromkeys(who.roles, person)
    where = question.model_dump(include={"service", "environment", "severity"})
    declared_by = person if who.requester else None
    incident = Incident(
        id="the incident", title="", opened_at=question.at, roles=roles, declared_by=declared_by, **where
    )
    facts = {"needs": needs, "author": person if who.author else ""}
    facts |= {"asked_by": {"they": person, "commander": _SOMEBODY}.get(who.asker or "", "")}
    asked = Asked.model_validate(question.model_dump() | facts)
    given = (_SOMEBODY,) if who.second else ()
    try:
        policy.check(verb, incident, person, asked, groups=who.groups, given=given)
    except ForbiddenError as error:
        return str(error)
    return ""


def _test(args: argparse.Namespace) -> int:
    _, policy = _load(args)
    content = configuration.read_yaml(args.file, "expectations")
    if not isinstance(content, list) or not content:
        raise InputError(f"expectations {args.file}: write a list, with one entry for each expectation")
    try:
        expectations = _TABLE.validate_python(dict(enumerate(content, start=1)))
    except ValidationError as error:
        raise InputError(f"expectations {args.file}: expectation {first_wrong(error)}") from error
    situations = [
        (number, one, question) for number, one in expectations.items() for question in one.questions()
    ]
    differences = [found for situation in situations for found in _compare(policy, *situation)]
    rows = [(one.expectation, one.situation, one.expected, one.got) for one in differences]
    lines = [*show.table(("NO.", "WHERE", "EXPECTED", "GOT"), rows), ""] if rows else []
    lines.append(f"{len(expectations)} expectations, {len(situations)} situations, {len(rows)} differences.")
    value = {"situations": len(situations), "differences": differences}
    return show.answer(args, value, lines) or int(bool(differences))


def _compare(policy: Policy, number: int, one: Expectation, question: Question) -> list[Difference]:
    ruling = policy.rule(question)
    where = f"{question.severity} {question.environment} {question.action} {question.risk}"
    got = f"{ruling.needs} by {_by(ruling.rules)}"
    wrong = []
    if one.needs not in (None, ruling.needs):
        wrong.append((str(one.needs), got))
    if one.by is not None and one.by not in ruling.rules:
        wrong.append((f"by {one.by}", got))
    for verb, expected in one.may.items():
        why = _refusal(policy, question, verb, ruling.needs, one.who)
        if bool(why) is expected:
            wrong.append((f"{verb}: {'yes' if expected else 'no'}", why or "yes"))
    return [Difference(expectation=number, situation=where, expected=said, got=got) for said, got in wrong]


def _by(rules: tuple[str, ...]) -> str:
    return ", ".join(rules) or "no rule permits it"


def _want(one: May) -> str:
    return one.verb.replace("_", " ") + (f" what asks {_WORDS[one.needs]}" if one.needs else "")
