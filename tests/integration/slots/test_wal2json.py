"""What wal2json alone does: its messages, its add-tables, and what it leaves out."""

import psycopg
import pytest
from psycopg import sql

from tests.integration.slots.conftest import ODD_NAMES, OpenTap
from walvec_slots.changes import Begin, Change, Commit, Message

pytestmark = [pytest.mark.every_version, pytest.mark.needs("wal2json")]


async def test_transactions_have_borders(source: psycopg.Connection, tap: OpenTap) -> None:
    """Begin and Commit agree, with nothing between where no row is wanted."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    source.execute("CREATE TABLE other (id int PRIMARY KEY)")
    stream = await tap([("public", "t")])
    source.execute("INSERT INTO t VALUES (1)")
    source.execute("INSERT INTO other VALUES (1)")
    begin, change, commit, *empty = await stream.events()
    assert isinstance(begin, Begin)
    assert isinstance(change, Change)
    assert isinstance(commit, Commit)
    ((xid,),) = source.execute("SELECT xmin::text::bigint FROM t").fetchall()
    assert (begin.xid, commit[:2], commit.next_lsn > begin.lsn > change.lsn) == (xid, begin[:2], True)
    assert [type(event) for event in empty] == [Begin, Commit]


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
    """The plugin drops updates and deletes without a key, with only a notice."""
    source.execute(sql.SQL("CREATE TABLE t ({})").format(sql.SQL(definition)))
    source.execute("INSERT INTO t VALUES (1)")
    stream = await tap([("public", "t")])
    source.execute("UPDATE t SET id = 2")
    source.execute("DELETE FROM t")
    assert (
        await stream.rows(),
        [notice.severity for notice in stream.notices if '"t"' in notice.message],
    ) == (
        [],
        ["WARNING", "WARNING"],
    )


async def test_messages_of_other_programs_stay_out(source: psycopg.Connection, tap: OpenTap) -> None:
    """Only messages with walvec's prefix come.

    Transactional ones come between Begin and Commit.
    """
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
    """Odd names are matched exactly: no wildcard, no split, no other case."""
    for schema in ODD_NAMES[:-1]:
        source.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    for schema, table in [("plain", name) for name in ODD_NAMES] + [(name, "t") for name in ODD_NAMES[:-1]]:
        source.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY)").format(sql.Identifier(schema, table)))
    wanted = [("plain", name) for name in ODD_NAMES[1:]] + [(name, "t") for name in ODD_NAMES[1:-1]]
    stream = await tap(wanted)
    for schema, table in [("plain", "plain"), ("plain", "t"), *wanted]:
        source.execute(sql.SQL("INSERT INTO {} VALUES (1)").format(sql.Identifier(schema, table)))
    assert [row[2:4] for row in await stream.rows() if isinstance(row, Change)] == wanted
