"""The schema: what the migrations make is what schema.py says, whoever migrates and from wherever."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from authority.decisions import Signer
from contracts.errors import ProviderUnavailableError
from contracts.evidence import Evidence, EvidenceKind
from ledger import Ledger
from ledger.schema import metadata
from tests.ledger.crowd import in_processes
from tests.ledger.samples import NOON, Clock


def migrate(ledger: Ledger, _place: int) -> None:
    """Migrate and use it."""
    ledger.migrate()
    ledger.check()


def test_migrated_is_modelled(ledger: Ledger) -> None:
    """Nothing is in the model that the migrations do not make, and nothing else is made."""
    with ledger.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})

        assert compare_metadata(context, metadata) == []


def test_from_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty database, its folder missing too, says what it lacks and is migrated from anywhere."""
    monkeypatch.chdir(tmp_path)
    ledger = Ledger.open(empty_url, clock=Clock())

    with pytest.raises(ProviderUnavailableError, match="at nothing and this program needs 0001"):
        ledger.check()
    with pytest.raises(ProviderUnavailableError):
        ledger.inbox.accept("alertmanager", b"", [], trace={})
    ledger.migrate()
    ledger.migrate()
    ledger.check()
    assert ledger.evidence.size() == 0
    ledger.close()


def test_several_processes_at_once(empty_url: str) -> None:
    """A gateway and workers that start together all find a whole schema."""
    in_processes(2, empty_url, migrate)


def test_newer_schema(ledger: Ledger) -> None:
    """A database that a newer version has migrated is left alone."""
    with ledger.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(ProviderUnavailableError, match="at 9999 and this program needs 0001"):
        ledger.check()
    with pytest.raises(ProviderUnavailableError, match="cannot be migrated by this version"):
        ledger.migrate()


CHANGES = [
    f"{change} {table}"
    for table in ("evidence", "evidence_node", "evidence_checkpoint")
    for change in ("UPDATE", "DELETE FROM", "TRUNCATE")
]


@pytest.mark.parametrize("change", [*CHANGES, "INSERT OR REPLACE INTO evidence SELECT * FROM evidence"])
def test_the_log_refuses_changes(ledger: Ledger, signer: Signer, change: str) -> None:
    """The database itself refuses to change or to forget evidence."""
    is_sqlite = ledger.database.name.startswith("sqlite")
    if change.startswith("TRUNCATE" if is_sqlite else "INSERT OR REPLACE"):
        pytest.skip("the other database's statement")
    entry = Evidence(key="k", kind=EvidenceKind.COMMAND, incident=None, actor="ada", at=NOON, summary="s")
    ledger.evidence.append(entry)
    ledger.evidence.checkpoint(signer)
    column = {"evidence": "body", "evidence_node": "hash", "evidence_checkpoint": "note"}
    if change.startswith("UPDATE"):
        name = column[change.removeprefix("UPDATE ")]
        change += f" SET {name} = {name}"

    with (
        pytest.raises(ProviderUnavailableError, match="append-only"),
        ledger.database.write() as connection,
    ):
        connection.execute(text(change))
