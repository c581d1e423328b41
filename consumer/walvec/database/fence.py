"""One writer for a slot: the lock in the target that a session must hold to write, and who holds it.

The lock lives and dies with its session. After a connection broke, the holder may be a session of this very
process that the server has not ended yet, or its walsender: `OwnSessions` tells these from other processes'.

It is an advisory lock, which anybody may take who may connect, because any other would need a transaction
that stays open and keeps VACUUM from its work. So it decides who waits, and not who may write: that is proven
in every transaction (`write`). And nobody without rights on walvec's tables can keep walvec waiting: what the
lock is called stands in a table that they cannot read, and once such a role holds it, it is called otherwise.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import randbits
from typing import Final, cast

import structlog
from psycopg.rows import class_row

from walvec.config.masking import printable
from walvec.database.ownership import require_own_schema
from walvec_slots.errors import SlotActive
from walvec_slots.manage import find_slot
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

INTERVAL = 0.5  # seconds between two tries for what another session holds

_COMMANDS: Final = "walvec commands"  # those that make or drop things; a slot can bear no such name
_FIRST_COMMAND: Final = 0x77616C766563  # "walvec": the lock of such a command while there may be no table yet

_QUERIES = load_sql("metadata.sql")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """The session that holds the lock, as the server shows it. None: this role may not see it."""

    pid: int
    began: str | None  # process ids come back, after a restart above all
    role: str | None
    application: str | None
    may_write: bool = True  # whether its role may write walvec's tables; True where that cannot be seen

    def __str__(self) -> str:
        """Name it for a message; whatever it calls itself, in one line."""
        known = [("role", self.role), ("application", self.application)]
        words = ", ".join(f"{name} {printable(value)}" for name, value in known if value)
        return f"session {self.pid} ({words})" if words else f"session {self.pid}"


async def find_holder(connection: Connection, slot: str) -> Holder | None:
    """Return the session that holds the slot's lock in this database, if any does."""
    key = await _find_key(connection, slot)
    return None if key is None else await _holder_of(connection, key)


@asynccontextmanager
async def fenced(connection: Connection, slot: str, *, hint: str) -> AsyncIterator[None]:
    """Be the slot's one writer for the length of a block.

    Raises SlotActive, with whose session it is and `hint`, where another one is.
    """
    key = await _take(connection, slot)
    if key is None:
        holder = await find_holder(connection, slot)
        raise SlotActive(f'{holder or "another session"} writes for slot "{slot}"', hint=hint)
    try:
        yield
    finally:
        if not connection.closed:
            await _release(connection, key)


async def _take(connection: Connection, slot: str) -> int | None:
    """Take the slot's lock and return what it is called; None where another session has it."""
    while True:
        key = await _key(connection, slot)
        if await _try_lock(connection, key):
            if await _find_key(connection, slot) == key:
                return key
            await _release(connection, key)
            continue
        holder = await _holder_of(connection, key)
        if holder is None or holder.may_write:
            return None
        _log.warning(
            "a session without rights holds the lock, and is passed over",
            slot=slot,
            holder=str(holder),
        )
        values = {"slot": slot, "key": _new_key(), "before": key}
        await connection.execute(_QUERIES["rename_fence"], values)


@asynccontextmanager
async def only_command(connection: Connection) -> AsyncIterator[None]:
    """Let one command at a time make or drop things for this target. Raises SlotActive for a second one.

    The first setup has no table that could say what its lock is called, so that one always has the same name,
    and somebody without rights who holds it is passed over. Once the tables are there a command takes a lock
    like a slot's as well: two that pass somebody over still see each other.
    """
    held: list[int] = []
    try:
        if await _try_lock(connection, _FIRST_COMMAND):
            held.append(_FIRST_COMMAND)
        else:
            holder = await _holder_of(connection, _FIRST_COMMAND)
            if holder is None or holder.may_write:
                raise _is_at_work(holder)
        # What lies in somebody else's schema could run its owner's code.
        if await require_own_schema(connection) and await _has_names(connection):
            key = await _take(connection, _COMMANDS)
            if key is None:
                raise _is_at_work(await find_holder(connection, _COMMANDS))
            held.append(key)
        yield
    finally:
        if not connection.closed:
            for key in held:
                await _release(connection, key)


def _is_at_work(holder: Holder | None) -> SlotActive:
    by = f": {holder}" if holder else ""
    return SlotActive(
        f"another walvec setup, resync, replay or teardown is at work in this target{by}",
        hint="wait for it, then repeat",
    )


async def _has_names(connection: Connection) -> bool:
    cursor = await connection.execute(_QUERIES["fence_exists"])
    return await cursor.fetchone() == (True,)


async def _key(connection: Connection, slot: str) -> int:
    """Return what the slot's lock is called, and call it something where it has no name yet."""
    while (key := await _find_key(connection, slot)) is None:
        await connection.execute(_QUERIES["add_fence"], {"slot": slot, "key": _new_key()})
    return key


async def _find_key(connection: Connection, slot: str) -> int | None:
    cursor = await connection.execute(_QUERIES["fence_key"], {"slot": slot})
    row = await cursor.fetchone()
    return cast("int", row[0]) if row else None


def _new_key() -> int:
    return randbits(63)


async def _try_lock(connection: Connection, key: int) -> bool:
    cursor = await connection.execute(_QUERIES["try_lock"], {"key": key})
    return await cursor.fetchone() == (True,)


async def _release(connection: Connection, key: int) -> None:
    await connection.execute(_QUERIES["release_lock"], {"key": key})


async def _holder_of(connection: Connection, key: int) -> Holder | None:
    cursor = connection.cursor(row_factory=class_row(Holder))
    await cursor.execute(_QUERIES["lock_holder"], {"key": key})
    return await cursor.fetchone()


class OwnSessions:
    """The server processes of this process's sessions, past ones included, and the waiting for those."""

    def __init__(self, waiting: Callable[[str], None] = lambda _: None) -> None:
        """Know of no session yet; `waiting` is called with what is waited for, whenever that changes."""
        self._waiting = waiting
        self._writers: set[tuple[int, str | None]] = set()  # process id, and when it began
        self._streams: set[tuple[int, str | None]] = set()

    async def add_stream(self, catalog: Connection, pid: int) -> None:
        """Note the server process of a stream on the source."""
        self._streams.add((pid, await _began(catalog, pid)))

    async def take_fence(self, writer: Connection, slot: str, *, wait: bool) -> None:
        """Make `writer` the session that writes for the slot.

        An earlier session of this process is always waited for, another one with `wait`. Raises SlotActive.
        """
        seen: Holder | None = None
        while await _take(writer, slot) is None:
            holder = await find_holder(writer, slot)
            is_own = holder is not None and (holder.pid, holder.began) in self._writers
            if holder and not is_own and not wait:
                raise SlotActive(f'{holder} writes for slot "{slot}"', hint="end it, or wait for it: --wait")
            if holder and (seen is None or seen.pid != holder.pid):
                seen = holder
                self._say(str(holder), slot, is_own=is_own)
            await asyncio.sleep(INTERVAL)
        pid = writer.info.backend_pid
        self._writers.add((pid, await _began(writer, pid)))

    async def outlive(self, catalog: Connection, slot: str, refusal: SlotActive) -> None:
        """Wait until no earlier stream of this process holds the slot; raise `refusal` if another does."""
        seen: int | None = None
        while (found := await find_slot(catalog, slot)) and found.active_pid is not None:
            if (found.active_pid, await _began(catalog, found.active_pid)) not in self._streams:
                # Unless it has ended just now.
                if (now := await find_slot(catalog, slot)) and now.active_pid == found.active_pid:
                    raise refusal
                continue
            if seen != found.active_pid:
                seen = found.active_pid
                self._say(f"session {seen}", slot, is_own=True)
            await asyncio.sleep(INTERVAL)

    def _say(self, holder: str, slot: str, *, is_own: bool) -> None:
        if is_own:
            self._waiting(f"waiting for an earlier session of this process to end: {holder}")
            _log.info("waiting for an earlier session of this process to end", slot=slot, holder=holder)
        else:
            self._waiting(f"waiting for {holder}, which writes for the slot")
            _log.info("waiting for another session to let go of the slot", slot=slot, holder=holder)


async def _began(connection: Connection, pid: int) -> str | None:
    """Return when a session of this server began; None where it is gone or this role may not see it."""
    cursor = await connection.execute(load_sql("session.sql")["session_began"], {"pid": pid})
    row = await cursor.fetchone()
    began: str | None = row[0] if row else None
    return began
