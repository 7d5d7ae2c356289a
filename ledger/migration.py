"""Bringing a database to this program's schema, with Alembic and no file from the working directory."""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from contracts.errors import ProviderUnavailableError
from ledger.database import Database

_SCRIPTS = Path(__file__).parent / "migrations"
_one_at_a_time = threading.Lock()  # Alembic keeps its environment in a global


def config(connection: Connection) -> Config:
    """Give Alembic's configuration for this connection."""
    made = Config()
    made.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(database: Database) -> None:
    """Upgrade in one transaction; who comes second waits and finds nothing to do.

    Raises:
        ProviderUnavailableError: The database did not do it, or a newer version of this program made it.
    """
    with _one_at_a_time, database.write() as connection:
        try:
            command.upgrade(config(connection), "head")
        except CommandError as error:
            raise ProviderUnavailableError(
                f"ledger {database.name}: cannot be migrated by this version: {error}"
            ) from error


def check(database: Database) -> None:
    """Check that the schema is at the newest migration.

    Raises:
        ProviderUnavailableError: It is not, or the database does not answer.
    """
    with database.read() as connection:
        found = MigrationContext.configure(connection).get_current_heads()
    wanted = tuple(_heads)
    if found != wanted:
        raise ProviderUnavailableError(
            f"ledger {database.name}: its schema is at {', '.join(found) or 'nothing'} and this program needs"
            f" {', '.join(wanted)}; starting the gateway or a worker of its version migrates it"
        )


_heads = ScriptDirectory(str(_SCRIPTS)).get_heads()
