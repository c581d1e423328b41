"""What a row's text is, by PostgreSQL: row images and keys in, texts out.

The vectorizer's expressions are SQL and only PostgreSQL evaluates them, whether the row comes with the stream
(an image), by its key (a refetch) or in key order (the backfill). Reads of rows obey the visibility rule;
what an image says needs no rule, it is the change itself.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar, cast

import orjson
import psycopg
import structlog
from psycopg.types.json import Json
from psycopg.types.string import TextLoader

from consumer import keys as key_sql
from consumer.actions import Key
from consumer.bind import Binding, resolve_expressions, source_query
from consumer.database import Connection
from consumer.errors import EvaluationFailed
from consumer.visibility import Snapshot, Unseen
from slots.queries import load

_QUERIES = load("source.sql")

# Rows that libpq hands over together: one by one costs more than all the rest of reading them.
_AT_A_TIME = 32 if psycopg.capabilities.has_stream_chunked() else 1
_ANY_LENGTH = 2**31 - 1  # bytes

_FIRST_WAIT, _LONGEST_WAIT = 0.002, 1.0  # seconds between looks at a snapshot that does not see enough yet
_PATIENCE = (
    5.0  # seconds after which waiting for visibility is worth a warning, and again after each such time
)

# SQLSTATE classes that one row's values can cause: data, constraint of a domain, limits, raised by a
# function.
_ROW_FAILURES = {"22", "23", "38", "39", "54", "P0"}

_log = structlog.get_logger(__name__)

Text = str | None
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows read in key order; `complete` means that none follow."""

    texts: dict[Key, Text]
    complete: bool

    @property
    def last_key(self) -> Key | None:
        """The greatest key read."""
        return next(reversed(self.texts), None)


class Source:
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
        # Vectorizers whose next rows are read one by one: the server would work out a thousand long texts
        # ahead of the one that ends a read.
        self._with_long_texts: set[str] = set()
        # Every value as the text of its output function, which is what the stream carries too.
        for info in connection.adapters.types:
            for oid in (info.oid, info.array_oid):
                connection.adapters.register_loader(oid, TextLoader)

    async def evaluate(self, binding: Binding, images: Sequence[Mapping[str, object]]) -> list[Text]:
        """Return each image's text, None where it has no embedding.

        Raises EvaluationFailed where an expression fails on one of them.
        """
        query = self._statement(binding, "evaluate_images")
        async with self._lock:
            await self._resolve()
            with _evaluating(binding):
                cursor = await self._connection.execute(query, {"images": Json(images, orjson.dumps)})
                return [text for (text,) in await cursor.fetchall()]

    async def by_key(self, binding: Binding, keys: Sequence[Key]) -> dict[Key, Text]:
        """Return the text of the rows with these keys; None for one that is gone or has no embedding.

        Raises EvaluationFailed where an expression fails on one of them.
        """
        query = self._statement(binding, "rows_by_key")

        async def read() -> dict[Key, Text]:
            cursor = await self._connection.execute(query, key_sql.parameters(keys, binding.key))
            return {key: text for key, (text,) in zip(keys, await cursor.fetchall(), strict=True)}

        with _evaluating(binding):
            return await self._visible(read)

    async def after(self, binding: Binding, key: Key | None, *, rows: int, size: int) -> Rows:
        """Return the rows that follow `key` in key order: at most `rows`, none more once they pass `size`
        characters.

        Raises EvaluationFailed where an expression fails on one of them.
        """
        longest = size // _AT_A_TIME
        if binding.name not in self._with_long_texts:
            found = await self._read(
                binding, key, rows=rows, size=size, at_a_time=_AT_A_TIME, longest=longest
            )
            if found.texts or found.complete:
                return found
        found = await self._read(binding, key, rows=rows, size=size, at_a_time=1, longest=_ANY_LENGTH)
        if not any(text and len(text) > longest for text in found.texts.values()):
            self._with_long_texts.discard(binding.name)
        return found

    async def _read(
        self, binding: Binding, key: Key | None, *, rows: int, size: int, at_a_time: int, longest: int
    ) -> Rows:
        """Read as `after` says, so many rows together, up to the first text of more than `longest` bytes."""
        query = self._statement(binding, "rows_from_start" if key is None else "rows_after")
        values = {**key_sql.parameter(key or ()), "limit": rows, "longest": longest}

        async def read() -> Rows:
            texts: dict[Key, Text] = {}
            taken = 0
            stream = self._connection.cursor().stream(query, values, size=at_a_time)
            async with aclosing(cast("AsyncGenerator[Sequence[str]]", stream)) as found:
                async for *parts, text, is_longer in found:
                    if is_longer == "t":
                        self._with_long_texts.add(binding.name)
                        return Rows(texts, complete=False)
                    texts[tuple(parts)] = text
                    taken += len(text or "")
                    if taken > size:
                        return Rows(texts, complete=False)
            return Rows(texts, complete=len(texts) < rows)

        with _evaluating(binding):
            return await self._visible(read)

    async def keys_after(self, binding: Binding, key: Key | None, *, rows: int) -> list[Key]:
        """Return the keys that follow `key` in key order, without looking at their rows."""
        name = "keys_from_start" if key is None else "keys_after"
        query = self._statement(binding, name)
        async with self._lock:
            cursor = await self._connection.execute(query, {**key_sql.parameter(key or ()), "limit": rows})
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

    async def _visible(self, read: Callable[[], Awaitable[Result]]) -> Result:
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

    def _statement(self, binding: Binding, name: str) -> bytes:
        """Compose a statement, once: what a binding's statements are made of stays while it is attached."""
        if (binding.name, name) not in self._statements:
            self._statements[binding.name, name] = source_query(binding, name).as_bytes(self._connection)
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
        yield
    except psycopg.DatabaseError as error:
        if (error.sqlstate or "")[:2] not in _ROW_FAILURES:
            raise
        raise EvaluationFailed(binding.name, error.sqlstate or "", type(error).__name__) from None
