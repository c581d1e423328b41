"""Exactly what the publication lets through is followed; wal2json ignores it."""

from typing import Any

import pytest

from tests.fix_sidecar import Sidecar
from walvec.errors import ConfigInvalid

ROWS = "INSERT INTO blog SELECT i, 'body ' || i, i % 3 = 0, i FROM generate_series({0}, {0} + 8) AS i"
CHANGES = (
    ROWS.format(100),
    "UPDATE blog SET body = body || '!' WHERE id % 2 = 0",
    "UPDATE blog SET hidden = NOT hidden WHERE id % 5 = 0",
    "UPDATE blog SET id = id + 1000 WHERE id % 7 = 0",
    "DELETE FROM blog WHERE id % 4 = 0",
)


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """Return a table with rows, without a publication."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text, hidden bool, secret int)")
    sidecar.source.execute(ROWS.format(1).encode())
    return sidecar


def follow(sidecar: Sidecar, publication: str) -> None:
    """Publish, set up, backfill and follow the changes."""
    sidecar.source.execute(publication.encode())
    sidecar.setup()
    sidecar.once()
    for statement in CHANGES:
        sidecar.source.execute(statement.encode())
    sidecar.once()


@pytest.mark.parametrize(
    "publication",
    [
        "CREATE PUBLICATION walvec FOR ALL TABLES",
        "CREATE PUBLICATION walvec FOR TABLES IN SCHEMA public",
        "CREATE PUBLICATION walvec FOR TABLE blog",
        "CREATE PUBLICATION walvec FOR TABLE blog (id, body)",
    ],
)
def test_form(blog: Sidecar, publication: str) -> None:
    """A table is followed in any form of publication."""
    blog.follow()
    follow(blog, publication)
    assert blog.actual() == blog.expected()


@pytest.mark.parametrize(
    "row_filter",
    ["id % 7 <> 3 AND id < 1000", "NOT hidden", "(hidden IS NULL) = false", "body LIKE '%1%'"],
)
def test_row_filter(blog: Sidecar, row_filter: str) -> None:
    """Rows outside the filter have no embedding, and lose theirs when they leave it."""
    blog.source.execute("ALTER TABLE blog REPLICA IDENTITY FULL")
    blog.follow(row_filter=row_filter)
    follow(blog, f"CREATE PUBLICATION walvec FOR TABLE blog WHERE ({row_filter})")
    assert blog.actual() == blog.expected()


def test_row_filter_and_where(blog: Sidecar) -> None:
    """A row is embedded only if both the row filter and `where` let it through."""
    blog.source.execute("ALTER TABLE blog REPLICA IDENTITY FULL")
    blog.follow(where="id % 2 = 0 OR body LIKE '%1%'", row_filter="NOT hidden OR secret > 3")
    follow(blog, "CREATE PUBLICATION walvec FOR TABLE blog WHERE (NOT hidden OR secret > 3)")
    assert blog.actual() == blog.expected()


def test_insert_only(blog: Sidecar) -> None:
    """Actions that are not published, here updates and deletes, are not followed."""
    blog.follow()
    follow(blog, "CREATE PUBLICATION walvec FOR TABLE blog WITH (publish = 'insert')")
    inserted = {(str(i),): [f"body {i}"] for i in (*range(1, 10), *range(100, 109))}
    assert blog.actual_of("blog") == inserted


def test_column_list_that_leaves_one_out(blog: Sidecar) -> None:
    """The refusal names a column that is not published, and its hint publishes it."""
    blog.follow(text="body || secret", row_filter="id > 2")
    blog.source.execute("CREATE PUBLICATION walvec FOR TABLE blog (id, body) WHERE (id > 2)")
    error = blog.refusal(blog.setup)
    assert (error.exit_code, "secret" in error.what) == (3, True)
    follow(blog, str(error.hint))
    assert blog.actual() == blog.expected()


def test_publication_without_the_table(blog: Sidecar) -> None:
    """Setup does not alter a foreign publication, and uses it once its owner has."""
    blog.source.execute("CREATE TABLE other (id int PRIMARY KEY)")
    blog.follow()
    blog.source.execute("CREATE PUBLICATION walvec FOR TABLE other")
    error = blog.refusal(blog.setup)
    assert (error.exit_code, error.hint) == (3, 'ALTER PUBLICATION "walvec" ADD TABLE "public"."blog"')
    follow(blog, str(error.hint))
    assert blog.actual() == blog.expected()


def test_run_without_the_table(blog: Sidecar) -> None:
    """Run adds nothing to a publication; its hint is the statement that does."""
    blog.follow()
    blog.setup()
    blog.source.execute("ALTER PUBLICATION walvec DROP TABLE blog")
    error = blog.refusal(blog.once)
    assert (error.exit_code, error.hint) == (3, 'ALTER PUBLICATION "walvec" ADD TABLE "public"."blog"')


def test_one_partition_of_several(sidecar: Sidecar) -> None:
    """Rows of an unpublished partition have no embedding, from the backfill either."""
    for statement in (
        "CREATE TABLE blog (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
        "CREATE TABLE blog_low PARTITION OF blog FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE blog_high PARTITION OF blog DEFAULT",
        "INSERT INTO blog SELECT i * 50, 'body ' || i FROM generate_series(0, 5) AS i",
        "CREATE PUBLICATION walvec FOR TABLE blog_low",
    ):
        sidecar.source.execute(statement.encode())
    sidecar.follow(row_filter="tableoid = 'blog_low'::regclass")
    sidecar.setup()
    sidecar.once()
    sidecar.source.execute("UPDATE blog SET body = body || '!'")
    sidecar.source.execute("INSERT INTO blog VALUES (7, 'low'), (700, 'high')")
    sidecar.source.execute("UPDATE blog SET id = id + 101 WHERE id = 50")
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()


def test_row_filter_changed_while_it_runs(blog: Sidecar) -> None:
    """Rows that a new filter lets through are embedded; the others are removed."""
    blog.follow(row_filter="id > 4")
    blog.setup()
    with blog.running():
        blog.in_step()
        blog.source.execute("ALTER PUBLICATION walvec SET TABLE blog WHERE (id > 4)")
        blog.eventually()
    assert blog.actual() == blog.expected()


def test_expression_that_does_not_parse(blog: Sidecar) -> None:
    """The expression is refused as a setting, with the database's words."""
    blog.follow(text="no_such_column")
    error = blog.refusal(blog.setup)
    assert (type(error), 'column "no_such_column" does not exist' in error.what) == (ConfigInvalid, True)


@pytest.mark.parametrize("settings", [{"text": "body || now()"}, {"where": "random() < 1"}])
def test_setup_refuses_what_is_not_a_function_of_the_row(sidecar: Sidecar, settings: dict[str, Any]) -> None:
    """Setup refuses such an expression before it creates anything."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    sidecar.follow(**settings)
    assert isinstance(sidecar.refusal(sidecar.setup), ConfigInvalid)
    made = sidecar.source.execute(
        "SELECT pubname::text FROM pg_publication UNION ALL "
        "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
    ).fetchall()
    assert made == []


def test_run_refuses_a_function_that_has_become_volatile(sidecar: Sidecar) -> None:
    """Run refuses what setup would now refuse, until it is declared otherwise."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO blog VALUES (1, 'one')")
    sidecar.source.execute(
        "CREATE FUNCTION loud(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN upper($1); END'"
    )
    sidecar.follow(text="public.loud(body)")
    sidecar.setup()
    sidecar.source.execute("ALTER FUNCTION loud VOLATILE")
    assert isinstance(sidecar.refusal(sidecar.once), ConfigInvalid)
    sidecar.source.execute("ALTER FUNCTION loud STABLE")
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()
