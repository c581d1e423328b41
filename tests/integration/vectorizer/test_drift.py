"""Tables and publication change while walvec runs.

What can be followed is followed; any other vectorizer is paused alone.
"""

from collections.abc import Iterator

import pytest

from tests.fix_process import until
from tests.fix_sidecar import Sidecar


@pytest.fixture
def blog(sidecar: Sidecar) -> Iterator[Sidecar]:
    """Return a sidecar that runs and is in step with two tables."""
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text, other text)")
    sidecar.source.execute("CREATE TABLE page (id bigint PRIMARY KEY, body text)")
    sidecar.source.execute(
        "INSERT INTO blog SELECT g, 'blog ' || g, 'other ' || g FROM generate_series(1, 9) AS g"
    )
    sidecar.source.execute("INSERT INTO page SELECT g, 'page ' || g FROM generate_series(1, 9) AS g")
    sidecar.follow("blog")
    sidecar.follow("page")
    sidecar.setup()
    with sidecar.running():
        sidecar.in_step()
        yield sidecar


def paused(sidecar: Sidecar, name: str = "blog") -> str | None:
    """Return why a vectorizer is paused, None if it is not."""
    query = "SELECT paused FROM walvec.vectorizer WHERE name = %s"
    ((reason,),) = sidecar.target.execute(query, [name]).fetchall()
    return str(reason) if reason else None


def held(sidecar: Sidecar) -> int:
    """Return how many chunks of the blog the target holds."""
    ((count,),) = sidecar.target.execute("SELECT count(*) FROM blog_embedding").fetchall()
    return int(count)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE blog ADD COLUMN extra text DEFAULT 'x'",
        "ALTER TABLE blog DROP COLUMN other",
        "ALTER TABLE blog RENAME COLUMN other TO another",
        "ALTER TABLE blog ALTER COLUMN other TYPE varchar(99)",
        "ALTER TABLE blog ALTER COLUMN body TYPE varchar(99)",
        "ALTER TABLE blog ALTER COLUMN body TYPE text USING upper(body)",
        "ALTER TABLE blog ALTER COLUMN id TYPE integer",
        "VACUUM FULL blog",
        "ALTER TABLE blog REPLICA IDENTITY FULL",
        "ALTER PUBLICATION walvec SET TABLE page, blog WHERE (id < 5)",
        """DROP TABLE blog; CREATE TABLE blog (id bigint PRIMARY KEY, body text);
        INSERT INTO blog VALUES (3, 'made anew'); ALTER PUBLICATION walvec ADD TABLE blog""",
    ],
)
def test_change_that_can_be_followed_needs_no_restart(blog: Sidecar, statement: str) -> None:
    """A changed table is picked up, its rows are compared, and later edits arrive."""
    for each in statement.split(";"):
        blog.source.execute(each.encode())
    if "id < 5" in statement:
        blog.follow("blog", row_filter="id < 5")
    blog.source.execute("UPDATE blog SET body = 'edited' WHERE id = 3")
    blog.eventually()
    assert blog.actual() == blog.expected()


@pytest.mark.parametrize(
    ("breaks", "mends", "names"),
    [
        (
            "ALTER TABLE blog RENAME COLUMN body TO content",
            "ALTER TABLE blog RENAME COLUMN content TO body",
            'column "body" does not exist',
        ),
        ("ALTER TABLE blog RENAME TO weblog", "ALTER TABLE weblog RENAME TO blog", "blog"),
        (
            "ALTER PUBLICATION walvec DROP TABLE blog",
            "ALTER PUBLICATION walvec ADD TABLE blog",
            "ALTER PUBLICATION",
        ),
        (
            "ALTER TABLE blog REPLICA IDENTITY NOTHING",
            "ALTER TABLE blog REPLICA IDENTITY DEFAULT",
            "REPLICA IDENTITY",
        ),
    ],
)
def test_change_that_cannot_be_followed_pauses_only_its_vectorizer(
    blog: Sidecar, breaks: str, mends: str, names: str
) -> None:
    """The paused vectorizer keeps its vectors, and compares all rows once repaired.

    Meanwhile it says what fixes it, and the other goes on.
    """
    blog.source.execute(breaks.encode())
    reason = until(lambda: paused(blog), "blog is paused")
    blog.source.execute("UPDATE page SET body = 'goes on' WHERE id = 1")
    until(lambda: blog.actual()["page"] == blog.expected_of("page"), "page is followed")
    assert (names in reason, held(blog)) == (True, 9)
    blog.source.execute(mends.encode())
    blog.source.execute("DELETE FROM blog WHERE id = 1; UPDATE blog SET body = 'mended' WHERE id = 2")
    until(lambda: paused(blog) is None, "blog is followed again")
    blog.eventually()
    assert blog.actual() == blog.expected()


def test_lock_on_one_target_does_not_hold_up_the_others(blog: Sidecar) -> None:
    """A foreign lock on a target table holds up its vectorizer alone."""
    with blog.target.transaction():
        blog.target.execute("LOCK TABLE blog_embedding IN ACCESS EXCLUSIVE MODE")
        blog.source.execute("UPDATE blog SET body = 'waits' WHERE id = 1")
        blog.source.execute("UPDATE page SET body = 'goes on' WHERE id = 1")
        query = "SELECT chunk FROM page_embedding WHERE id = 1"
        until(lambda: blog.source.execute(query).fetchall() == [("goes on",)], "page is followed")
    blog.in_step()
    assert blog.actual() == blog.expected()


def test_table_made_anew_before_the_first_run_leaves_no_orphans(sidecar: Sidecar) -> None:
    """Changes of the table that setup saw do not count for the one that replaced it."""
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    sidecar.follow()
    sidecar.setup()
    sidecar.source.execute("INSERT INTO blog VALUES (1, 'of the old table')")
    sidecar.source.execute("DROP TABLE blog")
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    sidecar.source.execute("ALTER PUBLICATION walvec ADD TABLE blog")
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()
