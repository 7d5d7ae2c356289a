"""The tables, in one place. Changing them means a new module in ``migrations/versions``."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
    true,
)
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    LargeBinary,
    Text,
    TypeDecorator,
    TypeEngine,
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


def _table(name: str, *parts: SchemaItem, **options: Any) -> Table:
    return Table(name, metadata, *parts, **options)


def _only(name: str, *columns: Column[Any], where: ColumnElement[bool]) -> Index:
    """Make an index of some of the rows."""
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


def _always(kind: type[TypeEngine[Any]] | TypeEngine[Any], *names: str) -> list[Column[Any]]:
    """Give columns of one kind that every row has."""
    return [Column(name, kind, nullable=False) for name in names]


def _perhaps(kind: type[TypeEngine[Any]] | TypeEngine[Any], *names: str) -> list[Column[Any]]:
    """Give columns of one kind that a row may lack."""
    return [Column(name, kind) for name in names]


delivery = _table(
    "delivery",
    Column("id", BigId, primary_key=True),
    Column("source", Words, nullable=False),
    Column("digest", Text, nullable=False),  # of the body, so that the same bytes are one delivery
    Column("body", LargeBinary, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("times", Integer, nullable=False),
    Column("trace", Json, nullable=False),
    UniqueConstraint("source", "digest"),
)

incident = _table(
    "incident",
    Column("number", BigId, primary_key=True),
    *_always(Words, "title", "service", "environment"),
    *_perhaps(Words, "region", "declared_by", "attention"),
    *_always(Text, "severity", "phase"),
    Column("opened_at", Moment, nullable=False),
    *_always(Json, "roles", "attempts", "trace"),
    Column("version", BigInteger, nullable=False),  # of the last record that was taken
    Column("revision", BigInteger, nullable=False),  # counts role and severity changes, for evidence keys
    Index("ix_incident_service_environment", "service", "environment"),
)

alert = _table(
    "alert",
    Column("id", BigId, primary_key=True),
    Column("episode", Text, nullable=False, unique=True),  # SHA-256 of Alert.episode: labels have any length
    Column("problem", Text, nullable=False),  # SHA-256 of source and fingerprint: all episodes of one have it
    *_always(Words, "service", "environment"),
    Column("status", Text, nullable=False),
    *_always(Json, "content", "trace"),
    Column("delivery", ForeignKey("delivery.id"), nullable=False),
    Column("incident", ForeignKey("incident.number")),
    Column("behind", BigInteger, nullable=False),  # goes only to an incident with a greater number
    Column("received_at", Moment, nullable=False),
    Column("times", Integer, nullable=False),
    Column("pending", Boolean, nullable=False),
    Index("ix_alert_incident_problem", "incident", "problem"),
)
alert_is_pending = alert.c.pending.is_(true())
_only("ix_alert_pending", alert.c.id, where=alert_is_pending)

plan = _table(
    "plan",
    Column("digest", Text, primary_key=True),
    Column("mitigation", Words, nullable=False),
    Column("content", Json, nullable=False),
)

approval = _table(
    "approval",
    Column("number", BigId, primary_key=True),
    Column("incident", Words, nullable=False, index=True),
    Column("mitigation", Words, nullable=False, unique=True),
    Column("plan_digest", ForeignKey("plan.digest"), nullable=False),
    *_always(Words, "title", "closed_reason"),
    *_always(Text, "risk", "severity", "needs"),
    Column("state", Text, nullable=False, index=True),
    Column("given", Json, nullable=False),  # approvals so far, while more are needed
    Column("broke_glass", Boolean, nullable=False),
    *_always(Moment, "asked_at", "expires_at"),
    Column("signed", Json),
    Column("closed_at", Moment),
)

standing_grant = _table(
    "standing_grant",
    Column("number", BigId, primary_key=True),
    *_always(Words, "service", "environment"),
    Column("content", Json, nullable=False),
    *_always(Text, "key_id", "signature"),
    Column("expires_at", Moment, nullable=False),
    Column("used", Integer, nullable=False),
    Column("revoked_at", Moment),
    Column("revoked_by", Words),
    Index("ix_standing_grant_service_environment", "service", "environment"),
)

review = _table(
    "review",
    Column("approval", ForeignKey("approval.number"), primary_key=True, autoincrement=False),
    Column("person", Words, primary_key=True),
    Column("was_right", Boolean, nullable=False),
    Column("remark", Words, nullable=False),
    Column("at", Moment, nullable=False),
)

journal = _table(
    "journal",
    Column("number", BigId, primary_key=True),
    Column("action", Words, nullable=False, unique=True),
    Column("incident", Words, nullable=False, index=True),
    *_always(Words, "mitigation", "approval"),
    Column("step", Integer, nullable=False),
    *_always(Text, "direction", "plan_digest", "state"),
    Column("fence", BigInteger, nullable=False),
    Column("intent_at", Moment),
    Column("before", Json, nullable=False),
    Column("result", Json),
    # What the guardrails go by, from the intent on.
    *_perhaps(Words, "service", "playbook"),
    Column("touches", Words),  # its target, unless certainly nothing was done to it
    Column("held", Boolean, nullable=False),  # the target is locked by this mitigation
    Column("ended", Text),  # how the mitigation ended
    Index("ix_journal_touches", "touches"),
    Index("ix_journal_service_intent_at", "service", "intent_at"),
    Index("ix_journal_playbook_intent_at", "playbook", "intent_at"),
)

freeze = _table(
    "freeze",
    Column("number", BigId, primary_key=True),
    *_perhaps(Words, "service", "lifted_by"),
    *_always(Words, "reason", "person"),
    Column("at", Moment, nullable=False),
    Column("lifted_at", Moment),
)

in_force = _table(
    "in_force",
    Column("mitigation", Words, primary_key=True),
    Column("incident", Words, nullable=False, index=True),
    *_always(Words, "service", "environment", "title", "owner"),
    Column("plan_digest", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("steps", Json, nullable=False),
    *_always(Moment, "since", "expires_at"),
    Column("renewed_at", Moment, nullable=False),  # its reminders are counted from here to its end
    *_perhaps(Moment, "closed_at", "undo_asked_at"),
    Column("revision", Integer, nullable=False),  # of its timer
    *_always(Integer, "reminded", "undos"),
    Column("undo", Words),  # the one that runs
)

watch = _table(
    "watch",
    Column("item", Words, primary_key=True),
    Column("next_at", Moment, index=True),  # when it is due, or until when somebody has it
    *_always(Json, "readings", "state"),
)

readiness = _table(
    "readiness",
    Column("number", BigId, primary_key=True),
    *_always(Words, "service", "environment"),
    Column("at", Moment, nullable=False),
    Column("state", Text, nullable=False),
    Column("checks", Json, nullable=False),
    Index("ix_readiness_service_environment", "service", "environment", "number"),
)

ladder = _table(
    "ladder",
    Column("subject", Words, primary_key=True),
    Column("incident", Words, nullable=False, index=True),
    Column("started_at", Moment, nullable=False),
    Column("rung", Integer, nullable=False),  # the next to be climbed
    Column("generation", Integer, nullable=False),  # of its one timer that counts
    Column("ended_at", Moment),
)

notice = _table(
    "notice",
    Column("subject", Words, primary_key=True),
    Column("person", Words, primary_key=True),
    Column("channel", Words, primary_key=True),
    Column("incident", Words, nullable=False, index=True),
    *_always(Words, "title", "text", "error"),
    Column("state", Text, nullable=False),
    Column("rung", Integer),
    Column("rest", Json, nullable=False),  # the person's channels that are tried when this one fails
    *_always(Integer, "times", "attempts"),
    Column("queued_at", Moment, nullable=False),
    *_perhaps(Moment, "sent_at", "seen_at"),
)

handoff = _table(
    "handoff",
    Column("number", BigId, primary_key=True),
    Column("incident", Words, nullable=False, index=True),
    *_always(Text, "role", "state"),
    *_always(Words, "giver", "person"),
    Column("packet", Json, nullable=False),
    *_always(Moment, "offered_at", "expires_at"),
    Column("closed_at", Moment),
)

outbox = _table(
    "outbox",
    Column("id", BigId, primary_key=True),
    Column("kind", Text, nullable=False),
    *_always(Words, "key", "incident", "error"),
    Column("lane", Words, nullable=False),  # messages of one lane are delivered in order
    *_always(Json, "payload", "trace"),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("available_at", Moment, nullable=False),  # not before: the end of a lease or of a pause
    Column("due_at", Moment, nullable=False),  # not before: what it is about has time until then
    Column("done_at", Moment),
    UniqueConstraint("kind", "incident", "key"),
)
outbox_is_waiting = outbox.c.done_at.is_(None)
_only("ix_outbox_waiting", outbox.c.due_at, where=outbox_is_waiting)
_only("ix_outbox_lane", outbox.c.lane, outbox.c.id, where=outbox_is_waiting)

evidence = _table(
    "evidence",
    Column("position", BigId, primary_key=True, autoincrement=False),
    Column("key", Words, nullable=False, unique=True),
    Column("incident", Words),
    Column("leaf", Text, nullable=False),  # canonical JSON; holds the digest of the body
    Column("body", Text, nullable=False),  # canonical JSON
    Index("ix_evidence_incident_position", "incident", "position"),
)

evidence_head = _table(
    "evidence_head",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
)

evidence_node = _table(
    "evidence_node",
    Column("leaf", BigInteger, primary_key=True, autoincrement=False),  # ledger.merkle names subtrees so
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

evidence_checkpoint = _table(
    "evidence_checkpoint",
    Column("size", BigId, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("made_at", Moment, nullable=False),
)

postmortem = _table(
    "postmortem",
    Column("incident", ForeignKey("incident.number"), primary_key=True, autoincrement=False),
    Column("markdown", Words, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("written_at", Moment, nullable=False),
)

session = _table(
    "session",
    Column("secret", Text, primary_key=True),  # SHA-256 of what the browser holds
    Column("flow", Text, nullable=False, unique=True),  # SHA-256 of the sign-in's state: each is used once
    Column("person", Words, nullable=False),
    Column("authenticated_by", Text, nullable=False),
    Column("groups", Json, nullable=False),
    *_perhaps(Moment, "signed_in_at", "revoked_at"),
    Column("created_at", Moment, nullable=False),
    Column("used_at", Moment, nullable=False),  # for an order; looking writes nothing
    Column("expires_at", Moment, nullable=False, index=True),
)

api_token = _table(
    "api_token",
    Column("number", BigId, primary_key=True),
    Column("secret", Text, nullable=False, unique=True),  # SHA-256 of the token
    *_always(Words, "name", "created_by"),
    *_perhaps(Words, "person", "revoked_by"),
    Column("scopes", Json, nullable=False),
    *_always(Moment, "created_at", "expires_at"),
    *_perhaps(Moment, "used_at", "revoked_at"),
)
