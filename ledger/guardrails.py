"""What the guardrails go by: who holds which target, what was changed, and how mitigations ended.

A target is locked by the journal itself: an intent holds its target, in the transaction that writes it, until
its action is certainly not done, its mitigation has ended, or an override that names the lock takes it over.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, func, literal, null, select, union_all, update
from sqlalchemy.sql.expression import CompoundSelect

from authority.guardrails import HOUR, REMEMBERED, TELLING, Facts, Guardrails, Touch
from contracts import names
from contracts.evidence import EvidenceKind
from contracts.guardrails import Freeze, Lock
from contracts.incidents import AttemptEnd, Ended
from contracts.plans import Plan
from ledger import evidence
from ledger.database import Stored
from ledger.schema import freeze as freezes
from ledger.schema import journal

# After a mitigation's end a call that was begun holds its target for as long as it may be on its way.
_HOLDS = journal.c.held & (journal.c.ended.is_(None) | (journal.c.intent_at > bindparam("hour")))


def gather(
    connection: Connection,
    plan: Plan,
    rules: Guardrails,
    *,
    now: datetime,
    targets: Collection[str],
    action: str = "",
) -> Facts:
    """Read all that counts for a plan in one query: it is on the way from a decision to its call.

    Args:
        connection: The caller's transaction.
        plan: The plan.
        rules: Say how far back to look.
        now: The time.
        targets: What is about to be changed.
        action: The journal's key of the action that is about to begin, which does not count itself.
    """
    about = {
        "service": plan.service,
        "playbook": plan.playbook,
        "mitigation": plan.mitigation,
        "action": action,
        "targets": list(targets),
        "recent": now - rules.limits(plan.service).cooldown,
        "hour": now - HOUR,
        "remembered": now - REMEMBERED,
    }
    return _facts(connection.execute(_counting(), about).all(), plan, now)


@cache
def _counting() -> CompoundSelect[Any]:
    """Make the query once: that takes longer than to run it."""
    none = null()
    touches = select(
        literal("touch").label("kind"),
        journal.c.touches.label("name"),
        journal.c.mitigation.label("who"),
        journal.c.approval.label("why"),
        journal.c.intent_at.label("at"),
        case((_HOLDS, 1), else_=0).label("number"),
    ).where(
        journal.c.touches.in_(bindparam("targets", expanding=True)),
        journal.c.mitigation != bindparam("mitigation"),
        _HOLDS | (journal.c.intent_at > bindparam("recent")),
    )
    actions = select(literal("actions"), none, none, none, none, func.count()).where(
        journal.c.service == bindparam("service"),
        journal.c.intent_at > bindparam("hour"),
        journal.c.action != bindparam("action"),
    )
    ends = [
        select(
            literal(column.name),
            journal.c.ended,
            journal.c.mitigation,
            none,
            none,
            func.max(journal.c.number),
        )
        .where(column == bindparam(column.name), journal.c.intent_at > bindparam("remembered"))
        .where(journal.c.ended.in_(TELLING), journal.c.playbook.is_not(None))
        .group_by(journal.c.mitigation, journal.c.ended)
        for column in (journal.c.service, journal.c.playbook)
    ]
    columns = (freezes.c.service, freezes.c.person, freezes.c.reason, freezes.c.at, freezes.c.number)
    standing = select(literal("freeze"), *columns).where(
        freezes.c.lifted_at.is_(None),
        freezes.c.service.is_(None) | (freezes.c.service == bindparam("service")),
    )
    return union_all(touches, actions, *ends, standing)


def _facts(rows: Iterable[Row[Any]], plan: Plan, now: datetime) -> Facts:
    changed: dict[tuple[str, str], Touch] = {}
    ended: dict[str, list[AttemptEnd]] = {}
    frozen: list[Freeze] = []
    actions = 0
    for row in sorted(rows, key=lambda row: -row.number):
        kind, name, who, why, at, number = row.kind, row.name, row.who, row.why, row.at, row.number
        match kind:
            case "touch":
                known = changed.get((name, who))
                # A lock is shown since its first intent, a change since its last one.
                if known is None or (at < known.at if number else not known.held and at > known.at):
                    changed[name, who] = Touch(target=name, mitigation=who, at=at, held=bool(number))
            case "actions":
                actions = number
            case "freeze":
                frozen.append(Freeze(id=f"FRZ-{number}", service=name, reason=why, person=who, at=at))
            case _:
                ended.setdefault(f"{kind} {getattr(plan, kind)}", []).append(AttemptEnd(name))
    touches, freezes_now = tuple(changed.values()), tuple(reversed(frozen))
    return Facts(now=now, touches=touches, actions=actions, ends=ended, freezes=freezes_now)


def take_over(connection: Connection, target: str, mitigation: str) -> None:
    """Let everybody else go of a target, within the caller's transaction: an override has named its lock."""
    others = update(journal).filter_by(touches=target, held=True).where(journal.c.mitigation != mitigation)
    connection.execute(others.values(held=False))


def end(connection: Connection, ended: Ended) -> None:
    """Note how a mitigation ended and let go of what it held, within the caller's transaction.

    A call that was begun and whose outcome is not known yet holds its target until it is, or for an hour.
    """
    values = {"ended": ended.end, "held": journal.c.held & (journal.c.state == "intent")}
    connection.execute(update(journal).filter_by(mitigation=ended.mitigation).values(values))
    said = f"{ended.mitigation} {ended.title}: {ended.end.value}. {ended.detail}".rstrip(". ")
    key, body = names.ended_key(ended.mitigation), {"result": ended.model_dump(mode="json")}
    incident = ended.mitigation.partition("/")[0]
    evidence.note(connection, EvidenceKind.MITIGATION_ENDED, key, said, incident=incident, body=body)


class GuardrailRecords(Stored):
    """Locks and facts as everybody asks for them."""

    def facts(self, plan: Plan, rules: Guardrails) -> Facts:
        """Give all that counts for a plan that is being sealed."""
        targets = {str(step.action.target) for step in plan.steps if step.change}
        with self._database.read() as connection:
            return gather(connection, plan, rules, now=self._database.now(), targets=targets)

    def locks(self) -> list[Lock]:
        """Give the targets that are held, the longest first."""
        since = func.min(journal.c.intent_at).label("since")
        query = select(journal.c.touches.label("target"), journal.c.mitigation, since)
        query = query.where(_HOLDS).params(hour=self._database.now() - HOUR)
        query = query.group_by(journal.c.touches, journal.c.mitigation).order_by(since)
        return [Lock.model_validate(row._asdict()) for row in self._database.rows(query)]
