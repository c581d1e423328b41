"""Several sessions that write at once, and commit one after the other."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.fix_process import until
from tests.fix_sidecar import Sidecar

WRITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'walvec write' AND xact_start IS NOT NULL"""


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """Five rows that are embedded, in a pipeline that gives every row a segment."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO blog SELECT i, 'body ' || i FROM generate_series(1, 5) AS i")
    sidecar.follow()
    sidecar.settings["pipeline"] = {"batch_rows": 1, "writers": 3}
    sidecar.setup()
    sidecar.once()
    return sidecar


@contextmanager
def locked(sidecar: Sidecar, key: int) -> Iterator[None]:
    """Keep walvec from writing one row of the target while the block runs."""
    with psycopg.connect(sidecar.settings["source"]["dsn"]) as somebody:
        somebody.execute("SELECT FROM blog_embedding WHERE id = %s FOR UPDATE", [key])
        yield


def update(sidecar: Sidecar, *keys: int) -> None:
    """Change rows, each in a transaction of its own."""
    for key in keys:
        sidecar.source.execute("UPDATE blog SET body = body || ' changed' WHERE id = %s", [key])


def writing(sidecar: Sidecar) -> int:
    """How many sessions of walvec have a transaction open for a batch."""
    ((count,),) = sidecar.target.execute(WRITING).fetchall()
    return int(count)


def test_rows_are_written_while_an_earlier_segment_is_held_up_and_committed_after_it(blog: Sidecar) -> None:
    """No row of a later transaction shows before the earlier one is there."""
    with blog.running():
        blog.in_step()
        with locked(blog, 1):
            update(blog, 1, 2, 3)
            until(lambda: writing(blog) == 3, "three batches are being written")
            before = blog.target.execute("SELECT count(*) FROM blog_embedding WHERE chunk LIKE '%changed'")
            assert before.fetchall() == [(0,)]
        blog.in_step()
    assert blog.actual() == blog.expected()


def test_one_writer_writes_one_batch_at_a_time(blog: Sidecar) -> None:
    """`[pipeline] writers = 1` opens one session for all batches."""
    blog.settings["pipeline"]["writers"] = 1
    with blog.running():
        blog.in_step()
        with locked(blog, 1):
            update(blog, 1, 2, 3)
            until(lambda: writing(blog) == 1, "a batch is being written")
        blog.in_step()
    assert blog.actual() == blog.expected()


def test_a_row_that_the_target_refuses_is_parked_while_others_are_written(blog: Sidecar) -> None:
    """The batches behind it commit in their turn."""
    blog.target.execute("ALTER TABLE blog_embedding ADD CHECK (chunk <> 'body 1 changed')")
    with blog.running():
        blog.in_step()
        update(blog, 1, 2, 3, 4, 5)
        blog.in_step()
    parked = blog.target.execute("SELECT key, stage FROM walvec.dead_letter").fetchall()
    assert parked == [(["1"], "write")]
    texts = blog.target.execute("SELECT id FROM blog_embedding WHERE chunk LIKE '%changed' ORDER BY id")
    assert texts.fetchall() == [(2,), (3,), (4,), (5,)]
