"""What mitigations have left behind: entered with the outcome that made it, watched by a timer until its end.

The timer is one message of the outbox for each mitigation. At half and at nine tenths of its time its owner
is reminded; when the time is over, and every day from then on, its undo is asked for.
"""

import builtins
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue
from sqlalchemy import Connection, Row, select

from authority.seals import digest
from contracts.approvals import ApprovalState, SignedDecision
from contracts.base import JsonObject
from contracts.errors import ConflictError, InputError, NotFoundError
from contracts.evidence import ENGINE, EvidenceKind
from contracts.in_force import ForceState, InForce, InForceTimer, StepInForce
from contracts.incidents import OPEN_PHASES, AttemptEnd, Role
from contracts.messages import UndoRequest
from contracts.outcomes import Direction, MitigationResult
from contracts.plans import Plan, Step
from ledger import evidence, guardrails, incidents, ladders, outbox, rows
from ledger.database import Stored, moment_of
from ledger.schema import approval as approvals
from ledger.schema import in_force
from ledger.storable import clean, one_line

UNDO = "mitigation.undo"
WITHDRAW = "mitigation.withdraw"
TIMER = "mitigation.in_force"

LONGEST = timedelta(days=30)
REMINDERS = (0.5, 0.9)
AGAIN = timedelta(days=1)
# Longer than a question waits and its steps run: an undo that has not ended by then is taken to be lost.
UNDO_LOST = timedelta(hours=18)
# An undo whose target has changed each time is asked about so often in a row; then its owner has to look.
ASKED_AGAIN = 3
_STOPPED = "stopped at"


def settled(connection: Connection, plan: Plan, step: Step, *, direction: Direction, approval: str) -> None:
    """Enter what a step that was done leaves behind, or takes back, within the caller's transaction.

    Args:
        connection: The transaction that enters the outcome.
        plan: The plan that the step is of.
        step: What was done.
        direction: Which of its ways was gone.
        approval: The request under which it was done.
    """
    now = moment_of(connection)
    row = rows.one(connection, in_force, mitigation=plan.undoes or plan.mitigation)
    if plan.undoes is not None:
        if row is not None:
            taken_back = [one.step for one in _in_force(row).steps if one.undo == step.action]
            _mark(connection, row, taken_back, None if direction is Direction.UNDO else now)
    elif direction is Direction.UNDO:
        if row is not None:
            _mark(connection, row, [step.number], now)
    elif step.undo is not None:
        forced = step.forced if direction is Direction.FORCE else None
        entered = StepInForce(
            step=step.number, title=step.title, action=forced or step.action, undo=step.undo, since=now
        )
        _enter(connection, row, plan, entered, approval=approval)


class MitigationsInForce(Stored):
    """All of them, and what people do about them."""

    def get(self, mitigation: str) -> InForce:
        """Give a mitigation as it stands.

        Raises:
            NotFoundError: It left nothing behind, or there is none.
        """
        with self._database.read() as connection:
            return _in_force(_find(connection, mitigation))

    def list(
        self, *, incident: str | None = None, closed: bool = False, limit: int = 1000
    ) -> builtins.list[InForce]:
        """Give those in force, the next to end first; those that are over too when ``closed``."""
        query = select(in_force).order_by(in_force.c.expires_at, in_force.c.mitigation).limit(limit)
        query = query.filter_by(
            **rows.given(state=None if closed else ForceState.IN_FORCE, incident=incident)
        )
        return [_in_force(row) for row in self._database.rows(query)]

    def latest(self, service: str, environment: str, *, limit: int = 50) -> builtins.list[InForce]:
        """Give what a service's mitigations have left behind, newest first, also what is over."""
        query = select(in_force).order_by(in_force.c.since.desc(), in_force.c.mitigation).limit(limit)
        query = query.filter_by(service=service, environment=environment)
        return [_in_force(row) for row in self._database.rows(query)]

    def order_undo(
        self, mitigation: str, *, steps: Collection[int] = (), person: str, reason: str
    ) -> UndoRequest:
        """Ask that a mitigation be undone, and send that on; while an undo runs, that one is given.

        Args:
            mitigation: Which.
            steps: Which of its steps; none means all that are in force.
            person: Who asks.
            reason: Why.

        Raises:
            NotFoundError: It left nothing behind, or there is none.
            ConflictError: It is undone or permanent, or a step is not in force.
        """
        with self._database.write() as connection:
            row = _open(connection, mitigation)
            left = {step.step for step in _in_force(row).left}
            wrong = sorted(set(steps) - left)
            if wrong:
                raise ConflictError(f"{mitigation}: step {wrong[0]} is not in force")
            return _order(connection, row, tuple(sorted(set(steps))), person, reason)

    def has_ordered(self, request: UndoRequest) -> bool:
        """Say whether exactly this was asked for."""
        number = request.mitigation.rpartition("-undo")[2].removeprefix("-") or "1"
        with self._database.read() as connection:
            body = evidence.body_of(connection, clean(f"{request.undoes}/in_force/undo/{number}"))
        return body is not None and body["order"] == request.model_dump(mode="json")

    def extend(self, mitigation: str, *, until: datetime, person: str, reason: str) -> InForce:
        """Give a mitigation more time, or less; an undo that nobody has decided about is withdrawn.

        Raises:
            NotFoundError: It left nothing behind, or there is none.
            ConflictError: It is undone or permanent.
            InputError: The time is over, or too far away.
        """
        with self._database.write() as connection:
            row, now = _open(connection, mitigation), moment_of(connection)
            if not now < until <= now + LONGEST:
                raise InputError(
                    f"{mitigation} can stay for {LONGEST.days} days from now at the most, not until"
                    f" {until.isoformat()}; make it permanent when it has to stay"
                )
            if row.expires_at != until:
                row = _renew(connection, row, until)
                said = f"{person} lets {mitigation} stay until {until:%Y-%m-%d %H:%M} UTC: {reason}"
                facts = {"until": until.isoformat(), "reason": reason}
                key = f"extended/{row.revision}"
                _tell(connection, row, key, person, said, **facts)
                _withdraw(connection, row, key, said)
            return _in_force(row)

    def make_permanent(self, mitigation: str, *, person: str, reason: str) -> InForce:
        """Say that what a mitigation has changed stays; the same again is no change.

        Raises:
            NotFoundError: It left nothing behind, or there is none.
            ConflictError: It is undone, or its undo is approved.
        """
        with self._database.write() as connection:
            row = _find(connection, mitigation)
            if row.state == ForceState.PERMANENT:
                return _in_force(row)
            row = _open(connection, mitigation)
            now = moment_of(connection)
            if _undo_runs(row, now) and not _is_undecided(connection, row):
                raise ConflictError(f"{row.undo} is approved and undoes {mitigation} now: wait for its end")
            row = rows.change(connection, in_force, row, state=ForceState.PERMANENT, closed_at=now)
            said = f"{person} makes {mitigation} permanent: {reason}"
            _tell(connection, row, "permanent", person, said, reason=reason)
            _withdraw(connection, row, "permanent", said)
            return _in_force(row)

    def tick(self, timer: InForceTimer) -> datetime | None:
        """Do what is due about a mitigation: remind its owner, or ask for its undo. Repeating it is harmless.

        Returns:
            When something is due next; ``None`` when nothing will be.
        """
        with self._database.write() as connection:
            row = rows.one(connection, in_force, mitigation=timer.mitigation)
            if row is None or row.state != ForceState.IN_FORCE or row.revision != timer.revision:
                return None
            number = _stage(row, moment_of(connection))
            if number > row.reminded:
                rows.change(connection, in_force, row, reminded=number)
                _remind(connection, row, number)
                if number > len(REMINDERS):
                    _order(connection, row, (), ENGINE, "its time is over")
            return _due(row, number + 1)

    def has_ended(self, result: MitigationResult) -> None:
        """Take down how an undo ended: another may be asked for. Repeating it is harmless.

        Where its target was no longer as it was shown, it is asked about again, as any plan is; what never
        stays as it was shown is its owner's to look at.
        """
        with self._database.write() as connection:
            row = rows.one(connection, in_force, undo=result.mitigation)
            guardrails.end(connection, result)
            if row is None:
                return
            row = rows.change(connection, in_force, row, undo=None)
            orders = [_ordered(connection, row, row.undos - back) for back in range(ASKED_AGAIN)]
            if orders[0] and (result.end, row.state) == (AttemptEnd.DRIFTED, ForceState.IN_FORCE):
                said = f"{result.mitigation} {_STOPPED} {result.detail}"
                if all(one and _STOPPED in one.reason for one in orders):
                    _tell_owner(connection, row, f"undo/{row.undos}/stopped", said)
                else:
                    _order(connection, row, orders[0].steps, ENGINE, said)

    def found_undone(self, mitigation: str, steps: Collection[int]) -> None:
        """Take down that what some steps had done is gone already: somebody has undone it elsewhere."""
        with self._database.write() as connection:
            row = _find(connection, mitigation)
            gone = [step.step for step in _in_force(row).left if step.step in steps]
            if gone:
                _mark(connection, row, gone, moment_of(connection))
                said = f"{mitigation} is as it was before: somebody has undone it elsewhere"
                key = f"found/{'-'.join(map(str, gone))}/{row.undos}"
                _tell(connection, row, key, ENGINE, said, steps=list(gone))

    def looked(self, mitigation: str, step: int, changed_by: str | None) -> None:
        """Take down whether a step's change still is in place; only news are told.

        Args:
            mitigation: Which.
            step: Which of its steps.
            changed_by: Who has changed it back, empty when nobody knows; ``None``: it is in place.
        """
        with self._database.write() as connection:
            row = _find(connection, mitigation)
            left = _in_force(row).left if row.state == ForceState.IN_FORCE else ()
            found = next((one for one in left if one.step == step), None)
            if found is None or (found.changed_by is None) == (changed_by is None):
                return
            now = moment_of(connection)
            seen = {"changed_by": changed_by, "changed_at": None if changed_by is None else now}
            others = [one for one in _in_force(row).steps if one.step != step]
            steps = _dump([*others, found.model_copy(update=seen)])
            rows.change(connection, in_force, row, steps=steps)
            back = f"{mitigation} step {step} was changed back by "
            said = f"{back}{changed_by or 'somebody'}: {found.title}"
            if changed_by is None:
                said = f"{mitigation} step {step} is in place again: {found.title}"
            key = f"changed/{step}/{now.isoformat()}"
            _tell(connection, row, key, ENGINE, said, step=step, changed_by=changed_by)
            is_open = incidents.find(connection, row.incident).phase in OPEN_PHASES
            if is_open and changed_by is None:
                incidents.calm(connection, row.incident, back)
            elif is_open:
                incidents.attend(connection, row.incident, said)
            if changed_by is not None:
                _tell_owner(connection, row, key, said)


def _ordered(connection: Connection, row: Row[Any], number: int) -> UndoRequest | None:
    body = evidence.body_of(connection, f"{row.mitigation}/in_force/undo/{number}")
    return None if body is None else UndoRequest.model_validate(body["order"])


def _order(
    connection: Connection, row: Row[Any], steps: tuple[int, ...], person: str, reason: str
) -> UndoRequest:
    now = moment_of(connection)
    number = row.undos if _undo_runs(row, now) else row.undos + 1
    request = UndoRequest(
        incident=row.incident,
        mitigation=f"{row.mitigation}-undo" + (f"-{number}" if number > 1 else ""),
        undoes=row.mitigation,
        steps=steps,
        person=person,
        reason=reason,
    )
    if number == row.undos:
        return request
    rows.change(connection, in_force, row, undos=number, undo=request.mitigation, undo_asked_at=now)
    body = request.model_dump(mode="json")
    said = f"{person} asks to undo {row.mitigation}: {reason}"
    _tell(connection, row, f"undo/{number}", person, said, order=body)
    trace = incidents.find(connection, row.incident).trace
    key, lane = request.mitigation, f"{UNDO}/{request.mitigation}"
    outbox.add(connection, UNDO, key, incident=row.incident, payload=body, trace=trace, lane=lane)
    return request


def _withdraw(connection: Connection, row: Row[Any], key: str, reason: str) -> None:
    """Take the question about its undo back, unless somebody has answered it."""
    if row.undo is None or not _is_undecided(connection, row):
        return
    withdrawn = {"mitigation": row.undo, "reason": reason}
    lane = f"{UNDO}/{row.undo}"  # behind its start
    outbox.add(connection, WITHDRAW, f"{row.undo}/{key}", incident=row.incident, payload=withdrawn, lane=lane)


def _remind(connection: Connection, row: Row[Any], number: int) -> None:
    until = f"{row.expires_at:%Y-%m-%d %H:%M} UTC"
    over = "its time is over since" if number > len(REMINDERS) else "it is to be undone at"
    said = f"{row.mitigation} is in force, {over} {until}: {row.title}. Owner: {row.owner or 'nobody'}"
    key, expires_at = f"reminder/{row.revision}/{number}", row.expires_at.isoformat()
    _tell(connection, row, key, ENGINE, said, owner=row.owner, expires_at=expires_at)
    _tell_owner(connection, row, key, said)


def _tell_owner(connection: Connection, row: Row[Any], key: str, said: str) -> None:
    whom = [f"person:{row.owner}" if row.owner else "incident_commander"]
    ladders.tell(connection, row.incident, whom, said, key=f"{row.mitigation}/in_force/{key}")


def _tell(connection: Connection, row: Row[Any], key: str, actor: str, said: str, **facts: JsonValue) -> None:
    key, body = f"{row.mitigation}/in_force/{key}", {"mitigation": row.mitigation, **facts}
    where = row.incident
    evidence.note(connection, EvidenceKind.IN_FORCE, key, said, incident=where, actor=actor, body=body)


def _find(connection: Connection, mitigation: str) -> Row[Any]:
    row = rows.one(connection, in_force, mitigation=mitigation)
    if row is None:
        raise NotFoundError(f"{one_line(mitigation, 80)}: nothing of it was ever in force")
    return row


def _open(connection: Connection, mitigation: str) -> Row[Any]:
    row = _find(connection, mitigation)
    if row.state != ForceState.IN_FORCE:
        how = "was undone" if row.state == ForceState.UNDONE else "was made permanent"
        raise ConflictError(f"{mitigation} {how} at {row.closed_at.isoformat()}")
    return row


def _in_force(row: Row[Any]) -> InForce:
    return InForce.model_validate(row._asdict())


def _enter(
    connection: Connection,
    row: Row[Any] | None,
    plan: Plan,
    entered: StepInForce,
    *,
    approval: str,
) -> None:
    if row is not None:
        others = [step for step in _in_force(row).steps if step.step != entered.step]
        rows.change(connection, in_force, row, steps=_dump([*others, entered]))
        return
    stays = min(max(plan.in_force_for, timedelta()), LONGEST)
    facts = plan.model_dump(include={"mitigation", "incident", "service", "environment", "title"})
    values = {
        "plan_digest": digest(plan),
        "owner": _owner(connection, plan.incident, approval),
        "state": ForceState.IN_FORCE,
        "steps": _dump([entered]),
        "since": entered.since,
        "renewed_at": entered.since,
        "expires_at": entered.since + stays,
        "revision": 0,
        "reminded": 0,
        "undos": 0,
    }
    _arm(connection, rows.add(connection, in_force, **facts, **values))


def _mark(connection: Connection, row: Row[Any], steps: Collection[int], undone_at: datetime | None) -> None:
    """Say that some steps are undone, or that they are in force again."""
    marked = [
        step.model_copy(update={"undone_at": undone_at}) if step.step in steps else step
        for step in _in_force(row).steps
    ]
    left = any(step.undone_at is None for step in marked)
    closed = {"state": ForceState.UNDONE, "closed_at": moment_of(connection)} if not left else {}
    rows.change(connection, in_force, row, steps=_dump(marked), **closed)
    if left and row.state == ForceState.UNDONE:
        rows.change(connection, in_force, row, state=ForceState.IN_FORCE, closed_at=None)
        _renew(connection, row, max(row.expires_at, moment_of(connection) + AGAIN))


def _renew(connection: Connection, row: Row[Any], until: datetime) -> Row[Any]:
    """Count its time anew, with a timer of its own: the former finds another revision and ends."""
    values = {
        "expires_at": until,
        "renewed_at": moment_of(connection),
        "reminded": 0,
        "revision": row.revision + 1,
    }
    renewed = rows.change(connection, in_force, row, **values)
    _arm(connection, renewed)
    return renewed


def _arm(connection: Connection, row: Row[Any]) -> None:
    key, due = f"{row.mitigation}/{row.revision}", _due(row, 1)
    payload = InForceTimer(mitigation=row.mitigation, revision=row.revision).model_dump()
    outbox.add(connection, TIMER, key, incident=row.incident, payload=payload, due=due)


def _due(row: Row[Any], number: int) -> datetime:
    """Give when its n-th reminder is due; those behind the declared ones ask for its undo, day after day."""
    if number <= len(REMINDERS):
        due: datetime = row.renewed_at + REMINDERS[number - 1] * (row.expires_at - row.renewed_at)
    else:
        due = row.expires_at + (number - len(REMINDERS) - 1) * AGAIN
    return due


def _stage(row: Row[Any], now: datetime) -> int:
    """Give how many of its reminders are due by now."""
    if now < row.expires_at:
        return sum(now >= _due(row, number) for number in range(1, len(REMINDERS) + 1))
    return len(REMINDERS) + 1 + int((now - row.expires_at) // AGAIN)


def _undo_runs(row: Row[Any], now: datetime) -> bool:
    return row.undo is not None and now - row.undo_asked_at < UNDO_LOST


def _is_undecided(connection: Connection, row: Row[Any]) -> bool:
    """Say whether nobody has decided about the undo yet, or it is not even planned."""
    state = connection.scalar(select(approvals.c.state).where(approvals.c.mitigation == row.undo))
    return state in (None, ApprovalState.PENDING)


def _owner(connection: Connection, incident: str, approval: str) -> str:
    """Give who answers for it: who approved it, or gave the grant; else the Incident Commander."""
    asked = rows.one(connection, approvals, number=rows.number_of(approvals, approval))
    signed = asked and asked.signed
    if signed is not None:
        decision = SignedDecision.model_validate(signed).decision
        person = decision.grant.given_by if decision.grant else decision.person
        if person != ENGINE:
            return person
    roles: dict[str, str] = incidents.find(connection, incident).roles
    return roles.get(Role.INCIDENT_COMMANDER, "")


def _dump(steps: Collection[StepInForce]) -> builtins.list[JsonObject]:
    return [step.model_dump(mode="json") for step in sorted(steps, key=lambda step: step.step)]
