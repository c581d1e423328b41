"""One writer for a slot: the lock in the target that a session must hold to write, and who holds it.

The lock lives and dies with its session. After a connection broke, the holder may be a session of this very
process that the server has not ended yet, or its walsender: `OwnSessions` tells these from other processes'.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from psycopg.rows import class_row

from consumer import metadata
from consumer.database import Connection
from consumer.masking import printable
from slots.errors import SlotActive
from slots.manage import inspect
from slots.queries import load

INTERVAL = 0.5  # seconds between two tries for what another session holds

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """The session that holds the lock, as the server shows it. None: this role may not see it."""

    pid: int
    began: str | None  # process ids come back, after a restart above all
    role: str | None
    application: str | None
    waits_for: str | None  # "type: event", while a statement of its own waits
    seconds: float | None  # since when the statement runs

    def __str__(self) -> str:
        """Name it for a message; whatever it calls itself, in one line."""
        known = [("role", self.role), ("application", self.application)]
        words = ", ".join(f"{name} {printable(value)}" for name, value in known if value)
        return f"session {self.pid} ({words})" if words else f"session {self.pid}"


async def find_holder(connection: Connection, slot: str) -> Holder | None:
    """Return the session that holds the slot's lock in this database, if any does."""
    cursor = connection.cursor(row_factory=class_row(Holder))
    await cursor.execute(load("metadata.sql")["fence_holder"], {"slot": slot})
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
        while not await metadata.try_fence(writer, slot):
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
        while (found := await inspect(catalog, slot)) and found.active_pid is not None:
            if (found.active_pid, await _began(catalog, found.active_pid)) not in self._streams:
                # Unless it has ended just now.
                if (now := await inspect(catalog, slot)) and now.active_pid == found.active_pid:
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
    cursor = await connection.execute(load("session.sql")["session_began"], {"pid": pid})
    row = await cursor.fetchone()
    began: str | None = row[0] if row else None
    return began
