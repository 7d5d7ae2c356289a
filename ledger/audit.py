"""Verifying the whole log from what is stored: nothing is believed that can be computed again."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import JsonValue
from sqlalchemy import Connection, Row, select

from authority.decisions import Verifier, approved
from authority.seals import digest
from contracts.approvals import SignedDecision, Verdict
from contracts.base import Frozen
from contracts.errors import ForbiddenError, StanchError
from contracts.evidence import EvidenceEntry, EvidenceKind
from contracts.outcomes import StepResult
from contracts.plans import Plan
from ledger import evidence, merkle, notes
from ledger.journal import may_lack_intent
from ledger.ledger import Ledger
from ledger.schema import approval as approvals
from ledger.schema import evidence as entries
from ledger.schema import evidence_checkpoint, evidence_node
from ledger.schema import journal as actions

PAGE = 1000  # entries in memory at once


class AuditReport(Frozen):
    """What an audit found.

    Attributes:
        entries: How many entries were read.
        size: How many the log says it has.
        root: The root that the entries give, in hex.
        checkpoints: How many signed checkpoints the log agrees with.
        decisions: How many signed decisions are valid.
        problems: What is wrong, each a sentence that names the entry.
    """

    ok: bool
    entries: int
    size: int
    root: str
    checkpoints: int
    decisions: int
    problems: tuple[str, ...]


def verify(ledger: Ledger, verifier: Verifier) -> AuditReport:
    """Verify the log: leaves, tree, checkpoints, decisions, and that nothing was done without one.

    Args:
        ledger: Whose log it is.
        verifier: Knows the public keys of decisions and checkpoints.

    Raises:
        ProviderUnavailableError: The database does not answer.
    """
    with ledger.database.read() as connection:
        return _Audit(connection, verifier).run()


class _Audit:
    """One pass over the log, in its order."""

    def __init__(self, connection: Connection, verifier: Verifier) -> None:
        self._connection = connection
        self._verifier = verifier
        self._problems: list[str] = []
        self._edge: list[bytes] = []
        self._count = 0
        self._agreed = 0
        self._decisions: dict[str, JsonValue] = {}  # by request, as the log has them
        self._approved: dict[tuple[JsonValue, JsonValue], tuple[int, ...]] = {}  # the steps, by its request
        self._asked: dict[str, Plan] = {}  # digest to plan, until it is decided
        self._intended: set[str] = set()
        self._ended: dict[str, JsonValue] = {}  # outcomes by action, as the log has them
        query = select(evidence_checkpoint).order_by(evidence_checkpoint.c.size)
        self._checkpoints = list(connection.execute(query))

    def run(self) -> AuditReport:
        """Read everything once."""
        size = evidence.size(self._connection)
        for page in self._pages():
            self._check_page(page)
        if self._count != size:
            self._problems.append(f"entry {self._count}: missing; the log says that it has {size} entries")
        self._check_surplus_nodes()
        for late in self._checkpoints:
            self._problems.append(
                f"entry {self._count}: missing; a checkpoint at size {late.size} was signed"
            )
        self._check_approvals()
        self._check_journal()
        return AuditReport(
            ok=not self._problems,
            entries=self._count,
            size=size,
            root=merkle.root_of(self._edge).hex(),
            checkpoints=self._agreed,
            decisions=len(self._decisions),
            problems=tuple(self._problems),
        )

    def _pages(self) -> Iterator[list[Row[Any]]]:
        last = -1
        while True:
            query = select(entries).where(entries.c.position > last).order_by(entries.c.position).limit(PAGE)
            page = list(self._connection.execute(query))
            if not page:
                return
            yield page
            last = page[-1].position

    def _check_page(self, page: list[Row[Any]]) -> None:
        span = evidence_node.c.leaf.between(page[0].position, page[-1].position)
        query = select(evidence_node).where(span)
        stored = {(row.leaf, row.level): row.hash for row in self._connection.execute(query)}
        for row in page:
            if row.position != self._count:
                self._problems.append(f"entry {self._count}: missing; entry {row.position} follows")
            leaf = merkle.leaf_hash(row.leaf.encode())
            nodes, self._edge = merkle.grow(self._count, self._edge, [leaf])
            for node in nodes:
                if stored.pop((node.leaf, node.level), None) != node.hash:
                    what = "place in the tree is wrong" if node.level else "content is not what was appended"
                    self._problems.append(f"entry {row.position}: its {what} (node of level {node.level})")
            self._count += 1
            self._check_checkpoints()
            self._check_entry(row)
        for leaf_index, level in stored:
            self._problems.append(f"entry {leaf_index}: the tree has a node of level {level} too many")

    def _check_checkpoints(self) -> None:
        while self._checkpoints and self._checkpoints[0].size <= self._count:
            self._check_checkpoint(self._checkpoints.pop(0))

    def _check_checkpoint(self, row: Row[Any]) -> None:
        """Check one checkpoint's signature, and that the log up to its size has its root."""
        where = f"entry {row.size - 1}, checkpoint at size {row.size}"
        origin = row.note.partition("\n")[0]
        try:
            text = notes.open_note(row.note, name=origin, keys=self._verifier.keys)
            made = notes.Checkpoint.parse(text)
        except StanchError as error:
            self._problems.append(f"{where}: {error}")
            return
        if (made.size, made.root) != (row.size, row.root):
            self._problems.append(f"{where}: what was signed is not what is stored")
        elif made.root != merkle.root_of(self._edge) or row.size != self._count:
            self._problems.append(f"{where}: the log up to here is not the one that was signed")
        else:
            self._agreed += 1

    def _check_entry(self, row: Row[Any]) -> None:
        """Check one entry against its own leaf, and its place in the order of things."""
        where = f"entry {row.position}"
        try:
            facts = json.loads(row.leaf)
            if facts["body_digest"] != evidence.body_digest(row.body):
                self._problems.append(f"{where}: its body is not the one that was appended")
                return
            if (facts["index"], facts["key"], facts["incident"]) != (row.position, row.key, row.incident):
                said = "it is stored under another index, key or incident than its own"
                self._problems.append(f"{where}: {said}")
            self._check_meaning(where, evidence.entry_of(row.position, row.leaf, row.body))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._problems.append(f"{where}: cannot be read: {str(error).partition(chr(10))[0]}")

    def _check_meaning(self, where: str, entry: EvidenceEntry) -> None:
        match entry.kind:
            case EvidenceKind.PLAN_SEALED:
                self._asked[str(entry.body["plan_digest"])] = Plan.model_validate(entry.body["plan"])
            case EvidenceKind.DECISION:
                self._check_decision(where, entry)
            case EvidenceKind.APPROVAL_GIVEN | EvidenceKind.FORCED:
                self._check_signed(where, entry)
            case EvidenceKind.INTENT:
                action, body = str(entry.body["action"]), entry.body
                steps = self._approved.get((body["approval"], body["plan_digest"]))
                if steps is None or body["step"] not in steps:
                    said = f"no approval of its {'plan' if steps is None else 'step'} comes before"
                    self._problems.append(f"{where}: {action} was begun, and {said}")
                self._intended.add(action)
            case EvidenceKind.OUTCOME:
                action = str(entry.body["action"])
                result = StepResult.model_validate(entry.body["result"])
                if action not in self._intended and not may_lack_intent(result):
                    self._problems.append(f"{where}: {action} ended, and no intent comes before")
                self._ended[action] = entry.body["result"]
            case _:
                pass

    def _check_signed(self, where: str, entry: EvidenceEntry) -> SignedDecision | None:
        """Check the signatures of an entry, and that it names who signed."""
        signed = SignedDecision.model_validate(entry.body["signed"])
        try:
            for one in (signed, *signed.others):
                self._verifier.check_signature(one)
        except StanchError as error:
            self._problems.append(f"{where}: {error}")
            return None
        if signed.decision.person != entry.actor:
            self._problems.append(f"{where}: {entry.actor} is named, and {signed.decision.person} decided")
        return signed

    def _check_decision(self, where: str, entry: EvidenceEntry) -> None:
        """Check a decision as whoever acts on it does: who, how many, about which plan, in time."""
        signed = self._check_signed(where, entry)
        if signed is None:
            return
        decision = signed.decision
        if decision.request in self._decisions:
            self._problems.append(f"{where}: {decision.request} was decided before")
            return
        self._decisions[decision.request] = entry.body["signed"]
        plan = self._asked.pop(decision.plan_digest, None)
        if decision.verdict is not Verdict.APPROVE:
            return
        self._approved[decision.request, decision.plan_digest] = approved(signed, plan) if plan else ()
        try:
            if plan is None or digest(plan) != decision.plan_digest:
                raise ForbiddenError(f"{decision.request} approves a plan that was not sealed before")
            self._verifier.check_approves(signed, plan, now=decision.decided_at)
        except StanchError as error:
            self._problems.append(f"{where}: {error}")

    def _check_surplus_nodes(self) -> None:
        query = select(evidence_node.c.leaf).where(evidence_node.c.leaf >= self._count).distinct()
        for leaf in self._connection.scalars(query.order_by(evidence_node.c.leaf).limit(PAGE)):
            self._problems.append(f"entry {leaf}: missing; the tree has a node for it")

    def _check_approvals(self) -> None:
        """Check that the decisions people are shown are those of the log."""
        query = select(approvals.c.number, approvals.c.signed, approvals.c.state).order_by(approvals.c.number)
        for row in self._connection.execute(query):
            request = f"APR-{row.number}"
            if row.signed != self._decisions.get(request):
                self._problems.append(f"{request}: it stands as {row.state}, and the log does not say so")

    def _check_journal(self) -> None:
        """Check that the outcomes that are acted on are those of the log."""
        query = select(actions.c.action, actions.c.result).order_by(actions.c.number)
        for row in self._connection.execute(query):
            if row.result != self._ended.get(row.action):
                self._problems.append(f"{row.action}: its outcome in the journal is not the log's")
