"""What identifies a row in the WAL: replica identity and unique indexes.

https://www.postgresql.org/docs/current/logical-replication-publication.html
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from psycopg import sql
from psycopg.rows import DictRow

from walvec_slots.catalog import statement
from walvec_slots.errors import PreconditionFailed

ReplicaIdentity = Literal["default", "index", "full", "nothing"]

# By the letters of the catalog.
REPLICA_IDENTITIES: Final[Mapping[str, ReplicaIdentity]] = {
    "d": "default",
    "i": "index",
    "f": "full",
    "n": "nothing",
}


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


def identity_columns(
    replica_identity: ReplicaIdentity, indexes: Sequence[UniqueIndex]
) -> tuple[str, ...] | None:
    """Return the columns that identify a row, None if there are none.

    `indexes` has the best one first. Under FULL, where the WAL has all columns, they are those of a unique
    index that PostgreSQL could have used.
    """
    return next((index.columns for index in indexes if index.serves(replica_identity)), None)


def indexes_by_table(rows: Iterable[DictRow]) -> Mapping[int, list[UniqueIndex]]:
    """Return the rows of the statement `unique_indexes`, by the table's oid."""
    indexes: defaultdict[int, list[UniqueIndex]] = defaultdict(list)
    for row in rows:
        table, columns = row.pop("table_oid"), tuple(row.pop("columns"))
        indexes[table].append(UniqueIndex(**row, columns=columns))
    return indexes


def require_key(table: DictRow, indexes: Sequence[UniqueIndex]) -> tuple[str, ...]:
    """Return the columns that identify a row; `indexes` has the best one first.

    Raises PreconditionFailed if there are none.
    """
    replica_identity = REPLICA_IDENTITIES[table["replica_identity"]]
    key = identity_columns(replica_identity, indexes)
    if key is None:
        name = sql.Identifier(table["schema"], table["name"])
        reason = _reason(replica_identity, indexes)
        raise PreconditionFailed(
            f"{name.as_string()} {reason}, so its updates and deletes cannot be followed",
            hint=_remedy(name, indexes),
        )
    return key


def require_whole_key(leaf: DictRow, key: tuple[str, ...], indexes: Sequence[UniqueIndex]) -> None:
    """Raise PreconditionFailed for a leaf whose WAL lacks part of the key.

    Each partition has its own replica identity.
    """
    table = sql.Identifier(leaf["schema"], leaf["name"])
    name = table.as_string()
    if leaf["kind"] != "r":
        raise PreconditionFailed(f"Partition {name} is a foreign table, so the WAL has no changes of it")
    replica_identity = REPLICA_IDENTITIES[leaf["replica_identity"]]
    if replica_identity == "full" or set(key) <= set(identity_columns(replica_identity, indexes) or ()):
        return
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
