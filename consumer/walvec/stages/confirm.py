"""What the slot may be told, and progress that no batch carries.

The slot is told of a checkpoint only once the target has committed it: with a batch (`commit`), or by itself
here, where the stream moves on and asks for nothing.
"""

import asyncio
from time import monotonic

from walvec.failpoint import failpoint
from walvec.stages.evaluate import SourceReader
from walvec.stages.obstacles import Obstacles
from walvec.stages.route import Router
from walvec.stages.stall import Stall
from walvec.stages.timing import Timing
from walvec.stages.visibility import Unseen
from walvec.stages.write import Writer
from walvec_slots.ack import Ledger
from walvec_slots.lsn import Lsn
from walvec_slots.protocol import StandbyStatus

# Bytes of WAL without a transaction, from which it is worth a checkpoint.
IDLE_BYTES = 65_536


class Confirmation:
    """How far the server has sent, the target has saved, and the slot was told."""

    def __init__(
        self,
        writer: Writer,
        ledger: Ledger,
        router: Router,
        unseen: Unseen,
        source: SourceReader,
        obstacles: Obstacles,
        *,
        end: Lsn | None,
        timing: Timing,
    ) -> None:
        """Save through `writer`, look at the source through `source`.

        `end` is a place in the WAL that is waited for.
        """
        self._writer = writer
        self._ledger = ledger
        self._router = router
        self._unseen = unseen
        self._source = source
        self._end = end
        self._timing = timing
        self._stall = Stall(obstacles.reason, timing)
        self._saved_at = monotonic()

        # When the checkpoint last had nothing to wait for.
        self._moved_at = monotonic()

        # How far the server has sent.
        self.received = ledger.saved

        # What the slot was told last.
        self.confirmed = ledger.saved

        # Set when there is something to tell the slot.
        self.poke = asyncio.Event()

    # -- What the slot may be told

    def note_received(self, lsn: Lsn) -> None:
        """Note how far the server has sent."""
        self.received = max(self.received, lsn)

    def batch_committed(self, checkpoint: Lsn) -> None:
        """Note that the target has a batch, and the checkpoint that came with it."""
        self._stall.batch_finished(monotonic())
        self._confirm(checkpoint)

    def status(self) -> StandbyStatus:
        """Return what the slot may be told now."""
        saved = self._ledger.saved
        return StandbyStatus(write=max(self.received, saved), flush=saved, apply=saved)

    def status_sent(self, status: StandbyStatus) -> None:
        """Note what the slot was told."""
        if status.flush > self.confirmed:
            self.confirmed = status.flush
            failpoint("after-confirm")

    @property
    def stalled_for(self) -> float:
        """Seconds that the checkpoint has waited for work in flight; 0 if it does not."""
        return monotonic() - self._moved_at if self._is_behind() else 0.0

    def _confirm(self, checkpoint: Lsn) -> None:
        """Let the slot be told of a checkpoint that the target has committed."""
        if checkpoint > self._ledger.saved:
            self._note_move()
        self._ledger.save(checkpoint)
        failpoint("before-confirm")
        self.poke.set()

    def _note_move(self) -> None:
        self._moved_at = monotonic()
        self._stall.checkpoint_moved()

    def _is_behind(self) -> bool:
        """Whether the checkpoint waits for work in flight."""
        return not self._ledger.idle and self._ledger.planned > self._ledger.saved

    # -- Idle progress

    async def keep_idle_progress(self) -> None:
        """Save how far the stream is where no action does; never return.

        That happens at once if it completes a transaction that asked for something. Otherwise it happens once
        in `Timing.idle_interval`, and not for the sake of the WAL that saving makes.
        """
        while True:
            await asyncio.sleep(self._timing.look_interval)
            if self._unseen.are_many or self._is_due():
                await self._source.observe_snapshot()
            async with self._writer.turn:
                if self._is_due():
                    await self._save_idle_progress()
                await self._report_stall()

    def _is_due(self) -> bool:
        """Whether the stream's progress is worth a commit by itself."""
        saved, planned = self._ledger.saved, self._ledger.planned
        if not self._ledger.idle or planned <= saved:
            return False
        if self._router.acted > saved or (self._end is not None and saved < self._end <= planned):
            return True
        if monotonic() - self._saved_at < self._timing.idle_interval:
            return False
        return self._router.passed_foreign or planned - saved >= IDLE_BYTES

    async def _save_idle_progress(self) -> None:
        self._router.forget_foreign()
        checkpoint = self._ledger.checkpoint()
        landmark = self._router.landmarks.covered_by(checkpoint)
        xid = await self._writer.save_checkpoint(checkpoint, self._unseen.current(), landmark)
        self._router.note_own(xid)
        self._saved_at = monotonic()
        self._note_move()
        self._confirm(checkpoint)

    async def _report_stall(self) -> None:
        """Save how long the checkpoint has waited, and why, for `walvec status`."""
        if not self._is_behind():
            self._moved_at = monotonic()
        if mark := self._stall.next_mark(monotonic(), idle=self._ledger.idle):
            await self._writer.mark_stalled(mark)
