"""The tables, in one place. Changing them means a new module in ``migrations/versions``."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    true,
)

from contracts.errors import InputError
from ledger.storable import clean

BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only for INTEGER PRIMARY KEY
Json = JSON(none_as_null=True)


class Moment(TypeDecorator[datetime]):
    """A point in time: aware and UTC in and out, on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the database UTC; SQLite keeps no zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise InputError(f"the time {value.isoformat()} has no time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back UTC; PostgreSQL answers in the session's zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Text that both databases accept: what they cannot hold is replaced, in queries too."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  (its signature)
        """Replace what cannot be stored."""
        return None if value is None else clean(value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("source", Words, nullable=False),
    Column("digest", Text, nullable=False),  # of the body, so that the same bytes are one delivery
    Column("body", LargeBinary, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("times", Integer, nullable=False),
    Column("trace", Json, nullable=False),
    UniqueConstraint("source", "digest"),
)

incident = Table(
    "incident",
    metadata,
    Column("number", BigId, primary_key=True),
    Column("title", Words, nullable=False),
    Column("service", Words, nullable=False),
    Column("environment", Words, nullable=False),
    Column("region", Words),
    Column("severity", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("declared_by", Words),
    Column("attention", Words),
    Column("roles", Json, nullable=False),
    Column("attempts", Json, nullable=False),
    Column("version", BigInteger, nullable=False),  # of the last record that was taken
    Column("revision", BigInteger, nullable=False),  # counts role and severity changes, for evidence keys
    Column("trace", Json, nullable=False),
    Index("ix_incident_service_environment", "service", "environment"),
)

alert = Table(
    "alert",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("episode", Text, nullable=False, unique=True),  # SHA-256 of Alert.episode: labels have any length
    Column("problem", Text, nullable=False),  # SHA-256 of source and fingerprint: all episodes of one have it
    Column("service", Words, nullable=False),
    Column("environment", Words, nullable=False),
    Column("status", Text, nullable=False),
    Column("content", Json, nullable=False),
    Column("delivery", ForeignKey("delivery.id"), nullable=False),
    Column("incident", ForeignKey("incident.number")),
    Column("behind", BigInteger, nullable=False),  # goes only to an incident with a greater number
    Column("received_at", Moment, nullable=False),
    Column("times", Integer, nullable=False),
    Column("pending", Boolean, nullable=False),
    Column("trace", Json, nullable=False),
    Index("ix_alert_incident_problem", "incident", "problem"),
)
alert_is_pending = alert.c.pending.is_(true())
Index("ix_alert_pending", alert.c.id, sqlite_where=alert_is_pending, postgresql_where=alert_is_pending)

plan = Table(
    "plan",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("mitigation", Words, nullable=False),
    Column("content", Json, nullable=False),
)

approval = Table(
    "approval",
    metadata,
    Column("number", BigId, primary_key=True),
    Column("incident", Words, nullable=False, index=True),
    Column("mitigation", Words, nullable=False, unique=True),
    Column("plan_digest", ForeignKey("plan.digest"), nullable=False),
    Column("title", Words, nullable=False),
    Column("risk", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("needs", Text, nullable=False),
    Column("given", Json, nullable=False),  # approvals so far, while more are needed
    Column("broke_glass", Boolean, nullable=False),
    Column("asked_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("signed", Json),
    Column("closed_at", Moment),
    Column("closed_reason", Words, nullable=False),
)

standing_grant = Table(
    "standing_grant",
    metadata,
    Column("number", BigId, primary_key=True),
    Column("service", Words, nullable=False),
    Column("environment", Words, nullable=False),
    Column("content", Json, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("used", Integer, nullable=False),
    Column("revoked_at", Moment),
    Column("revoked_by", Words),
    Index("ix_standing_grant_service_environment", "service", "environment"),
)

review = Table(
    "review",
    metadata,
    Column("approval", ForeignKey("approval.number"), primary_key=True, autoincrement=False),
    Column("person", Words, primary_key=True),
    Column("was_right", Boolean, nullable=False),
    Column("remark", Words, nullable=False),
    Column("at", Moment, nullable=False),
)

journal = Table(
    "journal",
    metadata,
    Column("number", BigId, primary_key=True),
    Column("action", Words, nullable=False, unique=True),
    Column("incident", Words, nullable=False, index=True),
    Column("mitigation", Words, nullable=False),
    Column("step", Integer, nullable=False),
    Column("direction", Text, nullable=False),
    Column("plan_digest", Text, nullable=False),
    Column("approval", Words, nullable=False),
    Column("state", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("intent_at", Moment),
    Column("before", Json, nullable=False),
    Column("result", Json),
    # What the guardrails go by, from the intent on.
    Column("service", Words),
    Column("playbook", Words),
    Column("touches", Words),  # its target, unless certainly nothing was done to it
    Column("held", Boolean, nullable=False),  # the target is locked by this mitigation
    Column("ended", Text),  # how the mitigation ended
    Index("ix_journal_touches", "touches"),
    Index("ix_journal_service_intent_at", "service", "intent_at"),
    Index("ix_journal_playbook_intent_at", "playbook", "intent_at"),
)

freeze = Table(
    "freeze",
    metadata,
    Column("number", BigId, primary_key=True),
    Column("service", Words),
    Column("reason", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("at", Moment, nullable=False),
    Column("lifted_by", Words),
    Column("lifted_at", Moment),
)

in_force = Table(
    "in_force",
    metadata,
    Column("mitigation", Words, primary_key=True),
    Column("incident", Words, nullable=False, index=True),
    Column("service", Words, nullable=False),
    Column("environment", Words, nullable=False),
    Column("title", Words, nullable=False),
    Column("plan_digest", Text, nullable=False),
    Column("owner", Words, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("steps", Json, nullable=False),
    Column("since", Moment, nullable=False),
    Column("renewed_at", Moment, nullable=False),  # its reminders are counted from here to its end
    Column("expires_at", Moment, nullable=False),
    Column("closed_at", Moment),
    Column("revision", Integer, nullable=False),  # of its timer
    Column("reminded", Integer, nullable=False),
    Column("undos", Integer, nullable=False),
    Column("undo", Words),  # the one that runs
    Column("undo_asked_at", Moment),
)

watch = Table(
    "watch",
    metadata,
    Column("item", Words, primary_key=True),
    Column("next_at", Moment, index=True),  # when it is due, or until when somebody has it
    Column("readings", Json, nullable=False),
    Column("state", Json, nullable=False),
)

readiness = Table(
    "readiness",
    metadata,
    Column("number", BigId, primary_key=True),
    Column("service", Words, nullable=False),
    Column("environment", Words, nullable=False),
    Column("at", Moment, nullable=False),
    Column("state", Text, nullable=False),
    Column("checks", Json, nullable=False),
    Index("ix_readiness_service_environment", "service", "environment", "number"),
)

ladder = Table(
    "ladder",
    metadata,
    Column("subject", Words, primary_key=True),
    Column("incident", Words, nullable=False, index=True),
    Column("started_at", Moment, nullable=False),
    Column("rung", Integer, nullable=False),  # the next to be climbed
    Column("generation", Integer, nullable=False),  # of its one timer that counts
    Column("ended_at", Moment),
)

notice = Table(
    "notice",
    metadata,
    Column("subject", Words, primary_key=True),
    Column("person", Words, primary_key=True),
    Column("channel", Words, primary_key=True),
    Column("incident", Words, nullable=False, index=True),
    Column("title", Words, nullable=False),
    Column("text", Words, nullable=False),
    Column("state", Text, nullable=False),
    Column("rung", Integer),
    Column("rest", Json, nullable=False),  # the person's channels that are tried when this one fails
    Column("times", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("queued_at", Moment, nullable=False),
    Column("sent_at", Moment),
    Column("seen_at", Moment),
    Column("error", Words, nullable=False),
)

handoff = Table(
    "handoff",
    metadata,
    Column("number", BigId, primary_key=True),
    Column("incident", Words, nullable=False, index=True),
    Column("role", Text, nullable=False),
    Column("giver", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("state", Text, nullable=False),
    Column("packet", Json, nullable=False),
    Column("offered_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("closed_at", Moment),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Words, nullable=False),
    Column("incident", Words, nullable=False),
    Column("lane", Words, nullable=False),  # messages of one lane are delivered in order
    Column("payload", Json, nullable=False),
    Column("trace", Json, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("available_at", Moment, nullable=False),  # not before: the end of a lease or of a pause
    Column("due_at", Moment, nullable=False),  # not before: what it is about has time until then
    Column("done_at", Moment),
    Column("error", Words, nullable=False),
    UniqueConstraint("kind", "incident", "key"),
)
outbox_is_waiting = outbox.c.done_at.is_(None)
Index(
    "ix_outbox_waiting", outbox.c.due_at, sqlite_where=outbox_is_waiting, postgresql_where=outbox_is_waiting
)
Index(
    "ix_outbox_lane",
    outbox.c.lane,
    outbox.c.id,
    sqlite_where=outbox_is_waiting,
    postgresql_where=outbox_is_waiting,
)

evidence = Table(
    "evidence",
    metadata,
    Column("position", BigId, primary_key=True, autoincrement=False),
    Column("key", Words, nullable=False, unique=True),
    Column("incident", Words),
    Column("leaf", Text, nullable=False),  # canonical JSON; holds the digest of the body
    Column("body", Text, nullable=False),  # canonical JSON
    Index("ix_evidence_incident_position", "incident", "position"),
)

evidence_head = Table(
    "evidence_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
)

evidence_node = Table(
    "evidence_node",
    metadata,
    Column("leaf", BigInteger, primary_key=True, autoincrement=False),  # ledger.merkle names subtrees so
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

evidence_checkpoint = Table(
    "evidence_checkpoint",
    metadata,
    Column("size", BigId, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("made_at", Moment, nullable=False),
)

postmortem = Table(
    "postmortem",
    metadata,
    Column("incident", ForeignKey("incident.number"), primary_key=True, autoincrement=False),
    Column("markdown", Words, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("written_at", Moment, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("secret", Text, primary_key=True),  # SHA-256 of what the browser holds
    Column("flow", Text, nullable=False, unique=True),  # SHA-256 of the sign-in's state: each is used once
    Column("person", Words, nullable=False),
    Column("authenticated_by", Text, nullable=False),
    Column("groups", Json, nullable=False),
    Column("signed_in_at", Moment),
    Column("created_at", Moment, nullable=False),
    Column("used_at", Moment, nullable=False),  # for an order; looking writes nothing
    Column("expires_at", Moment, nullable=False, index=True),
    Column("revoked_at", Moment),
)

api_token = Table(
    "api_token",
    metadata,
    Column("number", BigId, primary_key=True),
    Column("secret", Text, nullable=False, unique=True),  # SHA-256 of the token
    Column("name", Words, nullable=False),
    Column("person", Words),
    Column("scopes", Json, nullable=False),
    Column("created_by", Words, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("used_at", Moment),
    Column("revoked_at", Moment),
    Column("revoked_by", Words),
)
