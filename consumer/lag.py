"""How old the oldest commit is that has been received and is not yet embedded and committed.

A commit's time is kept as the text that came with it, by transaction, and read only when somebody asks.
"""

from collections import deque
from datetime import datetime
from itertools import islice
from time import time

from slots.lsn import Lsn

_LIMIT = 1_024  # entries, from which two neighbours become one


# Transactions that follow each other: the newest one's commit end, and the oldest one's commit.
_Entry = tuple[Lsn, str]


class Awaited:
    """The transactions that the checkpoint is still to cover, oldest first; of bounded size.

    Where there are more of them than entries, neighbours share one: what is said then is the age of a commit
    up to that much older than the oldest, never of a newer one.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._entries: deque[_Entry] = deque()

    def add(self, end: Lsn, timestamp: str, saved: Lsn) -> None:
        """Note a transaction's commit end and time, as timestamptz text; `saved` is the checkpoint."""
        self._forget(saved)
        self._entries.append((end, timestamp))
        if len(self._entries) >= _LIMIT:
            pairs = zip(islice(self._entries, 0, None, 2), islice(self._entries, 1, None, 2), strict=True)
            self._entries = deque((end, timestamp) for (_, timestamp), (end, _) in pairs)

    def oldest(self, saved: Lsn) -> str | None:
        """Return when the oldest one past the checkpoint was committed."""
        self._forget(saved)
        return self._entries[0][1] if self._entries else None

    def _forget(self, saved: Lsn) -> None:
        while self._entries and self._entries[0][0] <= saved:
            self._entries.popleft()


def age(timestamp: str | None) -> float | None:
    """Return how many seconds ago a commit was, by this machine's clock; 0.0 where it is ahead, or for None.

    Returns None for a time that cannot be told: a server's clock may stand before year 1 or past 9999.
    """
    if timestamp is None:
        return 0.0
    try:
        committed = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return max(0.0, time() - committed.timestamp())
