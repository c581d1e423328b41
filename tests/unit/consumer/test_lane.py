"""Order by key, with segments that are prepared side by side and end in any order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.actions import DELETE, Action, Key, Upsert
from consumer.bind import Binding
from consumer.budget import Budget
from consumer.lane import Lane, Limits, Segment
from consumer.write import Batch, Progress
from slots.ack import Ledger
from slots.lsn import Lsn

STEPS = st.lists(st.sampled_from(["push", "delete", "truncate", "pause"]), min_size=1, max_size=60)


class Target:
    """Takes a lane's segments and sees to it that no two on one key are ever in flight together."""

    def __init__(self, ledger: Ledger, random: Random) -> None:
        self.rows: dict[Key, Action] = {}
        self._ledger = ledger
        self._random = random
        self._in_flight: list[Segment] = []
        self._prepared: dict[int, Segment] = {}

    async def prepare(self, segment: Segment) -> Batch:
        """Take any time."""
        for other in self._in_flight:
            assert not segment.actions.keys() & other.actions.keys()
            assert [segment.truncate, other.truncate] == [False, False]
        self._in_flight.append(segment)
        for _ in range(self._random.randrange(8)):
            await asyncio.sleep(0)
        batch = Batch(truncate=segment.truncate)
        self._prepared[id(batch)] = segment
        return batch

    async def commit(self, lane: Lane, batch: Batch) -> None:
        """Apply a segment."""
        await asyncio.sleep(0)
        self._ledger.finish(lane.name, 1)
        segment = self._prepared.pop(id(batch))
        if segment.truncate:
            self.rows.clear()
        self.rows |= segment.actions
        self._in_flight.remove(segment)


async def work_off(steps: list[str], seed: int, *, canonical: bool) -> tuple[dict[Key, Any], dict[Key, Any]]:
    """Push actions on few keys; return what the target has, and what it must have."""
    random = Random(seed)
    relation = SimpleNamespace(key_is_canonical=canonical)
    binding = cast("Binding", SimpleNamespace(name="blog", relation=relation))
    limits = Limits(rows=3, size=1_000_000, delay=0.0, depth=4, flight=1_000_000, work=1_000_000)
    ledger = Ledger(Lsn(1), {"blog": Lsn(1)})
    lane = Lane(binding, ledger, Budget(1_000_000), limits)
    target, expected = Target(ledger, random), dict[Key, Action]()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lane.run(tasks, target.prepare, target.commit))
        for number, step in enumerate(steps):
            key = (str(random.randrange(6)),)
            match step:
                case "push":
                    expected[key] = Upsert({"number": number}, 0)
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
    return target.rows, expected


@settings(deadline=None)
@given(STEPS, st.integers(0, 1000), st.booleans())
def test_no_two_actions_on_one_key_are_in_flight_together(
    steps: list[str],
    seed: int,
    canonical: bool,  # noqa: FBT001
) -> None:
    """And the last one in the stream's order is the one that stays."""
    found, expected = asyncio.run(work_off(steps, seed, canonical=canonical))
    assert found == expected


async def test_backfill_has_room_behind_a_stream_that_never_ends() -> None:
    """Only its own segments are counted: two that wait are enough, however many of the stream's do."""
    binding = cast("Binding", SimpleNamespace(name="blog"))
    limits = Limits(rows=1, size=1_000_000, delay=0.0, depth=4, flight=1_000_000, work=1_000_000)
    lane = Lane(binding, Ledger(Lsn(1), {"blog": Lsn(1)}), Budget(1_000_000), limits)
    for number in range(9):
        lane.push((str(number),), DELETE)
    for _ in range(2):
        await asyncio.wait_for(lane.room(), 5)
        lane.watch()
        lane.place({}, Progress(phase="rows", last_key=None, rows=0))
    full = asyncio.create_task(lane.room())
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

    async def prepare(self, segment: Segment) -> Batch:
        """Wait until the segment is released."""
        self.begun.append(segment)
        self._released[segment] = asyncio.Event()
        await self._released[segment].wait()
        batch = Batch(truncate=segment.truncate)
        self._prepared[id(batch)] = segment
        return batch

    async def commit(self, lane: Lane, batch: Batch) -> None:
        """Note the order."""
        self._ledger.finish(lane.name, 1)
        self.committed.append(self._prepared.pop(id(batch)))

    async def release(self, number: int) -> None:
        """Let a segment be ready, by the order in which they were begun; see what comes of it."""
        self._released[self.begun[number]].set()
        await turns()

    def keys(self, segments: list[Segment]) -> list[str]:
        """The keys of segments, each as one word; a truncate as an exclamation mark before them."""
        return ["!" * segment.truncate + "".join(key for (key,) in segment.actions) for segment in segments]


async def turns() -> None:
    """Let everything happen that waits for nothing."""
    for _ in range(50):
        await asyncio.sleep(0)


@asynccontextmanager
async def at_work(
    *, canonical: bool = True, rows: int = 1, depth: int = 9
) -> AsyncIterator[tuple[Lane, Hands]]:
    """Give a lane at work whose segments are full with `rows`, and whoever holds what it begins."""
    binding = SimpleNamespace(name="blog", relation=SimpleNamespace(key_is_canonical=canonical))
    ledger = Ledger(Lsn(1), {"blog": Lsn(1)})
    limits = Limits(rows=rows, size=1_000_000, delay=0.0, depth=depth, flight=1_000_000)
    lane = Lane(cast("Binding", binding), ledger, Budget(1_000_000), limits)
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
    """The rules one by one, on the fewest segments that show them."""

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
        """Its own keys are others, and it still concerns every row in flight."""
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
        """Only what came behind it is left of its segment."""
        async with at_work(rows=9) as (lane, hands):
            push(lane, "ab")
            lane.truncate()
            push(lane, "c")
            await turns()
            assert hands.keys(hands.begun) == ["!c"]

    async def test_keys_that_have_several_texts_wait_for_all(self) -> None:
        """Where one key may be written in several ways, no two segments are ever in flight together."""
        async with at_work(canonical=False) as (lane, hands):
            push(lane, "ab")
            await turns()
            alone = hands.keys(hands.begun)
            await hands.release(0)
            assert (alone, hands.keys(hands.begun)) == (["a"], ["a", "b"])

    async def test_the_newest_action_on_a_key_is_the_only_one(self) -> None:
        """Within a segment the last word counts."""
        async with at_work(rows=9) as (lane, hands):
            lane.push(("a",), Upsert({}, 0))
            lane.push(("a",), DELETE)
            await turns()
            assert [segment.actions for segment in hands.begun] == [{("a",): DELETE}]

    async def test_a_read_yields_to_what_the_stream_touched_since(self) -> None:
        """The backfill's row is older than the stream's; the others of its read are placed."""
        async with at_work(rows=9) as (lane, hands):
            lane.watch()
            push(lane, "a")
            read = dict[Key, Action]({(key,): Upsert({}, 0) for key in "abc"})
            lane.place(read, Progress(phase="rows", last_key=("c",), rows=3))
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
