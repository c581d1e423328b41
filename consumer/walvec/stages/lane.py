"""One vectorizer's way from actions to committed vectors, in order.

Actions arrive in WAL order and gather in segments. A segment is prepared (evaluated, chunked, embedded) and
written while earlier ones still are, and committed after them. These rules keep the order by key:

1. Within a segment the newest action on a key is the only one.
2. A segment is not begun while an earlier one that shares a key with it, or a truncate, is in flight.
3. What the backfill read is appended at the lane's tail, without the keys that the stream has touched since
   the read began.

Pushing is synchronous, so everything on the event loop sees one order.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Protocol

from walvec.database.keys import Key
from walvec.errors import LaneBehind
from walvec.stages.actions import Action
from walvec.stages.batch import PreparedBatch, Progress
from walvec.stages.memory import ByteBudget, Workspace
from walvec.stages.segment import Segment, SegmentLimits
from walvec.vectorizer.binding import Binding
from walvec_slots.ack import Ledger


class Batches(Protocol):
    """A segment's batches, one or several, in the order in which they are written."""

    async def next(self) -> PreparedBatch:
        """Prepare the next one."""
        ...


# Counts bytes as in use once there is room for them; a negative number gives bytes back.
Claim = Callable[[int], Awaitable[None]]

Prepare = Callable[[Segment, Claim], Batches]

# Returns when it is a batch's turn to commit.
Wait = Callable[[], Awaitable[None]]

CommitBatch = Callable[["Lane", PreparedBatch, Wait], Awaitable[None]]


class _Job:
    """A segment in flight, and the task that prepares its next batch."""

    def __init__(self, segment: Segment, batches: Batches, tasks: asyncio.TaskGroup, name: str) -> None:
        self.segment = segment

        # Whether its last batch is being written, so that the next segment may be.
        self.writes_last = asyncio.Event()

        self._batches = batches
        self._tasks = tasks
        self._name = name
        self._batch = self._begin_next()

    async def next(self) -> PreparedBatch:
        """Return the next batch; the one after it is prepared while this one is written."""
        prepared = await self._batch
        if not prepared.batch.is_last:
            self._batch = self._begin_next()
        return prepared

    def _begin_next(self) -> asyncio.Task[PreparedBatch]:
        return self._tasks.create_task(self._batches.next(), name=self._name)


class Lane:
    """The ordered work of one vectorizer."""

    def __init__(self, binding: Binding, ledger: Ledger, budget: ByteBudget, limits: SegmentLimits) -> None:
        """Make an empty lane; `ledger` and `budget` are shared with the other lanes."""
        self.binding = binding
        self.name = binding.name
        self.workspace = Workspace(limits.work)

        # Whether it has let its changes go, so that those of the stream are of no use to it.
        self.behind = False

        # How often a sweep of the target's keys was requested since the lane was made.
        self.sweeps = 0

        self._ledger = ledger
        self._budget = budget
        self._limits = limits
        self._queue: deque[Segment] = deque()
        self._flight: deque[_Job] = deque()

        # For each key in flight, the newest job that has an action on it.
        self._owners: dict[Key, _Job] = {}

        self._changed = asyncio.Event()

        # Keys that the stream has touched since a read began; None while there is no read.
        self._touched: set[Key] | None = None

        # Whether the stream has truncated the table since that read began.
        self._truncated = False

        self._closing = False

        # When the batch that is committed next became the next one.
        self._next_since = 0.0

    # -- In: from the stream and the backfill, synchronously

    def push(self, key: Key, action: Action) -> None:
        """Append an action of the stream."""
        if self.behind:
            return
        if self._touched is not None:
            self._touched.add(key)
        segment = self._open_tail()
        self._budget.take(segment.add(key, action))
        segment.seal_if_full(self._limits)

    def truncate(self) -> None:
        """Let a truncate supersede what is at the tail."""
        self._truncated = True
        if not self.behind:
            self._open_tail().clear()

    def request_sweep(self) -> None:
        """Have the target's keys looked up, from this point of the stream on."""
        if not self.behind:
            self._open_tail().ask_for_sweep()
            self.sweeps += 1
            self._changed.set()

    def begin_read(self) -> None:
        """Note from here on which keys the stream touches: a read of the source begins."""
        self._touched = set()
        self._truncated = False

    def append_read(self, actions: dict[Key, Action], progress: Progress) -> Segment | None:
        """Append what was read since `begin_read`, as a segment, which is returned.

        Keys that the stream has touched since are left out. Where a truncate came between, nothing is
        appended and None returned: the read has to be repeated.
        """
        touched, self._touched = self._touched or set(), None
        if self._truncated or self.behind:
            return None
        if self._queue:
            self._queue[-1].seal()
        segment = self._open_segment(progress)
        segment.seal()
        for key, action in actions.items():
            if key not in touched:
                self._budget.take(segment.add(key, action))
        return segment

    def shed_queue(self) -> None:
        """Drop what has not begun, so that the others get room; the slot sends it again.

        The lane's place in the ledger stays where it is. Once what is in flight is committed, `run` raises
        LaneBehind.
        """
        if not self._queue:
            return
        self.behind = True
        self._ledger.abandon_from(self.name, self._queue[0].span)
        self._budget.give(sum(segment.size for segment in self._queue))
        self._queue.clear()
        self._changed.set()

    # -- How it is doing

    def is_stuck(self, seconds: float) -> bool:
        """Whether nothing was committed for that long, though something is in flight."""
        return bool(self._flight) and monotonic() - self._next_since > seconds

    @property
    def in_flight(self) -> int:
        """How many segments have begun and are not committed."""
        return len(self._flight)

    @property
    def queued(self) -> int:
        """How many segments have not begun."""
        return len(self._queue)

    @property
    def backfilling(self) -> int:
        """How many rows of a backfill are on their way and not committed yet."""
        segments = [*self._queue, *(job.segment for job in self._flight)]
        return sum(segment.progress.rows for segment in segments if segment.progress)

    async def wait_for_room(self) -> None:
        """Wait until at most one segment of the backfill has not begun.

        So the backfill does not run ahead. The stream's segments are not counted: where some are always
        waiting, the backfill would never get on.
        """
        while self.behind or sum(segment.progress is not None for segment in self._queue) > 1:
            await self._wait_for_change()

    async def wait_for_sweep(self, known: int) -> None:
        """Wait until more sweeps were requested than the `known` ones."""
        while self.sweeps <= known:
            await self._wait_for_change()

    async def wait_until_settled(self) -> None:
        """Wait until all that is in the lane now is committed."""
        newest = self._queue[-1] if self._queue else self._flight[-1].segment if self._flight else None
        if newest:
            await newest.committed.wait()

    # -- Out: prepared side by side, committed in order

    async def run(self, tasks: asyncio.TaskGroup, prepare: Prepare, commit: CommitBatch) -> None:
        """Work off what arrives, and end once `close` was called and nothing is in flight.

        A failure of either callable ends `tasks`. Raises LaneBehind once nothing is in flight after
        `shed_queue`.
        """
        feed = tasks.create_task(self._feed_flight(tasks, prepare, commit), name=f"{self.name}: feed")
        try:
            while self._flight or not self._closing:
                if self.behind and not self._flight:
                    raise LaneBehind(self.name)
                await self._wait_for_change()
        finally:
            feed.cancel()

    def close(self) -> None:
        """Begin nothing more. What has not begun stays with the slot."""
        self._closing = True
        self._changed.set()

    def _open_tail(self) -> Segment:
        """Return the segment that still grows, a new one where there is none."""
        return self._open_segment() if not self._queue or self._queue[-1].sealed else self._queue[-1]

    def _open_segment(self, progress: Progress | None = None) -> Segment:
        """Append an empty segment and return it."""
        self._queue.append(Segment(self._ledger.open_span(self.name), progress))
        self._changed.set()
        return self._queue[-1]

    async def _wait_for_change(self) -> None:
        """Wait until something arrives, is committed or ends.

        Any number of tasks may wait; each looks in a loop whether it was its own change.
        """
        self._changed.clear()
        await self._changed.wait()

    async def _feed_flight(self, tasks: asyncio.TaskGroup, prepare: Prepare, commit: CommitBatch) -> None:
        """Begin one segment after the other, each as soon as the rules allow."""
        while True:
            segment = await self._next_segment()
            if self._closing:
                return
            self._queue.popleft()
            segment.seal()
            batches = prepare(segment, partial(self._claim, segment))
            job = _Job(segment, batches, tasks, f"{self.name}: prepare")
            before = self._flight[-1] if self._flight else None
            self._flight.append(job)
            tasks.create_task(self._finish_job(job, before, commit), name=f"{self.name}: write")
            if len(self._flight) == 1:
                self._next_since = monotonic()
            self._owners.update(dict.fromkeys(segment.actions, job))
            self._changed.set()

    async def _next_segment(self) -> Segment:
        """Return the oldest segment that has not begun, once it may."""
        while True:
            while not self._queue or self._flight_is_full():
                await self._wait_for_change()
            segment = self._queue[0]
            if blocker := self._find_blocker(segment):
                await blocker.segment.committed.wait()
            elif segment.sealed or not self._flight or segment.waited:
                return segment
            else:
                segment.stop_waiting()
                # The more there is in flight, the longer: a small batch costs nearly what a large one does.
                await asyncio.sleep(self._limits.delay * len(self._flight))

    def _flight_is_full(self) -> bool:
        """Whether to begin nothing: a lane that is stuck must leave room for the others."""
        size = sum(job.segment.size for job in self._flight)
        return len(self._flight) >= self._limits.depth or (size >= self._limits.flight and size > 0)

    def _find_blocker(self, segment: Segment) -> _Job | None:
        """Find the newest job that has to be committed before the segment may begin."""
        if not self._flight:
            return None
        if segment.truncate or not self.binding.relation.key_is_canonical:
            return self._flight[-1]
        for job in reversed(self._flight):
            if job.segment.truncate:
                return job
        owners = self._owners.keys() & segment.actions.keys()
        return max((self._owners[key] for key in owners), key=self._flight.index, default=None)

    async def _claim(self, segment: Segment, size: int) -> None:
        if size > 0:
            await self.workspace.take(size, is_oldest=lambda: self._flight[0].segment is segment)
        else:
            self.workspace.give(-size)

    async def _finish_job(self, job: _Job, before: _Job | None, commit: CommitBatch) -> None:
        """Write a job, commit it after the one before it, and make room.

        It is written only while all before it are being written: so no transaction stays open for the sake of
        a segment that is still being embedded, and the sessions are asked for in the order of the commits.
        """
        is_last = False
        while not is_last:
            prepared = await job.next()
            is_last = prepared.batch.is_last
            if before:
                await before.writes_last.wait()
            if is_last:
                job.writes_last.set()
            await commit(self, prepared, partial(self._wait_for_turn, job))
            self.workspace.give(prepared.batch.weight)
            self._next_since = monotonic()
        self._flight.popleft()
        self.workspace.look_again()
        for key in job.segment.actions:
            if self._owners.get(key) is job:
                del self._owners[key]
        self._budget.give(job.segment.size)
        job.segment.committed.set()
        self._changed.set()

    async def _wait_for_turn(self, job: _Job) -> None:
        """Wait until every earlier job is committed."""
        while self._flight[0] is not job:
            await self._wait_for_change()
