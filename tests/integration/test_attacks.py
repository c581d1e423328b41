"""A role with nothing but LOGIN and CREATE on a schema plants code in every door; none of it runs."""

import os
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec.commands import check
from walvec.config.load import load_config

# PostgreSQL counts the calls of such functions on sessions younger than the attacker's. An error could pass
# unseen, because a row whose image fails is read by its key.
BOOM = "LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
BOOM_SET = "LANGUAGE plpgsql AS $$ BEGIN RETURN; END $$"
CALLS = "SELECT funcname, calls FROM pg_catalog.pg_stat_user_functions"
SESSIONS = (
    "SELECT count(*) = 0 FROM pg_catalog.pg_stat_activity "
    "WHERE application_name LIKE 'walvec%%' AND datname = %s"
)

# Functions by their arguments and result, most of which fit walvec's calls better than PostgreSQL's own.
FUNCTIONS = [
    "mod(numeric, bigint) RETURNS numeric",
    "mod(numeric, int) RETURNS numeric",
    "json_populate_recordset(blog, json) RETURNS SETOF blog",
    "json_populate_recordset(page, json) RETURNS SETOF page",
    "json_to_recordset(json) RETURNS SETOF record",
    "json_to_recordset(text) RETURNS SETOF record",
    "octet_length(varchar) RETURNS int",
    "unnest(varchar[]) RETURNS SETOF varchar",
    "unnest(text[]) RETURNS SETOF text",
    "hashtext(varchar) RETURNS int",
    "pg_try_advisory_lock(bigint, bigint) RETURNS bool",
    "pg_backend_pid() RETURNS int",
    "current_setting(varchar, bool) RETURNS text",
    "current_setting(text, bool) RETURNS text",
    "set_config(varchar, varchar, bool) RETURNS text",
    "set_config(text, text, bool) RETURNS text",
    "pg_current_snapshot() RETURNS text",
    "pg_current_wal_insert_lsn() RETURNS pg_lsn",
    "quote_ident(name) RETURNS text",
    "format_type(oid, int) RETURNS text",
    "to_regclass(varchar) RETURNS regclass",
    "concat_ws(text, xid, xid) RETURNS text",
    "now() RETURNS timestamptz",
    "count() RETURNS bigint",
    "lower(varchar) RETURNS text",
    "concat(varchar, varchar) RETURNS text",
    "length(varchar) RETURNS int",
    "jsonb_array_elements_text(json) RETURNS SETOF text",
    "make_interval(int) RETURNS interval",
]

OPERATORS = [
    (name, left, right, result)
    for left, right in [
        ("varchar", "varchar"),
        ("varchar", "text"),
        ("text", "varchar"),
        ("numeric", "int"),
        ("numeric", "bigint"),
        ("pg_lsn", "numeric"),
        ("oid", "bigint"),
        ("name", "varchar"),
        ("int", "bigint"),
    ]
    for name, result in [
        ("=", "bool"),
        ("<>", "bool"),
        ("<", "bool"),
        (">", "bool"),
        (">=", "bool"),
        ("||", "text"),
        ("%", "numeric"),
        ("-", "pg_lsn"),
    ]
]

OTHERS = [
    # Types and relations of PostgreSQL's names.
    "CREATE DOMAIN public.text AS pg_catalog.text CHECK (public.boom(VALUE))",
    "CREATE DOMAIN public.jsonb AS pg_catalog.jsonb CHECK (public.boom(VALUE::pg_catalog.text))",
    "CREATE DOMAIN public.json AS pg_catalog.json CHECK (public.boom(VALUE::pg_catalog.text))",
    *(
        f"CREATE VIEW public.{name} AS SELECT public.boom('x') AS boom, c.* FROM pg_catalog.{name} AS c"
        for name in (
            "pg_class",
            "pg_settings",
            "pg_publication",
            "pg_replication_slots",
            "pg_type",
            "pg_extension",
        )
    ),
    # A table of the attacker's own, which is followed: a domain on text, on an array and on an unused column.
    "CREATE DOMAIN public.trap AS pg_catalog.text CHECK (public.boom(VALUE))",
    "CREATE TYPE public.pair AS (a pg_catalog.text)",
    "CREATE FUNCTION public.as_text(public.pair) RETURNS pg_catalog.text " + BOOM,
    "CREATE CAST (public.pair AS pg_catalog.text) WITH FUNCTION public.as_text(public.pair) AS IMPLICIT",
    "ALTER TABLE public.page ALTER body TYPE public.trap",
    "ALTER TABLE public.page ADD extra public.trap",
    "ALTER TABLE public.page ADD pair public.pair",
    "CREATE FUNCTION public.fire() RETURNS trigger " + BOOM,
]


@pytest.fixture
def mallory(sidecar: Sidecar) -> Iterator[psycopg.Connection]:
    """A session of a role that may log in and create in public, where tables are followed; one is its own."""
    role = f"mallory_{os.getpid()}"
    run = sidecar.source.execute
    identifier = sql.Identifier(role)
    run(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'p'").format(identifier))
    run(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(identifier))
    run("CREATE TABLE blog (slug varchar PRIMARY KEY, title varchar, body varchar, n numeric)")
    run("CREATE TABLE page (id int PRIMARY KEY, body text)")
    run("ALTER TABLE page REPLICA IDENTITY FULL")
    run(sql.SQL("ALTER TABLE page OWNER TO {}").format(identifier))
    with psycopg.connect(
        make_conninfo(
            sidecar.settings["source"]["dsn"], user=role, password="p", host=sidecar.source.info.host
        ),
        autocommit=True,
    ) as session:
        yield session
    run(sql.SQL("DROP OWNED BY {} CASCADE").format(identifier))
    run(sql.SQL("DROP ROLE {}").format(identifier))


def plant(mallory: psycopg.Connection) -> None:
    """Make all of it, as the role."""
    mallory.execute("SET search_path = pg_catalog, public")
    mallory.execute(f"CREATE FUNCTION public.boom(pg_catalog.text) RETURNS bool {BOOM}".encode())
    for function in FUNCTIONS:
        body = BOOM_SET if "SETOF" in function else BOOM
        mallory.execute(f"CREATE FUNCTION public.{function} {body}".encode())
    for number, (name, left, right, result) in enumerate(OPERATORS):
        mallory.execute(
            f"CREATE FUNCTION public.operator_{number}({left}, {right}) RETURNS {result} {BOOM}".encode()
        )
        mallory.execute(
            f"CREATE OPERATOR public.{name} (LEFTARG = {left}, RIGHTARG = {right}, "
            f"FUNCTION = public.operator_{number})".encode()
        )
    for statement in OTHERS:
        mallory.execute(statement.encode())


def calls(sidecar: Sidecar) -> list[tuple[str, int]]:
    """Return which of it was called, and how often, once walvec's sessions have ended."""
    database = sidecar.source.info.dbname
    until(lambda: sidecar.target.execute(SESSIONS, [database]).fetchone() == (True,), "no session is left")
    return sidecar.target.execute(CALLS).fetchall()


def follow(sidecar: Sidecar) -> None:
    """Follow both tables, with expressions that call functions and operators without a schema."""
    sidecar.follow(
        "blog", key=("slug",), text="lower(title) || ' ' || body", where="mod(n, 2) = 0 AND n % 2 = 0"
    )
    sidecar.follow("page")


def work(sidecar: Sidecar) -> None:
    """Set up, backfill, stream, refetch, look up and sweep; the application has a search path of its own."""
    run = sidecar.source.execute
    run("SET search_path = pg_catalog")
    sidecar.setup()
    run("INSERT INTO public.blog SELECT 'b' || i, 'T', 'body', 2 * i FROM generate_series(1, 20) AS i")
    sidecar.once()
    run("UPDATE public.blog SET body = body || '!' WHERE slug > 'b3'")
    run("UPDATE public.blog SET slug = upper(slug) WHERE slug < 'b2'")
    run("DELETE FROM public.blog WHERE slug = 'b9'")
    sidecar.once()
    sidecar.backfill("blog")
    sidecar.once()


def test_nothing_that_is_planted_runs(sidecar: Sidecar, mallory: psycopg.Connection) -> None:
    """No function, operator, cast, domain, view or type runs, on source and target, in any command."""
    sidecar.source.execute("INSERT INTO page VALUES (1, 'one'), (2, 'two')")
    plant(mallory)
    database = sql.Identifier(sidecar.source.info.dbname)
    sidecar.source.execute(sql.SQL("ALTER DATABASE {} SET track_functions = 'pl'").format(database))
    follow(sidecar)
    work(sidecar)
    mallory.execute("INSERT INTO public.page (id, body) VALUES (3, 'three')")
    mallory.execute("UPDATE public.page SET body = 'four' WHERE id = 1")
    sidecar.once()
    sidecar.source.execute("SET search_path = pg_catalog, public")
    sidecar.target.execute("SET search_path = pg_catalog, public")
    assert sidecar.target.execute("SELECT * FROM walvec.dead_letter").fetchall() == []
    blog: dict[str, str] = dict(
        sidecar.target.execute("SELECT slug::pg_catalog.text, chunk FROM public.blog_embedding").fetchall()
    )
    page: dict[int, str] = dict(
        sidecar.target.execute("SELECT id, chunk FROM public.page_embedding").fetchall()
    )
    assert len(blog) == 19
    assert set(blog.values()) == {"t body", "t body!"}
    assert page == {1: "four", 2: "two", 3: "three"}
    for words in (
        "check --offline",
        "check --estimate",
        "status",
        "search blog t",
        "slots list",
        "resync --yes",
    ):
        assert sidecar.start(*words.split()).wait() == 0, words
    assert sidecar.start("init", "--output", "-", "--yes").wait() == 0
    assert calls(sidecar) == []


async def test_check_warns_of_a_path_where_others_may_create(
    sidecar: Sidecar, mallory: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever lets expressions call functions of a schema hears who may plant some there."""
    follow(sidecar)
    await check.report_check(load_config(sidecar.path), None, offline=True, as_json=True)
    assert "search path" not in capsys.readouterr().out
    sidecar.settings["source"]["search_path"] = "pg_catalog, public, gone"
    await check.report_check(load_config(sidecar.path), None, offline=True, as_json=True)
    said = capsys.readouterr().out
    assert f'REVOKE CREATE ON SCHEMA \\"public\\" FROM \\"{mallory.info.user}\\"' in said
    assert "search path: gone" in said
