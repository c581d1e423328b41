"""Existing rows: read in steps beside the stream, resumed after a stop, begun again when asked."""

from collections import Counter

import psycopg
import pytest

from tests.fix_process import Run, until
from tests.fix_sidecar import Sidecar

ROWS = 120


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """A table of 120 rows that is read ten at a time; nothing is embedded yet."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    rows = "INSERT INTO blog SELECT i, 'body ' || i FROM generate_series(1, %s) AS i"
    sidecar.source.execute(rows, [ROWS])
    sidecar.settings["pipeline"] = {"batch_rows": 10}
    sidecar.settings["embedder"] |= {"concurrency": 1, "max_batch_inputs": 5}
    sidecar.follow()
    sidecar.setup()
    return sidecar


def rows_done(sidecar: Sidecar) -> int:
    """How many rows the backfill has read and written."""
    ((count,),) = sidecar.target.execute("SELECT rows_done FROM walvec.vectorizer").fetchall()
    return int(count)


def half_way(sidecar: Sidecar) -> None:
    """Wait until the backfill is well under way, and let it go on slowly from there."""
    sidecar.service.latency = 0.06
    until(lambda: rows_done(sidecar) >= 20, "20 rows")


@pytest.mark.parametrize("end", [Run.stop, Run.abandon], ids=["stopped", "crashed"])
def test_resumes(blog: Sidecar, end: object) -> None:
    """After a restart the backfill goes on behind the last row that it saved."""
    with blog.running() as run:
        half_way(blog)
        end(run)  # type: ignore[operator]
    before = rows_done(blog)
    until(lambda: blog.service.in_flight == 0, "what was sent is answered")
    blog.service.forget()
    blog.once()
    assert (20 <= before < ROWS, rows_done(blog), len(blog.service.texts), blog.actual()) == (
        True,
        ROWS,
        ROWS - before,
        blog.expected(),
    )


def test_nothing_is_sent_twice_over_a_stop(blog: Sidecar) -> None:
    """An orderly stop finishes what it has sent, so that every text is paid for once."""
    for _ in range(2):
        with blog.running():
            half_way(blog)
    blog.once()
    assert Counter(blog.service.texts) == Counter({f"body {i}": 1 for i in range(1, ROWS + 1)})


def test_stream_does_not_wait(blog: Sidecar) -> None:
    """A change made while a slow backfill runs is embedded long before it ends."""
    with blog.running():
        half_way(blog)
        blog.source.execute("INSERT INTO blog VALUES (1000, 'fresh')")
        fresh = "SELECT chunk FROM blog_embedding WHERE id = 1000"
        until(lambda: blog.target.execute(fresh).fetchone(), "the change")
        assert rows_done(blog) < ROWS


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE blog SET body = body || '!'",
        "UPDATE blog SET id = ((id + 60) % 120) + 1000",
        "UPDATE blog SET body = 'twice ' || body; UPDATE blog SET body = 'three times ' || body",
        "DELETE FROM blog WHERE id % 2 = 0",
        "DELETE FROM blog; INSERT INTO blog VALUES (5, 'five'), (119, 'one-nineteen')",
        "TRUNCATE blog; INSERT INTO blog VALUES (5, 'five'), (119, 'one-nineteen')",
        "INSERT INTO blog SELECT i, 'more ' || i FROM generate_series(200, 300) AS i",
    ],
)
def test_changes_meanwhile(blog: Sidecar, statement: str) -> None:
    """Whatever is written to rows read already or still to be read, the newest state wins."""
    with blog.running():
        half_way(blog)
        for each in statement.split(";"):
            blog.source.execute(each.encode())
        blog.service.latency = 0
        blog.in_step()
    assert blog.actual() == blog.expected()


def test_change_of_a_row_that_is_being_read(sidecar: Sidecar) -> None:
    """What the stream brings of a row while the backfill reads it wins over what was read."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO blog SELECT i, 'old ' || i FROM generate_series(1, 4) AS i")
    sidecar.source.execute("""
        CREATE FUNCTION slowly(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('application_name') = 'walvec backfill' THEN
                PERFORM pg_advisory_lock_shared(42), pg_advisory_unlock_shared(42);
            END IF;
            RETURN $1;
        END $$
    """)
    sidecar.follow(text="public.slowly(body)")
    sidecar.setup()
    sidecar.source.execute("SELECT pg_advisory_lock(42)")
    reading = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
    )
    with sidecar.running():
        until(lambda: sidecar.target.execute(reading).fetchone() == (1,), "the backfill reads")
        for statement in (
            "UPDATE blog SET body = 'new' WHERE id = 1",
            "DELETE FROM blog WHERE id = 2",
            "UPDATE blog SET id = 30 WHERE id = 3",
        ):
            sidecar.source.execute(statement.encode())
        until(lambda: set(sidecar.actual_of("blog")) == {("1",), ("30",)}, "the stream's changes")
        sidecar.source.execute("SELECT pg_advisory_unlock(42)")
        sidecar.in_step()
    assert sidecar.actual() == sidecar.expected()


def test_changes_all_the_time(blog: Sidecar) -> None:
    """A table that is never quiet while it is backfilled comes out right."""
    blog.service.latency = 0.002
    with blog.running():
        for number in range(400):
            row, other = number % ROWS + 1, number * 7 % ROWS + 1
            blog.source.execute("UPDATE blog SET body = %s WHERE id = %s", [f"edit {number}", row])
            blog.source.execute("DELETE FROM blog WHERE id = %s", [other])
            blog.source.execute("INSERT INTO blog VALUES (%s, 'again') ON CONFLICT DO NOTHING", [other])
        blog.in_step()
    assert blog.actual() == blog.expected()


class TestAskedFor:
    """`walvec backfill NAME` compares every row again."""

    @pytest.fixture
    def done(self, blog: Sidecar) -> Sidecar:
        """All rows are embedded, and the target was tampered with."""
        blog.once()
        blog.service.forget()
        for statement in (
            "DELETE FROM blog_embedding WHERE id = 3",
            "UPDATE blog_embedding SET id = 5000 WHERE id = 4",
            "UPDATE blog_embedding SET chunk = 'stale', input_hash = '' WHERE id = 5",
        ):
            blog.target.execute(statement.encode())
        return blog

    def test_before_a_run(self, done: Sidecar) -> None:
        """The next run repairs what is missing, orphaned or stale, and sends nothing else."""
        done.backfill()
        done.once()
        assert (done.actual(), sorted(done.service.texts)) == (
            done.expected(),
            ["body 3", "body 4", "body 5"],
        )

    def test_during_a_run(self, done: Sidecar) -> None:
        """A process that runs takes it up by itself."""
        with done.running():
            done.in_step()
            done.backfill()
            done.in_step()
        assert (done.actual(), sorted(done.service.texts)) == (
            done.expected(),
            ["body 3", "body 4", "body 5"],
        )

    def test_during_a_backfill(self, blog: Sidecar) -> None:
        """A backfill that is asked for during another one begins again and omits nothing."""
        with blog.running():
            half_way(blog)
            blog.backfill()
            blog.source.execute("UPDATE blog SET body = body || '!' WHERE id % 3 = 0")
            blog.service.latency = 0
            blog.in_step()
        assert (blog.actual(), rows_done(blog)) == (blog.expected(), ROWS)

    def test_again_and_again(self, done: Sidecar) -> None:
        """The target is right however often a backfill is asked for."""
        with done.running():
            for _ in range(5):
                done.backfill()
                done.source.execute("UPDATE blog SET body = body || '.' WHERE id = 7")
            done.in_step()
        assert done.actual() == done.expected()


class TestIndex:
    """The vector index is built beside everything else."""

    VALID = "SELECT coalesce(bool_and(indisvalid), false) FROM pg_index WHERE indexrelid = to_regclass(%s)"

    def test_stream_goes_on_while_it_is_built(self, blog: Sidecar) -> None:
        """An open transaction on the target holds up the index, and no embedding."""
        index = ["blog_embedding_embedding_idx"]
        with psycopg.connect(blog.config.target_dsn) as old:
            old.execute("LOCK TABLE blog_embedding IN ROW EXCLUSIVE MODE")
            with blog.running():
                until(lambda: rows_done(blog) == ROWS, "all rows")
                blog.source.execute("UPDATE blog SET body = 'while the index waits' WHERE id = 1")
                until(lambda: blog.actual() == blog.expected(), "the change")
                waiting = blog.target.execute(self.VALID, index).fetchone()
                old.rollback()
                blog.in_step()
        assert (waiting, blog.target.execute(self.VALID, index).fetchone()) == ((False,), (True,))

    def test_older_transactions_are_waited_for(self, blog: Sidecar) -> None:
        """The index waits longer for a lock than other statements do."""
        blog.service.latency = 0
        with psycopg.connect(blog.config.target_dsn) as old:
            old.execute("LOCK TABLE blog_embedding IN ROW EXCLUSIVE MODE")
            with blog.running():
                waits = """
                    SELECT 1 FROM pg_stat_activity
                    WHERE wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX%'"""
                until(lambda: blog.target.execute(waits).fetchone(), "the index waits")
                old.execute("SELECT pg_sleep(2.5)")
                old.rollback()
                blog.in_step()
        assert [line["event"] for line in blog.log].count("index.building") == 1


def test_long_texts_are_read_in_their_turn(blog: Sidecar) -> None:
    """Rows come in handfuls, but a long text comes alone: first, last, and one after the other."""
    long = "UPDATE blog SET body = repeat('word ' || id || ' ', 20000) WHERE id = ANY (%s)"
    blog.source.execute(long, [[1, 2, 3, 50, 119, 120]])
    blog.once()
    assert rows_done(blog) == ROWS
    assert blog.actual() == blog.expected()


def test_rows_of_inheritance_children_are_not_the_tables(sidecar: Sidecar) -> None:
    """A child has its own keys, which may be the parent's too, and its changes come under its own name.

    Every read is of the parent alone: of rows in turn, of the rest where one fails, of one row by its key.
    """
    sidecar.settings["pipeline"] = {"batch_rows": 1}
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text, n int DEFAULT 1)")
    sidecar.source.execute("CREATE TABLE child (PRIMARY KEY (id)) INHERITS (blog)")
    sidecar.source.execute("ALTER TABLE blog ALTER body SET STORAGE EXTERNAL")
    sidecar.source.execute("INSERT INTO child SELECT i, 'child ' || i FROM generate_series(0, 9) AS i")
    sidecar.source.execute(
        "INSERT INTO blog VALUES (1, repeat('one ', 999), 1), (3, 'three', 1), (5, 'five', 0), (7, 'sev', 1)"
    )
    sidecar.follow(text="body || 1 / n", index="none", chunk="none")
    sidecar.setup()
    sidecar.once()
    sidecar.source.execute("UPDATE ONLY blog SET n = 2 WHERE id = 1")
    sidecar.source.execute("INSERT INTO child VALUES (20, 'child')")
    sidecar.once()
    rows = sidecar.target.execute("SELECT id, left(chunk, 3) FROM blog_embedding ORDER BY id").fetchall()
    assert rows == [(1, "one"), (3, "thr"), (7, "sev")]
    assert sidecar.target.execute("SELECT key FROM walvec.dead_letter").fetchall() == [(["5"],)]
