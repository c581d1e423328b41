"""The stream: start a slot, read its frames, send standby status.

`walsender.py` has the socket; decoding payloads is the reader's. What to confirm is decided in `ack.py`
alone.
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
from walvec_slots.refusal import UNKNOWN_OPTION, ended, refused
from walvec_slots.walsender import CommandFailed, Notice, Walsender

SENDER_TIMEOUT: Final = 60.0  # seconds without a status after which the server gives the connection up
READ_LIMIT: Final = 1 << 20  # bytes, after which one read() returns

# Small transactions in quick succession come together after a pause: to wake up for each of them costs
# several times what reading it does. One that comes alone is read at once, and where a pause has brought
# much, there is none for a while.
_PAUSE: Final = 0.002  # seconds
_MUCH: Final = 1 << 15  # bytes
_WITHOUT_PAUSE: Final = 0.1  # seconds

_SHORTEST_INTERVAL: Final = 0.1  # seconds between two statuses, however often the server asks
_REQUESTS: Final = 20  # so many requests for a status
_REQUESTS_SPAN: Final = 5.0  # within so many seconds mean that the server is shutting down

Frame = XLogData | Keepalive


class ReplicationStream:
    """One walsender connection. Made by `connect`, `start`ed once."""

    def __init__(self, walsender: Walsender, sender_timeout: float) -> None:
        self.status_interval = min(sender_timeout / 3, 10.0)  # seconds after which a status is due
        self._walsender = walsender
        self._slot, self._plugin = "", ""
        self._position = Lsn(0)  # of the newest frame
        self._next_read = self._next_pause = 0.0  # not before, by time.monotonic()
        self._requests: deque[float] = deque(maxlen=_REQUESTS)

    @classmethod
    async def connect(
        cls,
        conninfo: str,
        *,
        on_notice: Callable[[Notice], None],
        sender_timeout: float = SENDER_TIMEOUT,
    ) -> Self:
        """Connect to the database of `conninfo` for replication, directly: no pooler passes it on.

        `on_notice` receives warnings, the only trace of changes that the output plugin must
        leave out. Raises PreconditionFailed if the role may not replicate, ConnectionLost if the server
        cannot be reached.
        """
        return cls(
            await Walsender.connect(conninfo, on_notice=on_notice, sender_timeout=sender_timeout),
            sender_timeout,
        )

    @property
    def backend_pid(self) -> int:
        """The server process that sends it."""
        return self._walsender.backend_pid

    @property
    def session(self) -> psycopg.AsyncConnection[Any]:
        """The session, for statements before the stream starts."""
        return self._walsender.session

    async def start(
        self, slot: str, plugin: Plugin, publication: str, tables: Sequence[StreamedTable]
    ) -> Decoder:
        """Begin where the slot was last confirmed; return what reads this stream, and no other.

        `tables` are wanted, `publication` is theirs; which of the two counts is the plugin's affair. Raises
        SlotActive, SlotLost, PreconditionFailed (right, plugin or option), ConnectionLost.
        """
        options = plugin.options(publication, tables)
        await self.start_with(slot, plugin.name, options, plugin.optional)
        return plugin.decoder(tables)

    async def start_with(
        self, slot: str, plugin: str, options: Mapping[str, str], optional: Mapping[str, str]
    ) -> None:
        """Begin with at least one option; `optional` ones are left out if the plugin does not know them.

        Raises as `start` does.
        """
        self._slot, self._plugin = slot, plugin
        try:
            await self._start({**options, **optional})
        except CommandFailed as failure:
            if not optional or failure.sqlstate != UNKNOWN_OPTION:
                raise refused(slot, plugin, failure.sqlstate, str(failure)) from None
            await self.start_with(slot, plugin, options, {})

    async def read(self, limit: int = READ_LIMIT) -> list[Frame]:
        """Return the frames at hand, after waiting for the first; about `limit` bytes at most, or one frame.

        May be cancelled without losing a frame. One reader at a time. What came together with the end of the
        stream is dropped: it is not confirmed and comes again.

        Raises ConnectionLost; SlotLost if the slot was invalidated; SlotWedged if the server fails to decode.
        """
        # At least 0: a stream that never runs dry must not keep other tasks from running.
        await asyncio.sleep(max(0.0, self._next_read - time.monotonic()))
        try:
            while not (received := self._walsender.receive(limit)):
                await self._walsender.readable()
        except CommandFailed as failure:
            raise ended(self._slot, self._plugin, failure.sqlstate, str(failure), self._position) from None
        except psycopg.Error as error:
            raise ConnectionLost(f'the stream of slot "{self._slot}" broke off: {error}') from error
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
            raise ConnectionLost(f'no status can be sent for slot "{self._slot}": {error}') from error

    async def close(self) -> None:
        """End the stream and free the slot. Safe to repeat; a `read` still waiting raises ConnectionLost."""
        await self._walsender.close()

    async def _start(self, options: Mapping[str, str]) -> None:
        pairs = sql.SQL(", ").join(
            sql.SQL(" ").join((sql.Identifier(name), _OptionValue(value))) for name, value in options.items()
        )
        command = sql.SQL(QUERIES["start_replication"]).format(slot=sql.Identifier(self._slot), options=pairs)
        try:
            await self._walsender.copy(command.as_bytes())
        except psycopg.Error as error:
            raise ConnectionLost(f'slot "{self._slot}" could not be started: {error}') from error

    def _note(self, newest: Frame) -> None:
        """Remember the position; give up when the server asks for a status over and over.

        It does so only while it shuts down: it waits until all that it sent is confirmed, and asks again
        after every reply, for as long as the work takes. Without this stream it stops at once.
        """
        if isinstance(newest, XLogData):
            # 0 where the message is about no place in the WAL, as pgoutput's Relation.
            self._position = max(self._position, newest.start)
            return
        self._position = max(self._position, newest.wal_end)
        if not newest.reply_requested:
            return
        now = time.monotonic()
        self._requests.append(now)
        if len(self._requests) == _REQUESTS and now - self._requests[0] < _REQUESTS_SPAN:
            raise ConnectionLost(f'the server is shutting down and waits for slot "{self._slot}"')


async def feedback(
    stream: ReplicationStream,
    status: Callable[[], StandbyStatus],
    interval: float,
    poke: asyncio.Event,
    on_sent: Callable[[StandbyStatus], None] = lambda _: None,
) -> None:
    """Send what `status` says every `interval` seconds, and soon after `poke` is set; never return.

    `on_sent` is called with each status once it is on its way.

    A task of its own, so that the server hears of this side however slow the work is. Held to ten a second: a
    server that shuts down answers each one with a request for the next. Raises ConnectionLost.
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
    """A string as the replication grammar has it: quotes doubled, backslashes as they are, no E'…'."""

    def as_bytes(self, _context: object = None) -> bytes:
        return b"'" + str(self._obj).replace("'", "''").encode() + b"'"
