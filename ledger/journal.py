"""The journal of actions: an intent is on the disk before the call, an outcome is kept once."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import JsonValue
from sqlalchemy import Connection, Row, select

from authority.guardrails import HOUR, Guard
from authority.seals import digest
from contracts import names
from contracts.base import Frozen, JsonObject
from contracts.errors import ActionRefusedError, ConflictError, GuardrailError, NotFoundError
from contracts.evidence import ENGINE, EvidenceKind
from contracts.outcomes import Direction, Outcome, StepResult
from contracts.plans import Plan
from ledger import evidence, guardrails, in_force, rows
from ledger.database import Stored, moment_of
from ledger.schema import journal
from ledger.schema import plan as plans
from ledger.storable import one_line

_WORDS = {Outcome.DONE: "done", Outcome.NOT_DONE: "not done", Outcome.IN_DOUBT: "in doubt"}
_NAMED = {"action", "mitigation", "step", "direction", "plan_digest", "approval"}


class JournalState(StrEnum):
    """How far an action is."""

    PLANNED = "planned"
    INTENT = "intent"
    OUTCOME = "outcome"


class JournalEntry(Frozen):
    """One action of one mitigation.

    Attributes:
        action: Its key, ``INC-42/1/1/apply``.
        fence: How many intents there were; only who knows the present one may go on.
        intent_at: When the last intent was written: no call on it began earlier.
        before: The target as it was read just before that intent.
    """

    action: str
    incident: str
    mitigation: str
    step: int
    direction: Direction
    plan_digest: str
    approval: str
    state: JournalState = JournalState.PLANNED
    fence: int = 0
    intent_at: datetime | None = None
    before: JsonObject = {}
    result: StepResult | None = None


class Journal(Stored):
    """All actions, each moved forward by compare-and-set."""

    def begin(self, action: str, **facts: Any) -> JournalEntry:
        """Give an action as it stands. One that is new is entered with its first intent or outcome.

        Args:
            action: Its key.
            facts: Its incident, mitigation, step, direction, plan_digest and approval.

        Raises:
            ConflictError: It is there for another plan or under another approval.
        """
        planned = JournalEntry(action=action, **facts)
        with self._database.read() as connection:
            return _stands(connection, planned)[1]

    def intend(
        self,
        action: JournalEntry,
        *,
        before: JsonObject,
        actor: str,
        guard: Guard,
        not_after: datetime | None = None,
    ) -> JournalEntry:
        """Write down that the call follows now; when this returns, that is on the disk.

        The guardrails are checked in the same transaction: a freeze that was committed before is always seen,
        and of two mitigations only one gets a target.

        Args:
            action: As it was read; the entry that is given back has the next fence.
            before: The target as it was read.
            actor: Who is about to call.
            guard: The verified plan, with what holds for it.
            not_after: When it is too late to begin; ``None``: it is never.

        Raises:
            NotFoundError: It had an intent, and is not there any more.
            ConflictError: Somebody else went on, or there is an outcome: do not call.
            GuardrailError: A guardrail holds: do not call; the refusal is evidence.
            ActionRefusedError: It is too late, or the mitigation has ended: do not call.
        """
        with self._database.write() as connection:
            row, entry = _stands(connection, action)
            if entry.state is JournalState.OUTCOME:
                raise ConflictError(
                    f"{entry.action} has an outcome already: nothing may be called for it again"
                )
            _check_fence(entry, action.fence)
            now = moment_of(connection)
            if evidence.has(connection, names.ended_key(entry.mitigation)):
                raise ActionRefusedError(f"{entry.mitigation} has ended")
            if not_after is not None and now >= not_after:
                raise ActionRefusedError(f"{entry.mitigation} was to begin before {not_after.isoformat()}")
            fence = entry.fence + 1
            values = {"state": JournalState.INTENT, "fence": fence, "intent_at": now, "before": before}
            try:
                values |= _guarded(connection, entry, guard)
            except GuardrailError as error:
                refusal = error
                _note_guardrail(connection, entry, f"may not go on: {error}")
            else:
                intent = _entry(_write(connection, row, entry, values))
                begun = _in_words(intent, guard.plan.steps[entry.step - 1].title)
                said = f"{intent.mitigation} begins: {begun}"
                facts: JsonObject = {"fence": fence, "before": before}
                key, kind = f"intent/{fence}", EvidenceKind.INTENT
                _note(connection, intent, kind, key, said, actor=actor, **facts)
                return intent
        raise refusal

    def settle(self, action: JournalEntry, *, result: StepResult, actor: str) -> StepResult:
        """Write down the outcome; if there is one, that one counts and is given back.

        Raises:
            NotFoundError: It had an intent, and is not there any more.
            ConflictError: Somebody else went on, or something was done without an intent.
        """
        with self._database.write() as connection:
            row, entry = _stands(connection, action)
            if entry.result is not None:
                return entry.result
            _check_fence(entry, action.fence)
            if entry.state is JournalState.PLANNED and not may_lack_intent(result):
                raise ConflictError(
                    f"{entry.action} has no intent, so it cannot have ended as {result.outcome.value}"
                )
            content = result.model_dump(mode="json")
            values: dict[str, Any] = {"state": JournalState.OUTCOME, "result": content}
            if row is not None and row.ended:
                values["held"] = False
            if result.outcome is Outcome.NOT_DONE:
                values |= {"touches": None, "held": False}
            _write(connection, row, entry, values)
            sealed = connection.scalar(select(plans.c.content).where(plans.c.digest == entry.plan_digest))
            titles = {step["number"]: step["title"] for step in (sealed or {}).get("steps", ())}
            told = _in_words(entry, titles.get(entry.step, f"step {entry.step}"))
            told = f"{entry.mitigation} {told}: {_WORDS[result.outcome]}. {result.detail}".removesuffix(". ")
            facts: JsonObject = {"fence": entry.fence, "result": content}
            _note(connection, entry, EvidenceKind.OUTCOME, "outcome", told, actor=actor, **facts)
            is_way_back = entry.direction is Direction.UNDO or (sealed or {}).get("undoes")
            # Where nothing was changed there is nothing to take back.
            if result.outcome is Outcome.DONE and sealed is not None and (is_way_back or not result.no_op):
                plan, way = Plan.model_validate(sealed), entry.direction
                step, approval = plan.steps[entry.step - 1], entry.approval
                in_force.settled(connection, plan, step, direction=way, approval=approval)
            return result

    def get(self, action: str) -> JournalEntry | None:
        """Give an action as it stands, if it was begun."""
        with self._database.read() as connection:
            row = rows.one(connection, journal, action=action)
            return None if row is None else _entry(row)

    def lately(self, target: str) -> list[JournalEntry]:
        """Give the actions of the last hour that have changed a target, or may have."""
        recent = journal.c.intent_at > self._database.now() - HOUR
        return [
            _entry(row)
            for row in self._database.rows(select(journal).filter_by(touches=target).where(recent))
        ]

    def for_incident(self, incident: str) -> list[JournalEntry]:
        """Give all actions of an incident in the order in which they were begun."""
        query = select(journal).filter_by(incident=incident).order_by(journal.c.number)
        return [_entry(row) for row in self._database.rows(query)]


def may_lack_intent(result: StepResult) -> bool:
    """Say whether an outcome may come without an intent: nothing was called for it."""
    return result.no_op or result.outcome is Outcome.NOT_DONE


def _guarded(connection: Connection, entry: JournalEntry, guard: Guard) -> dict[str, Any]:
    """Check the guardrails, and give what the journal keeps so that the next one is checked against it.

    Raises:
        GuardrailError: One holds.
    """
    target = str(guard.plan.steps[entry.step - 1].action.target)
    now = moment_of(connection)
    facts = guardrails.gather(
        connection, guard.plan, guard.rules, now=now, targets=[target], action=entry.action
    )
    aside = guard.check(entry.direction, facts)
    if any(touch.held for touch in facts.touches):
        guardrails.take_over(connection, target, entry.mitigation)
    if aside:
        said = f"goes on, as an override names it, against {'; '.join(map(str, aside))}"
        _note_guardrail(connection, entry, said)
    is_undo = entry.direction is Direction.UNDO or guard.plan.undoes is not None
    return {
        "service": guard.plan.service,
        "playbook": None if is_undo else guard.plan.playbook,
        "touches": target,
        "held": True,
    }


def _note_guardrail(connection: Connection, entry: JournalEntry, said: str) -> None:
    key, told = f"guardrail/{entry.fence + 1}/{digest(said)[:16]}", f"{entry.mitigation} {said}"
    _note(connection, entry, EvidenceKind.GUARDRAIL, key, told, actor=ENGINE, said=said)


def _note(
    connection: Connection,
    entry: JournalEntry,
    kind: EvidenceKind,
    key: str,
    told: str,
    *,
    actor: str,
    **facts: JsonValue,
) -> None:
    key, body = f"{entry.action}/{key}", entry.model_dump(mode="json", include=_NAMED) | facts
    evidence.note(connection, kind, key, told, incident=entry.incident, actor=actor, body=body)


def _stands(connection: Connection, action: JournalEntry) -> tuple[Row[Any] | None, JournalEntry]:
    """Give an action's row and what it says; of one that is not there yet, what was planned.

    Raises:
        NotFoundError: It had an intent, and is not there any more.
        ConflictError: It is there for another plan or under another approval.
    """
    row = rows.one(connection, journal, action=action.action)
    if row is None and action.fence:
        raise NotFoundError(f"{one_line(action.action, 80)}: not begun")
    if row is None:
        return None, action
    entry = _entry(row)
    if (entry.plan_digest, entry.approval) != (action.plan_digest, action.approval):
        raise ConflictError(
            f"{entry.action} was begun for plan {entry.plan_digest[:12]} under {entry.approval},"
            f" not for {action.plan_digest[:12]} under {action.approval}"
        )
    return row, entry


def _write(
    connection: Connection, row: Row[Any] | None, entry: JournalEntry, values: dict[str, Any]
) -> Row[Any]:
    if row is not None:
        return rows.change(connection, journal, row, **values)
    blank = entry.model_dump(include=_NAMED | {"incident", "fence", "before"}) | {"held": False}
    return rows.add(connection, journal, **blank | values)


def _entry(row: Row[Any]) -> JournalEntry:
    return JournalEntry.model_validate(row._asdict())


def _check_fence(entry: JournalEntry, fence: int) -> None:
    if entry.fence != fence:
        raise ConflictError(
            f"{entry.action}: somebody else has gone on with it (fence {entry.fence}, not {fence})"
        )


def _in_words(entry: JournalEntry, title: str) -> str:
    match entry.direction:
        case Direction.APPLY:
            return title
        case Direction.UNDO:
            return f"undo of {title}"
        case Direction.FORCE:
            return f"{title}, ungracefully"
