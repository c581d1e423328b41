"""Two walvecs on one slot: one writes, the other waits, and takes over when the first is gone."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.crash.observe import follow_blog, insert
from tests.fix_process import Process, until
from tests.fix_proxy import Proxy
from tests.fix_sidecar import Sidecar
from walvec_slots.changes import StreamedTable
from walvec_slots.errors import SlotActive
from walvec_slots.plugin import WAL2JSON
from walvec_slots.stream import ReplicationStream

TAKEN_OVER = 10.0  # seconds within which the second goes on after the first's death
PASSED_OVER = "slot.lock_ignored"
WAITING = "slot.waiting"
OWN = "slot.waiting_for_own_session"


@pytest.fixture
def first(sidecar: Sidecar) -> Iterator[Process]:
    """Give a walvec that is in step."""
    follow_blog(sidecar)
    insert(sidecar, 1, 5)
    process = sidecar.start("run")
    sidecar.in_step()
    yield process
    process.resume()  # one that is stopped cannot end


def test_second_waits_and_takes_over(sidecar: Sidecar, first: Process) -> None:
    """The second writes nothing beside the first, and everything within seconds of its SIGKILL."""
    second = sidecar.start("run")
    second.wait_for(WAITING)
    insert(sidecar, 6, 5)
    sidecar.in_step()
    assert not second.logged("batch.committed")

    first.kill()
    killed = time.monotonic()
    insert(sidecar, 11, 5)
    second.wait_for("batch.committed")

    assert time.monotonic() - killed < TAKEN_OVER
    sidecar.in_step()
    assert sidecar.actual() == sidecar.expected()
    assert second.stop() == 0


def test_second_takes_over_from_one_that_stops(sidecar: Sidecar, first: Process) -> None:
    """A new version can be started before the old one is stopped."""
    second = sidecar.start("run")
    second.wait_for(WAITING)
    insert(sidecar, 6, 5)
    assert first.stop() == 0
    sidecar.in_step()
    assert sidecar.actual() == sidecar.expected()
    assert second.stop() == 0


def test_second_ends_with_no_wait(sidecar: Sidecar, first: Process) -> None:
    """With --no-wait the second says which session is in the way, by exit code 5."""
    second = sidecar.start("run", "--no-wait")
    assert second.wait() == SlotActive.exit_code == 5
    assert "application walvec writer" in second.log[-2]["event"]


def test_work_with_an_end_does_not_wait_for_one_without(sidecar: Sidecar, first: Process) -> None:
    """`run --once` beside a process that runs ends at once by itself, and waits with --wait."""
    assert sidecar.start("run", "--once").wait() == SlotActive.exit_code
    patient = sidecar.start("run", "--once", "--wait")
    patient.wait_for(WAITING)
    assert first.stop() == 0
    assert patient.wait() == 0


def test_the_one_in_the_way_is_named(sidecar: Sidecar) -> None:
    """A session that only took the lock is named as the server shows it."""
    follow_blog(sidecar)
    sidecar.once()
    with psycopg.connect(sidecar.settings["source"]["dsn"], autocommit=True) as holder:
        holder.execute("SET application_name = 'mallory'")
        holder.execute("SELECT pg_advisory_lock(key) FROM walvec.fence WHERE slot = %s", [sidecar.slot])
        process = sidecar.start("run")
        named = process.wait_for(WAITING)["holder"]
        assert named == f"session {holder.info.backend_pid} (role {holder.info.user}, application mallory)"
    process.wait_for("stream.attached")
    assert process.stop() == 0


def test_role_without_rights_cannot_keep_it_waiting(sidecar: Sidecar) -> None:
    """A role that may only connect can take any lock, and holds nothing up."""
    follow_blog(sidecar)
    sidecar.once()
    name = f"mallory_{os.getpid()}"
    sidecar.source.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(name))
    )
    dsn = make_conninfo(sidecar.settings["source"]["dsn"], user=name, password=name)
    try:
        with psycopg.connect(dsn, autocommit=True) as mallory:
            keys = sidecar.target.execute("SELECT key FROM walvec.fence").fetchall()
            for (key,) in [*keys, (0x77616C766563,)]:
                mallory.execute("SELECT pg_advisory_lock(%s)", [key])
            process = sidecar.start("run")
            assert process.wait_for("slot.lock_ignored")
            process.wait_for("stream.attached")
            second = sidecar.start("run")
            holder = second.wait_for(WAITING)["holder"]
            assert name not in holder
            # What the server shows of the lock that is held now is of no use either.
            with psycopg.connect(dsn) as waiting:
                (key,) = sidecar.target.execute("SELECT key FROM walvec.fence").fetchone() or (0,)
                waits = threading.Thread(target=_take, args=(waiting, key))
                waits.start()
                assert process.stop() == 0
                second.wait_for("stream.attached")
                sidecar.setup()
                assert second.stop() == 0
                waiting.cancel()
                waits.join()
    finally:
        sidecar.source.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
    assert sidecar.actual() == sidecar.expected()


def _take(connection: psycopg.Connection, key: int) -> None:
    with suppress(psycopg.Error):
        connection.execute("SELECT pg_advisory_lock(%s)", [key])


@pytest.mark.parametrize("side", ["source", "target"])
def test_its_own_past_is_no_other_process(
    distant_sidecar: Sidecar, proxies: dict[str, Proxy], side: str
) -> None:
    """A process names its own earlier sessions as such, and waits for them."""
    follow_blog(distant_sidecar)
    process = distant_sidecar.start("run", "--no-wait")
    insert(distant_sidecar, 1, 5)
    distant_sidecar.in_step()

    proxies[side].cut()

    process.wait_for(OWN)
    proxies[side].heal()
    insert(distant_sidecar, 6, 5)
    distant_sidecar.in_step()
    assert not process.logged(WAITING)
    assert process.stop() == 0
    assert distant_sidecar.actual() == distant_sidecar.expected()


def test_zombie_writes_nothing(sidecar: Sidecar, first: Process) -> None:
    """A process that was paused and lost its sessions finds itself shut out."""
    sidecar.service.latency = 0.5
    sidecar.service.forget()
    insert(sidecar, 6, 5, "old")
    until(lambda: sidecar.service.in_flight, "a batch in the first's hands")
    first.pause()
    second = sidecar.start("run")
    second.wait_for(WAITING)
    end_walvecs_sessions(sidecar, but_of=second)
    second.wait_for("stream.attached")
    sidecar.source.execute("UPDATE blog SET body = 'new ' || id")
    sidecar.in_step()
    committed = sidecar.target.execute("SELECT xmin, * FROM blog_embedding ORDER BY id").fetchall()

    first.resume()
    first.wait_for("stream.retrying")
    first.wait_for(WAITING)

    assert sidecar.actual() == sidecar.expected()
    assert sidecar.target.execute("SELECT xmin, * FROM blog_embedding ORDER BY id").fetchall() == committed
    assert second.stop() == 0
    insert(sidecar, 11, 5)
    sidecar.in_step()  # the first is the writer again
    assert sidecar.actual() == sidecar.expected()
    assert first.stop() == 0


def test_slot_is_in_other_hands(sidecar: Sidecar) -> None:
    """Where anything else reads the slot, walvec waits, or ends with exit code 5."""
    follow_blog(sidecar)
    insert(sidecar, 1, 5)
    with asyncio.Runner() as runner:
        somebody = runner.run(read_slot(sidecar))
        process = sidecar.start("run")
        assert "active" in process.wait_for("stream.retrying")["what"]
        assert sidecar.start("run", "--no-wait").wait() == SlotActive.exit_code

        runner.run(somebody.close())

    sidecar.in_step()
    assert sidecar.actual() == sidecar.expected()
    assert process.stop() == 0


def test_two_slots_write_to_one_target_side_by_side(sidecar: Sidecar, tmp_path: Path) -> None:
    """The fence is one slot's, so processes of two slots write side by side."""
    dsn = sidecar.settings["source"]["dsn"]
    directory = tmp_path / "other"
    directory.mkdir()
    with closing(Sidecar(dsn, dsn, directory, sidecar.service, sidecar.log)) as other:
        other.settings["source"]["publication"] = "other"
        sidecar.source.execute("CREATE TABLE page (id integer PRIMARY KEY, body text)")
        other.follow("page", index="none")
        other.setup()
        follow_blog(sidecar)
        with sidecar.running(), other.running():
            insert(sidecar, 1, 5)
            other.source.execute("INSERT INTO page VALUES (1, 'page')")
            sidecar.in_step(timeout=10)
            other.in_step(timeout=10)
            assert (sidecar.actual(), other.actual()) == (sidecar.expected(), other.expected())


async def read_slot(sidecar: Sidecar) -> ReplicationStream:
    """Start the slot's stream, as somebody else would."""
    dsn = sidecar.settings["source"]["dsn"]
    stream = await ReplicationStream.connect(dsn, on_notice=lambda *_: None)
    await stream.start(sidecar.slot, WAL2JSON, "walvec", [StreamedTable(0, "public", "blog", ())])
    return stream


def end_walvecs_sessions(sidecar: Sidecar, *, but_of: Process) -> None:
    """End all of walvec's sessions but the one of the process that waits: the youngest writer."""
    ended = sidecar.source.execute("""
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'walvec %'
            AND pid <> (
                SELECT pid FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'walvec writer'
                ORDER BY backend_start DESC LIMIT 1)""").fetchall()
    assert len(ended) > 1
    assert but_of.code is None
