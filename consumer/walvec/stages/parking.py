"""Rows that cannot be embedded: when one is tried again, and when there are too many of them.

`prepare` finds such rows, `write` parks them and takes them out again, `watch` puts back into work those
that `walvec dead-letter retry` asked for, and those whose cause may have passed: a minute after they were
parked, then after twice as long each time, up to a day.

Pure: no clock, no database.
"""

from collections.abc import Collection
from dataclasses import dataclass

from walvec.database.dead_letters import DeadLetter

SHARE_WINDOW = 1_000  # rows, of which more than half parked are too many


class Retries:
    """What was asked to be tried again, or is due, so that nothing is put into work twice.

    A row stays asked for until its attempt has ended. It is told from one that was asked for again, after it
    failed again, by its attempts.
    """

    def __init__(self) -> None:
        """Begin with nothing asked for."""
        self._asked: frozenset[DeadLetter] = frozenset()

    def fresh(self, asked: Collection[DeadLetter]) -> list[DeadLetter]:
        """Return what was not asked for at the last look."""
        before, self._asked = self._asked, frozenset(asked)
        return [letter for letter in asked if letter not in before]

    @property
    def at_work(self) -> bool:
        """Whether anything was asked for at the last look."""
        return bool(self._asked)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of a vectorizer's last rows were parked.

    A systematic error, a wrong expression or another kind of data, parks row after row: somebody has to look
    before the table of dead letters is full of them.
    """

    window: int  # rows to look at, or a few more: batches count whole
    batches: tuple[tuple[int, int], ...] = ()  # rows, and how many of them were parked; the oldest first

    def after(self, rows: int, parked: int) -> "Share":
        """Return the share once a batch is counted too."""
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
