"""One vectorizer's way from actions to committed vectors, in order.

Actions arrive in WAL order and gather in segments. A segment is prepared (evaluated, chunked, embedded) while
earlier ones still are, and committed after them. The rules that keep the order by key:

- Within a segment the newest action on a key is the only one.
- A segment is not begun while an earlier one that shares a key with it, or a truncate, is in flight.
- What the backfill read enters at the lane's tail, less the keys that the stream touched since the read
began.

Pushing is synchronous, so whoever holds the event loop sees one order.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from sys import getsizeof
from time import monotonic
from typing import Protocol

from walvec.database.keys import Key
from walvec.errors import LaneBehind
from walvec.stages.actions import Action, Found, Upsert
from walvec.stages.memory import ByteBudget, Workspace
from walvec.stages.write import Batch, Progress
from walvec.vectorizer.binding import Binding
from walvec_slots.ack import Ledger, Span

_ACTION_BYTES = 600  # what an action takes besides its texts: dict entries, key, objects


class Batches(Protocol):
    """A segment's batches, one or several, in the order in which they are to be written."""

    async def next(self) -> Batch:
        """Prepare the next one."""
        ...


Claim = Callable[[int], Awaitable[None]]  # counts bytes as in use once there is room; below 0: as given back
Prepare = Callable[["Segment", Claim], Batches]
CommitBatch = Callable[["Lane", Batch], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """How a lane gathers its work."""

    rows: int  # at most so many in a segment
    size: int  # bytes after which a segment is full
    delay: float  # seconds to wait for more, for each segment in flight
    depth: int  # at most so many segments in flight
    flight: int  # bytes in flight from which no further segment begins
    work: int  # bytes that the segments in flight may take besides, for what their actions become


class Segment:
    """Actions that are worked off together, the newest one of each key.

    It grows at the tail of its lane until it is sealed: it is full, has begun, or something else follows it.
    """

    __slots__ = (
        "actions",
        "began",
        "committed",
        "progress",
        "sealed",
        "size",
        "span",
        "sweep",
        "truncate",
        "waited",
    )

    def __init__(self, span: Span) -> None:
        """Begin empty; `span` is its place in the ledger."""
        self.span = span
        self.began = monotonic()
        self.actions: dict[Key, Action] = {}
        self.truncate = False  # of all rows, before the actions
        self.sweep = False  # keys may be gone that no action names
        self.progress: Progress | None = None  # of the backfill that read the actions
        self.size = 0  # bytes, roughly
        self.sealed = False
        self.waited = False  # for more, long enough
        self.committed = asyncio.Event()

    def add(self, key: Key, action: Action) -> int:
        """Let an action supersede what was planned for its key; return the bytes it takes."""
        size = _ACTION_BYTES
        if isinstance(action, Upsert):
            size += action.size
        elif isinstance(action, Found):
            size += getsizeof(action.text)
        self.actions[key] = action
        self.size += size
        return size

    def clear(self) -> None:
        """Let a Truncate supersede all that was planned."""
        self.actions.clear()
        self.truncate = True


@dataclass(slots=True, eq=False)
class _Job:
    """A segment in flight, and its next batch."""

    segment: Segment
    batches: Batches
    batch: asyncio.Task[Batch]


class Lane:
    """The ordered work of one vectorizer."""

    def __init__(self, binding: Binding, ledger: Ledger, budget: ByteBudget, limits: SegmentLimits) -> None:
        """Make an empty lane; `ledger` and `budget` are shared with the other lanes."""
        self.binding = binding
        self.name = binding.name
        self._ledger = ledger
        self._budget = budget
        self._limits = limits
        self.workspace = Workspace(limits.work)
        self._queue: deque[Segment] = deque()
        self._flight: deque[_Job] = deque()
        self._owners: dict[Key, _Job] = {}  # the newest segment in flight that has an action on the key
        self._changed = asyncio.Event()
        self._touched: set[Key] | None = None
        self._truncated = False
        self._closing = False
        self._began = 0.0  # when the batch to be committed next became that
        self.behind = False  # it has let its changes go, and the stream's are of no use to it
        self.sweeps = 0  # how often the target's keys were to be looked up since the lane was made

    # -- In: from the stream and the backfill, synchronously

    def push(self, key: Key, action: Action) -> None:
        """Let an action of the stream join the tail."""
        if self.behind:
            return
        if self._touched is not None:
            self._touched.add(key)
        segment = self._tail()
        self._budget.take(segment.add(key, action))
        if len(segment.actions) >= self._limits.rows or segment.size >= self._limits.size:
            segment.sealed = True

    def truncate(self) -> None:
        """Let a Truncate supersede what is at the tail."""
        self._truncated = True
        if not self.behind:
            self._tail().clear()

    def sweep(self) -> None:
        """Let the target's keys be looked up in the source, from this point of the stream on."""
        if not self.behind:
            self._tail().sweep = True
            self.sweeps += 1
            self._changed.set()

    def watch(self) -> None:
        """Note from here on which keys the stream touches: a read of the source begins."""
        self._touched = set()
        self._truncated = False

    def place(self, actions: dict[Key, Action], progress: Progress) -> Segment | None:
        """Let what was read since `watch` join the tail, less what the stream has touched since.

        Returns its segment; None, with nothing placed, if a truncate came between: the read is to be taken
        again.
        """
        touched, self._touched = self._touched or set(), None
        if self._truncated or self.behind:
            return None
        if self._queue:
            self._queue[-1].sealed = True
        segment = self._tail()
        segment.progress = progress
        segment.sealed = True
        for key, action in actions.items():
            if key not in touched:
                self._budget.take(segment.add(key, action))
        return segment

    def let_go(self) -> None:
        """Give up what is not begun, for the others' sake: the slot keeps it, and sends it again.

        The lane's place in the ledger stays here. Once what is in flight is committed, `run` raises
        LaneBehind.
        """
        if not self._queue:
            return
        self.behind = True
        self._ledger.abandon_from(self.name, self._queue[0].span)
        self._budget.give(sum(segment.size for segment in self._queue))
        self._queue.clear()
        self._changed.set()

    def stuck(self, seconds: float) -> bool:
        """Whether nothing was committed for that long, though something is in flight."""
        return bool(self._flight) and monotonic() - self._began > seconds

    @property
    def in_flight(self) -> int:
        """How many segments are begun and not committed."""
        return len(self._flight)

    @property
    def queued(self) -> int:
        """How many segments wait to be begun."""
        return len(self._queue)

    @property
    def backfilling(self) -> int:
        """How many rows of a backfill are on their way, and not yet committed."""
        segments = [*self._queue, *(job.segment for job in self._flight)]
        return sum(segment.progress.rows for segment in segments if segment.progress)

    def _tail(self) -> Segment:
        """Return the segment that still grows, a new one where there is none."""
        if not self._queue or self._queue[-1].sealed:
            self._queue.append(Segment(self._ledger.open_span(self.name)))
            self._changed.set()
        return self._queue[-1]

    # -- Out: prepared side by side, committed in order

    async def run(self, tasks: asyncio.TaskGroup, prepare: Prepare, commit: CommitBatch) -> None:
        """Work off what arrives, for ever; or until nothing is in flight, once `close` was called.

        A failure of either callable ends the lane.
        """
        feed = tasks.create_task(self._feed(tasks, prepare), name=f"{self.name}: feed")
        try:
            while not (self._closing and not self._flight):
                if self._flight:
                    await self._finish(tasks, self._flight[0], commit)
                else:
                    await self._change()
        finally:
            feed.cancel()

    def close(self) -> None:
        """Begin nothing more. What is not begun stays with the slot."""
        self._closing = True
        self._changed.set()

    async def room(self) -> None:
        """Wait until at most one segment of the backfill's waits to be begun, so that it does not run ahead.

        The stream's are not counted: where it always has some waiting, the backfill would never get on.
        """
        while self.behind or sum(segment.progress is not None for segment in self._queue) > 1:
            await self._change()

    async def sweep_after(self, sweeps: int) -> None:
        """Wait until the target's keys are to be looked up for more than the given number of times."""
        while self.sweeps <= sweeps:
            await self._change()

    async def settled(self) -> None:
        """Wait until all that is in the lane now is committed."""
        newest = self._queue[-1] if self._queue else self._flight[-1].segment if self._flight else None
        if newest:
            await newest.committed.wait()

    async def _change(self) -> None:
        """Wait until something arrives, is committed or ends. To be asked in a loop, by any number."""
        self._changed.clear()
        await self._changed.wait()

    async def _feed(self, tasks: asyncio.TaskGroup, prepare: Prepare) -> None:
        while True:
            segment = await self._next()
            if self._closing:
                return
            self._queue.popleft()
            segment.sealed = True
            batches = prepare(segment, partial(self._claim, segment))
            job = _Job(segment, batches, self._begin(tasks, batches))
            self._flight.append(job)
            if len(self._flight) == 1:
                self._began = monotonic()
            self._owners.update(dict.fromkeys(segment.actions, job))
            self._changed.set()

    async def _next(self) -> Segment:
        """Return the oldest segment once it may begin."""
        while True:
            while not self._queue or self._flight_is_full():
                await self._change()
            segment = self._queue[0]
            if blocker := self._blocker(segment):
                await blocker.segment.committed.wait()
            elif segment.sealed or not self._flight or segment.waited:
                return segment
            else:
                segment.waited = True
                # The more there is in flight, the longer: a small batch costs nearly what a large one does.
                await asyncio.sleep(self._limits.delay * len(self._flight))

    def _flight_is_full(self) -> bool:
        """Whether to begin nothing: a lane that is stuck must leave room for what the others need."""
        size = sum(job.segment.size for job in self._flight)
        return len(self._flight) >= self._limits.depth or (size >= self._limits.flight and size > 0)

    def _blocker(self, segment: Segment) -> _Job | None:
        """Find the newest job in flight that has to be committed before the segment may begin."""
        if not self._flight:
            return None
        if segment.truncate or not self.binding.relation.key_is_canonical:
            return self._flight[-1]
        for job in reversed(self._flight):
            if job.segment.truncate:
                return job
        owners = self._owners.keys() & segment.actions.keys()
        return max((self._owners[key] for key in owners), key=self._flight.index, default=None)

    def _begin(self, tasks: asyncio.TaskGroup, batches: Batches) -> asyncio.Task[Batch]:
        return tasks.create_task(batches.next(), name=f"{self.name}: prepare")

    async def _claim(self, segment: Segment, size: int) -> None:
        if size > 0:
            await self.workspace.take(size, is_oldest=lambda: self._flight[0].segment is segment)
        else:
            self.workspace.give(-size)

    async def _finish(self, tasks: asyncio.TaskGroup, job: _Job, commit: CommitBatch) -> None:
        """Commit the oldest job, batch by batch, and make room."""
        is_last = False
        while not is_last:
            batch = await job.batch
            is_last = batch.is_last
            if not is_last:
                job.batch = self._begin(tasks, job.batches)
            await commit(self, batch)
            self.workspace.give(batch.weight)
            self._began = monotonic()
        self._flight.popleft()
        self.workspace.look_again()
        for key in job.segment.actions:
            if self._owners.get(key) is job:
                del self._owners[key]
        self._budget.give(job.segment.size)
        job.segment.committed.set()
        self._changed.set()
        if self.behind and not self._flight:
            raise LaneBehind(self.name)
