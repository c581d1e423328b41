"""A vectorizer's rows, or a bounded sample of them, and which of their chunks have vectors already.

For `walvec check --estimate`: it may be asked of a table of any size at any time, so every statement has a
time limit and what is read has a bound in rows and in characters.
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
SAMPLE_PAGES = 100  # at least: a sample is made of whole pages, and few of them are all alike
STATEMENT_LIMIT = 20_000  # milliseconds
FAILED_ROWS_LIMIT = 20  # rows on which the expressions fail, after which it is they that are wrong
_TRIES = 3  # each with a quarter of the sample before, where that took too long
_AT_ONCE = 500  # keys looked up in one statement

_QUERIES = load_sql("estimate.sql")


@dataclass(slots=True)
class TextSample:
    """What was read. Each list has an entry a chunk: estimated tokens."""

    basis: Basis = "counted"  # where `table_rows` comes from
    table_rows: int = 0
    rows: int = 0  # read
    with_text: int = 0
    failing: int = 0  # rows on which an expression fails
    left_rows: int = 0  # rows with a chunk whose vector the target does not hold
    characters: int = 0
    left_characters: int = 0
    tokens: list[int] = field(default_factory=list)
    left_tokens: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Size:
    rows: int | None  # None: never analysed
    pages: int
    size: int


async def sample(
    source: Connection, target: Connection, binding: Binding, embedder: EmbedderSettings
) -> TextSample:
    """Read the rows, or some of them, and look their chunks up in the target; `embedder` is not asked.

    Raises PreconditionFailed where not even a small sample is read in time, or the expressions fail on many
    rows.
    """
    cursor = await source.execute(
        _QUERIES["table_size"], {"oids": [leaf.oid for leaf in binding.relation.leaves]}
    )
    ((rows, pages, size),) = await cursor.fetchall()
    texts, percent, complete = await _read(source, binding, _Size(rows, pages, size))
    found = TextSample(rows=len(texts.found), failing=texts.failing)
    found.basis, found.table_rows = _table_rows(rows, pages, len(texts.found), percent, complete=complete)
    await _compare(found, texts.found, target, binding, embedder)
    return found


@dataclass(slots=True)
class _Texts:
    """Rows by key; None where a row has no embedding."""

    found: dict[Key, str | None] = field(default_factory=dict)
    failing: int = 0


def _table_rows(
    rows: int | None, pages: int, read: int, percent: float, *, complete: bool
) -> tuple[Basis, int]:
    """Say how many rows the table has, by the best that is known."""
    if complete and percent >= 100:  # noqa: PLR2004 -- percent
        return "counted", read
    if rows is not None:
        return "statistics", max(rows, read)
    if complete:
        return "sampled", round(read * 100 / percent)
    return "size", max(pages * 40, read)  # rows of 200 bytes, as for a backfill


def share_to_read(rows: int | None, pages: int, size: int) -> float:
    """Return the per cent of the table's pages that give SAMPLE_ROWS rows and not much over SAMPLE_BYTES."""
    if pages <= SAMPLE_PAGES and size <= SAMPLE_BYTES:
        return 100.0
    wanted = SAMPLE_ROWS if rows is None else min(SAMPLE_ROWS, SAMPLE_BYTES * rows // max(size, 1))
    guessed = rows or pages * 40
    return min(100.0, 100 * max(SAMPLE_PAGES / pages, wanted / max(guessed, 1)))


async def _read(source: Connection, binding: Binding, size: _Size) -> tuple[_Texts, float, bool]:
    """Read a share of the table; a smaller one where that takes too long."""
    percent = share_to_read(size.rows, size.pages, size.size)
    for number in range(_TRIES):
        try:
            texts, complete = await _read_share(source, binding, percent)
        except psycopg.errors.QueryCanceled:
            percent /= 4
        else:
            if texts.found or not number:  # a share of a small table may be of none of its pages
                return texts, percent, complete
    raise PreconditionFailed(
        f'vectorizer "{binding.name}": a sample of {binding.vectorizer.table} is not read within '
        f"{STATEMENT_LIMIT // 1000} s",
        hint="its text or where takes long on a row: EXPLAIN ANALYZE them",
    )


async def _read_share(source: Connection, binding: Binding, percent: float) -> tuple[_Texts, bool]:
    """Read keys and texts until SAMPLE_BYTES are passed; also whether the share was read to its end."""
    whole = percent >= 100  # noqa: PLR2004 -- percent
    try:
        return await _stream(source, binding, "all_rows" if whole else "sampled_rows", percent)
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.DatabaseError as error:
        if (error.sqlstate or "")[:2] not in {"22", "23", "38", "39", "54", "P0"}:  # a row's values
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
        await source.execute(load_sql("slots.sql")["limit_statements"], {"milliseconds": STATEMENT_LIMIT})
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
    """Read rows by key, in halves where an expression fails on one of them, down to that row."""
    query = source_query(binding, "rows_by_key")
    try:
        async with source.transaction(force_rollback=True):
            await source.execute(load_sql("slots.sql")["limit_statements"], {"milliseconds": STATEMENT_LIMIT})
            await resolve_expressions(source, local=True)
            cursor = await source.execute(query, array_parameters(keys, binding.key))
            texts.found.update(zip(keys, [text for *_, text in await cursor.fetchall()], strict=True))
            return
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.DatabaseError as error:
        if len(keys) == 1:
            texts.found[keys[0]] = None
            texts.failing += 1
        if texts.failing > FAILED_ROWS_LIMIT:
            raise PreconditionFailed(
                f'vectorizer "{binding.name}": text or where fails on over {FAILED_ROWS_LIMIT} rows '
                f"of a sample: {type(error).__name__} (SQLSTATE {error.sqlstate})",
                hint="let the expression bear such rows: NULLIF, CASE, coalesce",
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
    """Cut the texts into chunks, and tell those whose vector the target holds from those that are left."""
    chunk = binding.vectorizer.chunk
    chunker = Chunker() if chunk == "none" else Chunker(chunk.size, chunk.overlap)
    hasher = InputHasher(embedder.model, embedder.dimensions)
    table = TargetTable(binding.vectorizer, binding.key, embedder.dimensions)
    exists = bool(await table.read_columns(target))
    for keys in _batched([key for key, text in texts.items() if text]):
        held = await table.held_hashes(target, keys) if exists else {}
        for key in keys:
            _take(found, chunker.split(texts[key] or ""), set(held.get(key, {}).values()), hasher)


def _take(found: TextSample, chunks: Sequence[str], held: set[bytes], hasher: InputHasher) -> None:
    left = [chunk for chunk in chunks if hasher(chunk) not in held]
    found.with_text += bool(chunks)
    found.left_rows += bool(left)
    found.characters += sum(map(len, chunks))
    found.left_characters += sum(map(len, left))
    found.tokens += map(estimate_tokens, chunks)
    found.left_tokens += map(estimate_tokens, left)


def _batched(keys: Sequence[Key]) -> Iterator[list[Key]]:
    remaining = iter(keys)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some


def _cursor(connection: Connection) -> psycopg.AsyncCursor[Any]:
    """Make a cursor whose values come as the text of their output functions, as keys are compared."""
    cursor = connection.cursor()
    for info in connection.adapters.types:
        for oid in (info.oid, info.array_oid):
            cursor.adapters.register_loader(oid, TextLoader)
    return cursor
