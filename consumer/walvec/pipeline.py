"""The stages, wired: stream -> decode -> plan -> evaluate -> chunk -> embed -> write -> confirm.

One `Pipeline` is one attachment to the slot, from the stream's start to its end. Every task of it lives in
one group, so that whatever fails ends all of it, and whoever runs it attaches anew.

    stream ─> decode ─> route ─> lane ─> prepare ─> commit ─> ledger ─> feedback ─> slot
                                  ^
                     backfill ────┘
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import NoReturn

import structlog

from walvec.attach import Attachment
from walvec.database.waiting import held_up
from walvec.embed.dispatch import Dispatcher
from walvec.failpoint import failpoint
from walvec.observe.logs import masked
from walvec.stages.backfill import Backfill
from walvec.stages.batch import Committed
from walvec.stages.chunk import InputHasher
from walvec.stages.commit import Committer
from walvec.stages.drain import drain
from walvec.stages.evaluate import SourceReader
from walvec.stages.landmark import Replay
from walvec.stages.lane import Lane
from walvec.stages.memory import ByteBudget
from walvec.stages.prepare import Preparer
from walvec.stages.route import NEVER, Router
from walvec.stages.segment import SegmentLimits
from walvec.stages.timing import Timing
from walvec.stages.visibility import Unseen
from walvec.stages.vitals import LastLook, Standing, Vitals
from walvec.stages.write import Writer
from walvec.watch import Watch
from walvec_slots.ack import Ledger
from walvec_slots.lsn import Lsn
from walvec_slots.protocol import Keepalive
from walvec_slots.stream import feedback

MAX_IN_FLIGHT = 32  # segments of one lane

_Tasks = list[asyncio.Task[None]]

_log = structlog.get_logger(__name__)


class _Finished(Exception):
    """All is done that was to be done: not an error, it ends the group of tasks."""


class Pipeline:
    """One attachment's stages, and the state that they share."""

    def __init__(
        self,
        attachment: Attachment,
        dispatcher: Dispatcher,
        *,
        once: bool,
        committed: Callable[[Committed], None],
        stop_at: Lsn | None = None,
        timing: Timing,
    ) -> None:
        """Wire the stages; nothing runs yet. With `once`, the end is what was committed before attaching.

        Or it is `stop_at`, a place between two records: nothing that commits later is applied, and backfills,
        which read rows as they are now, are left to another time.
        `committed` is told of every batch that the target has.
        """
        config, checkpoint, agreed = attachment.config, attachment.checkpoint, attachment.vectorizers
        self._attachment = attachment
        self._dispatcher = dispatcher
        self._timing = timing
        self._end = stop_at or (attachment.position if once else None)
        self._limits = _limits(attachment)
        self._ledger = Ledger(checkpoint.lsn, {name: state.applied for name, state in agreed.states.items()})
        self._budget = ByteBudget(config.pipeline.max_buffer_bytes // 4)
        unseen = Unseen(checkpoint.unseen_xids)
        images = SourceReader(attachment.images, unseen, warn_after=timing.warn_after)
        self._rows = SourceReader(attachment.rows, unseen, warn_after=timing.warn_after)
        self._lanes = {
            name: Lane(binding, self._ledger, self._budget, self._limits)
            for name, binding in agreed.bindings.items()
        }
        hasher = InputHasher(config.embedder.model, config.embedder.dimensions)
        self._preparers = {
            name: Preparer(
                lane.binding,
                images,
                agreed.tables[name],
                attachment.lookups,
                dispatcher,
                hasher,
                limit=lane.workspace.slice,
                lanes=len(self._lanes),
                keep_parked=config.pipeline.parked_vectors == "keep",
            )
            for name, lane in self._lanes.items()
        }
        self._router = Router(
            self._lanes.values(),
            self._ledger,
            unseen,
            Replay(config.source.slot, checkpoint.landmark, attachment.begin),
            horizons={name: state.horizon_lsn for name, state in agreed.states.items()},
            until=stop_at or NEVER,
        )
        self._writer = Writer(
            attachment.writer,
            config.source.slot,
            checkpoint.lsn,
            attachment.holder,
            {name: state.generation for name, state in agreed.states.items()},
            with_letters=agreed.with_letters,
            max_dead_letters=config.pipeline.max_dead_letters,
        )
        self._committer = Committer(
            self._writer,
            agreed.tables,
            self._ledger,
            self._router,
            unseen,
            images,
            end=self._end,
            committed=committed,
            waits_for=self._waits_for,
            timing=timing,
        )
        self._last_look = LastLook()
        self._watch = Watch(attachment, self._lanes, self._last_look, timing)
        self._backfills = {
            name: Backfill(
                lane,
                agreed.states[name],
                self._rows,
                agreed.tables[name],
                attachment.backfill,
                rows=self._limits.rows,
                size=self._limits.size,
            )
            for name, lane in self._lanes.items()
            if stop_at is None
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, or the end is reached where there is one.

        What is in flight then is finished and confirmed, within `Timing.drain_limit`. Raises what ended a
        stage, in an ExceptionGroup.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                reading, working = await self._start(tasks)
                await self._until_finished(stop)
                await self._stop_reading(reading)
                for lane in self._lanes.values():
                    lane.close()
                await drain(
                    tasks, working, self._attachment.stream, self._committer, self._waits_for, self._timing
                )
                _end_of_tasks()
        except* _Finished:
            pass

    def standing(self) -> Standing:
        """Return how far everything is."""
        behind = 0 if self._end is None else max(self._end - self._ledger.saved, 0)
        return Standing({name: each.standing() for name, each in self._backfills.items()}, behind)

    def vitals(self) -> Vitals:
        """Return how it does at this moment."""
        committer = self._committer
        return Vitals(
            received=max(committer.received_lsn, self._ledger.saved),
            saved=self._ledger.saved,
            confirmed=committer.confirmed,
            lag_seconds=self._router.lag_seconds(),
            stalled_for=committer.stalled_for,
            write_failure=committer.write_failure,
            buffered=self._budget.used + sum(lane.workspace.used for lane in self._lanes.values()),
            in_flight={name: lane.in_flight for name, lane in self._lanes.items()},
            queued={name: lane.queued for name, lane in self._lanes.items()},
            backfills={name: each.standing() for name, each in self._backfills.items()},
            paused=self._attachment.vectorizers.paused,
            slot=self._last_look.slot,
            dead_letters=self._last_look.dead_letters,
        )

    async def _start(self, tasks: asyncio.TaskGroup) -> tuple[_Tasks, _Tasks]:
        """Start every task; return those that bring work in, and those that work it off."""
        stream, committer = self._attachment.stream, self._committer

        reading = [
            tasks.create_task(self._read(), name="read"),
            tasks.create_task(self._watch.run(), name="watch"),
            tasks.create_task(committer.keep_idle_progress(), name="idle progress"),
        ]
        tasks.create_task(
            feedback(stream, committer.status, stream.status_interval, committer.poke, committer.told),
            name="feedback",
        )
        working = [
            tasks.create_task(lane.run(tasks, self._preparers[lane.name], committer.commit), name=lane.name)
            for lane in self._lanes.values()
        ]
        await self._watch.look_for_retries()
        for name, backfill in self._backfills.items():
            async with committer.writing:
                await backfill.begin(self._writer)
            reading.append(tasks.create_task(backfill.run(self._budget), name=f"{name}: backfill"))
        return reading, working

    async def _read(self) -> None:
        """Read, decode and plan, as long as there is room for what that brings."""
        stream, committer = self._attachment.stream, self._committer
        decode, route = self._attachment.decoder.decode, self._router.route
        while True:
            frames = await stream.read()
            if self._attachment.changes_lost.is_set():
                self._attachment.changes_lost.clear()
                await self._watch.changes_lost(committer.received_lsn)
            for frame in frames:
                if isinstance(frame, Keepalive):
                    committer.received(frame.wal_end)
                    self._router.keepalive(frame.wal_end)
                    if frame.reply_requested:
                        committer.poke.set()
                else:
                    committer.received(frame.end)
                    message = decode(frame.payload, frame.start)
                    failpoint("after-decode")
                    if message is not None:
                        route(message)
            await self._room()

    async def _room(self) -> None:
        """Wait for room; take it from a lane that does not move while others do."""
        while not self._budget.has_room:
            stuck = [lane for lane in self._lanes.values() if lane.stuck(self._timing.stuck_after)]
            if len(stuck) < len(self._lanes):
                for lane in stuck:
                    self._let_go(lane)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timing.look_interval):
                    await self._budget.room()

    def _let_go(self, lane: Lane) -> None:
        if not lane.behind:
            lane.let_go()
            _log.warning(
                "vectorizer holds up the others; its changes stay with the slot and are read again later",
                vectorizer=lane.name,
                applied=str(self._ledger.applied(lane.name)),
                hint="the slot keeps WAL back until it moves again",
            )

    async def _until_finished(self, stop: asyncio.Event) -> None:
        while not (stop.is_set() or self.is_at_end):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timing.look_interval):
                    await stop.wait()

    @property
    def is_at_end(self) -> bool:
        """Whether all before the end is embedded and saved, every backfill included."""
        if self._end is None or not all(backfill.finished for backfill in self._backfills.values()):
            return False
        if self._watch.retrying:
            return False
        return self._ledger.idle and self._ledger.saved >= self._end

    async def _stop_reading(self, reading: _Tasks) -> None:
        """Take nothing more in; not in the midst of a save, of which the slot would not be told."""
        saving = self._committer.writing
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timing.save_limit):
                await saving.acquire()
            saving.release()  # nothing else runs before the cancellation below
        for task in reading:
            task.cancel()

    def _waits_for(self, seconds: float = 0.0) -> str | None:
        """Say what has kept work in flight from getting done for so long; None where nothing is known to."""
        if reason := held_up.reason():
            return reason
        if failure := self._committer.write_failure:
            return f"the target does not take what is written: {failure}"
        failing = self._dispatcher.failure
        if failing is None or monotonic() - failing.since < seconds:
            return None
        advice = f" ({failing.hint})" if failing.hint else ""
        return masked(f"the embedding service fails: {failing.what}{advice}")


def _limits(attachment: Attachment) -> SegmentLimits:
    """Work out how much goes into a segment, and how many may be in flight to keep the service busy."""
    pipeline, embedder = attachment.config.pipeline, attachment.config.embedder
    texts = embedder.concurrency * embedder.max_batch_inputs
    lanes = max(1, len(attachment.vectorizers.bindings))
    return SegmentLimits(
        rows=pipeline.batch_rows,
        size=pipeline.max_buffer_bytes // 32,
        delay=pipeline.batch_delay,
        depth=min(2 + -(-texts // pipeline.batch_rows), MAX_IN_FLIGHT),
        # A quarter is for changes that arrive, of which a lane that is stuck leaves the others half.
        flight=pipeline.max_buffer_bytes // (8 * lanes),
        work=pipeline.max_buffer_bytes * 3 // (4 * lanes),
    )


def _end_of_tasks() -> NoReturn:
    """End the group of tasks from within: what is left of it is cancelled."""
    raise _Finished
