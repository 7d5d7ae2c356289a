"""Alembic's environment: migrates over the connection that it is given, within its transaction."""

from alembic import context

from ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
