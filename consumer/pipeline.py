"""The stages, wired: stream -> decode -> plan -> evaluate -> chunk -> embed -> write -> confirm.

One `Pipeline` is one attachment to the slot, from the stream's start to its end; every task of it lives in
one group, so that whatever fails ends all of it, and whoever runs it attaches anew.

    read ──> route ──> lane ──> prepare ──> commit ──> ledger ──> feedback
                        ^                                 ^
    backfill ───────────┘                    idle progress┘
"""

import asyncio
from contextlib import suppress
from time import monotonic
from typing import NoReturn

import structlog

from consumer import metadata
from consumer.attach import Attachment
from consumer.backfill import Backfill
from consumer.bind import bind
from consumer.budget import Budget
from consumer.chunk import InputHasher
from consumer.config import fingerprint
from consumer.embed.dispatch import Dispatcher
from consumer.errors import BackfillRestarted, CatalogChanged
from consumer.evaluate import Source
from consumer.failpoint import failpoint
from consumer.lane import Lane, Limits
from consumer.prepare import Preparer
from consumer.route import Router
from consumer.visibility import Unseen
from consumer.write import Batch, Position, Writer
from slots.ack import Ledger
from slots.lsn import Lsn
from slots.protocol import Keepalive, StandbyStatus
from slots.stream import feedback
from slots.wal2json import Decoder

IDLE_INTERVAL = 10.0  # seconds at least between two checkpoints that no action came with
IDLE_BYTES = 65_536  # of WAL without a transaction, from which it is worth a checkpoint
LOOK_INTERVAL = 0.1  # seconds between two looks at what is idle, done or seen
WATCH_INTERVAL = 2.0  # seconds between two looks at the catalog and at what commands have asked for
UNSEEN_LIMIT = (
    64  # decoded transactions remembered as unseen, above which a snapshot is taken before a commit
)
DRAIN_LIMIT = 30.0  # seconds that what is in flight may take to finish when told to stop

_log = structlog.get_logger(__name__)


class _Finished(Exception):
    """All is done that was to be done: not an error, it ends the group of tasks."""


class Pipeline:
    """One attachment's stages and the state that they share."""

    def __init__(self, attachment: Attachment, dispatcher: Dispatcher, *, once: bool) -> None:
        """Wire the stages; nothing runs yet. With `once`, the end is what was committed before the
        attachment.
        """
        config, checkpoint = attachment.config, attachment.checkpoint
        self._end = attachment.position if once else None
        self._attachment = attachment
        self._slot = config.source.slot
        self._ledger = Ledger(
            checkpoint.lsn, {name: state.applied for name, state in attachment.states.items()}
        )
        self._unseen = Unseen(checkpoint.unseen_xids)
        self._budget = Budget(config.pipeline.max_buffer_bytes)
        self._images = Source(attachment.images, self._unseen)
        self._rows = Source(attachment.rows, self._unseen)
        self._writer = Writer(attachment.writer, self._slot, checkpoint.lsn)
        self._writing = asyncio.Lock()
        self._poke = asyncio.Event()
        self._received = checkpoint.lsn
        self._saved_at = monotonic()
        self._generations = {name: state.generation for name, state in attachment.states.items()}
        hasher = InputHasher(config.embedder.model, config.embedder.dimensions)
        limits = _limits(attachment)
        self._lanes = {
            name: Lane(binding, self._ledger, self._budget, limits)
            for name, binding in attachment.bindings.items()
        }
        self._preparers = {
            name: Preparer(
                binding, self._images, attachment.tables[name], attachment.lookups, dispatcher, hasher
            )
            for name, binding in attachment.bindings.items()
        }
        self._backfills = {name: self._backfill(name, state) for name, state in attachment.states.items()}
        self._backfilling: dict[str, asyncio.Task[None]] = {}
        self._router = Router(self._lanes.values(), self._ledger, self._unseen)
        self._decoder = Decoder(
            {
                table
                for binding in attachment.bindings.values()
                if binding.needs_exact_numbers
                for table in binding.tables
            }
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, or the end is reached where there is one.

        What is in flight then is finished and confirmed, within DRAIN_LIMIT seconds. Raises what ended a
        stage, in an ExceptionGroup.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = [
                    tasks.create_task(self._read(), name="read"),
                    tasks.create_task(self._watch(tasks), name="watch"),
                    tasks.create_task(self._keep_idle_progress(), name="idle progress"),
                ]
                stream = self._attachment.stream
                tasks.create_task(
                    feedback(stream, self._status, stream.status_interval, self._poke, self._confirmed),
                    name="feedback",
                )
                working = [
                    tasks.create_task(
                        lane.run(tasks, self._preparers[lane.name], self._commit), name=lane.name
                    )
                    for lane in self._lanes.values()
                ]
                for name in self._backfills:
                    await self._start_backfill(name, tasks)
                await self._until_finished(stop)
                for task in [*reading, *self._backfilling.values()]:
                    task.cancel()
                await self._drain(working)
                _end_of_tasks()
        except* _Finished:
            pass

    # -- In --------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read, decode and plan, as long as there is room for what that brings."""
        stream, decode, route = self._attachment.stream, self._decoder.decode, self._router.route
        while True:
            for frame in await stream.read():
                if isinstance(frame, Keepalive):
                    self._received = max(self._received, frame.wal_end)
                    self._router.keepalive(frame.wal_end)
                    if frame.reply_requested:
                        self._poke.set()
                else:
                    self._received = max(self._received, frame.end)
                    message = decode(frame.payload, frame.start)
                    failpoint("after-decode")
                    route(message)
            await self._budget.room()

    # -- Out -------------------------------------------------------------------------------------------------

    async def _commit(self, lane: Lane, batch: Batch) -> None:
        """Write the lane's oldest batch, with all the progress that its commit allows."""
        if len(self._unseen) > UNSEEN_LIMIT:
            await self._images.look()
        async with self._writing:
            position = Position(
                applied=self._ledger.applied(lane.name, finishing=1),
                checkpoint=self._ledger.checkpoint(lane.name, finishing=1),
                unseen_xids=self._unseen.current(),
            )
            failpoint("before-commit")
            table = self._attachment.tables[lane.name]
            began = monotonic()
            try:
                await self._writer.write(lane.name, table, batch, position)
            except BackfillRestarted:
                batch.progress = (
                    None  # the rows are as good as any; the progress is not that of this backfill
                )
                await self._writer.write(lane.name, table, batch, position)
            failpoint("after-commit")
            self._ledger.finish(lane.name, 1)
            self._confirm(position.checkpoint)
        self._report(lane, batch, position, monotonic() - began)

    async def _keep_idle_progress(self) -> None:
        """Save how far the stream is when no action takes the checkpoint there.

        At once if it completes a transaction that asked something; otherwise at most every IDLE_INTERVAL
        seconds, and not for the sake of the WAL that saving it makes.
        """
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            if self._unseen and (len(self._unseen) > UNSEEN_LIMIT or self._idle_progress_is_due()):
                await self._images.look()
            async with self._writing:
                if self._idle_progress_is_due():
                    await self._save_idle_progress()

    async def _save_idle_progress(self) -> None:
        self._router.foreign = False
        checkpoint = self._ledger.checkpoint()
        self._router.own_xid = await self._writer.save(checkpoint, self._unseen.current())
        self._saved_at = monotonic()
        self._confirm(checkpoint)

    def _idle_progress_is_due(self) -> bool:
        saved, planned = self._ledger.saved, self._ledger.planned
        if not self._ledger.idle or planned <= saved:
            return False
        if self._router.acted > saved or (self._end is not None and saved < self._end <= planned):
            return True
        if monotonic() - self._saved_at < IDLE_INTERVAL:
            return False
        return self._router.foreign or planned - saved >= IDLE_BYTES

    def _confirm(self, checkpoint: Lsn) -> None:
        """Let the slot be told of a checkpoint that the target has committed."""
        self._ledger.save(checkpoint)
        failpoint("before-confirm")
        self._poke.set()

    def _status(self) -> StandbyStatus:
        saved = self._ledger.saved
        return StandbyStatus(write=max(self._received, saved), flush=saved, apply=saved)

    def _confirmed(self, status: StandbyStatus) -> None:
        if status.flush > self._attachment.checkpoint.lsn:
            failpoint("after-confirm")

    # -- Beside the stream -----------------------------------------------------------------------------------

    async def _watch(self, tasks: asyncio.TaskGroup) -> None:
        """Notice what others have changed: tables, the publication, and backfills asked for by a command."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            await self._watch_backfills(tasks)
            await self._watch_catalog()

    async def _watch_catalog(self) -> None:
        """Attach anew where a table or the publication is another; compare all rows of a rewritten table."""
        config, slot = self._attachment.config, self._slot
        for lane in self._lanes.values():
            now = await bind(self._attachment.catalog, lane.binding.vectorizer, config.source.publication)
            if now.definition() != lane.binding.definition():
                raise CatalogChanged(f'vectorizer "{lane.name}": its table or the publication has changed')
            if now.state() != lane.binding.state():
                lane.binding = now
                wanted = fingerprint(now.vectorizer, config.embedder)
                async with self._writing:
                    await metadata.restart_backfill(self._attachment.writer, lane.name, slot, wanted)

    async def _watch_backfills(self, tasks: asyncio.TaskGroup) -> None:
        generations = await metadata.load_generations(self._attachment.lookups, self._slot)
        for name, generation in self._generations.items():
            if generations.get(name, generation) != generation:
                state = (await metadata.load_vectorizers(self._attachment.lookups))[name]
                wanted = fingerprint(
                    self._attachment.bindings[name].vectorizer, self._attachment.config.embedder
                )
                if state.fingerprint != wanted:
                    raise CatalogChanged(f'vectorizer "{name}" was set up anew with other settings')
                self._generations[name] = state.generation
                self._backfilling[name].cancel()
                self._backfills[name] = self._backfill(name, state)
                await self._start_backfill(name, tasks)

    def _backfill(self, name: str, state: metadata.VectorizerState) -> Backfill:
        attachment, limits = self._attachment, _limits(self._attachment)
        table = attachment.tables[name]
        return Backfill(
            self._lanes[name],
            state,
            self._rows,
            table,
            attachment.backfill,
            rows=limits.rows,
            size=limits.size,
        )

    async def _start_backfill(self, name: str, tasks: asyncio.TaskGroup) -> None:
        async with self._writing:
            await self._backfills[name].begin(self._writer)
        self._backfilling[name] = tasks.create_task(
            self._backfills[name].run(self._budget), name=f"{name}: backfill"
        )

    # -- The end ---------------------------------------------------------------------------------------------

    async def _until_finished(self, stop: asyncio.Event) -> None:
        while not (stop.is_set() or self._caught_up()):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL):
                    await stop.wait()

    def _caught_up(self) -> bool:
        """Whether all before the end is embedded and saved, every backfill included."""
        if self._end is None or not all(backfill.phase == "done" for backfill in self._backfills.values()):
            return False
        return self._ledger.idle and self._ledger.saved >= self._end

    async def _drain(self, working: list[asyncio.Task[None]]) -> None:
        """Let what is in flight finish, save how far that is, and tell the slot."""
        for lane in self._lanes.values():
            lane.close()
        _, late = await asyncio.wait(working, timeout=DRAIN_LIMIT) if working else (set(), set())
        if late:
            _log.warning("stopped before everything in flight was finished; it comes again", lanes=len(late))
        await self._attachment.stream.send(self._status())

    def _report(self, lane: Lane, batch: Batch, position: Position, seconds: float) -> None:
        """Write the canonical line of a committed batch."""
        _log.info(
            "batch committed",
            vectorizer=lane.name,
            lsn=str(position.applied),
            rows=len(batch.settled) + len(batch.parked),
            chunks_embedded=batch.embedded,
            chunks_written=len(batch.chunks),
            rows_without_embedding=len(batch.gone),
            rows_parked=len(batch.parked),
            write_ms=round(seconds * 1000, 1),
        )


def _end_of_tasks() -> NoReturn:
    """End the group of tasks from within: what is left of it is cancelled."""
    raise _Finished


def _limits(attachment: Attachment) -> Limits:
    """Work out how much goes into a segment, and how many may be in flight to keep the service busy."""
    pipeline, embedder = attachment.config.pipeline, attachment.config.embedder
    in_flight = embedder.concurrency * embedder.max_batch_inputs
    return Limits(
        rows=pipeline.batch_rows,
        size=max(pipeline.max_buffer_bytes // 16, 1),
        delay=pipeline.batch_delay,
        depth=min(2 + -(-in_flight // pipeline.batch_rows), 32),
    )
