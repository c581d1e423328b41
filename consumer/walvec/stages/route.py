"""From the stream's messages to the lanes: which changes matter to which lane.

Synchronous: what one read brings is planned before anything else happens, so that all lanes see one order.

A transaction is placed by where its commit record begins. A checkpoint and a horizon lie between two records,
so a record that begins before one of them also ends at or before it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from walvec.database.checkpoint import Landmark
from walvec.stages.lag import Awaited, commit_age
from walvec.stages.landmark import Landmarks, Replay
from walvec.stages.lane import Lane
from walvec.stages.plan import Unidentified, plan_change, plan_refetch
from walvec.stages.visibility import Unseen
from walvec.vectorizer.row_shape import RowShape
from walvec_slots.ack import Ledger
from walvec_slots.changes import Begin, Change, Commit, Event, Table, Truncate
from walvec_slots.lsn import Lsn

# A place past every other one in the WAL.
NEVER = Lsn(0xFFFF_FFFF_FFFF_FFFF)


class _Follower(NamedTuple):
    """A lane that follows a table."""

    lane: Lane
    shape: RowShape

    # What commits before it is applied already.
    start: Lsn

    # What commits before it says which rows have changed, and nothing else.
    horizon: Lsn


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
        """Route to `lanes`, each from where the ledger says that it is.

        `horizons`: by lane, the place before which its epoch does not rely on what a change says.
        `replay` is shown every commit.
        What commits after `until`, a place between two records, is left to the next attachment.
        """
        self._ledger = ledger
        self._unseen = unseen
        self._replay = replay
        self._until = until

        # Whether a transaction has begun that ends after `until`.
        self._is_past = False

        self._followers: dict[Table, list[_Follower]] = defaultdict(list)
        for lane in lanes:
            start, horizon = ledger.applied(lane.name), horizons[lane.name]
            follower = _Follower(lane, lane.binding.shape(), start, horizon)
            for table in lane.binding.tables:
                self._followers[table].append(follower)

        # The transaction at hand: where its commit record begins, when it was committed, in microseconds
        # since 2000-01-01, and whether it asks anything of a lane.
        self._transaction: Lsn | None = None
        self._committed_at = 0
        self._acting = False

        # The tables that the statement at hand truncates, and where.
        self._truncated: set[Table] = set()
        self._truncated_at = Lsn(0)

        self._awaited = Awaited()
        self.landmarks = Landmarks()

        # The newest transaction that asked anything of a lane.
        self.acted = Lsn(0)

        # Whether a transaction has ended since `forget_foreign` that is not our own idle progress.
        self.passed_foreign = False
        self._own_xid: int | None = None

    def route(self, message: Event) -> None:
        """Plan one message.

        Raises SlotLost where the source has other transactions than it had before.
        """
        if isinstance(message, Begin) and message.lsn >= self._until:
            # Transactions come in the order of their commits, so none from before is missing.
            self.note_keepalive(self._until)
            self._is_past = True
        if not self._is_past:
            self._plan_message(message)

    def note_keepalive(self, wal_end: Lsn) -> None:
        """Note how far the server has read, which counts between transactions only."""
        if self._transaction is None:
            wal_end = min(wal_end, self._until)
            self._replay.note_passed(wal_end)
            self._ledger.complete(wal_end)

    def forget_foreign(self) -> None:
        """Note that the progress made so far is about to be saved."""
        self.passed_foreign = False

    def note_own(self, xid: int) -> None:
        """Note the transaction that saved idle progress, which is not worth saving again."""
        self._own_xid = xid

    def lag_seconds(self) -> float:
        """Return the age of the oldest commit that asked for something and is not saved.

        0.0 where there is none. A transaction that is still arriving counts.
        """
        oldest = self._awaited.oldest(self._ledger.saved)
        return commit_age(self._committed_at if oldest is None and self._acting else oldest)

    def _plan_message(self, message: Event) -> None:
        if self._truncated and not (isinstance(message, Truncate) and message.lsn == self._truncated_at):
            self._finish_truncate()
        match message:
            case Change():
                self._plan_change(message)
            case Begin():
                self._transaction = message.lsn
                self._committed_at = message.committed_at
                self._acting = False
                self._unseen.note_decoded(message.xid)
            case Commit():
                self._end_transaction(message)
            case Truncate():
                self._truncated.update(message.tables)
                self._truncated_at = message.lsn

    def _end_transaction(self, commit: Commit) -> None:
        self._replay.note_passed(commit.next_lsn, commit.xid)
        if self._acting:
            self.acted = max(self.acted, commit.next_lsn)
            self.landmarks.add(Landmark(commit.xid, commit.next_lsn))
            self._awaited.add(commit.next_lsn, self._committed_at, self._ledger.saved)
        self.passed_foreign = self.passed_foreign or commit.xid != self._own_xid
        self._ledger.complete(commit.next_lsn, transactions=int(self._acting))
        self._transaction = None
        self._acting = False

    def _plan_change(self, change: Change) -> None:
        for lane, shape, start, horizon in self._followers.get((change.schema, change.table), ()):
            if self._commits_before(start):
                continue
            self._acting = True
            plan = plan_refetch if self._commits_before(horizon) else plan_change
            try:
                actions = plan(change, shape)
            except Unidentified:
                lane.request_sweep()
                continue
            for key, action in actions:
                lane.push(key, action)

    def _finish_truncate(self) -> None:
        """Plan a TRUNCATE once all its names are in.

        It empties a table if it names every published leaf. A partition truncated by itself leaves the rest
        of its table, and what was truncated before the horizon may have been another table: then only a look
        at the source tells which keys are gone.
        """
        truncated, self._truncated = self._truncated, set()
        followers = {
            follower.lane.name: follower for table in truncated for follower in self._followers.get(table, ())
        }
        for lane, shape, start, horizon in followers.values():
            if "truncate" not in shape.published or self._commits_before(start):
                continue
            self._acting = True
            if self._commits_before(horizon) or not truncated.issuperset(lane.binding.tables):
                lane.request_sweep()
            else:
                lane.truncate()

    def _commits_before(self, place: Lsn) -> bool:
        """Whether the transaction at hand ends at or before a place between two records."""
        return self._transaction is not None and self._transaction < place
