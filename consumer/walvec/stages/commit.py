"""Batches into the target, in order, and what may be confirmed afterwards.

The one place where the ledger, the writer and the slot's feedback meet: a checkpoint is worked out, committed
with the batch that allows it, and only then told to the slot.
"""

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic

import psycopg
import structlog

from walvec.database.waiting import held_up
from walvec.failpoint import failpoint
from walvec.policy import in_place, is_refusal
from walvec.stages.batch import Batch, Committed, Position
from walvec.stages.evaluate import SourceReader
from walvec.stages.lane import Lane
from walvec.stages.route import Router
from walvec.stages.stall import Stall, WaitsFor
from walvec.stages.timing import Timing
from walvec.stages.visibility import Unseen
from walvec.stages.write import Writer
from walvec.vectorizer.target import TargetTable
from walvec_slots.ack import Ledger
from walvec_slots.lsn import Lsn
from walvec_slots.protocol import StandbyStatus

IDLE_BYTES = 65_536  # of WAL without a transaction, from which it is worth a checkpoint
UNSEEN_LIMIT = (
    64  # decoded transactions remembered as unseen, above which a snapshot is taken before a commit
)

_log = structlog.get_logger(__name__)


class Committer:
    """Commits, saves progress and knows what the slot may be told."""

    def __init__(
        self,
        writer: Writer,
        tables: Mapping[str, TargetTable],
        ledger: Ledger,
        router: Router,
        unseen: Unseen,
        source: SourceReader,
        *,
        end: Lsn | None,
        committed: Callable[[Committed], None],
        waits_for: WaitsFor,
        timing: Timing,
    ) -> None:
        """Write through `writer`, look at the source through `source`; `end` is an LSN that is waited for.

        `committed` is called with every batch once it is committed. `waits_for` says what keeps work in
        flight from getting done.
        """
        self._writer = writer
        self._tables = tables
        self._ledger = ledger
        self._router = router
        self._unseen = unseen
        self._source = source
        self._end = end
        self._timing = timing
        self._committed = committed
        self._saved_at = monotonic()
        self._moved_at = monotonic()  # when the checkpoint had last nothing to wait for
        self._stall = Stall(waits_for, timing)
        self._received = self._told = ledger.saved
        self.write_failure: str | None = None  # what kind of error the last try to commit a batch ended with
        self.writing = asyncio.Lock()  # for whoever needs the writer's session
        self.poke = asyncio.Event()  # set when the slot has something to be told

    async def commit(self, lane: Lane, batch: Batch) -> None:
        """Commit the lane's next batch with all the progress it allows; again while something is in the
        way.
        """
        if len(self._unseen) > UNSEEN_LIMIT:
            await self._source.look()
        done = Committed(lane.name, batch, await in_place(self._commit, lane.name, batch))
        _report(done)
        self._committed(done)

    async def _commit(self, name: str, batch: Batch) -> Position:
        """Try once. The lock is for one try, so that other lanes write in between.

        A batch that is not its segment's last leaves the lane where it is.
        """
        finishing = int(batch.is_last)
        async with self.writing:
            batch.stages.done("turn")
            position = Position(
                applied=self._ledger.applied(name, finishing=finishing),
                checkpoint=self._ledger.checkpoint(name, finishing=finishing),
                unseen_xids=self._unseen.current(),
                landmark=self._router.landmarks.covered_by(
                    self._ledger.checkpoint(name, finishing=finishing)
                ),
                transactions=self._ledger.transactions(name) if batch.is_last else 0,
            )
            failpoint("before-commit")
            await self._write(name, batch, position)
            batch.stages.done("write")
            failpoint("after-commit")
            self._stall.finished(monotonic())
            self._ledger.finish(name, finishing)
            self._confirm(position.checkpoint)
        return position

    async def _write(self, name: str, batch: Batch, position: Position) -> None:
        try:
            await self._write_what_is_taken(name, batch, position)
        except psycopg.Error as error:
            self.write_failure = f"{type(error).__name__} (SQLSTATE {error.sqlstate})"
            if isinstance(error, psycopg.errors.LockNotAvailable) and (reason := held_up.lately()):
                self.write_failure += f": {reason}"
            raise
        self.write_failure = None

    async def _write_what_is_taken(self, name: str, batch: Batch, position: Position) -> None:
        """Write a batch; rows that the target refuses are parked, and the rest of it is written."""
        table = self._tables[name]
        while True:
            try:
                return await self._writer.write(name, table, batch, position)
            except psycopg.Error as error:
                if not is_refusal(error) or not (refused := await self._writer.refused(table, batch)):
                    raise
                batch.refuse(refused)

    async def keep_idle_progress(self) -> None:
        """Save how far the stream is where no action takes the checkpoint there; never return.

        At once if that completes a transaction that asked for something; otherwise at most every
        `Timing.idle_interval`, and not for the sake of the WAL that saving it makes.
        """
        while True:
            await asyncio.sleep(self._timing.look_interval)
            if len(self._unseen) > UNSEEN_LIMIT or self._is_due():
                await self._source.look()
            async with self.writing:
                if self._is_due():
                    await self._save_idle_progress()
                await self._tell_of_a_stall()

    async def _save_idle_progress(self) -> None:
        self._router.foreign = False
        checkpoint = self._ledger.checkpoint()
        landmark = self._router.landmarks.covered_by(checkpoint)
        self._router.own_xid = await self._writer.save(checkpoint, self._unseen.current(), landmark)
        self._saved_at = monotonic()
        self._moved_at = monotonic()  # when the checkpoint had last nothing to wait for
        self._stall.moved()
        self._confirm(checkpoint)

    async def _tell_of_a_stall(self) -> None:
        """Let `status` know for how long the checkpoint has waited for work in flight, and what keeps it."""
        if self._ledger.idle or self._ledger.planned <= self._ledger.saved:
            self._moved_at = monotonic()
        if mark := self._stall.look(monotonic(), idle=self._ledger.idle):
            await self._writer.mark_stalled(mark)

    def _is_due(self) -> bool:
        """Whether the stream's progress is worth a commit of its own."""
        saved, planned = self._ledger.saved, self._ledger.planned
        if not self._ledger.idle or planned <= saved:
            return False
        if self._router.acted > saved or (self._end is not None and saved < self._end <= planned):
            return True
        if monotonic() - self._saved_at < self._timing.idle_interval:
            return False
        return self._router.foreign or planned - saved >= IDLE_BYTES

    def _confirm(self, checkpoint: Lsn) -> None:
        """Let the slot be told of a checkpoint that the target has committed."""
        if checkpoint > self._ledger.saved:
            self._moved_at = monotonic()
            self._stall.moved()
        self._ledger.save(checkpoint)
        failpoint("before-confirm")
        self.poke.set()

    def received(self, lsn: Lsn) -> None:
        """Note how far the server has sent."""
        self._received = max(self._received, lsn)

    def status(self) -> StandbyStatus:
        """Return what the slot may be told now."""
        saved = self._ledger.saved
        return StandbyStatus(write=max(self._received, saved), flush=saved, apply=saved)

    @property
    def stalled_for(self) -> float:
        """Seconds that the checkpoint has been waiting for work in flight; 0 while it waits for none."""
        if self._ledger.idle or self._ledger.planned <= self._ledger.saved:
            return 0.0
        return monotonic() - self._moved_at

    @property
    def received_lsn(self) -> Lsn:
        """How far the server has sent."""
        return self._received

    @property
    def confirmed(self) -> Lsn:
        """What the slot was told last."""
        return self._told

    def told(self, status: StandbyStatus) -> None:
        """Note that the slot has been told so much."""
        if status.flush > self._told:
            self._told = status.flush
            failpoint("after-confirm")


def _report(done: Committed) -> None:
    """Write the canonical line of a committed batch."""
    _log.info(
        "batch committed",
        vectorizer=done.vectorizer,
        lsn=str(done.position.applied),
        **done.counts(),
        **done.batch.stages.milliseconds(),
    )
