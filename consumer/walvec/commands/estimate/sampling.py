"""A bounded sample of a vectorizer's rows, compared with what the target holds.

An estimate may be asked for any table at any time, so every statement has a time limit, and what is read is
bounded in rows and in bytes.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, cast

import psycopg
from psycopg.types.string import TextLoader

from walvec.config.load import EmbedderSettings
from walvec.database.keys import Key, array_parameters
from walvec.embed.pack import estimate_tokens
from walvec.stages.chunk import Chunker, InputHasher
from walvec.vectorizer.bind import resolve_expressions
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.source_sql import source_query
from walvec.vectorizer.target import TargetTable
from walvec_slots.errors import PreconditionFailed
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

Basis = Literal["counted", "statistics", "sampled", "size"]

SAMPLE_ROWS = 5_000
SAMPLE_BYTES = 32 * 2**20  # of text
# At least: a sample consists of whole pages, and neighbouring rows are often alike.
SAMPLE_PAGES = 100
STATEMENT_LIMIT = 20_000  # milliseconds
# Rows on which the expressions may fail before the expressions themselves are to blame.
FAILED_ROWS_LIMIT = 20
# Each try reads a quarter of the sample before, which took too long.
_TRIES = 3
_AT_ONCE = 500  # keys in one statement

# SQLSTATE classes of errors that the values of a row cause.
_ROW_ERRORS = {"22", "23", "38", "39", "54", "P0"}

_QUERIES = load_sql("estimate.sql")
_LIMIT_STATEMENTS = load_sql("slots.sql")["limit_statements"]


@dataclass(slots=True)
class TextSample:
    """What was read; `left_…` counts what the target lacks.

    `tokens` and `left_tokens` have one entry for each chunk: its estimated tokens.
    """

    # Where `table_rows` comes from.
    basis: Basis = "counted"
    table_rows: int = 0
    rows: int = 0  # read
    with_text: int = 0
    # Rows on which an expression fails.
    failing: int = 0
    # Rows with a chunk whose vector the target lacks.
    left_rows: int = 0
    characters: int = 0
    left_characters: int = 0
    tokens: list[int] = field(default_factory=list)
    left_tokens: list[int] = field(default_factory=list)

    def add(self, chunks: Sequence[str], missing: Sequence[str]) -> None:
        """Count a row by its chunks, and by those whose vectors the target lacks."""
        self.with_text += bool(chunks)
        self.left_rows += bool(missing)
        self.characters += sum(map(len, chunks))
        self.left_characters += sum(map(len, missing))
        self.tokens += map(estimate_tokens, chunks)
        self.left_tokens += map(estimate_tokens, missing)


@dataclass(frozen=True, slots=True)
class _Size:
    rows: int | None  # None: never analysed
    pages: int
    size: int


async def sample(
    source: Connection, target: Connection, binding: Binding, embedder: EmbedderSettings
) -> TextSample:
    """Read rows and look their chunks up in the target; no service is called.

    Raises PreconditionFailed if not even a small sample can be read in time, or the expressions fail on many
    rows.
    """
    cursor = await source.execute(
        _QUERIES["table_size"], {"oids": [leaf.oid for leaf in binding.relation.leaves]}
    )
    ((rows, pages, size),) = await cursor.fetchall()
    texts, percent, complete = await _read(source, binding, _Size(rows, pages, size))
    basis, table_rows = _table_rows(rows, pages, len(texts.found), percent, complete=complete)
    found = TextSample(basis, table_rows, rows=len(texts.found), failing=texts.failing)
    await _compare(found, texts.found, target, binding, embedder)
    return found


@dataclass(slots=True)
class _Texts:
    """Texts by key; None for a row without an embedding."""

    found: dict[Key, str | None] = field(default_factory=dict)
    failing: int = 0

    def add_failing(self, key: Key) -> None:
        """Note a row on which an expression fails."""
        self.found[key] = None
        self.failing += 1


def _table_rows(
    rows: int | None, pages: int, read: int, percent: float, *, complete: bool
) -> tuple[Basis, int]:
    """Return how many rows the table has, from the best source there is."""
    if complete and percent >= 100:  # noqa: PLR2004 -- percent
        return "counted", read
    if rows is not None:
        return "statistics", max(rows, read)
    if complete:
        return "sampled", round(read * 100 / percent)
    # Rows of 200 bytes, as a backfill assumes.
    return "size", max(pages * 40, read)


def share_to_read(rows: int | None, pages: int, size: int) -> float:
    """Return the percentage of the table's pages to read.

    It should give SAMPLE_ROWS rows and not much more than SAMPLE_BYTES.
    """
    if pages <= SAMPLE_PAGES and size <= SAMPLE_BYTES:
        return 100.0
    wanted = SAMPLE_ROWS if rows is None else min(SAMPLE_ROWS, SAMPLE_BYTES * rows // max(size, 1))
    guessed = rows or pages * 40
    return min(100.0, 100 * max(SAMPLE_PAGES / pages, wanted / max(guessed, 1)))


async def _read(source: Connection, binding: Binding, size: _Size) -> tuple[_Texts, float, bool]:
    """Read a share of the table, or a smaller one if that takes too long."""
    percent = share_to_read(size.rows, size.pages, size.size)
    for number in range(_TRIES):
        try:
            texts, complete = await _read_share(source, binding, percent)
        except psycopg.errors.QueryCanceled:
            percent /= 4
        else:
            # A share of a small table may hit none of its pages.
            if texts.found or not number:
                return texts, percent, complete
    raise PreconditionFailed(
        f'Vectorizer "{binding.name}": could not read a sample of {binding.vectorizer.table} within '
        f"{STATEMENT_LIMIT // 1000} s",
        hint="its text or where is slow: look at them with EXPLAIN ANALYZE",
    )


async def _read_share(source: Connection, binding: Binding, percent: float) -> tuple[_Texts, bool]:
    """Read texts up to SAMPLE_BYTES; also return whether that was the whole share."""
    whole = percent >= 100  # noqa: PLR2004 -- percent
    try:
        return await _stream(source, binding, "all_rows" if whole else "sampled_rows", percent)
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.DatabaseError as error:
        if (error.sqlstate or "")[:2] not in _ROW_ERRORS:
            raise
    keys, complete = await _stream(source, binding, "all_keys" if whole else "sampled_keys", percent)
    texts, taken = _Texts(), 0
    for some in _batched(list(keys.found)):
        if taken > SAMPLE_BYTES:
            return texts, False
        await _read_keys(source, binding, some, texts)
        taken += sum(len(texts.found.get(key) or "") for key in some)
    return texts, complete


async def _stream(source: Connection, binding: Binding, name: str, percent: float) -> tuple[_Texts, bool]:
    query = source_query(binding, name, file="estimate.sql")
    width, taken, texts = len(binding.key), 0, _Texts()
    async with source.transaction(force_rollback=True):
        await source.execute(_LIMIT_STATEMENTS, {"milliseconds": STATEMENT_LIMIT})
        await resolve_expressions(source, local=True)
        stream = _cursor(source).stream(query, {"percent": percent})
        async with aclosing(cast("AsyncGenerator[Sequence[str], None]", stream)) as rows:
            async for row in rows:
                text = row[width] if len(row) > width else None
                texts.found[tuple(row[:width])] = text
                taken += len(text or "")
                if taken > SAMPLE_BYTES or len(texts.found) >= 4 * SAMPLE_ROWS:
                    return texts, False
    return texts, True


async def _read_keys(source: Connection, binding: Binding, keys: Sequence[Key], texts: _Texts) -> None:
    """Read rows by key, halving them until only the failing rows are left out."""
    query = source_query(binding, "rows_by_key")
    try:
        async with source.transaction(force_rollback=True):
            await source.execute(_LIMIT_STATEMENTS, {"milliseconds": STATEMENT_LIMIT})
            await resolve_expressions(source, local=True)
            cursor = await source.execute(query, array_parameters(keys, binding.key))
            texts.found.update(zip(keys, [text for *_, text in await cursor.fetchall()], strict=True))
            return
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.DatabaseError as error:
        if len(keys) == 1:
            texts.add_failing(keys[0])
        if texts.failing > FAILED_ROWS_LIMIT:
            raise PreconditionFailed(
                f'Vectorizer "{binding.name}": text or where fails on over {FAILED_ROWS_LIMIT} rows '
                f"of a sample: {type(error).__name__} (SQLSTATE {error.sqlstate})",
                hint="make the expression tolerate such rows: NULLIF, CASE, coalesce",
            ) from None
    if len(keys) > 1:
        middle = len(keys) // 2
        await _read_keys(source, binding, keys[:middle], texts)
        await _read_keys(source, binding, keys[middle:], texts)


async def _compare(
    found: TextSample,
    texts: dict[Key, str | None],
    target: Connection,
    binding: Binding,
    embedder: EmbedderSettings,
) -> None:
    """Chunk the texts, and count the chunks whose vectors the target lacks."""
    chunk = binding.vectorizer.chunk
    chunker = Chunker() if chunk == "none" else Chunker(chunk.size, chunk.overlap)
    hasher = InputHasher(embedder.model, embedder.dimensions)
    table = TargetTable(binding.vectorizer, binding.key, embedder.dimensions)
    exists = bool(await table.read_columns(target))
    for keys in _batched([key for key, text in texts.items() if text]):
        held = await table.held_hashes(target, keys) if exists else {}
        for key in keys:
            chunks, known = chunker.split(texts[key] or ""), set(held.get(key, {}).values())
            found.add(chunks, [chunk for chunk in chunks if hasher(chunk) not in known])


def _batched(keys: Sequence[Key]) -> Iterator[list[Key]]:
    remaining = iter(keys)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some


def _cursor(connection: Connection) -> psycopg.AsyncCursor[Any]:
    """Return a cursor whose values arrive as text, as keys are compared."""
    cursor = connection.cursor()
    for info in connection.adapters.types:
        for oid in (info.oid, info.array_oid):
            cursor.adapters.register_loader(oid, TextLoader)
    return cursor
