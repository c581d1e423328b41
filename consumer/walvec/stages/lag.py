"""The age of the oldest commit that is received and not yet saved.

A commit's time is kept as it came, in microseconds since 2000-01-01 UTC.
"""

from collections import deque
from itertools import islice
from time import time

from walvec_slots.lsn import Lsn
from walvec_slots.protocol import POSTGRES_EPOCH_US

# Entries from which two neighbours become one.
_LIMIT = 1_024

# Transactions that follow each other: where the newest one's commit ends, and when the oldest was committed.
_Entry = tuple[Lsn, int]


class Awaited:
    """The transactions that the checkpoint does not cover yet, oldest first.

    Its size is bounded: neighbours share an entry where there are many. The oldest one's age is then
    overstated, never understated.
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


def commit_age(committed_at: int | None) -> float:
    """Return how many seconds ago a commit was, by this machine's clock.

    0.0 for a commit that lies ahead, and for None.
    """
    if committed_at is None:
        return 0.0
    return max(0.0, time() - (committed_at + POSTGRES_EPOCH_US) / 1e6)
