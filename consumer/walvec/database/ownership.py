"""What walvec made, and what it must not touch.

`walvec.made` records every slot, publication, schema, table and index before walvec creates it. Only what is
recorded there is ever altered or dropped. What somebody else made may be used where that is harmless:

- a publication that already publishes the tables,
- a target table that belongs to walvec's role and runs no code when it is written,
- an index that serves the search.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql
from psycopg.rows import class_row, dict_row

from walvec.config.table_name import TableName
from walvec.database.registry import VectorizerState
from walvec_slots.errors import PreconditionFailed
from walvec_slots.manage import Slot
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("ownership.sql")

OwnedKind = Literal["slot", "publication", "schema", "table", "index"]


@dataclass(frozen=True, slots=True)
class Made:
    """One thing that walvec made for a slot; without an oid, whatever has the name."""

    slot: str
    kind: OwnedKind
    name: str
    oid: int | None


@dataclass(frozen=True, slots=True)
class Ownership:
    """Everything that walvec is recorded to have made in or for one target database."""

    entries: tuple[Made, ...] = ()

    def maker(self, kind: OwnedKind, name: str, oid: int | None = None) -> str | None:
        """Return the slot that a thing was made for; None where walvec did not make it."""
        return next(
            (
                entry.slot
                for entry in self.entries
                if (entry.kind, entry.name) == (kind, name) and entry.oid in (None, oid)
            ),
            None,
        )

    def made_for(self, slot: str, kind: OwnedKind) -> list[Made]:
        """Return what was made for a slot."""
        return [entry for entry in self.entries if (entry.slot, entry.kind) == (slot, kind)]


async def load_ledger(connection: Connection) -> Ownership:
    """Read what walvec made; nothing before its first setup.

    The schema must be walvec's own: see `require_own_schema`.
    """
    cursor = await connection.execute(_QUERIES["made_exists"])
    if await cursor.fetchone() != (True,):
        return Ownership()
    entries = connection.cursor(row_factory=class_row(Made))
    await entries.execute(_QUERIES["load_made"])
    return Ownership(tuple(await entries.fetchall()))


async def announce(connection: Connection, slot: str, kind: OwnedKind, name: str) -> bool:
    """Record what is about to be created; return False where it was recorded already."""
    cursor = await connection.execute(_QUERIES["announce"], {"slot": slot, "kind": kind, "name": name})
    return await cursor.fetchone() is not None


async def record(connection: Connection, made: Made) -> None:
    """Record what was created, with its oid."""
    values = {"slot": made.slot, "kind": made.kind, "name": made.name, "oid": made.oid}
    await connection.execute(_QUERIES["record"], values)


async def forget(connection: Connection, slot: str, kind: OwnedKind, name: str) -> None:
    """Remove the record of what no longer exists."""
    await connection.execute(_QUERIES["forget"], {"slot": slot, "kind": kind, "name": name})


async def hand_over(connection: Connection, slot: str, table: TableName, oid: int | None) -> None:
    """Record a table that an earlier slot left behind as made for this one."""
    await connection.execute(_QUERIES["hand_over"], {"slot": slot, "name": str(table), "oid": oid})


async def forget_slot(connection: Connection, slot: str, kinds: Iterable[OwnedKind]) -> None:
    """Remove a slot's records of these kinds, and of indexes gone with their table."""
    await connection.execute(_QUERIES["forget_slot"], {"slot": slot, "kinds": list(kinds)})


async def drop_records(connection: Connection) -> str | None:
    """Drop walvec's own tables, and the schema if setup made it; return which.

    Nothing is dropped while a slot needs them, or something is recorded that walvec made.
    """
    row = await _ask_row(connection, "is_unused")
    if not row or not row["unused"]:
        return None
    await connection.execute(_QUERIES["drop_tables"])
    if not row["made"]:
        return "walvec's tables in schema walvec"
    await connection.execute(_QUERIES["drop_schema"])
    return "schema walvec"


async def drop_table(connection: Connection, table: TableName) -> None:
    """Drop a table that walvec made, unless something depends on it."""
    await connection.execute(sql.SQL(_QUERIES["drop_table"]).format(table=sql.Identifier(*table)))


# -- What must not be touched -----------------------------------------------------------------------------


async def require_own_schema(connection: Connection) -> bool:
    """Return whether schema walvec exists.

    Raises PreconditionFailed where it belongs to another role, or holds what walvec did not make. Only the
    catalog is read, because anything in a foreign schema could run its owner's code.
    """
    row = await _ask_row(connection, "schema")
    if row is None:
        return False
    hint = _write_remedy("change_schema_owner", role=sql.Identifier(row["role"]))
    if not row["trusted"]:
        raise PreconditionFailed(
            f"Schema walvec in the target database belongs to role {row['owner']}, not to {row['role']}",
            hint=f"connect as {row['owner']}; or, once you know what it holds: {hint}",
        )
    foreign = [*(row["foreign_tables"] or ()), *(row["foreign_functions"] or ())]
    if foreign:
        raise PreconditionFailed(
            f"Schema walvec in the target holds what walvec setup did not create: {', '.join(foreign)}",
            hint="drop these, or their triggers, rules and policies; if nobody needs the schema: "
            "DROP SCHEMA walvec CASCADE",
        )
    return True


async def find_relation(connection: Connection, table: TableName) -> int | None:
    """Return the oid of the relation with a name in the target, None if there is none."""
    row = await _ask_row(connection, "relation", **table._asdict())
    return None if row is None else int(row["oid"])


async def require_own_table(connection: Connection, ledger: Ownership, table: TableName) -> int | None:
    """Return the oid of a target table, None if there is none.

    Raises PreconditionFailed where it is not walvec's to write. A table that walvec did not make must belong
    to this role and must run no code when it is written.
    """
    row = await _ask_row(connection, "relation", **table._asdict())
    if row is None:
        return None
    if row["kind"] not in {"r", "p"}:
        raise PreconditionFailed(f"The target {table} is not a table", hint="name another target")
    if ledger.maker("table", str(table), row["oid"]):
        return int(row["oid"])
    if not row["owned"]:
        names = {"table": sql.Identifier(*table), "role": sql.Identifier(row["role"])}
        raise PreconditionFailed(
            f"The target table {table} was not made by walvec setup and belongs to role {row['owner']}",
            hint=f"name another target; or, as {row['owner']}: {_write_remedy('change_owner', **names)}",
        )
    if row["bears"]:
        raise PreconditionFailed(
            f"The target table {table} was not made by walvec setup and has {', '.join(row['bears'])}",
            hint="name another target, or drop what would run when walvec writes",
        )
    return int(row["oid"])


def require_own_slot(slot: Slot, ledger: Ownership) -> None:
    """Raise PreconditionFailed where walvec setup did not make the slot of this name."""
    if ledger.maker("slot", slot.name):
        return
    kind = f"of plugin {slot.plugin}, in database {slot.database}" if slot.plugin else "a physical one"
    raise PreconditionFailed(
        f'Slot "{slot.name}" ({kind}) exists, and was not made by walvec setup for this target',
        hint=f"set [source] slot to another name; if nobody reads it: walvec slots drop {slot.name}",
    )


def require_vectorizer(state: VectorizerState | None, name: str, slot: str) -> VectorizerState:
    """Return a vectorizer's state.

    Raises PreconditionFailed where it is not set up, or belongs to another slot.
    """
    if state is None:
        raise PreconditionFailed(f'Vectorizer "{name}" is not set up', hint="run: walvec setup")
    if state.slot != slot:
        raise PreconditionFailed(
            f'Vectorizer "{name}" belongs to slot "{state.slot}"',
            hint=f'give it another name, or set [source] slot = "{state.slot}"',
        )
    return state


def require_free_target(
    states: Mapping[str, VectorizerState], name: str, slot: str, target: TableName, configured: Iterable[str]
) -> None:
    """Raise PreconditionFailed where the target is another vectorizer's.

    A vectorizer of this slot that is no longer configured gives up its target.
    """
    for state in states.values():
        given_up = state.slot == slot and state.name not in configured
        if state.target_table == str(target) and state.name != name and not given_up:
            raise PreconditionFailed(
                f'The target {target} is already that of vectorizer "{state.name}" of slot "{state.slot}"',
                hint=f'give vectorizer "{name}" another target',
            )


async def _ask_row(connection: Connection, query: str, **parameters: object) -> dict[str, Any] | None:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_QUERIES[query], parameters)
        return await cursor.fetchone()


def _write_remedy(name: str, **identifiers: sql.Composable) -> str:
    return sql.SQL(_QUERIES[name]).format(**identifiers).as_string()
