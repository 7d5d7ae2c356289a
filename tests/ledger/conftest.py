"""One suite for both databases; PostgreSQL's server is one per test process and stopped at its end."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authority.decisions import Signer, Verifier
from ledger import Ledger
from tests.ledger import postgresql
from tests.ledger.samples import Clock


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Give the URL of a running PostgreSQL server."""
    reason = postgresql.why_not()
    if reason is not None:
        pytest.skip(reason)
    with postgresql.server() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_database(postgresql_server: str) -> Iterator[postgresql.Reused]:
    """Give a migrated database that tests use one after the other."""
    with postgresql.database(postgresql_server) as template:
        _migrate(template)
        reused = postgresql.Reused(postgresql_server, template)
        yield reused
        reused.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a migrated file to copy."""
    path = tmp_path_factory.mktemp("ledger") / "template.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """Give the URL of a migrated SQLite file."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'ledger.db')}"


@pytest.fixture
def postgresql_url(postgresql_database: postgresql.Reused) -> str:
    """Give the URL of a migrated PostgreSQL database."""
    return postgresql_database.take()


@pytest.fixture
def empty_postgresql_url(postgresql_server: str) -> Iterator[str]:
    """Give the URL of an empty PostgreSQL database."""
    with postgresql.database(postgresql_server) as url:
        yield url


BOTH = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql))


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of a migrated database, of either kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=BOTH)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty database, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'not' / 'there' / 'yet' / 'ledger.db'}"
    url: str = request.getfixturevalue("empty_postgresql_url")
    return url


@pytest.fixture
def clock() -> Clock:
    """Give a clock that the test moves."""
    return Clock()


@pytest.fixture
def ledger(database_url: str, clock: Clock) -> Iterator[Ledger]:
    """Give a migrated ledger, on either database."""
    opened = Ledger.open(database_url, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def key() -> Ed25519PrivateKey:
    """Give a signing key."""
    return Ed25519PrivateKey.generate()


@pytest.fixture
def signer(key: Ed25519PrivateKey) -> Signer:
    """Give who signs."""
    return Signer(key)


@pytest.fixture
def verifier(key: Ed25519PrivateKey) -> Verifier:
    """Give who knows the public key."""
    return Verifier([key.public_key()])


def _migrate(url: str) -> None:
    ledger = Ledger.open(url, clock=Clock())
    ledger.migrate()
    ledger.close()
