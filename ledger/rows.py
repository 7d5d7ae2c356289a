"""Rows of any table: named, found, added and changed in one way; the things that people name have an id."""

import re
from typing import Any

from sqlalchemy import Connection, Row, Table, insert, select, update

from contracts.errors import NotFoundError
from ledger import schema
from ledger.storable import one_line

# What the ids of a table's things begin with: INC-42 is incident 42.
PREFIXES = {
    schema.incident: "INC",
    schema.approval: "APR",
    schema.standing_grant: "GRT",
    schema.handoff: "HND",
    schema.freeze: "FRZ",
    schema.api_token: "TOK",
}


def number_of(table: Table, name: str) -> int:
    """Give the number in ``INC-42`` or ``APR-7``.

    Raises:
        NotFoundError: The text is no id of this table.
    """
    prefix = PREFIXES[table]
    match = re.fullmatch(rf"{prefix}-([1-9][0-9]{{0,17}})", name)
    if match is None:
        raise NotFoundError(f"{one_line(name, 80)}: not found; an id looks like {prefix}-1")
    return int(match[1])


def find(connection: Connection, table: Table, name: str) -> Row[Any]:
    """Give the row with an id.

    Raises:
        NotFoundError: There is none.
    """
    row = one(connection, table, number=number_of(table, name))
    if row is None:
        raise NotFoundError(f"{name}: not found")
    return row


def facts(table: Table, row: Row[Any]) -> dict[str, Any]:
    """Give what a row says, with its id."""
    return row._asdict() | {"id": f"{PREFIXES[table]}-{row.number}"}


def given(**columns: object) -> dict[str, Any]:
    """Give what a listing is narrowed to: what is ``None`` was not asked for."""
    return {name: value for name, value in columns.items() if value is not None}


def one(connection: Connection, table: Table, **key: object) -> Row[Any] | None:
    """Give the one row with these values, if there is one."""
    return connection.execute(select(table).filter_by(**key)).one_or_none()


def add(connection: Connection, table: Table, **values: object) -> Row[Any]:
    """Insert a row, and give it as it is kept."""
    return connection.execute(insert(table).values(values).returning(table)).one()


def change(connection: Connection, table: Table, row: Row[Any], **values: object) -> Row[Any]:
    """Change the row with the same primary key, and give it as it is then."""
    key = {column.name: getattr(row, column.name) for column in table.primary_key}
    return connection.execute(update(table).filter_by(**key).values(values).returning(table)).one()
