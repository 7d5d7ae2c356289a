"""Trouble with the database: always *unavailable*, never a loss of what was acknowledged."""

import itertools
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from sqlalchemy import insert, text

from authority.decisions import Verifier
from contracts.errors import InputError, ProviderUnavailableError, StanchError
from contracts.evidence import Evidence, EvidenceKind
from ledger import Ledger, audit, database, evidence, schema
from tests.ledger import postgresql
from tests.ledger.crowd import at_once
from tests.ledger.samples import NOON, Clock, alert, open_incident

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://root:secret@host/x", "the ledger knows no mysql"),
        ("sqlite+aiosqlite:///x", "the ledger knows no sqlite"),
        ("sqlite://", "not kept in memory"),
        ("sqlite:///:memory:", "not kept in memory"),
        ("secret", "the ledger's URL cannot be read"),
        ("", "the ledger's URL cannot be read"),
    ],
)
def test_urls_that_cannot_be_used(url: str, sentence: str) -> None:
    """A URL that is not one of our two databases is refused with a sentence that shows no password."""
    with pytest.raises(InputError, match=sentence) as caught:
        Ledger.open(url, clock=Clock())

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_nobody_listens(scheme: str) -> None:
    """A PostgreSQL that is not there says so at once, without the password."""
    ledger = Ledger.open(f"{scheme}://ada:secret@127.0.0.1:1/stanch", clock=Clock())
    began = time.monotonic()

    with pytest.raises(ProviderUnavailableError, match="refused") as caught:
        ledger.check()
    assert time.monotonic() - began < 3
    assert "secret" not in str(caught.value)
    assert not caught.value.may_have_applied


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A SQLite file that cannot be there says so."""
    (tmp_path / "file").write_text("")
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'file' / 'ledger.db'}", clock=Clock())

    with pytest.raises(ProviderUnavailableError, match="File exists"):
        ledger.migrate()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A file with something else in it is not touched."""
    path = tmp_path / "ledger.db"
    path.write_text("something else " * 1000)
    ledger = Ledger.open(f"sqlite:///{path}", clock=Clock())

    with pytest.raises(ProviderUnavailableError, match="not a database"):
        ledger.migrate()
    assert path.read_text() == "something else " * 1000


def test_a_reader_sees_one_moment(ledger: Ledger) -> None:
    """Within one look nothing changes, whoever writes meanwhile; and a look writes nothing."""
    with ledger.database.read() as connection:
        before = evidence.size(connection)
        ledger.inbox.refuse("a", b"x", "no")

        assert evidence.size(connection) == before
    assert ledger.evidence.size() == before + 1


def test_settings_of_sqlite(sqlite_url: str) -> None:
    """A commit on SQLite is on the disk, readers do not block, and references are checked."""
    ledger = Ledger.open(sqlite_url, clock=Clock())
    with ledger.database.read() as connection:
        asked = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked]
    ledger.close()

    assert found == ["wal", 2, database.PATIENCE * 1000, 1]


def test_what_waits_for_the_disk(sqlite_url: str) -> None:
    """A serial transaction is on the disk when it is committed, one after another that need not be, too."""
    ledger = Ledger.open(sqlite_url, clock=Clock())
    found = []
    for serial in (True, False, True):
        with ledger.database.write(serial=serial) as connection:
            found.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())
    ledger.close()

    assert found == [2, 1, 2]


def read_only(url: str) -> str:
    """Make a database read-only, and give the URL under which it is that."""
    if url.startswith("sqlite:///"):
        return url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true"
    with psycopg.connect(url, autocommit=True) as connection:
        name = postgresql.name_of(url)
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
    return url


def test_a_read_only_database(ledger: Ledger, database_url: str) -> None:
    """What cannot be written is unavailable; reading goes on."""
    open_incident(ledger)
    ledger.close()
    closed = Ledger.open(read_only(database_url), clock=Clock())

    with pytest.raises(ProviderUnavailableError, match=r"read-?only"):
        closed.inbox.accept("alertmanager", b"x", [alert("x")], trace={})
    with pytest.raises(ProviderUnavailableError, match=r"read-?only"):
        closed.outbox.done(1)
    with pytest.raises(ProviderUnavailableError, match=r"read-?only"):
        closed.database.check_writes()
    closed.check()
    assert closed.incidents.get("INC-1").id == "INC-1"
    closed.close()


def test_writing_is_tried_seldom(sqlite_url: str) -> None:
    """Whether writing works is tried by writing, but not at each look; after a write that failed, at once."""
    ledger, log = Ledger.open(sqlite_url, clock=Clock()), Path(f"{sqlite_url.removeprefix('sqlite:///')}-wal")
    sizes = []
    for is_sure in (False, True, True, False):
        if not is_sure:
            with pytest.raises(ProviderUnavailableError), ledger.database.write() as connection:
                connection.execute(text("nonsense"))
        ledger.database.check_writes()
        sizes.append(log.stat().st_size)
    ledger.close()

    assert sizes[0] == sizes[1] == sizes[2] < sizes[3]


def test_writing_that_works_is_not_tried(sqlite_url: str) -> None:
    """What was written just now says enough."""
    ledger, log = Ledger.open(sqlite_url, clock=Clock()), Path(f"{sqlite_url.removeprefix('sqlite:///')}-wal")
    open_incident(ledger)
    before = log.stat().st_size
    ledger.database.check_writes()
    after = log.stat().st_size
    ledger.close()

    assert before == after


def test_a_writer_that_does_not_end(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else can write then: that is said as soon as the others hear it, and no longer than it is so."""
    ledger = Ledger.open(sqlite_url, clock=Clock())
    ledger.database.check_writes()
    with ledger.database.write():
        ledger.database.check_writes()
        monkeypatch.setattr(database, "PATIENCE", 0)
        with pytest.raises(ProviderUnavailableError, match="busy for more than 0 s"):
            ledger.database.check_writes()
    ledger.database.check_writes()
    ledger.close()


def test_nobody_waits_twice(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has waited behind others has so much less patience left for the turn itself."""
    ledger = Ledger.open(sqlite_url, clock=Clock())
    monkeypatch.setattr(database, "PATIENCE", 1)

    def wait(late: float) -> float:
        time.sleep(late)
        began = time.monotonic()
        with pytest.raises(ProviderUnavailableError, match="busy for more than 1 s"), ledger.database.write():
            pass
        return time.monotonic() - began

    with ledger.database.write(), ThreadPoolExecutor(2) as pool:
        waited = list(pool.map(wait, (0, 0.2)))
    ledger.close()

    assert max(waited) < 1.5, waited


def test_a_disk_that_is_almost_full(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk has no room for the next alert, that is said before it comes."""
    ledger = Ledger.open(sqlite_url, clock=Clock())
    ledger.database.check_writes()
    monkeypatch.setattr(database, "LEAST_FREE", 1 << 62)

    with pytest.raises(ProviderUnavailableError, match="MiB are free on its disk"):
        ledger.database.check_writes()
    ledger.close()


FULL_DISK = """
import sys
from contracts.errors import ProviderUnavailableError
from ledger import Ledger
from tests.ledger.samples import Clock, alert

ledger, number = Ledger.open(sys.argv[1], clock=Clock()), 0
try:
    while True:
        ledger.inbox.accept("alertmanager", b"%d" % number, [alert(str(number))], trace={"pad": "x" * 20_000})
        number += 1
except ProviderUnavailableError as error:
    print(number, error)
"""


def test_a_full_disk(sqlite_url: str, verifier: Verifier) -> None:
    """A disk that fills up refuses the delivery that does not fit, and keeps all that were acknowledged."""
    full = 400_000  # bytes that any one file may have

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (full, full))

    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, sqlite_url],
        cwd=ROOT,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
    )
    acknowledged, _, sentence = child.stdout.partition(" ")
    ledger = Ledger.open(sqlite_url, clock=Clock())
    ledger.inbox.dispatch(limit=1000)

    assert sentence.startswith("ledger sqlite:///")
    assert int(acknowledged) > 3
    assert len(ledger.incidents.get("INC-1").alerts) == int(acknowledged)
    assert audit.verify(ledger, verifier).ok
    ledger.close()


KILLED = """
import os
import sys
from ledger import Ledger
from tests.ledger.samples import Clock, alert

ledger = Ledger.open(sys.argv[1], clock=Clock())
for number in range(1000):
    ledger.inbox.accept("alertmanager", b"%d" % number, [alert(str(number))], trace={})
    os.write(1, b"%d\\n" % number)
"""


def test_killed_right_after_the_answer(database_url: str, ledger: Ledger, verifier: Verifier) -> None:
    """What was acknowledged is there after kill -9 of the process in the middle of the next delivery."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, database_url], cwd=ROOT, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        answered = [int(child.stdout.readline()) for _ in range(8)]
        child.send_signal(signal.SIGKILL)
        answered += [int(line) for line in child.stdout]
    ledger.inbox.dispatch(limit=10_000)

    kept = {int(one.fingerprint) for one in ledger.incidents.get("INC-1").alerts}
    assert set(answered) <= kept
    assert len(kept) - len(answered) <= 1
    assert audit.verify(ledger, verifier).ok


@pytest.mark.postgresql
def test_the_connection_is_cut(postgresql_url: str, clock: Clock) -> None:
    """A connection that is lost in the middle is unavailable; the same again counts once, on a new one."""
    ledger = Ledger.open(postgresql_url, clock=clock)
    ledger.inbox.accept("alertmanager", b"1", [alert("1")], trace={})
    cut = text("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(ProviderUnavailableError) as caught, ledger.database.write() as connection:
        connection.execute(cut)
    assert not caught.value.may_have_applied
    with psycopg.connect(postgresql_url, autocommit=True) as other:
        name = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        other.execute(f"{name} AND pid <> pg_backend_pid()".encode())
    assert ledger.inbox.accept("alertmanager", b"1", [alert("1")], trace={}).duplicates == 1
    ledger.close()


def test_the_answer_to_a_commit_is_lost(ledger: Ledger) -> None:
    """A commit whose answer is lost says that it may have happened, and repeating it counts once."""
    with pytest.raises(ProviderUnavailableError) as caught, ledger.database.write() as connection:
        cast(Any, connection.connection.dbapi_connection).close()

    assert caught.value.may_have_applied
    assert ledger.inbox.accept("alertmanager", b"1", [alert("1")], trace={}).accepted == 1
    assert ledger.inbox.accept("alertmanager", b"1", [alert("1")], trace={}).accepted == 0


def test_an_error_of_ours_takes_everything_back(ledger: Ledger) -> None:
    """What raises in the middle of a change leaves nothing of it."""
    entry = Evidence(key="a", kind=EvidenceKind.COMMAND, incident=None, actor="ada", at=NOON, summary="s")
    broken = entry.model_copy(update={"key": "b", "at": NOON.replace(tzinfo=None)})

    def append_both() -> None:
        with ledger.database.write() as connection:
            evidence.append(connection, entry)
            evidence.append(connection, broken)

    with pytest.raises(InputError):
        append_both()
    assert ledger.evidence.size() == 0


@pytest.mark.slow
def test_somebody_holds_the_lock(ledger: Ledger, database_url: str) -> None:
    """Who cannot write in time is told so, soon, and by many at once no faster and no slower."""
    other = Ledger.open(database_url, clock=Clock())
    release = threading.Event()
    held = threading.Event()

    def hold() -> None:
        with other.database.write():
            held.set()
            release.wait(timeout=30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(timeout=10)
    began = time.monotonic()
    answers = at_once([lambda: ledger.inbox.accept("a", b"", [], trace={})] * 4)
    took = time.monotonic() - began
    reading = ledger.incidents.list()
    release.set()
    holder.join()

    assert [type(answer) for answer in answers] == [ProviderUnavailableError] * 4
    assert database.PATIENCE - 1 < took < 3 * database.PATIENCE
    assert reading == []
    ledger.inbox.accept("a", b"", [], trace={})
    other.close()


def test_more_threads_than_connections(ledger: Ledger, clock: Clock) -> None:
    """A crowd of requests is served one after the other, none lost."""
    clock.forward(timedelta(seconds=1))
    accept = partial(ledger.inbox.accept, "a", trace={})
    answers = at_once([partial(accept, b"%d" % number, [alert(str(number))]) for number in range(48)])

    assert sum(not isinstance(answer, StanchError) for answer in answers) == 48
    assert ledger.evidence.size() == 48


def steps(ledger: Ledger, call: Callable[[], object]) -> int:
    """Count, in tens of SQLite's instructions, what a call costs; one call before fills the caches."""
    call()
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    with ledger.database.read() as connection:
        cast(Any, connection.connection.dbapi_connection).set_progress_handler(step, 10)
    call()
    with ledger.database.read() as connection:
        cast(Any, connection.connection.dbapi_connection).set_progress_handler(None, 10)
    return count


def test_costs_do_not_grow(sqlite_url: str) -> None:
    """Intake, roots and delivery cost about the same behind thousands of entries and delivered messages."""
    ledger = Ledger.open(sqlite_url, clock=Clock())
    open_incident(ledger)
    numbers = itertools.count()
    calls: tuple[Callable[[], object], ...] = (
        lambda: ledger.inbox.accept("a", b"%d" % next(numbers), [alert(str(next(numbers)))], trace={}),
        ledger.evidence.root,
        lambda: ledger.evidence.entries(incident="INC-1", after=0, limit=10),
        lambda: ledger.outbox.claim(1, timedelta()),
        ledger.outbox.backlog,
        lambda: ledger.inbox.dispatch(1),
        lambda: ledger.incidents.get("INC-1"),
    )
    before = [steps(ledger, call) for call in calls]
    entry = Evidence(key="", kind=EvidenceKind.COMMAND, incident=None, actor="ada", at=NOON, summary="s")
    ledger.evidence.append(*(entry.model_copy(update={"key": str(number)}) for number in range(3000)))
    done = {"kind": "k", "incident": "INC-1", "lane": "INC-1", "payload": {}, "trace": {}, "attempts": 1}
    done |= {"created_at": NOON, "available_at": NOON, "due_at": NOON, "done_at": NOON, "error": ""}
    with ledger.database.write() as connection:
        connection.execute(insert(schema.outbox), [done | {"key": str(number)} for number in range(3000)])
    after = [steps(ledger, call) for call in calls]
    ledger.close()

    assert [now for was, now in zip(before, after, strict=True) if now > was + 300] == []  # a scan: 3000
