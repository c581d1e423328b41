"""A right that a table's owner revokes pauses that table's vectorizer alone."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fix_process import until
from tests.fix_sidecar import Sidecar

TAKE_AND_GIVE: dict[str, tuple[LiteralString, LiteralString]] = {
    "the right to read": ("REVOKE SELECT ON pages.page FROM {role}", "GRANT SELECT ON pages.page TO {role}"),
    "row-level security": (
        "ALTER TABLE pages.page ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE pages.page DISABLE ROW LEVEL SECURITY",
    ),
    "the schema": ("REVOKE USAGE ON SCHEMA pages FROM {role}", "GRANT USAGE ON SCHEMA pages TO {role}"),
    "a function": (
        "REVOKE EXECUTE ON FUNCTION pages.shown(text) FROM {role}",
        "GRANT EXECUTE ON FUNCTION pages.shown(text) TO {role}",
    ),
}


@pytest.fixture
def reader(server: str) -> Iterator[sql.Identifier]:
    """Return a role that may replicate and log in, and nothing else.

    It is dropped after its databases.
    """
    name = sql.Identifier(f"walvec-reader-{os.getpid()}")
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN REPLICATION PASSWORD 'reader'").format(name))
    yield name
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.fixture
def two(reader: sql.Identifier, distant_sidecar: Sidecar) -> Sidecar:
    """Return walvec on two tables, which its role reads by granted rights alone."""
    sidecar = distant_sidecar
    sidecar.source.execute("""
        CREATE TABLE blog (id integer PRIMARY KEY, body text);
        CREATE SCHEMA pages;
        CREATE TABLE pages.page (id integer PRIMARY KEY, body text);
        CREATE FUNCTION pages.shown(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
        REVOKE EXECUTE ON FUNCTION pages.shown(text) FROM PUBLIC;
        INSERT INTO blog VALUES (1, 'a post');
        INSERT INTO pages.page VALUES (1, 'a page')""")
    change(sidecar, reader, "GRANT USAGE ON SCHEMA pages TO {role}")
    change(sidecar, reader, "GRANT SELECT ON blog, pages.page TO {role}")
    change(sidecar, reader, "GRANT EXECUTE ON FUNCTION pages.shown(text) TO {role}")
    sidecar.follow("blog", index="none")
    sidecar.follow("page", table="pages.page", text="pages.shown(body)", index="none")
    sidecar.setup()
    role = reader.as_string().strip('"')
    sidecar.settings["source"]["dsn"] = make_conninfo(
        sidecar.settings["source"]["dsn"], user=role, password="reader"
    )
    return sidecar


def change(sidecar: Sidecar, role: sql.Identifier, statement: LiteralString) -> None:
    """Run a statement as the owner."""
    sidecar.source.execute(sql.SQL(statement).format(role=role))


def paused(sidecar: Sidecar) -> str | None:
    """Return why the pages are not followed, None if they are."""
    ((reason,),) = sidecar.target.execute(
        "SELECT paused FROM walvec.vectorizer WHERE name = 'page'"
    ).fetchall()
    return str(reason) if reason else None


@pytest.mark.parametrize("what", TAKE_AND_GIVE)
def test_a_right_taken_back_pauses_one_vectorizer(two: Sidecar, reader: sql.Identifier, what: str) -> None:
    """The vectorizer is paused, at a start too, and goes on once the right is back."""
    take, give = TAKE_AND_GIVE[what]
    with two.running():
        two.in_step()
        change(two, reader, take)
        two.source.execute("UPDATE pages.page SET body = 'a newer page'")
        reason = until(lambda: paused(two), "the pages are paused")
        two.source.execute("INSERT INTO blog VALUES (2, 'another post')")
        until(lambda: two.actual_of("blog") == two.expected_of("blog"), "the posts go on")
    assert "pages" in reason
    assert reader.as_string() in reason
    if what == "a function":
        assert sql.SQL(give).format(role=reader).as_string() in reason
    with two.running():
        two.source.execute("INSERT INTO blog VALUES (3, 'a third post')")
        until(lambda: two.actual_of("blog") == two.expected_of("blog"), "the posts go on after a start")
        assert paused(two)
        change(two, reader, give)
        until(lambda: not paused(two), "the pages are followed again")
        two.eventually()
    assert two.actual() == two.expected()


@pytest.mark.parametrize("what", ["the right to read", "row-level security", "the schema"])
def test_a_right_taken_back_before_the_start_pauses_one_vectorizer(
    two: Sidecar, reader: sql.Identifier, what: str
) -> None:
    """The process starts with the other vectorizer, though none was paused before."""
    take, give = TAKE_AND_GIVE[what]
    two.once()
    change(two, reader, take)
    with two.running():
        two.source.execute("INSERT INTO blog VALUES (2, 'another post')")
        until(lambda: two.actual_of("blog") == two.expected_of("blog"), "the posts go on")
        assert paused(two)
        change(two, reader, give)
        two.eventually()
    assert two.actual() == two.expected()


@pytest.mark.parametrize("what", ["the right to read", "row-level security"])
def test_a_refetch_without_the_right_is_no_end(two: Sidecar, reader: sql.Identifier, what: str) -> None:
    """A refused read by key pauses its vectorizer before the catalog is looked at."""
    take, give = TAKE_AND_GIVE[what]
    two.source.execute("ALTER TABLE pages.page ALTER COLUMN body SET STORAGE EXTERNAL")
    two.source.execute("UPDATE pages.page SET body = repeat('long ', 1000)")
    two.once()
    two.timing = replace(two.timing, watch_interval=3600.0, longest_watch_interval=3600.0)
    with two.running():
        two.in_step()
        change(two, reader, take)
        # The text is not in the change: it is out of line, and stays as it is.
        two.source.execute("UPDATE pages.page SET id = 2")
        until(lambda: paused(two), "the pages are paused")
        two.source.execute("INSERT INTO blog VALUES (2, 'another post')")
        two.in_step()
    change(two, reader, give)
    two.once()
    assert two.actual() == two.expected()
