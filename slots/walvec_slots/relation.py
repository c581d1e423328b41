"""A table as the stream sees it: columns, key, and the partitions with its rows.

The key is what identifies a row. A Relation exists only for a table whose WAL records say which row they are
about; any other is refused, with the statement that fixes it.

https://www.postgresql.org/docs/current/logical-replication-publication.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from walvec_slots.catalog import QUERIES, reading, statement
from walvec_slots.changes import StreamedColumn, StreamedTable
from walvec_slots.errors import PreconditionFailed
from walvec_slots.identity import (
    REPLICA_IDENTITIES,
    ReplicaIdentity,
    indexes_by_table,
    require_key,
    require_whole_key,
)

# Types that initdb makes have smaller oids.
_FIRST_NORMAL_OID: Final = 16384

_OTHER_KINDS: Final[Mapping[str, str]] = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "i": "an index",
    "I": "an index",
    "c": "a composite type",
}


@dataclass(frozen=True, slots=True)
class KeyOperators:
    """The operators that compare a column of a key, as SQL with their schemas.

    They are those of its index's operator class. Under a search path that lacks citext's schema, a bare `=`
    on two citext values would be that of text.
    """

    equal: str = "OPERATOR(pg_catalog.=)"
    greater: str = "OPERATOR(pg_catalog.>)"
    greater_equal: str = "OPERATOR(pg_catalog.>=)"
    less: str = "OPERATOR(pg_catalog.<)"


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    `number` is its attnum: a column that is dropped and added again has another one. `type_name` is SQL text
    with the schema and the modifiers; so is `base_type_name`, which is the type under any domains.
    `collation_oid` is 0 where the type has no collation; `collation` is SQL, None for the base type's own.
    `version` is for comparison alone: it differs once the column, or what its type prints, was altered.
    """

    name: str
    number: int
    collation_oid: int
    version: str
    type_oid: int
    base_type_oid: int
    type_name: str
    not_null: bool
    generated: bool
    base_type_name: str
    collation: str | None = None
    operators: KeyOperators = KeyOperators()


@dataclass(frozen=True, slots=True)
class Leaf:
    """A table that holds rows, which the stream sends under its name.

    `version` differs once it was renamed, moved to another schema, or detached and attached again.
    """

    oid: int
    schema: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Relation:
    """An ordinary or partitioned table with a usable key.

    `version` differs once the table was renamed or moved to another schema. `replica_identity` is the
    table's own; a partition's may be fuller. `key_is_canonical` says that equal keys always have equal text.
    An ordinary table's only leaf is itself.
    """

    oid: int
    version: int
    schema: str
    name: str
    kind: Literal["r", "p"]
    columns: tuple[Column, ...]
    replica_identity: ReplicaIdentity
    key: tuple[str, ...]
    key_is_canonical: bool
    leaves: tuple[Leaf, ...]

    def streamed(self) -> list[StreamedTable]:
        """Return what a stream of all rows and columns of this table is started with."""
        columns = tuple(
            StreamedColumn(column.name, column.type_oid, column.type_name) for column in self.columns
        )
        return [StreamedTable(leaf.oid, leaf.schema, leaf.name, columns) for leaf in self.leaves]


async def describe(conn: psycopg.AsyncConnection[Any], schema: str, name: str) -> Relation:
    """Read a table from the catalog.

    Raises PreconditionFailed if it does not exist, if the WAL does not carry its changes, or if those do not
    say which row they are about.
    """
    async with reading(conn) as cursor:
        await cursor.execute(QUERIES["relation"], {"schema": schema, "name": name})
        table = await cursor.fetchone()
        if table is None:
            raise PreconditionFailed(
                f"Table {quoted(schema, name)} does not exist", hint="spell it exactly, as schema.table"
            )
        _require_logged(table)
        columns = await _columns(cursor, table["oid"])
        await cursor.execute(QUERIES["leaves"], {"oid": table["oid"]})
        leaves = await cursor.fetchall()
        oids = [table["oid"], *(leaf["oid"] for leaf in leaves)]
        await cursor.execute(QUERIES["unique_indexes"], {"oids": oids})
        indexes = indexes_by_table(await cursor.fetchall())
    key = require_key(table, indexes[table["oid"]])
    for leaf in leaves:
        require_whole_key(leaf, key, indexes[leaf["oid"]])
    return Relation(
        oid=table["oid"],
        version=table["version"],
        schema=table["schema"],
        name=table["name"],
        kind=table["kind"],
        columns=tuple(_column(row) for row in columns),
        replica_identity=REPLICA_IDENTITIES[table["replica_identity"]],
        key=key,
        key_is_canonical=all(row["canonical"] for row in columns if row["name"] in key),
        leaves=tuple(_leaf(row) for row in leaves),
    )


async def _columns(cursor: psycopg.AsyncCursor[DictRow], table: int) -> list[DictRow]:
    """Read a table's columns.

    Their version covers what the output of a user-defined type depends on.
    """
    await cursor.execute(QUERIES["columns"], {"oid": table})
    columns = await cursor.fetchall()
    own_types = [row["type_oid"] for row in columns if row["type_oid"] >= _FIRST_NORMAL_OID]
    if own_types:
        await cursor.execute(QUERIES["type_versions"], {"oids": own_types})
        versions = {row["type_oid"]: row["version"] for row in await cursor.fetchall()}
        for row in columns:
            row["version"] += versions.get(row["type_oid"], "")
    return columns


def quoted(schema: str, name: str) -> str:
    """Return a table's name as SQL has it, for messages."""
    return sql.Identifier(schema, name).as_string()


def _column(row: DictRow) -> Column:
    fields = {name: value for name, value in row.items() if name != "canonical"}
    operators = KeyOperators(*fields.pop("operators") or ())
    return Column(**fields, operators=operators)


def _leaf(row: DictRow) -> Leaf:
    return Leaf(row["oid"], row["schema"], row["name"], row["version"])


def _require_logged(table: DictRow) -> None:
    name = quoted(table["schema"], table["name"])
    if table["kind"] not in {"r", "p"}:
        kind = _OTHER_KINDS.get(table["kind"], "not a table")
        raise PreconditionFailed(
            f"{name} is {kind}, so the WAL has no changes of it", hint="name the table that holds the rows"
        )
    if table["persistence"] == "u":
        raise PreconditionFailed(
            f"{name} is unlogged, so the WAL has no changes of it",
            hint=statement("make_logged", table=sql.Identifier(table["schema"], table["name"])),
        )
    if table["persistence"] == "t":
        raise PreconditionFailed(f"{name} is temporary, so the WAL has no changes of it")
