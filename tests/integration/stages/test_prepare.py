"""From actions to batches: rows are read by bytes, worked off in slices, and one that fails fails alone."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from sys import getsizeof

import pytest

from tests.fix_sidecar import Sidecar
from walvec.database.connect import connect_source, connect_target
from walvec.database.keys import Key
from walvec.embed.dispatch import Dispatcher
from walvec.embed.protocol import open_embedder
from walvec.stages.actions import DELETE, REFETCH, Action, Found, Upsert
from walvec.stages.batch import Batch, Progress
from walvec.stages.chunk import InputHasher
from walvec.stages.evaluate import SourceReader
from walvec.stages.prepare import Preparer
from walvec.stages.segment import Segment
from walvec.stages.texts import Slice, Texts, Weigher
from walvec.stages.visibility import Unseen
from walvec.vectorizer.bind import bind
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.target import TargetTable
from walvec_slots.ack import Span
from walvec_slots.lsn import Lsn

LIMIT = 200_000  # bytes that a slice may weigh
LENGTHS = [0, 10, 30_000, 20, 150_000, 90_000, 5, 400_000, 1, 1, 60_000, 200]  # of the texts of rows 0, 1, …


@dataclass
class Stage:
    """What prepares one vectorizer's segments, and what it works with."""

    binding: Binding
    source: SourceReader
    preparer: Preparer
    claimed: int = 0

    async def claim(self, size: int) -> None:
        """Count what is claimed."""
        self.claimed += size

    async def batches(self, actions: Mapping[Key, Action], *, truncate: bool = False) -> list[Batch]:
        """Prepare a segment of a backfill and a sweep's request; return its batches."""
        segment = Segment(Span(Lsn(1)), Progress("rows", ("9",), len(actions)))
        if truncate:
            segment.clear()
        for key, action in actions.items():
            segment.add(key, action)
        segment.ask_for_sweep()
        preparation = self.preparer.begin(segment, self.claim)
        batches = [(await preparation.next()).batch]
        while not batches[-1].is_last:
            batches.append((await preparation.next()).batch)
        return batches

    async def slices(self, actions: Mapping[Key, Action], limit: int = LIMIT) -> list[Slice]:
        """Read the texts of all actions, slice by slice."""
        texts = Texts(self.source, self.binding, actions, Weigher(self.binding, 8), limit)
        slices = []
        while not texts.done:
            slices.append(await texts.next_slice())
        return slices


@asynccontextmanager
async def stage(sidecar: Sidecar, *, limit: int = 10**7) -> AsyncIterator[Stage]:
    """Open all that a preparer needs, for the one vectorizer that is followed."""
    config = sidecar.config
    (vectorizer,) = config.vectorizers
    async with AsyncExitStack() as stack:
        reads = await stack.enter_async_context(await connect_source(config, role="test"))
        lookups = await stack.enter_async_context(await connect_target(config, role="test"))
        binding = await bind(reads, vectorizer, config.source.publication)
        dispatcher = Dispatcher(open_embedder(config.embedder), config.embedder)
        stack.push_async_callback(dispatcher.aclose)
        source = SourceReader(reads, Unseen())
        yield Stage(
            binding,
            source,
            Preparer(
                binding,
                source,
                TargetTable(vectorizer, binding.key, config.embedder.dimensions),
                lookups,
                dispatcher,
                InputHasher(config.embedder.model, config.embedder.dimensions),
                limit=limit,
            ),
        )


def text_of(number: int) -> str | None:
    """A row's text; the first has none."""
    return f"{number} " + "x" * LENGTHS[number] if LENGTHS[number] else None


def keys(*numbers: int) -> list[Key]:
    """Return keys of one column, as the stream has them."""
    return [(str(number),) for number in numbers]


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """A dozen rows, of very different lengths."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text, is_public bool DEFAULT true)")
    for number in range(len(LENGTHS)):
        sidecar.source.execute("INSERT INTO blog VALUES (%s, %s)", [number, text_of(number)])
    sidecar.follow(chunk="none", where="is_public")
    sidecar.setup()
    return sidecar


@pytest.fixture
def embedded(blog: Sidecar) -> Sidecar:
    """The same, embedded."""
    blog.once()
    return blog


EVERY = {key: text_of(number) for number, key in enumerate(keys(*range(len(LENGTHS))))}


class TestReads:
    """Every read gives the first rows, until their texts pass a number of bytes."""

    @pytest.mark.parametrize("size", [1, 1_000, 100_000, 10**7])
    async def test_by_key(self, blog: Sidecar, size: int) -> None:
        """A caller that reads on finds every row once, and never much more than it asked for."""
        found: list[str | None] = []
        async with stage(blog) as here:
            wanted = [*EVERY, ("99",)]
            while len(found) < len(wanted):
                rows = await here.source.rows_by_key(here.binding, wanted[len(found) :], size=size)
                some = [text for _, text in rows]
                assert some
                assert sum(map(getsizeof, some[:-1])) <= size
                found += some
        assert found == [*EVERY.values(), None]

    @pytest.mark.parametrize("size", [1, 1_000, 100_000, 10**7])
    async def test_in_key_order(self, blog: Sidecar, size: int) -> None:
        """The backfill's read says when it has come to the end."""
        found: dict[Key, str | None] = {}
        last, complete = None, False
        async with stage(blog) as here:
            while not complete:
                rows = await here.source.rows_after(here.binding, last, rows=5, size=size)
                assert sum(map(getsizeof, list(rows.texts.values())[:-1])) <= size
                last, complete = rows.last_key or last, rows.complete
                found |= rows.texts
        assert found == EVERY

    @pytest.mark.parametrize("size", [1, 1_000, 10**7])
    async def test_images(self, blog: Sidecar, size: int) -> None:
        """An image may be short and its text long."""
        blog.follow(chunk="none", text="repeat(body, 100)", where="is_public")
        images = [{"id": f"{n}", "body": f"{n} ", "is_public": "tf"[n == 3]} for n in range(40)]
        found: list[str | None] = []
        async with stage(blog) as here:
            while len(found) < len(images):
                some = await here.source.evaluate_images(here.binding, images[len(found) :], size=size)
                assert some
                assert sum(map(getsizeof, some[:-1])) <= size
                found += some
        assert found == [f"{n} " * 100 if n != 3 else None for n in range(40)]

    async def test_keys_that_are_gone(self, blog: Sidecar) -> None:
        """A row is gone that does not exist or is not to be embedded, whatever its text."""
        blog.follow(chunk="none", text="body || 1 / (id - id)", where="is_public AND 1 / (id - 7) < 9")
        blog.source.execute("UPDATE blog SET is_public = false WHERE id = 7")
        async with stage(blog) as here:
            assert await here.source.keys_gone(here.binding, keys(99, 0, 7, 4)) == keys(99, 7)


class TestSlices:
    """A segment is worked off slice by slice, whatever its actions are."""

    @pytest.mark.parametrize("kind", ["refetch", "found", "image"])
    async def test_each_is_about_as_heavy_as_it_may_be(self, blog: Sidecar, kind: str) -> None:
        """Together the slices are the rows of the segment, each of them once."""
        actions: dict[Key, Action] = {
            key: REFETCH
            if kind == "refetch"
            else Found(text)
            if kind == "found"
            else Upsert({"id": key[0], "body": text, "is_public": "t"}, getsizeof(text))
            for key, text in EVERY.items()
        }
        async with stage(blog) as here:
            weigh = Weigher(here.binding, 8)
            slices = await here.slices(actions)
            for part in slices:
                assert part.weight == sum(map(weigh, part.texts.values()))
                assert part.weight - weigh(list(part.texts.values())[-1]) < LIMIT
        assert len(slices) >= 3
        assert [item for part in slices for item in part.texts.items()] == list(EVERY.items())

    async def test_vectors_are_part_of_the_weight(self, blog: Sidecar) -> None:
        """Many short chunks take more memory for their vectors than for their text."""
        blog.follow(chunk={"size": 100, "overlap": 10})
        async with stage(blog) as here:
            weigh = Weigher(here.binding, 1_000)
        assert weigh("x" * 100_000) > 100_000 / 90 * 4_000
        assert weigh("x") > 4_000
        assert weigh(None) == 0

    async def test_what_is_gone_comes_first(self, blog: Sidecar) -> None:
        """Of keys that are equal and written differently, one goes before the other comes."""
        actions: dict[Key, Action] = {**dict.fromkeys(EVERY, REFETCH), ("99",): DELETE}
        async with stage(blog) as here:
            first, *others = await here.slices(actions)
        assert next(iter(first.texts)) == ("99",)
        assert others

    @pytest.mark.parametrize("bad", [{0}, {11}, {3, 4}, {1, 6, 9}, set(range(12))])
    async def test_rows_that_fail_fail_alone(self, blog: Sidecar, bad: set[int]) -> None:
        """A row that fails is found wherever it is among the others."""
        blog.source.execute("UPDATE blog SET is_public = false WHERE id <> ALL (%s)", [list(bad)])
        blog.follow(chunk="none", text="CASE WHEN is_public THEN (1 / (id - id))::text ELSE body END")
        async with stage(blog) as here:
            slices = await here.slices(dict.fromkeys(EVERY, REFETCH))
        failed = {key for part in slices for key in part.failures}
        texts = {key: text for part in slices for key, text in part.texts.items()}
        assert failed == set(keys(*bad))
        assert texts == {key: text for key, text in EVERY.items() if key not in failed}

    async def test_each_is_a_batch_and_the_last_takes_the_progress(self, blog: Sidecar) -> None:
        """A truncate comes with the first batch, and the weights add up to what was claimed."""
        async with stage(blog, limit=LIMIT) as here:
            batches = await here.batches(dict.fromkeys(EVERY, REFETCH), truncate=True)
            assert here.claimed == sum(batch.weight for batch in batches)
        first, *between, last = batches
        assert between
        assert [first.truncate, last.truncate, *(batch.truncate for batch in between)].count(True) == 1
        assert first.truncate
        for batch in [first, *between]:
            assert (batch.is_last, batch.progress, batch.sweep) == (False, None, False)
        assert (last.is_last, last.progress is not None, last.sweep) == (True, True, True)
        assert [key for batch in batches for key in batch.settled] == list(EVERY)
        chunks = {key: chunk.text for batch in batches for key, _, chunk, _ in batch.chunks}
        assert chunks == {key: text for key, text in EVERY.items() if text}


class TestOneRow:
    """A batch says what becomes of each row."""

    async def test_image_that_fails_is_read_again(self, blog: Sidecar) -> None:
        """An image may be older than the row, which is well: that makes no dead letter."""
        blog.follow(chunk="none", text="body || left((1 / id)::text, 0)")
        actions: dict[Key, Action] = {
            ("1",): Upsert({"id": "0", "body": "bad", "is_public": "t"}, 1),
            ("2",): Upsert({"id": "2", "body": "good", "is_public": "t"}, 1),
        }
        async with stage(blog) as here:
            (batch,) = await here.batches(actions)
        assert batch.parked == []
        assert {key: chunk.text for key, _, chunk, _ in batch.chunks} == {
            ("1",): text_of(1),
            ("2",): "good",
        }

    async def test_after_a_truncate_the_target_holds_nothing(self, embedded: Sidecar) -> None:
        """A row that comes back with its old text needs its vector made again."""
        same: dict[Key, Action] = {("1",): Found(text_of(1))}
        async with stage(embedded) as here:
            (kept,) = await here.batches(same)
            (again,) = await here.batches(same, truncate=True)
        assert (len(kept.chunks), len(again.chunks), again.embedded) == (0, 1, 1)
        assert all(vector is not None for _, _, _, vector in again.chunks)

    async def test_row_with_a_refused_chunk_has_none(self, blog: Sidecar) -> None:
        """Half a row would be found by a search, and nothing would say that the rest is missing."""
        blog.follow(chunk={"size": 20, "overlap": 0})
        blog.service.refuse = "POISON"
        async with stage(blog) as here:
            (batch,) = await here.batches(
                {("1",): Found("good words\n\nPOISON in here\n\nmore of good"), ("2",): Found("well")}
            )
        assert [row.key for row in batch.parked] == [("1",)]
        assert [key for key, *_ in batch.chunks] == [("2",)]
        assert (batch.gone, batch.settled) == ([("1",)], [("2",)])
