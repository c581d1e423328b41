"""Both plugins send the same changes, with the same values."""

import psycopg
import pytest
from psycopg import sql

from tests.fix_postgres import Cluster
from tests.integration.slots.conftest import ODD_NAMES, OpenTap, streamed
from walvec.attach import CHANGES_LOST
from walvec_slots.changes import Begin, Change, Commit, Truncate
from walvec_slots.plugin import PLUGINS

pytestmark = pytest.mark.every_version


@pytest.fixture(params=sorted(PLUGINS))
def plugin(request: pytest.FixtureRequest) -> str:
    """Give each plugin in turn."""
    return str(request.param)


async def test_every_kind_of_change(source: psycopg.Connection, tap: OpenTap) -> None:
    """Every kind of change arrives in order, with old identity and new row."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, name text)")
    stream = await tap([("public", "t")])
    source.execute("INSERT INTO t VALUES (1, 'one')")
    source.execute("UPDATE t SET name = 'uno'")
    source.execute("UPDATE t SET id = 2")
    source.execute("DELETE FROM t")
    source.execute("TRUNCATE t")
    inserted, updated, moved, deleted, truncated = await stream.rows()
    assert truncated == Truncate(truncated.lsn, (("public", "t"),))
    # An update that leaves the key alone has it as its identity with wal2json, and none with pgoutput.
    rows = [row[:1] + row[4:6] for row in (inserted, updated, moved, deleted)]
    rows[1] = rows[1][:2]
    assert rows == [
        ("insert", {"id": "1", "name": "one"}, {}),
        ("update", {"id": "1", "name": "uno"}),
        ("update", {"id": "2", "name": "uno"}, {"id": "1"}),
        ("delete", {}, {"id": "2"}),
    ]


async def test_rolled_back_work_is_not_sent(source: psycopg.Connection, tap: OpenTap) -> None:
    """Neither a rolled-back transaction nor a rolled-back savepoint is sent."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    stream = await tap([("public", "t")])
    with source.transaction(force_rollback=True):
        source.execute("INSERT INTO t VALUES (1)")
    with source.transaction():
        source.execute("INSERT INTO t VALUES (2)")
        with source.transaction(force_rollback=True):
            source.execute("INSERT INTO t VALUES (3)")
    assert [row.columns for row in await stream.changes()] == [{"id": "2"}]


async def test_values_by_type(source: psycopg.Connection, tap: OpenTap, plugin: str) -> None:
    """Values are the output functions' text; wal2json before 2.6 omits what is not a JSON number.

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
    [row] = await stream.changes()
    not_finite = {"nan": "NaN", "inf": "-Infinity"}
    tells_all = plugin == "pgoutput" or "nan" in row.columns
    assert row.columns == {
        "id": "9223372036854775807",
        "yes": "t",
        "big": "1" + "0" * 400,
        "scaled": "1.50",
        "double": "0.1",
        "bytes": r"\x00ff",
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
        **(not_finite if tells_all else {}),
        **({} if plugin == "pgoutput" else {"doubled": "2"}),
    }
    assert set(row.unclear) == (set() if tells_all else set(not_finite))


async def test_session_settings_are_pinned(source: psycopg.Connection, tap: OpenTap) -> None:
    """Values look the same whatever the database sets.

    bytea_output = escape would lose bytes (wal2json#301).
    """
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
    [row] = await stream.changes()
    assert list(row.columns.values()) == [
        "1",
        "2026-01-02 03:04:05+00",
        "1 day 02:00:00",
        r"\x61c3",
        "0.3333333333333333",
        "public.t",
    ]


async def test_unchanged_toast_is_absent(source: psycopg.Connection, tap: OpenTap) -> None:
    """A long value that an update leaves alone is not in the row.

    A change of the key does not carry it either.
    """
    source.execute("CREATE TABLE t (id int PRIMARY KEY, n int, body text)")
    source.execute("ALTER TABLE t ALTER body SET STORAGE EXTERNAL")
    source.execute("INSERT INTO t VALUES (1, 1, repeat('x', 10000))")
    stream = await tap([("public", "t")])
    source.execute("UPDATE t SET n = 2")
    source.execute("UPDATE t SET id = 2")
    same, moved = await stream.changes()
    assert (same.columns, moved.columns) == ({"id": "1", "n": "2"}, {"id": "2", "n": "2"})
    assert moved.identity == {"id": "1"}


async def test_unchanged_toast_is_in_a_full_identity(source: psycopg.Connection, tap: OpenTap) -> None:
    """Under REPLICA IDENTITY FULL the old row has what the new one lacks."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, n int, body text)")
    source.execute("ALTER TABLE t REPLICA IDENTITY FULL, ALTER body SET STORAGE EXTERNAL")
    source.execute("INSERT INTO t VALUES (1, 1, repeat('x', 10000))")
    stream = await tap([("public", "t")])
    source.execute("UPDATE t SET n = 2")
    [row] = await stream.changes()
    assert (row.columns, row.identity) == (
        {"id": "1", "n": "2"},
        {"id": "1", "n": "1", "body": "x" * 10000},
    )


@pytest.mark.parametrize(
    ("definition", "identity"),
    [
        ("id int PRIMARY KEY, other int NOT NULL UNIQUE", {"id": "1"}),
        ("id int, other int NOT NULL CONSTRAINT by_other UNIQUE", {"other": "2"}),
        ("id int, other int", {"id": "1", "other": "2"}),
    ],
)
async def test_replica_identities_that_tell_rows_apart(
    definition: str, identity: dict[str, str], source: psycopg.Connection, tap: OpenTap
) -> None:
    """A delete carries the primary key, the chosen index's columns, or the row."""
    source.execute(sql.SQL("CREATE TABLE t ({})").format(sql.SQL(definition)))
    if "by_other" in definition:
        source.execute("ALTER TABLE t REPLICA IDENTITY USING INDEX by_other")
    elif "KEY" not in definition:
        source.execute("ALTER TABLE t REPLICA IDENTITY FULL")
    source.execute("INSERT INTO t VALUES (1, 2)")
    stream = await tap([("public", "t")])
    source.execute("DELETE FROM t")
    assert [row.identity for row in await stream.changes()] == [identity]


async def test_partitions_come_under_their_own_names(source: psycopg.Connection, tap: OpenTap) -> None:
    """A move across partitions is a delete and an insert.

    Truncating the root names every leaf.
    """
    source.execute("""
        CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE low PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE high PARTITION OF p FOR VALUES FROM (10) TO (20)""")
    stream = await tap([("public", "low"), ("public", "high")])
    source.execute("INSERT INTO p VALUES (1)")
    source.execute("UPDATE p SET id = 11")
    source.execute("TRUNCATE p")
    rows = await stream.rows()
    changes = [(row.kind, row.table) for row in rows if isinstance(row, Change)]
    truncated = {table for row in rows if isinstance(row, Truncate) for _, table in row.tables}
    places = {row.lsn for row in rows if isinstance(row, Truncate)}
    assert (changes, truncated, len(places)) == (
        [("insert", "low"), ("delete", "low"), ("insert", "high")],
        {"low", "high"},
        1,
    )


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
    [row] = await stream.changes()
    assert list(row.columns) == ODD_NAMES


async def test_a_row_of_50_megabytes(source: psycopg.Connection, tap: OpenTap) -> None:
    """It passes in one message, of which the huge value is left to whoever needs it."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    stream = await tap([("public", "t")])
    source.execute("INSERT INTO t VALUES (1, repeat('walvec ', 7500000))")
    [row] = await stream.changes()
    assert row.columns == {"id": "1"}


async def test_transactions_have_borders(source: psycopg.Connection, tap: OpenTap) -> None:
    """Begin and Commit have the transaction's id, commit time and LSNs."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    stream = await tap([("public", "t")])
    source.execute("INSERT INTO t VALUES (1)")
    source.execute("INSERT INTO t VALUES (2)")
    first, _, first_end, second, _, second_end = await stream.events()
    xids = source.execute("SELECT xmin::text::bigint FROM t ORDER BY id").fetchall()
    assert isinstance(first, Begin)
    assert isinstance(second, Begin)
    assert isinstance(first_end, Commit)
    assert isinstance(second_end, Commit)
    assert [(first.xid,), (second.xid,)] == xids
    assert [first_end[:2], second_end[:2]] == [first[:2], second[:2]]
    assert first.lsn < first_end.next_lsn <= second.lsn < second_end.next_lsn
    assert first.committed_at <= second.committed_at < first.committed_at + 60_000_000


@pytest.mark.slow
async def test_prepared_transactions_come_when_committed(cluster: Cluster, plugin: str) -> None:
    """Two-phase commit: nothing at PREPARE, the whole at COMMIT PREPARED."""
    cluster.set("max_prepared_transactions", "2")
    cluster.restart()
    with psycopg.connect(cluster.dsn(), autocommit=True) as source:
        source.execute("CREATE TABLE t (id int PRIMARY KEY)")
        source.execute("CREATE PUBLICATION p FOR TABLE t")
        source.execute("SELECT pg_create_logical_replication_slot('s', %s)", [plugin])
        with source.transaction():
            source.execute("INSERT INTO t VALUES (1)")
            source.execute("PREPARE TRANSACTION 'one'")
        options = PLUGINS[plugin].options("p", streamed(source, [("public", "t")]))
        peek = "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL, VARIADIC %s)"
        words = [word for option in options.items() for word in option]
        prepared = source.execute(peek, [words]).fetchall()
        source.execute("COMMIT PREPARED 'one'")
        assert prepared == [(0,)]
        assert source.execute(peek, [words]).fetchall() > [(2,)]


@pytest.mark.parametrize("plugin", ["pgoutput"])
async def test_missing_publication_is_told_by_a_warning_from_18_on(
    source: psycopg.Connection, tap: OpenTap
) -> None:
    """What was changed meanwhile is left out; the warning has the SQLSTATE that walvec looks for."""
    if source.info.server_version < 180_000:
        pytest.skip("this server ends the stream instead")
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    stream = await tap([("public", "t")])
    name = sql.Identifier(stream.slot)
    source.execute(sql.SQL("ALTER PUBLICATION {} RENAME TO renamed").format(name))
    source.execute("INSERT INTO t VALUES (1)")
    source.execute(sql.SQL("ALTER PUBLICATION renamed RENAME TO {}").format(name))
    source.execute("INSERT INTO t VALUES (2)")
    assert [change.columns for change in await stream.changes()] == [{"id": "2"}]
    assert {(notice.severity, notice.sqlstate) for notice in stream.notices} == {("WARNING", CHANGES_LOST)}
