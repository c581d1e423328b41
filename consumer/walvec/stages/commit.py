"""Batches into the target, in order, each with all the progress that it allows.

A checkpoint is worked out by the ledger, committed together with the batch that allows it, and only then
confirmed (`confirm`).
"""

from collections.abc import Callable, Mapping

import psycopg
import structlog

from walvec.failpoint import failpoint
from walvec.policy import is_refusal, retry_in_place
from walvec.stages.batch import Batch, Committed, Position, PreparedBatch
from walvec.stages.confirm import Confirmation
from walvec.stages.evaluate import SourceReader
from walvec.stages.landmark import Landmarks
from walvec.stages.lane import Lane
from walvec.stages.obstacles import Obstacles
from walvec.stages.visibility import Unseen
from walvec.stages.write import Writer
from walvec.vectorizer.target import TargetTable
from walvec_slots.ack import Ledger

_log = structlog.get_logger(__name__)


class Committer:
    """Commits the batches of all lanes through one session."""

    def __init__(
        self,
        writer: Writer,
        tables: Mapping[str, TargetTable],
        ledger: Ledger,
        landmarks: Landmarks,
        unseen: Unseen,
        source: SourceReader,
        confirmation: Confirmation,
        obstacles: Obstacles,
        *,
        committed: Callable[[Committed], None],
    ) -> None:
        """Write through `writer` into `tables`, by vectorizer.

        `committed` is called with every batch once it is committed.
        """
        self._writer = writer
        self._tables = tables
        self._ledger = ledger
        self._landmarks = landmarks
        self._unseen = unseen
        self._source = source
        self._confirmation = confirmation
        self._obstacles = obstacles
        self._committed = committed

    async def commit(self, lane: Lane, prepared: PreparedBatch) -> None:
        """Commit the lane's next batch, and try again while something is in the way."""
        if self._unseen.are_many:
            await self._source.observe_snapshot()
        done = await retry_in_place(self._try_commit, lane.name, prepared)
        _log_batch(done)
        self._committed(done)

    async def _try_commit(self, name: str, prepared: PreparedBatch) -> Committed:
        """Try once. The session is held for one try, so that other lanes write in between.

        A batch that is not its segment's last leaves the lane where it is.
        """
        batch, times = prepared
        finishing = int(batch.is_last)
        async with self._writer.turn:
            times.done("turn")
            position = self._position(name, finishing)
            failpoint("before-commit")
            written = await self._write(name, batch, position)
            times.done("write")
            failpoint("after-commit")
            self._ledger.finish(name, finishing)
            self._confirmation.batch_committed(position.checkpoint)
        return Committed(name, written, position, times)

    def _position(self, name: str, finishing: int) -> Position:
        """Return how far the stream is once `finishing` segments more are committed."""
        checkpoint = self._ledger.checkpoint(name, finishing=finishing)
        return Position(
            applied=self._ledger.applied(name, finishing=finishing),
            checkpoint=checkpoint,
            unseen_xids=self._unseen.current(),
            landmark=self._landmarks.covered_by(checkpoint),
            transactions=self._ledger.transactions(name) if finishing else 0,
        )

    async def _write(self, name: str, batch: Batch, position: Position) -> Batch:
        """Write a batch, say how that went, and return what was written."""
        try:
            written = await self._write_what_is_taken(name, batch, position)
        except psycopg.Error as error:
            self._obstacles.note_write(error)
            raise
        self._obstacles.note_write(None)
        return written

    async def _write_what_is_taken(self, name: str, batch: Batch, position: Position) -> Batch:
        """Write a batch; rows that the target refuses are parked, and the rest is written."""
        table = self._tables[name]
        while True:
            try:
                await self._writer.write(name, table, batch, position)
            except psycopg.Error as error:
                if not is_refusal(error) or not (refused := await self._writer.find_refused(table, batch)):
                    raise
                batch = batch.parking(refused)
            else:
                return batch


def _log_batch(done: Committed) -> None:
    """Write the canonical line of a committed batch."""
    _log.info(
        "batch.committed",
        vectorizer=done.vectorizer,
        lsn=str(done.position.applied),
        **done.counts(),
        **done.times.milliseconds(),
    )
