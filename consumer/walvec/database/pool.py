"""A few sessions of one kind, opened when they are needed and closed when idle.

Callers get sessions in the order of asking. A server that is short of connections does not stop the work: a
caller that is refused a session while others are open waits for one of these.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final, NoReturn

import structlog
from psycopg.pq import TransactionStatus

from walvec_slots.errors import ConnectionLost, PreconditionFailed
from walvec_slots.settle import Connection

# Seconds without use, after which a session is closed.
IDLE_AFTER: Final = 60.0

_log = structlog.get_logger(__name__)


class SessionPool:
    """At most `limit` sessions, each of which `connect` opens."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], limit: int) -> None:
        """Open nothing yet."""
        self._connect = connect
        self._places = asyncio.Semaphore(limit)
        self._open = 0

        # Sessions that nobody uses and since when, the one used last at the end.
        self._free: deque[tuple[Connection, float]] = deque()

        # Callers whose session was refused, in the order of asking.
        self._stranded: deque[asyncio.Future[Connection]] = deque()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Connection]:
        """Give a session to the block alone.

        Raises what opening a session raises if no other one is open.
        """
        async with self._places:
            session = self._free.pop()[0] if self._free else await self._open_another()
            try:
                yield session
            finally:
                await self._give_back(session)

    async def close_idle(self) -> NoReturn:
        """Close idle sessions, except the last one; never return."""
        while True:
            await asyncio.sleep(IDLE_AFTER / 4)
            while self._open > 1 and self._free and monotonic() - self._free[0][1] > IDLE_AFTER:
                await self._close(self._free.popleft()[0])

    async def aclose(self) -> None:
        """Close every session that nobody uses."""
        while self._free:
            await self._close(self._free.popleft()[0])

    async def _open_another(self) -> Connection:
        self._open += 1
        try:
            return await self._connect()
        except (ConnectionLost, PreconditionFailed) as error:
            self._open -= 1
            if not self._open:
                raise
            _log.warning("session.refused", what=error.what, open=self._open)
        except BaseException:
            self._open -= 1
            raise
        # One may have been given back while the server was refusing this one.
        if self._free:
            return self._free.pop()[0]
        freed: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._stranded.append(freed)
        try:
            return await freed
        except asyncio.CancelledError:
            if freed.done() and not freed.cancelled():
                await self._give_back(freed.result())
            raise

    async def _give_back(self, session: Connection) -> None:
        """Keep a session for the next caller, unless something is left undone in it."""
        if session.closed or session.info.transaction_status != TransactionStatus.IDLE:
            await self._close(session)
            return
        while self._stranded:
            freed = self._stranded.popleft()
            if not freed.done():
                freed.set_result(session)
                return
        self._free.append((session, monotonic()))

    async def _close(self, session: Connection) -> None:
        self._open -= 1
        await session.close()
