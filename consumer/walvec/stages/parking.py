"""Rows that cannot be embedded: when they are tried again, and when they are many.

`prepare` finds such rows, and `write` parks them and removes their dead letters again. `watch` has them tried
again: those that `walvec dead-letter retry` asked for, and those whose cause may have passed, a minute after
they were parked, then after twice as long each time, up to a day.

Pure: no clock, no database.
"""

from collections.abc import Collection
from dataclasses import dataclass

from walvec.database.dead_letters import DeadLetter

# Rows, of which more than half parked are too many.
SHARE_WINDOW = 1_000


class Retries:
    """The dead letters that are asked for or due, so that none is tried twice at once.

    A dead letter stays asked for until its attempt has ended. The number of its attempts tells it from one
    that was asked for again after it failed again.
    """

    def __init__(self) -> None:
        """Begin with nothing asked for."""
        self._asked: frozenset[DeadLetter] = frozenset()

    def newly_asked(self, asked: Collection[DeadLetter]) -> list[DeadLetter]:
        """Return those that were not asked for at the last look."""
        before, self._asked = self._asked, frozenset(asked)
        return [letter for letter in asked if letter not in before]

    @property
    def at_work(self) -> bool:
        """Whether anything was asked for at the last look."""
        return bool(self._asked)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of a vectorizer's last rows were parked.

    A systematic error, a wrong expression or another kind of data, parks row after row. It has to be looked
    at before the table of dead letters is full.
    """

    # Rows to look at, or a few more: batches count whole.
    window: int

    # For each batch, its rows and how many of them were parked; the oldest first.
    batches: tuple[tuple[int, int], ...] = ()

    def with_batch(self, rows: int, parked: int) -> "Share":
        """Return the share with a batch counted too."""
        if rows == 0:
            return self
        batches = (*self.batches, (rows, parked))
        seen, first = sum(rows for rows, _ in batches), 0
        while seen - batches[first][0] >= self.window:
            seen -= batches[first][0]
            first += 1
        return Share(self.window, batches[first:])

    @property
    def over_half(self) -> bool:
        """Whether most rows of a full window were parked."""
        rows = sum(rows for rows, _ in self.batches)
        return rows >= self.window and 2 * sum(parked for _, parked in self.batches) > rows
