"""Existing rows as one more source of actions, interleaved with the stream.

A backfill goes through phases, and each step's progress is committed with what it read:

    rows    the source is read in key order, in short transactions
    sweep   the target's keys are looked up in the source, and those that it no longer has are deleted
    index   the vector index is built, beside everything else
    done

No step holds a snapshot longer than its read, and the stream never waits for one. A step notes which keys the
stream touches while it reads, and leaves them to the stream. (These are the watermarks of DBLog,
https://arxiv.org/abs/2010.12597, with the visibility rule in the place of its watermark table.)
"""

from dataclasses import replace

import structlog

from walvec.database.keys import Key
from walvec.database.registry import Phase, VectorizerState
from walvec.errors import EvaluationFailed
from walvec.failpoint import failpoint
from walvec.policy import retry_in_place
from walvec.stages.actions import DELETE, REFETCH, Action, Found
from walvec.stages.batch import Progress
from walvec.stages.evaluate import SourceReader
from walvec.stages.lane import Lane
from walvec.stages.memory import ByteBudget
from walvec.stages.segment import Segment
from walvec.stages.vitals import BackfillStanding
from walvec.stages.write import Writer
from walvec.vectorizer.target import TargetTable
from walvec.vectorizer.vector_index import build_index, index_is_valid
from walvec_slots.settle import Connection

_log = structlog.get_logger(__name__)

Step = tuple[dict[Key, Action], Progress]


class Backfill:
    """One vectorizer's backfill, to its end, and again whenever a sweep is requested."""

    def __init__(
        self,
        lane: Lane,
        state: VectorizerState,
        source: SourceReader,
        table: TargetTable,
        target: Connection,
        *,
        rows: int,
        size: int,
    ) -> None:
        """Read at most `rows` rows, or about `size` bytes, at a time.

        `target` is a session that nothing else uses.
        """
        self._lane = lane
        self._state = state
        self._source = source
        self._table = table
        self._target = target
        self._rows, self._size = rows, size
        self.phase: Phase = state.phase
        self._last_key = state.resume_after
        self._sweeps = state.sweeps

        # How many of the sweeps requested of the lane are taken into account.
        self._adopted = 0

        self._placed: Segment | None = None
        self._rows_placed, self._estimate = state.rows_done, state.rows_estimated

    async def begin(self, writer: Writer) -> None:
        """Save what is about to be read, and see whether an index is missing.

        Nothing is saved where some rows have been read already. The caller must not hold the writer's turn:
        the session may be building another index, which waits for batches that wait for their turn.
        """
        kind = self._lane.binding.vectorizer.index
        if self.phase == "done" and kind != "none" and not await index_is_valid(self._table, self._target):
            self.phase = "index"
        if self.phase != "rows" or self._last_key is not None:
            return
        # Rows that an earlier epoch left in the target may be gone from the source without an event.
        self._sweeps = not await self._table.is_empty(self._target)
        self._estimate = estimate = await self._source.estimate_rows(self._lane.binding)
        await writer.begin_backfill(self._state, estimate, sweeps=self._sweeps)
        _log.info("backfill.started", vectorizer=self._lane.name, rows_estimated=estimate)

    async def run(self, budget: ByteBudget) -> None:
        """Work whenever there is something to do; never return."""
        if self.phase == "rows" and (xid := self._state.waits_for_xid) is not None:
            await self._source.wait_until_ended(xid)
        while True:
            self._adopt_sweeps()
            if self.phase == "done":
                await self._lane.wait_for_sweep(self._adopted)
                continue
            await self._lane.wait_for_room()
            await budget.wait_for_room()
            self._adopt_sweeps()
            self._lane.begin_read()
            actions, progress = await retry_in_place(self._take_step)
            failpoint("backfill-read")
            self._append_step(actions, progress)

    def _adopt_sweeps(self) -> bool:
        """Take a requested sweep into account; return whether that ends the current step.

        The target's keys are looked up after the rows while these are read, and from the first key otherwise.
        """
        if self._adopted == self._lane.sweeps:
            return False
        self._adopted = self._lane.sweeps
        self._sweeps = True
        if self.phase == "rows":
            return False
        self.phase, self._last_key = "sweep", None
        return True

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: no phase, and no sweep requested meanwhile."""
        return self.phase == "done" and self._adopted == self._lane.sweeps

    def standing(self) -> BackfillStanding:
        """Return how far it is."""
        underway = self._lane.backfilling
        phase: Phase = "rows" if underway else self.phase
        return BackfillStanding(phase, max(self._rows_placed - underway, 0), self._estimate)

    async def _take_step(self) -> Step:
        """Take the next step of the current phase."""
        match self.phase:
            case "rows":
                return await self._read_rows()
            case "sweep":
                return await self._look_up_target()
            case _:
                if self._placed:
                    await self._placed.committed.wait()
                await build_index(self._table, self._target, self._lane.binding.vectorizer.index)
                return {}, Progress("done", None, 0)

    def _append_step(self, actions: dict[Key, Action], progress: Progress) -> None:
        """Give a step to the lane.

        Where a truncate or a sweep has made it void, it is repeated.
        """
        if self._adopt_sweeps():
            return
        if progress.phase != "rows" and self.phase == "rows" and self._sweeps:
            progress = replace(progress, phase="sweep")
        if placed := self._lane.append_read(actions, progress):
            self._placed = placed
            self._rows_placed += progress.rows
            self.phase, self._last_key = progress.phase, progress.last_key
            if self.phase == "done":
                _log.info("backfill.finished", vectorizer=self._lane.name)

    async def _read_rows(self) -> Step:
        """Read the next rows by key, with their texts."""
        binding = self._lane.binding
        try:
            found = await self._source.rows_after(binding, self._last_key, rows=self._rows, size=self._size)
        except EvaluationFailed:
            # Some row here is bad. It is found and parked as every bad row is, on its way through the lane.
            keys = await self._source.keys_after(binding, self._last_key, rows=self._rows)
            return dict.fromkeys(keys, REFETCH), self._progress_after(keys, complete=len(keys) < self._rows)
        actions: dict[Key, Action] = {key: Found(text) for key, text in found.texts.items()}
        return actions, self._progress_after(list(found.texts), complete=found.complete)

    async def _look_up_target(self) -> Step:
        """Look up the target's next keys, once it holds all that came before."""
        if self._last_key is None:
            await self._lane.wait_until_settled()
        keys = await self._table.keys_after(self._target, self._last_key, rows=self._rows)
        progress = self._progress_after(keys, complete=len(keys) < self._rows)
        if not keys:
            return {}, progress
        try:
            gone = await self._source.keys_gone(self._lane.binding, keys)
        except EvaluationFailed:
            return dict.fromkeys(keys, REFETCH), progress
        return dict.fromkeys(gone, DELETE), progress

    def _progress_after(self, keys: list[Key], *, complete: bool) -> Progress:
        rows = len(keys) if self.phase == "rows" else 0
        if not complete:
            return Progress(self.phase, keys[-1], rows)
        return Progress("index", None, rows)
