"""`text` and `where` may be any SQL over a row, which both paths evaluate alike."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.fix_sidecar import Sidecar
from walvec_slots.errors import WalvecError

EXPRESSIONS: dict[str, dict[str, Any]] = {
    "column": {"text": "body"},
    "qualified column": {"text": "blog.body"},
    "concatenation": {"text": "title || E'\\n\\n' || body"},
    "percent sign": {"text": "body || (views % 7) || '%s %(x)s %% 100%'"},
    "braces": {"text": "body || '{} {0} {table}'"},
    "quotes": {"text": """ body || 'it''s "quoted"' || "Odd Column" """},
    "backslashes": {"text": r"body || E'\\ \'' || '\n'"},
    "dollar quotes": {"text": "body || $q$it's $1$q$"},
    "comment at the end": {"text": "body -- and that is all", "where": "views > 0 /* enough */ -- yes"},
    "several lines": {"text": "body\n||\n  title"},
    "operator ?": {"text": "CASE WHEN data ? 'a' THEN body END"},
    "cast": {"text": "views::text", "where": "(data->>'a')::int > 1"},
    "not text at all": {"text": "views"},
    "subquery": {"text": "(SELECT string_agg(tag, ' ' ORDER BY tag) FROM unnest(tags) AS tag)"},
    "window": {"text": "(SELECT max(n) FROM (SELECT count(*) OVER () AS n FROM unnest(tags)) AS t)"},
    "function of the row": {"text": "describe(blog)"},
    "row as JSON": {"text": "to_jsonb(blog) - 'tags'"},
    "row as text": {"text": "blog::text"},
    "function of the row by dot": {"text": "blog.describe"},
    "CASE": {"text": "CASE views WHEN 1 THEN 'one' WHEN 2 THEN '' ELSE body END"},
    "a constant": {"text": "'always the same'"},
    "where is NULL": {"text": "body", "where": "title LIKE '%a%'"},
    "where is false": {"text": "body", "where": "false"},
    "where is a boolean column": {"text": "body", "where": "published"},
    "OR in where": {"text": "body", "where": "published OR views > 3"},
    "white space": {"text": "repeat(' ', views) || E'\\t'"},
    "generated column": {"text": "summary"},
    "precedence": {"text": "body || title", "where": "published IS TRUE AND views > 1 OR title IS NULL"},
}

TABLE = """
    CREATE TABLE blog (
        dropped int, id int PRIMARY KEY, title text, body text NOT NULL, "Odd Column" text,
        views int, published bool, tags text[], data jsonb,
        summary text GENERATED ALWAYS AS (left(body, 3) || views) STORED
    )
"""
ROW = """
    INSERT INTO blog (id, title, body, "Odd Column", views, published, tags, data)
    SELECT i, CASE WHEN i % 4 > 0 THEN 'title ' || substr('abc', i % 4, 1) END, 'body ' || i, 'odd ' || i,
        i % 5, CASE i % 3 WHEN 0 THEN true WHEN 1 THEN false END, ARRAY['x', 'y' || i],
        jsonb_build_object('a', i % 4)
    FROM generate_series({first}, {first} + 11) AS i
"""


@pytest.fixture(scope="module")
def blog(shared_sidecar: Sidecar) -> Iterator[Sidecar]:
    """Return a table with a vectorizer for each expression.

    Its rows came by backfill and stream, and changed.
    """
    run = shared_sidecar.source.execute
    run(TABLE.encode())
    shared_sidecar.settings["source"]["search_path"] = "pg_catalog, public"
    run("ALTER TABLE blog DROP COLUMN dropped")
    run(
        "CREATE FUNCTION describe(blog) RETURNS text LANGUAGE sql AS $$ SELECT $1.title || ': ' || $1.body $$"
    )
    run(ROW.format(first=0).encode())
    for number, settings in enumerate(EXPRESSIONS.values()):
        shared_sidecar.follow(f"v{number}", table="blog", index="none", **settings)
    shared_sidecar.setup()
    with shared_sidecar.running():
        shared_sidecar.in_step()
        run(ROW.format(first=100).encode())
        run("UPDATE blog SET views = views + 1, published = NOT published WHERE id % 2 = 0")
        run("DELETE FROM blog WHERE id % 5 = 0")
        shared_sidecar.in_step()
        yield shared_sidecar


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expression(blog: Sidecar, name: str) -> None:
    """The target has what the expression gives for each row."""
    vectorizer = f"v{list(EXPRESSIONS).index(name)}"
    assert blog.actual_of(vectorizer) == blog.expected_of(vectorizer)


class TestRowThatFails:
    """An expression that fails on a row parks that row alone."""

    PARKED = "SELECT key, stage, error_class FROM walvec.dead_letter ORDER BY key"

    @pytest.fixture
    def division(self, sidecar: Sidecar) -> Sidecar:
        """Return a table whose text divides by `n`, which is 0 in no existing row."""
        sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text, n int)")
        sidecar.source.execute("INSERT INTO blog SELECT i, 'body ' || i, i FROM generate_series(1, 40) AS i")
        sidecar.follow(text="body || 1000 / n", row_filter="n <> 0")
        sidecar.setup()
        return sidecar

    def test_in_the_stream(self, division: Sidecar) -> None:
        """The row's old vectors go, its dead letter quotes nothing, the others go on."""
        division.once()
        division.source.execute("UPDATE blog SET n = 0 WHERE id IN (7, 23)")
        division.source.execute("UPDATE blog SET body = body || '!'")
        division.once()
        parked = division.target.execute(self.PARKED).fetchall()
        assert (division.actual(), parked) == (
            division.expected(),
            [([key], "evaluate", "DivisionByZero (22012)") for key in ("23", "7")],
        )

    def test_in_the_backfill(self, division: Sidecar) -> None:
        """A row that fails in the backfill is parked in the same way."""
        division.source.execute("UPDATE blog SET n = 0 WHERE id = 7")
        division.once()
        parked = division.target.execute(self.PARKED).fetchall()
        assert (division.actual(), parked) == (
            division.expected(),
            [(["7"], "evaluate", "DivisionByZero (22012)")],
        )

    def test_mended(self, division: Sidecar) -> None:
        """The next change of the row embeds it and removes the dead letter."""
        division.source.execute("UPDATE blog SET n = 0 WHERE id = 7")
        division.once()
        division.source.execute("UPDATE blog SET n = 1 WHERE id = 7")
        division.once()
        parked = division.target.execute(self.PARKED).fetchall()
        assert (division.actual(), parked) == (division.expected(), [])

    @pytest.mark.parametrize("statement", ["DELETE FROM blog WHERE id = 7", "TRUNCATE blog"])
    def test_gone(self, division: Sidecar, statement: str) -> None:
        """The dead letter goes with its row."""
        division.source.execute("UPDATE blog SET n = 0 WHERE id = 7")
        division.once()
        division.source.execute(statement.encode())
        division.once()
        assert division.target.execute(self.PARKED).fetchall() == []

    def test_counts_attempts(self, division: Sidecar) -> None:
        """A row that fails repeatedly is one dead letter, which counts the attempts."""
        with division.running():
            division.in_step()
            for _ in range(3):
                division.source.execute("UPDATE blog SET n = 0 WHERE id = 7")
                division.in_step()
        parked = division.target.execute("SELECT key, attempts FROM walvec.dead_letter").fetchall()
        assert parked == [(["7"], 3)]

    def test_is_not_quoted(self, sidecar: Sidecar) -> None:
        """Neither the log nor a dead letter quotes the row, as PostgreSQL's message does."""
        sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
        sidecar.source.execute("INSERT INTO blog VALUES (1, 'SECRET')")
        sidecar.follow(text="body::int")
        sidecar.setup()
        sidecar.once()
        sidecar.source.execute("INSERT INTO blog VALUES (2, 'SECRET TOO')")
        sidecar.once()
        parked = sidecar.target.execute("SELECT * FROM walvec.dead_letter").fetchall()
        assert (len(parked), "SECRET" in str([parked, sidecar.log])) == (2, False)


class TestReadOnly:
    """Walvec writes nothing on the source, even where its role owns the tables."""

    def test_expressions_are_evaluated_read_only(self, sidecar: Sidecar) -> None:
        """Backfill, stream and reads by key evaluate expressions in read-only sessions."""
        sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, title text, body text)")
        sidecar.source.execute("ALTER TABLE blog ALTER body SET STORAGE EXTERNAL")
        sidecar.source.execute("INSERT INTO blog VALUES (1, 'one', repeat('x', 9000)), (2, 'two', '')")
        sidecar.source.execute("""
            CREATE FUNCTION is_read_only(title text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
            BEGIN RETURN title || ' ' || current_setting('transaction_read_only'); END $$""")
        sidecar.follow(text="public.is_read_only(title)", index="none")
        sidecar.setup()
        sidecar.once()
        sidecar.source.execute("INSERT INTO blog VALUES (3, 'three', '')")
        sidecar.source.execute("UPDATE blog SET title = 'won' WHERE id = 1")
        sidecar.once()
        chunks = sidecar.target.execute("SELECT chunk FROM blog_embedding ORDER BY id").fetchall()
        assert chunks == [("won on",), ("two on",), ("three on",)]

    def test_an_expression_that_writes_has_no_effect(self, sidecar: Sidecar) -> None:
        """The table that an expression's function would fill stays empty."""
        sidecar.source.execute("CREATE TABLE noted (body text)")
        sidecar.source.execute("""
            CREATE FUNCTION note(body text) RETURNS text LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO public.noted VALUES (body); RETURN body; END $$""")
        sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
        sidecar.source.execute("INSERT INTO blog VALUES (1, 'one')")
        sidecar.follow(text="public.note(body)", index="none")
        with suppress(WalvecError, TimeoutError):
            sidecar.setup()
            sidecar.once(timeout=2)
        assert sidecar.source.execute("SELECT FROM noted").fetchall() == []
