"""How old the oldest commit is that has been received and is not yet embedded and committed.

A commit's time is kept as it came, in microseconds since 2000-01-01 UTC.
"""

from collections import deque
from itertools import islice
from time import time

from walvec_slots.lsn import Lsn
from walvec_slots.protocol import POSTGRES_EPOCH_US

_LIMIT = 1_024  # entries, from which two neighbours become one


# Transactions that follow each other: the newest one's commit end, and the oldest one's commit.
_Entry = tuple[Lsn, int]


class Awaited:
    """The transactions that the checkpoint is still to cover, oldest first; of bounded size.

    Where there are more of them than entries, neighbours share one: what is said then is the age of a commit
    up to that much older than the oldest, never of a newer one.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._entries: deque[_Entry] = deque()

    def add(self, end: Lsn, committed_at: int, saved: Lsn) -> None:
        """Note a transaction's commit end and time; `saved` is the checkpoint."""
        self._forget(saved)
        self._entries.append((end, committed_at))
        if len(self._entries) >= _LIMIT:
            pairs = zip(islice(self._entries, 0, None, 2), islice(self._entries, 1, None, 2), strict=True)
            self._entries = deque((end, committed_at) for (_, committed_at), (end, _) in pairs)

    def oldest(self, saved: Lsn) -> int | None:
        """Return when the oldest one past the checkpoint was committed."""
        self._forget(saved)
        return self._entries[0][1] if self._entries else None

    def _forget(self, saved: Lsn) -> None:
        while self._entries and self._entries[0][0] <= saved:
            self._entries.popleft()


def age(committed_at: int | None) -> float:
    """Return how many seconds ago a commit was, by this machine's clock.

    0.0 where that is ahead, or for None.
    """
    if committed_at is None:
        return 0.0
    return max(0.0, time() - (committed_at + POSTGRES_EPOCH_US) / 1e6)
