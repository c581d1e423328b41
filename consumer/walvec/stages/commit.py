"""Batches into the target, in order, each with all the progress that it allows.

Several sessions write rows at once, and commit one after the other. A checkpoint is worked out by the ledger,
committed together with the batch that allows it, and only then confirmed (`confirm`).
"""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

import psycopg
import structlog

from walvec.database.pool import SessionPool
from walvec.failpoint import failpoint
from walvec.policy import is_refusal, retry_in_place
from walvec.stages.batch import Batch, Committed, Position, PreparedBatch
from walvec.stages.confirm import Confirmation
from walvec.stages.evaluate import SourceReader
from walvec.stages.landmark import Landmarks
from walvec.stages.lane import Lane, Wait
from walvec.stages.obstacles import Obstacles
from walvec.stages.visibility import Unseen
from walvec.stages.write import TakeTurn, Writer
from walvec.vectorizer.target import TargetTable
from walvec_slots.ack import Ledger
from walvec_slots.settle import Connection

_log = structlog.get_logger(__name__)


class Committer:
    """Commits the batches of all lanes."""

    def __init__(
        self,
        writer: Writer,
        sessions: SessionPool,
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
        """Write through `sessions` into `tables`, by vectorizer.

        `committed` is called with every batch once it is committed.
        """
        self._writer = writer
        self._sessions = sessions
        self._tables = tables
        self._ledger = ledger
        self._landmarks = landmarks
        self._unseen = unseen
        self._source = source
        self._confirmation = confirmation
        self._obstacles = obstacles
        self._committed = committed

    async def commit(self, lane: Lane, prepared: PreparedBatch, is_next: Wait) -> None:
        """Write a batch of the lane, and commit it when `is_next` returns.

        Tries again while something is in the way. The session is kept for all tries: batches that follow may
        hold the others until this one is committed.
        """
        # The session is asked for first. If anything were awaited before, a batch that follows could overtake
        # this one, and keep the last session until this one is committed.
        async with self._sessions.lease() as session:
            prepared.times.done("session")
            if self._unseen.are_many:
                await self._source.observe_snapshot()
            done = await retry_in_place(self._try_commit, session, lane.name, prepared, is_next)
        _log_batch(done)
        self._committed(done)

    async def _try_commit(
        self, session: Connection, name: str, prepared: PreparedBatch, is_next: Wait
    ) -> Committed:
        """Try once. A batch that is not its segment's last leaves the lane where it is."""
        batch, times = prepared
        finishing = int(batch.is_last)
        async with AsyncExitStack() as turn:

            async def take_turn() -> Position:
                times.done("write")
                await is_next()
                await turn.enter_async_context(self._writer.turn)
                times.done("turn")
                failpoint("before-commit")
                return self._position(name, finishing)

            written, position = await self._write(session, name, batch, take_turn)
            times.done("commit")
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

    async def _write(
        self, session: Connection, name: str, batch: Batch, take_turn: TakeTurn
    ) -> tuple[Batch, Position]:
        """Write a batch, say how that went, and return what was written."""
        try:
            written = await self._write_what_is_taken(session, name, batch, take_turn)
        except psycopg.Error as error:
            self._obstacles.note_write(error)
            raise
        self._obstacles.note_write(None)
        return written

    async def _write_what_is_taken(
        self, session: Connection, name: str, batch: Batch, take_turn: TakeTurn
    ) -> tuple[Batch, Position]:
        """Write a batch; rows that the target refuses are parked, and the rest is written."""
        table = self._tables[name]
        while True:
            try:
                return batch, await self._writer.write(session, name, table, batch, take_turn)
            except psycopg.Error as error:
                if not is_refusal(error):
                    raise
                if not (refused := await self._writer.find_refused(session, table, batch)):
                    raise
                batch = batch.parking(refused)


def _log_batch(done: Committed) -> None:
    """Write the canonical line of a committed batch."""
    _log.info(
        "batch.committed",
        vectorizer=done.vectorizer,
        lsn=str(done.position.applied),
        **done.counts(),
        **done.times.milliseconds(),
    )
