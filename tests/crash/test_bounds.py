"""Memory is bounded by bytes whatever arrives, and the slot hears of walvec all the while.

At a length that CI bears; `make torture` runs them at full length.
"""

import gc
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.crash.observe import follow_blog, insert
from tests.fix_embedding_service import Silent, Status
from tests.fix_process import Process, until
from tests.fix_sidecar import Sidecar
from walvec.stages.segment import Segment

FULL = bool(os.environ.get("WALVEC_TORTURE"))
BUFFER = 32 * 2**20  # bytes, max_buffer_bytes of these tests
ALLOWANCE = 150 * 10**6  # bytes of memory that may be held besides
ROW_OF_50_MEGABYTES = (
    "INSERT INTO blog SELECT 1, string_agg(md5(n::text), ' ') FROM generate_series(1, 1600000) AS n"
)
SILENCE = 15.0  # seconds without a status that are too many; one is due every 10

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200 if FULL else 180),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]


@pytest.fixture
def bounded(sidecar: Sidecar) -> Sidecar:
    """Give a walvec whose buffer is small, and a service that is asked for much at a time."""
    sidecar.settings["pipeline"] = {"max_buffer_bytes": BUFFER}
    sidecar.settings["embedder"] |= {"max_batch_inputs": 2000, "max_batch_tokens": 1_000_000}
    return sidecar


@contextmanager
def within_bounds(
    sidecar: Sidecar, besides: int = 0, epochs: int = 1, env: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run walvec; in the end it is in step, its memory was within bounds, and no status late."""
    process = sidecar.start("run", env=env)
    sidecar.in_step()
    with never_silent(sidecar):
        yield process
        sidecar.in_step(timeout=1000 if FULL else 120)
    assert process.peak_memory <= BUFFER + ALLOWANCE + besides
    assert [line["event"] for line in process.log].count("stream.attached") == epochs
    assert process.stop() == 0


@contextmanager
def never_silent(sidecar: Sidecar) -> Iterator[None]:
    """Look all the while at when the slot has heard of walvec last."""
    late: list[float] = []
    done = threading.Event()
    since = """
        SELECT extract(epoch FROM clock_timestamp() - reply_time)::float
        FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = %s"""

    def watch() -> None:
        with psycopg.connect(sidecar.settings["source"]["dsn"], autocommit=True) as connection:
            while not done.wait(0.2):
                late.extend(seconds for (seconds,) in connection.execute(since, [sidecar.slot]).fetchall())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
    assert late
    assert max(late) < SILENCE


def test_one_transaction_of_many_rows(bounded: Sidecar) -> None:
    """A transaction far larger than the buffer is worked off in parts."""
    follow_blog(bounded, chunk="none")
    with within_bounds(bounded):
        insert(bounded, 1, 1_000_000 if FULL else 200_000)
    assert bounded.actual() == bounded.expected()


def test_one_row_of_50_megabytes(bounded: Sidecar) -> None:
    """A row larger than the buffer passes, and is not held more often than it has to be."""
    follow_blog(bounded, text="left(body, 100000)")
    with within_bounds(bounded):
        bounded.source.execute(ROW_OF_50_MEGABYTES)
    assert bounded.actual() == bounded.expected()


def test_text_of_50_megabytes(bounded: Sidecar) -> None:
    """A text larger than the buffer is held only a few times over while it is cut."""
    follow_blog(bounded)
    with within_bounds(bounded, besides=4 * 50 * 10**6):
        bounded.source.execute(ROW_OF_50_MEGABYTES)
    assert bounded.actual() == bounded.expected()


@pytest.fixture
def no_collector(tmp_path: Path) -> Mapping[str, str]:
    """Give the environment of a process whose garbage collector is off.

    It looks at old objects so rarely that what only it can free would add up to hundreds of megabytes. Off,
    it makes sixty rows tell what nine hundred would.
    """
    directory = tmp_path / "no_collector"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text("import gc\n\ngc.disable()\n")
    return {"PYTHONPATH": str(directory)}


def test_many_long_rows_in_the_stream_and_in_a_backfill(
    bounded: Sidecar, no_collector: Mapping[str, str]
) -> None:
    """Long rows pass by hundreds in one transaction, and again when all are compared."""
    follow_blog(bounded)
    with within_bounds(bounded, epochs=2, env=None if FULL else no_collector):
        bounded.source.execute(
            """INSERT INTO blog SELECT id, (SELECT string_agg(md5(id || ' ' || n), ' ')
            FROM generate_series(1, 48000) AS n) FROM generate_series(1, %s) AS id""",
            [900 if FULL else 60],
        )
        bounded.in_step(timeout=1000 if FULL else 120)
        asked = len(bounded.service.texts)
        bounded.backfill()
    assert len(bounded.service.texts) == asked
    assert bounded.actual() == bounded.expected()


def test_ten_thousand_tiny_transactions(bounded: Sidecar) -> None:
    """Many transactions of the stream become one of the target."""
    follow_blog(bounded)
    with within_bounds(bounded):
        for id_ in range(100_000 if FULL else 10_000):
            insert(bounded, id_, 1)
    assert bounded.actual() == bounded.expected()


def test_thousand_tables_and_one_vectorizer(bounded: Sidecar) -> None:
    """A thousand published tables cost nothing where one of them is followed."""
    bounded.source.execute("CREATE PUBLICATION walvec FOR ALL TABLES")
    tables = [sql.Identifier(f"table_{n}") for n in range(1000)]
    for table in tables:
        bounded.source.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, body text)").format(table))
    follow_blog(bounded)
    with within_bounds(bounded):
        for table in tables:
            many = sql.SQL("INSERT INTO {} SELECT id, 'not followed' FROM generate_series(1, 100) AS id")
            bounded.source.execute(many.format(table))
        insert(bounded, 1, 10)
    assert bounded.actual() == bounded.expected()
    assert len(bounded.service.texts) == 10


def test_outage_of_the_service_under_a_flood(bounded: Sidecar) -> None:
    """Memory stays flat while the service is down and changes pour in."""
    follow_blog(bounded)
    with within_bounds(bounded) as process:
        bounded.service.always = Status(503)
        for each in range(400 if FULL else 60):
            insert(bounded, each * 1000, 1000, "x" * 1000)  # a megabyte each
        process.wait_for("embedder.waiting")
        flat_at = process.peak_memory
        for each in range(1000, 1020):
            insert(bounded, each * 1000, 1000, "x" * 1000)
        assert process.peak_memory < flat_at + 10 * 2**20
        bounded.service.always = None
    assert bounded.actual() == bounded.expected()


def test_sessions_that_end_over_and_over(sidecar: Sidecar) -> None:
    """What was in flight when a session ended is gone before it is read again."""
    follow_blog(sidecar)
    terminate = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'walvec writer'"""
    gc.collect()
    gc.disable()
    try:
        with sidecar.running():
            sidecar.in_step()
            sidecar.service.always = Silent()
            insert(sidecar, 1, 10)
            for ended in range(3):
                until(lambda: sidecar.service.in_flight > ended, "a request that hangs")  # noqa: B023
                segments = [each for each in gc.get_objects() if isinstance(each, Segment)]
                assert len([each for each in segments if each.actions]) == 1
                segments.clear()
                if ended == 2:
                    sidecar.service.always = None
                assert sidecar.source.execute(terminate).fetchall()
            sidecar.in_step()
    finally:
        gc.enable()
    assert sidecar.actual() == sidecar.expected()
