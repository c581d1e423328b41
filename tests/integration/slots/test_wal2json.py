"""What the plugin really sends: every kind of change, every trap."""

import psycopg
import pytest
from psycopg import sql

from slots.wal2json import Begin, Change, Commit, Message, Truncate
from tests.fix_postgres import Cluster
from tests.integration.slots.conftest import OpenTap

ODD_NAMES = [
    "plain",
    "Upper Case",
    "with space",
    'double"quote',
    "single'quote",
    "com,ma",
    "do.t",
    "*",
    "st*r",
    "back\\slash",
    "trailing\\",
    "new\nline",
    "tab\there",
    "ünïcödé",
    "表",
    "🐘 elephant",
    "percent%s{}",
    "x" * 63,
]


async def test_every_kind_of_change(source: psycopg.Connection, tap: OpenTap) -> None:
    """Insert, update, change of key, delete and truncate arrive in order, with old identity and new row."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, name text)")
    stream = await tap([("public", "t")])
    source.execute("INSERT INTO t VALUES (1, 'one')")
    source.execute("UPDATE t SET name = 'uno'")
    source.execute("UPDATE t SET id = 2")
    source.execute("DELETE FROM t")
    source.execute("TRUNCATE t")
    rows = [row[:1] + row[4:] if isinstance(row, Change) else type(row) for row in await stream.rows()]
    assert rows == [
        ("insert", {"id": 1, "name": "one"}, {}),
        ("update", {"id": 1, "name": "uno"}, {"id": 1}),
        ("update", {"id": 2, "name": "uno"}, {"id": 1}),
        ("delete", {}, {"id": 2}),
        Truncate,
    ]


async def test_transactions_have_borders(source: psycopg.Connection, tap: OpenTap) -> None:
    """Begin and Commit agree; a transaction without rows of these tables has both and nothing between."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    source.execute("CREATE TABLE other (id int PRIMARY KEY)")
    stream = await tap([("public", "t")])
    source.execute("INSERT INTO t VALUES (1)")
    source.execute("INSERT INTO other VALUES (1)")
    xid = source.execute("SELECT xmin::text::bigint FROM t").fetchall()[0][0]
    begin, change, commit, empty_begin, empty_commit = await stream.events()
    assert isinstance(begin, Begin)
    assert isinstance(commit, Commit)
    assert (tuple(begin), begin.xid, begin.next_lsn > begin.lsn > change.lsn) == (tuple(commit), xid, True)
    assert (type(empty_begin), type(empty_commit)) == (Begin, Commit)


async def test_rolled_back_work_is_not_sent(source: psycopg.Connection, tap: OpenTap) -> None:
    """Neither a rolled back transaction nor a rolled back savepoint leaves a trace."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    stream = await tap([("public", "t")])
    with source.transaction(force_rollback=True):
        source.execute("INSERT INTO t VALUES (1)")
    with source.transaction():
        source.execute("INSERT INTO t VALUES (2)")
        with source.transaction(force_rollback=True):
            source.execute("INSERT INTO t VALUES (3)")
    assert [row.columns for row in await stream.rows() if isinstance(row, Change)] == [{"id": 2}]


async def test_values_by_type(source: psycopg.Connection, tap: OpenTap) -> None:
    """Numbers keep their digits; NaN is null; bytea is bare hex; domains and all else are output text.

    A type whose name needs quotes would break the JSON if types were included (wal2json#296).
    """
    source.execute("""
        CREATE SCHEMA "My";
        CREATE TYPE "My"."Mood" AS ENUM ('so-so', 'fine');
        CREATE DOMAIN price AS numeric; CREATE DOMAIN blob AS bytea; CREATE DOMAIN flag AS boolean;
        CREATE TABLE t (
            id bigint PRIMARY KEY, yes bool, big numeric, scaled numeric, nan numeric,
            double float8, inf float8, bytes bytea, words text[], doc json, docb jsonb,
            mood "My"."Mood", price price, blob blob, flag flag,
            at timestamptz, span interval, small real, doubled int GENERATED ALWAYS AS (2) STORED
        )""")
    stream = await tap([("public", "t")])
    source.execute(r"""
        INSERT INTO t VALUES (
            9223372036854775807, true, 1e400, 1.50, 'NaN', 0.1, '-infinity',
            '\x00ff', '{a,"b c",NULL}', '{"a":  1}', '{"a":  1}', 'so-so', 'NaN', '\x00ff', true,
            '2026-01-02 03:04:05.678901+02', '1 day 02:03', 0.1
        )""")
    [row] = await stream.rows()
    assert isinstance(row, Change)
    assert row.columns == {
        "id": 9223372036854775807,
        "yes": True,
        "big": "1" + "0" * 400,
        "scaled": "1.50",
        "nan": None,
        "double": "0.1",
        "inf": None,
        "bytes": "00ff",
        "words": '{a,"b c",NULL}',
        "doc": '{"a":  1}',
        "docb": '{"a": 1}',
        "mood": "so-so",
        "price": "NaN",
        "blob": "\\x00ff",
        "flag": "t",
        "at": "2026-01-02 01:04:05.678901+00",
        "span": "1 day 02:03:00",
        "small": "0.1",
        "doubled": 2,
    }


async def test_session_settings_are_pinned(source: psycopg.Connection, tap: OpenTap) -> None:
    """Whatever the database sets, values look the same; bytea_output=escape would lose bytes (#301)."""
    source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, s interval, b bytea, f float8, c regclass)"
    )
    for setting in (
        "datestyle = 'German'",
        "intervalstyle = 'sql_standard'",
        "timezone = 'Asia/Tokyo'",
        "bytea_output = 'escape'",
        "extra_float_digits = -10",
        "search_path = public",
        "statement_timeout = 1",
    ):
        source.execute(
            sql.SQL("ALTER DATABASE {} SET {}").format(sql.Identifier(source.info.dbname), sql.SQL(setting))
        )
    stream = await tap([("public", "t")])
    source.execute(
        r"INSERT INTO t VALUES (1, '2026-01-02 03:04:05+00', '1 day 2 hours', '\x61c3', 1::float8 / 3, 't')"
    )
    [row] = await stream.rows()
    assert isinstance(row, Change)
    assert list(row.columns.values()) == [
        1,
        "2026-01-02 03:04:05+00",
        "1 day 02:00:00",
        "61c3",
        "0.3333333333333333",
        "public.t",
    ]


async def test_unchanged_toast_is_absent(source: psycopg.Connection, tap: OpenTap) -> None:
    """A long value that an update leaves alone is not in the row; its key change carries no text at all."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, n int, body text)")
    source.execute("ALTER TABLE t ALTER body SET STORAGE EXTERNAL")
    source.execute("INSERT INTO t VALUES (1, 1, repeat('x', 10000))")
    stream = await tap([("public", "t")])
    source.execute("UPDATE t SET n = 2")
    source.execute("UPDATE t SET id = 2")
    rows = [(row.columns, row.identity) for row in await stream.rows() if isinstance(row, Change)]
    assert rows == [({"id": 1, "n": 2}, {"id": 1}), ({"id": 2, "n": 2}, {"id": 1})]


async def test_unchanged_toast_is_in_a_full_identity(source: psycopg.Connection, tap: OpenTap) -> None:
    """Under REPLICA IDENTITY FULL the old row has what the new one lacks."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, n int, body text)")
    source.execute("ALTER TABLE t REPLICA IDENTITY FULL, ALTER body SET STORAGE EXTERNAL")
    source.execute("INSERT INTO t VALUES (1, 1, repeat('x', 10000))")
    stream = await tap([("public", "t")])
    source.execute("UPDATE t SET n = 2")
    [row] = await stream.rows()
    assert isinstance(row, Change)
    assert (row.columns, row.identity) == ({"id": 1, "n": 2}, {"id": 1, "n": 1, "body": "x" * 10000})


@pytest.mark.parametrize(
    ("definition", "identity"),
    [
        ("id int PRIMARY KEY, other int NOT NULL UNIQUE", {"id": 1}),
        ("id int, other int NOT NULL CONSTRAINT by_other UNIQUE", {"other": 2}),
        ("id int, other int", {"id": 1, "other": 2}),
    ],
)
async def test_replica_identities_that_tell_rows_apart(
    definition: str, identity: dict[str, int], source: psycopg.Connection, tap: OpenTap
) -> None:
    """A delete carries the primary key, the chosen index's columns alone, or the whole row."""
    source.execute(sql.SQL("CREATE TABLE t ({})").format(sql.SQL(definition)))
    if "by_other" in definition:
        source.execute("ALTER TABLE t REPLICA IDENTITY USING INDEX by_other")
    elif "KEY" not in definition:
        source.execute("ALTER TABLE t REPLICA IDENTITY FULL")
    source.execute("INSERT INTO t VALUES (1, 2)")
    stream = await tap([("public", "t")])
    source.execute("DELETE FROM t")
    assert [row.identity for row in await stream.rows() if isinstance(row, Change)] == [identity]


@pytest.mark.parametrize(
    "definition",
    [
        "id int",
        "id int PRIMARY KEY DEFERRABLE",
        "id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING; --",
    ],
)
async def test_rows_without_identity_leave_only_a_warning(
    definition: str, source: psycopg.Connection, tap: OpenTap
) -> None:
    """Update and delete are dropped by the plugin; the notice channel is the one trace."""
    source.execute(sql.SQL("CREATE TABLE t ({})").format(sql.SQL(definition)))
    source.execute("INSERT INTO t VALUES (1)")
    stream = await tap([("public", "t")])
    source.execute("UPDATE t SET id = 2")
    source.execute("DELETE FROM t")
    assert (await stream.rows(), [severity for severity, text in stream.notices if '"t"' in text]) == (
        [],
        ["WARNING", "WARNING"],
    )


async def test_partitions_come_under_their_own_names(source: psycopg.Connection, tap: OpenTap) -> None:
    """A move across partitions is a delete and an insert; truncating the root gives it and every leaf."""
    source.execute("""
        CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE low PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE high PARTITION OF p FOR VALUES FROM (10) TO (20)""")
    stream = await tap([("public", "p"), ("public", "low"), ("public", "high")])
    source.execute("INSERT INTO p VALUES (1)")
    source.execute("UPDATE p SET id = 11")
    source.execute("TRUNCATE p")
    rows = await stream.rows()
    changes = [(row.kind, row.table) for row in rows if isinstance(row, Change)]
    truncates = {row.table for row in rows if isinstance(row, Truncate)}
    assert (changes, truncates) == (
        [("insert", "low"), ("delete", "low"), ("insert", "high")],
        {"p", "low", "high"},
    )


async def test_messages_of_other_programs_stay_out(source: psycopg.Connection, tap: OpenTap) -> None:
    """Only messages under walvec's prefix come, transactional ones inside Begin and Commit."""
    stream = await tap([])
    source.execute(r"SELECT pg_logical_emit_message(false, 'other', '\xff'::bytea)")
    source.execute("SELECT pg_logical_emit_message(true, 'walvec', 'inside')")
    source.execute("SELECT pg_logical_emit_message(false, 'walvec', 'outside')")
    begin, inside, commit, outside = await stream.events()
    assert (type(begin), type(commit)) == (Begin, Commit)
    assert isinstance(inside, Message)
    assert isinstance(outside, Message)
    assert (inside[1:], outside[1:]) == ((True, "walvec", "inside"), (False, "walvec", "outside"))


async def test_only_the_tables_named_come(source: psycopg.Connection, tap: OpenTap) -> None:
    """Odd names are matched to the letter: no wildcard, no split, no other case."""
    for schema in ODD_NAMES[:-1]:
        source.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    for schema, table in [("plain", name) for name in ODD_NAMES] + [(name, "t") for name in ODD_NAMES[:-1]]:
        source.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY)").format(sql.Identifier(schema, table)))
    wanted = [("plain", name) for name in ODD_NAMES[1:]] + [(name, "t") for name in ODD_NAMES[1:-1]]
    stream = await tap(wanted)
    for schema, table in [("plain", "plain"), ("plain", "t"), *wanted]:
        source.execute(sql.SQL("INSERT INTO {} VALUES (1)").format(sql.Identifier(schema, table)))
    assert [row[2:4] for row in await stream.rows() if isinstance(row, Change)] == wanted


async def test_column_names_may_be_odd(source: psycopg.Connection, tap: OpenTap) -> None:
    """Column names arrive to the letter."""
    names = sql.SQL(" int, ").join(map(sql.Identifier, ODD_NAMES))
    source.execute(sql.SQL("CREATE TABLE t ({} int PRIMARY KEY)").format(names))
    stream = await tap([("public", "t")])
    source.execute(
        sql.SQL("INSERT INTO t VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Literal, range(len(ODD_NAMES))))
        )
    )
    [row] = await stream.rows()
    assert isinstance(row, Change)
    assert list(row.columns) == ODD_NAMES


async def test_a_row_of_50_megabytes(source: psycopg.Connection, tap: OpenTap) -> None:
    """It passes in one message, of which the huge value is left to whoever needs it."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    stream = await tap([("public", "t")])
    source.execute("INSERT INTO t VALUES (1, repeat('walvec ', 7500000))")
    [row] = await stream.rows()
    assert isinstance(row, Change)
    assert row.columns == {"id": 1}


@pytest.mark.slow
async def test_prepared_transactions_come_when_committed(cluster: Cluster) -> None:
    """Two-phase commit: nothing at PREPARE, the whole at COMMIT PREPARED."""
    cluster.set("max_prepared_transactions", "2")
    cluster.restart()
    with psycopg.connect(cluster.dsn(), autocommit=True) as source:
        source.execute("CREATE TABLE t (id int PRIMARY KEY)")
        source.execute("SELECT pg_create_logical_replication_slot('s', 'wal2json')")
        with source.transaction():
            source.execute("INSERT INTO t VALUES (1)")
            source.execute("PREPARE TRANSACTION 'one'")
        peek = """
            SELECT count(*) FROM pg_logical_slot_peek_changes('s', NULL, NULL, 'format-version', '2')
            WHERE data::json ->> 'action' = 'I'"""
        prepared = source.execute(peek).fetchall()
        source.execute("COMMIT PREPARED 'one'")
        assert (prepared, source.execute(peek).fetchall()) == ([(0,)], [(1,)])
