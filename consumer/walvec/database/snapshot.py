"""What a session's snapshot of the database sees, by transaction ids. Pure.

Transaction ids come from the stream with 32 bits and from snapshots with 64 (PostgreSQL documentation,
"Transaction IDs and Snapshots"). They are compared modulo the epoch.
"""

from collections.abc import Iterable
from dataclasses import dataclass

_EPOCH = 1 << 32
_HALF = 1 << 31


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a `pg_current_snapshot()` sees: all before `xmax` but those in progress.

    Ids have 64 bits.
    """

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
        full = self._full_id(xid)
        return full < self.xmax and full not in self.in_progress

    def sees_all(self, xids: Iterable[int]) -> bool:
        """Whether every one of the given committed transactions is visible."""
        return all(map(self.sees, xids))

    @property
    def oldest(self) -> int:
        """The oldest id in progress; `xmax` where none is."""
        return min(self.in_progress, default=self.xmax)

    def id_past(self, xids: Iterable[int]) -> int:
        """Return an id past all that the snapshot knows and past the given ones.

        `xids` are low 32 bits of open transactions, which may be greater than `xmax`: that is only past those
        that have ended.
        """
        return max([self.xmax, *(self._full_id(xid) + 1 for xid in xids)])

    def _full_id(self, xid: int) -> int:
        """Return the 64 bits of an id: of all that fit, those nearest to `xmax`."""
        full = self.xmax - (self.xmax - xid) % _EPOCH
        return full + _EPOCH if self.xmax - full >= _HALF else full
