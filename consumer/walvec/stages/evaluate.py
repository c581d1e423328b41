"""What a row's text is, by PostgreSQL: row images and keys in, texts out.

The vectorizer's expressions are SQL, and only PostgreSQL evaluates them, whether the row comes with the
stream (an image), by its key (a refetch) or in key order (the backfill). Reads of rows obey the visibility
rule. An image needs no rule: it is the change itself.

Every read of texts is limited by bytes: it gives the first rows, and the caller reads on from there. So
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
from walvec.policy import is_row_failure
from walvec.stages.timing import TIMING
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

# Statements that give each row's key before its text.
_WITH_KEYS = {"rows_from_start", "rows_after", "rows_by_key"}

# Seconds between looks at a snapshot that does not see enough yet.
_FIRST_WAIT, _LONGEST_WAIT = 0.002, 1.0

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

    Statements of one session run one after the other: the backfill has another session, so that the
    stream's images are evaluated beside it.
    """

    def __init__(
        self, connection: Connection, unseen: Unseen, *, warn_after: float = TIMING.warn_after
    ) -> None:
        """Read through `connection`; `unseen` holds what is decoded and not seen yet.

        `warn_after`: seconds after which waiting is worth a warning, and again after each such time.
        """
        self._connection = connection
        self._unseen = unseen
        self._warn_after = warn_after
        self._lock = asyncio.Lock()
        self._resolves = False
        self._statements: dict[tuple[str, str], bytes] = {}
        # Statements whose next rows are read one by one: the server would evaluate a thousand long texts
        # before the one that ends a read.
        self._with_long_texts: set[bytes] = set()
        # Every value is the text of its output function, as it is in the stream.
        for info in connection.adapters.types:
            for oid in (info.oid, info.array_oid):
                connection.adapters.register_loader(oid, TextLoader)

    async def evaluate_images(
        self, binding: Binding, images: Sequence[Mapping[str, RowText]], *, size: int
    ) -> list[RowText]:
        """Return the texts of the first images, until they pass `size` bytes.

        A text is None where the row has no embedding. Raises EvaluationFailed where an expression fails on
        one of them.
        """
        values = binding.image_parameters(images)
        found, _ = await self._read_texts(binding, "evaluate_images", values, size, self._without_rule)
        return [text for (text,) in found]

    async def rows_by_key(
        self, binding: Binding, keys: Sequence[Key], *, size: int
    ) -> list[tuple[Key | None, RowText]]:
        """Return the rows of the first keys, until their texts pass `size` bytes.

        Each comes with its own key, which may be spelled differently from the one asked for; None where there
        is no row. Its text is None where it has no embedding. Raises EvaluationFailed where an expression
        fails on one of them, or a key is of another type than the table's.
        """
        values = array_parameters(keys, binding.key)
        found, _ = await self._read_texts(binding, "rows_by_key", values, size, self._under_rule)
        return [(None if None in parts else cast("Key", tuple(parts)), text) for *parts, text in found]

    async def can_be_key(self, binding: Binding, key: Key) -> bool:
        """Whether a key is of the types of the table's key, so that a row may have it."""
        query = self._compose_statement(binding, "keys_as_typed")
        try:
            with _evaluating(binding):
                async with self._lock:
                    await self._connection.execute(query, array_parameters([key], binding.key))
        except EvaluationFailed:
            return False
        return True

    async def rows_after(self, binding: Binding, key: Key | None, *, rows: int, size: int) -> Rows:
        """Return at most `rows` rows that follow `key` in key order.

        They end where their texts pass `size` bytes. Raises EvaluationFailed where an expression fails on one
        of them.
        """
        name = "rows_from_start" if key is None else "rows_after"
        values = {**key_parameters(key or ()), "limit": rows}
        found, all_of_them = await self._read_texts(binding, name, values, size, self._under_rule)
        texts = {cast("Key", tuple(parts)): text for *parts, text in found}
        return Rows(texts, complete=all_of_them and len(texts) < rows)

    async def keys_gone(self, binding: Binding, keys: Sequence[Key]) -> list[Key]:
        """Return the keys that no row has which is published and meant to be embedded.

        The rows' texts are not evaluated. Raises EvaluationFailed where `where` fails on one of them.
        """
        query = self._compose_statement(binding, "keys_gone")

        async def read() -> list[Key]:
            cursor = await self._connection.execute(query, array_parameters(keys, binding.key))
            return await cursor.fetchall()

        with _evaluating(binding):
            return await self._under_rule(read)

    async def keys_after(self, binding: Binding, key: Key | None, *, rows: int) -> list[Key]:
        """Return at most `rows` keys that follow `key`, without evaluating their rows."""
        name = "keys_from_start" if key is None else "keys_after"
        query = self._compose_statement(binding, name)
        with noticing_rights(binding.name):
            async with self._lock:
                cursor = await self._connection.execute(query, {**key_parameters(key or ()), "limit": rows})
                return await cursor.fetchall()

    async def estimate_rows(self, binding: Binding) -> int:
        """Return about how many rows the table has."""
        oids = [leaf.oid for leaf in binding.published.leaves]
        async with self._lock:
            cursor = await self._connection.execute(_QUERIES["row_estimate"], {"oids": oids})
            ((rows,),) = await cursor.fetchall()
        return int(rows)

    async def observe_snapshot(self) -> None:
        """Take a snapshot, so that what has become visible is not remembered any longer."""
        if self._unseen:
            async with self._lock:
                self._unseen.observe(await self._take_snapshot())

    async def wait_until_ended(self, xid: int) -> None:
        """Wait until every transaction with an id before this one has ended."""
        wait, warn_at = _FIRST_WAIT, monotonic() + self._warn_after
        while True:
            async with self._lock:
                if (await self._take_snapshot()).oldest >= xid:
                    return
            if monotonic() > warn_at:
                warn_at = monotonic() + self._warn_after
                async with self._lock:
                    in_the_way = await open_writers(self._connection)
                _log.warning(
                    "read.waiting_for_transactions",
                    transactions=in_the_way,
                    hint="the table's rows are read once they have ended: end those that are forgotten",
                )
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    # -- The one way to read texts

    async def _read_texts(
        self, binding: Binding, name: str, values: Mapping[str, object], size: int, within: _Within
    ) -> tuple[list[list[RowText]], bool]:
        """Return the first rows of a statement, and whether these are all.

        There is one at least, and they end where their texts pass `size` bytes. Many are read at a time, up
        to a text that is too long for that; long texts are read one by one.
        """
        query = self._compose_statement(binding, name, limited=True)
        with _evaluating(binding):
            if query not in self._with_long_texts:
                found, complete = await within(lambda: self._stream_rows(query, values, size, _AT_A_TIME))
                if found or complete:
                    return found, complete
            found, complete = await within(lambda: self._stream_rows(query, values, size, 1))
        if not any(text and len(text) > size // _AT_A_TIME for *_, text in found):
            self._with_long_texts.discard(query)
        return found, complete

    async def _stream_rows(
        self, query: bytes, values: Mapping[str, object], size: int, at_a_time: int
    ) -> tuple[list[list[RowText]], bool]:
        """Read `at_a_time` rows together, up to the first text too long for that."""
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

    async def _without_rule(self, read: Callable[[], Awaitable[_Result]]) -> _Result:
        """Run a read that looks at no row of a table, and so needs no rule."""
        async with self._lock:
            await self._resolve_names()
            return await read()

    async def _under_rule(self, read: Callable[[], Awaitable[_Result]]) -> _Result:
        """Run a read in a transaction that sees all that was decoded before it.

        Waits until there is one whose snapshot does.
        """
        needed = self._unseen.current()
        wait, warn_at = _FIRST_WAIT, monotonic() + self._warn_after
        while True:
            async with self._lock:
                await self._resolve_names()
            async with self._lock, self._connection.transaction():
                snapshot = await self._take_snapshot()
                self._unseen.observe(snapshot)
                if snapshot.sees_all(needed):
                    return await read()
            if monotonic() > warn_at:
                warn_at = monotonic() + self._warn_after
                _log.warning(
                    "read.waiting_for_visibility",
                    transactions=len(needed),
                    hint="is a server named in synchronous_standby_names away? commits wait for it",
                )
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _resolve_names(self) -> None:
        """Resolve names as the expressions do, once a session."""
        if not self._resolves:
            await resolve_expressions(self._connection, local=False)
            self._resolves = True

    def _compose_statement(self, binding: Binding, name: str, *, limited: bool = False) -> bytes:
        """Compose a statement, once: a binding does not change while it is attached."""
        if (binding.name, name) not in self._statements:
            query = source_query(binding, name)
            if limited:
                keys = sql.SQL("{}, ").format(key_names(binding.key)) if name in _WITH_KEYS else sql.SQL("")
                query = sql.SQL(_QUERIES["limited"]).format(rows=query, keys=keys)
            self._statements[binding.name, name] = query.as_bytes(self._connection)
        return self._statements[binding.name, name]

    async def _take_snapshot(self) -> Snapshot:
        cursor = await self._connection.execute(_QUERIES["current_snapshot"])
        ((text,),) = await cursor.fetchall()
        return Snapshot.parse(text)


@contextmanager
def _evaluating(binding: Binding) -> Iterator[None]:
    """Turn an expression's failure into one that names the vectorizer.

    PostgreSQL's message is left out: it may quote the row.
    """
    try:
        with noticing_rights(binding.name):
            yield
    except psycopg.DatabaseError as error:
        if not is_row_failure(error):
            raise
        raise EvaluationFailed(binding.name, error.sqlstate or "", type(error).__name__) from None
