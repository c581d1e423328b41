"""The vector index: built after the first backfill, without holding up a write.

An index that the user made is used if it serves the search, and never dropped. What walvec builds is recorded
in `walvec.made` first, so that one that a crash left half built is known by its name.
"""

import hashlib
from dataclasses import dataclass

import structlog
from psycopg import sql
from psycopg.rows import dict_row

from walvec.config.load import Index
from walvec.config.table_name import MAX_NAME_BYTES, TableName
from walvec.database.connect import LOCK_TIMEOUT
from walvec.database.ownership import Made, announce, forget, load_ledger, record
from walvec.database.pgvector import vector_schema
from walvec.vectorizer.target import TargetTable
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES, _SESSION = load_sql("target.sql"), load_sql("session.sql")

# How many names to choose from, where the first is taken.
_NAMES = 100

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Index:
    """An index of the target.

    `maker` is the slot that walvec built it for, None where the user made it. `serves`: the search can use
    it.
    """

    name: TableName
    maker: str | None
    serves: bool


async def index_is_valid(table: TargetTable, connection: Connection) -> bool:
    """Whether the target has a valid hnsw index of the metric's operator class.

    Who built it does not matter.
    """
    return any(index.serves for index in await _read_indexes(table, connection))


async def build_index(table: TargetTable, connection: Connection, kind: Index) -> None:
    """Make sure that the target has its vector index.

    An index of walvec's that is half built or of another metric is replaced. CREATE INDEX CONCURRENTLY waits
    for transactions that are older than itself, and holds up none.
    """
    if kind == "none":
        return
    await drop_own_indexes(table, connection, useless=True)
    if await index_is_valid(table, connection):
        return
    name = await _free_name(table.name, connection)
    cursor = await connection.execute(_QUERIES["slot_of_target"], {"target": str(table.name)})
    ((slot,),) = await cursor.fetchall()
    await announce(connection, slot, "index", str(name))
    _log.info("index.building", target=str(table.name), index=name.name)
    # The statement waits for every older transaction; one that gave up would leave an invalid index behind.
    await connection.execute(_SESSION["limit_locks"], {"limit": "0"})
    try:
        await connection.execute(_compose_sql("create_index", table, sql.Identifier(name.name), connection))
    finally:
        await connection.execute(_SESSION["limit_locks"], {"limit": LOCK_TIMEOUT})
    cursor = await connection.execute(_QUERIES["index_oid"], {"index": sql.Identifier(*name).as_string()})
    ((oid,),) = await cursor.fetchall()
    await record(connection, Made(slot, "index", str(name), oid))
    _log.info("index.built", target=str(table.name), index=name.name)


async def drop_own_indexes(table: TargetTable, connection: Connection, *, useless: bool = False) -> None:
    """Drop the indexes that walvec built; `useless`: those that serve no search."""
    for index in await _read_indexes(table, connection):
        if index.maker and not (useless and index.serves):
            await connection.execute(
                _compose_sql("drop_index", table, sql.Identifier(*index.name), connection)
            )
            await forget(connection, index.maker, "index", str(index.name))


async def _read_indexes(table: TargetTable, connection: Connection) -> list[_Index]:
    ledger = await load_ledger(connection)
    values = {
        "target": sql.Identifier(*table.name).as_string(connection),
        "operator_class": table.operator_class,
    }
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_QUERIES["target_indexes"], values)
        rows = await cursor.fetchall()
    found = []
    for row in rows:
        name = TableName(row["schema"], row["name"])
        found.append(_Index(name, ledger.maker("index", str(name), row["oid"]), row["serves"]))
    return found


def _compose_sql(
    statement: str, table: TargetTable, index: sql.Identifier, connection: Connection
) -> sql.Composed:
    operator_class = f"{vector_schema(connection)}.{table.operator_class}"
    return sql.SQL(_QUERIES[statement]).format(
        index=index, target=sql.Identifier(*table.name), operator_class=sql.SQL(operator_class)
    )


async def _free_name(table: TableName, connection: Connection) -> TableName:
    """Choose a name as PostgreSQL does, one that is free in the schema."""
    names = [_index_name(table.name, number) for number in range(_NAMES)]
    cursor = await connection.execute(_QUERIES["taken_names"], {"schema": table.schema, "names": names})
    taken = {name for (name,) in await cursor.fetchall()}
    return TableName(table.schema, next(name for name in names if name not in taken))


def _index_name(table: str, number: int) -> str:
    """Return a name for a table's vector index, within PostgreSQL's 63 bytes."""
    suffix = f"_embedding_idx{number or ''}"
    if len(table.encode()) + len(suffix) > MAX_NAME_BYTES:
        suffix = f"_{hashlib.blake2b(table.encode(), digest_size=4).hexdigest()}{suffix}"
        table = table.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore")
    return table + suffix
