"""From a segment's actions to the batches that its transactions write.

Evaluate, cut, compare with what the target holds, and embed only what is new. Segments of one lane are
prepared side by side; none of them shares a key with another, so what the target holds for a key does not
change meanwhile.

A segment too heavy for memory becomes several batches, each a slice of its rows, which are written one after
the other in its place. That keeps every promise:

- A key is in one slice only, so its order is that of the segment.
- A truncate comes with the first slice, before any row.
- The stream's position, a backfill's progress and the request of a sweep come with the last one. After a
  crash the whole segment is worked off again, and what is written already is found by its hashes.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import psycopg

from walvec.database.keys import Key
from walvec.embed.dispatch import Dispatcher, Refused
from walvec.embed.protocol import Vector
from walvec.errors import EvaluationFailed
from walvec.failpoint import failpoint
from walvec.policy import is_refusal, retry_in_place
from walvec.stages.batch import Batch, Parked, PlacedChunk, PreparedBatch
from walvec.stages.chunk import Chunker, InputHasher
from walvec.stages.compare import Difference, compare
from walvec.stages.evaluate import RowText, SourceReader
from walvec.stages.isolate import isolate_failures
from walvec.stages.lane import Claim
from walvec.stages.segment import Segment
from walvec.stages.stopwatch import StageTimes
from walvec.stages.texts import Slice, Texts, Weigher
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.target import Chunk, TargetTable
from walvec_slots.settle import Connection

# Characters in a slice's long texts, from which cutting them would hold up the event loop.
_IN_A_THREAD = 65_536


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
        """Read the source through `source`, the target through `lookups`.

        `dispatcher` embeds, for as many lanes as `lanes` says.
        `limit`: bytes of memory from which a segment is prepared in slices.
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
        self._keep_parked = keep_parked
        chunk = binding.vectorizer.chunk
        self._chunker = Chunker() if chunk == "none" else Chunker(chunk.size, chunk.overlap)

    def begin(self, segment: Segment, claim: Claim) -> "Preparation":
        """Begin to prepare a segment, whose slices claim what they weigh in memory."""
        failpoint("after-plan")
        texts = Texts(self._source, self._binding, segment.actions, self._weigh, self._limit)
        return Preparation(self, segment, texts, claim)

    async def __call__(
        self, segment: Segment, texts: Texts, claim: Claim, *, is_first: bool
    ) -> PreparedBatch:
        """Prepare the next slice of a segment: evaluate, cut, compare, embed.

        After a truncate in the same batch, the target holds nothing to compare with.
        """
        times = StageTimes(segment.began if is_first else None)
        truncate = segment.truncate and is_first

        part = await self._evaluate(texts, claim, times)
        keys = part.keys()

        rows = await self._cut(part.take_texts())
        times.done("chunk")

        held = {} if truncate else await self._look_up(rows)
        times.done("lookup")
        difference = compare(rows, held)

        answers = await self._embed(difference.new_texts())
        times.done("embed")

        batch = Batch(
            is_last=texts.done,
            truncate=truncate,
            progress=segment.progress if texts.done else None,
            sweep=segment.sweep and texts.done,
            weight=part.weight,
            keep_parked=self._keep_parked,
        )
        failpoint("after-embed")
        return PreparedBatch(fill_batch(batch, keys, difference, answers, part.failures), times)

    async def _evaluate(self, texts: Texts, claim: Claim, times: StageTimes) -> Slice:
        """Read the next texts, once there is room for what they may weigh."""
        estimate = texts.estimate_slice()
        await claim(estimate)
        times.done("queue")
        part = await texts.next_slice()
        times.done("evaluate")
        await claim(part.weight - estimate)
        return part

    async def _cut(self, texts: Mapping[Key, RowText]) -> dict[Key, list[Chunk]]:
        """Cut texts into chunks and hash them, in a thread where that takes long."""
        is_long = self._chunker.is_long
        if sum(len(text) for text in texts.values() if text and is_long(text)) > _IN_A_THREAD:
            return await asyncio.to_thread(self._cut_all, texts)
        return self._cut_all(texts)

    def _cut_all(self, texts: Mapping[Key, RowText]) -> dict[Key, list[Chunk]]:
        split, hash_input = self._chunker.split, self._hasher
        return {
            key: [Chunk(piece, hash_input(piece)) for piece in split(text)] if text else []
            for key, text in texts.items()
        }

    async def _look_up(self, rows: Mapping[Key, Sequence[Chunk]]) -> dict[Key, dict[int, bytes]]:
        """Return the hashes that the target holds for each row, by `chunk_seq`.

        There is no entry for a row that it does not hold, and for a key that its types cannot express.
        """
        gone = [key for key, chunks in rows.items() if not chunks]
        equals = [] if self._binding.relation.key_is_canonical else gone

        async def look_up(keys: Sequence[Key]) -> list[dict[int, bytes]]:
            found = await retry_in_place(self._table.held_hashes, self._lookups, keys, equals)
            return [found.get(key, {}) for key in keys]

        keys = [key for key, chunks in rows.items() if chunks]
        answers = await isolate_failures(keys, look_up, psycopg.Error, is_refusal)
        return {key: held for key, held in zip(keys, answers, strict=True) if isinstance(held, dict) and held}

    async def _embed(self, texts: Mapping[bytes, str]) -> dict[bytes, Vector | Refused]:
        """Return each text's vector, or the service's refusal, by the text's hash."""
        if not texts:
            return {}
        failpoint("before-embed")
        answers = await self._dispatcher.embed(list(texts.values()), self._share)
        return dict(zip(texts, answers, strict=True))


class Preparation:
    """One segment on its way, batch by batch."""

    def __init__(self, prepare: Preparer, segment: Segment, texts: Texts, claim: Claim) -> None:
        """Prepare what `texts` gives, and `claim` what it weighs."""
        self._prepare = prepare
        self._segment = segment
        self._texts = texts
        self._claim = claim
        self._is_first = True

    async def next(self) -> PreparedBatch:
        """Return the next batch to write; the last one says that it is."""
        is_first, self._is_first = self._is_first, False
        return await self._prepare(self._segment, self._texts, self._claim, is_first=is_first)


def fill_batch(
    batch: Batch,
    keys: Iterable[Key],
    difference: Difference,
    answers: Mapping[bytes, Vector | Refused],
    failures: Mapping[Key, EvaluationFailed],
) -> Batch:
    """Return `batch` with what it writes of the rows `keys`. Pure.

    A row with a chunk that the service refuses is parked as a whole, as is one whose expressions fail: half a
    row would be found by a search, and nothing would say that the rest is missing.
    """
    refusals = {
        row.key: answer
        for row in difference.chunks
        if row.is_new and isinstance(answer := answers[row.chunk.input_hash], Refused)
    }
    parked = [
        *(
            Parked(key, "evaluate", f"{failure.kind} ({failure.sqlstate})", failure.what)
            for key, failure in failures.items()
        ),
        *(
            Parked(key, "embed", refusal.error_class, refusal.message, refusal.passes)
            for key, refusal in refusals.items()
        ),
    ]
    parked_keys = {row.key for row in parked}
    placed: list[PlacedChunk] = []
    for key, chunk_seq, chunk, is_new in difference.chunks:
        vector = answers[chunk.input_hash] if is_new else None
        if key not in parked_keys and not isinstance(vector, Refused):
            placed.append((key, chunk_seq, chunk, vector))
    return replace(
        batch,
        gone=[*difference.gone, *(() if batch.keep_parked else parked_keys)],
        surplus=[row for row in difference.surplus if row[0] not in parked_keys],
        chunks=placed,
        parked=parked,
        settled=[key for key in keys if key not in parked_keys],
        texts=difference.texts,
        embedded=len(answers),
        refused=sum(isinstance(answer, Refused) for answer in answers.values()),
    )
