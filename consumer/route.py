"""From the stream's messages to the lanes: which changes matter to whom, and of which transaction they are.

Synchronous: what one read brings is planned before anything else happens, so that all lanes see one order.

A transaction is placed by where its commit record begins. A checkpoint and a horizon lie between two records,
so a record that begins before one of them also ends at or before it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from consumer.bind import Binding
from consumer.lag import Awaited, age
from consumer.landmark import Landmark, Landmarks, Replay
from consumer.lane import Lane
from consumer.plan import RowShape, Unidentified, plan, plan_refetch
from consumer.visibility import Unseen
from slots.ack import Ledger
from slots.lsn import Lsn
from slots.wal2json import Begin, Change, Commit, Event, Truncate

Table = tuple[str, str]


class _Follower(NamedTuple):
    """A lane that follows a table."""

    lane: Lane
    shape: RowShape
    start: Lsn  # what commits before it is applied already
    horizon: Lsn  # what commits before it says which rows have changed, and nothing else


class Router:
    """Plans messages into lanes and keeps the ledger of what is planned."""

    def __init__(
        self,
        lanes: Iterable[Lane],
        ledger: Ledger,
        unseen: Unseen,
        replay: Replay,
        *,
        horizons: Mapping[str, Lsn],
    ) -> None:
        """Route to `lanes`, each from where the ledger says it stands.

        `horizons`: by lane, the end of what its epoch does not take a change's word for. `replay` is shown
        every commit.
        """
        self._ledger = ledger
        self._unseen = unseen
        self._replay = replay
        self._followers: dict[Table, list[_Follower]] = defaultdict(list)
        self._truncates: dict[Table, list[_Follower]] = defaultdict(list)
        for lane in lanes:
            start, horizon = ledger.applied(lane.name), horizons[lane.name]
            follower = _Follower(lane, lane.binding.shape(), start, horizon)
            for table in lane.binding.tables:
                self._followers[table].append(follower)
            if "truncate" in lane.binding.published.actions:
                for table in streamed_tables(lane.binding):
                    self._truncates[table].append(follower)
        self._transaction: Lsn | None = None  # where the commit record of the transaction at hand begins
        self._committed_at = ""  # that transaction
        self._awaited = Awaited()
        self._truncated: set[Table] = set()
        self._acting = False
        self.landmarks = Landmarks()
        self.acted = Lsn(0)  # the newest transaction that asked anything of a lane
        # Whether a transaction has ended since this was reset that is not our own idle progress.
        self.foreign = False
        self.own_xid: int | None = None

    def route(self, message: Event) -> None:
        """Plan one message. Raises SlotLost where the source has other transactions than it had before."""
        match message:
            case Change():
                self._change(message)
            case Begin():
                self._transaction = message.lsn
                self._committed_at = message.timestamp
                self._acting = False
                self._unseen.decoded(message.xid)
            case Commit():
                self._finish_truncates()
                self._replay.passed(message.next_lsn, message.xid)
                if self._acting:
                    self.acted = max(self.acted, message.next_lsn)
                    self.landmarks.add(Landmark(message.xid, message.next_lsn))
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
            self._replay.passed(wal_end)
            self._ledger.complete(wal_end)

    def lag_seconds(self) -> float | None:
        """Return the age of the oldest commit that asked for something and is not covered by the checkpoint.

        0.0 where there is none; a transaction that is still arriving counts. None: its time cannot be told.
        """
        oldest = self._awaited.oldest(self._ledger.saved)
        return age(oldest or (self._committed_at if self._acting else None))

    def _change(self, change: Change) -> None:
        for lane, shape, start, horizon in self._followers.get((change.schema, change.table), ()):
            if self._commits_before(start):
                continue
            self._acting = True
            try:
                actions = (plan_refetch if self._commits_before(horizon) else plan)(change, shape)
            except Unidentified:
                lane.sweep()
                continue
            for key, action in actions:
                lane.push(key, action)

    def _truncate(self, message: Truncate) -> None:
        """Empty the lanes of the table itself.

        What a truncated partition held is looked for once all names of the statement are in. What was
        truncated before the horizon may have been another table: that too only tells that keys may be gone.
        """
        table = (message.schema, message.table)
        for lane, _, start, horizon in self._truncates.get(table, ()):
            if self._commits_before(start):
                continue
            self._acting = True
            self._truncated.add(table)
            if self._commits_before(horizon):
                lane.sweep()
            elif table == lane.binding.vectorizer.table:
                lane.truncate()

    def _finish_truncates(self) -> None:
        """A partition truncated by itself leaves the rest of its table: only a look at the source tells which
        keys.
        """
        for table in self._truncated:
            for lane, _, start, _ in self._truncates[table]:
                if lane.binding.vectorizer.table not in self._truncated and not self._commits_before(start):
                    lane.sweep()
        self._truncated.clear()

    def _commits_before(self, place: Lsn) -> bool:
        """Whether the transaction at hand ends at or before a place between two records."""
        return self._transaction is not None and self._transaction < place


def streamed_tables(binding: Binding) -> set[Table]:
    """Return the tables whose messages a vectorizer needs: its table, for a truncate, and its partitions."""
    schema, name = binding.vectorizer.table
    return {(schema, name), *binding.tables}
