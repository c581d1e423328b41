"""What a step of a backfill may do, while the stream asks for something else."""

import asyncio
from types import SimpleNamespace
from typing import cast

from walvec.database.keys import Key
from walvec.database.registry import VectorizerState
from walvec.stages.actions import DELETE
from walvec.stages.backfill import Backfill
from walvec.stages.batch import Batch, PreparedBatch
from walvec.stages.evaluate import SourceReader
from walvec.stages.lane import Claim, Lane
from walvec.stages.memory import ByteBudget
from walvec.stages.segment import Segment, SegmentLimits
from walvec.stages.stopwatch import StageTimes
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.target import TargetTable
from walvec_slots.ack import Ledger
from walvec_slots.lsn import Lsn
from walvec_slots.settle import Connection

LIMITS = SegmentLimits(rows=10, size=1_000, delay=0.0, depth=4, flight=1_000, work=1_000)
KEYS: list[Key] = [(str(number),) for number in range(6)]


class Swept:
    """A target of six rows, none of which is in the source; the stream asks for a sweep during a read."""

    def __init__(self, lane: Lane, ledger: Ledger, *, asks_at: Key) -> None:
        self.asked: list[Key | None] = []
        self.deleted: list[Key] = []
        self._lane, self._ledger, self._asks_at = lane, ledger, asks_at

    async def keys_after(self, target: Connection, key: Key | None, *, rows: int) -> list[Key]:
        """Return the next keys."""
        self.asked.append(key)
        if key == self._asks_at and self.asked.count(key) == 1:
            self._lane.request_sweep()
        return [each for each in KEYS if key is None or each > key][:rows]

    async def keys_gone(self, binding: Binding, keys: list[Key]) -> list[Key]:
        """Return all of them: no row is left in the source."""
        return keys

    def prepare(self, segment: Segment, claim: Claim) -> "OneBatch":
        """Take a segment as it is."""
        assert set(segment.actions.values()) <= {DELETE}
        return OneBatch(Batch(gone=list(segment.actions), progress=segment.progress))

    async def commit(self, lane: Lane, prepared: PreparedBatch) -> None:
        """Note which rows go."""
        self.deleted += prepared.batch.gone
        self._ledger.finish(lane.name, 1)


class OneBatch:
    """A segment's only batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    async def next(self) -> PreparedBatch:
        """Return it."""
        return PreparedBatch(self._batch, StageTimes())


async def test_a_sweep_that_is_asked_for_during_a_read_begins_at_the_first_key() -> None:
    """What was being read is dropped: appended, it would take the sweep past those keys."""
    binding = SimpleNamespace(name="blog", relation=SimpleNamespace(key_is_canonical=True))
    ledger = Ledger(Lsn(1), {"blog": Lsn(1)})
    lane = Lane(cast("Binding", binding), ledger, ByteBudget(1_000_000), LIMITS)
    swept = Swept(lane, ledger, asks_at=("3",))
    state = SimpleNamespace(
        phase="sweep", resume_after=("1",), sweeps=True, rows_done=0, rows_estimated=0, generation=1
    )
    backfill = Backfill(
        lane,
        cast("VectorizerState", state),
        cast("SourceReader", swept),
        cast("TargetTable", swept),
        cast("Connection", None),
        rows=2,
        size=1_000,
    )
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(lane.run(tasks, swept.prepare, swept.commit)),
            tasks.create_task(backfill.run(ByteBudget(1_000_000))),
        ]
        while swept.asked.count(("3",)) < 2:  # noqa: ASYNC110  a read tells nobody
            await asyncio.sleep(0)
        for task in running:
            task.cancel()
    assert swept.asked == [("1",), ("3",), None, ("1",), ("3",)]
