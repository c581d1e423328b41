"""How this package reads the system catalog."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from walvec_slots.queries import load_sql

QUERIES: Final = load_sql("slots.sql")


@asynccontextmanager
async def reading(conn: psycopg.AsyncConnection[Any]) -> AsyncIterator[psycopg.AsyncCursor[DictRow]]:
    """Give a cursor under which types and expressions are written with their schemas.

    Its transaction is always rolled back: nothing is written, and the search path is what it was afterwards,
    even inside the caller's own transaction.
    """
    async with conn.transaction(force_rollback=True), conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["qualify_names"])
        yield cursor


def statement(name: str, **identifiers: sql.Composable) -> str:
    """Write out a statement of `sql/slots.sql` as an operator would type it."""
    return sql.SQL(QUERIES[name]).format(**identifiers).as_string()
