"""Whether text and where are functions of the row: refused, allowed or doubted."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import psycopg
import pytest

from tests.fix_postgres import databases
from walvec.config.load import Config, TableName, Vectorizer
from walvec.database.connect import connect_source
from walvec.errors import ConfigInvalid
from walvec.vectorizer.bind import resolve_expressions
from walvec.vectorizer.expressions import find_doubts, require_fit
from walvec.vectorizer.unfit import Unfit
from walvec_slots.errors import PreconditionFailed, WalvecError
from walvec_slots.settle import Connection

T = TypeVar("T")

MADE = r"""
    CREATE TABLE author (id int PRIMARY KEY, name text);
    CREATE TYPE mood AS ENUM ('today', 'never');
    CREATE TABLE blog (
        id int PRIMARY KEY, title text, body text NOT NULL, at timestamptz, day date, tags text[], data jsonb,
        views int NOT NULL DEFAULT 0, mood mood, "Odd ""now()" text, xid xid
    );
    CREATE SCHEMA app;
    CREATE FUNCTION app.unsettled(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION "odd (name"(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION settled(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION steady(text) RETURNS text STABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION either(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION either(int) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION many(VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
    CREATE FUNCTION with_default(text, timestamptz DEFAULT now()) RETURNS text IMMUTABLE LANGUAGE plpgsql
        AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION plain(blog) RETURNS text LANGUAGE sql AS $$ SELECT $1.title || ': ' || $1.body $$;
    CREATE FUNCTION of_the_clock(text) RETURNS text LANGUAGE sql AS $$ SELECT $1 || now() $$;
    CREATE FUNCTION rows_of(text) RETURNS SETOF text IMMUTABLE LANGUAGE plpgsql
        AS 'BEGIN RETURN NEXT $1; END';
    CREATE FUNCTION app.joined(text, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION joined_well(text, int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE OPERATOR app.||> (LEFTARG = text, RIGHTARG = text, FUNCTION = app.joined);
    CREATE OPERATOR ||> (LEFTARG = text, RIGHTARG = int, FUNCTION = joined_well);
    CREATE TYPE coin AS (cents int);
    CREATE FUNCTION shown(coin) RETURNS varchar LANGUAGE plpgsql AS 'BEGIN RETURN random(); END';
    CREATE CAST (coin AS varchar) WITH FUNCTION shown(coin);
    CREATE DOMAIN of_today AS date CHECK (VALUE <= CURRENT_DATE);
    CREATE DOMAIN unsettling AS text CHECK (app.unsettled(VALUE) <> '');
    CREATE DOMAIN within AS unsettling CHECK (length(VALUE) < 10);
    CREATE DOMAIN word AS text CHECK (VALUE ~ '^\w+$');
"""

REFUSED = {
    # The clock
    "now()": "now()",
    "NOW ( ) :: text": "now()",
    "pg_catalog.now()::text": "now()",
    "coalesce(body, now()::text)": "now()",
    "CASE WHEN at <= now() THEN body END": "now()",
    "to_char(now(), 'YYYY')": "now()",
    "greatest(at, now())::text": "now()",
    "(ARRAY[now()])[1]::text": "now()",
    "ROW(now(), 1)::text": "now()",
    "EXTRACT(year FROM now())::text": "now()",
    "with_default(body)": "now(), in a function",
    "of_the_clock(body)": "now(), in a function",
    "CURRENT_DATE": "CURRENT_DATE",
    "current_date::text": "CURRENT_DATE",
    "CURRENT_TIME(0)::text": "CURRENT_TIME",
    "CURRENT_TIMESTAMP": "CURRENT_TIMESTAMP",
    "LOCALTIME": "LOCALTIME",
    "LOCALTIMESTAMP(2)": "LOCALTIMESTAMP",
    "transaction_timestamp()": "transaction_timestamp()",
    "statement_timestamp()": "statement_timestamp()",
    "clock_timestamp()": "clock_timestamp()",
    "timeofday()": "timeofday()",
    "age(at)::text": "CURRENT_DATE",
    "age(day)::text": "CURRENT_DATE",
    "age(xid)::text": "age()",
    "(at > 'now')::text": "'now'",
    "'now'::timestamptz": "'now'",
    "'Now'::timestamp": "'Now'",
    "date 'today'": "'today'",
    "(day = ' TODAY ')::text": "TODAY",
    "'tomorrow 04:05'::timestamptz": "tomorrow",
    "CAST('yesterday' AS date)": "'yesterday'",
    "time 'now'": "'now'",
    "timestamp $$tomorrow$$": "'tomorrow'",
    "timestamp $x$tomorrow$x$": "'tomorrow'",
    r"E'\156ow'::timestamptz": "'now'",
    r"U&'to\0064ay'::date": "'today'",
    r"U&'to!0064ay' UESCAPE '!'::date": "'today'",
    "'to'\n  'day'::date": "'today'",
    "'[today,)'::daterange": "[today,)",
    "'{now}'::timestamptz[]": "{now}",
    "'today'::text::date": "today",
    "('to' || 'day')::date": "today",
    "body || 'it''s' || date 'today'": "'today'",
    "/* it's */ date 'today'": "'today'",
    # Sessions
    "current_user": "CURRENT_USER",
    "session_user": "SESSION_USER",
    "user": "USER",
    "current_role": "CURRENT_ROLE",
    "current_catalog": "CURRENT_CATALOG",
    "current_schema": "CURRENT_SCHEMA",
    "current_schema()": "current_schema()",
    "current_database()": "current_database()",
    "current_setting('app.tenant', true)": "current_setting()",
    "current_query()": "current_query()",
    "inet_client_addr()": "inet_client_addr()",
    "pg_backend_pid()": "pg_backend_pid()",
    "txid_current()": "txid_current()",
    "pg_current_xact_id()": "pg_current_xact_id()",
    # The catalog, and how a value is stored
    "pg_typeof(body)": "pg_typeof()",
    "pg_get_viewdef(views::oid)": "pg_get_viewdef()",
    "obj_description(views::oid, 'pg_class')": "obj_description()",
    "format_type(views::oid, NULL)": "format_type()",
    "has_table_privilege('blog', 'SELECT')": "has_table_privilege()",
    "to_regclass(body)": "to_regclass()",
    "body::regclass": "regclass",
    "'blog'::regclass": "regclass",
    "body::regtype": "regtype",
    "pg_column_size(body)": "pg_column_size()",
    "pg_relation_size('blog')": "pg_relation_size()",
    "version()": "version()",
    "enum_range(mood)": "enum_range()",
    "COLLATION FOR (body)": "COLLATION FOR",
    "table_to_xml('author', true, true, '')": "table_to_xml()",
    # Chance
    "random()": "random()",
    "md5(random()::text)": "random()",
    "tags[random()::int]": "random()",
    "gen_random_uuid()": "gen_random_uuid()",
    "nextval('app.counter')": "nextval()",
    "lastval()": "lastval()",
    "query_to_xml('SELECT 1', true, true, '')": "query_to_xml()",
    # Functions of the user's
    "app.unsettled(body)": "app.unsettled(text)",
    "App.UNSETTLED(body)": "app.unsettled(text)",
    '"odd (name"(body)': 'public."odd (name"(text)',
    "either(views)": "public.either(integer)",
    "many(title, body)": "public.many(",
    "CASE body WHEN 'a' THEN app.unsettled(body) ELSE body END": "app.unsettled(text)",
    "body OPERATOR(app.||>) title": "app.joined(text, text)",
    "ROW(views)::coin::varchar": "public.shown(coin)",
    "day::of_today": "CURRENT_DATE",
    "body::unsettling": "app.unsettled(text)",
    "body::within": "app.unsettled(text)",
    # Several rows
    "count(*)": "aggregate",
    "max(body)": "aggregate",
    "string_agg(body, ' ')": "aggregate",
    "coalesce(max(body), title)": "aggregate",
    "row_number() OVER ()": "window",
    "lag(body) OVER (ORDER BY id)": "window",
    "unnest(tags)": "unnest()",
    "generate_series(1, views)": "generate_series()",
    "jsonb_array_elements_text(data)": "jsonb_array_elements_text()",
    "regexp_matches(body, 'x')": "regexp_matches()",
    "rows_of(body)": "rows_of()",
    # Other tables
    "(SELECT name FROM author WHERE author.id = views)": "author",
    "(SELECT count(*) FROM blog AS b)::text": "blog",
    "EXISTS (SELECT FROM author)": "author",
    "(views IN (SELECT id FROM author))::text": "author",
    "ARRAY(SELECT name FROM author)": "author",
    "(WITH a AS (SELECT name FROM author) SELECT max(name) FROM a)": "author",
    "(SELECT now())": "now()",
    "(SELECT random() FROM unnest(tags) LIMIT 1)": "random()",
    "(SELECT string_agg(app.unsettled(tag), '') FROM unnest(tags) AS tag)": "app.unsettled(text)",
}

ALLOWED = [
    "body",
    "title",
    "views",
    "blog::text",
    "to_jsonb(blog) - 'tags'",
    "plain(blog)",
    "blog.plain",
    "settled(body)",
    "either(body)",
    "body ||> views",
    "concat_ws(E'\\n', title, body)",
    "concat(title, views)",
    "format('%s %s', title, at)",
    "array_to_string(tags, ' ')",
    "to_char(at, 'TMMonth YYYY')",
    "to_char(views, '999D9')",
    "to_date(title, 'YYYY')",
    "to_timestamp(title, 'YYYY')",
    "at::text",
    "at::date",
    "day::timestamptz",
    "(at AT TIME ZONE 'Europe/Berlin')",
    "date_trunc('day', at, 'Europe/Berlin')",
    "EXTRACT(year FROM at)",
    "age(at, '2020-01-01')",
    "(at > '2020-01-01')",
    "(at + interval '1 day' > day)",
    "data->>'now'",
    "jsonb_path_query_first_tz(data, '$.a')",
    "to_tsvector('english', body)",
    "to_tsvector(body)",
    "ts_headline(body, 'now')",
    "mood",
    "mood = 'today'",
    "mood::text",
    "body::word",
    "body::varchar(10)",
    "views::numeric(10, 2)",
    "quote_literal(body)",
    "xmlelement(name now, body)",
    "json_build_object('a', body)",
    "pg_size_pretty(views::bigint)",
    '"Odd ""now()"',
    "'now() is CURRENT_DATE'",
    "body || 'today'",
    "'now'",
    "body = 'now'",
    "body || $$ now() $$",
    "body /* now() 'today' */ -- CURRENT_DATE it's",
    "CASE WHEN false THEN random()::text ELSE body END",
    "(SELECT string_agg(tag, ' ' ORDER BY tag) FROM unnest(tags) AS tag)",
    "(SELECT max(value ->> 'a') FROM jsonb_array_elements(data) AS value)",
    "NULL",
    "repeat(body, 1 + views % 3)",
]


@pytest.fixture(scope="module")
def made(server: str, template: str) -> Iterator[str]:
    """Return a database with a table and functions of every kind."""
    with databases(server, template) as create:
        dsn = create()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(MADE.encode())
            connection.execute("CREATE SEQUENCE app.counter")
        yield dsn


def vectorizer(text: str = "body", where: str | None = None) -> Vectorizer:
    """Make the settings of a vectorizer of table blog."""
    made = Vectorizer(
        name="blog", table=TableName.parse("blog"), target=TableName.parse("vectors"), text=text, where=where
    )
    made.remember_places({"text": "walvec.toml line 12", "where": "walvec.toml line 13"})
    return made


def ask(dsn: str, question: Callable[[Connection], Awaitable[T]]) -> T:
    """Ask in a session like those of `walvec check`."""

    async def answer() -> T:
        config = Config.model_validate({"source": {"dsn": dsn, "search_path": "pg_catalog, public"}})
        async with await connect_source(config, role="check") as connection, connection.transaction():
            await resolve_expressions(connection, local=True)
            return await question(connection)

    return asyncio.run(answer())


def refusal(dsn: str, text: str = "body", where: str | None = None) -> WalvecError:
    """Return why these expressions are refused."""
    with pytest.raises(WalvecError) as caught:
        ask(dsn, lambda connection: require_fit(connection, vectorizer(text, where)))
    return caught.value


def doubtful(dsn: str, text: str, where: str | None = None) -> list[Unfit]:
    """Return what is doubted in these expressions."""
    return ask(dsn, lambda connection: find_doubts(connection, vectorizer(text, where)))


@pytest.mark.parametrize("expression", REFUSED)
def test_what_is_not_a_function_of_the_row_is_refused(made: str, expression: str) -> None:
    """A text that may change without its row is refused by name, with a hint."""
    error = refusal(made, expression)
    assert isinstance(error, ConfigInvalid)
    assert REFUSED[expression] in error.what
    assert error.what.startswith("text (walvec.toml line 12): ")
    assert error.hint


# PostgreSQL itself says so of these, without the name.
GIVING_ROWS = [
    each
    for each, named in REFUSED.items()
    if each.startswith(named.removesuffix(")"))
    and named
    in ("unnest()", "generate_series()", "jsonb_array_elements_text()", "regexp_matches()", "rows_of()")
]


@pytest.mark.parametrize("expression", GIVING_ROWS)
def test_a_condition_gives_no_rows(made: str, expression: str) -> None:
    """A function that returns rows is refused in a condition, and within CASE."""
    assert "can return several rows" in refusal(made, where=f"{expression}::text <> ''").what
    assert "can return several rows" in refusal(made, f"CASE WHEN views > 0 THEN {expression}::text END").what


@pytest.mark.parametrize("expression", [each for each in REFUSED if each not in GIVING_ROWS])
def test_where_is_held_to_the_same(made: str, expression: str) -> None:
    """A condition is refused for the same reasons as a text, under its own key."""
    error = refusal(made, where=f"({expression}\n)::text <> ''")
    assert isinstance(error, ConfigInvalid)
    assert REFUSED[expression] in error.what
    assert error.what.startswith("where (walvec.toml line 13): ")


@pytest.mark.parametrize("expression", ALLOWED)
def test_a_function_of_the_row_is_allowed(made: str, expression: str) -> None:
    """A text that depends on the row and on pinned settings is allowed."""
    assert ask(made, lambda connection: require_fit(connection, vectorizer(expression))) is None


def test_the_row_may_decide_by_its_own_columns(made: str) -> None:
    """A condition over columns is allowed."""
    where = "views > 0 AND at < '2030-01-01' OR title IS NULL"
    assert ask(made, lambda connection: require_fit(connection, vectorizer("body", where))) is None


def test_the_way_out_of_a_volatile_function_is_a_statement(made: str) -> None:
    """The hint is the statement that declares the function's true volatility."""
    assert "ALTER FUNCTION app.unsettled(text) IMMUTABLE" in str(refusal(made, "app.unsettled(body)").hint)


class TestDoubts:
    """Expressions that are allowed and could still surprise."""

    @pytest.mark.parametrize("expression", ["steady(body)", "(SELECT steady(body))", "lower(steady(title))"])
    def test_a_stable_function_of_the_users(self, made: str, expression: str) -> None:
        """A stable function that the user made is doubted: it may read other tables."""
        (doubt,) = doubtful(made, expression)
        assert ("public.steady(text)" in doubt.what, "ALTER FUNCTION" in doubt.hint) == (True, True)

    @pytest.mark.parametrize(
        ("expression", "columns"),
        [
            ("title || body", "title"),
            ("body || title", "title"),
            (r"title || E'\n\n' || body", "title"),
            ("body || ' ' || title || '.'", "title"),
            ("body || views || at", "at"),
            ("at || body", "at"),
            ("at::date || body", "at"),
            ("body || array_to_string(tags || tags, title) || title", "title"),
            ('body || "Odd ""now()"', 'Odd "now()'),
            ("title || day || body", "title or day"),
            ("plain(blog)", "title"),
            ("coalesce(title || body, '')", "title"),
        ],
    )
    def test_a_nullable_column_that_is_joined(self, made: str, expression: str, columns: str) -> None:
        """A nullable column under || is doubted: its NULL makes the whole text NULL."""
        (doubt,) = doubtful(made, expression)
        assert (f" {columns} is NULL" in doubt.what, "concat_ws" in doubt.hint) == (True, True)

    @pytest.mark.parametrize(
        ("expression", "where"),
        [
            ("body || views", None),
            ("concat_ws(' ', title, body)", None),
            ("coalesce(title, '') || body", None),
            ("body || ' title || body'", None),
            ("title", None),
            ("title || body", "title IS NOT NULL"),
            ("title || body", "views > 0 AND title IS NOT NULL"),
        ],
    )
    def test_nothing_to_doubt(self, made: str, expression: str, where: str | None) -> None:
        """Columns that cannot be NULL, or whose NULL is handled, raise no doubt."""
        assert doubtful(made, expression, where) == []


class TestErrors:
    """PostgreSQL's errors are shown where the user wrote the expression."""

    def test_the_place_is_pointed_at(self, made: str) -> None:
        """The message has PostgreSQL's words, and a mark under the word at fault."""
        error = refusal(made, "titel || body")
        assert error.what == (
            'text (walvec.toml line 12): column "titel" does not exist\n    titel || body\n    ^'
        )
        assert error.hint == 'Perhaps you meant to reference the column "blog.title".'

    @pytest.mark.parametrize(
        ("written", "shown"),
        [
            ("body || titel", "\n    body || titel\n            ^"),
            ("body\n  || titel\n  || views", "\n      || titel\n         ^"),
            ("body\n\t|| titel", "\n    \t|| titel\n    \t   ^"),
            ("'größe' || titel", "\n    'größe' || titel\n               ^"),
            ("'100 %' || titel", "\n    '100 %' || titel\n               ^"),
            ("'{}' || titel", "\n    '{}' || titel\n            ^"),
            ("body ||", " at its end\n    body ||\n           ^"),
            ("(body", " at its end\n    (body\n         ^"),
            ("'body", " at its end\n    'body\n         ^"),
            ("body || frob(body)", "\n    body || frob(body)\n            ^"),
            ("body::frob", "\n    body::frob\n          ^"),
        ],
    )
    def test_every_place(self, made: str, written: str, shown: str) -> None:
        """The line at fault is shown as it was written, the mark under its place."""
        error = refusal(made, written)
        assert (type(error), error.what.endswith(shown)) == (ConfigInvalid, True), error.what
        assert "json_populate_recordset" not in str(error)

    def test_the_key_at_fault_is_named(self, made: str) -> None:
        """An error in the condition is not reported as one in the text."""
        assert refusal(made, "body", "titel = ''").what.startswith(
            'where (walvec.toml line 13): column "titel"'
        )

    @pytest.mark.parametrize("where", ["views", "title", "at", "ARRAY[true]"])
    def test_a_condition_is_a_boolean(self, made: str, where: str) -> None:
        """A condition of another type is refused for its type."""
        assert "must be type boolean" in refusal(made, where=where).what

    @pytest.mark.parametrize("column", ["ctid", "xmin", "blog.tableoid", "xmax::text"])
    def test_system_columns_are_no_values(self, made: str, column: str) -> None:
        """A system column is refused, and the hint says why."""
        assert "system column" in str(refusal(made, f"{column}::text").hint)

    def test_a_text_is_one_expression(self, made: str) -> None:
        """Two expressions are refused, though a SELECT list may hold them."""
        assert isinstance(refusal(made, "body), (title"), ConfigInvalid)

    def test_a_function_that_the_role_may_not_use(self, made: str) -> None:
        """A missing right is a precondition, not a mistake in the settings."""
        with psycopg.connect(made, autocommit=True) as connection:
            connection.execute("REVOKE EXECUTE ON FUNCTION settled(text) FROM PUBLIC")
            connection.execute("DROP ROLE IF EXISTS walvec_fitness")
            connection.execute("CREATE ROLE walvec_fitness")

        async def ask_as_another(connection: Connection) -> None:
            await connection.execute("SET LOCAL ROLE walvec_fitness")
            await require_fit(connection, vectorizer("settled(body)"))

        try:
            with pytest.raises(PreconditionFailed, match="settled"):
                ask(made, ask_as_another)
        finally:
            with psycopg.connect(made, autocommit=True) as connection:
                connection.execute("GRANT EXECUTE ON FUNCTION settled(text) TO PUBLIC")
                connection.execute("DROP ROLE walvec_fitness")

    def test_without_a_file_the_vectorizer_is_named(self, made: str) -> None:
        """Without a file, the message names the vectorizer."""
        bare = Vectorizer(
            name="blog", table=TableName.parse("blog"), target=TableName.parse("vectors"), text="titel"
        )
        with pytest.raises(ConfigInvalid, match=r'^text of vectorizer "blog": column "titel"'):
            ask(made, lambda connection: require_fit(connection, bare))
