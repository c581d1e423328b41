"""Whatever happens to the source, and whenever walvec ends and begins again: in the end, target = f(source).

Random transactions, ends and beginnings, and backfills asked for; and, in a second test, tables, publication
and functions that change while walvec runs, is away, or is behind. Hypothesis shrinks what breaks the promise
to a short list of steps. WALVEC_TEST_EXAMPLES=2000 looks for longer.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal, Self

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tests.fix_process import Run
from tests.fix_sidecar import Sidecar, new_sidecar

EXAMPLES = int(os.environ.get("WALVEC_TEST_EXAMPLES", "30"))

KEYS = st.integers(0, 12)
LANGUAGES = st.sampled_from(["en", "de", "fr"])
# Some of them blank, some long enough for several chunks, and one long enough to be TOASTed.
BODIES = st.sampled_from(
    [
        None,
        "",
        "  ",
        "short",
        "other",
        "one. two. three. four. five. six. seven.",
        "two. three. four.",
        "TOAST",
    ]
)

BLOG = "(id int PRIMARY KEY, body text, views int DEFAULT 0, public bool)"
TABLES = (
    f"CREATE TABLE blog {BLOG}",
    "ALTER TABLE blog ALTER body SET STORAGE EXTERNAL",
    """
    CREATE FUNCTION shout(text) RETURNS text LANGUAGE plpgsql IMMUTABLE
    AS 'BEGIN RETURN upper($1); END'
    """,
    """
    CREATE TABLE page (
        lang text, id numeric, body text, views int DEFAULT 0, public bool, PRIMARY KEY (lang, id)
    ) PARTITION BY LIST (lang)
    """,
    "CREATE TABLE page_en PARTITION OF page FOR VALUES IN ('en')",
    "CREATE TABLE page_de PARTITION OF page FOR VALUES IN ('de')",
    "CREATE TABLE page_rest PARTITION OF page DEFAULT",
    "ALTER TABLE page_rest REPLICA IDENTITY FULL",
    *(f"ALTER TABLE page_{leaf} ALTER body SET STORAGE EXTERNAL" for leaf in ("en", "de", "rest")),
)

# What every history begins with: nothing left of the one before, most keys taken, a few free.
FIRST = (
    "DELETE FROM blog_embedding",
    "DELETE FROM views_embedding",
    "DELETE FROM shout_embedding",
    "DELETE FROM page_embedding",
    "DELETE FROM blog",
    "DELETE FROM page",
    "INSERT INTO blog (id, body) SELECT i, 'first ' || i FROM generate_series(0, 8) AS i",
    "INSERT INTO page SELECT ('{en,de,fr}'::text[])[i % 3 + 1], i, 'x' || i FROM generate_series(0, 8) AS i",
)

Ending = Literal["commit", "rollback"]


@dataclass(frozen=True)
class Statement:
    """SQL with the values drawn for its literals."""

    text: str
    values: tuple[object, ...] = ()

    def run(self, connection: psycopg.Connection) -> None:
        """Run it."""
        values = [f"long. {'x' * 3000}" if value == "TOAST" else value for value in self.values]
        connection.execute(sql.SQL(self.text).format(*values))


def statements(text: str, *values: st.SearchStrategy[object]) -> st.SearchStrategy[Statement]:
    """Draw statements of a kind."""
    return st.builds(Statement, st.just(text), st.tuples(*values))


ROW = "INSERT INTO blog (id, body, public) VALUES ({}, {}, {}) ON CONFLICT DO NOTHING"
ROWS = """
    INSERT INTO blog (id, body) SELECT i, {} || i FROM generate_series({}, 12) AS i
    ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body
"""
MOVE = "UPDATE blog SET id = {0} WHERE id = {1} AND NOT EXISTS (SELECT FROM blog WHERE id = {0})"
ON_BLOG = st.one_of(
    statements(ROW, KEYS, BODIES, st.booleans()),
    statements(ROWS, BODIES, KEYS),
    statements(MOVE, KEYS, KEYS),
    statements("UPDATE blog SET body = {} WHERE id = {}", BODIES, KEYS),
    statements("UPDATE blog SET views = views + 1 WHERE id > {}", KEYS),
    statements("UPDATE blog SET public = {} WHERE id = {}", st.sampled_from([True, False, None]), KEYS),
    statements("DELETE FROM blog WHERE id = {}", KEYS),
    statements("DELETE FROM blog WHERE id > {}", KEYS),
)

# To another partition, unless that has the key; and 1 becomes 1.0, the same key in other words.
MOVE_ACROSS = """
    UPDATE page SET lang = {0} WHERE id = {1}
    AND NOT EXISTS (SELECT FROM page AS other WHERE other.id = {1} AND other.lang <> page.lang)
"""
RESPELL = "UPDATE page SET id = id * 1.0 WHERE id = {}"
ON_PAGE = st.one_of(
    statements(
        "INSERT INTO page VALUES ({}, {}, {}, 0, true) ON CONFLICT DO NOTHING", LANGUAGES, KEYS, BODIES
    ),
    statements(MOVE_ACROSS, LANGUAGES, KEYS),
    statements(RESPELL, KEYS),
    statements("UPDATE page SET body = {} WHERE id = {}", BODIES, KEYS),
    statements("UPDATE page SET views = views + 1 WHERE lang = {}", LANGUAGES),
    statements("DELETE FROM page WHERE lang = {} AND id > {}", LANGUAGES, KEYS),
)

TRUNCATES = st.sampled_from(
    [Statement(f"TRUNCATE {table}") for table in ("blog", "page", "page_en", "page_rest")]
)


@dataclass(frozen=True)
class Transaction:
    """Statements that are committed or rolled back together; those in the savepoint are undone."""

    before: list[Statement]
    undone: list[Statement]
    after: list[Statement]
    end: Ending

    def run(self, connection: psycopg.Connection) -> None:
        """Run it."""
        with connection.transaction(force_rollback=self.end == "rollback"):
            for each in self.before:
                each.run(connection)
            if self.undone:
                with connection.transaction(force_rollback=True):
                    for each in self.undone:
                        each.run(connection)
            for each in self.after:
                each.run(connection)


def transactions(kinds: st.SearchStrategy[Statement]) -> st.SearchStrategy[Transaction]:
    """Draw transactions of such statements."""
    return st.builds(
        Transaction,
        before=st.lists(kinds, min_size=1, max_size=3),
        undone=st.one_of(st.just([]), st.lists(kinds, max_size=2)),
        after=st.lists(kinds, max_size=3),
        end=st.sampled_from(["commit", "commit", "commit", "rollback"]),
    )


SWAP = """
    CREATE TABLE blog_next (LIKE blog INCLUDING ALL);
    INSERT INTO blog_next (id, body, views, public)
    SELECT id, {} || id, views, public FROM blog WHERE id <> {};
    ALTER TABLE blog RENAME TO blog_last;
    ALTER TABLE blog_next RENAME TO blog;
    ALTER PUBLICATION walvec ADD TABLE blog;
    DROP TABLE blog_last
"""
RECREATE = f"""
    DROP TABLE blog;
    CREATE TABLE blog {BLOG};
    INSERT INTO blog (id, body) SELECT i, {{}} || i FROM generate_series({{}}, 12) AS i;
    ALTER PUBLICATION walvec ADD TABLE blog
"""
REATTACH = """
    ALTER TABLE page DETACH PARTITION page_de;
    DELETE FROM page_de WHERE id > {};
    UPDATE page_de SET body = {};
    DELETE FROM page_rest WHERE lang = 'de';
    ALTER TABLE page ATTACH PARTITION page_de FOR VALUES IN ('de')
"""
REMAKE_PARTITION = """
    DROP TABLE page_en;
    CREATE TABLE page_en PARTITION OF page FOR VALUES IN ('en');
    INSERT INTO page SELECT 'en', i, {} || i FROM generate_series({}, 12) AS i
"""
RENAME_COLUMN = """
    ALTER TABLE blog RENAME body TO old;
    ALTER TABLE blog ADD body text;
    UPDATE blog SET body = old || ' moved';
    ALTER TABLE blog DROP old
"""
DDL = st.one_of(
    statements("ALTER TABLE blog ALTER body TYPE text USING body || {}", st.sampled_from(["!", "?"])),
    statements(SWAP, BODIES, KEYS),
    statements(RECREATE, BODIES, KEYS),
    statements(RENAME_COLUMN),
    statements("ALTER TABLE blog DROP body; ALTER TABLE blog ADD body text DEFAULT {}", BODIES),
    statements("ALTER TABLE blog ADD mood text DEFAULT 'x'; ALTER TABLE blog DROP mood"),
    statements("ALTER PUBLICATION walvec SET TABLE page, blog WHERE (id < {})", KEYS),
    statements("ALTER PUBLICATION walvec SET TABLE page, blog"),
    statements(REATTACH, KEYS, BODIES),
    statements(REMAKE_PARTITION, BODIES, KEYS),
    statements(
        "CREATE OR REPLACE FUNCTION shout(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS {}",
        st.sampled_from([f"BEGIN RETURN {body}; END" for body in ("upper($1)", "$1 || '!'", "lower($1)")]),
    ),
    st.just(Statement("VACUUM FULL blog")),
    st.just(Statement("TRUNCATE blog; INSERT INTO blog (id, body) VALUES (1, 'loaded again')")),
)


Step = Transaction | Statement | Literal["stop", "crash", "away", "backfill blog", "backfill page", "in step"]
ENDS = st.sampled_from(["stop", "crash", "in step"])
BACKFILLS = st.sampled_from(["backfill blog", "backfill page"])
ROWWISE = transactions(st.one_of(ON_BLOG, ON_PAGE))
WHATEVER = transactions(st.one_of(ON_BLOG, ON_PAGE, TRUNCATES))

# A backfill, which a truncate brings about too, mends what went wrong before it: so most lists have none.
STEPS = st.one_of(
    st.lists(st.one_of(ROWWISE, ROWWISE, ROWWISE, ENDS), min_size=5, max_size=30),
    st.lists(st.one_of(ROWWISE, ROWWISE, ROWWISE, ENDS), min_size=5, max_size=30),
    st.lists(st.one_of(WHATEVER, WHATEVER, ENDS, BACKFILLS), min_size=5, max_size=30),
)
STEPS_WITH_DDL = st.lists(
    st.one_of(ROWWISE, ROWWISE, WHATEVER, DDL, DDL, ENDS, st.just("away"), BACKFILLS), min_size=4, max_size=20
)


@pytest.fixture(scope="module")
def sidecar(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """Four vectorizers on two tables, in small batches, so that much is in flight at once."""
    with new_sidecar(server, template, tmp_path_factory.mktemp("sidecar")) as own:
        for table in TABLES:
            own.source.execute(table.encode())
        own.settings["pipeline"] = {"batch_rows": 4, "batch_delay": 0.0}
        own.follow("blog", chunk={"size": 12, "overlap": 0}, where="public IS NOT FALSE")
        own.follow("views", table="blog", text="body || views", chunk="none", index="none")
        own.follow("shout", table="blog", text="public.shout(body)", chunk="none", index="none")
        own.follow("page", key=("lang", "id"), text="lang || ': ' || body")
        own.setup()
        own.once()
        own.service.latency = 0.01
        yield own


class Player:
    """Plays steps on a sidecar that runs, except for the moments in which it is away."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._running = ExitStack()
        self._run: Run | None = None

    def __enter__(self) -> Self:
        for statement in FIRST:
            self._sidecar.source.execute(statement.encode())
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _begin(self) -> None:
        if self._run is None:
            self._run = self._running.enter_context(self._sidecar.running())

    def _end(self) -> None:
        self._running.close()
        self._run = None

    def play(self, step: Step) -> None:
        """Take one step."""
        match step:
            case Transaction():
                step.run(self._sidecar.source)
            case Statement():
                self._alter(step)
            case "in step":
                self._begin()
                self._sidecar.in_step()
            case "backfill blog" | "backfill page":
                self._sidecar.backfill(step.removeprefix("backfill "))
            case "away":
                self._end()
            case "stop" | "crash":
                if step == "crash" and self._run:
                    self._run.abandon()
                self._end()
                self._begin()

    def _alter(self, statement: Statement) -> None:
        """Run DDL, each list of statements in one transaction: no table is ever seen half made."""
        if statement.text.startswith("VACUUM"):
            statement.run(self._sidecar.source)
            return
        with self._sidecar.source.transaction():
            statement.run(self._sidecar.source)
        if "PUBLICATION walvec SET" in statement.text:
            row_filter = f"id < {statement.values[0]}" if statement.values else "true"
            self._filter_blog(row_filter)
        elif "PUBLICATION walvec ADD TABLE blog" in statement.text:
            self._filter_blog("true")

    def _filter_blog(self, row_filter: str) -> None:
        for name in ("blog", "views", "shout"):
            followed = self._sidecar.followed[name]
            self._sidecar.followed[name] = replace(followed, row_filter=row_filter)


SLOWLY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.timeout(400 + EXAMPLES * 5)  # shrinking takes its time
@given(steps=STEPS)
@SLOWLY
def test_target_is_f_of_source(sidecar: Sidecar, steps: list[Step]) -> None:
    """After any steps, once walvec has caught up: no row missing, none stale, no orphan."""
    with Player(sidecar) as player:
        for step in steps:
            player.play(step)
        player.play("in step")
    assert sidecar.actual() == sidecar.expected()


@pytest.mark.timeout(400 + EXAMPLES * 10)
@given(steps=STEPS_WITH_DDL)
@SLOWLY
def test_target_is_f_of_source_whatever_the_catalog_does(sidecar: Sidecar, steps: list[Step]) -> None:
    """After any steps, DDL among them, once walvec has begun again and caught up: target = f(source)."""
    with Player(sidecar) as player:
        for step in steps:
            player.play(step)
        player.play("stop")
        player.play("in step")
    assert sidecar.actual() == sidecar.expected()
    sidecar.source.execute("ALTER PUBLICATION walvec SET TABLE page, blog")
    for name in ("blog", "views", "shout"):
        sidecar.followed[name] = replace(sidecar.followed[name], row_filter="true")
