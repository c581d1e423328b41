"""How long everything waits: one value, handed to every part that waits.

A test hands in another one, and so waits for nothing that an idle process puts off.
"""

from dataclasses import dataclass, field
from typing import Final

from walvec.database.silence import Patience


@dataclass(frozen=True, slots=True)
class Timing:
    """The intervals and limits of a process, in seconds unless it says otherwise."""

    # Between two looks at what nobody reports: whether the end is reached, a checkpoint due, a lane stuck.
    look_interval: float = 0.1

    # Between two checkpoints that no action came with, at least.
    idle_interval: float = 10.0

    # Between two looks at the catalogs, the epochs and the slot; more where looking takes long.
    watch_interval: float = 2.0
    longest_watch_interval: float = 60.0

    # Parked rows that are tried again at a time.
    retry_rows: int = 1_000

    # Waiting for a transaction to become visible is worth a warning after this, and again each time.
    warn_after: float = 5.0

    # A session's server has gone silent after this.
    patience: Patience = field(default_factory=Patience)

    # A lane without a commit for this long is no longer waited for, if others move.
    stuck_after: float = 30.0

    # The target is to say that the checkpoint waits for work in flight after this.
    stall_after: float = 5.0

    # That no batch was finished for this long is a reason by itself.
    silent_after: float = 30.0

    # A checkpoint that is being saved by itself may take this long when the process stops.
    save_limit: float = 1.0

    # What is in flight when the process stops may take this long to finish.
    drain_limit: float = 25.0

    # Of which what waits for a failing service or target may take this long.
    failing_limit: float = 1.0

    # Between two attempts to attach: the first wait, and the longest.
    first_wait: float = 0.2
    longest_wait: float = 30.0

    # After this long at work, the next wait is the first one again.
    healthy_after: float = 60.0


TIMING: Final = Timing()
