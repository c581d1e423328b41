"""What a batch's time goes into, stage by stage.

The log line, the metrics and the spans of a batch are all made of this one record. The clock is read once a
stage and batch, never for a row. The stages follow each other without a gap, so their times add up to the
batch's.
"""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final, Literal, get_args

Stage = Literal["queue", "evaluate", "chunk", "lookup", "embed", "turn", "write"]

# The stages in order:
#
# queue     gathering, until the segment begins
# evaluate  the texts, by PostgreSQL
# chunk     cutting and hashing
# lookup    what the target holds
# embed     the vectors, by the service
# turn      until earlier segments are committed and the writing session is free, failed tries included
# write     the transaction
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


class StageTimes:
    """When each stage of a batch ended; it began where the one before ended."""

    __slots__ = ("_clock", "_ends", "began")

    def __init__(self, began: float | None = None, *, clock: Callable[[], float] = monotonic) -> None:
        """Begin the first stage, at `began` if that is given.

        `clock` gives seconds; spans are dated by it, so only a test hands in another one.
        """
        self._clock = clock
        self._ends: dict[Stage, float] = {}
        self.began = clock() if began is None else began

    def done(self, stage: Stage) -> None:
        """Note that a stage ends now.

        A stage that is gone through again is extended, in its place.
        """
        self._ends[stage] = self._clock()

    @property
    def ended(self) -> float:
        """When the newest stage ended."""
        return max(self._ends.values(), default=self.began)

    def spans(self) -> Iterator[tuple[Stage, float, float]]:
        """Yield each stage that has ended, with its beginning and its end."""
        began = self.began
        for stage, ended in self._ends.items():
            yield stage, began, ended
            began = ended

    def milliseconds(self) -> dict[str, float]:
        """Return the time of each stage and the total, by their names in the log."""
        taken = {f"{stage}_ms": ended - began for stage, began, ended in self.spans()}
        taken["total_ms"] = self.ended - self.began
        return {name: round(seconds * 1_000, 1) for name, seconds in taken.items()}
