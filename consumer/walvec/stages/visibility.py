"""The visibility rule: a read on behalf of a change must see that change.

A transaction can be decoded before other sessions see it: it leaves the proc array only after its WAL is
flushed and, with a synchronous standby, replicated; minutes later when that standby is away. A row read in
between is the old row, and writing it would put old text over new for good. So every read of a source row
takes `pg_current_snapshot()` too and is taken again until that snapshot sees every transaction decoded before
the read.

Transaction ids come from the stream with 32 bits and from snapshots with 64 (PostgreSQL documentation,
"Transaction IDs and Snapshots"). They are compared modulo the epoch.

Pure: values in, values out.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

_EPOCH = 1 << 32
_HALF = 1 << 31


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one `pg_current_snapshot()` sees: all before `xmax` but those in progress. Ids have 64 bits."""

    xmax: int
    in_progress: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Parse `xmin:xmax:xip,xip`, as `pg_snapshot` is printed."""
        _, xmax, running = text.split(":")
        return cls(int(xmax), frozenset(int(xid) for xid in running.split(",") if xid))

    @property
    def running(self) -> tuple[int, ...]:
        """The low 32 bits of the ids in progress."""
        return tuple(sorted(xid % _EPOCH for xid in self.in_progress))

    def sees(self, xid: int) -> bool:
        """Whether the committed transaction with these low 32 bits of id is visible."""
        full = self._full(xid)
        return full < self.xmax and full not in self.in_progress

    def sees_all(self, xids: Iterable[int]) -> bool:
        """Whether every one of the given committed transactions is visible."""
        return all(map(self.sees, xids))

    @property
    def oldest(self) -> int:
        """An id that no transaction in progress is older than."""
        return min(self.in_progress, default=self.xmax)

    def past(self, xids: Iterable[int]) -> int:
        """Return an id past all that the snapshot tells of, and past those with the given low 32 bits.

        `xmax` is past those that have ended: one that is still open may have a greater id.
        """
        return max([self.xmax, *(self._full(xid) + 1 for xid in xids)])

    def _full(self, xid: int) -> int:
        """Return the 64 bits of an id, which are the ones nearest to xmax."""
        full = self.xmax - (self.xmax - xid) % _EPOCH
        return full + _EPOCH if self.xmax - full >= _HALF else full


class Unseen:
    """The decoded transactions that no snapshot has been seen to contain yet.

    Saved with every checkpoint, so that the rule holds across a restart.
    """

    def __init__(self, xids: Iterable[int] = ()) -> None:
        """Start with the ids (32 bits) that the checkpoint remembers."""
        self._xids = set(xids)

    def decoded(self, xid: int) -> None:
        """Note a transaction as decoded."""
        self._xids.add(xid)

    def observe(self, snapshot: Snapshot) -> None:
        """Forget what a snapshot taken just now contains: every later one contains it too."""
        self._xids = {xid for xid in self._xids if not snapshot.sees(xid)}

    def current(self) -> Collection[int]:
        """Return the ids a read that begins now has to see."""
        return frozenset(self._xids)

    def __len__(self) -> int:
        """Return how many ids are waiting to be seen."""
        return len(self._xids)
