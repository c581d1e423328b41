"""Order by key, with segments that are prepared side by side and end in any order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from walvec.database.keys import Key
from walvec.stages.actions import DELETE, Action, Found, Upsert
from walvec.stages.batch import Batch, PreparedBatch, Progress
from walvec.stages.lane import Claim, Lane
from walvec.stages.memory import ByteBudget
from walvec.stages.segment import Segment, SegmentLimits
from walvec.stages.stopwatch import StageTimes
from walvec.vectorizer.binding import Binding
from walvec_slots.ack import Ledger
from walvec_slots.lsn import Lsn

WORK = 1_000  # bytes that segments may take while they are worked on
STEPS = st.lists(st.sampled_from(["push", "delete", "truncate", "pause"]), min_size=1, max_size=60)


class Target:
    """Takes a lane's segments and sees to it that no two on one key are ever in flight together."""

    def __init__(self, ledger: Ledger, random: Random) -> None:
        self.rows: dict[Key, Action] = {}
        self.random = random
        self.in_flight: list[Segment] = []
        self.slices: dict[int, tuple[Segment, list[Key]]] = {}
        self._ledger = ledger

    def prepare(self, segment: Segment, claim: Claim) -> "Slices":
        """Begin with a segment."""
        for other in self.in_flight:
            assert not segment.actions.keys() & other.actions.keys()
            assert [segment.truncate, other.truncate] == [False, False]
        self.in_flight.append(segment)
        return Slices(self, segment, claim)

    async def commit(self, lane: Lane, prepared: PreparedBatch) -> None:
        """Apply a slice of the oldest segment."""
        await asyncio.sleep(0)
        batch = prepared.batch
        segment, keys = self.slices.pop(id(batch))
        assert segment is self.in_flight[0]
        if batch.truncate:
            self.rows.clear()
        self.rows |= {key: segment.actions[key] for key in keys}
        if batch.is_last:
            self._ledger.finish(lane.name, 1)
            self.in_flight.remove(segment)


class Slices:
    """A segment's batches, of a row each or of all together. Each takes any time."""

    def __init__(self, target: Target, segment: Segment, claim: Claim) -> None:
        self._target, self._segment, self._claim = target, segment, claim
        self._keys = list(segment.actions)
        self._rows = target.random.choice([1, 1, len(self._keys)])
        self._truncate = segment.truncate

    async def next(self) -> PreparedBatch:
        """Prepare some rows."""
        weight = self._target.random.randrange(2 * WORK)
        await self._claim(weight)
        for _ in range(self._target.random.randrange(8)):
            await asyncio.sleep(0)
        keys, self._keys = self._keys[: self._rows], self._keys[self._rows :]
        batch = Batch(is_last=not self._keys, truncate=self._truncate, weight=weight)
        self._truncate = False
        self._target.slices[id(batch)] = self._segment, keys
        # Kept, so that no other batch gets its id.
        self._kept = batch
        return PreparedBatch(batch, StageTimes())


async def work_off(steps: list[str], seed: int, *, canonical: bool) -> tuple[dict[Key, Any], dict[Key, Any]]:
    """Push actions on few keys; return what the target has, and what it must have."""
    random = Random(seed)
    relation = SimpleNamespace(key_is_canonical=canonical)
    binding = cast("Binding", SimpleNamespace(name="blog", relation=relation))
    limits = SegmentLimits(rows=3, size=1_000_000, delay=0.0, depth=4, flight=1_000_000, work=WORK)
    ledger = Ledger(Lsn(1), {"blog": Lsn(1)})
    lane = Lane(binding, ledger, ByteBudget(1_000_000), limits)
    target, expected = Target(ledger, random), dict[Key, Action]()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lane.run(tasks, target.prepare, target.commit))
        for number, step in enumerate(steps):
            key = (str(random.randrange(6)),)
            match step:
                case "push":
                    expected[key] = Upsert({"number": str(number)}, 0)
                    lane.push(key, expected[key])
                case "delete":
                    expected[key] = DELETE
                    lane.push(key, DELETE)
                case "truncate":
                    expected.clear()
                    lane.truncate()
                case _:
                    await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while not ledger.idle:  # noqa: ASYNC110  the ledger tells nobody
                await asyncio.sleep(0)
        lane.close()
        await running
    assert lane.workspace.used == 0
    return target.rows, expected


@settings(deadline=None)
@given(steps=STEPS, seed=st.integers(0, 1000), canonical=st.booleans())
def test_no_two_actions_on_one_key_are_in_flight_together(
    steps: list[str], seed: int, *, canonical: bool
) -> None:
    """The last action in the stream's order is the one that stays."""
    found, expected = asyncio.run(work_off(steps, seed, canonical=canonical))
    assert found == expected


def lane_of(limits: SegmentLimits, *, canonical: bool = True) -> tuple[Lane, Ledger]:
    """Make a lane without anything in it."""
    binding = SimpleNamespace(name="blog", relation=SimpleNamespace(key_is_canonical=canonical))
    ledger = Ledger(Lsn(1), {"blog": Lsn(1)})
    return Lane(cast("Binding", binding), ledger, ByteBudget(1_000_000), limits), ledger


ROW_BY_ROW = SegmentLimits(rows=1, size=1_000_000, delay=0.0, depth=4, flight=1_000_000, work=WORK)


class Held:
    """Prepares batches, one or several a segment, and commits none before it is allowed to."""

    def __init__(self, ledger: Ledger, *, batches: int = 1) -> None:
        self.begun: list[Segment] = []
        self.prepared: list[Segment] = []
        self.committed: list[Batch] = []
        self.allowed = asyncio.Semaphore(0)
        self._ledger = ledger
        self._batches = batches

    def prepare(self, segment: Segment, claim: Claim) -> "HeldBatches":
        """Begin with a segment."""
        self.begun.append(segment)
        return HeldBatches(self, segment, claim, self._batches)

    async def commit(self, lane: Lane, prepared: PreparedBatch) -> None:
        """Wait until it is allowed."""
        await self.allowed.acquire()
        batch = prepared.batch
        self.committed.append(batch)
        self._ledger.finish(lane.name, int(batch.is_last))


class HeldBatches:
    """A segment's batches, each as heavy as a slice may be."""

    def __init__(self, held: Held, segment: Segment, claim: Claim, count: int) -> None:
        self._held, self._segment, self._claim, self._left = held, segment, claim, count

    async def next(self) -> PreparedBatch:
        """Prepare one as soon as there is room."""
        await self._claim(WORK // 5)
        self._held.prepared.append(self._segment)
        self._left -= 1
        return PreparedBatch(Batch(is_last=self._left == 0, weight=WORK // 5), StageTimes())


async def test_what_follows_a_truncate_in_flight_is_not_begun() -> None:
    """A truncate concerns every key, so nothing of its lane is in flight beside it."""
    lane, ledger = lane_of(ROW_BY_ROW)
    held = Held(ledger)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lane.run(tasks, held.prepare, held.commit))
        lane.truncate()
        await turns()
        lane.push(("1",), DELETE)
        await turns()
        beside = len(held.begun)
        held.allowed.release()
        await turns()
        after = len(held.begun)
        held.allowed.release()
        lane.close()
        await running
    assert (beside, after) == (1, 2)


async def test_a_truncate_between_a_read_and_its_place_makes_it_void() -> None:
    """What a backfill read before it, and would place behind it, may not come back."""
    lane, _ = lane_of(ROW_BY_ROW)
    lane.begin_read()
    lane.truncate()
    assert lane.append_read({("1",): Found("old")}, Progress("rows", None, 1)) is None
    assert lane.queued == 1


async def test_younger_segments_leave_the_oldest_room_to_work() -> None:
    """Of segments as heavy as a slice three are worked on, and then one for each that is committed."""
    lane, ledger = lane_of(ROW_BY_ROW)
    held = Held(ledger)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lane.run(tasks, held.prepare, held.commit))
        for number in range(8):
            lane.push((str(number),), DELETE)
        counts = []
        for _ in range(8):
            await turns()
            counts.append((len(held.prepared), lane.workspace.used <= WORK))
            held.allowed.release()
        lane.close()
        await running
    assert counts == [(min(3 + committed, 8), True) for committed in range(8)]


async def test_a_heavy_segment_is_worked_off_two_slices_at_a_time() -> None:
    """One slice is written while the next is prepared; the lane moves after the last."""
    lane, ledger = lane_of(ROW_BY_ROW)
    held = Held(ledger, batches=4)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lane.run(tasks, held.prepare, held.commit))
        lane.push(("1",), DELETE)
        ledger.complete(Lsn(9))
        seen = []
        for _ in range(4):
            await turns()
            seen.append((len(held.prepared), ledger.checkpoint()))
            held.allowed.release()
        await turns()
        lane.close()
        await running
    assert seen == [(2, Lsn(1)), (3, Lsn(1)), (4, Lsn(1)), (4, Lsn(1))]
    assert ledger.checkpoint() == Lsn(9)


async def test_the_oldest_segment_waits_for_no_younger_one() -> None:
    """Younger segments give nothing back before the oldest is committed."""
    lane, ledger = lane_of(ROW_BY_ROW)
    held = Held(ledger, batches=3)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lane.run(tasks, held.prepare, held.commit))
        for number in range(4):
            lane.push((str(number),), DELETE)
        for _ in range(4 * 3):
            held.allowed.release()
        await turns()
        await turns()
        committed = [batch.is_last for batch in held.committed]
        running.cancel()
    assert committed == 4 * [False, False, True]


async def test_backfill_has_room_behind_a_stream_that_never_ends() -> None:
    """Only the backfill's segments are counted, however many of the stream's wait."""
    lane, _ = lane_of(ROW_BY_ROW)
    for number in range(9):
        lane.push((str(number),), DELETE)
    for _ in range(2):
        await asyncio.wait_for(lane.wait_for_room(), 5)
        lane.begin_read()
        lane.append_read({}, Progress(phase="rows", last_key=None, rows=0))
    full = asyncio.create_task(lane.wait_for_room())
    await asyncio.sleep(0)
    assert not full.done()
    full.cancel()


class Hands:
    """Takes a lane's segments, and keeps each until the test lets go of it."""

    def __init__(self, ledger: Ledger) -> None:
        self.begun: list[Segment] = []
        self.committed: list[Segment] = []
        self._ledger = ledger
        self._released: dict[Segment, asyncio.Event] = {}
        self._prepared: dict[int, Segment] = {}

    def prepare(self, segment: Segment, claim: Claim) -> "InHand":
        """Begin with a segment."""
        self.begun.append(segment)
        self._released[segment] = asyncio.Event()
        return InHand(self, segment)

    async def held(self, segment: Segment) -> PreparedBatch:
        """Wait until the segment is released."""
        await self._released[segment].wait()
        batch = Batch(truncate=segment.truncate)
        self._prepared[id(batch)] = segment
        return PreparedBatch(batch, StageTimes())

    async def commit(self, lane: Lane, prepared: PreparedBatch) -> None:
        """Note the order."""
        self._ledger.finish(lane.name, 1)
        self.committed.append(self._prepared.pop(id(prepared.batch)))

    async def release(self, number: int) -> None:
        """Let a segment be ready, by the order in which they were begun; see what comes of it."""
        self._released[self.begun[number]].set()
        await turns()

    def keys(self, segments: list[Segment]) -> list[str]:
        """The keys of segments, each as one word; a truncate as an exclamation mark before them."""
        return ["!" * segment.truncate + "".join(key for (key,) in segment.actions) for segment in segments]


class InHand:
    """A segment's only batch."""

    def __init__(self, hands: Hands, segment: Segment) -> None:
        self._hands, self._segment = hands, segment

    async def next(self) -> PreparedBatch:
        """Return it once it is released."""
        return await self._hands.held(self._segment)


async def turns() -> None:
    """Let everything happen that waits for nothing."""
    for _ in range(50):
        await asyncio.sleep(0)


@asynccontextmanager
async def at_work(
    *, canonical: bool = True, rows: int = 1, depth: int = 9
) -> AsyncIterator[tuple[Lane, Hands]]:
    """Give a lane at work, whose segments are full with `rows`, and what it begins."""
    binding = SimpleNamespace(name="blog", relation=SimpleNamespace(key_is_canonical=canonical))
    ledger = Ledger(Lsn(1), {"blog": Lsn(1)})
    limits = SegmentLimits(rows=rows, size=1_000_000, delay=0.0, depth=depth, flight=1_000_000, work=WORK)
    lane = Lane(cast("Binding", binding), ledger, ByteBudget(1_000_000), limits)
    hands = Hands(ledger)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lane.run(tasks, hands.prepare, hands.commit))
        yield lane, hands
        lane.close()
        for number in range(len(hands.begun)):
            await hands.release(number)
        await running


def push(lane: Lane, keys: str) -> None:
    """Let the stream bring a delete for each of these keys."""
    for key in keys:
        lane.push((key,), DELETE)


class TestOrder:
    """Each rule holds on the fewest segments that show it."""

    async def test_an_action_waits_for_an_earlier_one_on_its_key(self) -> None:
        """Other keys are prepared beside the first segment; one that shares a key waits for its commit."""
        async with at_work() as (lane, hands):
            push(lane, "aba")
            await turns()
            beside = hands.keys(hands.begun)
            await hands.release(0)
            assert (beside, hands.keys(hands.begun)) == (["a", "b"], ["a", "b", "a"])

    async def test_of_three_on_one_key_each_waits_for_the_one_before(self) -> None:
        """The first one's commit lets the second begin, and not the third."""
        async with at_work(rows=2) as (lane, hands):
            push(lane, "abcb")
            await turns()
            push(lane, "b")
            await turns()
            await hands.release(0)
            assert hands.keys(hands.begun) == ["ab", "cb"]
            await hands.release(1)
            assert hands.keys(hands.begun) == ["ab", "cb", "b"]

    async def test_commits_follow_the_stream(self) -> None:
        """What is prepared first is not committed first."""
        async with at_work() as (lane, hands):
            push(lane, "abc")
            await turns()
            await hands.release(2)
            await hands.release(1)
            early = hands.keys(hands.committed)
            await hands.release(0)
            assert (early, hands.keys(hands.committed)) == ([], ["a", "b", "c"])

    async def test_a_truncate_waits_for_all_before_it(self) -> None:
        """A truncate shares no key with the rows in flight, and still concerns them all."""
        async with at_work(rows=2) as (lane, hands):
            push(lane, "abcd")
            await turns()
            lane.truncate()
            push(lane, "x")
            await turns()
            await hands.release(0)
            before = hands.keys(hands.begun)
            await hands.release(1)
            assert (before, hands.keys(hands.begun)) == (["ab", "cd"], ["ab", "cd", "!x"])

    async def test_a_truncate_supersedes_what_is_not_begun(self) -> None:
        """Only what came after the truncate is left of its segment."""
        async with at_work(rows=9) as (lane, hands):
            push(lane, "ab")
            lane.truncate()
            push(lane, "c")
            await turns()
            assert hands.keys(hands.begun) == ["!c"]

    async def test_keys_that_have_several_texts_wait_for_all(self) -> None:
        """Where a key has several spellings, no two segments are in flight together."""
        async with at_work(canonical=False) as (lane, hands):
            push(lane, "ab")
            await turns()
            alone = hands.keys(hands.begun)
            await hands.release(0)
            assert (alone, hands.keys(hands.begun)) == (["a"], ["a", "b"])

    async def test_the_newest_action_on_a_key_is_the_only_one(self) -> None:
        """Within a segment the last action on a key counts."""
        async with at_work(rows=9) as (lane, hands):
            lane.push(("a",), Upsert({}, 0))
            lane.push(("a",), DELETE)
            await turns()
            assert [segment.actions for segment in hands.begun] == [{("a",): DELETE}]

    async def test_a_read_yields_to_what_the_stream_touched_since(self) -> None:
        """The backfill's row is older than the stream's; its other rows are appended."""
        async with at_work(rows=9) as (lane, hands):
            lane.begin_read()
            push(lane, "a")
            read = dict[Key, Action]({(key,): Upsert({}, 0) for key in "abc"})
            lane.append_read(read, Progress(phase="rows", last_key=("c",), rows=3))
            await turns()
            assert hands.keys(hands.begun) == ["a", "bc"]

    async def test_no_more_is_in_flight_than_allowed(self) -> None:
        """The next segment begins when the oldest is committed."""
        async with at_work(depth=2) as (lane, hands):
            push(lane, "abc")
            await turns()
            full = hands.keys(hands.begun)
            await hands.release(0)
            assert (full, hands.keys(hands.begun)) == (["a", "b"], ["a", "b", "c"])
