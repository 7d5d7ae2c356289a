"""The policy: rules as data, evaluated by Cedar. Whom a step asks, and who may answer."""

import itertools
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

import cedarpy

from authority.seals import digest
from contracts.approvals import Envelope
from contracts.base import Frozen, JsonObject
from contracts.errors import ForbiddenError, InputError
from contracts.incidents import Incident, Role, Severity
from contracts.plans import Needs, Plan, Risk
from contracts.policy import Asked, Question, Ruling

_SHIPPED = Path(__file__).parent / "policies"
DEFAULT: Final = (_SHIPPED / "default.cedar").read_text(encoding="utf-8")
SCHEMA: Final = (_SHIPPED / "schema.cedarschema").read_text(encoding="utf-8")

_PARSED = cedarpy.Schema.from_str(SCHEMA)
_NO_ENTITIES = cedarpy.Entities.from_json_str("[]")
_LEVELS = (Needs.NOBODY, Needs.ONE, Needs.TWO)  # by how many people have approved
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEK = tuple(datetime(2026, 11, 2, tzinfo=UTC) + timedelta(hours=hour) for hour in range(7 * 24))
_ONE = Asked()
_TOKEN = re.compile(r'//[^\n]*|"(?:\\.|[^"\\])*"|;', re.DOTALL)
_BLANK = re.compile(r"(?:\s|//[^\n]*)*")
# Cedar's parser ends the whole process where its stack ends; no rule that a person can read comes near these.
_LENGTH, _BRACKETS = 4000, 50


class Verb(StrEnum):
    """What a person may want to do, as Cedar names it."""

    APPROVE = "approve"
    REJECT = "reject"
    BREAK_GLASS = "break_glass"
    GRANT = "grant"


class _Answer(Frozen):
    """What Cedar says: the rules are the permits where it is allowed, else the forbids."""

    allowed: bool
    rules: tuple[str, ...] = ()


class Policy:
    """The rules, read once. Nothing of it changes, and threads may share it.

    Attributes:
        text: The rules as they were read.
        solo: One person may both declare an incident and approve its plans. Only for teams of one.
        digest: What a plan is sealed under and a decision is given under.
        because: Name of each rule to its ``@because``, empty where it has none.
    """

    def __init__(self, text: str = DEFAULT, *, solo: bool = False) -> None:
        """Read the rules.

        Raises:
            InputError: The text is not Cedar, or does not fit the schema; the message names line and rule.
        """
        self.text: Final = text
        self.solo: Final = solo
        self.digest: Final = digest({"text": text, "solo": solo})
        self.because: Final[Mapping[str, str]] = MappingProxyType(_read(text))
        self._rules: Final = cedarpy.PolicySet.from_str(text)

    def rule(self, question: Question) -> Ruling:
        """Say whom the policy asks before this step may run, and by which rules."""
        answers = self._run(question, range(len(_LEVELS)))
        level = next((level for level, answer in enumerate(answers) if answer.allowed), None)
        if level is None:
            return Ruling(needs=Needs.DENIED, rules=answers[-1].rules)
        forbade = (name for answer in answers[:level] for name in answer.rules)
        return Ruling(needs=_LEVELS[level], rules=tuple(dict.fromkeys((*answers[level].rules, *forbade))))

    def check_may_decide(
        self,
        incident: Incident,
        person: str,
        *,
        plan: Plan | None = None,
        groups: tuple[str, ...] = (),
        given: tuple[str, ...] = (),
    ) -> None:
        """Check that this person may answer this incident's request now.

        Args:
            incident: As it is now: authority follows the roles of this moment.
            person: Who wants to decide.
            plan: What they decide about; without it something that asks one person.
            groups: The person's, from the directory.
            given: Who has approved already.

        Raises:
            ForbiddenError: They may not; the message says who may, or by which rule not.
        """
        asked = _ONE if plan is None else _asked(plan)
        self.check(Verb.APPROVE, incident, person, asked, groups=groups, given=given)

    def check_may_reject(
        self,
        incident: Incident,
        person: str,
        *,
        plan: Plan,
        groups: tuple[str, ...] = (),
        given: tuple[str, ...] = (),
    ) -> None:
        """Check that this person may turn this plan down; the arguments are those of ``check_may_decide``.

        A no is always safe. Who may approve may give it, and who has a role in the incident, declared it or
        wrote the fresh playbook, unless a rule forbids it.

        Raises:
            ForbiddenError: They may not; the message says who may, or by which rule not.
        """
        self.check(Verb.REJECT, incident, person, _asked(plan), groups=groups, given=given)

    def check_may_break_glass(self, incident: Incident, person: str, *, groups: tuple[str, ...] = ()) -> None:
        """Check that this person may approve outside the rules of who may approve.

        Raises:
            ForbiddenError: They may not.
        """
        self.check(Verb.BREAK_GLASS, incident, person, groups=groups)

    def check_may_grant(
        self,
        incident: Incident | None,
        person: str,
        envelope: Envelope,
        *,
        service: str,
        environment: str,
        severity: Severity,
        groups: tuple[str, ...] = (),
    ) -> None:
        """Check that this person may say yes in advance to whatever is inside this envelope.

        What asks two people or is denied at every hour of the week cannot be granted. What asks them at some
        hours only is outside the grant then: every plan's own ruling is looked at again when it is used.

        Args:
            incident: The one that the grant is for; ``None`` for every one.
            person: Who wants to give it.
            envelope: What may be done.
            service: Where it may be done.
            environment: The same.
            severity: Of the incidents in which it may be done.
            groups: The person's, from the directory.

        Raises:
            ForbiddenError: They may not, or nobody can.
        """
        if incident is not None:
            self.check_may_decide(incident, person, groups=groups)
        where = incident or Incident(
            id="a standing grant",
            title="",
            service=service,
            environment=environment,
            severity=severity,
            opened_at=_WEEK[0],
        )
        self.check(Verb.GRANT, where, person, groups=groups)
        risks = list(Risk)[: list(Risk).index(envelope.max_risk) + 1]
        for action, target, risk in itertools.product(envelope.actions, envelope.targets, risks):
            question = Question(
                severity=severity,
                environment=environment,
                service=service,
                action=action,
                target=target,
                risk=risk,
                playbook="",
                at=_WEEK[0],
            )
            moments = (question.model_copy(update={"at": at}) for at in _WEEK)
            if not any(self._run(moment, [1])[0].allowed for moment in moments):
                raise ForbiddenError(
                    f"{action} with risk {risk.value} in {environment} cannot be granted: in {severity.value}"
                    " it asks more than one person, or is denied"
                )

    def check(
        self,
        verb: Verb,
        incident: Incident,
        person: str,
        asked: Asked = _ONE,
        *,
        groups: Collection[str] = (),
        given: Collection[str] = (),
    ) -> None:
        """Check that the policy lets this person do this in this incident.

        Raises:
            ForbiddenError: It does not; the message says who may, or by which rule not.
        """
        if not person:
            raise ForbiddenError(f"{incident.id}: only somebody with a name decides: sign in")
        if person in given and verb is not Verb.REJECT:
            raise ForbiddenError(f"{incident.id}: {person} has approved already, and another person is asked")
        if verb is Verb.APPROVE and asked.needs is Needs.DENIED:
            raise ForbiddenError(f"{incident.id}: the policy denies this, whoever approves it")
        commander = incident.roles.get(Role.INCIDENT_COMMANDER)
        context = asked.model_dump(mode="json") | {
            "person": person,
            "roles": [role.value for role, holder in incident.roles.items() if holder == person],
            "groups": list(groups),
            "requester": incident.declared_by or "",
            "approvals": len(given),
            "commander_approved": commander in given,
            "commander_asked": commander == asked.asked_by,
            "severity": incident.severity.value,
            "environment": incident.environment,
            "service": incident.service,
            "solo": self.solo,
        }
        answer = self._ask("Person", person, verb.value, incident.service, [context])[0]
        if verb is Verb.REJECT and not answer.rules:
            involved = {*incident.roles.values(), incident.declared_by, asked.asked_by}
            if person in involved | {asked.author if asked.fresh else ""}:
                return
            answer = self._ask("Person", person, Verb.APPROVE.value, incident.service, [context])[0]
        if answer.allowed:
            return
        for name in answer.rules:
            said = (
                self.because[name] or f"{{incident}}: the rule {name} of the policy forbids it to {{person}}"
            )
            raise ForbiddenError(said.replace("{incident}", incident.id).replace("{person}", person))
        raise ForbiddenError(_unruled(verb, incident, person, asked, is_second=bool(given)))

    def _run(self, question: Question, levels: Sequence[int]) -> list[_Answer]:
        at = question.at.astimezone(UTC)
        step = question.model_dump(mode="json", exclude={"at"}) | {
            "hour": at.hour,
            "weekday": _DAYS[at.weekday()],
            "solo": self.solo,
        }
        contexts = [step | {"approvals": level} for level in levels]
        return self._ask("Engine", "stanch", "run", question.service, contexts)

    def _ask(
        self, kind: str, who: str, action: str, service: str, contexts: Sequence[JsonObject]
    ) -> list[_Answer]:
        requests = [
            {
                "principal": {"type": kind, "id": who},
                "action": {"type": "Action", "id": action},
                "resource": {"type": "Service", "id": service},
                "context": context,
            }
            for context in contexts
        ]
        try:
            answers = cedarpy.is_authorized_batch(requests, self._rules, _NO_ENTITIES)
        except ValueError:  # a name that is no text
            return [_Answer(allowed=False) for _ in contexts]
        return [_read_answer(answer) for answer in answers]


def _read_answer(answer: cedarpy.AuthzResult) -> _Answer:
    if answer.diagnostics.errors:  # Cedar leaves out a rule that fails, and it might have forbidden
        return _Answer(allowed=False)
    rules = answer.diagnostics.id_annotations_by_reason.values()
    return _Answer(allowed=answer.allowed, rules=tuple(sorted(rules)))


def _unruled(verb: Verb, incident: Incident, person: str, asked: Asked, *, is_second: bool) -> str:
    """Say who may, where no rule permits it to this person and none forbids it."""
    commander = incident.roles.get(Role.INCIDENT_COMMANDER)
    if verb is Verb.REJECT:
        return f"{incident.id}: {person} has no role in it, and only who has one turns a plan down: take one"
    if verb is not Verb.APPROVE or commander == person or is_second:
        what = verb.value.replace("_", " ") if verb is not Verb.GRANT else "give this grant"
        return f"{incident.id}: no rule of the policy lets {person} {what}"
    if commander is None:
        return f"{incident.id} has no Incident Commander yet: acknowledge it to take the role"
    first = " first" if asked.needs is Needs.TWO else ""
    return f"{incident.id}: only the Incident Commander ({commander}) decides{first}, not {person}"


def _asked(plan: Plan) -> Asked:
    return Asked(
        needs=plan.needs(),
        risk=plan.risk,
        playbook=plan.playbook,
        author=plan.author or "",
        asked_by=plan.requester or "",
        fresh=plan.fresh,
        undoes=plan.undoes is not None,
    )


def _read(text: str) -> dict[str, str]:
    """Check every rule by itself, so that a mistake has a line; give the reason of each by its name."""
    rules: dict[str, str] = {}
    for line, rule in _statements(text):
        where = f"line {line}"
        if len(rule) > _LENGTH or sum(rule.count(bracket) for bracket in "([{") > _BRACKETS:
            raise InputError(f"{where}: too long for one rule; write it as several")
        try:
            parsed = json.loads(cedarpy.policies_to_json_str(rule))
        except RecursionError as error:
            raise InputError(f"{where}: nested too deeply for one rule; write it as several") from error
        except ValueError as error:
            raise InputError(f"{where}: not Cedar: {error}") from error
        notes = {
            name: note
            for rule in parsed["staticPolicies"].values()
            for name, note in rule.get("annotations", {}).items()
        }
        name = notes.get("id")
        if not name:
            raise InputError(
                f'{where}: write @id("...") before the rule, and no ?principal or ?resource in it'
            )
        if name in rules:
            raise InputError(f"{where}: the rule {name} is there twice")
        found = cedarpy.validate_policies(rule, _PARSED).errors
        if found:
            said = found[0].error.removeprefix("for policy `policy0`, ")
            raise InputError(f"{where}: rule {name}: {said}")
        rules[name] = notes.get("because") or ""
    if not rules:
        raise InputError("it has no rules, so nothing would ever be permitted")
    return rules


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Give each rule with the line on which it begins."""
    start = 0
    ends = [token.end() for token in _TOKEN.finditer(text) if token[0] == ";"]
    for end in (*ends, len(text)):
        blank = _BLANK.match(text, start, end)
        begin = blank.end() if blank else start
        if begin < end:
            yield text.count("\n", 0, begin) + 1, text[begin:end]
        start = end
