"""Whatever changes beside the stream, and whenever, the target is f(source)."""

import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import LiteralString

import pytest

from tests.fix_embedding_service import EmbeddingService
from tests.fix_postgres import CHECKOUT, Cluster
from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec.errors import WalvecError
from walvec_slots.errors import PreconditionFailed, SlotLost

# Enough WAL to decode that a backfill is through before the stream gets to what comes after it.
BACKLOG = "INSERT INTO other SELECT g, repeat('x', 100) FROM generate_series(1, 30000) AS g"


@pytest.fixture
def behind(blog: Sidecar) -> Sidecar:
    """Return a sidecar that is stopped, with a backlog before what the test does next."""
    blog.source.execute("CREATE TABLE other (id int, filler text)")
    blog.source.execute(BACKLOG)
    return blog


def generation(sidecar: Sidecar, name: str = "blog") -> int:
    """Return how many epochs a vectorizer has had."""
    query = "SELECT generation FROM walvec.vectorizer WHERE name = %s"
    ((number,),) = sidecar.target.execute(query, [name]).fetchall()
    return int(number)


@pytest.mark.parametrize(
    "statements",
    [
        # rewritten, and no event tells of it
        """UPDATE blog SET body = 'mixed Case' WHERE id = 3;
        ALTER TABLE blog ALTER body TYPE text USING upper(body)""",
        # dropped and made again
        """UPDATE blog SET body = 'of the old table'; INSERT INTO blog VALUES (77, 'an orphan');
        DROP TABLE blog; CREATE TABLE blog (id int PRIMARY KEY, body text, views int DEFAULT 0);
        INSERT INTO blog VALUES (1, 'of the new table'); ALTER PUBLICATION walvec ADD TABLE blog""",
        # swapped by rename
        """UPDATE blog SET body = 'of the old table'; INSERT INTO blog VALUES (77, 'an orphan');
        CREATE TABLE blog_new (LIKE blog INCLUDING ALL);
        INSERT INTO blog_new SELECT id, 'new ' || id, 0 FROM blog WHERE id < 5;
        ALTER TABLE blog RENAME TO blog_old; ALTER TABLE blog_new RENAME TO blog;
        ALTER PUBLICATION walvec ADD TABLE blog""",
        # swapped, written under the other's name, and swapped back
        """CREATE TABLE blog_new (LIKE blog INCLUDING ALL);
        ALTER TABLE blog RENAME TO blog_old; ALTER TABLE blog_new RENAME TO blog;
        INSERT INTO blog VALUES (1, 'of the other table'), (99, 'of the other table');
        UPDATE blog_old SET body = 'written meanwhile' WHERE id = 2;
        ALTER TABLE blog RENAME TO blog_new; ALTER TABLE blog_old RENAME TO blog""",
        # the everyday expand and contract
        """ALTER TABLE blog ADD body_new text; UPDATE blog SET body_new = 'new ' || id;
        ALTER TABLE blog RENAME body TO body_old; ALTER TABLE blog RENAME body_new TO body""",
        # a column dropped and added again
        "ALTER TABLE blog DROP body; ALTER TABLE blog ADD body text DEFAULT 'added'",
        # two columns that exchange their names
        """ALTER TABLE blog ADD other text DEFAULT 'other'; ALTER TABLE blog RENAME body TO third;
        ALTER TABLE blog RENAME other TO body; ALTER TABLE blog RENAME third TO other""",
        # a truncate of the table before, which the new one must survive
        """TRUNCATE blog; CREATE TABLE blog_new (LIKE blog INCLUDING ALL);
        INSERT INTO blog_new VALUES (8, 'kept');
        ALTER TABLE blog RENAME TO blog_old; ALTER TABLE blog_new RENAME TO blog;
        ALTER PUBLICATION walvec ADD TABLE blog""",
        # the key changed its text: 1 became 001
        "DELETE FROM blog WHERE id = 2; UPDATE blog SET id = id + 100 WHERE id > 3",
    ],
)
@pytest.mark.parametrize("how", ["in one transaction", "one by one"])
def test_older_events_do_not_overwrite_the_comparison(behind: Sidecar, statements: str, how: str) -> None:
    """Changes from before the catalog changed are read by key, however late they come."""
    if how == "in one transaction":
        with behind.source.transaction():
            behind.source.execute(statements.encode())
    else:
        for statement in statements.split(";"):
            behind.source.execute(statement.encode())
    behind.once()
    assert behind.actual() == behind.expected()


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (
            "ALTER TABLE blog ADD body_new text; UPDATE blog SET body_new = 'new ' || id",
            "ALTER TABLE blog RENAME body TO body_old; ALTER TABLE blog RENAME body_new TO body",
        ),
        ("SELECT", "ALTER TABLE blog DROP body; ALTER TABLE blog ADD body text DEFAULT 'added'"),
        ("SELECT", "ALTER TABLE blog ALTER body TYPE text COLLATE \"C\" USING body || '!'"),
    ],
)
def test_columns_are_known_by_more_than_their_names(blog: Sidecar, before: str, change: str) -> None:
    """A column that takes the name of another one is a different column."""
    with blog.running():
        blog.source.execute(before.encode())
        blog.in_step()
        with blog.source.transaction():
            blog.source.execute(change.encode())
        blog.eventually()
    assert blog.actual() == blog.expected()


def test_renamed_label_of_an_enum_is_another_text(sidecar: Sidecar) -> None:
    """A type that prints other values gives other texts, in arrays and composites too."""
    sidecar.source.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (mood mood, number int)"
    )
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, one mood, many mood[], two pair)")
    sidecar.source.execute("INSERT INTO blog VALUES (1, 'sad', '{sad,glad}', '(sad,1)')")
    for name, text in (("one", "one"), ("many", "many"), ("two", "two")):
        sidecar.follow(name, table="blog", text=f"{text}::text")
    sidecar.setup()
    with sidecar.running():
        sidecar.in_step()
        sidecar.source.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
        sidecar.eventually()
    assert sidecar.actual() == sidecar.expected()
    assert sidecar.actual()["two"] == {("1",): ["(blue,1)"]}


@pytest.mark.parametrize("when", ["running", "away"])
def test_replaced_function_makes_other_texts(sidecar: Sidecar, when: str) -> None:
    """Every row is compared once a function is replaced, even one called indirectly."""
    made: LiteralString = (
        "CREATE OR REPLACE FUNCTION inner_part(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS "
    )
    sidecar.source.execute(made + "$$ BEGIN RETURN upper($1); END $$")
    sidecar.source.execute("""
        CREATE FUNCTION outer_part(text) RETURNS text IMMUTABLE LANGUAGE plpgsql
        AS $$ BEGIN RETURN '<' || public.inner_part($1) || '>'; END $$""")
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO blog VALUES (1, 'One'), (2, 'Two')")
    sidecar.follow(text="public.outer_part(body)")
    sidecar.setup()
    sidecar.once()
    if when == "running":
        with sidecar.running():
            sidecar.in_step()
            sidecar.source.execute(made + "$$ BEGIN RETURN lower($1); END $$")
            sidecar.eventually()
    else:
        sidecar.source.execute(made + "$$ BEGIN RETURN lower($1); END $$")
        sidecar.once()
    assert sidecar.actual() == sidecar.expected()
    assert sidecar.actual()["blog"]["1",] == ["<one>"]


def test_partition_made_again_is_followed(sidecar: Sidecar) -> None:
    """A partition that is dropped and recreated with its rows has their embeddings."""
    sidecar.source.execute("""
        CREATE TABLE part (kind int, id int, body text, PRIMARY KEY (kind, id)) PARTITION BY LIST (kind);
        CREATE TABLE p1 PARTITION OF part FOR VALUES IN (1);
        CREATE TABLE p2 PARTITION OF part FOR VALUES IN (2);
        CREATE PUBLICATION walvec FOR TABLE p1;
        INSERT INTO part SELECT 1, g, 'old ' || g FROM generate_series(1, 3) AS g""")
    sidecar.follow("part", key=("kind", "id"), row_filter="kind = 1")
    sidecar.setup()
    with sidecar.running():
        sidecar.in_step()
        with sidecar.source.transaction():
            sidecar.source.execute("""
                DROP TABLE p1; CREATE TABLE p1 PARTITION OF part FOR VALUES IN (1);
                ALTER PUBLICATION walvec ADD TABLE p1;
                INSERT INTO part SELECT 1, g, 'new ' || g FROM generate_series(1, 5) AS g""")
        sidecar.eventually()
    assert sidecar.actual() == sidecar.expected()
    assert len(sidecar.actual()["part"]) == 5


@pytest.mark.parametrize(
    ("kind", "first", "statements"),
    [
        # equal keys in other words: 1.0 and 1.00 are one row
        ("numeric", "1.0", "DELETE FROM item; INSERT INTO item VALUES (1.00, 'second')"),
        ("numeric", "1.0", "UPDATE item SET id = 1.00, body = 'second'; UPDATE item SET id = 1.000"),
        (
            "numeric",
            "1.0",
            "UPDATE item SET id = 1.00; UPDATE item SET id = 2; INSERT INTO item VALUES (1, 'x')",
        ),
        ("numeric", "NaN", "UPDATE item SET body = 'second'; UPDATE item SET id = 1"),
        ("float8", "0", "UPDATE item SET id = '-0', body = 'second'"),
    ],
)
def test_older_events_about_equal_keys_meet_in_one_row(
    sidecar: Sidecar, kind: LiteralString, first: str, statements: str
) -> None:
    """Keys that are equal and look different stand for the existing row's spelling."""
    sidecar.source.execute("CREATE TABLE other (id int, filler text)")
    sidecar.source.execute(f"CREATE TABLE item (id {kind} PRIMARY KEY, body text)".encode())
    sidecar.source.execute("INSERT INTO item VALUES (%s, 'first')", [first])
    sidecar.follow("item")
    sidecar.setup()
    sidecar.once()
    sidecar.source.execute(BACKLOG)
    sidecar.source.execute(statements.encode())
    sidecar.source.execute("ALTER TABLE item ALTER body TYPE text USING body || '!'")
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()


def test_older_events_about_keys_of_another_type_are_no_dead_letters(sidecar: Sidecar) -> None:
    """An older key that no longer fits the key's type stands for no row."""
    sidecar.source.execute("CREATE TABLE item (id text PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO item SELECT g::text, 'first ' || g FROM generate_series(1, 5) AS g")
    sidecar.follow("item")
    sidecar.setup()
    sidecar.once()
    sidecar.source.execute("""
        INSERT INTO item VALUES ('no number', 'x'), ('007', 'seven'); DELETE FROM item WHERE id = 'no number';
        ALTER TABLE item ALTER id TYPE int USING id::int""")
    sidecar.target.execute("DROP TABLE item_embedding; DELETE FROM walvec.vectorizer")
    sidecar.setup()
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()
    assert sidecar.target.execute("SELECT count(*) FROM walvec.dead_letter").fetchone() == (0,)


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE blog; INSERT INTO blog SELECT g, 'loaded ' || g FROM generate_series(1, 9) AS g",
        "VACUUM FULL blog",
        "CLUSTER blog USING blog_pkey",
        "ANALYZE blog",
        "CREATE INDEX ON blog (views)",
        "GRANT SELECT ON blog TO PUBLIC",
        "ALTER TABLE blog ADD extra text",
        "CREATE TABLE unrelated (id int PRIMARY KEY); ALTER PUBLICATION walvec ADD TABLE unrelated",
    ],
)
def test_what_leaves_the_rows_as_the_stream_tells_begins_no_epoch(blog: Sidecar, statement: str) -> None:
    """Neither a truncate in the stream nor new files of the same rows begin an epoch."""
    with blog.running():
        blog.in_step()
        before = generation(blog)
        for each in statement.split(";"):
            blog.source.execute(each.encode())
        blog.in_step()
    blog.once()
    assert (blog.actual(), generation(blog)) == (blog.expected(), before)
    assert [line["event"] for line in blog.log].count("backfill.started") == 1


def test_process_with_the_settings_before_writes_nothing_more(
    blog: Sidecar, embedding_service: EmbeddingService
) -> None:
    """No vector of the old provider is written after a backfill with another one."""
    old = blog.start("run")
    old.wait_for("stream.attached")
    blog.settings["embedder"] |= {"provider": "hashing", "dimensions": embedding_service.dimensions}
    number = iter(range(100, 10_000))

    def ends() -> bool:
        blog.source.execute("INSERT INTO blog VALUES (%s, 'written meanwhile')", [next(number)])
        return old.code is not None

    blog.backfill()
    until(ends, "the old process ends")
    assert old.code == PreconditionFailed.exit_code
    since = "SELECT count(*) FROM blog_embedding"
    assert blog.target.execute(since).fetchone() == (0,)


def test_vectorizer_of_another_slot_is_not_written(blog: Sidecar) -> None:
    """A vectorizer of another slot is refused, and nothing of it is written."""
    before = blog.actual()
    blog.source.execute("UPDATE walvec.vectorizer SET slot = 'another'")
    blog.source.execute("UPDATE blog SET body = 'new'")
    assert isinstance(blog.refusal(blog.once), PreconditionFailed)
    assert blog.actual() == before


@pytest.mark.parametrize(
    "change", ["UPDATE walvec.vectorizer SET slot = 'another'", "DELETE FROM walvec.vectorizer"]
)
def test_vectorizer_taken_away_while_it_runs_ends_the_process(blog: Sidecar, change: LiteralString) -> None:
    """A process stops, with the reason, once another slot owns its vectorizer."""
    error: WalvecError | None = None
    try:
        with blog.running():
            blog.in_step()
            blog.target.execute(change)
            blog.source.execute("UPDATE blog SET body = 'new'")
            until(lambda: not blog._alive(), "walvec stops")
    except WalvecError as raised:
        error = raised
    assert isinstance(error, PreconditionFailed)
    assert blog.target.execute("SELECT count(*) FROM blog_embedding WHERE chunk = 'new'").fetchone() == (0,)


class Volume:
    """A cluster's files, which can be restored."""

    def __init__(self, cluster: Cluster, copy: Path) -> None:
        self._cluster, self._copy = cluster, copy
        self._data = CHECKOUT / ".local/clusters" / cluster.name

    def snapshot(self) -> None:
        """Copy the files as they are on disk, with the server down."""
        self._cluster.stop()
        subprocess.run(["cp", "-a", self._data, self._copy], check=True)
        self._cluster.start()

    def restore(self) -> None:
        """Put the copy in place of the files."""
        self._cluster.stop("immediate")
        subprocess.run(["rm", "-rf", self._data], check=True)
        subprocess.run(["cp", "-a", self._copy, self._data], check=True)
        self._cluster.start()


@pytest.mark.timeout(180)
def test_source_that_went_back_and_wrote_past_the_checkpoint_is_refused(
    cluster: Cluster,
    create_database: Callable[[], str],
    tmp_path: Path,
    embedding_service: EmbeddingService,
) -> None:
    """The last embedded commit gives away a volume that was restored from a snapshot.

    Its identity and timeline are the same.
    """
    with closing(Sidecar(cluster.dsn(), create_database(), tmp_path, embedding_service, [])) as sidecar:
        sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
        sidecar.source.execute("INSERT INTO blog SELECT g, 'first ' || g FROM generate_series(1, 9) AS g")
        sidecar.follow()
        sidecar.setup()
        sidecar.once()
        sidecar.source.close()
        volume = Volume(cluster, tmp_path / "copy")
        volume.snapshot()
        sidecar.reconnect()
        sidecar.source.execute("UPDATE blog SET body = 'lost ' || id; INSERT INTO blog VALUES (50, 'lost')")
        sidecar.once()
        sidecar.source.close()
        volume.restore()
        sidecar.reconnect()
        sidecar.source.execute("CREATE TABLE other (id int, filler text)")
        sidecar.source.execute(BACKLOG)
        sidecar.source.execute("UPDATE blog SET body = 'second ' || id WHERE id < 4")
        assert isinstance(sidecar.refusal(sidecar.once), SlotLost)
