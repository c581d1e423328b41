"""Order by key, with segments that are prepared side by side and end in any order."""

import asyncio
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
    limits = Limits(rows=3, size=1_000_000, delay=0.0, depth=4, flight=1_000_000)
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
    limits = Limits(rows=1, size=1_000_000, delay=0.0, depth=4, flight=1_000_000)
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
