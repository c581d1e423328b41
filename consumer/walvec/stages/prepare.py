"""From a segment's actions to the batch that its transaction writes.

Evaluate, chunk, hash, compare with what the target holds, and embed only what is new. Segments of one lane
are prepared side by side; none of them shares a key with another, so what the target holds for a key does not
change meanwhile.

A segment too heavy for memory becomes several batches, a slice of its rows each, written one after the other
in its place. That keeps every promise: a key is in one slice only, so its order is the segment's; a truncate
comes with the first, before any row; the stream's position, a backfill's progress and the request of a sweep
come with the last, so that after a crash the whole segment is worked off again, and what is written already
is found by its hashes.
"""

import asyncio
from collections.abc import Mapping, Sequence

import psycopg

from walvec.database.keys import Key
from walvec.embed.dispatch import Dispatcher, Refused
from walvec.embed.protocol import Vector
from walvec.failpoint import failpoint
from walvec.policy import in_place, is_refusal
from walvec.stages.chunk import Chunker, InputHasher
from walvec.stages.evaluate import RowText, SourceReader
from walvec.stages.isolate import isolate
from walvec.stages.lane import Claim, Segment
from walvec.stages.texts import Slice, Texts, Weigher
from walvec.stages.timing import Stages
from walvec.stages.write import Batch, Parked
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.target import Chunk, TargetTable
from walvec_slots.settle import Connection

_IN_A_THREAD = 65_536  # characters in a segment's long texts, from which cutting them holds up the event loop


class Preparer:
    """Prepares one vectorizer's segments."""

    def __init__(
        self,
        binding: Binding,
        source: SourceReader,
        table: TargetTable,
        lookups: Connection,
        dispatcher: Dispatcher,
        hasher: InputHasher,
        *,
        limit: int,
        lanes: int = 1,
        keep_parked: bool = False,
    ) -> None:
        """Read the source through `source` and the target through `lookups`; embed through `dispatcher`.

        `limit`: bytes of memory from which a segment is prepared in slices.
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
        self._limit = limit
        self._weigh = Weigher(binding, dispatcher.embedder.dimensions)
        self.keep_parked = keep_parked
        chunk = binding.vectorizer.chunk
        self._chunker = Chunker() if chunk == "none" else Chunker(chunk.size, chunk.overlap)

    def __call__(self, segment: Segment, claim: Claim) -> "Preparation":
        """Begin to prepare a segment, whose slices claim what they weigh in memory."""
        failpoint("after-plan")
        texts = Texts(self._source, self._binding, segment.actions, self._weigh, self._limit)
        return Preparation(self, segment, texts, claim)

    async def fill(self, batch: Batch, part: Slice) -> None:
        """Let a batch say what to write for a slice; the slice's texts are let go on the way."""
        for key, failure in part.failures.items():
            batch.parked.append(Parked(key, "evaluate", f"{failure.kind} ({failure.sqlstate})", failure.what))
        keys = [*part.texts, *part.failures]
        rows = await self._chunk(part.texts)
        part.texts.clear()  # they may be large
        batch.stages.done("chunk")
        await self._compare_with_target(batch, rows)
        batch.stages.done("lookup")
        await self._embed(batch)
        batch.stages.done("embed")
        parked = {row.key for row in batch.parked}
        batch.surplus = [row for row in batch.surplus if row[0] not in parked]
        if not self.keep_parked:
            batch.gone.extend(parked)
        batch.settled = [key for key in keys if key not in parked]

    async def _compare_with_target(self, batch: Batch, rows: Mapping[Key, Sequence[Chunk]]) -> None:
        """Add what differs from what the target holds; after a truncate, in this batch, that is nothing."""
        batch.gone.extend(key for key, chunks in rows.items() if not chunks)
        rows = {key: chunks for key, chunks in rows.items() if chunks}
        held: dict[Key, dict[int, bytes]] = {}
        if not batch.truncate:
            equals = [] if self._binding.relation.key_is_canonical else batch.gone
            held = await self._look_up(list(rows), equals)
        for key, chunks in rows.items():
            batch.texts += len(chunks)
            if key in held:
                _compare(key, chunks, held[key], batch)
            else:
                batch.chunks += [(key, chunk_seq, chunk, NEW) for chunk_seq, chunk in enumerate(chunks)]

    async def _look_up(self, keys: Sequence[Key], equals: Sequence[Key]) -> dict[Key, dict[int, bytes]]:
        """Return what the target holds for each key; nothing for one that its types cannot express."""

        async def look_up(some: Sequence[Key]) -> list[dict[int, bytes]]:
            found = await in_place(self._table.held_hashes, self._lookups, some, equals)
            return [found.get(key, {}) for key in some]

        answers = await isolate(keys, look_up, psycopg.Error, is_refusal)
        return {key: held for key, held in zip(keys, answers, strict=True) if isinstance(held, dict) and held}

    # -- Chunk and hash

    async def _chunk(self, texts: Mapping[Key, RowText]) -> dict[Key, list[Chunk]]:
        is_long = self._chunker.is_long
        if sum(len(text) for text in texts.values() if text and is_long(text)) > _IN_A_THREAD:
            return await asyncio.to_thread(self._chunk_all, texts)
        return self._chunk_all(texts)

    def _chunk_all(self, texts: Mapping[Key, RowText]) -> dict[Key, list[Chunk]]:
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


class Preparation:
    """One segment on its way, batch by batch."""

    def __init__(self, preparer: Preparer, segment: Segment, texts: Texts, claim: Claim) -> None:
        """Prepare what `texts` gives, and `claim` what it weighs."""
        self._preparer = preparer
        self._segment = segment
        self._texts = texts
        self._claim = claim
        self._is_first = True

    async def next(self) -> Batch:
        """Return the next batch to write, the last one marked as such."""
        segment, is_first, self._is_first = self._segment, self._is_first, False
        stages = Stages(segment.began if is_first else None)
        estimate = self._texts.estimate()
        await self._claim(estimate)
        stages.done("queue")
        part = await self._texts.next()
        stages.done("evaluate")
        await self._claim(part.weight - estimate)
        is_last = self._texts.done
        batch = Batch(
            is_last=is_last,
            truncate=segment.truncate and is_first,
            progress=segment.progress if is_last else None,
            sweep=segment.sweep and is_last,
            weight=part.weight,
            stages=stages,
            keep_parked=self._preparer.keep_parked,
        )
        await self._preparer.fill(batch, part)
        failpoint("after-embed")
        return batch
