"""Slots: list, find, create, drop, advance, copy.

https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION

All of it over an ordinary connection in autocommit. Every refusal of the server becomes an error of this
package; a lost connection raises psycopg's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
from psycopg import errors, sql
from psycopg.rows import DictRow, dict_row

from walvec_slots.catalog import QUERIES, statement
from walvec_slots.errors import PreconditionFailed, SlotBlocked
from walvec_slots.lsn import Lsn
from walvec_slots.settle import Connection
from walvec_slots.sqlstates import change_refused, creation_refused

# NAMEDATALEN - 1.
_LONGEST_NAME: Final = 63  # bytes


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot.

    What the server's version does not report is None. A physical slot has the plugin None. WAL is kept from
    `restart_lsn` on, which is `retained_bytes`; a stream begins at `confirmed_flush_lsn`, and the WAL from
    there is `unconfirmed_bytes`. `wal_status` is reserved, extended, unreserved or lost. `safe_wal_size` is
    how many bytes may be written before the slot is in danger, None where no limit is set. A good slot has
    the `invalidation_reason` None. Standbys keep a copy of a `failover` slot. A `synced` slot is such a copy,
    or was one until the server was promoted.
    """

    name: str
    plugin: str | None
    database: str | None
    active: bool
    active_pid: int | None
    restart_lsn: Lsn | None
    confirmed_flush_lsn: Lsn | None
    wal_status: str | None
    safe_wal_size: int | None
    invalidation_reason: str | None
    retained_bytes: int | None
    unconfirmed_bytes: int | None
    temporary: bool
    two_phase: bool
    failover: bool | None
    synced: bool | None
    inactive_since: datetime | None

    @property
    def came_along(self) -> bool:
        """Whether a standby kept the slot in step before it was promoted."""
        return bool(self.failover and self.synced and not self.temporary)

    @property
    def is_lost(self) -> bool:
        """Whether the server has given the slot up: what it had not sent is gone."""
        return self.invalidation_reason is not None or self.wal_status == "lost"


async def list_slots(conn: Connection) -> list[Slot]:
    """Return every slot of the server, physical ones and other databases' included."""
    return [_slot(row) for row in await _fetch(conn, "slots", name=None)]


async def find_slot(conn: Connection, name: str) -> Slot | None:
    """Return the slot of that name, if there is one."""
    return next((_slot(row) for row in await _fetch(conn, "slots", name=name)), None)


async def create_slot(
    conn: Connection,
    name: str,
    plugin: str,
    *,
    time_limit: float,
    temporary: bool = False,
    failover: bool = False,
) -> Lsn:
    """Create a logical slot in the connection's database.

    Returns where its stream begins. It waits for every open transaction that has written anything, in any
    database, but at most `time_limit` seconds; then it raises SlotBlocked with the transactions in the way
    and the statements that end them. A `failover` slot, of which standbys keep a copy, needs PostgreSQL 17
    and cannot be temporary.

    Raises PreconditionFailed for a name in use, no slot free, a plugin missing or not allowed, the right to
    replicate or wal_level.
    """
    _require_name(name)
    try:
        async with conn.transaction():
            await _fetch(conn, "limit_statements", milliseconds=max(1, round(time_limit * 1000)))
            query = "create_failover_slot" if failover else "create_slot"
            [row] = await _fetch(conn, query, name=name, plugin=plugin, temporary=temporary)
    except errors.QueryCanceled:
        raise _blocked(name, time_limit, await _fetch(conn, "blockers")) from None
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        [right] = await _fetch(conn, "may_replicate")
        usable = plugin if right["allowed"] else None
        raise creation_refused(name, error.sqlstate, _said(error), conn.info.user, usable) from error
    return Lsn.parse(row["lsn"])


async def open_writers(conn: Connection) -> list[str]:
    """Describe the oldest open transactions that have written, in any database."""
    return [_describe(row) for row in await _fetch(conn, "blockers")]


async def drop_slot(conn: Connection, name: str) -> None:
    """Drop a slot.

    Raises SlotActive while a process holds it, PreconditionFailed if there is none.
    """
    with _refusals(conn, name):
        await _fetch(conn, "drop_slot", name=name)


async def advance_slot(conn: Connection, name: str, lsn: Lsn) -> Lsn:
    """Confirm everything before `lsn` unread, so that it is never sent.

    Returns how far the slot got. Raises SlotActive, and PreconditionFailed for a position behind the slot's
    or past the end of the WAL.
    """
    [row] = await _fetch(conn, "flush_position")
    if lsn > (end := Lsn.parse(row["lsn"])):
        raise PreconditionFailed(f'Slot "{name}" cannot be advanced to {lsn}: the WAL ends at {end}')
    with _refusals(conn, name):
        [row] = await _fetch(conn, "advance_slot", name=name, lsn=str(lsn))
    return Lsn.parse(row["lsn"])


async def copy_slot(conn: Connection, source: str, name: str) -> Lsn:
    """Copy a slot, active or not; return where the copy's stream begins.

    The copy is never a failover slot; `failover.set_failover` makes it one. Raises PreconditionFailed.
    """
    _require_name(name)
    with _refusals(conn, source):
        [row] = await _fetch(conn, "copy_slot", source=source, name=name)
    return Lsn.parse(row["lsn"])


async def count_messages(conn: Connection, name: str, until: Lsn, options: Mapping[str, str]) -> int:
    """Count the messages that a slot would send of the transactions up to a position.

    The slot stays where it is.
    """
    words = [word for option in options.items() for word in option]
    [row] = await _fetch(conn, "count_messages", name=name, until=str(until), options=words)
    return int(row["messages"])


async def _fetch(conn: Connection, query: str, **parameters: object) -> list[DictRow]:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES[query], parameters)
        return await cursor.fetchall()


def _slot(row: DictRow) -> Slot:
    for column in ("restart_lsn", "confirmed_flush_lsn"):
        row[column] = row[column] and Lsn.parse(row[column])
    return Slot(**row)


@contextmanager
def _refusals(conn: Connection, name: str) -> Iterator[None]:
    _require_name(name)
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        raise change_refused(name, error.sqlstate, _said(error), conn.info.user) from error


def _require_name(name: str) -> None:
    """Refuse a name that the server would truncate: it would be another slot's."""
    if len(name.encode()) > _LONGEST_NAME:
        raise PreconditionFailed(f'The slot name "{name}" is longer than {_LONGEST_NAME} bytes')


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)


def _blocked(name: str, time_limit: float, blockers: Sequence[DictRow]) -> SlotBlocked:
    """Name the transactions in the way, but for those that have ended meanwhile."""
    what = f'Slot "{name}" was not created within {time_limit:g} s'
    if not blockers:
        return SlotBlocked(f"{what}: it waited for transactions that have ended since", hint="try again")
    described = ", ".join(_describe(row) for row in blockers)
    statements = "; ".join(_end(row) for row in blockers)
    return SlotBlocked(f"{what}: it waits for {described}", hint=f"wait, or end them: {statements}")


def _describe(row: DictRow) -> str:
    age = "of unknown age" if row["age"] is None else f"open for {float(row['age']):.0f} s"
    database = f"in database {row['database']}" if row["database"] else "in a database hidden from this role"
    if row["pid"] is None:
        return f'the prepared transaction "{row["name"]}" {database}, {age}'
    return f'process {row["pid"]} ("{row["name"] or "unnamed"}") {database}, {age}'


def _end(row: DictRow) -> str:
    if row["pid"] is None:
        return statement("end_prepared", gid=sql.Literal(row["name"]))
    return statement("end_session", pid=sql.Literal(row["pid"]))
