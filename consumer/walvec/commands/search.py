"""`walvec search NAME QUERY`: the nearest chunks, with keys and distances."""

from typing import Any

from psycopg.rows import dict_row

from walvec.commands.backfill import configured_vectorizer
from walvec.commands.output import print_json, print_table
from walvec.config.load import Config
from walvec.database.connect import connect_target
from walvec.database.pgvector import require_vectors
from walvec.embed.protocol import Vector, open_embedder
from walvec.embed.service import ask
from walvec.errors import UsageInvalid
from walvec.vectorizer.target import TargetTable, find_target
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

# Characters of a chunk in a table. With keys of the usual length a line has 100 columns.
_EXCERPT = 72


async def search(config: Config, name: str, query: str, *, limit: int, as_json: bool) -> None:
    """Print the chunks nearest to the query, nearest first.

    Raises UsageInvalid for a name that is not configured or a blank query, EmbeddingError if the service
    fails.
    """
    vectorizer = configured_vectorizer(config, name)
    if not query.strip():
        raise UsageInvalid("The query is blank", hint="say what to look for")
    embedder = open_embedder(config.embedder)
    try:
        (vector,) = (await ask(embedder, [query])).vectors
    finally:
        await embedder.aclose()
    async with await connect_target(config, role="search", standby=True) as target:
        await require_vectors(target)
        table = await find_target(target, vectorizer, config.embedder.dimensions)
        rows = await nearest(target, table, vector, limit=limit)
    keys = [column.name for column in table.key]
    if as_json:
        print_json([_document(row, keys) for row in rows])
    else:
        print_table(
            ("distance", *keys, "chunk", "text"),
            [
                (
                    f"{row['distance']:.4f}",
                    *(row[key] for key in keys),
                    row["chunk_seq"],
                    _excerpt(row["chunk"]),
                )
                for row in rows
            ],
            empty="Nothing is embedded yet. `walvec status` shows the progress of the backfill.",
        )


async def nearest(
    connection: Connection, table: TargetTable, vector: Vector, *, limit: int
) -> list[dict[str, Any]]:
    """Return the `limit` nearest chunks, or all chunks if there are fewer.

    An index looks at a limited number of candidates, and some of these may have been deleted. If it finds too
    few, every vector is compared.
    """
    values = {"query": vector, "limit": limit}
    async with connection.transaction():
        await connection.execute(table.compose("search_widely", connection), values)
        rows = await _search(connection, table, values)
        if len(rows) < limit:
            await connection.execute(load_sql("target.sql")["search_exactly"])
            rows = await _search(connection, table, values)
    return rows


async def _search(
    connection: Connection, table: TargetTable, values: dict[str, object]
) -> list[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(table.compose("search", connection), values)
    return await cursor.fetchall()


def _document(row: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    return {
        "key": {key: row[key] for key in keys},
        "chunk_seq": row["chunk_seq"],
        "distance": row["distance"],
        "chunk": row["chunk"],
    }


def _excerpt(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _EXCERPT else flat[: _EXCERPT - 1] + "…"
