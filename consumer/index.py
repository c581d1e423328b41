"""The vector index: built once the first backfill is through, without holding up a write."""

import structlog
from psycopg import sql

from consumer.config import Index
from consumer.database import LOCK_TIMEOUT, Connection
from consumer.target import TargetTable
from slots.queries import load

_QUERIES, _SESSION = load("target.sql"), load("session.sql")

_log = structlog.get_logger(__name__)


async def stands(table: TargetTable, connection: Connection) -> bool | None:
    """Whether the target has its vector index, valid and of the metric's operator class; None without any."""
    names = {
        "target": sql.Identifier(*table.name).as_string(connection),
        "index": sql.Identifier(*table.index).as_string(connection),
        "operator_class": table.operator_class,
    }
    cursor = await connection.execute(_QUERIES["index_state"], names)
    row = await cursor.fetchone()
    return bool(row[0]) if row else None


async def build_index(table: TargetTable, connection: Connection, kind: Index) -> None:
    """Make sure that the target has its vector index; build one anew that is half built or another metric's.

    CREATE INDEX CONCURRENTLY waits for transactions that are older than itself, and holds up none.
    """
    if kind == "none":
        return
    match await stands(table, connection):
        case True:
            return
        case False:
            await connection.execute(table.compose("drop_index", connection), {})
    _log.info("vector index is being built", target=str(table.name), index=table.index.name)
    # It waits for every older transaction; given up on the way it would leave an invalid index behind.
    await connection.execute(_SESSION["limit_locks"], {"limit": "0"})
    try:
        await connection.execute(table.compose("create_index", connection), {})
    finally:
        await connection.execute(_SESSION["limit_locks"], {"limit": LOCK_TIMEOUT})
    _log.info("vector index is built", target=str(table.name), index=table.index.name)
