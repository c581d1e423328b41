"""The stream: start a slot, read its frames, send standby status.

`walsender.py` has the socket, the plugin's decoder reads the payloads, and `ack.py` alone decides what to
confirm.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self

import psycopg
from psycopg import sql

from walvec_slots.catalog import QUERIES
from walvec_slots.changes import StreamedTable
from walvec_slots.errors import ConnectionLost
from walvec_slots.lsn import Lsn
from walvec_slots.plugin import Decoder, Plugin
from walvec_slots.protocol import POSTGRES_EPOCH_US, Keepalive, StandbyStatus, XLogData, decode_frame
from walvec_slots.sqlstates import UNKNOWN_OPTION, start_refused, stream_ended
from walvec_slots.walsender import CommandFailed, Notice, Walsender

# How long the server waits for a status before it gives the connection up.
SENDER_TIMEOUT: Final = 60.0  # seconds

# One read() returns after about this much.
READ_LIMIT: Final = 1 << 20  # bytes

# Small transactions in quick succession are read together after a pause, because waking up for each of them
# costs several times what reading it does. One that comes alone is read at once, and after a pause that
# brought much, there is none for a while.
_PAUSE: Final = 0.002  # seconds
_MUCH: Final = 1 << 15  # bytes
_WITHOUT_PAUSE: Final = 0.1  # seconds

# Two statuses are at least this far apart, however often the server asks.
_SHORTEST_INTERVAL: Final = 0.1  # seconds

# This many requests for a status within this time mean that the server is shutting down.
_REQUESTS: Final = 20
_REQUESTS_SPAN: Final = 5.0  # seconds

Frame = XLogData | Keepalive


class ReplicationStream:
    """One walsender connection, made by `connect` and started once.

    A status is due every `status_interval` seconds. As a context manager it closes itself.
    """

    def __init__(self, walsender: Walsender, sender_timeout: float) -> None:
        self.status_interval = min(sender_timeout / 3, 10.0)
        self._walsender = walsender
        self._slot, self._plugin = "", ""
        # The position of the newest frame.
        self._position = Lsn(0)
        # Not before these times, by time.monotonic().
        self._next_read = self._next_pause = 0.0
        self._requests: deque[float] = deque(maxlen=_REQUESTS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @classmethod
    async def connect(
        cls,
        conninfo: str,
        *,
        on_notice: Callable[[Notice], None],
        sender_timeout: float = SENDER_TIMEOUT,
        decoding_memory: str | None = None,
    ) -> Self:
        """Connect to the database of `conninfo` for replication.

        The connection must be direct, because poolers do not pass replication on. `on_notice` receives
        warnings, the only trace of changes that the output plugin must leave out. `decoding_memory`, such as
        "256MB", is what the server may hold of open transactions before it writes them to its disk; None
        leaves it to the server. Raises PreconditionFailed if the role may not replicate, ConnectionLost if
        the server cannot be reached.
        """
        settings = {"logical_decoding_work_mem": decoding_memory} if decoding_memory else {}
        walsender = await Walsender.connect(
            conninfo, on_notice=on_notice, sender_timeout=sender_timeout, settings=settings
        )
        return cls(walsender, sender_timeout)

    @property
    def backend_pid(self) -> int:
        """The process id of the server's walsender."""
        return self._walsender.backend_pid

    @property
    def session(self) -> psycopg.AsyncConnection[Any]:
        """The session, for ordinary statements before the stream starts."""
        return self._walsender.session

    async def start(
        self, slot: str, plugin: Plugin, publication: str, tables: Sequence[StreamedTable]
    ) -> Decoder:
        """Begin where the slot was last confirmed; return this stream's decoder.

        The decoder gives changes of `tables`; `publication` must publish them. wal2json is asked for the
        tables, pgoutput for the publication. Raises SlotActive, SlotLost, PreconditionFailed (right, plugin
        or option), ConnectionLost.
        """
        options = plugin.options(publication, tables)
        await self.start_with(slot, plugin.name, options, plugin.optional)
        return plugin.decoder(tables)

    async def start_with(
        self, slot: str, plugin: str, options: Mapping[str, str], optional: Mapping[str, str]
    ) -> None:
        """Begin as `start` does, with these options, at least one; raise as it does.

        The `optional` ones are left out if the plugin does not know them.
        """
        self._slot, self._plugin = slot, plugin
        try:
            await self._start({**options, **optional})
        except CommandFailed as failure:
            if not optional or failure.sqlstate != UNKNOWN_OPTION:
                raise start_refused(slot, plugin, failure.sqlstate, str(failure)) from None
            await self.start_with(slot, plugin, options, {})

    async def read(self, limit: int = READ_LIMIT) -> list[Frame]:
        """Return the frames that have arrived, after waiting for the first.

        They are about `limit` bytes at most, or one frame. A read may be cancelled without losing a frame;
        there is one reader at a time. Frames that came together with the end of the stream are dropped:
        they are not confirmed, and come again.

        Raises ConnectionLost; SlotLost if the slot was invalidated; SlotWedged if the server fails to decode.
        """
        # It sleeps even for 0 s: a stream that never runs dry must not keep other tasks from running.
        await asyncio.sleep(max(0.0, self._next_read - time.monotonic()))
        try:
            while not (received := self._walsender.receive(limit)):
                await self._walsender.readable()
        except CommandFailed as failure:
            raise stream_ended(
                self._slot, self._plugin, failure.sqlstate, str(failure), self._position
            ) from None
        except psycopg.Error as error:
            raise ConnectionLost(f'The stream of slot "{self._slot}" broke off: {error}') from error
        now = time.monotonic()
        if sum(map(len, received)) >= _MUCH:
            self._next_pause = now + _WITHOUT_PAUSE
        elif now >= self._next_pause:
            self._next_read = now + _PAUSE
        frames = [decode_frame(data) for data in received]
        self._note(frames[-1])
        return frames

    async def send(self, status: StandbyStatus) -> None:
        """Send a status; another task may be in `read`. Raises ConnectionLost."""
        try:
            await self._walsender.put(status.encode(time.time_ns() // 1000 - POSTGRES_EPOCH_US))
        except psycopg.Error as error:
            raise ConnectionLost(f'Could not send a status for slot "{self._slot}": {error}') from error

    async def close(self) -> None:
        """End the stream and free the slot.

        Safe to repeat. A `read` that still waits raises ConnectionLost.
        """
        await self._walsender.close()

    async def _start(self, options: Mapping[str, str]) -> None:
        pairs = sql.SQL(", ").join(
            sql.SQL(" ").join((sql.Identifier(name), _OptionValue(value))) for name, value in options.items()
        )
        command = sql.SQL(QUERIES["start_replication"]).format(slot=sql.Identifier(self._slot), options=pairs)
        try:
            await self._walsender.copy(command.as_bytes())
        except psycopg.Error as error:
            raise ConnectionLost(f'Could not start slot "{self._slot}": {error}') from error

    def _note(self, newest: Frame) -> None:
        """Remember the position; give up when the server asks for status after status.

        It does so only while it shuts down. It waits until everything that it sent is confirmed, and asks
        again after every reply, for as long as the work takes. Without this stream it stops at once.
        """
        if isinstance(newest, XLogData):
            # The start is 0 where the message has no position in the WAL, as pgoutput's Relation.
            self._position = max(self._position, newest.start)
            return
        self._position = max(self._position, newest.wal_end)
        if not newest.reply_requested:
            return
        now = time.monotonic()
        self._requests.append(now)
        if len(self._requests) == _REQUESTS and now - self._requests[0] < _REQUESTS_SPAN:
            raise ConnectionLost(f'The server is shutting down and waits for slot "{self._slot}"')


async def feedback(
    stream: ReplicationStream,
    status: Callable[[], StandbyStatus],
    interval: float,
    poke: asyncio.Event,
    on_sent: Callable[[StandbyStatus], None] = lambda _: None,
) -> None:
    """Send `status()` every `interval` seconds, and soon after `poke` is set.

    Never returns: run it as a task beside the work, so that the server hears from this side however slow the
    work is. `on_sent` is called with each status once it is on its way. At most ten a second are sent,
    because a server that shuts down answers each one with a request for the next. Raises ConnectionLost.
    """
    while True:
        poke.clear()
        sending = status()
        await stream.send(sending)
        on_sent(sending)
        await asyncio.sleep(_SHORTEST_INTERVAL)
        with suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await poke.wait()


class _OptionValue(sql.Composable):
    """A string in the replication grammar: quotes doubled, backslashes kept, no E'…'."""

    def as_bytes(self, _context: object = None) -> bytes:
        return b"'" + str(self._obj).replace("'", "''").encode() + b"'"
