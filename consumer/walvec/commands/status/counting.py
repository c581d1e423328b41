"""Row counts that cost little: limited in time, and reused while they are fresh.

A count that takes too long is abandoned, and the server's statistics take its place.
"""

from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from walvec.config.load import TableName
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

# Milliseconds that all counts of one report may take together.
COUNT_LIMIT = 3_000
# Milliseconds that each count gets in any case.
COUNT_LEAST = 50
# A count that took one second is repeated after this many seconds.
COUNT_SHARE = 20

_QUERIES = load_sql("status.sql")
_COVERAGE = load_sql("target.sql")["coverage"]
_LIMIT_STATEMENTS = load_sql("slots.sql")["limit_statements"]


class Held(NamedTuple):
    """What a target holds; None if unknown.

    `estimated` counts come from the server's statistics. `written` is the number of chunks ever written.
    """

    rows: int | None
    chunks: int | None
    estimated: bool
    written: int | None = None


class Counting:
    """Counts for a series of reports."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._until = 0.0
        # By table: when to count again, and the last count.
        self._counts: dict[str, tuple[float, Any]] = {}

    def begin(self) -> None:
        """Begin a report, whose counts share COUNT_LIMIT."""
        self._until = monotonic() + COUNT_LIMIT / 1000

    async def held(self, table: str, target: Connection) -> Held:
        """Count a target's rows and chunks."""
        name = TableName.parse(table)
        cursor = await target.execute(_QUERIES["chunks_written"], name._asdict())
        written, estimate = await cursor.fetchone() or (None, None)
        query = sql.SQL(_COVERAGE).format(target=sql.Identifier(*name))

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
        """Count the rows of a source table; None if that takes too long or is denied."""
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
        """Count, or return the last count while it is fresh enough."""
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
        await connection.execute(_LIMIT_STATEMENTS, {"milliseconds": limit})
        return await (await connection.execute(query)).fetchall()
