"""The audit: a whole log passes, and whatever is changed in the database is found, with its entry's index."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, delete, insert, select, text, update

from authority.decisions import Signer, Verifier
from authority.guardrails import Guard, Guardrails
from authority.seals import digest
from contracts.approvals import SignedDecision, Verdict
from contracts.evidence import Evidence, EvidenceKind
from contracts.incidents import Role
from contracts.outcomes import Outcome
from contracts.plans import Needs, Plan
from ledger import Answer, Ledger, audit, evidence, merkle, notes, schema
from ledger.storable import canonical_text
from tests.ledger.samples import NOON, POLICY, TRACE, begin, open_incident, plan, result

ACTION = "INC-1/1/1/apply"
AT_CHECKPOINT = "entry 10, checkpoint at size 11"  # where the story's checkpoint is made
DECISION, INTENT, OUTCOME, LAST = 6, 7, 8, 11  # the indices of the story's entries


def decide(
    ledger: Ledger, signer: Signer, verdict: Verdict, sealed: Plan, approval: str, *steps: int
) -> SignedDecision:
    """Decide as ada."""
    answer = Answer(verdict, digest(sealed), "ada", "local", steps=steps)
    return ledger.approvals.decide(approval, answer, policy=POLICY, signer=signer, trace=TRACE)


@pytest.fixture
def story(ledger: Ledger, signer: Signer) -> Ledger:
    """Give a ledger in which one plan was approved and run, another rejected, and a checkpoint made."""
    open_incident(ledger, commander="ada")
    request = ledger.approvals.ask(plan(), severity="SEV2")  # type: ignore[arg-type]
    decide(ledger, signer, Verdict.APPROVE, plan(), request.id)
    entry = begin(ledger, plan_digest=request.plan_digest, approval=request.id)
    guard = Guard(Guardrails(), plan())
    entry = ledger.journal.intend(entry, before={"replicas": 3}, actor="stanch", guard=guard)
    ledger.journal.settle(entry, result=result(after={"replicas": 12}), actor="stanch")
    ledger.approvals.ask(plan(number=2), severity="SEV2")  # type: ignore[arg-type]
    ledger.evidence.checkpoint(signer)
    decide(ledger, signer, Verdict.REJECT, plan(number=2), "APR-2")
    return ledger


def tamper(ledger: Ledger, change: Callable[[Connection], object]) -> None:
    """Change the database as its administrator can, who drops the triggers first."""
    is_sqlite = ledger.database.name.startswith("sqlite")
    with ledger.database.write() as connection:
        for table in ("evidence", "evidence_node", "evidence_checkpoint"):
            if is_sqlite:
                connection.execute(text(f"DROP TRIGGER {table}_refuses_update"))
                connection.execute(text(f"DROP TRIGGER {table}_refuses_delete"))
            else:
                connection.execute(text(f"DROP TRIGGER {table}_refuses_change ON {table}"))
        if is_sqlite:
            connection.execute(text("DROP TRIGGER evidence_refuses_replace"))
        change(connection)


def problems(ledger: Ledger, verifier: Verifier) -> list[str]:
    """Audit, and give what is wrong."""
    report = audit.verify(ledger, verifier)

    assert report.ok == (not report.problems)
    return list(report.problems)


def rebuild(connection: Connection) -> None:
    """Make the tree fit the changed entries, as a careful forger would."""
    rows = connection.execute(select(schema.evidence).order_by(schema.evidence.c.position)).all()
    nodes, _ = merkle.grow(0, [], [merkle.leaf_hash(row.leaf.encode()) for row in rows])
    connection.execute(delete(schema.evidence_node))
    if nodes:
        connection.execute(insert(schema.evidence_node), [node._asdict() for node in nodes])
    connection.execute(update(schema.evidence_head).values(size=len(rows)))


def rewrite(connection: Connection, position: int, **facts: Any) -> None:
    """Change an entry's leaf or body, digest included, and the tree after it."""
    where = schema.evidence.c.position == position
    row = connection.execute(select(schema.evidence).where(where)).one()
    body = facts.pop("body", None)
    text_of_body = row.body if body is None else canonical_text(body)
    leaf = json.loads(row.leaf) | {"body_digest": evidence.body_digest(text_of_body)} | facts
    values = {"leaf": canonical_text(leaf), "body": text_of_body}
    connection.execute(update(schema.evidence).where(where).values(values))
    rebuild(connection)


def test_an_empty_log(ledger: Ledger, verifier: Verifier) -> None:
    """A log with nothing in it is whole."""
    report = audit.verify(ledger, verifier)

    assert (report.ok, report.entries, report.size, report.root) == (True, 0, 0, merkle.EMPTY_ROOT.hex())


def test_a_whole_story(story: Ledger, verifier: Verifier) -> None:
    """What the ledger itself wrote passes, and the report counts it."""
    report = audit.verify(story, verifier)

    assert report.problems == ()
    assert (report.ok, report.entries, report.size) == (True, LAST + 1, LAST + 1)
    assert (report.checkpoints, report.decisions) == (1, 2)
    assert report.root == story.evidence.root().hex()
    kinds = [entry.kind for entry in story.evidence.entries()]
    assert (kinds[DECISION], kinds[INTENT], kinds[OUTCOME], kinds[LAST]) == (
        EvidenceKind.DECISION,
        EvidenceKind.INTENT,
        EvidenceKind.OUTCOME,
        EvidenceKind.DECISION,
    )


def test_more_than_a_page(ledger: Ledger, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is verified in pages of any size."""
    open_incident(ledger)
    ledger.evidence.append(*(note(f"n{number}") for number in range(20)))
    for size in (1, 2, 3, 7, 100):
        monkeypatch.setattr(audit, "PAGE", size)

        assert problems(ledger, verifier) == []


def note(key: str, kind: EvidenceKind = EvidenceKind.COMMAND, **body: Any) -> Evidence:
    """Give an entry."""
    return Evidence(key=key, kind=kind, incident="INC-1", actor="ada", at=NOON, summary="s", body=body)


def set_row(position: int, **values: object) -> Callable[[Connection], object]:
    """Give a change of one entry's row alone."""
    where = schema.evidence.c.position == position
    return lambda connection: connection.execute(update(schema.evidence).where(where).values(values))


def swap(connection: Connection) -> None:
    """Exchange two entries."""
    for before, after in ((4, -1), (5, 4), (-1, 5)):
        where = schema.evidence.c.position == before
        connection.execute(update(schema.evidence).where(where).values(position=after))


def drop_last(connection: Connection, *, count: int = 1) -> None:
    """Delete the last entries, the tree and the head included."""
    connection.execute(delete(schema.evidence).where(schema.evidence.c.position > LAST - count))
    rebuild(connection)


CRUDE: list[tuple[str, Callable[[Connection], object], str]] = [
    ("edited body", set_row(3, body='{"a":1}'), "entry 3: its body is not the one that was appended"),
    ("edited leaf", set_row(3, leaf='{"a":1}'), "entry 3: its content is not what was appended"),
    ("bottomless leaf", set_row(3, leaf="[" * 100_000), "entry 3: cannot be read"),
    (
        "edited incident",
        set_row(3, incident="INC-9"),
        "entry 3: it is stored under another index, key or incident",
    ),
    ("edited key", set_row(3, key="another"), "entry 3: it is stored under another index, key or incident"),
    ("swapped", swap, "entry 4: its content is not what was appended"),
    (
        "deleted last",
        lambda connection: connection.execute(
            delete(schema.evidence).where(schema.evidence.c.position == LAST)
        ),
        f"entry {LAST}: missing; the log says that it has {LAST + 1} entries",
    ),
    (
        "deleted in the middle",
        lambda connection: connection.execute(text("DELETE FROM evidence WHERE position = 5")),
        "entry 5: missing; entry 6 follows",
    ),
    (
        "edited node",
        lambda connection: connection.execute(
            update(schema.evidence_node).where(schema.evidence_node.c.level == 2).values(hash=b"x" * 32)
        ),
        "entry 3: its place in the tree is wrong (node of level 2)",
    ),
    (
        "deleted node",
        lambda connection: connection.execute(text("DELETE FROM evidence_node WHERE level = 3")),
        "entry 7: its place in the tree is wrong (node of level 3)",
    ),
    (
        "added node",
        lambda connection: connection.execute(
            insert(schema.evidence_node).values(leaf=4, level=5, hash=b"x" * 32)
        ),
        "entry 4: the tree has a node of level 5 too many",
    ),
    (
        "node behind the end",
        lambda connection: connection.execute(
            insert(schema.evidence_node).values(leaf=LAST + 1, level=0, hash=b"x" * 32)
        ),
        f"entry {LAST + 1}: missing; the tree has a node for it",
    ),
    (
        "forgotten head",
        lambda connection: connection.execute(update(schema.evidence_head).values(size=3)),
        f"entry {LAST + 1}: missing; the log says that it has 3 entries",
    ),
    ("all deleted", lambda connection: connection.execute(delete(schema.evidence)), "entry 0: missing"),
]


@pytest.mark.parametrize(("change", "found"), [case[1:] for case in CRUDE], ids=[case[0] for case in CRUDE])
def test_tampering(
    story: Ledger, verifier: Verifier, change: Callable[[Connection], object], found: str
) -> None:
    """A change of the tables is found at the entry that it changes."""
    tamper(story, change)

    assert any(problem.startswith(found) for problem in problems(story, verifier))


CAREFUL: list[tuple[str, Callable[[Connection], object], str]] = [
    ("another summary", lambda connection: rewrite(connection, 3, summary="nothing happened"), "checkpoint"),
    ("another body", lambda connection: rewrite(connection, 3, body={"a": 1}), "checkpoint"),
    (
        "lost tail",
        lambda connection: drop_last(connection, count=3),
        "missing; a checkpoint at size 11 was signed",
    ),
    (
        "lost everything",
        lambda connection: drop_last(connection, count=12),
        "missing; a checkpoint at size 11",
    ),
]


@pytest.mark.parametrize(
    ("change", "found"), [case[1:] for case in CAREFUL], ids=[case[0] for case in CAREFUL]
)
def test_tampering_with_a_new_tree(
    story: Ledger, verifier: Verifier, change: Callable[[Connection], object], found: str
) -> None:
    """A forger who computes the whole tree anew is given away by the signed checkpoint."""
    tamper(story, change)

    assert any(found in problem for problem in problems(story, verifier))


def test_a_lost_last_entry_after_the_checkpoint(story: Ledger, verifier: Verifier) -> None:
    """Even where no checkpoint covers it, a deleted decision is missed by the approval that shows it."""
    tamper(story, drop_last)

    assert problems(story, verifier) == ["APR-2: it stands as rejected, and the log does not say so"]


def forge_checkpoint(signer: Signer, **facts: Any) -> Callable[[Connection], object]:
    """Give a change of the stored checkpoint to one with other facts, signed by somebody."""

    def change(connection: Connection) -> None:
        row = connection.execute(select(schema.evidence_checkpoint)).one()
        made = notes.Checkpoint("stanch", facts.get("size", row.size), facts.get("root", row.root))
        forged = notes.sign(made.text, name="stanch", key=signer.public_key, sign_bytes=signer.sign_bytes)
        values = (
            {"note": forged, "size": made.size, "root": made.root} if facts.get("fits") else {"note": forged}
        )
        connection.execute(update(schema.evidence_checkpoint).values(values))

    return change


def test_forged_checkpoints(story: Ledger, signer: Signer, verifier: Verifier) -> None:
    """A checkpoint that we did not sign, or that is not the one that is stored, is found."""
    stranger = Signer(Ed25519PrivateKey.generate())
    tamper(story, forge_checkpoint(stranger))
    assert problems(story, verifier) == [f"{AT_CHECKPOINT}: the note is not signed by a known key of stanch"]
    for facts, found in (
        ({"root": b"x" * 32}, "what was signed is not what is stored"),
        ({"root": b"x" * 32, "fits": True}, "the log up to here is not the one that was signed"),
    ):
        with story.database.write() as connection:
            forge_checkpoint(signer, **facts)(connection)
        assert problems(story, verifier) == [f"{AT_CHECKPOINT}: {found}"]
    with story.database.write() as connection:
        connection.execute(update(schema.evidence_checkpoint).values(note="nonsense"))
    assert problems(story, verifier) == [
        f"{AT_CHECKPOINT}: not a signed note: a text, an empty line and signature lines are expected"
    ]


def forged(signed: SignedDecision, signer: Signer | None, **facts: object) -> SignedDecision:
    """Give a decision with other facts: under its old signature, or signed by somebody."""
    decision = signed.decision.model_copy(update=facts)
    return signed.model_copy(update={"decision": decision}) if signer is None else signer.sign(decision)


@pytest.mark.parametrize(
    ("stranger", "found"), [(False, "the signature is not valid"), (True, "signed by the unknown key")]
)
def test_a_forged_decision(story: Ledger, verifier: Verifier, *, stranger: bool, found: str) -> None:
    """A rejection that was made an approval is found in the log, and what ran on a forged one too."""
    signed = story.approvals.get("APR-1").request.signed
    assert signed is not None
    signer = Signer(Ed25519PrivateKey.generate()) if stranger else None
    body = {"signed": forged(signed, signer, person="eve").model_dump(mode="json")}
    tamper(story, lambda connection: rewrite(connection, DECISION, body=body))

    seen = problems(story, verifier)
    assert any(problem.startswith(f"entry {DECISION}: ") and found in problem for problem in seen)
    assert f"entry {INTENT}: {ACTION} was begun, and no approval of its plan comes before" in seen


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("approval SET signed = :nonsense WHERE number = 3", "APR-3: it stands as pending"),
        ("journal SET result = :nonsense", f"{ACTION}: its outcome in the journal is not the log's"),
    ],
)
def test_nonsense_in_a_table(story: Ledger, verifier: Verifier, where: str, found: str) -> None:
    """What nobody can read does not end the audit, and is no answer that is missing."""
    story.approvals.ask(plan(number=3), severity="SEV2")  # type: ignore[arg-type]
    nonsense = "nonsense" if story.database.name.startswith("sqlite") else '"nonsense"'
    with story.database.write() as connection:
        connection.execute(text(f"UPDATE {where}"), {"nonsense": nonsense})

    (problem,) = problems(story, verifier)
    assert problem.startswith(found)


def test_a_decision_shown_in_the_table_only(story: Ledger, verifier: Verifier) -> None:
    """What an approval shows is what the log says, or the audit names it."""
    signed = story.approvals.get("APR-2").request.signed
    assert signed is not None
    shown = forged(signed, None, verdict=Verdict.APPROVE).model_dump(mode="json")
    with story.database.write() as connection:
        where = schema.approval.c.number == 2
        connection.execute(update(schema.approval).where(where).values(signed=shown, state="approved"))

    assert problems(story, verifier) == ["APR-2: it stands as approved, and the log does not say so"]
    with story.database.write() as connection:
        connection.execute(update(schema.approval).where(where).values(signed={"a": 1}))
    assert problems(story, verifier) == ["APR-2: it stands as approved, and the log does not say so"]


def test_a_decision_in_another_name(story: Ledger, verifier: Verifier) -> None:
    """The person in the timeline is the person who signed."""
    tamper(story, lambda connection: rewrite(connection, DECISION, actor="eve"))

    assert f"entry {DECISION}: eve is named, and ada decided" in problems(story, verifier)


def test_a_second_decision(story: Ledger, signer: Signer, verifier: Verifier) -> None:
    """A request is decided once, whatever a holder of the key signs later."""
    signed = story.approvals.get("APR-2").request.signed
    assert signed is not None
    again = forged(signed, signer, verdict=Verdict.APPROVE).model_dump(mode="json")
    story.evidence.append(note("again", EvidenceKind.DECISION, signed=again))

    assert problems(story, verifier) == [f"entry {LAST + 1}: APR-2 was decided before"]


@pytest.mark.parametrize("approval", ["APR-2", "APR-9"])
def test_an_intent_without_approval(story: Ledger, verifier: Verifier, approval: str) -> None:
    """What was begun on a rejection, or on nothing, is found."""
    action = "INC-1/2/1/apply"
    body = {"action": action, "plan_digest": digest(plan(number=2)), "approval": approval}
    story.evidence.append(note("begun", EvidenceKind.INTENT, **body))

    assert problems(story, verifier) == [
        f"entry {LAST + 1}: {action} was begun, and no approval of its plan comes before"
    ]


def test_an_intent_of_a_step_that_was_left_out(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """What ran beyond a narrower yes is found."""
    open_incident(ledger, commander="ada")
    (first,) = plan().steps
    sealed = plan(steps=(first, first.model_copy(update={"number": 2})))
    request = ledger.approvals.ask(sealed, severity="SEV2")  # type: ignore[arg-type]
    decide(ledger, signer, Verdict.APPROVE, sealed, request.id, 2)
    entry = begin(ledger, plan_digest=request.plan_digest, approval=request.id)
    ledger.journal.intend(entry, before={}, actor="stanch", guard=Guard(Guardrails(), sealed))

    assert problems(ledger, verifier) == [
        f"entry {INTENT}: {ACTION} was begun, and no approval of its step comes before"
    ]


def test_an_approval_counts_only_for_its_plan_and_only_afterwards(
    ledger: Ledger, signer: Signer, verifier: Verifier
) -> None:
    """An intent before the decision is found, although the decision came in the end."""
    open_incident(ledger, commander="ada")
    request = ledger.approvals.ask(plan(), severity="SEV2")  # type: ignore[arg-type]
    entry = begin(ledger, plan_digest=request.plan_digest, approval=request.id)
    ledger.journal.intend(entry, before={}, actor="stanch", guard=Guard(Guardrails(), plan()))
    decide(ledger, signer, Verdict.APPROVE, plan(), request.id)
    other = {"action": "INC-1/1/2/apply", "plan_digest": "f" * 64, "approval": request.id}
    ledger.evidence.append(note("other", EvidenceKind.INTENT, **other))

    assert problems(ledger, verifier) == [
        f"entry 6: {ACTION} was begun, and no approval of its plan comes before",
        "entry 8: INC-1/1/2/apply was begun, and no approval of its plan comes before",
    ]


def test_one_signature_where_two_are_asked(ledger: Ledger, signer: Signer, verifier: Verifier) -> None:
    """An approval that our own key signed is found when it alone does not allow what was sealed."""
    incident = open_incident(ledger, commander="ada")
    ledger.incidents.assign(incident, Role.TECHNICAL_LEAD, "grace", by="ada")
    step = plan().steps[0].model_copy(update={"needs": Needs.TWO})
    sealed = plan(steps=(step,))
    ledger.approvals.ask(sealed, severity="SEV2")  # type: ignore[arg-type]
    first = decide(ledger, signer, Verdict.APPROVE, sealed, "APR-1")
    with ledger.database.write() as connection:
        alone = first.model_dump(mode="json")
        connection.execute(update(schema.approval).values(signed=alone, state="approved"))
    ledger.evidence.append(note("made up", EvidenceKind.DECISION, signed=alone))

    (problem,) = [one for one in problems(ledger, verifier) if "two people" in one]
    assert "decision on APR-1 does not allow INC-1/1" in problem


def test_an_outcome_without_an_intent(story: Ledger, verifier: Verifier) -> None:
    """What ended was begun, unless nothing had to be done."""
    for outcome, no_op in ((Outcome.DONE, False), (Outcome.DONE, True), (Outcome.NOT_DONE, False)):
        action = f"INC-1/2/{outcome.value}/{no_op}"
        content = result(outcome, no_op=no_op).model_dump(mode="json")
        story.evidence.append(note(action, EvidenceKind.OUTCOME, action=action, result=content))

    assert problems(story, verifier) == [
        f"entry {LAST + 1}: INC-1/2/done/False ended, and no intent comes before"
    ]


def test_an_outcome_changed_in_the_journal(story: Ledger, verifier: Verifier) -> None:
    """The outcome that a repeated run would be given is the one in the log."""
    other = result(Outcome.NOT_DONE).model_dump(mode="json")
    for changed in (other, None, {"a": 1}):
        with story.database.write() as connection:
            connection.execute(update(schema.journal).values(result=changed))

        assert problems(story, verifier) == [f"{ACTION}: its outcome in the journal is not the log's"]


@pytest.mark.parametrize("kind", [EvidenceKind.DECISION, EvidenceKind.INTENT, EvidenceKind.OUTCOME])
def test_entries_that_cannot_be_read(story: Ledger, verifier: Verifier, kind: EvidenceKind) -> None:
    """An entry without what its kind needs is a problem, not the end of the audit."""
    story.evidence.append(note("empty", kind), note("last"))

    (problem,) = problems(story, verifier)
    assert problem.startswith(f"entry {LAST + 1}: cannot be read")


def test_a_lost_key(story: Ledger) -> None:
    """Without the public key nothing that was signed is believed."""
    report = audit.verify(story, Verifier([]))

    assert (report.ok, report.checkpoints, report.decisions) == (False, 0, 0)
