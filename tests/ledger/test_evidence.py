"""The evidence log: in one order, without gaps, provable at every size."""

from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, text, update

from authority.decisions import Signer, Verifier
from authority.seals import canonical
from contracts.base import JsonObject
from contracts.errors import InputError, ProviderUnavailableError
from contracts.evidence import Evidence, EvidenceEntry, EvidenceKind
from ledger import Ledger, audit, merkle, notes, schema
from ledger.evidence import body_digest
from tests.ledger.crowd import at_once, in_processes
from tests.ledger.samples import NOON


def entry(
    key: str, *, incident: str | None = None, at: datetime = NOON, body: JsonObject | None = None
) -> Evidence:
    """Give something that happened."""
    return Evidence(
        key=key,
        kind=EvidenceKind.COMMAND,
        incident=incident,
        actor="ada",
        at=at,
        summary=f"happening {key}",
        body=body or {},
    )


def test_append(ledger: Ledger) -> None:
    """An entry comes back as it was given, with its place; its leaf commits to all of it."""
    given = entry("a", incident="INC-1", body={"n": 1, "ä": [None, 0.5]})
    ledger.evidence.append(given)

    (found,) = ledger.evidence.entries()
    leaf: JsonObject = {
        "index": 0,
        "key": "a",
        "kind": "command",
        "incident": "INC-1",
        "actor": "ada",
        "at": "2026-03-01T12:00:00+00:00",
        "summary": "happening a",
        "body_digest": body_digest(canonical(given.body).decode()),
    }
    leaf_hash = merkle.leaf_hash(canonical(leaf)).hex()
    assert found == EvidenceEntry(**given.model_dump(), index=0, leaf_hash=leaf_hash)
    assert (ledger.evidence.size(), ledger.evidence.root().hex()) == (1, leaf_hash)


def test_a_key_is_appended_once(ledger: Ledger) -> None:
    """A repeat is no new entry, in one call or in many, and the first content stays."""
    ledger.evidence.append(entry("a"), entry("b"), entry("a", body={"n": 2}))
    ledger.evidence.append(entry("b", body={"n": 2}), entry("c"))
    ledger.evidence.append()

    assert [(found.key, found.body) for found in ledger.evidence.entries()] == [
        ("a", {}),
        ("b", {}),
        ("c", {}),
    ]


def test_pages(ledger: Ledger) -> None:
    """A reader goes on behind the last index that it has seen, for one incident or for all."""
    ledger.evidence.append(*(entry(str(number), incident=f"INC-{number % 2}") for number in range(10)))

    def page(**chosen: object) -> list[int]:
        return [found.index for found in ledger.evidence.entries(**chosen)]  # type: ignore[arg-type]

    assert page() == list(range(10))
    assert page(after=3, limit=2) == [4, 5]
    assert page(incident="INC-1", after=3) == [5, 7, 9]
    assert page(incident="INC-2") == []
    assert page(limit=0) == page(limit=-1) == page(after=10**30) == []
    assert page(after=-(10**30), limit=10**30) == list(range(10))


def test_one_moment_in_any_zone(ledger: Ledger) -> None:
    """A time keeps its moment, and one without a zone is refused."""
    ledger.evidence.append(entry("a", at=NOON.astimezone(timezone(timedelta(hours=5)))))

    assert ledger.evidence.entries()[0].at == NOON
    with pytest.raises(InputError, match="has no time zone"):
        ledger.evidence.append(entry("b", at=datetime(2026, 1, 1)))  # noqa: DTZ001  (the case)


def append_some(ledger: Ledger, place: int) -> None:
    """Append entries of which half are another process's too."""
    for number in range(10):
        ledger.evidence.append(entry(f"{place}/{number}"), entry(f"shared/{number}"))


def test_appends_at_once(ledger: Ledger, verifier: Verifier) -> None:
    """Threads that append at the same moment leave one log without gaps."""
    at_once([lambda place=place: append_some(ledger, place) for place in range(6)])  # type: ignore[misc]

    assert [found.index for found in ledger.evidence.entries()] == list(range(70))
    assert audit.verify(ledger, verifier).problems == ()


def test_appends_of_processes(ledger: Ledger, database_url: str, verifier: Verifier) -> None:
    """Processes that append at the same moment leave one log without gaps."""
    in_processes(2, database_url, append_some)

    assert [found.index for found in ledger.evidence.entries()] == list(range(30))
    assert audit.verify(ledger, verifier).problems == ()


def test_checkpoint(ledger: Ledger, key: Ed25519PrivateKey, signer: Signer) -> None:
    """A checkpoint is made when the log has grown, and says its size and root under our signature."""
    assert ledger.evidence.checkpoint(signer) is None
    ledger.evidence.append(entry("a"), entry("b"))
    note = ledger.evidence.checkpoint(signer)

    assert note is not None
    opened = notes.Checkpoint.parse(notes.open_note(note, name="stanch", keys=[key.public_key()]))
    assert opened == notes.Checkpoint("stanch", 2, ledger.evidence.root())
    assert ledger.evidence.checkpoint(signer) is None
    ledger.evidence.append(entry("c"))
    made = at_once([lambda: ledger.evidence.checkpoint(signer)] * 4)
    assert sorted(found is None for found in made) == [False, True, True, True]
    ledger.evidence.append(entry("d"))
    assert str(ledger.evidence.checkpoint(signer, "other.example/log")).startswith("other.example/log\n4\n")


def forget(ledger: Ledger, *statements: str) -> None:
    """Do what an administrator of the database can."""
    with ledger.database.write() as connection:
        for table in ("evidence", "evidence_node", "evidence_checkpoint"):
            if ledger.database.name.startswith("sqlite"):
                connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_refuses_update"))
                connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_refuses_delete"))
            else:
                connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_refuses_change ON {table}"))
        for statement in statements:
            connection.execute(text(statement))


def test_a_log_that_lost_its_tail_is_not_signed(ledger: Ledger, signer: Signer) -> None:
    """A restored backup that lacks what was signed is found out, and not signed over."""
    ledger.evidence.append(*(entry(str(number)) for number in range(5)))
    ledger.evidence.checkpoint(signer)
    forget(
        ledger,
        "DELETE FROM evidence WHERE position > 2",
        "DELETE FROM evidence_node WHERE leaf > 2",
        "UPDATE evidence_head SET size = 3",
    )

    with pytest.raises(
        ProviderUnavailableError, match="its 3 entries do not continue the 5 that were signed"
    ):
        ledger.evidence.checkpoint(signer)
    ledger.evidence.append(*(entry(f"new {number}") for number in range(5)))
    with pytest.raises(
        ProviderUnavailableError, match="its 8 entries do not continue the 5 that were signed"
    ):
        ledger.evidence.checkpoint(signer)


def test_a_damaged_tree_takes_nothing_more(ledger: Ledger) -> None:
    """Where the tree lacks what an append or a proof needs, that says so instead of going on."""
    ledger.evidence.append(*(entry(str(number)) for number in range(3)))
    forget(ledger, "DELETE FROM evidence_node WHERE level = 1")

    with pytest.raises(ProviderUnavailableError, match="node at entry 1, level 1 is missing"):
        ledger.evidence.append(entry("x"))
    with pytest.raises(ProviderUnavailableError, match="node at entry 1, level 1 is missing"):
        ledger.evidence.root()
    assert ledger.evidence.size() == 3


def test_text_that_nothing_can_hold(ledger: Ledger, verifier: Verifier) -> None:
    """Odd characters are replaced, the entry is kept, and its repeat is still a repeat."""
    odd = entry("k\x00", incident="INC\x00", body={"a\x00": "\ud800", "n": 2**80})
    ledger.evidence.append(odd)
    ledger.evidence.append(odd)

    (found,) = ledger.evidence.entries(incident="INC\x00")
    assert (found.key, found.incident) == ("k\ufffd", "INC\ufffd")
    assert audit.verify(ledger, verifier).ok


def test_many_entries_in_one_append(ledger: Ledger, verifier: Verifier) -> None:
    """More entries than one query names at once go in together."""
    ledger.evidence.append(*(entry(str(number)) for number in range(1500)))

    report = audit.verify(ledger, verifier)
    assert (report.entries, report.ok) == (1500, True)
    assert len(ledger.evidence.entries()) == 1000


def test_the_head_is_the_only_size(ledger: Ledger) -> None:
    """An entry that was put into the table by hand is not part of the log, and the next append says so."""
    ledger.evidence.append(entry("a"))
    with ledger.database.write() as connection:
        row = {"position": 1, "key": "b", "incident": None, "leaf": "{}", "body": "{}"}
        connection.execute(insert(schema.evidence).values(row))

    assert ledger.evidence.size() == 1
    with ledger.database.write() as connection:
        connection.execute(update(schema.evidence_head).values(size=2))
    with pytest.raises(ProviderUnavailableError, match="missing"):
        ledger.evidence.root()
