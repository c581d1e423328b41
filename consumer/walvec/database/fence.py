"""One writer for a slot: the lock that its session holds in the target.

The lock ends with its session. After a connection broke, the holder may be a session of this very process
that the server has not ended yet, or its walsender: `OwnSessions` tells these from other processes'.

It is an advisory lock, because any other would need a transaction that stays open and keeps VACUUM from its
work. Any role that can connect may take one. Two things follow:

1. The lock decides who waits, not who may write: every transaction proves that for itself (`stages.write`).
2. A role without rights on walvec's tables cannot keep walvec waiting. The lock's key stands in a table that
   such a role cannot read; if it holds the lock all the same, the lock gets another key.
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

# Seconds between two tries for what another session holds.
INTERVAL = 0.5

# The lock of commands that create or drop things. No slot can have this name.
_COMMANDS: Final = "walvec commands"

# The key of such a command's lock while there may be no table yet: the bytes of "walvec".
_FIRST_COMMAND: Final = 0x77616C766563

_QUERIES, _SESSION = load_sql("metadata.sql"), load_sql("session.sql")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """The session that holds the lock, as the server shows it.

    None stands for what this role may not see. `began` tells it from another one with the same process id, as
    after a restart. `may_write`: its role may write walvec's tables, or that cannot be seen.
    """

    pid: int
    began: str | None
    role: str | None
    application: str | None
    may_write: bool = True

    def __str__(self) -> str:
        """Name the session for a message, on one line whatever its names hold."""
        known = [("role", self.role), ("application", self.application)]
        words = ", ".join(f"{name} {printable(value)}" for name, value in known if value)
        return f"session {self.pid} ({words})" if words else f"session {self.pid}"


async def find_holder(connection: Connection, slot: str) -> Holder | None:
    """Return the session that holds the slot's lock in this database, if any does."""
    key = await _find_key(connection, slot)
    return None if key is None else await _holder_of(connection, key)


@asynccontextmanager
async def fenced(connection: Connection, slot: str, *, hint: str) -> AsyncIterator[None]:
    """Be the slot's one writer within a block.

    Raises SlotActive where another session is, naming it, with `hint`.
    """
    key = await _take_lock(connection, slot)
    if key is None:
        holder = await find_holder(connection, slot)
        raise SlotActive(f'{_sentence_name(holder)} writes for slot "{slot}"', hint=hint)
    try:
        yield
    finally:
        if not connection.closed:
            await _release_lock(connection, key)


async def _take_lock(connection: Connection, slot: str) -> int | None:
    """Take the slot's lock and return its key; None where another session has it."""
    while True:
        key = await _find_or_add_key(connection, slot)
        if await _try_lock(connection, key):
            if await _find_key(connection, slot) == key:
                return key
            await _release_lock(connection, key)
            continue
        holder = await _holder_of(connection, key)
        if holder is None or holder.may_write:
            return None
        _log.warning(
            "slot.lock_ignored",
            slot=slot,
            holder=str(holder),
        )
        values = {"slot": slot, "key": _new_key(), "before": key}
        await connection.execute(_QUERIES["rename_fence"], values)


@asynccontextmanager
async def only_command(connection: Connection) -> AsyncIterator[None]:
    """Let one command at a time create or drop things for this target.

    The first setup has no table to keep its lock's key in, so that lock always has the same key, and a role
    without rights that holds it is passed over. Once the tables exist, a command also takes a lock like a
    slot's, so that two commands that passed such a role over still see each other.

    Raises SlotActive for a second command.
    """
    held: list[int] = []
    try:
        if await _try_lock(connection, _FIRST_COMMAND):
            held.append(_FIRST_COMMAND)
        else:
            holder = await _holder_of(connection, _FIRST_COMMAND)
            if holder is None or holder.may_write:
                raise _is_at_work(holder)
        # What lies in another role's schema could run its owner's code.
        if await require_own_schema(connection) and await _has_key_table(connection):
            key = await _take_lock(connection, _COMMANDS)
            if key is None:
                raise _is_at_work(await find_holder(connection, _COMMANDS))
            held.append(key)
        yield
    finally:
        if not connection.closed:
            for key in held:
                await _release_lock(connection, key)


def _is_at_work(holder: Holder | None) -> SlotActive:
    by = f": {holder}" if holder else ""
    return SlotActive(
        f"Another walvec setup, resync, replay or teardown is at work in this target{by}",
        hint="wait until it has ended, then repeat",
    )


def _sentence_name(holder: Holder | None) -> str:
    """Name a session at the beginning of a sentence."""
    return f"S{str(holder).removeprefix('s')}" if holder else "Another session"


async def _has_key_table(connection: Connection) -> bool:
    cursor = await connection.execute(_QUERIES["fence_exists"])
    return await cursor.fetchone() == (True,)


async def _find_or_add_key(connection: Connection, slot: str) -> int:
    """Return the key of the slot's lock; choose one where it has none yet."""
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


async def _release_lock(connection: Connection, key: int) -> None:
    await connection.execute(_QUERIES["release_lock"], {"key": key})


async def _holder_of(connection: Connection, key: int) -> Holder | None:
    cursor = connection.cursor(row_factory=class_row(Holder))
    await cursor.execute(_QUERIES["lock_holder"], {"key": key})
    return await cursor.fetchone()


class OwnSessions:
    """This process's sessions, past ones included, and the wait for those to end."""

    def __init__(self, waiting: Callable[[str], None] = lambda _: None) -> None:
        """Begin with no session; `waiting` gets what is waited for, whenever that changes."""
        self._waiting = waiting
        # The server process's id, and when it began.
        self._writers: set[tuple[int, str | None]] = set()
        self._streams: set[tuple[int, str | None]] = set()

    async def add_stream(self, catalog: Connection, pid: int) -> None:
        """Note the server process of a stream on the source."""
        self._streams.add((pid, await _session_began(catalog, pid)))

    async def take_fence(self, writer: Connection, slot: str, *, wait: bool) -> None:
        """Make `writer` the session that writes for the slot.

        It always waits for an earlier session of this process, and with `wait` for any other. Without `wait`
        it raises SlotActive.
        """
        seen: Holder | None = None
        while await _take_lock(writer, slot) is None:
            holder = await find_holder(writer, slot)
            is_own = holder is not None and (holder.pid, holder.began) in self._writers
            if holder and not is_own and not wait:
                raise SlotActive(
                    f'{_sentence_name(holder)} writes for slot "{slot}"',
                    hint="end it, or wait for it with --wait",
                )
            if holder and (seen is None or seen.pid != holder.pid):
                seen = holder
                self._say(str(holder), slot, is_own=is_own)
            await asyncio.sleep(INTERVAL)
        pid = writer.info.backend_pid
        self._writers.add((pid, await _session_began(writer, pid)))

    async def outlive(self, catalog: Connection, slot: str, refusal: SlotActive) -> None:
        """Wait until no earlier stream of this process holds the slot.

        Raises `refusal` if another process holds it.
        """
        seen: int | None = None
        while (found := await find_slot(catalog, slot)) and found.active_pid is not None:
            if (found.active_pid, await _session_began(catalog, found.active_pid)) not in self._streams:
                # It may have ended just now.
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
            _log.info("slot.waiting_for_own_session", slot=slot, holder=holder)
        else:
            self._waiting(f"waiting for {holder}, which writes for the slot")
            _log.info("slot.waiting", slot=slot, holder=holder)


async def _session_began(connection: Connection, pid: int) -> str | None:
    """Return when a session of this server began.

    Returns None where it has ended, or this role may not see it.
    """
    cursor = await connection.execute(_SESSION["session_began"], {"pid": pid})
    row = await cursor.fetchone()
    began: str | None = row[0] if row else None
    return began
