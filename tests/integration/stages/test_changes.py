"""Every kind of change, on its way from the source's table to the target's."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.fix_sidecar import Sidecar

TABLE = "CREATE TABLE blog (id int PRIMARY KEY, body text, views int DEFAULT 0)"
ROWS = "DELETE FROM blog; INSERT INTO blog SELECT i, 'body ' || i FROM generate_series(1, 5) AS i"
TRANSACTIONS = {
    "insert": "INSERT INTO blog VALUES (6, 'six')",
    "insert of many rows": "INSERT INTO blog SELECT i, 'many ' || i FROM generate_series(10, 1500) AS i",
    "insert on conflict": """
        INSERT INTO blog VALUES (5, 'V'), (6, 'VI') ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body
    """,
    "update of the text": "UPDATE blog SET body = 'other' WHERE id = 2",
    "update of another column": "UPDATE blog SET views = views + 1",
    "update to a blank text": "UPDATE blog SET body = E' \\t\\n' WHERE id = 2",
    "update to no text": "UPDATE blog SET body = NULL WHERE id = 2",
    "update from no text": "UPDATE blog SET body = NULL; UPDATE blog SET body = 'again'",
    "update, time and again": "UPDATE blog SET body = 'x'; UPDATE blog SET body = 'y' WHERE id < 4",
    "delete": "DELETE FROM blog WHERE id = 2",
    "delete of all": "DELETE FROM blog",
    "delete and insert of one key": "DELETE FROM blog WHERE id = 2; INSERT INTO blog VALUES (2, 'reborn')",
    "insert and delete of one key": "INSERT INTO blog VALUES (6, 'six'); DELETE FROM blog WHERE id = 6",
    "truncate": "TRUNCATE blog",
    "truncate, then insert": "TRUNCATE blog; INSERT INTO blog VALUES (2, 'after')",
    "insert, then truncate": "INSERT INTO blog VALUES (6, 'before'); TRUNCATE blog",
    "change of key": "UPDATE blog SET id = 20 WHERE id = 2",
    "change of key and text": "UPDATE blog SET id = 20, body = 'moved' WHERE id = 2",
    "change of every key": "UPDATE blog SET id = -id",
    "change of key, the old one taken again": """
        UPDATE blog SET id = 20 WHERE id = 2; INSERT INTO blog VALUES (2, 'heir')
    """,
    "two keys swapped": """
        UPDATE blog SET id = 0 WHERE id = 1; UPDATE blog SET id = 1 WHERE id = 2;
        UPDATE blog SET id = 2 WHERE id = 0
    """,
    "merge": """
        MERGE INTO blog USING (VALUES (1), (6)) AS given (id) ON blog.id = given.id
        WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (given.id, 'merged')
    """,
    "savepoint rolled back": """
        UPDATE blog SET body = 'kept' WHERE id = 1; SAVEPOINT s; UPDATE blog SET body = 'lost';
        DELETE FROM blog WHERE id = 3; ROLLBACK TO s; UPDATE blog SET body = 'kept too' WHERE id = 2
    """,
    "truncate rolled back": "SAVEPOINT s; TRUNCATE blog; ROLLBACK TO s; DELETE FROM blog WHERE id = 1",
}


def run(connection: psycopg.Connection, statements: str) -> None:
    """Run statements as one transaction."""
    with connection.transaction():
        for statement in statements.split(";"):
            connection.execute(statement.encode())


@pytest.fixture(scope="module")
def followed(shared_sidecar: Sidecar) -> Iterator[Sidecar]:
    """A table that is followed while the tests of this module alter it, one after the other."""
    shared_sidecar.source.execute(TABLE)
    shared_sidecar.follow()
    shared_sidecar.setup()
    with shared_sidecar.running():
        yield shared_sidecar


@pytest.fixture
def blog(followed: Sidecar) -> Sidecar:
    """Give the table five rows, embedded already."""
    run(followed.source, ROWS)
    followed.in_step()
    followed.service.forget()
    return followed


@pytest.mark.parametrize("statements", TRANSACTIONS.values(), ids=TRANSACTIONS)
def test_follows(blog: Sidecar, statements: str) -> None:
    """After the transaction the target is f(source) again."""
    run(blog.source, statements)
    blog.in_step()
    assert blog.actual() == blog.expected()


def test_in_quick_succession(blog: Sidecar) -> None:
    """All of these transactions end as well without a wait between them."""
    for statements in TRANSACTIONS.values():
        run(blog.source, ROWS)
        run(blog.source, statements)
    blog.in_step()
    assert blog.actual() == blog.expected()


def test_rolled_back(blog: Sidecar) -> None:
    """A transaction that is rolled back changes nothing and sends nothing."""
    with blog.source.transaction(force_rollback=True):
        blog.source.execute("UPDATE blog SET body = 'never'")
        blog.source.execute("TRUNCATE blog")
    blog.in_step()
    assert (blog.actual(), blog.service.texts) == (blog.expected(), [])


def test_rows_copied_in(blog: Sidecar) -> None:
    """Rows of one COPY, which share one LSN in the WAL, all arrive."""
    with blog.source.cursor().copy("COPY blog (id, body) FROM STDIN") as copy:
        for number in range(100, 1600):
            copy.write_row((number, f"copied {number}"))
    blog.in_step()
    assert blog.actual() == blog.expected()


def test_interleaved_transactions(blog: Sidecar) -> None:
    """Of two transactions at once the later commit wins, whatever was written first."""
    database = blog.config.source_dsn
    with psycopg.connect(database) as early, psycopg.connect(database) as late:
        early.execute("INSERT INTO blog VALUES (6, 'early')")
        late.execute("INSERT INTO blog VALUES (7, 'late')")
        early.execute("UPDATE blog SET body = 'by the early one' WHERE id = 1")
        late.execute("UPDATE blog SET body = 'by the late one' WHERE id = 2")
        late.commit()
        early.execute("UPDATE blog SET body = 'last word' WHERE id = 2")
    blog.in_step()
    assert blog.actual() == blog.expected()


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param("UPDATE page SET part = 'B' WHERE part = 'b'", id="in one column"),
        pytest.param("UPDATE page SET book = book + 10, part = part || '!'", id="in all columns"),
        pytest.param("DELETE FROM page WHERE book = 2; UPDATE page SET book = 2", id="to one that was taken"),
    ],
)
def test_change_of_a_composite_key(sidecar: Sidecar, statements: str) -> None:
    """A row whose key changes leaves nothing behind under the old one."""
    sidecar.source.execute("CREATE TABLE page (book int, body text, part text, PRIMARY KEY (part, book))")
    sidecar.source.execute("""
        INSERT INTO page SELECT b, b || p, p FROM generate_series(1, 2) AS b, unnest(ARRAY['a', 'b']) AS p
    """)
    sidecar.follow("page", key=("part", "book"))
    sidecar.setup()
    sidecar.once()
    run(sidecar.source, statements)
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()


def test_text_of_another_table_is_left_alone(blog: Sidecar) -> None:
    """Tables that nobody follows, of the same name in another schema too, reach no target."""
    blog.source.execute("CREATE SCHEMA other CREATE TABLE blog (id int PRIMARY KEY, body text)")
    blog.source.execute("INSERT INTO other.blog VALUES (1, 'not this one'), (9, 'nor this')")
    blog.in_step()
    assert (blog.actual(), blog.service.texts) == (blog.expected(), [])
