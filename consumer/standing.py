"""How far an attachment is, as values for whoever shows it."""

from dataclasses import dataclass

from consumer.metadata import Phase


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
