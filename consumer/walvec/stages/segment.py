"""Actions that a lane works off together, and how much of them it may hold.

A segment grows at its lane's tail until it is sealed. Once it is prepared, its batches are committed in the
lane's order.
"""

import asyncio
from dataclasses import dataclass
from sys import getsizeof
from time import monotonic

from walvec.config.sections import EmbedderSettings, PipelineSettings
from walvec.database.keys import Key
from walvec.stages.actions import Action, Found, Upsert
from walvec.stages.batch import Progress
from walvec_slots.ack import Span

MAX_IN_FLIGHT = 32  # segments of one lane

# Bytes that an action takes besides its texts: dict entries, key, objects.
_ACTION_BYTES = 600


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """How a lane gathers its work."""

    # Rows of a segment, at most.
    rows: int

    # Bytes from which a segment is full.
    size: int

    # Seconds to wait for more, for each segment in flight.
    delay: float

    # Segments in flight, at most.
    depth: int

    # Bytes in flight from which no further segment begins.
    flight: int

    # Bytes that the segments in flight may take besides, for what their actions become.
    work: int


def share_limits(pipeline: PipelineSettings, embedder: EmbedderSettings, lanes: int) -> SegmentLimits:
    """Work out one lane's limits, where `lanes` of them share the memory.

    There are as many segments in flight as keep the embedding service busy. A quarter of the memory is for
    changes that arrive; a lane that is stuck leaves the others half of that.
    """
    texts = embedder.concurrency * embedder.max_batch_inputs
    lanes = max(1, lanes)
    return SegmentLimits(
        rows=pipeline.batch_rows,
        size=pipeline.max_buffer_bytes // 32,
        delay=pipeline.batch_delay,
        depth=min(2 + -(-texts // pipeline.batch_rows), MAX_IN_FLIGHT),
        flight=pipeline.max_buffer_bytes // (8 * lanes),
        work=pipeline.max_buffer_bytes * 3 // (4 * lanes),
    )


class Segment:
    """Actions that are worked off together, the newest one of each key.

    It is sealed when it is full, when it begins, and when something else follows it.
    """

    __slots__ = (
        "actions",
        "began",
        "committed",
        "progress",
        "sealed",
        "size",
        "span",
        "sweep",
        "truncate",
        "waited",
    )

    def __init__(self, span: Span, progress: Progress | None = None) -> None:
        """Begin empty, at `span`, its place in the ledger.

        `progress` is that of the backfill which read the actions.
        """
        self.span = span
        self.progress = progress
        self.began = monotonic()
        self.actions: dict[Key, Action] = {}
        self.size = 0

        # All rows go, before the actions.
        self.truncate = False

        # Keys may be gone that no action names.
        self.sweep = False

        self.sealed = False

        # It has waited for more, long enough.
        self.waited = False

        self.committed = asyncio.Event()

    def add(self, key: Key, action: Action) -> int:
        """Let an action supersede what was planned for its key; return the bytes it takes."""
        size = _ACTION_BYTES
        if isinstance(action, Upsert):
            size += action.size
        elif isinstance(action, Found):
            size += getsizeof(action.text)
        self.actions[key] = action
        self.size += size
        return size

    def clear(self) -> None:
        """Let a truncate supersede all that was planned."""
        self.actions.clear()
        self.truncate = True

    def ask_for_sweep(self) -> None:
        """Have the target's keys looked up in the source once the segment is committed."""
        self.sweep = True

    def seal(self) -> None:
        """Take no more actions."""
        self.sealed = True

    def seal_if_full(self, limits: SegmentLimits) -> None:
        """Take no more actions once the limits are reached."""
        self.sealed = self.sealed or len(self.actions) >= limits.rows or self.size >= limits.size

    def stop_waiting(self) -> None:
        """Begin with what there is, as soon as the lane comes to it."""
        self.waited = True
