"""When the stream is read: only while there is room in memory."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from walvec.stages.intake import Intake
from walvec.stages.lane import Lane
from walvec.stages.memory import ByteBudget
from walvec.stages.timing import Timing
from walvec_slots.ack import Ledger
from walvec_slots.lsn import Lsn

LIMIT = 10  # bytes


class Stream:
    """A stream of which each read fills the memory."""

    def __init__(self, budget: ByteBudget) -> None:
        self.reads = 0
        self._budget = budget

    async def read(self) -> list[Any]:
        """Take all the room there is, in frames that say nothing."""
        await asyncio.sleep(0)
        self.reads += 1
        self._budget.take(LIMIT)
        return []


class HeldLane:
    """A lane that may be stuck, and whose queue is all that is in memory."""

    behind = False

    def __init__(self, name: str, budget: ByteBudget, *, stuck: bool) -> None:
        self.name = name
        self.stuck = stuck
        self._budget = budget

    def is_stuck(self, _: float) -> bool:
        """Say so."""
        return self.stuck

    def shed_queue(self) -> None:
        """Give the memory back."""
        self.behind = True
        self._budget.give(LIMIT)


def intake(stream: Stream, budget: ByteBudget, lanes: Sequence[HeldLane]) -> Intake:
    """Make what reads `stream`."""
    nobody = cast("Any", SimpleNamespace())

    async def compare() -> None:
        raise AssertionError

    return Intake(
        cast("Any", stream),
        nobody,
        nobody,
        nobody,
        cast("Sequence[Lane]", lanes),
        Ledger(Lsn(1), {lane.name: Lsn(1) for lane in lanes}),
        budget,
        Timing(look_interval=0.001),
        changes_lost=asyncio.Event(),
        compare=compare,
    )


async def reads_within(seconds: float, stream: Stream, reader: Intake) -> int:
    """Let it read for a while; return how often it did."""
    reading = asyncio.create_task(reader.run())
    await asyncio.wait([reading], timeout=seconds)
    reading.cancel()
    await asyncio.wait([reading])
    return stream.reads


async def test_nothing_is_read_while_there_is_no_room() -> None:
    """One read may fill the memory; the next one waits until some of it is given back."""
    budget = ByteBudget(LIMIT)
    stream = Stream(budget)
    assert await reads_within(0.05, stream, intake(stream, budget, [])) == 1
    budget.give(LIMIT)
    assert await reads_within(0.05, stream, intake(stream, budget, [])) == 2


async def test_a_lane_that_is_stuck_makes_room_for_one_that_moves() -> None:
    """Its queue is given up, once, and the stream is read on."""
    budget = ByteBudget(LIMIT)
    stream = Stream(budget)
    stuck, moving = HeldLane("blog", budget, stuck=True), HeldLane("page", budget, stuck=False)
    assert await reads_within(0.05, stream, intake(stream, budget, [stuck, moving])) == 2
    assert (stuck.behind, moving.behind) == (True, False)


async def test_no_lane_makes_room_where_all_are_stuck() -> None:
    """There is no lane to make room for, so what is queued stays."""
    budget = ByteBudget(LIMIT)
    stream = Stream(budget)
    lanes = [HeldLane("blog", budget, stuck=True), HeldLane("page", budget, stuck=True)]
    assert await reads_within(0.05, stream, intake(stream, budget, lanes)) == 1
    assert not any(lane.behind for lane in lanes)
