"""What a batch's time goes into, stage by stage: the one record that log line, metrics and spans are made of.

A clock is read once a stage and batch, never for a row. The stages follow each other without a gap, so their
times add up to the batch's.
"""

from collections.abc import Iterator
from time import monotonic
from typing import Final, Literal, get_args

Stage = Literal["queue", "evaluate", "chunk", "lookup", "embed", "turn", "write"]

# In order. queue: gathering, until the segment begins; chunk: cutting and hashing; lookup: what the target
# holds; turn: until earlier segments are committed and the session that writes is free, with failed tries.
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


class Stages:
    """When each stage of a batch ended, by time.monotonic(); it began where the one before ended."""

    __slots__ = ("_ends", "began")

    def __init__(self, began: float | None = None) -> None:
        """Begin the first stage, at `began` if that is given."""
        self.began = monotonic() if began is None else began
        self._ends: dict[Stage, float] = {}

    def done(self, stage: Stage) -> None:
        """Note that a stage ends now; one that is gone through again goes on, in its place."""
        self._ends[stage] = monotonic()

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
        """Return the time of each stage and the total, under the names that the log has for them."""
        taken = {f"{stage}_ms": ended - began for stage, began, ended in self.spans()}
        taken["total_ms"] = self.ended - self.began
        return {name: round(seconds * 1_000, 1) for name, seconds in taken.items()}
