"""How far an attachment is, as values for displays, probes and metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

from walvec.database.registry import Phase
from walvec_slots.lsn import Lsn
from walvec_slots.manage import Slot


@dataclass(frozen=True, slots=True)
class BackfillStanding:
    """How far one vectorizer's backfill is. A row counts once it is committed."""

    phase: Phase
    rows: int

    # Rows of the table, by its statistics.
    estimated: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an attachment is."""

    # By vectorizer.
    backfills: dict[str, BackfillStanding]

    # Bytes of WAL up to the end that is waited for; 0 without one.
    behind: int

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to show."""
        return self.behind <= 0 and all(backfill.phase == "done" for backfill in self.backfills.values())


@dataclass(frozen=True, slots=True)
class LastLook:
    """What the watch saw of the databases last; None: it has not looked yet."""

    slot: Slot | None = None

    # Parked rows, by vectorizer.
    dead_letters: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Vitals:
    """How an attachment is doing, for probes and metrics."""

    # How far the source has sent.
    received: Lsn

    # The checkpoint.
    saved: Lsn

    # What the slot was told.
    confirmed: Lsn

    # The age of the oldest commit that is not saved; None: the source gave no time.
    lag_seconds: float | None

    # Seconds that the checkpoint has waited for work in flight; 0: it waits for none.
    stalled_for: float

    # The kind of error that the last attempt to write ended with.
    write_failure: str | None

    # Bytes of changes in memory, about.
    buffered: int

    # Segments, by vectorizer.
    in_flight: dict[str, int]
    queued: dict[str, int]

    backfills: dict[str, BackfillStanding]

    # Vectorizers that cannot follow their tables.
    paused: Sequence[str]

    # As the watch saw them last.
    slot: Slot | None
    dead_letters: dict[str, int] | None
