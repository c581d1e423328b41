"""The vector index: built once the first backfill is through, without holding up a write."""

import structlog
from psycopg import sql

from consumer.config import Index
from consumer.database import Connection
from consumer.target import TargetTable
from slots.queries import load

_QUERIES = load("target.sql")

_log = structlog.get_logger(__name__)


async def build_index(table: TargetTable, connection: Connection, kind: Index) -> None:
    """Make sure that the target has its vector index. What a crash left half built is built anew.

    CREATE INDEX CONCURRENTLY waits for transactions that are older than itself, and holds up none.
    """
    if kind == "none":
        return
    names = {
        "target": sql.Identifier(*table.name).as_string(connection),
        "index": sql.Identifier(*table.index).as_string(connection),
    }
    cursor = await connection.execute(_QUERIES["index_state"], names)
    match await cursor.fetchone():
        case (True,):
            return
        case (False,):
            await connection.execute(table.compose("drop_index"), {})
    _log.info("vector index is being built", target=str(table.name), index=table.index.name)
    await connection.execute(table.compose("create_index"), {})
    _log.info("vector index is built", target=str(table.name), index=table.index.name)
