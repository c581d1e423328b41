"""From a segment's actions to the batch that its transaction writes.

Evaluate, chunk, hash, compare with what the target holds, and embed only what is new. Segments of one lane
are prepared side by side; none of them shares a key with another, so what the target holds for a key does not
change meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from consumer.actions import Chunk, Delete, Found, Key, Refetch, Upsert
from consumer.bind import Binding
from consumer.chunk import Chunker, InputHasher
from consumer.database import Connection
from consumer.embed import Vector
from consumer.embed.dispatch import Dispatcher, Refused
from consumer.errors import EvaluationFailed
from consumer.evaluate import Source, Text
from consumer.failpoint import failpoint
from consumer.lane import Segment
from consumer.policy import in_place
from consumer.stages import Stages
from consumer.target import TargetTable
from consumer.write import Batch, Parked

_IN_A_THREAD = 65_536  # characters in a segment's long texts, from which cutting them holds up the event loop

Item = TypeVar("Item")


class Preparer:
    """Prepares one vectorizer's segments."""

    def __init__(
        self,
        binding: Binding,
        source: Source,
        table: TargetTable,
        lookups: Connection,
        dispatcher: Dispatcher,
        hasher: InputHasher,
        *,
        lanes: int = 1,
        keep_parked: bool = False,
    ) -> None:
        """Read the source through `source` and the target through `lookups`; embed through `dispatcher`.

        `lanes`: how many share the dispatcher.
        `keep_parked`: a row that is parked keeps the vectors of its last good text.
        """
        self._binding = binding
        self._source = source
        self._table = table
        self._lookups = lookups
        self._dispatcher = dispatcher
        self._hasher = hasher
        self._share = dispatcher.share(lanes)
        self._keep_parked = keep_parked
        chunk = binding.vectorizer.chunk
        self._chunker = Chunker() if chunk == "none" else Chunker(chunk.size, chunk.overlap)

    async def __call__(self, segment: Segment) -> Batch:
        """Return what to write for a segment."""
        failpoint("after-plan")
        stages = Stages(segment.began)
        stages.done("queue")
        batch = Batch(
            truncate=segment.truncate,
            progress=segment.progress,
            sweep=segment.sweep,
            stages=stages,
            keep_parked=self._keep_parked,
        )
        rows = await self._chunk(await self._texts(segment, batch))  # unnamed: the texts may be large
        stages.done("chunk")
        batch.gone.extend(key for key, chunks in rows.items() if not chunks)
        rows = {key: chunks for key, chunks in rows.items() if chunks}
        equals = [] if self._binding.relation.key_is_canonical else batch.gone
        held = (
            {}
            if segment.truncate
            else await in_place(self._table.existing, self._lookups, list(rows), equals)
        )
        stages.done("lookup")
        for key, chunks in rows.items():
            batch.texts += len(chunks)
            if key in held:
                _compare(key, chunks, held[key], batch)
            else:
                batch.chunks += [(key, chunk_seq, chunk, NEW) for chunk_seq, chunk in enumerate(chunks)]
        await self._embed(batch)
        stages.done("embed")
        parked = {row.key for row in batch.parked}
        batch.surplus = [row for row in batch.surplus if row[0] not in parked]
        if not self._keep_parked:
            batch.gone.extend(parked)
        batch.settled = [key for key in segment.actions if key not in parked]
        failpoint("after-embed")
        return batch

    # -- Evaluate

    async def _texts(self, segment: Segment, batch: Batch) -> dict[Key, Text]:
        """Return every row's text. Rows on which an expression fails are parked instead."""
        texts: dict[Key, Text] = {}
        images: dict[Key, Mapping[str, object]] = {}
        refetch: list[Key] = []
        for key, action in segment.actions.items():
            match action:
                case Upsert(image):
                    images[key] = image
                case Refetch():
                    refetch.append(key)
                case Found(text):
                    texts[key] = text
                case Delete():
                    texts[key] = None
        # An image that fails may be of an older definition of the table: what the row is now decides.
        refetch += _sort(images, await _isolate(list(images.values()), self._evaluate), texts)
        refused = await _isolate(refetch, self._refetch)
        for key, failure in _sort(refetch, refused, texts).items():
            batch.parked.append(Parked(key, "evaluate", f"{failure.kind} ({failure.sqlstate})", failure.what))
        batch.stages.done("evaluate")
        return texts

    async def _evaluate(self, images: Sequence[Mapping[str, object]]) -> Sequence[Text]:
        return await self._source.evaluate(self._binding, images)

    async def _refetch(self, keys: Sequence[Key]) -> Sequence[Text]:
        texts = await in_place(self._source.by_key, self._binding, keys)
        return [texts[key] for key in keys]

    # -- Chunk and hash

    async def _chunk(self, texts: Mapping[Key, Text]) -> dict[Key, list[Chunk]]:
        is_long = self._chunker.is_long
        if sum(len(text) for text in texts.values() if text and is_long(text)) > _IN_A_THREAD:
            return await asyncio.to_thread(self._chunk_all, texts)
        return self._chunk_all(texts)

    def _chunk_all(self, texts: Mapping[Key, Text]) -> dict[Key, list[Chunk]]:
        split, hash_input = self._chunker.split, self._hasher
        return {
            key: [Chunk(piece, hash_input(piece)) for piece in split(text)] if text else []
            for key, text in texts.items()
        }

    # -- Embed

    async def _embed(self, batch: Batch) -> None:
        """Give every new chunk its vector; park the rows whose text the service refuses."""
        new = {chunk.input_hash: chunk.text for _, _, chunk, vector in batch.chunks if vector is NEW}
        if not new:
            return
        failpoint("before-embed")
        answers = dict(zip(new, await self._dispatcher.embed(list(new.values()), self._share), strict=True))
        placed: list[tuple[Key, int, Chunk, Vector | None]] = []
        refused: dict[Key, Refused] = {}
        for key, chunk_seq, chunk, vector in batch.chunks:
            answer = answers[chunk.input_hash] if vector is NEW else vector
            if isinstance(answer, Refused):
                refused[key] = answer
            else:
                placed.append((key, chunk_seq, chunk, answer))
        batch.embedded = len(new)
        batch.refused = sum(isinstance(answer, Refused) for answer in answers.values())
        batch.chunks = [row for row in placed if row[0] not in refused]
        for key, refusal in refused.items():
            batch.parked.append(Parked(key, "embed", refusal.error_class, refusal.message, refusal.passes))


NEW: Vector = Vector("f")  # in place of a vector that is still to be made


def _compare(key: Key, chunks: Sequence[Chunk], held: Mapping[int, bytes], batch: Batch) -> None:
    """Add what differs between a row's chunks and those that the target holds to the batch."""
    hashes = set(held.values())
    for chunk_seq, chunk in enumerate(chunks):
        if held.get(chunk_seq) != chunk.input_hash:
            batch.chunks.append((key, chunk_seq, chunk, None if chunk.input_hash in hashes else NEW))
    if held and max(held) >= len(chunks):
        batch.surplus.append((key, len(chunks)))


def _sort(
    keys: Iterable[Key], evaluated: Sequence[Text | EvaluationFailed], texts: dict[Key, Text]
) -> dict[Key, EvaluationFailed]:
    """Add the texts to `texts`; return the failures."""
    failures: dict[Key, EvaluationFailed] = {}
    for key, text in zip(keys, evaluated, strict=True):
        if isinstance(text, EvaluationFailed):
            failures[key] = text
        else:
            texts[key] = text
    return failures


async def _isolate(
    items: Sequence[Item], evaluate: Callable[[Sequence[Item]], Awaitable[Sequence[Text]]]
) -> list[Text | EvaluationFailed]:
    """Evaluate all items at once; where that fails, in halves, down to the items that do."""
    if not items:
        return []
    try:
        return list(await evaluate(items))
    except EvaluationFailed as error:
        if len(items) == 1:
            return [error]
    middle = len(items) // 2
    return await _isolate(items[:middle], evaluate) + await _isolate(items[middle:], evaluate)
