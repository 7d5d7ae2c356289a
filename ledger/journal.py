"""The journal of actions: an intent is on the disk before the call, an outcome is kept once."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, select

from authority.guardrails import Guard
from authority.seals import digest
from contracts.base import Frozen, JsonObject
from contracts.errors import ActionRefusedError, ConflictError, GuardrailError, NotFoundError
from contracts.evidence import EvidenceKind
from contracts.outcomes import Direction, Outcome, StepResult
from contracts.plans import Plan
from ledger import evidence, guardrails, in_force, rows
from ledger.database import Database
from ledger.schema import journal
from ledger.schema import plan as plans
from ledger.storable import one_line

_WORDS = {Outcome.DONE: "done", Outcome.NOT_DONE: "not done", Outcome.IN_DOUBT: "in doubt"}


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


class Journal:
    """All actions, each moved forward by compare-and-set."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self,
        action: str,
        *,
        incident: str,
        mitigation: str,
        step: int,
        direction: Direction,
        plan_digest: str,
        approval: str,
    ) -> JournalEntry:
        """Enter an action, unless it is there, and give it as it stands.

        Raises:
            ConflictError: It is there for another plan or under another approval.
        """
        facts = {
            "action": action,
            "incident": incident,
            "mitigation": mitigation,
            "step": step,
            "direction": direction,
            "plan_digest": plan_digest,
            "approval": approval,
        }
        with self._database.write() as connection:
            row = rows.one(connection, journal, action=action)
            if row is None:
                blank = {"state": JournalState.PLANNED, "fence": 0, "before": {}, "held": False}
                row = rows.add(connection, journal, **facts, **blank)
        entry = _entry(row)
        if (entry.plan_digest, entry.approval) != (plan_digest, approval):
            raise ConflictError(
                f"{action} was begun for plan {entry.plan_digest[:12]} under {entry.approval},"
                f" not for {plan_digest[:12]} under {approval}"
            )
        return entry

    def intend(
        self,
        action: str,
        *,
        fence: int,
        before: JsonObject,
        actor: str,
        guard: Guard,
        not_after: datetime | None = None,
    ) -> JournalEntry:
        """Write down that the call follows now; when this returns, that is on the disk.

        The guardrails are checked in the same transaction: a freeze that was committed before is always seen,
        and of two mitigations only one gets a target.

        Args:
            action: Its key.
            fence: The fence as it was read; the entry that is given back has the next one.
            before: The target as it was read.
            actor: Who is about to call.
            guard: The verified plan, with what holds for it.
            not_after: When it is too late to begin; ``None``: it is never.

        Raises:
            NotFoundError: The action was not begun.
            ConflictError: Somebody else went on, or there is an outcome: do not call.
            GuardrailError: A guardrail holds: do not call; the refusal is evidence.
            ActionRefusedError: It is too late: do not call.
        """
        with self._database.write() as connection:
            row, entry = _find(connection, action)
            if entry.state is JournalState.OUTCOME:
                raise ConflictError(f"{action} has an outcome already: nothing may be called for it again")
            _check_fence(entry, fence)
            now = self._database.now()
            if not_after is not None and now >= not_after:
                raise ActionRefusedError(f"{entry.mitigation} was to begin before {not_after.isoformat()}")
            values = {"state": JournalState.INTENT, "fence": fence + 1, "intent_at": now, "before": before}
            try:
                values |= _guarded(connection, entry, guard, now)
            except GuardrailError as error:
                refusal = error
                _note_guardrail(connection, entry, now, f"may not go on: {error}")
            else:
                intent = _entry(rows.change(connection, journal, row, **values))
                begun = _in_words(intent, guard.plan.steps[entry.step - 1].title)
                said = f"{intent.mitigation} begins: {begun}"
                body = _facts(intent) | {"fence": intent.fence, "before": values["before"]}
                kind, key, where = EvidenceKind.INTENT, f"{action}/intent/{intent.fence}", intent.incident
                evidence.note(connection, kind, key, said, incident=where, actor=actor, at=now, body=body)
                return intent
        raise refusal

    def settle(self, action: str, *, fence: int, result: StepResult, actor: str) -> StepResult:
        """Write down the outcome; if there is one, that one counts and is given back.

        Raises:
            NotFoundError: The action was not begun.
            ConflictError: Somebody else went on, or something was done without an intent.
        """
        with self._database.write() as connection:
            row, entry = _find(connection, action)
            if entry.result is not None:
                return entry.result
            _check_fence(entry, fence)
            if entry.state is JournalState.PLANNED and not may_lack_intent(result):
                raise ConflictError(
                    f"{action} has no intent, so it cannot have ended as {result.outcome.value}"
                )
            content = result.model_dump(mode="json")
            values: dict[str, Any] = {"state": JournalState.OUTCOME, "result": content}
            if result.outcome is Outcome.NOT_DONE:
                values |= {"touches": None, "held": False}
            rows.change(connection, journal, row, **values)
            told = f"{entry.mitigation} {_told(connection, entry)}: {_WORDS[result.outcome]}. {result.detail}"
            told, body = told.removesuffix(". "), _facts(entry) | {"fence": fence, "result": content}
            kind, key, now = EvidenceKind.OUTCOME, f"{action}/outcome", self._database.now()
            evidence.note(
                connection, kind, key, told, incident=entry.incident, actor=actor, at=now, body=body
            )
            if result.outcome is Outcome.DONE:
                self._keep_in_force(connection, entry, result)
            return result

    def _keep_in_force(self, connection: Connection, entry: JournalEntry, result: StepResult) -> None:
        content = connection.scalar(select(plans.c.content).where(plans.c.digest == entry.plan_digest))
        if content is None or (
            result.no_op and entry.direction is not Direction.UNDO and not content.get("undoes")
        ):
            return  # nothing was changed, so there is nothing to take back
        plan, now = Plan.model_validate(content), self._database.now
        step, way = plan.steps[entry.step - 1], entry.direction
        in_force.settled(connection, now, plan, step, direction=way, approval=entry.approval)

    def get(self, action: str) -> JournalEntry | None:
        """Give an action as it stands, if it was begun."""
        with self._database.read() as connection:
            row = rows.one(connection, journal, action=action)
            return None if row is None else _entry(row)

    def for_incident(self, incident: str) -> list[JournalEntry]:
        """Give all actions of an incident in the order in which they were begun."""
        query = select(journal).filter_by(incident=incident).order_by(journal.c.number)
        return [_entry(row) for row in self._database.rows(query)]


def may_lack_intent(result: StepResult) -> bool:
    """Say whether an outcome may come without an intent: nothing was called for it."""
    return result.no_op or result.outcome is Outcome.NOT_DONE


def _guarded(connection: Connection, entry: JournalEntry, guard: Guard, now: datetime) -> dict[str, Any]:
    """Check the guardrails, and give what the journal keeps so that the next one is checked against it.

    Raises:
        GuardrailError: One holds.
    """
    target = str(guard.plan.steps[entry.step - 1].action.target)
    facts = guardrails.gather(
        connection, guard.plan, guard.rules, now=now, targets=[target], action=entry.action
    )
    aside = guard.check(entry.direction, facts)
    if any(touch.held for touch in facts.touches):
        guardrails.take_over(connection, target, entry.mitigation)
    if aside:
        said = f"goes on, as an override names it, against {'; '.join(map(str, aside))}"
        _note_guardrail(connection, entry, now, said)
    is_undo = entry.direction is Direction.UNDO or guard.plan.undoes is not None
    return {
        "service": guard.plan.service,
        "playbook": None if is_undo else guard.plan.playbook,
        "touches": target,
        "held": True,
    }


def _note_guardrail(connection: Connection, entry: JournalEntry, now: datetime, said: str) -> None:
    kind, key = EvidenceKind.GUARDRAIL, f"{entry.action}/guardrail/{entry.fence + 1}/{digest(said)[:16]}"
    summary, body = f"{entry.mitigation} {said}", _facts(entry) | {"said": said}
    evidence.note(connection, kind, key, summary, incident=entry.incident, at=now, body=body)


def _find(connection: Connection, action: str) -> tuple[Row[Any], JournalEntry]:
    row = rows.one(connection, journal, action=action)
    if row is None:
        raise NotFoundError(f"{one_line(action, 80)}: not begun")
    return row, _entry(row)


def _entry(row: Row[Any]) -> JournalEntry:
    return JournalEntry.model_validate(row._asdict())


def _check_fence(entry: JournalEntry, fence: int) -> None:
    if entry.fence != fence:
        raise ConflictError(
            f"{entry.action}: somebody else has gone on with it (fence {entry.fence}, not {fence})"
        )


def _told(connection: Connection, entry: JournalEntry) -> str:
    """Say what is done in the words of the plan that was approved."""
    content = connection.scalar(select(plans.c.content).where(plans.c.digest == entry.plan_digest))
    titles = {step["number"]: step["title"] for step in (content or {}).get("steps", ())}
    return _in_words(entry, titles.get(entry.step, f"step {entry.step}"))


def _in_words(entry: JournalEntry, title: str) -> str:
    match entry.direction:
        case Direction.APPLY:
            return title
        case Direction.UNDO:
            return f"undo of {title}"
        case Direction.FORCE:
            return f"{title}, ungracefully"


def _facts(entry: JournalEntry) -> JsonObject:
    named = {"action", "mitigation", "step", "direction", "plan_digest", "approval"}
    return entry.model_dump(mode="json", include=named)
