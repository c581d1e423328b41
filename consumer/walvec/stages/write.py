"""Vectors into the target, together with the checkpoint that they allow.

One session writes, and it holds the advisory lock that fences a second process: a process that has lost the
lock has lost the connection that could have written. All that a batch changes (chunks, dead letters, backfill
progress, how far the stream is applied) is one transaction, and so is the proof that the epoch it was
prepared in is still the current one.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, cast
from uuid import UUID

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

_QUERIES = load_sql("metadata.sql")


class Writer:
    """The session that writes; a caller holds its `turn` while it calls."""

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
        """Write through `connection` for `slot`, whose saved checkpoint is given.

        `holder` and `generations`, by vectorizer, are what the target must still say when a batch is written.
        `with_letters`: the vectorizers that have dead letters.
        `max_dead_letters`: of one vectorizer; above it, a batch is refused that parks most rows. 0: any.
        """
        # Held for one transaction at a time.
        self.turn = asyncio.Lock()

        self._connection = connection
        self._slot = slot
        self._checkpoint = checkpoint
        self._holder = holder
        self._generations = generations
        self._max_dead_letters = max_dead_letters
        self._with_letters = set(with_letters)

        # Of parked rows, by vectorizer.
        self._shares: dict[str, Share] = {}

    async def write(self, name: str, table: TargetTable, batch: Batch, position: Position) -> None:
        """Commit a batch of the vectorizer `name`, with its position.

        Raises EpochEnded where a command has begun another epoch or another process has taken over,
        TooManyDeadLetters where it parks more than is allowed; psycopg's errors.
        """
        async with self._connection.transaction():
            if batch.chunks:
                await table.stage_chunks(self._connection, batch.chunks)
            # One wait for all of these statements.
            async with self._connection.pipeline():
                epoch = await self._hold_epoch(name)
                await self._write_chunks(table, batch)
                await self._write_dead_letters(name, batch, position)
                if batch.sweep:
                    await self._connection.execute(_QUERIES["request_sweep"], {"name": name})
                await self._save_progress(name, batch.progress)
                checkpoint = await self._save_position(name, position)
            if epoch.rowcount == 0:
                raise EpochEnded(name)
            if checkpoint and checkpoint.rowcount == 0:
                raise self._checkpoint_gone()
            share = await self._share_of_dead_letters(name, batch)
        self._shares[name] = share
        self._checkpoint = max(self._checkpoint, position.checkpoint)

    async def find_refused(self, table: TargetTable, batch: Batch) -> dict[Key, psycopg.Error]:
        """Find the rows that the target refuses, by writing parts and rolling back."""

        async def attempt(keys: Sequence[Key]) -> Sequence[None]:
            part = batch.restricted_to(keys)
            async with self._connection.transaction(force_rollback=True):
                if part.chunks:
                    await table.stage_chunks(self._connection, part.chunks)
                await self._write_chunks(table, part)
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
        row = await (await self._move_checkpoint(checkpoint, unseen_xids, landmark)).fetchone()
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

    async def _hold_epoch(self, name: str) -> Cursor:
        """Lock the epoch until the transaction ends; no row where it is no longer ours."""
        values = {
            "name": name,
            "generation": self._generations[name],
            "slot": self._slot,
            "holder": self._holder,
        }
        return await self._connection.execute(_QUERIES["hold_epoch"], values)

    async def _write_chunks(self, table: TargetTable, batch: Batch) -> None:
        """Delete, write, and delete the surplus.

        Rows go first, because equal keys (1.0 and 1.00) may go and come in one batch. The surplus goes last,
        because its vectors may have moved.
        """
        if batch.truncate:
            await table.delete_all(self._connection)
        if batch.gone:
            await table.delete_chunks(self._connection, batch.gone, list(repeat(0, len(batch.gone))))
        if batch.chunks:
            await table.upsert_staged(self._connection)
        if batch.surplus:
            keys, counts = zip(*batch.surplus, strict=True)
            await table.delete_chunks(self._connection, keys, counts)

    async def _write_dead_letters(self, name: str, batch: Batch, position: Position) -> None:
        if name in self._with_letters and (batch.settled or batch.truncate):
            values = {"vectorizer": name, "all": batch.truncate, "keys": Jsonb(batch.settled)}
            await self._connection.execute(_QUERIES["unpark"], values)
        for parked in batch.parked:
            self._with_letters.add(name)
            await self._connection.execute(
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

    async def _share_of_dead_letters(self, name: str, batch: Batch) -> Share:
        """Return the vectorizer's share of parked rows, this batch included.

        A row that was parked before and failed again does not count. Raises TooManyDeadLetters where there
        are more than allowed and the share says that the error is systematic.
        """
        parked = fresh = 0
        if batch.parked:
            cursor = await self._connection.execute(_QUERIES["count_parked_of"], {"name": name})
            ((parked, fresh),) = await cursor.fetchall()
        window = max(1, min(self._max_dead_letters, SHARE_WINDOW))
        share = (self._shares.get(name) or Share(window)).with_batch(len(batch.settled) + fresh, fresh)
        if fresh and share.over_half and 0 < self._max_dead_letters < parked:
            [(error_class, _)] = Counter(row.error_class for row in batch.parked).most_common(1)
            raise TooManyDeadLetters(name, parked, error_class)
        return share

    async def _save_progress(self, name: str, progress: Progress | None) -> None:
        """Move a backfill's progress."""
        if progress is None:
            return
        await self._connection.execute(
            _QUERIES["save_backfill"],
            {
                "name": name,
                "phase": progress.phase,
                "last_key": list(progress.last_key) if progress.last_key is not None else None,
                "rows": progress.rows,
            },
        )
        if progress.phase == "index":
            await self._connection.execute(_QUERIES["forget_parked"], {"name": name})

    async def _save_position(self, name: str, position: Position) -> Cursor | None:
        """Save how far the vectorizer is, and the checkpoint where it moves.

        The cursor of the checkpoint's statement has no row where the checkpoint is no longer ours.
        """
        if position.applied > position.checkpoint:
            await self._connection.execute(
                _QUERIES["save_applied"], {"name": name, "lsn": str(position.applied)}
            )
        if position.checkpoint <= self._checkpoint:
            return None
        return await self._move_checkpoint(position.checkpoint, position.unseen_xids, position.landmark)

    async def _move_checkpoint(
        self, lsn: Lsn, unseen_xids: Collection[int], landmark: Landmark | None
    ) -> Cursor:
        values = {
            "slot": self._slot,
            "holder": self._holder,
            "lsn": str(lsn),
            "unseen_xids": list(unseen_xids),
            "commit_xid": landmark and landmark.xid,
            "commit_end": landmark and str(landmark.end),
        }
        return await self._connection.execute(_QUERIES["save_checkpoint"], values)

    def _checkpoint_gone(self) -> CatalogChanged:
        return CatalogChanged(f'the checkpoint of slot "{self._slot}" was removed, moved or taken over')
