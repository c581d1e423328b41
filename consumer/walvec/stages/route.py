"""From the stream's messages to the lanes: which changes matter to whom, and of which transaction they are.

Synchronous: what one read brings is planned before anything else happens, so that all lanes see one order.

A transaction is placed by where its commit record begins. A checkpoint and a horizon lie between two records,
so a record that begins before one of them also ends at or before it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from walvec.database.checkpoint import Landmark
from walvec.stages.lag import Awaited, age
from walvec.stages.landmark import Landmarks, Replay
from walvec.stages.lane import Lane
from walvec.stages.plan import Unidentified, plan, plan_refetch
from walvec.stages.visibility import Unseen
from walvec.vectorizer.row_shape import RowShape
from walvec_slots.ack import Ledger
from walvec_slots.changes import Begin, Change, Commit, Event, Table, Truncate
from walvec_slots.lsn import Lsn

NEVER = Lsn(0xFFFF_FFFF_FFFF_FFFF)  # past every place in the WAL


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
        until: Lsn = NEVER,
    ) -> None:
        """Route to `lanes`, each from where the ledger says it stands.

        `horizons`: by lane, the end of what its epoch does not take a change's word for. `replay` is shown
        every commit. What commits after `until`, a place between two records, is left to the next attachment.
        """
        self._ledger = ledger
        self._unseen = unseen
        self._replay = replay
        self._until = until
        self._is_past = False  # a transaction has begun that ends after `until`
        self._followers: dict[Table, list[_Follower]] = defaultdict(list)
        for lane in lanes:
            start, horizon = ledger.applied(lane.name), horizons[lane.name]
            follower = _Follower(lane, lane.binding.shape(), start, horizon)
            for table in lane.binding.tables:
                self._followers[table].append(follower)
        self._transaction: Lsn | None = None  # where the commit record of the transaction at hand begins
        self._committed_at = 0  # that transaction, in microseconds since 2000-01-01
        self._awaited = Awaited()
        self._truncated: set[Table] = set()  # by the statement at hand
        self._truncated_at = Lsn(0)
        self._acting = False
        self.landmarks = Landmarks()
        self.acted = Lsn(0)  # the newest transaction that asked anything of a lane
        # Whether a transaction has ended since this was reset that is not our own idle progress.
        self.foreign = False
        self.own_xid: int | None = None

    def route(self, message: Event) -> None:
        """Plan one message. Raises SlotLost where the source has other transactions than it had before."""
        if isinstance(message, Begin) and message.lsn >= self._until:
            # Transactions come in the order of their commits: none from before is missing.
            self.keepalive(self._until)
            self._is_past = True
        if not self._is_past:
            self._plan(message)

    def _plan(self, message: Event) -> None:
        if self._truncated and not (isinstance(message, Truncate) and message.lsn == self._truncated_at):
            self._finish_truncate()
        match message:
            case Change():
                self._change(message)
            case Begin():
                self._transaction = message.lsn
                self._committed_at = message.committed_at
                self._acting = False
                self._unseen.decoded(message.xid)
            case Commit():
                self._replay.passed(message.next_lsn, message.xid)
                if self._acting:
                    self.acted = max(self.acted, message.next_lsn)
                    self.landmarks.add(Landmark(message.xid, message.next_lsn))
                    self._awaited.add(message.next_lsn, self._committed_at, self._ledger.saved)
                self.foreign = self.foreign or message.xid != self.own_xid
                self._ledger.complete(message.next_lsn, transactions=int(self._acting))
                self._transaction = None
                self._acting = False
            case Truncate():
                self._truncated.update(message.tables)
                self._truncated_at = message.lsn

    def keepalive(self, wal_end: Lsn) -> None:
        """Note how far the server has read, which counts between transactions only."""
        if self._transaction is None:
            wal_end = min(wal_end, self._until)
            self._replay.passed(wal_end)
            self._ledger.complete(wal_end)

    def lag_seconds(self) -> float:
        """Return the age of the oldest commit that asked for something and is not covered by the checkpoint.

        0.0 where there is none; a transaction that is still arriving counts.
        """
        oldest = self._awaited.oldest(self._ledger.saved)
        return age(self._committed_at if oldest is None and self._acting else oldest)

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

    def _finish_truncate(self) -> None:
        """Plan a TRUNCATE once all its names are in: it empties a table if it names every published leaf.

        A partition truncated by itself leaves the rest of its table, and what was truncated before the
        horizon may have been another table: then only a look at the source tells which keys are gone.
        """
        truncated, self._truncated = self._truncated, set()
        followers = {each.lane.name: each for table in truncated for each in self._followers.get(table, ())}
        for lane, shape, start, horizon in followers.values():
            if "truncate" not in shape.published or self._commits_before(start):
                continue
            self._acting = True
            if self._commits_before(horizon) or not truncated.issuperset(lane.binding.tables):
                lane.sweep()
            else:
                lane.truncate()

    def _commits_before(self, place: Lsn) -> bool:
        """Whether the transaction at hand ends at or before a place between two records."""
        return self._transaction is not None and self._transaction < place
