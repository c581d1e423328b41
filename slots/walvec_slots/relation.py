"""A table as the stream sees it: columns, the key that identifies its rows, the partitions that hold them.

A Relation exists only for a table whose rows can be told apart by their log records; any other is refused
with the statement that mends it.

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
from walvec_slots.errors import PreconditionFailed

ReplicaIdentity = Literal["default", "index", "full", "nothing"]

_FIRST_NORMAL_OID: Final = 16384  # below it are the types that initdb makes

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
    """What compares a column of a key: the operators of its index's operator class, as SQL, schemas named.

    Under a search path that lacks citext's schema, `=` on two citext values would be that of text.
    """

    equal: str = "OPERATOR(pg_catalog.=)"
    greater: str = "OPERATOR(pg_catalog.>)"
    greater_equal: str = "OPERATOR(pg_catalog.>=)"
    less: str = "OPERATOR(pg_catalog.<)"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `type_name` is SQL text with modifiers, the schema named.

    `version` differs once the column, or what its type prints, was altered: compare it, it says nothing else.
    """

    name: str
    number: int  # attnum; a column that is dropped and added again has another one
    collation_oid: int  # 0: its type has no collation
    version: str
    type_oid: int
    base_type_oid: int  # under any domains
    type_name: str
    not_null: bool
    generated: bool
    base_type_name: str  # under any domains, with the modifiers
    collation: str | None = None  # as SQL; None: the base type's own
    operators: KeyOperators = KeyOperators()


@dataclass(frozen=True, slots=True)
class Leaf:
    """A table that holds rows, which come under its name.

    `version` differs once it was renamed, moved to another schema, or detached and attached again.
    """

    oid: int
    schema: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Relation:
    """An ordinary or partitioned table with a usable key."""

    oid: int
    version: int  # differs once it was renamed or moved to another schema
    schema: str
    name: str
    kind: Literal["r", "p"]
    columns: tuple[Column, ...]
    replica_identity: ReplicaIdentity  # of a partitioned table: its own; the leaves' may be fuller
    key: tuple[str, ...]
    key_is_canonical: bool  # equal keys always have equal text
    leaves: tuple[Leaf, ...]  # an ordinary table's only leaf is itself


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A unique index on columns alone, over the whole table."""

    name: str
    is_primary: bool
    is_replica_identity: bool
    immediate: bool  # not deferrable
    not_null: bool
    columns: tuple[str, ...]

    @property
    def identifies(self) -> bool:
        """Whether PostgreSQL would take it for a replica identity."""
        return self.immediate and self.not_null

    def serves(self, replica_identity: ReplicaIdentity) -> bool:
        """Whether the log carries its columns, and they tell rows apart."""
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

    Raises PreconditionFailed if there is none of that name, if the log does not carry its changes, or if they
    do not say which row they are about.
    """
    async with reading(conn) as cursor:
        await cursor.execute(QUERIES["relation"], {"schema": schema, "name": name})
        table = await cursor.fetchone()
        if table is None:
            raise PreconditionFailed(
                f"there is no table {quoted(schema, name)}", hint="names are spelt exactly, as schema.table"
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
    """Read a table's columns; what the output of a user's own type rests on is part of their version."""
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
    """Return the columns that identify a row, None if there are none; `indexes` with the best first.

    Under FULL, where the log has all columns, those of a unique index that PostgreSQL could have used.
    """
    return next((index.columns for index in indexes if index.serves(replica_identity)), None)


def quoted(schema: str, name: str) -> str:
    """Return a table's name as it stands in SQL, for messages."""
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
            f"{name} is {kind}, which has no changes in the log", hint="name a table that holds the rows"
        )
    if table["persistence"] == "u":
        raise PreconditionFailed(
            f"{name} is unlogged: its changes are not in the log",
            hint=statement("make_logged", table=sql.Identifier(table["schema"], table["name"])),
        )
    if table["persistence"] == "t":
        raise PreconditionFailed(f"{name} is temporary: its changes are not in the log")


def _key(table: DictRow, indexes: Sequence[UniqueIndex]) -> tuple[str, ...]:
    replica_identity = _REPLICA_IDENTITIES[table["replica_identity"]]
    key = identity_columns(replica_identity, indexes)
    if key is None:
        name = sql.Identifier(table["schema"], table["name"])
        reason = _reason(replica_identity, indexes)
        raise PreconditionFailed(
            f"rows of {name.as_string()} cannot be told apart in the log: {reason}",
            hint=_remedy(name, indexes),
        )
    return key


def _reason(replica_identity: ReplicaIdentity, indexes: Sequence[UniqueIndex]) -> str:
    match replica_identity:
        case "nothing":
            return "its replica identity is NOTHING"
        case "index":
            return "the index that was its replica identity is gone"
        case "full":
            return "its replica identity is FULL, and no immediate unique index is on NOT NULL columns alone"
        case "default":
            primary = any(index.is_primary for index in indexes)
            return "its primary key is deferrable" if primary else "it has no primary key"


def _remedy(table: sql.Identifier, indexes: Sequence[UniqueIndex]) -> str:
    """Return the statement that gives the table an identity, the least intrusive one that will do."""
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
    """Refuse a leaf whose log records lack a part of the key: each partition has its own replica identity."""
    name = quoted(leaf["schema"], leaf["name"])
    if leaf["kind"] != "r":
        raise PreconditionFailed(f"the partition {name} is a foreign table: its changes are not in the log")
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
        f"the replica identity of {name} does not carry the key ({', '.join(key)})", hint=hint
    )
