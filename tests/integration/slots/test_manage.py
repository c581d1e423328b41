"""Managing slots, on a real server."""

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.fix_postgres import Cluster
from walvec_slots import manage
from walvec_slots.errors import PreconditionFailed, SlotActive, SlotBlocked
from walvec_slots.lsn import Lsn
from walvec_slots.plugin import PGOUTPUT
from walvec_slots.stream import ReplicationStream

pytestmark = pytest.mark.every_version


async def test_a_new_slot_is_listed(conn: psycopg.AsyncConnection, slot_name: str) -> None:
    """A new slot is found and listed, with where its stream begins."""
    start = await manage.create_slot(conn, slot_name, "pgoutput", time_limit=10)
    slot = await manage.find_slot(conn, slot_name)
    assert slot is not None
    assert slot in await manage.list_slots(conn)
    assert (slot.plugin, slot.database, slot.active, slot.confirmed_flush_lsn, slot.invalidation_reason) == (
        "pgoutput",
        conn.info.dbname,
        False,
        start,
        None,
    )
    assert (slot.retained_bytes or 0) >= (slot.unconfirmed_bytes or 0) >= 0


async def test_no_slot_is_none(conn: psycopg.AsyncConnection) -> None:
    """Looking up a name that no slot has returns None."""
    assert await manage.find_slot(conn, "nowhere") is None


@pytest.mark.parametrize(
    ("plugin", "name", "hint"),
    [
        ("pgoutput", "Upper", "lower-case"),
        ("pgoutput", "", "lower-case"),
        pytest.param(
            "no_such_plugin",
            "walvec_test_none",
            "output_plugin_libraries = 'no_such_plugin'",
            marks=pytest.mark.needs("output_plugin_libraries"),
        ),
    ],
)
async def test_what_cannot_be_created_is_refused(
    plugin: str, name: str, hint: str, conn: psycopg.AsyncConnection
) -> None:
    """An impossible name or plugin is refused, with what to do."""
    with pytest.raises(PreconditionFailed) as caught:
        await manage.create_slot(conn, name, plugin, time_limit=10)
    assert hint in (caught.value.hint or "")


async def test_names_are_never_cut(conn: psycopg.AsyncConnection, slot_name: str) -> None:
    """A name that is one byte too long is refused.

    The server would truncate it to another slot's name.
    """
    name = slot_name.ljust(63, "x")
    await manage.create_slot(conn, name, "pgoutput", time_limit=10)
    for managing in (
        manage.create_slot(conn, f"{name}x", "pgoutput", time_limit=10),
        manage.copy_slot(conn, name, f"{name}x"),
        manage.drop_slot(conn, f"{name}x"),
    ):
        with pytest.raises(PreconditionFailed, match="longer than 63 bytes"):
            await managing
    assert await manage.find_slot(conn, f"{name}x") is None


async def test_a_name_is_given_once(conn: psycopg.AsyncConnection, slot_name: str) -> None:
    """Creating again is refused, and the first slot stays as it was."""
    start = await manage.create_slot(conn, slot_name, "pgoutput", time_limit=10)
    with pytest.raises(PreconditionFailed, match="already exists"):
        await manage.create_slot(conn, slot_name, "pgoutput", time_limit=10)
    slot = await manage.find_slot(conn, slot_name)
    assert (slot and slot.confirmed_flush_lsn) == start


async def test_who_stands_in_the_way_is_named(
    database: str, conn: psycopg.AsyncConnection, slot_name: str
) -> None:
    """Creation waits for an open transaction, no longer than allowed.

    The error names the transaction, and no slot is left.
    """
    writer = psycopg.connect(make_conninfo(database, application_name="the writer"))
    with writer:
        writer.execute("CREATE TABLE t (id int)")
        with pytest.raises(SlotBlocked) as caught:
            await manage.create_slot(conn, slot_name, "pgoutput", time_limit=0.3)
        assert f'process {writer.info.backend_pid} ("the writer")' in caught.value.what
        assert f"SELECT pg_terminate_backend({writer.info.backend_pid})" in (caught.value.hint or "")
        assert await manage.find_slot(conn, slot_name) is None
    assert await manage.create_slot(conn, slot_name, "pgoutput", time_limit=10) > 0


@pytest.mark.slow
async def test_prepared_transactions_are_named_and_limits_too(cluster: Cluster) -> None:
    """A prepared transaction blocks as well, and a server without a free slot refuses."""
    cluster.set("max_prepared_transactions", "2")
    cluster.set("max_replication_slots", "1")
    cluster.restart()
    async with await psycopg.AsyncConnection.connect(cluster.dsn(), autocommit=True) as conn:
        await conn.execute("BEGIN; CREATE TABLE t (id int); PREPARE TRANSACTION 'it''s forgotten'")
        with pytest.raises(SlotBlocked) as caught:
            await manage.create_slot(conn, "s", "pgoutput", time_limit=0.3)
        await conn.execute("ROLLBACK PREPARED 'it''s forgotten'")
        await manage.create_slot(conn, "s", "pgoutput", time_limit=10)
        with pytest.raises(PreconditionFailed) as full:
            await manage.create_slot(conn, "t", "pgoutput", time_limit=10)
    assert "ROLLBACK PREPARED 'it''s forgotten'" in (caught.value.hint or "")
    assert "max_replication_slots" in (full.value.hint or "")


async def test_active_slots_are_left_alone(
    database: str, conn: psycopg.AsyncConnection, slot_name: str
) -> None:
    """Dropping or advancing a slot that a process reads is refused; copying is not."""
    start = await manage.create_slot(conn, slot_name, "pgoutput", time_limit=10)
    stream = await ReplicationStream.connect(database, on_notice=print)
    await stream.start(slot_name, PGOUTPUT, "none", [])
    with pytest.raises(SlotActive):
        await manage.drop_slot(conn, slot_name)
    with pytest.raises(SlotActive):
        await manage.advance_slot(conn, slot_name, start)
    copied = await manage.copy_slot(conn, slot_name, f"{slot_name}_copy")
    await stream.close()
    assert copied == start


async def test_advancing_goes_forward_within_the_wal(conn: psycopg.AsyncConnection, slot_name: str) -> None:
    """A slot moves to a later position, but not back, nor past the WAL's end."""
    start = await manage.create_slot(conn, slot_name, "pgoutput", time_limit=10)
    await conn.execute("CREATE TABLE t (id int)")
    [[end]] = await (await conn.execute("SELECT pg_current_wal_flush_lsn()::text")).fetchall()
    for impossible in (Lsn(1), Lsn(2**63)):
        with pytest.raises(PreconditionFailed):
            await manage.advance_slot(conn, slot_name, impossible)
    assert start < await manage.advance_slot(conn, slot_name, Lsn.parse(end)) <= Lsn.parse(end)


async def test_what_is_not_there_is_not_managed(conn: psycopg.AsyncConnection) -> None:
    """Dropping, advancing or copying a slot that does not exist is refused."""
    for managing in (
        manage.drop_slot(conn, "nowhere"),
        manage.advance_slot(conn, "nowhere", Lsn(1)),
        manage.copy_slot(conn, "nowhere", "elsewhere"),
    ):
        with pytest.raises(PreconditionFailed, match="does not exist"):
            await managing
    assert await manage.find_slot(conn, "elsewhere") is None


async def test_dropped_slots_are_gone(conn: psycopg.AsyncConnection, slot_name: str) -> None:
    """A slot that was dropped is not found."""
    await manage.create_slot(conn, slot_name, "pgoutput", time_limit=10)
    await manage.drop_slot(conn, slot_name)
    assert await manage.find_slot(conn, slot_name) is None
