"""Existing rows as one more source of actions, interleaved with the stream.

A backfill goes through phases, and each step's progress is committed with what it read:

    rows    the source is read in key order, in short transactions
    sweep   the target's keys are looked up in the source: those that it lost without a word in the stream go
    index   the vector index is built, beside everything else
    done

No step holds a snapshot longer than its read, and the stream never waits for one: a step notes what the
stream touches while it reads, and leaves these keys to the stream. (Watermarks, as in DBLog,
https://arxiv.org/abs/2010.12597. The visibility rule takes the place of its watermark table.)
"""

from dataclasses import replace

import structlog

from walvec.database.keys import Key
from walvec.database.registry import Phase, VectorizerState
from walvec.errors import EvaluationFailed
from walvec.failpoint import failpoint
from walvec.policy import in_place
from walvec.stages.actions import DELETE, REFETCH, Action, Found
from walvec.stages.evaluate import SourceReader
from walvec.stages.lane import Lane, Segment
from walvec.stages.memory import ByteBudget
from walvec.stages.vitals import BackfillStanding
from walvec.stages.write import Progress, Writer
from walvec.vectorizer.target import TargetTable
from walvec.vectorizer.vector_index import build_index, index_is_valid
from walvec_slots.settle import Connection

_log = structlog.get_logger(__name__)

Step = tuple[dict[Key, Action], Progress]


class Backfill:
    """One vectorizer's backfill, from where it stands to its end; and again whenever keys are to be swept."""

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
        """Read at most `rows` rows, or about `size` bytes, at a time; `target` is its own session."""
        self._lane = lane
        self._state = state
        self._source = source
        self._table = table
        self._target = target
        self._rows, self._size = rows, size
        self.phase: Phase = state.phase
        self._last_key = state.resume_after
        self._sweeps = state.sweeps
        self._adopted = 0  # how many of the sweeps that the lane was asked for are taken into account
        self._placed: Segment | None = None
        self._rows_placed, self._estimate = state.rows_done, state.rows_estimated

    async def begin(self, writer: Writer) -> None:
        """Save what is about to be read, if nothing has been read yet; see whether an index is missing.

        The caller holds the writer's session.
        """
        kind = self._lane.binding.vectorizer.index
        if self.phase == "done" and kind != "none" and not await index_is_valid(self._table, self._target):
            self.phase = "index"
        if self.phase != "rows" or self._last_key is not None:
            return
        # What an earlier epoch has left in the target may be gone from the source without an event.
        self._sweeps = not await self._table.is_empty(self._target)
        self._estimate = estimate = await self._source.estimate(self._lane.binding)
        await writer.begin_backfill(self._state, estimate, sweeps=self._sweeps)
        _log.info("backfill begins", vectorizer=self._lane.name, rows_estimated=estimate)

    async def run(self, budget: ByteBudget) -> None:
        """Work whenever there is something left to do; never return."""
        if self.phase == "rows" and (xid := self._state.waits_for_xid) is not None:
            await self._source.until_ended(xid)
        while True:
            self._adopt_sweeps()
            if self.phase == "done":
                await self._lane.sweep_after(self._adopted)
                continue
            await self._lane.room()
            await budget.room()
            self._adopt_sweeps()
            self._lane.watch()
            actions, progress = await in_place(self._step)
            failpoint("backfill-read")
            self._place(actions, progress)

    def _adopt_sweeps(self) -> bool:
        """Look the target's keys up once more if the lane was asked to: after the rows while these are read,
        from the first key otherwise. Return whether that ends the present step.
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
        """Whether nothing is left to do: no phase, and no sweep that the lane was asked for meanwhile."""
        return self.phase == "done" and self._adopted == self._lane.sweeps

    def standing(self) -> BackfillStanding:
        """Return how far it is."""
        underway = self._lane.backfilling
        phase: Phase = "rows" if underway else self.phase
        return BackfillStanding(phase, max(self._rows_placed - underway, 0), self._estimate)

    async def _step(self) -> Step:
        """Do the next piece of the present phase."""
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

    def _place(self, actions: dict[Key, Action], progress: Progress) -> None:
        """Hand a step over, unless a truncate or a sweep makes it void: then it is taken again."""
        if self._adopt_sweeps():
            return
        if progress.phase != "rows" and self.phase == "rows" and self._sweeps:
            progress = replace(progress, phase="sweep")
        if placed := self._lane.place(actions, progress):
            self._placed = placed
            self._rows_placed += progress.rows
            self.phase, self._last_key = progress.phase, progress.last_key
            if self.phase == "done":
                _log.info("backfill ends", vectorizer=self._lane.name)

    async def _read_rows(self) -> Step:
        """Read the next rows by key, with their texts."""
        binding = self._lane.binding
        try:
            found = await self._source.after(binding, self._last_key, rows=self._rows, size=self._size)
        except EvaluationFailed:
            # Some row here is bad. Which one is found out, and parked, on the way every bad row goes.
            keys = await self._source.keys_after(binding, self._last_key, rows=self._rows)
            return dict.fromkeys(keys, REFETCH), self._progress(keys, complete=len(keys) < self._rows)
        actions: dict[Key, Action] = {key: Found(text) for key, text in found.texts.items()}
        return actions, self._progress(list(found.texts), complete=found.complete)

    async def _look_up_target(self) -> Step:
        """Look the next keys of the target up in the source, once it holds all that came before."""
        if self._last_key is None:
            await self._lane.settled()
        keys = await self._table.keys_after(self._target, self._last_key, rows=self._rows)
        progress = self._progress(keys, complete=len(keys) < self._rows)
        if not keys:
            return {}, progress
        try:
            gone = await self._source.gone(self._lane.binding, keys)
        except EvaluationFailed:
            return dict.fromkeys(keys, REFETCH), progress
        return dict.fromkeys(gone, DELETE), progress

    def _progress(self, keys: list[Key], *, complete: bool) -> Progress:
        rows = len(keys) if self.phase == "rows" else 0
        if not complete:
            return Progress(self.phase, keys[-1], rows)
        return Progress("index", None, rows)
