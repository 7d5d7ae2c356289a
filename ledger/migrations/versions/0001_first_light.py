"""The first schema: inbox, incidents, approvals, journal, outbox, evidence, postmortems."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BigId = sa.BigInteger().with_variant(
    sa.Integer(), "sqlite"
)  # SQLite numbers rows only for INTEGER PRIMARY KEY
APPEND_ONLY = ("evidence", "evidence_node", "evidence_checkpoint")
REFUSAL = "the evidence log is append-only"


def upgrade() -> None:
    """Make everything."""
    op.create_table(
        "delivery",
        sa.Column("id", BigId, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("trace", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.UniqueConstraint("source", "digest", name="uq_delivery_source_digest"),
    )
    op.create_table(
        "evidence",
        sa.Column("position", BigId, autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("incident", sa.Text()),
        sa.Column("leaf", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_evidence"),
        sa.UniqueConstraint("key", name="uq_evidence_key"),
    )
    op.create_index("ix_evidence_incident_position", "evidence", ["incident", "position"])
    op.create_table(
        "evidence_checkpoint",
        sa.Column("size", BigId, autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("size", name="pk_evidence_checkpoint"),
    )
    op.create_table(
        "evidence_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evidence_head"),
    )
    op.create_table(
        "evidence_node",
        sa.Column("leaf", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("leaf", "level", name="pk_evidence_node"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "incident",
        sa.Column("number", BigId, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("region", sa.Text()),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("declared_by", sa.Text()),
        sa.Column("attention", sa.Text()),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.JSON(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("trace", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_incident"),
    )
    op.create_index("ix_incident_service_environment", "incident", ["service", "environment"])
    op.create_table(
        "journal",
        sa.Column("number", BigId, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("incident", sa.Text(), nullable=False),
        sa.Column("mitigation", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("plan_digest", sa.Text(), nullable=False),
        sa.Column("approval", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("intent_at", sa.DateTime(timezone=True)),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON()),
        sa.Column("service", sa.Text()),
        sa.Column("playbook", sa.Text()),
        sa.Column("touches", sa.Text()),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("ended", sa.Text()),
        sa.PrimaryKeyConstraint("number", name="pk_journal"),
        sa.UniqueConstraint("action", name="uq_journal_action"),
    )
    op.create_index("ix_journal_incident", "journal", ["incident"])
    op.create_index("ix_journal_touches", "journal", ["touches"])
    op.create_index("ix_journal_service_intent_at", "journal", ["service", "intent_at"])
    op.create_index("ix_journal_playbook_intent_at", "journal", ["playbook", "intent_at"])
    op.create_table(
        "freeze",
        sa.Column("number", BigId, nullable=False),
        sa.Column("service", sa.Text()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lifted_by", sa.Text()),
        sa.Column("lifted_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("number", name="pk_freeze"),
    )
    op.create_table(
        "in_force",
        sa.Column("mitigation", sa.Text(), nullable=False),
        sa.Column("incident", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("plan_digest", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("reminded", sa.Integer(), nullable=False),
        sa.Column("undos", sa.Integer(), nullable=False),
        sa.Column("undo", sa.Text()),
        sa.Column("undo_asked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("mitigation", name="pk_in_force"),
    )
    op.create_index("ix_in_force_incident", "in_force", ["incident"])
    op.create_index("ix_in_force_state", "in_force", ["state"])
    op.create_table(
        "handoff",
        sa.Column("number", BigId, nullable=False),
        sa.Column("incident", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("giver", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("packet", sa.JSON(), nullable=False),
        sa.Column("offered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("number", name="pk_handoff"),
    )
    op.create_index("ix_handoff_incident", "handoff", ["incident"])
    op.create_table(
        "watch",
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True)),
        sa.Column("readings", sa.JSON(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("item", name="pk_watch"),
    )
    op.create_index("ix_watch_next_at", "watch", ["next_at"])
    op.create_table(
        "readiness",
        sa.Column("number", BigId, nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("checks", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_readiness"),
    )
    op.create_index("ix_readiness_service_environment", "readiness", ["service", "environment", "number"])
    op.create_table(
        "ladder",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("incident", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("subject", name="pk_ladder"),
    )
    op.create_index("ix_ladder_incident", "ladder", ["incident"])
    op.create_table(
        "notice",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("incident", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("rung", sa.Integer()),
        sa.Column("rest", sa.JSON(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True)),
        sa.Column("seen_at", sa.DateTime(timezone=True)),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "person", "channel", name="pk_notice"),
    )
    op.create_index("ix_notice_incident", "notice", ["incident"])
    op.create_table(
        "outbox",
        sa.Column("id", BigId, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("incident", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("trace", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("available_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True)),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("kind", "incident", "key", name="uq_outbox_kind_incident_key"),
    )
    op.create_index(
        "ix_outbox_lane",
        "outbox",
        ["lane", "id"],
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    )
    op.create_index(
        "ix_outbox_waiting",
        "outbox",
        ["due_at"],
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    )
    op.create_table(
        "plan",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("mitigation", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_plan"),
    )
    op.create_table(
        "alert",
        sa.Column("id", BigId, nullable=False),
        sa.Column("episode", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("delivery", BigId, nullable=False),
        sa.Column("incident", BigId),
        sa.Column("behind", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("pending", sa.Boolean(), nullable=False),
        sa.Column("trace", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["delivery"], ["delivery.id"], name="fk_alert_delivery"),
        sa.ForeignKeyConstraint(["incident"], ["incident.number"], name="fk_alert_incident"),
        sa.PrimaryKeyConstraint("id", name="pk_alert"),
        sa.UniqueConstraint("episode", name="uq_alert_episode"),
    )
    op.create_index("ix_alert_incident_problem", "alert", ["incident", "problem"])
    op.create_index(
        "ix_alert_pending",
        "alert",
        ["id"],
        sqlite_where=sa.text("pending IS 1"),
        postgresql_where=sa.text("pending IS true"),
    )
    op.create_table(
        "approval",
        sa.Column("number", BigId, nullable=False),
        sa.Column("incident", sa.Text(), nullable=False),
        sa.Column("mitigation", sa.Text(), nullable=False),
        sa.Column("plan_digest", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("risk", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("needs", sa.Text(), nullable=False),
        sa.Column("given", sa.JSON(), nullable=False),
        sa.Column("broke_glass", sa.Boolean(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("signed", sa.JSON()),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.Column("closed_reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["plan_digest"], ["plan.digest"], name="fk_approval_plan_digest"),
        sa.PrimaryKeyConstraint("number", name="pk_approval"),
        sa.UniqueConstraint("mitigation", name="uq_approval_mitigation"),
    )
    op.create_index("ix_approval_incident", "approval", ["incident"])
    op.create_index("ix_approval_state", "approval", ["state"])
    op.create_table(
        "review",
        sa.Column("approval", BigId, autoincrement=False, nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("was_right", sa.Boolean(), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["approval"], ["approval.number"], name="fk_review_approval"),
        sa.PrimaryKeyConstraint("approval", "person", name="pk_review"),
    )
    op.create_table(
        "standing_grant",
        sa.Column("number", BigId, nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_by", sa.Text()),
        sa.PrimaryKeyConstraint("number", name="pk_standing_grant"),
    )
    op.create_index("ix_standing_grant_service_environment", "standing_grant", ["service", "environment"])
    op.create_table(
        "postmortem",
        sa.Column("incident", BigId, autoincrement=False, nullable=False),
        sa.Column("markdown", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["incident"], ["incident.number"], name="fk_postmortem_incident"),
        sa.PrimaryKeyConstraint("incident", name="pk_postmortem"),
    )
    op.create_table(
        "session",
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("authenticated_by", sa.Text(), nullable=False),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("signed_in_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("secret", name="pk_session"),
        sa.UniqueConstraint("flow", name="uq_session_flow"),
    )
    op.create_index("ix_session_expires_at", "session", ["expires_at"])
    op.create_table(
        "api_token",
        sa.Column("number", BigId, nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("person", sa.Text()),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_by", sa.Text()),
        sa.PrimaryKeyConstraint("number", name="pk_api_token"),
        sa.UniqueConstraint("secret", name="uq_api_token_secret"),
    )
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
