"""Plans of the statements that serve for months.

They are made over empty tables, and still use an index when the tables have grown.
"""

import psycopg
import pytest
from psycopg import sql

from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec.database.connect import connect_source, connect_target
from walvec.stages.evaluate import SourceReader
from walvec.stages.visibility import Unseen
from walvec.vectorizer.bind import bind
from walvec.vectorizer.target import TargetTable
from walvec_slots.settle import Connection

OFTEN = 4  # times, after which a statement is prepared


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """An empty table that is followed."""
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    sidecar.follow("blog")
    sidecar.setup()
    return sidecar


async def plans(connection: Connection) -> str:
    """The plans of the session's prepared statements for whatever parameters."""
    await connection.execute("SET plan_cache_mode = force_generic_plan")  # as PostgreSQL may choose by itself
    cursor = await connection.execute("SELECT name, cardinality(parameter_types) FROM pg_prepared_statements")
    lines: list[str] = []
    for name, parameters in await cursor.fetchall():
        query = sql.SQL("EXPLAIN EXECUTE {name}{parameters}").format(
            name=sql.Identifier(name),
            parameters=sql.SQL("({})").format(sql.SQL(", ").join([sql.NULL] * int(parameters)))
            if int(parameters)
            else sql.SQL(""),
        )
        try:
            explained = await connection.execute(query)
        except psycopg.errors.DatatypeMismatch:  # a statement that EXPLAIN does not take
            continue
        lines += [line for (line,) in await explained.fetchall()]
    return "\n".join(lines)


async def test_look_ups_and_deletions_go_by_the_index_of_the_target(blog: Sidecar) -> None:
    """A plan made for a small target reads no large one as a whole."""
    config = blog.config
    (vectorizer,) = config.vectorizers
    async with await connect_source(config, role="test") as source:
        binding = await bind(source, vectorizer, config.source.publication)
    table = TargetTable(vectorizer, binding.key, config.embedder.dimensions)
    async with await connect_target(config, role="test") as target:
        for number in range(OFTEN):
            await table.held_hashes(target, [(str(number),)])
            await table.delete_chunks(target, [(str(number),)], [0])
        found = await plans(target)
    assert "blog_embedding" in found
    assert "Seq Scan" not in found


def scans(sidecar: Sidecar) -> tuple[int, int]:
    """How often the table has been read as a whole, and by an index."""
    ((whole, by_index),) = sidecar.source.execute(
        "SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname = 'blog'"
    ).fetchall()
    return whole, by_index


async def test_reads_of_rows_go_by_the_key(blog: Sidecar) -> None:
    """A plan made for a small table still goes by the key."""
    config = blog.config
    (vectorizer,) = config.vectorizers
    whole, by_index = scans(blog)
    async with await connect_source(config, role="test") as connection:
        binding = await bind(connection, vectorizer, config.source.publication)
        source = SourceReader(connection, Unseen())
        for number in range(OFTEN):
            await source.rows_by_key(binding, [(str(number),)], size=1000)
            await source.rows_after(binding, (str(number),), rows=10, size=1000)
            await source.rows_after(binding, None, rows=10, size=1000)
            await source.keys_gone(binding, [(str(number),)])
        found = await plans(connection)
    assert "blog_pkey" in found
    assert "Seq Scan" not in found
    until(lambda: scans(blog)[1] >= by_index + 4 * OFTEN, "the session's numbers")
    # An earlier session's numbers may come late; each of these statements was run so often.
    assert scans(blog)[0] - whole < OFTEN
