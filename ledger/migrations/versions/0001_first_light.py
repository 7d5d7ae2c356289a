"""The first schema: every table as it is modelled, and the triggers that keep the log append-only."""

from alembic import op

from ledger.schema import metadata

revision = "0001"
down_revision = None

APPEND_ONLY = ("evidence", "evidence_node", "evidence_checkpoint")
REFUSAL = "the evidence log is append-only"


def upgrade() -> None:
    """Make everything that ``ledger.schema`` names; the first release freezes it here (docs/adr/0008)."""
    metadata.create_all(op.get_bind())
    op.execute("INSERT INTO evidence_head (id, size) VALUES (1, 0)")
    if op.get_bind().dialect.name == "sqlite":
        _refuse_changes_on_sqlite()
    else:
        _refuse_changes_on_postgresql()


def _refuse_changes_on_sqlite() -> None:
    for table in APPEND_ONLY:
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{change.lower()} BEFORE {change} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
            )
    # INSERT OR REPLACE deletes without a delete trigger.
    op.execute(
        "CREATE TRIGGER evidence_refuses_replace BEFORE INSERT ON evidence"
        " WHEN EXISTS (SELECT 1 FROM evidence WHERE position = NEW.position OR key = NEW.key)"
        " BEGIN SELECT RAISE(ABORT, 'the evidence log is append-only'); END"
    )


def _refuse_changes_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql"
        f" AS $$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_refuses_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
