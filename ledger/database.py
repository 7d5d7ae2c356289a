"""Connections and transactions: one writer at a time, and every trouble in the word *unavailable*."""

import json
import math
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from pydantic import JsonValue
from sqlalchemy import URL, Connection, Row, Select, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from contracts.errors import InputError, ProviderUnavailableError
from ledger.storable import canonical_text

Clock = Callable[[], datetime]

PATIENCE = 5  # seconds to wait for a connection or a lock; then the caller hears it and may come again
_TAKE_TURN = f"SELECT pg_advisory_xact_lock({0x5374616E6368})"  # the advisory lock on PostgreSQL: "Stanch"
SURE_FOR = 30.0  # seconds for which a write that worked says that the next one will
LEAST_FREE = 16 << 20  # bytes: SQLite's log and the file itself still grow within them
_TROUBLE = (SQLAlchemyError, sqlite3.Error, psycopg.Error, OSError)

# A server that answers no more, or a client that was stopped in the middle, must not hold anybody for long.
_POSTGRESQL = {
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": f"-c lock_timeout={PATIENCE}s -c statement_timeout=30s"
    " -c idle_in_transaction_session_timeout=30s",
}


# What changes nothing and is written all the same; SQLite leaves out an UPDATE to what is there.
_SAME_AGAIN_SQLITE = "PRAGMA user_version = 0"
_SAME_AGAIN = "UPDATE alembic_version SET version_num = version_num"


class Database:
    """One SQLite file or one PostgreSQL database.

    Transactions that write run one after another, over all processes: SQLite knows no other way, and on
    PostgreSQL they take one advisory lock first. So a check and the change that depends on it are never torn
    apart, and the evidence log has one order. ``write(serial=False)`` is for changes that need neither, as a
    lease, and harmless when repeated. They do not wait for the disk: they outlive a killed process and
    not a power cut, unless a serial transaction has come after them.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        """Make the engine; connect to nothing yet.

        Raises:
            InputError: The URL is not one of SQLite or PostgreSQL.
        """
        self.now = clock
        self._url = _parse(url)
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._engine = create_engine(
            self._url,
            json_serializer=canonical_text,
            json_deserializer=_read_json,
            hide_parameters=True,  # what people wrote does not belong in our own logs
            pool_size=8,
            max_overflow=24,
            pool_timeout=PATIENCE,
            pool_pre_ping=not self._is_sqlite,
            connect_args={"timeout": PATIENCE} if self._is_sqlite else _POSTGRESQL,
        )
        self._sure_until = 0.0  # by the monotonic clock: when writing has to be tried before it is promised
        # SQLite's own waiting is by polling and unfair; threads queue here first.
        self._turn = threading.Lock()
        self._line = threading.Lock()  # of all who are not first, one waits for the turn
        self._turn_since = math.inf  # by the monotonic clock; nobody's: never
        if self._is_sqlite:
            event.listen(self._engine, "do_connect", self._make_folder)
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)

    @property
    def name(self) -> str:
        """Where it is, without a password."""
        return self._url.render_as_string(hide_password=True)

    @contextmanager
    def write(self, *, serial: bool = True, first: bool = False) -> Iterator[Connection]:
        """Give one transaction that is committed at the end of the block, and rolled back on any error.

        Args:
            serial: Wait for the turn among all writers of all processes, and in the end for the disk.
            first: Pass those who wait in this process, but for one: a storm of alerts holds up no freeze. On
                PostgreSQL, which has many connections wait at once, everybody waits in their order.

        Raises:
            ProviderUnavailableError: The database did not do it; ``may_have_applied`` when the answer to the
                commit was lost.
        """
        is_committing = False
        try:
            with self._queue(first=first), self._engine.connect() as connection:
                connection = connection.execution_options(stanch_serial=serial)  # noqa: PLW2901  (the same one)
                with connection.begin():
                    if not self._is_sqlite:
                        connection.exec_driver_sql(
                            _TAKE_TURN if serial else "SET LOCAL synchronous_commit = off"
                        )
                    yield connection.execution_options(stanch_moment=self.now())
                    is_committing = True
            if serial:  # what does not wait for its turn may work though everybody else waits in vain
                self._sure_until = time.monotonic() + SURE_FOR
        except _TROUBLE as error:
            self._sure_until = 0.0
            raise self._unavailable(error, may_have_applied=is_committing) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give one transaction that sees one state of everything and changes nothing.

        Raises:
            ProviderUnavailableError: The database did not answer.
        """
        try:
            with self._engine.connect() as connection:
                if not self._is_sqlite:
                    connection = connection.execution_options(  # noqa: PLW2901  (the same one)
                        isolation_level="REPEATABLE READ", postgresql_readonly=True
                    )
                with connection.begin():
                    yield connection
        except _TROUBLE as error:
            raise self._unavailable(error, may_have_applied=False) from error

    def check_writes(self) -> None:
        """Check that what is written now would be kept.

        It writes next to nothing, and only when a write has failed or none has worked here for half a minute.

        Raises:
            ProviderUnavailableError: It would not: the disk is full, say, the database is read-only, or
                somebody writes and does not end.
        """
        folder = Path(self._url.database or "").parent
        if self._is_sqlite and folder.is_dir():  # small writes fit where SQLite's log has been, alerts do not
            free = shutil.disk_usage(folder).free
            if free < LEAST_FREE:
                raise ProviderUnavailableError(
                    f"ledger {self.name}: {free >> 20} MiB are free on its disk, under {LEAST_FREE >> 20}"
                )
        is_stuck = time.monotonic() - self._turn_since > PATIENCE
        if not is_stuck and (time.monotonic() < self._sure_until or self._turn.locked()):
            return  # locked: somebody is writing
        with self.write() as connection:
            connection.exec_driver_sql(_SAME_AGAIN_SQLITE if self._is_sqlite else _SAME_AGAIN)

    def rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        """Give what a query finds, read in a transaction of its own.

        Raises:
            ProviderUnavailableError: The database did not answer.
        """
        with self.read() as connection:
            return connection.execute(query).all()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _queue(self, *, first: bool) -> Iterator[None]:
        if not self._is_sqlite:
            yield
            return
        began = time.monotonic()
        in_line = not first and self._line.acquire(timeout=PATIENCE)
        try:
            left = max(0.0, began + PATIENCE - time.monotonic())
            is_mine = (first or in_line) and self._turn.acquire(timeout=left)
        finally:
            if in_line:
                self._line.release()
        if not is_mine:
            raise ProviderUnavailableError(f"ledger {self.name}: busy for more than {PATIENCE} s")
        try:
            self._turn_since = time.monotonic()
            yield
        finally:
            self._turn_since = math.inf
            self._turn.release()

    def _make_folder(self, *_: object) -> None:
        path = self._url.database or ""
        if not path.startswith("file:"):  # SQLite's own kind of URL, for example to open read-only
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _unavailable(self, error: Exception, *, may_have_applied: bool) -> ProviderUnavailableError:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        return ProviderUnavailableError(f"ledger {self.name}: {reason}", may_have_applied=may_have_applied)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InputError(
            "the ledger's URL cannot be read; use sqlite:///<file> or postgresql://..."
        ) from error
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite":
        raise InputError(f"the ledger knows no {parsed.drivername}; use sqlite:///<file> or postgresql://...")
    if parsed.database in (None, "", ":memory:"):
        raise InputError("the ledger is not kept in memory; use sqlite:///<file>")
    return parsed


def _read_json(content: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(content)
    except (ValueError, RecursionError):
        return content  # written past us: no model accepts it, and the audit names it
    return value


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver's guess
    connection.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000}")
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
    connection.execute("PRAGMA foreign_keys = ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    # Several processes that open a fresh file at once: for this one change SQLite does not wait by itself.
    for pause in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(pause)
        else:
            return
    connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later can fail in its middle with "locked": lock at once.
    serial = connection.get_execution_options().get("stanch_serial")
    if serial is not None:
        connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if serial else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN" if serial is None else "BEGIN IMMEDIATE")


def moment_of(connection: Connection) -> datetime:
    """Give the time of a transaction that writes: one for all of it, taken when its turn has come."""
    moment: datetime = connection.get_execution_options()["stanch_moment"]
    return moment


class Stored:
    """What the ledger keeps of one kind.

    Args:
        database: Where.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
