"""The visibility rule: no read of a source row may put old text over new.

A commit that waits for a synchronous standby is decoded, and delivered by the slot, while every other session
still reads the row as it was. Here the standby is away for as long as the test wants.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.crash.observe import FOREIGN_WORK, checkpoint, slot_lsn, wal_end
from tests.fix_embedding_service import Status
from tests.fix_postgres import Cluster
from tests.fix_process import Process, until
from tests.fix_sidecar import Sidecar
from walvec_slots.lsn import Lsn

WAITING = "read.waiting_for_visibility"
LONG = "repeat(md5(id::text || 'salt'), 400)"  # TOASTed, and not compressed away
HANGING = "SELECT FROM pg_stat_activity WHERE application_name = 'application' AND wait_event = 'SyncRep'"
NOT_WAITING = "-c synchronous_commit=local"


@pytest.fixture
def hung(on_cluster: Callable[[], Sidecar]) -> Sidecar:
    """Give a blog, not set up yet, on a server that lets walvec's sessions, and the test's, commit alone."""
    sidecar = on_cluster()
    sidecar.settings["source"]["dsn"] = make_conninfo(sidecar.settings["source"]["dsn"], options=NOT_WAITING)
    sidecar.settings["pipeline"] = {"batch_rows": 2}
    sidecar.source.execute("SET synchronous_commit = local")
    sidecar.source.execute("CREATE TABLE blog (id integer PRIMARY KEY, title text, body text)")
    sidecar.source.execute("ALTER TABLE blog ALTER body SET STORAGE EXTERNAL")
    sidecar.source.execute(f"INSERT INTO blog SELECT id, 'old', {LONG} FROM generate_series(1, 40) AS id")
    sidecar.follow("blog", text="title || body", chunk="none", index="none")
    return sidecar


@contextmanager
def commit_hangs(cluster: Cluster, sidecar: Sidecar, statement: LiteralString) -> Iterator[Lsn]:
    """Let the application commit while the standby is away: the block runs while its COMMIT hangs.

    Gives an LSN past the commit's. At the block's end the standby is not asked for any more, and the COMMIT
    returns.
    """
    cluster.set("synchronous_standby_names", "nobody")

    def commit() -> None:
        dsn = make_conninfo(sidecar.settings["source"]["dsn"], options="")
        with psycopg.connect(dsn, autocommit=True, application_name="application") as application:
            application.execute(statement)

    def hangs() -> bool:
        if not committing or not committing[-1].is_alive():
            # Until the server has heard of the standby, a COMMIT returns at once.
            committing.append(threading.Thread(target=commit))
            committing[-1].start()
        return bool(sidecar.source.execute(HANGING).fetchall())

    committing: list[threading.Thread] = []
    until(hangs, "a COMMIT that waits for the standby")
    try:
        yield wal_end(sidecar)
        assert committing[-1].is_alive(), "the COMMIT returned too early"
    finally:
        cluster.set("synchronous_standby_names", "")
        committing[-1].join()


def delivered(sidecar: Sidecar, lsn: Lsn) -> bool:
    """Whether the slot has sent everything before `lsn` to walvec."""
    query = """
        SELECT FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid
        WHERE slot_name = %s AND sent_lsn >= %s::pg_lsn"""
    return bool(sidecar.source.execute(query, [sidecar.slot, str(lsn)]).fetchall())


def test_refetch_waits_until_it_sees_the_change(cluster: Cluster, hung: Sidecar) -> None:
    """An update with an unchanged TOAST value is read again only by a snapshot that contains it."""
    hung.setup()
    hung.once()
    process = hung.start("run")

    with commit_hangs(cluster, hung, "UPDATE blog SET title = 'new' WHERE id = 7") as lsn:
        until(lambda: delivered(hung, lsn), "the update, delivered")
        process.wait_for(WAITING)
        assert checkpoint(hung) < lsn

    hung.in_step()
    assert hung.actual() == hung.expected()
    assert process.stop() == 0


@contextmanager
def last_row_is_updated(cluster: Cluster, sidecar: Sidecar) -> Iterator[tuple[Process, Lsn]]:
    """Let the last row be updated under a backfill that has not come to it, by a COMMIT that hangs.

    The backfill gets no further than the service, which is away, lets it read ahead; then it is back.
    """
    sidecar.source.execute(f"INSERT INTO blog SELECT id, 'old', {LONG} FROM generate_series(41, 400) AS id")
    sidecar.setup()
    sidecar.service.always = Status(503)
    process = sidecar.start("run")
    until(lambda: sidecar.service.requests, "rows on their way")
    update = f"UPDATE blog SET title = 'new', body = {LONG} || '.' WHERE id = 400"
    with commit_hangs(cluster, sidecar, update) as lsn:
        until(lambda: delivered(sidecar, lsn), "the update, delivered")
        sidecar.service.always = None
        yield process, lsn


def test_backfill_waits_until_it_sees_what_was_decoded(cluster: Cluster, hung: Sidecar) -> None:
    """A row is updated by the stream first; the backfill, which would still read the old one, waits."""
    with last_row_is_updated(cluster, hung) as (process, _):
        process.wait_for(WAITING)
        assert not hung.backfilled()

    hung.in_step()
    assert hung.actual() == hung.expected()
    assert process.stop() == 0


def test_backfill_waits_for_what_was_decoded_before_a_crash(cluster: Cluster, hung: Sidecar) -> None:
    """What no snapshot was seen to contain is in the checkpoint: the slot will not send it again."""
    with last_row_is_updated(cluster, hung) as (first, lsn):
        row = sql.SQL("SELECT FROM {} WHERE id = 400").format(sql.Identifier(*hung.followed["blog"].target))
        until(lambda: hung.target.execute(row).fetchall(), "the update, embedded")
        # The batch's own checkpoint remembers it, before any progress is saved beside batches.
        assert hung.target.execute(
            "SELECT cardinality(unseen_xids) > 0 FROM walvec.checkpoint"
        ).fetchall() == [(True,)]
        # A later commit, with which the idle stream's progress is saved past the update.
        hung.source.execute(FOREIGN_WORK)
        until(lambda: slot_lsn(hung) >= lsn, "the update, embedded and confirmed")
        first.kill()
        assert not hung.backfilled()

        second = hung.start("run")
        second.wait_for(WAITING)
        assert not hung.backfilled()

    hung.in_step()
    assert hung.actual() == hung.expected()
    assert second.stop() == 0
