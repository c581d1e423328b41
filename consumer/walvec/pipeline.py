"""The stages, wired: what one attachment does with the stream.

    stream ─> decode ─> route ─> lane ─> prepare ─> commit ─> confirm ─> feedback ─> slot
                                  ^
                     backfill ────┘

One `Pipeline` is one attachment to the slot, from the stream's start to its end. All of its tasks live in one
group, so that whatever fails ends all of them. `supervise` then attaches again.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from walvec.attach import Attachment
from walvec.embed.dispatch import Dispatcher
from walvec.observe.logs import masked
from walvec.stages.backfill import Backfill
from walvec.stages.batch import Committed
from walvec.stages.chunk import InputHasher
from walvec.stages.commit import Committer
from walvec.stages.confirm import Confirmation
from walvec.stages.drain import drain
from walvec.stages.evaluate import SourceReader
from walvec.stages.intake import Intake
from walvec.stages.landmark import Replay
from walvec.stages.lane import Lane
from walvec.stages.memory import ByteBudget
from walvec.stages.obstacles import Obstacles
from walvec.stages.prepare import Preparer
from walvec.stages.route import NEVER, Router
from walvec.stages.segment import SegmentLimits, share_limits
from walvec.stages.timing import Timing
from walvec.stages.visibility import Unseen
from walvec.stages.vitals import Standing, Vitals
from walvec.stages.write import Writer
from walvec.watch import Watch
from walvec_slots.ack import Ledger
from walvec_slots.lsn import Lsn
from walvec_slots.stream import feedback

_Tasks = list[asyncio.Task[None]]


class _Finished(Exception):
    """Everything is done. It ends the group of tasks, and is not an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pipeline:
    """One attachment's stages; `wire` makes it."""

    attachment: Attachment
    intake: Intake
    router: Router
    lanes: dict[str, Lane]
    preparers: dict[str, Preparer]
    backfills: dict[str, Backfill]
    writer: Writer
    committer: Committer
    confirmation: Confirmation
    watch: Watch

    # What the stages share.
    ledger: Ledger
    budget: ByteBudget
    obstacles: Obstacles
    timing: Timing

    # The place in the WAL at which the work ends; None: it goes on.
    end: Lsn | None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, or the end is reached where there is one.

        What is in flight then is finished and confirmed, within `Timing.drain_limit`. Raises what ended a
        stage, in an ExceptionGroup.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                reading, working = await self._start(tasks)
                await self._wait_for_end(stop)
                await self._stop_reading(reading)
                for lane in self.lanes.values():
                    lane.close()
                stream, waits_for = self.attachment.sessions.stream, self.obstacles.reason
                await drain(tasks, working, stream, self.confirmation, waits_for, self.timing)
                _end_tasks()
        except* _Finished:
            pass

    @property
    def is_at_end(self) -> bool:
        """Whether all before the end is embedded and saved, every backfill included."""
        if self.end is None or not all(backfill.finished for backfill in self.backfills.values()):
            return False
        if self.watch.retrying:
            return False
        return self.ledger.idle and self.ledger.saved >= self.end

    def standing(self) -> Standing:
        """Return how far everything is."""
        behind = 0 if self.end is None else max(self.end - self.ledger.saved, 0)
        return Standing({name: backfill.standing() for name, backfill in self.backfills.items()}, behind)

    def vitals(self) -> Vitals:
        """Return how the attachment is doing."""
        last_look = self.watch.last_look
        return Vitals(
            received=max(self.confirmation.received, self.ledger.saved),
            saved=self.ledger.saved,
            confirmed=self.confirmation.confirmed,
            lag_seconds=self.router.lag_seconds(),
            stalled_for=self.confirmation.stalled_for,
            write_failure=self.obstacles.write_failure,
            buffered=self.budget.used + sum(lane.workspace.used for lane in self.lanes.values()),
            in_flight={name: lane.in_flight for name, lane in self.lanes.items()},
            queued={name: lane.queued for name, lane in self.lanes.items()},
            backfills={name: backfill.standing() for name, backfill in self.backfills.items()},
            paused=self.attachment.vectorizers.paused,
            slot=last_look.slot,
            dead_letters=last_look.dead_letters,
        )

    async def _start(self, tasks: asyncio.TaskGroup) -> tuple[_Tasks, _Tasks]:
        """Start every task; return those that bring work in, and those that work it off."""
        stream, confirmation = self.attachment.sessions.stream, self.confirmation
        reading = [
            tasks.create_task(self.intake.run(), name="read"),
            tasks.create_task(self.watch.run(), name="watch"),
            tasks.create_task(confirmation.keep_idle_progress(), name="idle progress"),
            tasks.create_task(self.attachment.sessions.writers.close_idle(), name="idle sessions"),
        ]
        telling = feedback(
            stream, confirmation.status, stream.status_interval, confirmation.poke, confirmation.status_sent
        )
        tasks.create_task(telling, name="feedback")
        working = [
            tasks.create_task(
                lane.run(tasks, self.preparers[name].begin, self.committer.commit), name=lane.name
            )
            for name, lane in self.lanes.items()
        ]
        await self.watch.look_for_retries()
        for name, backfill in self.backfills.items():
            await backfill.begin(self.writer)
            reading.append(tasks.create_task(backfill.run(self.budget), name=f"{name}: backfill"))
        return reading, working

    async def _wait_for_end(self, stop: asyncio.Event) -> None:
        while not (stop.is_set() or self.is_at_end):
            with suppress(TimeoutError):
                async with asyncio.timeout(self.timing.look_interval):
                    await stop.wait()

    async def _stop_reading(self, reading: _Tasks) -> None:
        """Take nothing more in, and not in the middle of a save.

        The slot would not be told of that one.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self.timing.save_limit):
                await self.writer.turn.acquire()
            # Nothing else runs before the cancellation below.
            self.writer.turn.release()
        for task in reading:
            task.cancel()


def wire(
    attachment: Attachment,
    dispatcher: Dispatcher,
    *,
    once: bool,
    committed: Callable[[Committed], None],
    stop_at: Lsn | None,
    timing: Timing,
) -> Pipeline:
    """Make the stages and join them; nothing runs yet.

    With `once`, the end is what was committed before attaching. Or it is `stop_at`, a place between two
    records: nothing that commits later is applied, and there are no backfills, which read rows as they are
    now. `committed` is called with every batch that the target has.
    """
    config, sessions = attachment.config, attachment.sessions
    checkpoint, admitted = attachment.checkpoint, attachment.vectorizers
    end = stop_at or (attachment.position if once else None)

    ledger = Ledger(checkpoint.lsn, {name: state.applied for name, state in admitted.states.items()})
    budget = ByteBudget(config.pipeline.max_buffer_bytes // 4)
    unseen = Unseen(checkpoint.unseen_xids)
    obstacles = Obstacles(dispatcher, masked)
    images = SourceReader(sessions.images, unseen, warn_after=timing.warn_after)
    rows = SourceReader(sessions.rows, unseen, warn_after=timing.warn_after)

    limits = share_limits(config.pipeline, config.embedder, len(admitted.bindings))
    lanes = {name: Lane(binding, ledger, budget, limits) for name, binding in admitted.bindings.items()}
    router = Router(
        lanes.values(),
        ledger,
        unseen,
        Replay(config.source.slot, checkpoint.landmark, attachment.begin),
        horizons={name: state.horizon_lsn for name, state in admitted.states.items()},
        until=stop_at or NEVER,
    )
    writer = Writer(
        sessions.writer,
        config.source.slot,
        checkpoint.lsn,
        attachment.holder,
        {name: state.generation for name, state in admitted.states.items()},
        with_letters=admitted.with_letters,
        max_dead_letters=config.pipeline.max_dead_letters,
    )
    confirmation = Confirmation(writer, ledger, router, unseen, images, obstacles, end=end, timing=timing)
    committer = Committer(
        writer,
        sessions.writers,
        admitted.tables,
        ledger,
        router.landmarks,
        unseen,
        images,
        confirmation,
        obstacles,
        committed=committed,
    )
    watch = Watch(attachment, lanes, timing)
    intake = Intake(
        sessions.stream,
        attachment.decoder,
        router,
        confirmation,
        lanes.values(),
        ledger,
        budget,
        timing,
        changes_lost=sessions.changes_lost,
        compare=lambda: watch.compare_after_loss(confirmation.received),
    )
    return Pipeline(
        attachment=attachment,
        intake=intake,
        router=router,
        lanes=lanes,
        preparers=_preparers(attachment, lanes, images, dispatcher),
        backfills={} if stop_at else _backfills(attachment, lanes, rows, limits),
        writer=writer,
        committer=committer,
        confirmation=confirmation,
        watch=watch,
        ledger=ledger,
        budget=budget,
        obstacles=obstacles,
        timing=timing,
        end=end,
    )


def _preparers(
    attachment: Attachment, lanes: dict[str, Lane], images: SourceReader, dispatcher: Dispatcher
) -> dict[str, Preparer]:
    config = attachment.config
    hasher = InputHasher(config.embedder.model, config.embedder.dimensions)
    return {
        name: Preparer(
            lane.binding,
            images,
            attachment.vectorizers.tables[name],
            attachment.sessions.lookups,
            dispatcher,
            hasher,
            limit=lane.workspace.slice,
            lanes=len(lanes),
            keep_parked=config.pipeline.parked_vectors == "keep",
        )
        for name, lane in lanes.items()
    }


def _backfills(
    attachment: Attachment, lanes: dict[str, Lane], rows: SourceReader, limits: SegmentLimits
) -> dict[str, Backfill]:
    admitted = attachment.vectorizers
    return {
        name: Backfill(
            lane,
            admitted.states[name],
            rows,
            admitted.tables[name],
            attachment.sessions.backfill,
            rows=limits.rows,
            size=limits.size,
        )
        for name, lane in lanes.items()
    }


def _end_tasks() -> NoReturn:
    """End the group of tasks from within: what is left of it is cancelled."""
    raise _Finished
