"""The evidence log: append-only leaves, their bodies beside them, and the Merkle tree over them."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from authority.decisions import Signer
from contracts.base import JsonObject
from contracts.errors import InputError, ProviderUnavailableError
from contracts.evidence import ENGINE, Evidence, EvidenceEntry, EvidenceKind
from ledger import merkle, notes
from ledger.database import Stored, moment_of
from ledger.schema import evidence, evidence_checkpoint, evidence_head, evidence_node
from ledger.storable import canonical_text, clean, one_line

LARGEST_INDEX = 2**62  # what a database's integer holds, with room
MOST_AT_ONCE = 5000  # names in one query


def append(connection: Connection, *entries: Evidence) -> None:
    """Append within the caller's serial transaction: the state change and its evidence are one.

    An entry whose key is in the log already is skipped.

    Raises:
        InputError: An entry's time has no zone.
        ProviderUnavailableError: The tree is damaged: nothing can be appended until somebody has looked.
    """
    fresh: dict[str, Evidence] = {}
    for entry in entries:
        fresh.setdefault(clean(entry.key), entry)
    keys = list(fresh)
    for start in range(0, len(keys), MOST_AT_ONCE):
        query = select(evidence.c.key).where(evidence.c.key.in_(keys[start : start + MOST_AT_ONCE]))
        for known in connection.scalars(query):
            del fresh[known]
    if not fresh:
        return
    head = (
        update(evidence_head).values(size=evidence_head.c.size + len(fresh)).returning(evidence_head.c.size)
    )
    before = connection.scalars(head).one() - len(fresh)
    rows = [_row(index, key, entry) for index, (key, entry) in enumerate(fresh.items(), start=before)]
    leaves = [merkle.leaf_hash(row["leaf"].encode()) for row in rows]
    nodes, _ = merkle.grow(before, _edge(connection, before), leaves)
    connection.execute(insert(evidence), rows)
    connection.execute(insert(evidence_node), [node._asdict() for node in nodes])


def note(
    connection: Connection,
    kind: EvidenceKind,
    key: str,
    said: str,
    *,
    incident: str | None,
    actor: str = ENGINE,
    at: datetime | None = None,
    body: Mapping[str, Any] | None = None,
) -> None:
    """Append one entry within the caller's serial transaction; what is said becomes one line.

    Args:
        connection: The transaction, whose time it has when it is not another one.
        kind: Of what.
        key: Its own: what has this key already is no news.
        said: What people read.
        incident: Which one it is about.
        actor: Who did it.
        at: When, if it was before.
        body: What programs read.
    """
    entry = Evidence(
        key=key,
        kind=kind,
        incident=incident,
        actor=actor,
        at=at or moment_of(connection),
        summary=one_line(said),
        body=dict(body or {}),
    )
    append(connection, entry)


def has(connection: Connection, key: str) -> bool:
    """Say whether an entry with this key is in the log."""
    return connection.scalar(select(evidence.c.position).where(evidence.c.key == key)) is not None


def body_of(connection: Connection, key: str) -> JsonObject | None:
    """Give the body of the entry with this key, if it is in the log."""
    body = connection.scalar(select(evidence.c.body).where(evidence.c.key == key))
    return None if body is None else json.loads(body)


def size(connection: Connection) -> int:
    """Give the number of entries."""
    return int(connection.scalars(select(evidence_head.c.size)).one())


def body_digest(body: str) -> str:
    """Give what the leaf holds of a body."""
    return hashlib.sha256(body.encode()).hexdigest()


def entry_of(index: int, leaf: str, body: str) -> EvidenceEntry:
    """Read a stored entry."""
    facts = json.loads(leaf)
    return EvidenceEntry(
        **{name: facts[name] for name in ("key", "kind", "incident", "actor", "at", "summary")},
        body=json.loads(body),
        index=index,
        leaf_hash=merkle.leaf_hash(leaf.encode()).hex(),
    )


class EvidenceLog(Stored):
    """The log as its readers see it."""

    def append(self, *entries: Evidence) -> None:
        """Append in one transaction; an entry whose key is in the log already is skipped."""
        with self._database.write() as connection:
            append(connection, *entries)

    def note(
        self,
        kind: EvidenceKind,
        key: str,
        said: str,
        *,
        incident: str | None,
        actor: str = ENGINE,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one entry that stands alone, as ``note`` does within a transaction."""
        with self._database.write() as connection:
            note(connection, kind, key, said, incident=incident, actor=actor, body=body)

    def entries(
        self, *, incident: str | None = None, after: int = -1, limit: int = 1000
    ) -> list[EvidenceEntry]:
        """Give entries in the log's order.

        Args:
            incident: Only those of this incident.
            after: Only those behind this index.
            limit: At most so many.
        """
        query = select(evidence.c.position, evidence.c.leaf, evidence.c.body).order_by(evidence.c.position)
        query = query.where(evidence.c.position > _bounded(after)).limit(max(0, _bounded(limit)))
        if incident is not None:
            query = query.where(evidence.c.incident == incident)
        with self._database.read() as connection:
            return [entry_of(*row) for row in connection.execute(query)]

    def has(self, key: str) -> bool:
        """Say whether there is an entry with this key."""
        with self._database.read() as connection:
            return has(connection, key)

    def body_of(self, key: str) -> JsonObject | None:
        """Give the body of the entry with this key, if it is in the log."""
        with self._database.read() as connection:
            return body_of(connection, key)

    def size(self) -> int:
        """Give the number of entries."""
        with self._database.read() as connection:
            return size(connection)

    def root(self) -> bytes:
        """Give the root of the tree over all entries."""
        with self._database.read() as connection:
            return _root(connection, size(connection))

    def signs(self, signer: Signer) -> None:
        """Say in the log that a key signs from now on; one that the log has seen before is no news."""
        key, kind, body = f"signing-key/{signer.key_id}", EvidenceKind.SIGNING_KEY, {"key_id": signer.key_id}
        said = f"The gateway signs with the key {signer.key_id} from now on"
        with self._database.write() as connection:
            note(connection, kind, key, said, incident=None, body=body)

    def checkpoint(self, signer: Signer, origin: str = "stanch") -> str | None:
        """Sign and keep the tree's size and root as a C2SP checkpoint, if the log has grown since the last.

        Raises:
            ProviderUnavailableError: The log does not continue the one that was signed before, as after the
                restore of an old backup; nothing is signed.
        """
        with self._database.write() as connection:
            count = size(connection)
            latest = select(evidence_checkpoint).order_by(evidence_checkpoint.c.size.desc()).limit(1)
            last = connection.execute(latest).one_or_none()
            if last is not None:
                if count < last.size or _root(connection, last.size) != last.root:
                    raise ProviderUnavailableError(
                        f"evidence log: its {count} entries do not continue the {last.size} that were signed"
                        f" at {last.made_at.isoformat()}; run `stanch audit verify` before anything else"
                    )
                if count == last.size:
                    return None
            if count == 0:
                return None
            root = _root(connection, count)
            text = notes.Checkpoint(origin, count, root).text
            note = notes.sign(text, name=origin, key=signer.public_key, sign_bytes=signer.sign_bytes)
            made = {"size": count, "root": root, "note": note, "made_at": moment_of(connection)}
            connection.execute(insert(evidence_checkpoint), made)
            return note


def _row(index: int, key: str, entry: Evidence) -> dict[str, Any]:
    if entry.at.tzinfo is None:
        raise InputError(f"evidence {key}: its time {entry.at.isoformat()} has no time zone")
    body = canonical_text(entry.body)
    incident = None if entry.incident is None else clean(entry.incident)
    leaf: JsonObject = {
        "index": index,
        "key": key,
        "kind": entry.kind.value,
        "incident": incident,
        "actor": clean(entry.actor),
        "at": entry.at.astimezone(UTC).isoformat(),
        "summary": clean(entry.summary),
        "body_digest": body_digest(body),
    }
    return {"position": index, "key": key, "incident": incident, "leaf": canonical_text(leaf), "body": body}


def _edge(connection: Connection, count: int) -> list[bytes]:
    """Read the nodes that a tree of so many leaves consists of, by their leaves: they are indexed."""
    names = merkle.frontier(count)
    query = select(evidence_node).where(evidence_node.c.leaf.in_([name.leaf for name in names]))
    found = {(row.leaf, row.level): row.hash for row in connection.execute(query)}
    for leaf, level in names:
        if (leaf, level) not in found:
            raise ProviderUnavailableError(
                f"evidence log: the tree's node at entry {leaf}, level {level} is missing;"
                " run `stanch audit verify`"
            )
    return [found[name] for name in names]


def _root(connection: Connection, count: int) -> bytes:
    return merkle.root_of(_edge(connection, count))


def _bounded(number: int) -> int:
    return max(-LARGEST_INDEX, min(number, LARGEST_INDEX))
