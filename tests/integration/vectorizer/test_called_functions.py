"""Which functions an expression may reach; replacing one begins a new epoch."""

import asyncio

import psycopg
import pytest

from walvec.config.load import TableName, Vectorizer
from walvec.vectorizer.expressions import called_functions

MADE = """
    CREATE SCHEMA app;
    CREATE FUNCTION app.leaf(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION app.leaf(integer) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
    CREATE FUNCTION app."Odd ""name"(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN app.LEAF($1); END';
    CREATE FUNCTION app.parsed(text) RETURNS text LANGUAGE sql RETURN app."Odd ""name"($1);
    CREATE FUNCTION app.größe(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION app.again(text) RETURNS text LANGUAGE sql AS 'SELECT app.again($1)';
    CREATE FUNCTION app.step(text, text) RETURNS text LANGUAGE sql AS 'SELECT app.leaf($1) || $2';
    CREATE AGGREGATE app.gather(text) (SFUNC = app.step, STYPE = text);
    CREATE FUNCTION app.unrelated(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
"""
LEAVES = ["app.leaf(integer)", "app.leaf(text)"]
ODD = 'app."Odd ""name"(text)'
GROESSE = 'app."größe"(text)'

REACHED = {
    "body": [],
    "lower(body)": [],
    "app.leaf(body)": LEAVES,
    "APP.Leaf(body)": LEAVES,
    'app."leaf"(body)': LEAVES,
    "blog.leaf": LEAVES,
    "'leaf'": LEAVES,
    'app."Odd ""name"(body)': [ODD, *LEAVES],
    "app.parsed(body)": [ODD, *LEAVES, "app.parsed(text)"],
    "app.größe(body)": [GROESSE],
    "app.again(body)": ["app.again(text)"],
    "app.gather(body)": ["app.gather(text)", *LEAVES, "app.step(text,text)"],
    "relief(body) || leaflet": [],
}


def vectorizer(text: str, where: str | None = None) -> Vectorizer:
    """Make the settings of a vectorizer of table blog."""
    return Vectorizer(
        name="blog", table=TableName.parse("blog"), target=TableName.parse("vectors"), text=text, where=where
    )


def reached(database: str, text: str, where: str | None = None) -> tuple[tuple[int, int], ...]:
    """Ask for the functions that these expressions reach."""

    async def ask() -> tuple[tuple[int, int], ...]:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await connection.set_read_only(True)
            return await called_functions(connection, vectorizer(text, where))

    return asyncio.run(ask())


@pytest.fixture
def app(source: psycopg.Connection) -> psycopg.Connection:
    """A database with functions that call each other."""
    source.execute(MADE.encode())
    return source


def names(app: psycopg.Connection, functions: tuple[tuple[int, int], ...]) -> list[str]:
    """Spell the functions of a list."""
    cursor = app.execute(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE oid = ANY (%s)", [[oid for oid, _ in functions]]
    )
    return sorted(name for (name,) in cursor.fetchall())


def test_every_spelling_reaches_what_is_called(app: psycopg.Connection, database: str) -> None:
    """A function is found however its name is spelled, with all that its body calls."""
    found = {text: names(app, reached(database, text)) for text in REACHED}
    assert found == {text: sorted(expected) for text, expected in REACHED.items()}


def test_where_counts_too(app: psycopg.Connection, database: str) -> None:
    """A function that only `where` calls is found."""
    assert names(app, reached(database, "body", "app.größe(body) = ''")) == [GROESSE]


def test_an_escaped_name_may_be_any(app: psycopg.Connection, database: str) -> None:
    """A name with escapes is not read, so every function counts."""
    assert {*LEAVES, ODD} <= set(names(app, reached(database, r'app.U&"le\0061f"(body)')))


UNSPOKEN = {
    "step": "CREATE OPERATOR app.||> (LEFTARG = text, RIGHTARG = text, FUNCTION = app.step)",
    "shown": """
        CREATE TYPE app.money AS (cents int);
        CREATE FUNCTION app.shown(app.money) RETURNS text LANGUAGE sql AS 'SELECT app.leaf($1.cents)';
        CREATE CAST (app.money AS text) WITH FUNCTION app.shown(app.money) AS ASSIGNMENT
    """,
    "sound": """
        CREATE FUNCTION app.sound(text) RETURNS bool LANGUAGE sql AS 'SELECT app.leaf($1) = $1';
        CREATE DOMAIN app.word AS text CHECK (app.sound(VALUE))
    """,
}


@pytest.mark.parametrize("name", UNSPOKEN)
def test_what_needs_no_word_counts_always(app: psycopg.Connection, database: str, name: str) -> None:
    """The functions of operators, casts and domains count, though no name is written."""
    app.execute(UNSPOKEN[name].encode())
    found = names(app, reached(database, "body"))
    assert (any(name in each for each in found), set(LEAVES) <= set(found)) == (True, True)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE OR REPLACE FUNCTION app.leaf(text) RETURNS text LANGUAGE sql AS 'SELECT upper($1)'",
        "ALTER FUNCTION app.leaf(text) IMMUTABLE",
        "ALTER FUNCTION app.leaf(text) SET search_path = app",
        "ALTER FUNCTION app.leaf(integer) RENAME TO other",
        "CREATE FUNCTION app.leaf(varchar) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "CREATE FUNCTION public.leaf(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "DROP FUNCTION app.leaf(integer)",
    ],
)
def test_a_change_makes_another_list(app: psycopg.Connection, database: str, change: str) -> None:
    """The list differs once a reached function is replaced, altered, added or dropped."""
    before = reached(database, "app.parsed(body)")
    again = reached(database, "app.parsed(body)")
    app.execute(change.encode())
    after = reached(database, "app.parsed(body)")
    assert (before == again, before == after, after == tuple(sorted(after))) == (True, False, True)


def test_what_is_not_reached_changes_nothing(app: psycopg.Connection, database: str) -> None:
    """A change of a function that is not reached leaves the list as it is."""
    before = reached(database, "app.parsed(body)")
    app.execute(
        "CREATE OR REPLACE FUNCTION app.unrelated(text) RETURNS text LANGUAGE sql AS 'SELECT 1::text'"
    )
    assert reached(database, "app.parsed(body)") == before
