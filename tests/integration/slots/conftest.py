"""A slot with a decoded stream on it."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from slots import manage
from slots.protocol import XLogData
from slots.stream import ReplicationStream
from slots.wal2json import OPTIONAL, Change, Decoder, Event, Message, Truncate, wal2json_options

Table = tuple[str, str]


@dataclass
class Tap:
    """A stream of some tables, and what has been heard beside it."""

    stream: ReplicationStream
    slot: str
    source: psycopg.Connection
    decoder: Decoder
    notices: list[tuple[str, str]] = field(default_factory=list)

    async def events(self) -> list[Event]:
        """Return everything up to now: the source writes a mark, and this reads up to it."""
        self.source.execute("SELECT pg_logical_emit_message(false, 'walvec', 'mark')")
        seen: list[Event] = []
        while True:
            frames = await self.stream.read()
            messages = [frame for frame in frames if isinstance(frame, XLogData)]
            seen += [self.decoder.decode(message.payload, message.start) for message in messages]
            if seen and isinstance(seen[-1], Message) and seen[-1].content == "mark":
                return seen[:-1]

    async def rows(self) -> list[Change | Truncate]:
        """Return the row events up to now."""
        return [event for event in await self.events() if isinstance(event, Change | Truncate)]


OpenTap = Callable[[Sequence[Table]], Awaitable[Tap]]


@pytest.fixture
async def conn(database: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """Give an autocommit connection to `database`, as walvec's own."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def slot_name(database: str) -> str:
    """Give a name that no other test's slot has: slots belong to the whole server."""
    return re.sub("[^a-z0-9]", "_", str(conninfo_to_dict(database)["dbname"]))


@pytest.fixture
async def tap(
    database: str, source: psycopg.Connection, conn: psycopg.AsyncConnection, slot_name: str
) -> AsyncIterator[OpenTap]:
    """Give a function that makes a slot and starts a stream of the tables named, all of them exact."""
    opened: list[Tap] = []

    async def open_tap(tables: Sequence[Table]) -> Tap:
        name = f"{slot_name}_{len(opened)}"
        await manage.create(conn, name, "wal2json", time_limit=10)
        notices: list[tuple[str, str]] = []
        stream = await ReplicationStream.connect(database, on_notice=lambda *notice: notices.append(notice))
        opened.append(Tap(stream, name, source, Decoder(tables), notices))
        await stream.start(name, wal2json_options(tables), OPTIONAL)
        return opened[-1]

    yield open_tap
    for one in opened:
        await one.stream.close()
