"""A slot with a decoded stream on it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.fix_lacks import default_plugin
from walvec_slots import manage
from walvec_slots.changes import Change, Commit, Event, StreamedColumn, StreamedTable, Table, Truncate
from walvec_slots.errors import ConnectionLost
from walvec_slots.plugin import PLUGINS, Decoder
from walvec_slots.protocol import XLogData
from walvec_slots.stream import ReplicationStream
from walvec_slots.walsender import Notice

MARK = "tap_mark"  # a table of the tap's own, for plugins that send rows alone

ODD_NAMES = [
    "plain",
    "Upper Case",
    "with space",
    'double"quote',
    "single'quote",
    "com,ma",
    "do.t",
    "*",
    "st*r",
    "back\\slash",
    "trailing\\",
    "new\nline",
    "tab\there",
    "ünïcödé",
    "表",
    "🐘 elephant",
    "percent%s{}",
    "x" * 63,
]


@dataclass
class Tap:
    """A stream of some tables, and the notices that came beside it."""

    stream: ReplicationStream
    slot: str
    source: psycopg.Connection
    decoder: Decoder
    notices: list[Notice] = field(default_factory=list)

    async def events(self) -> list[Event]:
        """Return everything up to now: a mark is written, and read up to."""
        self.source.execute(f"INSERT INTO {MARK} DEFAULT VALUES")
        seen: list[Event] = []
        while True:
            for frame in await self.stream.read():
                if isinstance(frame, XLogData):
                    event = self.decoder.decode(frame.payload, frame.start)
                    seen += [event] if event else []
            if len(seen) > 1 and isinstance(seen[-1], Commit) and getattr(seen[-2], "table", "") == MARK:
                return seen[:-3]

    async def rows(self) -> list[Change | Truncate]:
        """Return the row events up to now."""
        return [event for event in await self.events() if isinstance(event, Change | Truncate)]

    async def changes(self) -> list[Change]:
        """Return the changes of rows up to now."""
        return [event for event in await self.events() if isinstance(event, Change)]


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[asyncio.Future[None]]:
    """Run work as a task beside the body."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, ConnectionLost):
            await task


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> bool:
    """Wait for a condition; return whether it became true."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


OpenTap = Callable[[Sequence[Table]], Awaitable[Tap]]


def streamed(source: psycopg.Connection, tables: Sequence[Table]) -> list[StreamedTable]:
    """Describe tables with all their columns, as the catalog has them."""
    query = """
        SELECT attname, atttypid::int8, format_type(atttypid, atttypmod), attrelid::int8 FROM pg_attribute
        WHERE attrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND attnum > 0 AND NOT attisdropped
        ORDER BY attnum"""
    found = []
    for schema, name in tables:
        rows = source.execute(query, [schema, name]).fetchall()
        columns = tuple(StreamedColumn(*row[:3]) for row in rows)
        found.append(StreamedTable(rows[0][3], schema, name, columns))
    return found


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
def plugin(server: str) -> str:
    """Give the plugin whose streams a test reads; a module or a class may override it."""
    return default_plugin(server)


@pytest.fixture
async def tap(
    database: str, source: psycopg.Connection, conn: psycopg.AsyncConnection, slot_name: str, plugin: str
) -> AsyncIterator[OpenTap]:
    """Give a function that makes a slot of some tables and starts its stream."""
    opened: list[Tap] = []

    async def open_tap(tables: Sequence[Table]) -> Tap:
        name = f"{slot_name}_{len(opened)}"
        source.execute(f"CREATE TABLE IF NOT EXISTS {MARK} (id serial PRIMARY KEY)")
        wanted = streamed(source, [*tables, ("public", MARK)])
        if PLUGINS[plugin].applies_publication:
            names = sql.SQL(", ").join(sql.Identifier(table.schema, table.name) for table in wanted)
            source.execute(sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(sql.Identifier(name), names))
        await manage.create_slot(conn, name, plugin, time_limit=10)
        notices: list[Notice] = []
        stream = await ReplicationStream.connect(database, on_notice=notices.append)
        try:
            decoder = await stream.start(name, PLUGINS[plugin], name, wanted)
        except BaseException:
            await stream.close()
            raise
        opened.append(Tap(stream, name, source, decoder, notices))
        return opened[-1]

    yield open_tap
    for one in opened:
        await one.stream.close()
