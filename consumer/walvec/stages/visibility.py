"""The visibility rule: a read on behalf of a change must see that change.

A transaction can be decoded before other sessions see it: it leaves the proc array only after its WAL is
flushed and, with a synchronous standby, replicated. Where that standby is away, that may be minutes later. A
row read in between is the old row, and writing it would put old text over new for good. So every read of a
source row takes `pg_current_snapshot()` too, and is repeated until that snapshot sees every transaction that
was decoded before the read.

Pure: values in, values out.
"""

from collections.abc import Collection, Iterable

from walvec.database.snapshot import Snapshot

# Transactions from which a snapshot is taken, so that their number stays small.
_MANY = 65


class Unseen:
    """The decoded transactions that no snapshot has been seen to contain yet.

    Saved with every checkpoint, so that the rule holds across a restart.
    """

    def __init__(self, xids: Iterable[int] = ()) -> None:
        """Start with the ids (32 bits) that the checkpoint remembers."""
        self._xids = set(xids)

    def note_decoded(self, xid: int) -> None:
        """Note a transaction as decoded."""
        self._xids.add(xid)

    def observe(self, snapshot: Snapshot) -> None:
        """Forget what a snapshot contains: every later one contains it too."""
        self._xids = {xid for xid in self._xids if not snapshot.sees(xid)}

    def current(self) -> Collection[int]:
        """Return the ids that a read which begins now has to see."""
        return frozenset(self._xids)

    def __bool__(self) -> bool:
        """Whether any transaction is waiting to be seen."""
        return bool(self._xids)

    @property
    def are_many(self) -> bool:
        """Whether there are so many that a snapshot should be taken."""
        return len(self._xids) >= _MANY
