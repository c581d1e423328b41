"""Actions that a lane works off together: a segment, and how much of it there may be.

A segment grows at its lane's tail until it is sealed. Once it is prepared, its batches are committed in the
lane's order.
"""

import asyncio
from dataclasses import dataclass
from sys import getsizeof
from time import monotonic

from walvec.database.keys import Key
from walvec.stages.actions import Action, Found, Upsert
from walvec.stages.batch import Progress
from walvec_slots.ack import Span

_ACTION_BYTES = 600  # what an action takes besides its texts: dict entries, key, objects


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """How a lane gathers its work."""

    rows: int  # at most so many in a segment
    size: int  # bytes after which a segment is full
    delay: float  # seconds to wait for more, for each segment in flight
    depth: int  # at most so many segments in flight
    flight: int  # bytes in flight from which no further segment begins
    work: int  # bytes that the segments in flight may take besides, for what their actions become


class Segment:
    """Actions that are worked off together, the newest one of each key.

    It grows at the tail of its lane until it is sealed: it is full, has begun, or something else follows it.
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

    def __init__(self, span: Span) -> None:
        """Begin empty; `span` is its place in the ledger."""
        self.span = span
        self.began = monotonic()
        self.actions: dict[Key, Action] = {}
        self.truncate = False  # of all rows, before the actions
        self.sweep = False  # keys may be gone that no action names
        self.progress: Progress | None = None  # of the backfill that read the actions
        self.size = 0  # bytes, roughly
        self.sealed = False
        self.waited = False  # for more, long enough
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
        """Let a Truncate supersede all that was planned."""
        self.actions.clear()
        self.truncate = True
