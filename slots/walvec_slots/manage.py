"""Slots by hand: list, inspect, create, drop, advance, copy.

https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION. Over an ordinary
connection, in autocommit. Every refusal of the server becomes an error of this package; a lost connection
stays psycopg's.
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
from walvec_slots.refusal import managed, not_created
from walvec_slots.settle import Connection

_LONGEST_NAME: Final = 63  # bytes; NAMEDATALEN - 1


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot; what the server's version does not tell is None."""

    name: str
    plugin: str | None  # None: a physical slot
    database: str | None
    active: bool
    active_pid: int | None
    restart_lsn: Lsn | None  # WAL is kept from here on
    confirmed_flush_lsn: Lsn | None  # a stream begins here
    wal_status: str | None  # reserved, extended, unreserved or lost
    safe_wal_size: int | None  # bytes that may be written before the slot is in danger; None: no limit is set
    invalidation_reason: str | None  # None: the slot is good
    retained_bytes: int | None  # of WAL, from restart_lsn to the end
    unconfirmed_bytes: int | None  # of WAL, from confirmed_flush_lsn to the end
    temporary: bool
    two_phase: bool
    failover: bool | None
    inactive_since: datetime | None

    @property
    def is_lost(self) -> bool:
        """Whether the server has given it up: what it had not sent is gone."""
        return self.invalidation_reason is not None or self.wal_status == "lost"


async def list_slots(conn: Connection) -> list[Slot]:
    """Return every slot of the server, physical ones and other databases' included."""
    return [_slot(row) for row in await _fetch(conn, "slots", name=None)]


async def inspect(conn: Connection, name: str) -> Slot | None:
    """Return the slot of that name, if there is one."""
    return next((_slot(row) for row in await _fetch(conn, "slots", name=name)), None)


async def create_slot(
    conn: Connection, name: str, plugin: str, *, time_limit: float, temporary: bool = False
) -> Lsn:
    """Create a logical slot in the connection's database; return where its stream begins.

    Takes as long as the oldest transaction that has written anything, in any database, but at most
    `time_limit` seconds; then raises SlotBlocked with the transactions in the way and the statements that end
    them. PreconditionFailed for a name in use, no slot free, a plugin missing or not allowed, the right to
    replicate or wal_level.
    """
    _require_name(name)
    try:
        async with conn.transaction():
            await _fetch(conn, "limit_statements", milliseconds=max(1, round(time_limit * 1000)))
            [row] = await _fetch(conn, "create_slot", name=name, plugin=plugin, temporary=temporary)
    except errors.QueryCanceled:
        raise _blocked(name, time_limit, await _fetch(conn, "blockers")) from None
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        [right] = await _fetch(conn, "may_replicate")
        usable = plugin if right["allowed"] else None
        raise not_created(name, error.sqlstate, _said(error), conn.info.user, usable) from error
    return Lsn.parse(row["lsn"])


async def open_writers(conn: Connection) -> list[str]:
    """Describe the oldest transactions that have written and are still open, in any database."""
    return [_describe(row) for row in await _fetch(conn, "blockers")]


async def drop_slot(conn: Connection, name: str) -> None:
    """Drop a slot. Raises SlotActive while a process holds it, PreconditionFailed if there is none."""
    with _refusals(conn, name):
        await _fetch(conn, "drop_slot", name=name)


async def advance_slot(conn: Connection, name: str, lsn: Lsn) -> Lsn:
    """Confirm everything before `lsn` unread, so that it is never sent; return how far the slot got.

    Raises SlotActive, and PreconditionFailed for a place behind the slot's or past the end of the WAL.
    """
    [row] = await _fetch(conn, "flush_position")
    if lsn > (end := Lsn.parse(row["lsn"])):
        raise PreconditionFailed(f'the slot "{name}" cannot be advanced to {lsn}: the WAL ends at {end}')
    with _refusals(conn, name):
        [row] = await _fetch(conn, "advance_slot", name=name, lsn=str(lsn))
    return Lsn.parse(row["lsn"])


async def copy_slot(conn: Connection, source: str, name: str) -> Lsn:
    """Copy a slot, active or not; return where the copy's stream begins. Raises PreconditionFailed."""
    _require_name(name)
    with _refusals(conn, source):
        [row] = await _fetch(conn, "copy_slot", source=source, name=name)
    return Lsn.parse(row["lsn"])


async def count_messages(conn: Connection, name: str, until: Lsn, options: Mapping[str, str]) -> int:
    """Count what a slot would send of the transactions up to a place; it stays where it is."""
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
        raise managed(name, error.sqlstate, _said(error), conn.info.user) from error


def _require_name(name: str) -> None:
    """Refuse a name that the server would cut to size: the slot meant would be another one."""
    if len(name.encode()) > _LONGEST_NAME:
        raise PreconditionFailed(f'the slot name "{name}" is longer than {_LONGEST_NAME} bytes')


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)


def _blocked(name: str, time_limit: float, blockers: Sequence[DictRow]) -> SlotBlocked:
    """Name the transactions in the way. Those that have ended meanwhile are not among them."""
    what = f'the slot "{name}" was not created within {time_limit:g} s'
    if not blockers:
        return SlotBlocked(f"{what}: open transactions were in the way", hint="they have ended: try again")
    described = ", ".join(_describe(row) for row in blockers)
    statements = "; ".join(_end(row) for row in blockers)
    return SlotBlocked(f"{what}: it waits for {described}", hint=f"wait, or end them: {statements}")


def _describe(row: DictRow) -> str:
    age = "of unknown age" if row["age"] is None else f"open for {float(row['age']):.0f} s"
    database = f"in database {row['database']}" if row["database"] else "in a database not told"
    if row["pid"] is None:
        return f'the prepared transaction "{row["name"]}" {database}, {age}'
    return f'process {row["pid"]} ("{row["name"] or "unnamed"}") {database}, {age}'


def _end(row: DictRow) -> str:
    if row["pid"] is None:
        return statement("end_prepared", gid=sql.Literal(row["name"]))
    return statement("end_session", pid=sql.Literal(row["pid"]))
