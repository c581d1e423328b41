"""How far an attachment is, as values for whoever shows it."""

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
    estimated: int | None  # rows of the table, by its statistics


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an attachment is."""

    backfills: dict[str, BackfillStanding]  # by vectorizer
    behind: int  # bytes of WAL up to the end that is waited for; 0 without one

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to show."""
        return self.behind <= 0 and all(each.phase == "done" for each in self.backfills.values())


@dataclass(slots=True)
class LastLook:
    """What the watch saw of the databases when it looked last; None: it has not looked yet."""

    slot: Slot | None = None
    dead_letters: dict[str, int] | None = None  # parked rows, by vectorizer


@dataclass(frozen=True, slots=True)
class Vitals:
    """How an attachment does at this moment, for probes and metrics."""

    received: Lsn  # how far the source has sent
    saved: Lsn  # the checkpoint
    confirmed: Lsn  # what the slot was told
    lag_seconds: float | None  # age of the oldest commit not covered by it; None: the source gave no time
    stalled_for: float  # seconds that the checkpoint has waited for work in flight; 0: it waits for none
    write_failure: str | None  # the kind of error that the last try to write ended with
    buffered: int  # bytes of changes in memory, about
    in_flight: dict[str, int]  # segments, by vectorizer
    queued: dict[str, int]  # segments, by vectorizer
    backfills: dict[str, BackfillStanding]
    paused: Sequence[str]  # vectorizers that cannot follow their tables
    slot: Slot | None  # at the last look
    dead_letters: dict[str, int] | None  # at the last look
