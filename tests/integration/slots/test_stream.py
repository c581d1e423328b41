"""The replication connection, and everything that can end it."""

import asyncio
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TypeGuard

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fix_postgres import Cluster
from tests.fix_proxy import Proxy
from tests.integration.slots.conftest import running, until
from walvec_slots import manage
from walvec_slots.errors import ConnectionLost, PreconditionFailed, SlotActive, SlotLost
from walvec_slots.lsn import Lsn
from walvec_slots.protocol import Keepalive, StandbyStatus, XLogData
from walvec_slots.stream import Frame, ReplicationStream, feedback
from walvec_slots.wal2json import OPTIONAL, wal2json_options
from walvec_slots.walsender import Notice

NOTHING = StandbyStatus.through(Lsn(0))
OPTIONS = wal2json_options([("public", "t")])
SHUTDOWN_LIMIT = 10.0  # seconds that a server may be held up

pytestmark = [pytest.mark.every_version, pytest.mark.needs("wal2json")]


async def connect(conninfo: str, *, sender_timeout: float = 60.0) -> ReplicationStream:
    """Connect, and fail on any warning."""

    def unexpected(notice: Notice) -> None:
        raise AssertionError(notice)

    return await ReplicationStream.connect(conninfo, on_notice=unexpected, sender_timeout=sender_timeout)


@pytest.fixture
async def slot(conn: psycopg.AsyncConnection, slot_name: str) -> str:
    """Give a slot that has the changes of a table t."""
    await conn.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    await manage.create_slot(conn, slot_name, "wal2json", time_limit=10)
    return slot_name


@pytest.fixture
async def stream(database: str, slot: str) -> AsyncIterator[ReplicationStream]:
    """Give a stream of the table t."""
    stream = await connect(database)
    await stream.start_with(slot, "wal2json", OPTIONS, OPTIONAL)
    yield stream
    await stream.close()


async def test_older_plugins_start_without_the_option_they_do_not_know(database: str, slot: str) -> None:
    """A refused option is left out if optional; a required one fails the start."""
    first = await connect(database)
    await first.start_with(slot, "wal2json", OPTIONS, {"no-such-option": "1"})
    await first.close()
    second = await connect(database)
    with pytest.raises(PreconditionFailed, match="no-such-option"):
        await second.start_with(slot, "wal2json", {**OPTIONS, "no-such-option": "1"}, OPTIONAL)
    await second.close()


async def test_a_missing_slot_is_lost(database: str) -> None:
    """A slot that does not exist is lost; waiting would not help."""
    stream = await connect(database)
    with pytest.raises(SlotLost, match='Slot "nowhere"'):
        await stream.start_with("nowhere", "wal2json", OPTIONS, {})
    await stream.close()


async def test_a_slot_of_another_database_cannot_serve(slot: str, create_database: Callable[[], str]) -> None:
    """A slot of another database is refused."""
    stream = await connect(create_database())
    with pytest.raises(SlotLost, match="not created in this database"):
        await stream.start_with(slot, "wal2json", OPTIONS, {})
    await stream.close()


async def test_a_slot_in_use_is_active(database: str, slot: str, stream: ReplicationStream) -> None:
    """A second reader is refused, and gets the slot once the first has closed."""
    second = await connect(database)
    with pytest.raises(SlotActive):
        await second.start_with(slot, "wal2json", OPTIONS, {})
    await stream.close()
    await second.start_with(slot, "wal2json", OPTIONS, {})
    await second.close()


async def test_closing_frees_the_slot(
    conn: psycopg.AsyncConnection, slot: str, stream: ReplicationStream
) -> None:
    """After close() the slot can be dropped, and a read that waited has ended."""
    reading = asyncio.ensure_future(_read_on(stream))
    await asyncio.sleep(0.1)
    await stream.close()
    await manage.drop_slot(conn, slot)
    with pytest.raises(ConnectionLost):
        await reading


async def _read_on(stream: ReplicationStream) -> None:
    while True:
        await stream.read()


async def test_a_role_without_the_right_is_told_which(database: str, source: psycopg.Connection) -> None:
    """A role that may not replicate gets the statement that lets it."""
    role = f"{source.info.dbname} role"
    source.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(role)))
    try:
        with pytest.raises(PreconditionFailed) as caught:
            await connect(make_conninfo(database, user=role, password="secret"))
    finally:
        source.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    assert caught.value.hint == f'ALTER ROLE "{role}" REPLICATION'


async def test_a_server_that_is_away_is_a_lost_connection() -> None:
    """A server that cannot be reached raises ConnectionLost: it may come back."""
    with pytest.raises(ConnectionLost, match="Could not connect for replication"):
        await connect("host=127.0.0.1 port=1 user=nobody dbname=nowhere")


async def test_status_is_sent_while_read_waits(
    conn: psycopg.AsyncConnection, slot: str, stream: ReplicationStream
) -> None:
    """A status reaches the slot though another task waits for data."""
    async with running(_read_on(stream)):
        cursor = await conn.execute("SELECT pg_current_wal_flush_lsn()::text")
        [[end]] = await cursor.fetchall()
        await stream.send(StandbyStatus.through(Lsn.parse(end)))

        async def is_confirmed() -> bool:
            found = await manage.find_slot(conn, slot)
            return found is not None and found.confirmed_flush_lsn == Lsn.parse(end)

        assert await until(is_confirmed)


async def test_a_status_goes_out_whole_though_the_socket_is_full(
    database: str, conn: psycopg.AsyncConnection, slot: str, proxied: Callable[[str], tuple[Proxy, str]]
) -> None:
    """A send waits for room in the socket.

    Nothing is left behind for a later one to push out.
    """
    proxy, conninfo = proxied(database)
    proxy.take_little()
    stream = await connect(conninfo)
    await stream.start_with(slot, "wal2json", OPTIONS, {})
    own = stream._walsender._pgconn.socket
    with socket.socket(fileno=os.dup(own)) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    cursor = await conn.execute("SELECT pg_current_wal_flush_lsn()::text")
    [[end]] = await cursor.fetchall()

    async def send() -> None:
        for _ in range(20_000):
            await stream.send(NOTHING)
        await stream.send(StandbyStatus.through(Lsn.parse(end)))

    async def is_full() -> bool:
        return not select.select([], [own], [], 0)[1]

    async def is_confirmed() -> bool:
        found = await manage.find_slot(conn, slot)
        return found is not None and found.confirmed_flush_lsn == Lsn.parse(end)

    proxy.stall()
    async with running(send()) as sending:
        assert await until(is_full)
        proxy.flow()
        await sending
        assert await until(is_confirmed)
    await stream.close()


def _is_insert(frame: Frame) -> TypeGuard[XLogData]:
    return isinstance(frame, XLogData) and b'"action":"I"' in bytes(frame.payload)


async def test_cancelled_reads_lose_nothing(source: psycopg.Connection, stream: ReplicationStream) -> None:
    """Every row arrives once, however often a read is cancelled."""
    frames: list[XLogData] = []
    source.execute("INSERT INTO t SELECT n, repeat('x', 2000) FROM generate_series(1, 3000) AS n")
    deadline = time.monotonic() + 20
    while len(frames) < 3000 and time.monotonic() < deadline:
        reading = asyncio.ensure_future(stream.read(10_000))
        await asyncio.sleep(0)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            frames += [frame for frame in await reading if _is_insert(frame)]
        with suppress(TimeoutError):
            async with asyncio.timeout(0.0001):
                frames += [frame for frame in await stream.read(10_000) if _is_insert(frame)]
    starts = [frame.start for frame in frames]
    assert (len(starts), starts) == (3000, sorted(starts))


async def test_one_read_is_bounded(source: psycopg.Connection, stream: ReplicationStream) -> None:
    """A read returns at most the size asked for, and one frame."""
    source.execute("INSERT INTO t SELECT n, repeat('x', 2000) FROM generate_series(1, 1000) AS n")
    sizes: list[int] = []
    while sum(sizes) < 2_000_000:
        frames = await stream.read(50_000)
        sizes.append(sum(len(frame.payload) for frame in frames if isinstance(frame, XLogData)))
    assert max(sizes) < 55_000


async def test_a_terminated_backend_is_a_lost_connection(
    source: psycopg.Connection, slot: str, stream: ReplicationStream
) -> None:
    """The error has the reason that the server gave."""
    source.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", [slot]
    )
    with pytest.raises(ConnectionLost, match="administrator"):
        await _read_on(stream)


@pytest.mark.slow
@pytest.mark.parametrize("heard", [True, False])
async def test_silence_is_survived_by_status_alone(
    heard: bool,  # noqa: FBT001
    database: str,
    source: psycopg.Connection,
    slot: str,
) -> None:
    """Feedback keeps a stream that is not read; silence ends it."""
    stream = await connect(database, sender_timeout=1.0)
    await stream.start_with(slot, "wal2json", OPTIONS, {})
    source.execute("INSERT INTO t SELECT n, repeat('x', 100000) FROM generate_series(1, 300) AS n")
    if heard:
        async with running(feedback(stream, lambda: NOTHING, stream.status_interval, asyncio.Event())):
            await asyncio.sleep(3)
            alive = await _reads_through(stream, 30_000_000)
    else:
        await asyncio.sleep(3)
        alive = await _reads_through(stream, 30_000_000)
    await stream.close()
    assert alive == heard


async def _reads_through(stream: ReplicationStream, size: int) -> bool:
    """Read this many bytes; return False if the connection ends before."""
    try:
        while size > 0:
            size -= sum(len(frame.payload) for frame in await stream.read() if isinstance(frame, XLogData))
    except ConnectionLost:
        return False
    return True


class Counting(ReplicationStream):
    """A stream that counts what it sends."""

    sent = 0

    async def send(self, status: StandbyStatus) -> None:
        """Count, and send."""
        self.sent += 1
        await super().send(status)


async def _answer_requests(stream: ReplicationStream, poke: asyncio.Event) -> None:
    while True:
        for frame in await stream.read():
            if isinstance(frame, Keepalive) and frame.reply_requested:
                poke.set()


@pytest.mark.slow
async def test_a_shutdown_is_not_held_up_nor_stormed(cluster: Cluster) -> None:
    """A server that shuts down gets few replies, then the stream ends.

    It asks for a status after every status.
    """
    poke = asyncio.Event()
    async with await psycopg.AsyncConnection.connect(cluster.dsn(), autocommit=True) as conn:
        await conn.execute("CREATE TABLE t (id int PRIMARY KEY)")
        await manage.create_slot(conn, "s", "wal2json", time_limit=10)
        await conn.execute("INSERT INTO t VALUES (1)")
    stream = await Counting.connect(cluster.dsn(), on_notice=print)
    await stream.start_with("s", "wal2json", OPTIONS, {})
    stopping = asyncio.create_task(asyncio.to_thread(cluster.stop, "fast"))
    started = time.monotonic()
    try:
        async with running(feedback(stream, lambda: NOTHING, stream.status_interval, poke)):
            with pytest.raises(ConnectionLost, match="shutting down"):
                await asyncio.wait_for(_answer_requests(stream, poke), SHUTDOWN_LIMIT)
    finally:
        took = time.monotonic() - started
        await stream.close()  # without it the server stops at once
        await stopping
    assert stream.sent <= 11 * (took + 1)


@pytest.mark.slow
async def test_what_the_server_takes_away(cluster: Cluster) -> None:
    """A refused plugin, an invalidated slot and a crash have their own errors."""
    async with await psycopg.AsyncConnection.connect(cluster.dsn(), autocommit=True) as conn:
        await conn.execute("CREATE TABLE t (id int PRIMARY KEY)")
        await manage.create_slot(conn, "s", "wal2json", time_limit=10)
        cluster.set("output_plugin_libraries", "pgoutput")
        refused = await connect(cluster.dsn())
        with pytest.raises(PreconditionFailed) as caught:
            await refused.start_with("s", "wal2json", OPTIONS, {})
        await refused.close()
        assert "SET output_plugin_libraries = 'wal2json', 'pgoutput', 'test_decoding'" in str(caught.value)

        cluster.set("output_plugin_libraries", "wal2json")
        cluster.set("max_slot_wal_keep_size", "1MB")
        for _ in range(4):
            await conn.execute("SELECT pg_logical_emit_message(false, 'walvec', 'x')")
            await conn.execute("SELECT pg_switch_wal()")
        await conn.execute("CHECKPOINT")
        slot = await manage.find_slot(conn, "s")
        assert (slot and slot.invalidation_reason) == "wal_removed"
        lost = await connect(cluster.dsn())
        with pytest.raises(SlotLost, match=r"invalidated|maximum reserved size"):
            await lost.start_with("s", "wal2json", OPTIONS, {})
        await lost.close()

        await manage.create_slot(conn, "fresh", "wal2json", time_limit=10)
    stream = await connect(cluster.dsn())
    await stream.start_with("fresh", "wal2json", OPTIONS, {})
    await asyncio.to_thread(cluster.stop, "immediate")
    with pytest.raises(ConnectionLost):
        await _read_on(stream)
    with pytest.raises(ConnectionLost):
        await feedback(stream, lambda: NOTHING, 0.0, asyncio.Event())
    await stream.close()


async def test_keepalives_follow_other_databases(
    conn: psycopg.AsyncConnection, server: str, stream: ReplicationStream
) -> None:
    """WAL of other databases moves the keepalive's end.

    So an idle slot can be confirmed past it.
    """
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as elsewhere:
        await elsewhere.execute("CREATE TEMPORARY TABLE walvec_noise AS SELECT generate_series(1, 1000)")
    cursor = await conn.execute("SELECT pg_current_wal_flush_lsn()::text")
    [[end]] = await cursor.fetchall()
    reached = Lsn(0)
    async with asyncio.timeout(10):
        while reached < Lsn.parse(end):
            frames = await stream.read()
            reached = max([reached, *(frame.wal_end for frame in frames if isinstance(frame, Keepalive))])
    assert reached >= Lsn.parse(end)


async def test_memory_for_decoding_is_set_in_the_session_alone(database: str) -> None:
    """The session has the memory that was asked for, or the server's own setting."""
    for asked, shown in (("128kB", "128kB"), ("1GB", "1GB"), (None, "64MB")):
        stream = await ReplicationStream.connect(database, on_notice=lambda _: None, decoding_memory=asked)
        try:
            cursor = await stream.session.execute("SHOW logical_decoding_work_mem")
            assert await cursor.fetchone() == (shown,)
        finally:
            await stream.session.close()
