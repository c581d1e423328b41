"""A table as the stream sees it: columns, key, and the partitions with its rows.

The key is what identifies a row. A Relation exists only for a table whose WAL records say which row they are
about; any other is refused, with the statement that fixes it.

https://www.postgresql.org/docs/current/logical-replication-publication.html
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from walvec_slots.catalog import QUERIES, reading, statement
from walvec_slots.changes import StreamedColumn, StreamedTable
from walvec_slots.errors import PreconditionFailed

ReplicaIdentity = Literal["default", "index", "full", "nothing"]

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

_REPLICA_IDENTITIES: Final[Mapping[str, ReplicaIdentity]] = {
    "d": "default",
    "i": "index",
    "f": "full",
    "n": "nothing",
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


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A unique index on columns alone, over the whole table.

    `immediate`: it is not deferrable.
    """

    name: str
    is_primary: bool
    is_replica_identity: bool
    immediate: bool
    not_null: bool
    columns: tuple[str, ...]

    @property
    def identifies(self) -> bool:
        """Whether PostgreSQL would accept it as a replica identity."""
        return self.immediate and self.not_null

    def serves(self, replica_identity: ReplicaIdentity) -> bool:
        """Whether WAL records carry its columns, and these identify a row."""
        match replica_identity:
            case "nothing":
                return False
            case "default":
                return self.is_primary and self.immediate
            case "index":
                return self.is_replica_identity
            case "full":
                return self.identifies


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
        indexes = _by_table(await cursor.fetchall())
    key = _key(table, indexes[table["oid"]])
    for leaf in leaves:
        _require_identity(leaf, key, indexes[leaf["oid"]])
    return Relation(
        oid=table["oid"],
        version=table["version"],
        schema=table["schema"],
        name=table["name"],
        kind=table["kind"],
        columns=tuple(_column(row) for row in columns),
        replica_identity=_REPLICA_IDENTITIES[table["replica_identity"]],
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


def identity_columns(
    replica_identity: ReplicaIdentity, indexes: Sequence[UniqueIndex]
) -> tuple[str, ...] | None:
    """Return the columns that identify a row, None if there are none.

    `indexes` has the best one first. Under FULL, where the WAL has all columns, they are those of a unique
    index that PostgreSQL could have used.
    """
    return next((index.columns for index in indexes if index.serves(replica_identity)), None)


def quoted(schema: str, name: str) -> str:
    """Return a table's name as SQL has it, for messages."""
    return sql.Identifier(schema, name).as_string()


def _column(row: DictRow) -> Column:
    fields = {name: value for name, value in row.items() if name != "canonical"}
    operators = KeyOperators(*fields.pop("operators") or ())
    return Column(**fields, operators=operators)


def _leaf(row: DictRow) -> Leaf:
    return Leaf(row["oid"], row["schema"], row["name"], row["version"])


def _by_table(rows: Iterable[DictRow]) -> Mapping[int, list[UniqueIndex]]:
    indexes: defaultdict[int, list[UniqueIndex]] = defaultdict(list)
    for row in rows:
        table, columns = row.pop("table_oid"), tuple(row.pop("columns"))
        indexes[table].append(UniqueIndex(**row, columns=columns))
    return indexes


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


def _key(table: DictRow, indexes: Sequence[UniqueIndex]) -> tuple[str, ...]:
    replica_identity = _REPLICA_IDENTITIES[table["replica_identity"]]
    key = identity_columns(replica_identity, indexes)
    if key is None:
        name = sql.Identifier(table["schema"], table["name"])
        reason = _reason(replica_identity, indexes)
        raise PreconditionFailed(
            f"{name.as_string()} {reason}, so its updates and deletes cannot be followed",
            hint=_remedy(name, indexes),
        )
    return key


def _reason(replica_identity: ReplicaIdentity, indexes: Sequence[UniqueIndex]) -> str:
    match replica_identity:
        case "nothing":
            return "has the replica identity NOTHING"
        case "index":
            return "has lost the index that was its replica identity"
        case "full":
            return "has the replica identity FULL but no immediate unique index on NOT NULL columns"
        case "default":
            primary = any(index.is_primary for index in indexes)
            return "has a deferrable primary key" if primary else "has no primary key"


def _remedy(table: sql.Identifier, indexes: Sequence[UniqueIndex]) -> str:
    """Return the least intrusive statement that gives the table an identity."""
    best = next((index for index in indexes if index.identifies), None)
    if best is not None and best.is_primary:
        return statement("identify_by_primary_key", table=table)
    if best is not None:
        return statement("identify_by_index", table=table, index=sql.Identifier(best.name))
    deferrable = next((index for index in indexes if index.not_null), None)
    if deferrable is not None:
        columns = sql.SQL(", ").join(map(sql.Identifier, deferrable.columns))
        index = statement("add_immediate_index", table=table, columns=columns)
        return f"{index}, then {statement('identify_by_all_columns', table=table)}"
    return statement("add_primary_key", table=table)


def _require_identity(leaf: DictRow, key: tuple[str, ...], indexes: Sequence[UniqueIndex]) -> None:
    """Refuse a leaf whose WAL records lack part of the key.

    Each partition has its own replica identity.
    """
    name = quoted(leaf["schema"], leaf["name"])
    if leaf["kind"] != "r":
        raise PreconditionFailed(f"Partition {name} is a foreign table, so the WAL has no changes of it")
    replica_identity = _REPLICA_IDENTITIES[leaf["replica_identity"]]
    if replica_identity == "full" or set(key) <= set(identity_columns(replica_identity, indexes) or ()):
        return
    table = sql.Identifier(leaf["schema"], leaf["name"])
    fitting = next((index for index in indexes if index.identifies and set(key) <= set(index.columns)), None)
    if fitting is None:
        hint = statement("identify_by_all_columns", table=table)
    elif fitting.is_primary:
        hint = statement("identify_by_primary_key", table=table)
    else:
        hint = statement("identify_by_index", table=table, index=sql.Identifier(fitting.name))
    raise PreconditionFailed(
        f"The replica identity of {name} does not include the whole key ({', '.join(key)})", hint=hint
    )
