"""How many rows there are: counted while that is quick, and not again before it is worth it.

A count that takes too long is given up, and the servers' statistics take its place.
"""

from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from walvec.config.load import TableName
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

COUNT_LIMIT = 3_000  # milliseconds that all counts of one report may take
COUNT_LEAST = 50  # of them, for each, however many there are
COUNT_SHARE = 20  # a count that took a second is taken again after this many

_QUERIES = load_sql("status.sql")


class Held(NamedTuple):
    """What a target holds; None: not known."""

    rows: int | None
    chunks: int | None
    estimated: bool  # by the server's statistics, because counting took too long
    written: int | None = None  # chunks ever written, by the server's own count


class Counting:
    """Counts for one report after another."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._until = 0.0
        self._counts: dict[str, tuple[float, Any]] = {}  # by table: when to count again, and what it was

    def begin(self) -> None:
        """Begin a report: its counts have COUNT_LIMIT together."""
        self._until = monotonic() + COUNT_LIMIT / 1000

    async def held(self, table: str, target: Connection) -> Held:
        """Count a target's rows and chunks."""
        name = TableName.parse(table)
        cursor = await target.execute(_QUERIES["chunks_written"], name._asdict())
        written, estimate = await cursor.fetchone() or (None, None)
        query = sql.SQL(load_sql("target.sql")["coverage"]).format(target=sql.Identifier(*name))

        async def count(limit: int) -> Held:
            try:
                ((rows, chunks),) = await _within(target, limit, query)
            except psycopg.errors.UndefinedTable:
                return Held(None, None, estimated=False)
            except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
                return Held(None, estimate, estimated=True)
            return Held(rows, chunks, estimated=False)

        found: Held = await self._again(f"target {table}", count)
        return found._replace(written=written)

    async def rows_of(self, leaves: Sequence[tuple[str, str]], source: Connection) -> int | None:
        """Count the rows of a source table's leaves; None where that takes too long, or may not be."""
        parts = [
            sql.SQL(_QUERIES["rows_of_leaf"]).format(leaf=sql.Identifier(schema, name))
            for schema, name in leaves
        ]
        query = sql.SQL(_QUERIES["rows_of_leaves"]).format(leaves=sql.SQL(" UNION ALL ").join(parts))

        async def count(limit: int) -> int | None:
            try:
                ((rows,),) = await _within(source, limit, query)
            except psycopg.DatabaseError as error:
                if error.sqlstate is None:
                    raise
                return None
            return int(rows)

        found: int | None = await self._again(f"source {query.as_string()}", count) if parts else 0
        return found

    async def _again(self, what: str, count: Callable[[int], Awaitable[Any]]) -> Any:
        """Count, or take the last count while counting again would cost more than it tells."""
        began = monotonic()
        due, found = self._counts.get(what, (0.0, None))
        if began >= due:
            found = await count(max(COUNT_LEAST, round((self._until - began) * 1000)))
            ended = monotonic()
            self._counts[what] = ended + COUNT_SHARE * (ended - began), found
        return found


async def _within(connection: Connection, limit: int, query: sql.Composed) -> list[Any]:
    """Run a query that is cancelled after `limit` milliseconds."""
    async with connection.transaction():
        await connection.execute(load_sql("slots.sql")["limit_statements"], {"milliseconds": limit})
        return await (await connection.execute(query)).fetchall()
