"""What a row's text is, by PostgreSQL: row images and keys in, texts out.

The vectorizer's expressions are SQL and only PostgreSQL evaluates them, whether the row comes with the stream
(an image), by its key (a refetch) or in key order (the backfill). Reads of rows obey the visibility rule;
what an image says needs no rule, it is the change itself.

A read is limited by bytes, whatever it reads: it gives the first rows, and the caller reads on from there. So
memory is bounded, and no snapshot is held while the texts are worked on.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from sys import getsizeof
from time import monotonic
from typing import Protocol, TypeVar, cast

import psycopg
import structlog
from psycopg import sql
from psycopg.types.string import TextLoader

from walvec.database.keys import Key, array_parameters, key_names, key_parameters
from walvec.database.snapshot import Snapshot
from walvec.errors import EvaluationFailed
from walvec.stages.visibility import Unseen
from walvec.vectorizer.bind import resolve_expressions
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.readable import noticing_rights
from walvec.vectorizer.source_sql import source_query
from walvec_slots.manage import open_writers
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("source.sql")

# Rows that libpq hands over together: one by one costs more than all the rest of reading them.
_AT_A_TIME = 32 if psycopg.capabilities.has_stream_chunked() else 1
_ANY_LENGTH = 2**31 - 1  # bytes
_WITH_KEYS = {
    "rows_from_start",
    "rows_after",
    "rows_by_key",
}  # statements that give each row's key before its text

_FIRST_WAIT, _LONGEST_WAIT = 0.002, 1.0  # seconds between looks at a snapshot that does not see enough yet
_PATIENCE = (
    5.0  # seconds after which waiting for visibility is worth a warning, and again after each such time
)

# SQLSTATE classes that one row's values can cause: data, constraint of a domain, limits, raised by a
# function.
_ROW_FAILURES = {"22", "23", "38", "39", "54", "P0"}

_log = structlog.get_logger(__name__)

RowText = str | None
_Result = TypeVar("_Result")


class _Within(Protocol):
    """Runs a read where its rule allows it."""

    async def __call__(self, read: Callable[[], Awaitable[_Result]], /) -> _Result: ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows read in key order; `complete` means that none follow."""

    texts: dict[Key, RowText]
    complete: bool

    @property
    def last_key(self) -> Key | None:
        """The greatest key read."""
        return next(reversed(self.texts), None)


class SourceReader:
    """One session's reads of the source, under the visibility rule.

    Statements of one session run one after the other: the backfill has a session of its own, so that the
    stream's images are evaluated beside it.
    """

    def __init__(self, connection: Connection, unseen: Unseen) -> None:
        """Read through `connection`; `unseen` holds what has been decoded and not been seen."""
        self._connection = connection
        self._unseen = unseen
        self._lock = asyncio.Lock()
        self._resolves = False
        self._statements: dict[tuple[str, str], bytes] = {}
        # Statements whose next rows are read one by one: the server would work out a thousand long texts
        # ahead of the one that ends a read.
        self._with_long_texts: set[bytes] = set()
        # Every value as the text of its output function, which is what the stream carries too.
        for info in connection.adapters.types:
            for oid in (info.oid, info.array_oid):
                connection.adapters.register_loader(oid, TextLoader)

    async def evaluate(
        self, binding: Binding, images: Sequence[Mapping[str, RowText]], *, size: int
    ) -> list[RowText]:
        """Return the texts of the first images, None where one has no embedding, until they pass `size`
        bytes.

        Raises EvaluationFailed where an expression fails on one of them.
        """
        values = binding.image_parameters(images)
        found, _ = await self._read(binding, "evaluate_images", values, size, self._alone)
        return [text for (text,) in found]

    async def by_key(
        self, binding: Binding, keys: Sequence[Key], *, size: int
    ) -> list[tuple[Key | None, RowText]]:
        """Return the rows with the first of these keys, until their texts pass `size` bytes.

        Each comes with its own key, which may be spelled in another way than the one asked for; None where
        there is no row. Its text is None where it has no embedding. Raises EvaluationFailed where an
        expression fails on one of them, or a key is of another type than the table's.
        """
        values = array_parameters(keys, binding.key)
        found, _ = await self._read(binding, "rows_by_key", values, size, self._visible)
        return [(None if None in parts else cast("Key", tuple(parts)), text) for *parts, text in found]

    async def can_be_key(self, binding: Binding, key: Key) -> bool:
        """Whether a key is of the types of the table's key, so that a row may have it."""
        query = self._statement(binding, "keys_as_typed")
        try:
            with _evaluating(binding):
                async with self._lock:
                    await self._connection.execute(query, array_parameters([key], binding.key))
        except EvaluationFailed:
            return False
        return True

    async def after(self, binding: Binding, key: Key | None, *, rows: int, size: int) -> Rows:
        """Return the rows that follow `key` in key order: at most `rows`, until their texts pass `size`
        bytes.

        Raises EvaluationFailed where an expression fails on one of them.
        """
        name = "rows_from_start" if key is None else "rows_after"
        values = {**key_parameters(key or ()), "limit": rows}
        found, all_of_them = await self._read(binding, name, values, size, self._visible)
        texts = {cast("Key", tuple(parts)): text for *parts, text in found}
        return Rows(texts, complete=all_of_them and len(texts) < rows)

    async def gone(self, binding: Binding, keys: Sequence[Key]) -> list[Key]:
        """Return those of the keys that no row has which is published and meant to be embedded.

        The rows' texts are not looked at. Raises EvaluationFailed where `where` fails on one of them.
        """
        query = self._statement(binding, "keys_gone")

        async def read() -> list[Key]:
            cursor = await self._connection.execute(query, array_parameters(keys, binding.key))
            return await cursor.fetchall()

        with _evaluating(binding):
            return await self._visible(read)

    async def keys_after(self, binding: Binding, key: Key | None, *, rows: int) -> list[Key]:
        """Return the keys that follow `key` in key order, without looking at their rows."""
        name = "keys_from_start" if key is None else "keys_after"
        query = self._statement(binding, name)
        with noticing_rights(binding.name):
            async with self._lock:
                cursor = await self._connection.execute(query, {**key_parameters(key or ()), "limit": rows})
                return await cursor.fetchall()

    async def estimate(self, binding: Binding) -> int:
        """Return about how many rows the table has."""
        oids = [leaf.oid for leaf in binding.published.leaves]
        async with self._lock:
            cursor = await self._connection.execute(_QUERIES["row_estimate"], {"oids": oids})
            ((rows,),) = await cursor.fetchall()
        return int(rows)

    async def look(self) -> None:
        """Take a snapshot, so that what has become visible is no longer remembered."""
        if self._unseen:
            async with self._lock:
                self._unseen.observe(await self._snapshot())

    async def until_ended(self, xid: int) -> None:
        """Wait until every transaction of the source with an id before this one has ended."""
        wait, warn_at = _FIRST_WAIT, monotonic() + _PATIENCE
        while True:
            async with self._lock:
                if (await self._snapshot()).oldest >= xid:
                    return
            if monotonic() > warn_at:
                warn_at = monotonic() + _PATIENCE
                async with self._lock:
                    in_the_way = await open_writers(self._connection)
                _log.warning(
                    "waiting for transactions that were open when the publication changed",
                    transactions=in_the_way,
                    hint="the table's rows are read once they have ended: end those that are forgotten",
                )
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    # -- The one way to read texts

    async def _read(
        self, binding: Binding, name: str, values: Mapping[str, object], size: int, within: _Within
    ) -> tuple[list[list[RowText]], bool]:
        """Return the first rows of a statement, one at least, until their texts pass `size` bytes; and
        whether these are all.

        Many at a time, up to a text that is too long for that; such ones are read one by one.
        """
        query = self._statement(binding, name, limited=True)
        with _evaluating(binding):
            if query not in self._with_long_texts:
                found, complete = await within(lambda: self._stream(query, values, size, _AT_A_TIME))
                if found or complete:
                    return found, complete
            found, complete = await within(lambda: self._stream(query, values, size, 1))
        if not any(text and len(text) > size // _AT_A_TIME for *_, text in found):
            self._with_long_texts.discard(query)
        return found, complete

    async def _stream(
        self, query: bytes, values: Mapping[str, object], size: int, at_a_time: int
    ) -> tuple[list[list[RowText]], bool]:
        """Read as `_read` says, so many rows together, up to the first text that is too long for that."""
        longest = size // at_a_time if at_a_time > 1 else _ANY_LENGTH
        found: list[list[RowText]] = []
        taken = 0
        stream = self._connection.cursor().stream(query, {**values, "longest": longest}, size=at_a_time)
        async with aclosing(cast("AsyncGenerator[Sequence[RowText]]", stream)) as rows:
            async for *row, is_longer in rows:
                if is_longer == "t":
                    self._with_long_texts.add(query)
                    return found, False
                found.append(row)
                taken += getsizeof(row[-1])
                if taken > size:
                    return found, False
        return found, True

    async def _alone(self, read: Callable[[], Awaitable[_Result]]) -> _Result:
        """Run a read that looks at no row of a table: no rule is needed."""
        async with self._lock:
            await self._resolve()
            return await read()

    async def _visible(self, read: Callable[[], Awaitable[_Result]]) -> _Result:
        """Run a read in a transaction whose snapshot sees all that was decoded before it; wait until one
        does.
        """
        needed = self._unseen.current()
        wait, warn_at = _FIRST_WAIT, monotonic() + _PATIENCE
        while True:
            async with self._lock:
                await self._resolve()
            async with self._lock, self._connection.transaction():
                snapshot = await self._snapshot()
                self._unseen.observe(snapshot)
                if snapshot.sees_all(needed):
                    return await read()
            if monotonic() > warn_at:
                warn_at = monotonic() + _PATIENCE
                _log.warning(
                    "waiting for decoded transactions to become visible",
                    transactions=len(needed),
                    hint="is a server named in synchronous_standby_names away? commits wait for it",
                )
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _resolve(self) -> None:
        """Look names up as expressions have it, from the session's first one on."""
        if not self._resolves:
            await resolve_expressions(self._connection, local=False)
            self._resolves = True

    def _statement(self, binding: Binding, name: str, *, limited: bool = False) -> bytes:
        """Compose a statement, once: what a binding's statements are made of stays while it is attached."""
        if (binding.name, name) not in self._statements:
            query = source_query(binding, name)
            if limited:
                keys = sql.SQL("{}, ").format(key_names(binding.key)) if name in _WITH_KEYS else sql.SQL("")
                query = sql.SQL(_QUERIES["limited"]).format(rows=query, keys=keys)
            self._statements[binding.name, name] = query.as_bytes(self._connection)
        return self._statements[binding.name, name]

    async def _snapshot(self) -> Snapshot:
        cursor = await self._connection.execute(_QUERIES["current_snapshot"])
        ((text,),) = await cursor.fetchall()
        return Snapshot.parse(text)


@contextmanager
def _evaluating(binding: Binding) -> Iterator[None]:
    """Turn an expression's failure into one that names the vectorizer, without the message: it may quote the
    row.
    """
    try:
        with noticing_rights(binding.name):
            yield
    except psycopg.DatabaseError as error:
        # A right that is missing in a function depends on the row.
        is_of_row = (error.sqlstate or "")[:2] in _ROW_FAILURES
        if not is_of_row and not isinstance(error, psycopg.errors.InsufficientPrivilege):
            raise
        raise EvaluationFailed(binding.name, error.sqlstate or "", type(error).__name__) from None
