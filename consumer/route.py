"""From the stream's messages to the lanes: which changes matter to whom, and which transaction they belong
to.

Synchronous: what one read brings is planned before anything else happens, so that all lanes see one order.
"""

from collections import defaultdict
from collections.abc import Iterable

from consumer.bind import Binding
from consumer.lag import Awaited, age
from consumer.lane import Lane
from consumer.plan import RowShape, Unidentified, plan
from consumer.visibility import Unseen
from slots.ack import Ledger
from slots.lsn import Lsn
from slots.wal2json import Begin, Change, Commit, Event, Truncate

Table = tuple[str, str]


class Router:
    """Plans messages into lanes and keeps the ledger of what is planned."""

    def __init__(self, lanes: Iterable[Lane], ledger: Ledger, unseen: Unseen) -> None:
        """Route to `lanes`, each from where the ledger says it stands."""
        self._ledger = ledger
        self._unseen = unseen
        self._lanes: dict[Table, list[tuple[Lane, RowShape, Lsn]]] = defaultdict(list)
        self._truncates: dict[Table, list[tuple[Lane, Lsn]]] = defaultdict(list)
        for lane in lanes:
            shape, start = lane.binding.shape(), ledger.applied(lane.name)
            for table in lane.binding.tables:
                self._lanes[table].append((lane, shape, start))
            if "truncate" in lane.binding.published.actions:
                for table in streamed_tables(lane.binding):
                    self._truncates[table].append((lane, start))
        self._transaction: Lsn | None = None
        self._committed_at = ""  # the transaction at hand
        self._awaited = Awaited()
        self._truncated: set[Table] = set()
        self._acting = False
        self.acted = Lsn(0)  # the newest transaction that asked anything of a lane
        self.foreign = (
            False  # whether a transaction has ended since this was reset that is not our own idle progress
        )
        self.own_xid: int | None = None

    def route(self, message: Event) -> None:
        """Plan one message."""
        match message:
            case Change():
                self._change(message)
            case Begin():
                self._transaction = message.next_lsn
                self._committed_at = message.timestamp
                self._acting = False
                self._unseen.decoded(message.xid)
            case Commit():
                self._finish_truncates()
                if self._acting:
                    self.acted = max(self.acted, message.next_lsn)
                    self._awaited.add(message.next_lsn, message.timestamp, self._ledger.saved)
                self.foreign = self.foreign or message.xid != self.own_xid
                self._ledger.complete(message.next_lsn, transactions=int(self._acting))
                self._transaction = None
                self._acting = False
            case Truncate():
                self._truncate(message)

    def keepalive(self, wal_end: Lsn) -> None:
        """Note how far the server has read, which counts between transactions only."""
        if self._transaction is None:
            self._ledger.complete(wal_end)

    def lag_seconds(self) -> float | None:
        """Return the age of the oldest commit that asked for something and is not covered by the checkpoint.

        0.0 where there is none; a transaction that is still arriving counts. None: its time cannot be told.
        """
        oldest = self._awaited.oldest(self._ledger.saved)
        return age(oldest or (self._committed_at if self._acting else None))

    def _change(self, change: Change) -> None:
        for lane, shape, start in self._lanes.get((change.schema, change.table), ()):
            if self._replayed(start):
                continue
            self._acting = True
            try:
                for key, action in plan(change, shape):
                    lane.push(key, action)
            except Unidentified:
                lane.sweep()

    def _truncate(self, message: Truncate) -> None:
        """Empty the lanes of the table itself. What a truncated partition held is looked for once all names
        are in.
        """
        table = (message.schema, message.table)
        for lane, start in self._truncates.get(table, ()):
            if self._replayed(start):
                continue
            self._acting = True
            self._truncated.add(table)
            if table == lane.binding.vectorizer.table:
                lane.truncate()

    def _finish_truncates(self) -> None:
        """A partition truncated by itself leaves the rest of its table: only a look at the source tells which
        keys.
        """
        for table in self._truncated:
            for lane, start in self._truncates[table]:
                if lane.binding.vectorizer.table not in self._truncated and not self._replayed(start):
                    lane.sweep()
        self._truncated.clear()

    def _replayed(self, start: Lsn) -> bool:
        """Whether the lane had this transaction before the process began. Its commit's end alone tells."""
        return self._transaction is not None and self._transaction <= start


def streamed_tables(binding: Binding) -> set[Table]:
    """Return the tables whose messages a vectorizer needs: its table, for a truncate, and its partitions."""
    schema, name = binding.vectorizer.table
    return {(schema, name), *binding.tables}
