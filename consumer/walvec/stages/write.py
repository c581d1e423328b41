"""Vectors into the target, together with the checkpoint that they allow.

All that a batch changes (chunks, dead letters, backfill progress, how far the stream is applied) is one
transaction. It has two parts:

1. The rows, which several sessions write at once, because batches in flight share no key. It begins with the
   proof that the epoch in which the batch was prepared is the current one, and that this attachment is still
   the one that writes; a lock keeps that so until the transaction ends.
2. Whatever batches share: dead letters, progress, position and checkpoint. It waits for the batch's turn, so
   batches commit in order.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, cast
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from psycopg.types.json import Jsonb

from walvec.database.checkpoint import Landmark
from walvec.database.keys import Key
from walvec.database.registry import VectorizerState
from walvec.errors import CatalogChanged, EpochEnded, TooManyDeadLetters
from walvec.policy import is_refusal
from walvec.stages.batch import Batch, Position, Progress
from walvec.stages.isolate import isolate_failures
from walvec.stages.parking import SHARE_WINDOW, Share
from walvec.stages.stall import Mark
from walvec.vectorizer.target import TargetTable
from walvec_slots.lsn import Lsn
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

Cursor = psycopg.AsyncCursor[Any]

# Waits until it is a batch's turn to commit, and returns the position that it then brings.
TakeTurn = Callable[[], Awaitable[Position]]

_QUERIES = load_sql("metadata.sql")


class Writer:
    """What one attachment writes, through sessions that the callers give.

    Its own session is the one that holds the fence.
    """

    def __init__(
        self,
        connection: Connection,
        slot: str,
        checkpoint: Lsn,
        holder: UUID,
        generations: Mapping[str, int],
        *,
        with_letters: Iterable[str] = (),
        max_dead_letters: int = 0,
    ) -> None:
        """Write for `slot`, whose saved checkpoint is given; `connection` holds the fence.

        `holder` and `generations`, by vectorizer, are what the target must still say when a batch is written.
        `with_letters`: the vectorizers that have dead letters.
        `max_dead_letters`: of one vectorizer; above it, a batch is refused that parks most rows. 0: any.
        """
        # Held while position or checkpoint move, until that is committed. Batches wait for it with a
        # transaction open, so its holder must wait for nothing but its own statements.
        self.turn = asyncio.Lock()

        self._connection = connection
        self._slot = slot
        self._checkpoint = checkpoint
        self._holder = holder
        self._generations = generations
        self._max_dead_letters = max_dead_letters
        self._with_letters = set(with_letters)

        # The vectorizers for which a session has a staging table.
        self._staging: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()

        # Of parked rows, by vectorizer.
        self._shares: dict[str, Share] = {}

    async def write(
        self, session: Connection, name: str, table: TargetTable, batch: Batch, take_turn: TakeTurn
    ) -> Position:
        """Commit a batch of the vectorizer `name` through `session`.

        `take_turn` is awaited once the rows are written. It has to hold `turn` until this returns.
        Raises EpochEnded if a command has begun another epoch or another process has taken over,
        TooManyDeadLetters if it parks more than is allowed; psycopg's errors.
        """
        await self._prepare(session, name, table)
        async with session.transaction():
            await self._write_rows(session, name, table, batch)
            position = await take_turn()
            share = await self._conclude(session, name, batch, position)
        self._shares[name] = share
        self._checkpoint = max(self._checkpoint, position.checkpoint)
        return position

    async def find_refused(
        self, session: Connection, table: TargetTable, batch: Batch
    ) -> dict[Key, psycopg.Error]:
        """Find the rows that the target refuses, by writing parts and rolling back."""

        async def attempt(keys: Sequence[Key]) -> Sequence[None]:
            part = batch.restricted_to(keys)
            async with session.transaction(force_rollback=True):
                if part.chunks:
                    await table.stage_chunks(session, part.chunks)
                await self._write_chunks(session, table, part)
            return [None] * len(keys)

        keys = batch.keys()
        answers = await isolate_failures(keys, attempt, psycopg.Error, is_refusal)
        return {key: error for key, error in zip(keys, answers, strict=True) if error is not None}

    async def begin_backfill(self, state: VectorizerState, rows: int, *, sweeps: bool) -> None:
        """Commit what a backfill is about to read in full: about `rows` rows."""
        values = {
            "name": state.name,
            "generation": state.generation,
            "rows_estimated": rows,
            "sweeps": sweeps,
        }
        await self._connection.execute(_QUERIES["begin_backfill"], values)

    async def save_checkpoint(
        self, checkpoint: Lsn, unseen_xids: Collection[int], landmark: Landmark | None
    ) -> int:
        """Commit a checkpoint by itself, for progress without actions.

        Returns the id of the transaction.
        """
        saved = await self._move_checkpoint(self._connection, checkpoint, unseen_xids, landmark)
        row = await saved.fetchone()
        if row is None:
            raise self._checkpoint_gone()
        self._checkpoint = max(self._checkpoint, checkpoint)
        return cast("int", row[0])

    async def mark_stalled(self, mark: Mark) -> None:
        """Commit how long the checkpoint has waited for work in flight, and why."""
        values = {
            "slot": self._slot,
            "holder": self._holder,
            "seconds": mark.seconds,
            "reason": mark.waits_for,
        }
        await self._connection.execute(_QUERIES["mark_stalled"], values)

    async def _prepare(self, session: Connection, name: str, table: TargetTable) -> None:
        """Create the session's staging table when it first writes for a vectorizer."""
        prepared = self._staging.setdefault(session, set())
        if name not in prepared:
            await table.create_staging(session)
            prepared.add(name)

    async def _write_rows(self, session: Connection, name: str, table: TargetTable, batch: Batch) -> None:
        """Write what no other batch in flight touches."""
        if batch.chunks:
            await table.stage_chunks(session, batch.chunks)
        # One wait for all of these statements.
        async with session.pipeline():
            epoch = await self._hold_epoch(session, name)
            await self._write_chunks(session, table, batch)
        if epoch.rowcount == 0:
            raise EpochEnded(name)

    async def _conclude(self, session: Connection, name: str, batch: Batch, position: Position) -> Share:
        """Write what batches share; return the vectorizer's share of parked rows."""
        async with session.pipeline():
            await self._write_dead_letters(session, name, batch, position)
            if batch.sweep:
                await session.execute(_QUERIES["request_sweep"], {"name": name})
            await self._save_progress(session, name, batch.progress)
            checkpoint = await self._save_position(session, name, position)
        if checkpoint and checkpoint.rowcount == 0:
            raise self._checkpoint_gone()
        return await self._share_of_dead_letters(session, name, batch)

    async def _hold_epoch(self, session: Connection, name: str) -> Cursor:
        """Lock the epoch until the transaction ends; no row where it is no longer ours."""
        values = {
            "name": name,
            "generation": self._generations[name],
            "slot": self._slot,
            "holder": self._holder,
        }
        return await session.execute(_QUERIES["hold_epoch"], values)

    async def _write_chunks(self, session: Connection, table: TargetTable, batch: Batch) -> None:
        """Delete, write, and delete the surplus.

        Rows go first, because equal keys (1.0 and 1.00) may go and come in one batch. The surplus goes last,
        because its vectors may have moved.
        """
        if batch.truncate:
            await table.delete_all(session)
        if batch.gone:
            await table.delete_chunks(session, batch.gone, list(repeat(0, len(batch.gone))))
        if batch.chunks:
            await table.upsert_staged(session)
        if batch.surplus:
            keys, counts = zip(*batch.surplus, strict=True)
            await table.delete_chunks(session, keys, counts)

    async def _write_dead_letters(
        self, session: Connection, name: str, batch: Batch, position: Position
    ) -> None:
        if name in self._with_letters and (batch.settled or batch.truncate):
            values = {"vectorizer": name, "all": batch.truncate, "keys": Jsonb(batch.settled)}
            await session.execute(_QUERIES["unpark"], values)
        for parked in batch.parked:
            self._with_letters.add(name)
            await session.execute(
                _QUERIES["park"],
                {
                    "vectorizer": name,
                    "key": list(parked.key),
                    "lsn": str(position.applied),
                    "stage": parked.stage,
                    "error_class": parked.error_class,
                    "error_message": parked.error_message,
                    "generation": self._generations[name],
                    "passes": parked.passes,
                },
            )

    async def _share_of_dead_letters(self, session: Connection, name: str, batch: Batch) -> Share:
        """Return the vectorizer's share of parked rows, this batch included.

        A row that was parked before and failed again does not count. Raises TooManyDeadLetters where there
        are more than allowed and the share says that the error is systematic.
        """
        parked = fresh = 0
        if batch.parked:
            cursor = await session.execute(_QUERIES["count_parked_of"], {"name": name})
            ((parked, fresh),) = await cursor.fetchall()
        window = max(1, min(self._max_dead_letters, SHARE_WINDOW))
        share = (self._shares.get(name) or Share(window)).with_batch(len(batch.settled) + fresh, fresh)
        if fresh and share.over_half and 0 < self._max_dead_letters < parked:
            [(error_class, _)] = Counter(row.error_class for row in batch.parked).most_common(1)
            raise TooManyDeadLetters(name, parked, error_class)
        return share

    async def _save_progress(self, session: Connection, name: str, progress: Progress | None) -> None:
        """Move a backfill's progress."""
        if progress is None:
            return
        await session.execute(
            _QUERIES["save_backfill"],
            {
                "name": name,
                "phase": progress.phase,
                "last_key": list(progress.last_key) if progress.last_key is not None else None,
                "rows": progress.rows,
            },
        )
        if progress.phase == "index":
            await session.execute(_QUERIES["forget_parked"], {"name": name})

    async def _save_position(self, session: Connection, name: str, position: Position) -> Cursor | None:
        """Save how far the vectorizer is, and the checkpoint where it moves.

        The cursor of the checkpoint's statement has no row where the checkpoint is no longer ours.
        """
        if position.applied > position.checkpoint:
            await session.execute(_QUERIES["save_applied"], {"name": name, "lsn": str(position.applied)})
        if position.checkpoint <= self._checkpoint:
            return None
        return await self._move_checkpoint(
            session, position.checkpoint, position.unseen_xids, position.landmark
        )

    async def _move_checkpoint(
        self, session: Connection, lsn: Lsn, unseen_xids: Collection[int], landmark: Landmark | None
    ) -> Cursor:
        values = {
            "slot": self._slot,
            "holder": self._holder,
            "lsn": str(lsn),
            "unseen_xids": list(unseen_xids),
            "commit_xid": landmark and landmark.xid,
            "commit_end": landmark and str(landmark.end),
        }
        return await session.execute(_QUERIES["save_checkpoint"], values)

    def _checkpoint_gone(self) -> CatalogChanged:
        return CatalogChanged(f'The checkpoint of slot "{self._slot}" was removed, moved or taken over')
