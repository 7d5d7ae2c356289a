"""A PostgreSQL server of its own for tests: from installed programs, on a socket in a temporary folder."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg import conninfo, sql

START = 30  # seconds until a fresh server must answer
ACCOUNT = "postgres"  # the server refuses to run as root
SETTINGS = (
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "autovacuum=off",
    "shared_buffers=16MB",  # a connection is a fork, and a fork costs by the memory that it shares
)
# What a test may have changed in a migrated database besides its rows.
SHAPE = """
    SELECT (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal),
           (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
           (SELECT count(*) FROM pg_db_role_setting),
           (SELECT min(version_num) FROM alembic_version)
"""


def programs() -> Path | None:
    """Find the newest installed server's programs."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    on_path = shutil.which("postgres")
    if on_path is not None:
        found.append(Path(on_path).resolve().parent)
    return max(found, key=lambda path: path.parent.name, default=None)


def why_not() -> str | None:
    """Say why no server can be started here, if so."""
    if programs() is None:
        return "PostgreSQL's programs are not installed (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and ACCOUNT not in {entry.pw_name for entry in pwd.getpwall()}:
        return f"PostgreSQL does not run as root, and there is no account {ACCOUNT}"
    return None


@contextmanager
def server() -> Iterator[str]:
    """Run a server with its data in a temporary folder; give the URL of its database ``postgres``.

    Nothing listens on the network, and nothing is left behind.
    """
    bin_folder = programs()
    assert bin_folder is not None, why_not()
    user = ACCOUNT if os.geteuid() == 0 else None
    # Not pytest's own folder: a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="stanch-pg-"))
    try:
        if user is not None:
            shutil.chown(folder, user, user)
        data = folder / "data"
        groups: list[str] | None = [] if user is not None else None
        options = ["--no-sync", "--auth=trust", f"--username={ACCOUNT}", "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [str(bin_folder / "initdb"), *options, str(data)],
            check=True,
            capture_output=True,
            cwd=folder,
            user=user,
            group=user,
            extra_groups=groups,
        )
        settings = [part for setting in SETTINGS for part in ("-c", setting)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(bin_folder / "postgres"), "-D", str(data), "-k", str(folder), *settings],
                stdout=log,
                stderr=log,
                cwd=folder,
                user=user,
                group=user,
                extra_groups=groups,
            )
        try:
            url = f"postgresql://{ACCOUNT}@/postgres?host={folder}"
            _wait(url, process, folder / "log")
            yield url
        finally:
            process.send_signal(signal.SIGINT)  # its fast shutdown: clients are cut off
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(server_url: str, *, template: str | None = None) -> Iterator[str]:
    """Make a database of its own on a server, give its URL, and drop it in the end."""
    name = f"test_{uuid.uuid4().hex}"
    copy = sql.SQL("TEMPLATE {}").format(sql.Identifier(template or "template0"))
    _run(server_url, sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), copy))
    try:
        yield server_url.replace("/postgres?", f"/{name}?")
    finally:
        _run(server_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class Reused:
    """A migrated database that is emptied for the next test, and made anew only where a test has bent it."""

    def __init__(self, server_url: str, template_url: str) -> None:
        self._server_url = server_url
        self._template = name_of(template_url)
        self._made = ExitStack()
        self._url = ""
        with psycopg.connect(template_url) as connection:
            self._shape = connection.execute(SHAPE).fetchone()
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
        self._tables = [name for (name,) in tables if name != "alembic_version"]

    def take(self) -> str:
        """Give the URL of the database, empty and whole."""
        if not self._url or not self._is_emptied():
            self._made.close()
            self._url = self._made.enter_context(database(self._server_url, template=self._template))
        return self._url

    def close(self) -> None:
        """Drop it."""
        self._made.close()

    def _is_emptied(self) -> bool:
        names = sql.SQL(", ").join(map(sql.Identifier, self._tables))
        try:
            with psycopg.connect(self._url, options="-c lock_timeout=2s") as connection:
                if connection.execute(SHAPE).fetchone() != self._shape:
                    return False
                connection.execute("SET session_replication_role = replica")  # no trigger refuses this
                connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(names))
                connection.execute("INSERT INTO evidence_head (id, size) VALUES (1, 0)")
        except psycopg.Error:
            return False
        return True


def name_of(url: str) -> str:
    """Give the name of a database by its URL."""
    return str(conninfo.conninfo_to_dict(url)["dbname"])


def _run(server_url: str, statement: sql.Composed) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(statement)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
        else:
            return
