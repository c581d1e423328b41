"""Neither settings of a database nor an extension's schema change what is read."""

import asyncio
import os
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fix_postgres import drop_database
from tests.fix_sidecar import Sidecar
from walvec.commands import check, resync
from walvec.database.connect import connect_source, connect_source_for_changes, connect_target
from walvec_slots.errors import NotUtf8, PreconditionFailed
from walvec_slots.settle import open_session

# What ALTER DATABASE and ALTER ROLE may do to a session, each of which has broken or altered something once.
HOSTILE = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "xmlbinary": "hex",
    "xmloption": "document",
    "default_text_search_config": "pg_catalog.german",
    "quote_all_identifiers": "on",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "timezone_abbreviations": "India",
    "client_min_messages": "debug1",
    "search_path": "nowhere",
    "default_transaction_isolation": "serializable",
    "exit_on_error": "on",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
}

TABLE = """
    CREATE TABLE blog (
        id timestamptz PRIMARY KEY, body bytea, ratio float8, span interval, day date, tags text[],
        price money, "Select" text
    )
"""
ROW = """
    INSERT INTO blog SELECT
        '2024-05-06 07:08:09+00'::timestamptz + i * '1 hour'::interval, decode('00ff5c', 'hex'),
        0.1::float8 + 0.2, '1 day 02:03:04', '2024-02-01', ARRAY['a', NULL], 1234.5, E'it\\\\'
    FROM generate_series(%s::int, %s::int) AS i
"""
TEXT = r"""
    concat_ws(' ', id, body, ratio, span, day, tags, price, "Select", '2024-01-01 IST'::timestamptz,
        '{NULL}'::text[], (NULL = "Select") IS NULL, 'a\b', to_tsvector(day || ' laufen running'))
"""


@pytest.fixture
def hostile(sidecar: Sidecar) -> Sidecar:
    """Return a database whose new sessions begin with hostile settings.

    The test's own sessions are older.
    """
    (name,) = sidecar.source.execute("SELECT current_database()").fetchone() or ("",)
    for setting, value in HOSTILE.items():
        sidecar.source.execute(
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)
            )
        )
    # The test's sessions print like walvec's.
    for session in (sidecar.source, sidecar.target):
        session.execute("SET default_text_search_config = 'pg_catalog.simple'")
        session.execute("SET lc_monetary = 'C'")
    return sidecar


def test_settings_of_a_database_change_no_text(hostile: Sidecar) -> None:
    """Backfill, stream, refetch and look-ups give the same texts as without them."""
    hostile.source.execute(TABLE.encode())
    hostile.source.execute(ROW.encode(), [1, 3])
    hostile.follow(text=TEXT)
    hostile.setup()
    hostile.once()
    hostile.source.execute(ROW.encode(), [4, 6])
    hostile.source.execute("UPDATE blog SET day = day + 1")
    hostile.once()
    assert len(hostile.actual()["blog"]) == 6
    assert hostile.actual() == hostile.expected()


async def test_every_session_has_the_same_form_of_values(
    hostile: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All sessions print values alike, whatever libpq's environment says."""
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    monkeypatch.setenv("PGDATESTYLE", "SQL, DMY")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGOPTIONS", "-c extra_float_digits=-5 -c search_path=public")
    names = sorted({*HOSTILE, "client_encoding"} - {"lock_timeout"})
    names = [name for name in names if not name.startswith("default_transaction") and name != "exit_on_error"]
    config = hostile.config
    walsender = await open_session(
        psycopg.AsyncConnection,
        config.source_dsn,
        {},
        replication="database",
        prepare_threshold=None,
        cursor_factory=psycopg.AsyncClientCursor,
    )
    sessions: list[psycopg.AsyncConnection] = [
        await connect_source(config, role="test"),
        await connect_target(config, role="test"),
        await connect_source_for_changes(config),
        walsender,
    ]
    found: list[dict[str, str]] = []
    for session in sessions:
        async with session:
            cursor = await session.execute(
                "SELECT lower(name), setting FROM pg_settings WHERE name = ANY (%s)", [names]
            )
            found.append(dict(await cursor.fetchall()))
    assert found[1:] == found[:1] * 3
    assert {name: found[0][name] for name in ("search_path", "timezone", "client_encoding", "datestyle")} == {
        "search_path": "pg_catalog, pg_temp",
        "timezone": "UTC",
        "client_encoding": "UTF8",
        "datestyle": "ISO, MDY",
    }
    assert not {name: value for name, value in found[0].items() if HOSTILE.get(name) == value}


@pytest.fixture
def latin(sidecar: Sidecar, server: str) -> Iterator[str]:
    """Return a database that keeps its text in LATIN1."""
    name = f"walvec-latin-{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").format(
                sql.Identifier(name)
            )
        )
        dsn = make_conninfo(server, dbname=name)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
            connection.execute("CREATE EXTENSION vector")
        yield dsn
        drop_database(admin, name)


@pytest.mark.parametrize("side", ["source", "target"])
async def test_another_encoding_is_refused_by_all(
    sidecar: Sidecar, latin: str, side: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No command accepts a database that is not in UTF-8, or creates anything in it.

    wal2json cannot read such a source; pgoutput can.
    """
    sidecar.settings["source"]["plugin"] = "wal2json"
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    sidecar.settings.setdefault("target", {"dsn": sidecar.settings["source"]["dsn"]})
    sidecar.settings[side]["dsn"] = latin
    sidecar.follow()
    for refused in (sidecar.setup, sidecar.once, lambda: resync_now(sidecar)):
        with pytest.raises(NotUtf8 if refused == sidecar.setup or side == "target" else PreconditionFailed):
            await in_thread(refused)
    assert not await check.report_check(sidecar.config, None, offline=True, as_json=False)
    assert "LATIN1" in capsys.readouterr().out
    with psycopg.connect(latin) as connection:
        made = connection.execute(
            "SELECT (SELECT count(*) FROM pg_publication), "
            "(SELECT count(*) FROM pg_namespace WHERE nspname = 'walvec')"
        ).fetchone()
    assert made == (0, 0)


def resync_now(sidecar: Sidecar) -> None:
    """Run `walvec resync --yes`."""
    asyncio.run(resync.resync(sidecar.config, time_limit=30, compare=False, sure=True))


async def in_thread(command: Callable[[], None]) -> None:
    """Run a command that has its own event loop."""
    await asyncio.to_thread(command)


@pytest.fixture
def elsewhere(sidecar: Sidecar) -> Sidecar:
    """Return a database with pgvector and citext in a schema outside any search path."""
    sidecar.source.execute('CREATE SCHEMA "My extensions"')
    sidecar.source.execute("DROP EXTENSION vector")
    sidecar.source.execute('CREATE EXTENSION vector SCHEMA "My extensions"')
    sidecar.source.execute('CREATE EXTENSION citext SCHEMA "My extensions"')
    return sidecar


def test_pgvector_in_another_schema_works(elsewhere: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything works with pgvector in another schema, and keys compare as citext."""
    elsewhere.source.execute(
        'CREATE TABLE blog (part int, id "My extensions".citext, body text, PRIMARY KEY (part, id))'
    )
    elsewhere.source.execute(
        "INSERT INTO blog SELECT i, 'Key ' || i, 'body ' || i FROM generate_series(1, 2000) AS i"
    )
    elsewhere.follow(key=("part", "id"), index="hnsw")
    assert elsewhere.start("check", "--offline").wait() == 0
    elsewhere.setup()
    assert "extension" not in capsys.readouterr().out
    elsewhere.once()
    elsewhere.source.execute("UPDATE blog SET id = 'KEY 7' WHERE part = 7")
    elsewhere.source.execute("DELETE FROM blog WHERE part > 1990")
    elsewhere.once()
    assert elsewhere.actual() == elsewhere.expected()
    found = elsewhere.start("search", "blog", "body 7", "-k", "1", "--json").output()
    assert '"body 7"' in found


def test_a_role_without_the_right_to_pgvector_s_schema_hears_of_it(elsewhere: Sidecar) -> None:
    """The refusal names the statement that grants the right."""
    role = f"walvec_plain_{os.getpid()}"
    run = elsewhere.source.execute
    run("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    elsewhere.follow()
    run(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'p' REPLICATION").format(sql.Identifier(role)))
    try:
        run(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(sql.Identifier(role)))
        (name,) = run("SELECT current_database()").fetchone() or ("",)
        run(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(name), sql.Identifier(role)))
        dsn = make_conninfo(elsewhere.settings["source"]["dsn"], user=role, password="p")
        elsewhere.settings["target"] = {"dsn": dsn}
        refused = elsewhere.refusal(elsewhere.setup)
        assert isinstance(refused, PreconditionFailed)
        assert refused.hint == f'GRANT USAGE ON SCHEMA "My extensions" TO "{role}"'
    finally:
        run(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        run(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
