"""Routing: which lane a message is for, and how far the stream is planned."""

from dataclasses import dataclass, field
from time import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from walvec.config.table_name import TableName
from walvec.database.checkpoint import Landmark
from walvec.database.keys import Key
from walvec.stages.actions import DELETE, REFETCH, Action
from walvec.stages.landmark import Replay
from walvec.stages.lane import Lane
from walvec.stages.route import NEVER, Router
from walvec.stages.visibility import Unseen
from walvec.vectorizer.row_shape import RowShape
from walvec_slots.ack import Ledger
from walvec_slots.changes import Begin, Change, Commit, Event, Message, Truncate
from walvec_slots.errors import SlotLost
from walvec_slots.lsn import Lsn
from walvec_slots.protocol import POSTGRES_EPOCH_US

# In microseconds since 2000-01-01, as the stream has it, and in seconds.
LONG_AGO, YEAR = 1_000_000, 365 * 86_400.0
ALL = frozenset({"insert", "update", "delete", "truncate"})


@dataclass
class Recorder:
    """A lane that notes what it is told."""

    name: str
    binding: Any
    told: list[object] = field(default_factory=list)

    def push(self, key: Key, action: Action) -> None:
        """Note an action."""
        self.told.append((key, action))

    def truncate(self) -> None:
        """Note a truncate."""
        self.told.append("truncate")

    def request_sweep(self) -> None:
        """Note a sweep."""
        self.told.append("sweep")


def lane(name: str, *leaves: str, published: frozenset[str] = ALL) -> Recorder:
    """A lane for a table of the name, or for one with these partitions."""
    shape = RowShape(("id",), ("body",), published, by_image=True)
    binding = SimpleNamespace(
        name=name,
        tables=[("public", leaf) for leaf in leaves or (name,)],
        vectorizer=SimpleNamespace(table=TableName("public", name)),
        published=SimpleNamespace(actions=published),
        shape=lambda: shape,
    )
    return Recorder(name, binding)


class Stream:
    """A router, the ledger it keeps, and the messages of a stream."""

    def __init__(
        self,
        *lanes: Recorder,
        applied: dict[str, int] | None = None,
        horizon: int = 0,
        landmark: Landmark | None = None,
        until: int = NEVER,
    ) -> None:
        starts = {each.name: Lsn((applied or {}).get(each.name, 100)) for each in lanes}
        self.ledger, self.unseen = Ledger(Lsn(100), starts), Unseen()
        self.router = Router(
            cast("list[Lane]", lanes),
            self.ledger,
            self.unseen,
            Replay("walvec", landmark, Lsn(50)),
            horizons=dict.fromkeys(starts, Lsn(horizon)),
            until=Lsn(until),
        )

    def transaction(self, end: int, *events: Event, xid: int = 7, committed: int = LONG_AGO) -> None:
        """Route a transaction that ends there."""
        begin, commit = Begin(xid, Lsn(end - 1), committed), Commit(xid, Lsn(end - 1), Lsn(end))
        for event in (begin, *events, commit):
            self.router.route(event)


def delete(key: int | None, table: str = "blog", schema: str = "public") -> Change:
    """A delete of a row."""
    return Change("delete", Lsn(1), schema, table, {}, {"id": None if key is None else str(key)})


def truncate(*tables: str, at: int = 1) -> list[Event]:
    """A truncate as wal2json sends it, table by table."""
    return [Truncate(Lsn(at), (("public", table),)) for table in tables]


def test_each_lane_gets_its_tables() -> None:
    """Two vectorizers of one table both get its changes, and those of no other table."""
    blog, titles, page = lane("blog"), lane("titles", "blog"), lane("page")
    Stream(blog, titles, page).transaction(
        110, delete(1), delete(2, "page"), delete(3, schema="other"), delete(4, "x")
    )
    assert [each.told for each in (blog, titles, page)] == [
        [(("1",), DELETE)],
        [(("1",), DELETE)],
        [(("2",), DELETE)],
    ]


class TestTruncate:
    """A truncate may name the table, its partitions, or others."""

    @pytest.mark.parametrize(
        ("tables", "told"),
        [
            (["blog_1", "blog_2"], ["truncate"]),
            (["page", "blog_2", "blog_1"], ["truncate"]),
            (["blog_1"], ["sweep"]),
            (["blog_1", "page"], ["sweep"]),
            (["page"], []),
        ],
    )
    @pytest.mark.parametrize("together", [True, False])
    def test_partitions(self, tables: list[str], told: list[object], *, together: bool) -> None:
        """A statement that names every partition empties the table; after any other the source is asked.

        pgoutput names them in one message, wal2json in one each.
        """
        blog = lane("blog", "blog_1", "blog_2")
        named = Truncate(Lsn(1), tuple(("public", table) for table in tables))
        Stream(blog).transaction(110, *([named] if together else truncate(*tables)))
        assert blog.told == told

    def test_partitions_truncated_one_after_the_other(self) -> None:
        """Two statements are not one: rows may have come in between."""
        blog = lane("blog", "blog_1", "blog_2")
        Stream(blog).transaction(110, *truncate("blog_1"), *truncate("blog_2", at=2))
        assert blog.told == ["sweep", "sweep"]

    def test_unpublished(self) -> None:
        """A truncate that is not published is not followed."""
        blog = lane("blog", published=frozenset({"insert"}))
        Stream(blog).transaction(110, *truncate("blog"))
        assert blog.told == []

    @pytest.mark.parametrize(("tables", "told"), [(["blog_1"], "sweep"), (["blog_1", "blog_2"], "truncate")])
    def test_place_among_the_changes(self, tables: list[str], told: str) -> None:
        """A truncate is planned where it stands in its transaction, not at the end of it."""
        blog = lane("blog", "blog_1", "blog_2")
        Stream(blog).transaction(110, delete(1, "blog_1"), *truncate(*tables), delete(2, "blog_1"))
        assert blog.told == [(("1",), DELETE), told, (("2",), DELETE)]


def test_change_without_a_key() -> None:
    """Some row has changed, so the keys are looked up."""
    blog = lane("blog")
    Stream(blog).transaction(110, delete(None))
    assert blog.told == ["sweep"]


class TestReplay:
    """After a restart the stream begins before what some lanes have applied."""

    @pytest.mark.parametrize(("end", "told"), [(110, []), (120, []), (121, [(("1",), DELETE)])])
    def test_by_the_commits_end(self, end: int, told: list[object]) -> None:
        """A transaction is skipped by a lane that has it, which its end alone tells."""
        blog = lane("blog")
        Stream(blog, applied={"blog": 120}).transaction(end, delete(1))
        assert blog.told == told

    def test_by_lane(self) -> None:
        """A lane that does not have the transaction gets it."""
        blog, page = lane("blog"), lane("page", "blog")
        Stream(blog, page, applied={"blog": 120}).transaction(110, delete(1))
        assert (blog.told, page.told) == ([], [(("1",), DELETE)])


class TestEpoch:
    """A change at or before the horizon may be of another table, or older than a read."""

    @pytest.mark.parametrize(("end", "action"), [(110, REFETCH), (120, REFETCH), (121, DELETE)])
    def test_change_up_to_the_horizon_is_read_by_key(self, end: int, action: Action) -> None:
        """A change that ends at or before the horizon is never relied on."""
        blog = lane("blog")
        Stream(blog, horizon=120).transaction(end, delete(1))
        assert blog.told == [(("1",), action)]

    def test_change_of_key_names_both_rows(self) -> None:
        """Both the old and the new key of an update before the horizon are read."""
        blog = lane("blog")
        change = Change("update", Lsn(1), "public", "blog", {"id": "2", "body": "x"}, {"id": "1"})
        Stream(blog, horizon=120).transaction(110, change)
        assert blog.told == [(("1",), REFETCH), (("2",), REFETCH)]

    def test_truncate_up_to_the_horizon_empties_nothing(self) -> None:
        """A truncate that may have been another table's has the keys looked up."""
        blog = lane("blog")
        Stream(blog, horizon=120).transaction(110, *truncate("blog"))
        assert blog.told == ["sweep"]

    def test_change_without_a_key_before_the_horizon_has_the_keys_looked_up(self) -> None:
        """A change of a table with another key still means that something has changed."""
        blog = lane("blog")
        Stream(blog, horizon=120).transaction(110, delete(None))
        assert blog.told == ["sweep"]


class TestLandmark:
    """A stream that begins before the checkpoint has to send the last commit that it covers."""

    def test_same_commit_in_the_same_place_goes_on(self) -> None:
        """The replay of what was embedded is not refused."""
        blog = lane("blog")
        stream = Stream(blog, landmark=Landmark(7, Lsn(90)))
        stream.transaction(90, xid=7)
        stream.transaction(110, delete(1))
        assert blog.told == [(("1",), DELETE)]

    @pytest.mark.parametrize(("end", "xid"), [(90, 8), (91, 7), (110, 7)])
    def test_other_commit_is_refused(self, end: int, xid: int) -> None:
        """A commit of another transaction there, or the first one past it, shows that the source moved."""
        stream = Stream(lane("blog"), landmark=Landmark(7, Lsn(90)))
        with pytest.raises(SlotLost):
            stream.transaction(end, xid=xid)

    def test_keepalive_past_it_is_refused(self) -> None:
        """A source that has read past the place without sending the commit no longer has it."""
        stream = Stream(lane("blog"), landmark=Landmark(7, Lsn(90)))
        stream.router.note_keepalive(Lsn(89))
        with pytest.raises(SlotLost):
            stream.router.note_keepalive(Lsn(90))

    def test_landmark_before_the_streams_beginning_is_not_waited_for(self) -> None:
        """A slot that was confirmed past the commit does not send it again."""
        stream = Stream(lane("blog"), landmark=Landmark(7, Lsn(50)))
        stream.transaction(110, xid=8)
        assert stream.ledger.planned == Lsn(110)

    def test_checkpoint_covers_the_last_followed_commit_before_it(self) -> None:
        """Commits that no lane follows are no landmarks, nor are those past the checkpoint."""
        stream = Stream(lane("blog"))
        stream.transaction(110, delete(1), xid=7)
        stream.transaction(120, xid=8)
        stream.transaction(130, delete(1), xid=9)
        covered = [stream.router.landmarks.covered_by(Lsn(end)) for end in (109, 110, 129, 130, 150)]
        first, last = Landmark(7, Lsn(110)), Landmark(9, Lsn(130))
        assert covered == [None, first, first, last, last]


class TestPlace:
    """The ledger says how far the stream is planned."""

    def test_commit(self) -> None:
        """The stream is planned through a transaction's end."""
        stream = Stream(lane("blog"))
        stream.transaction(110)
        assert stream.ledger.planned == Lsn(110)

    def test_keepalive_between_transactions(self) -> None:
        """The stream is planned through what the server has read."""
        stream = Stream(lane("blog"))
        stream.router.note_keepalive(Lsn(150))
        assert stream.ledger.planned == Lsn(150)

    def test_keepalive_within_a_transaction(self) -> None:
        """The stream is planned no further: the changes are still to come."""
        stream = Stream(lane("blog"))
        stream.router.route(Begin(7, Lsn(109), LONG_AGO))
        stream.router.note_keepalive(Lsn(150))
        assert stream.ledger.planned == Lsn(100)

    def test_transactions_are_noted_as_unseen(self) -> None:
        """A transaction is unseen until a snapshot contains it."""
        stream = Stream(lane("blog"))
        stream.transaction(110, xid=7)
        stream.transaction(120, xid=8)
        assert set(stream.unseen.current()) == {7, 8}

    def test_transaction_is_unseen_from_its_begin(self) -> None:
        """Rows of a large transaction are read before its end: those reads must see it too."""
        stream = Stream(lane("blog"))
        stream.router.route(Begin(7, Lsn(109), LONG_AGO))
        assert set(stream.unseen.current()) == {7}

    def test_what_asks_for_something(self) -> None:
        """The newest transaction with a change that a lane follows is remembered."""
        stream = Stream(lane("blog"))
        stream.transaction(110, delete(1))
        stream.transaction(120, delete(1, "page"), Message(Lsn(1), transactional=True, prefix="", content=""))
        assert stream.router.acted == Lsn(110)

    def test_own_progress_is_not_foreign(self) -> None:
        """The transaction that saves its progress does not keep a sidecar busy."""
        stream = Stream(lane("blog"))
        stream.router.note_own(7)
        stream.transaction(110, xid=7)
        own = stream.router.passed_foreign
        stream.transaction(120, xid=8)
        assert (own, stream.router.passed_foreign) == (False, True)


class TestLag:
    """Lag is the age of the oldest commit that is to be embedded."""

    def test_no_change_that_is_followed(self) -> None:
        """A change of a table that nobody follows is no lag."""
        stream = Stream(lane("blog"))
        stream.transaction(110, delete(1, "page"), committed=LONG_AGO)
        assert stream.router.lag_seconds() == 0.0

    def test_until_the_checkpoint_covers_it(self) -> None:
        """A transaction that others follow still counts by its own time."""
        stream = Stream(lane("blog"))
        stream.transaction(110, delete(1), committed=LONG_AGO)
        stream.transaction(120, delete(2), committed=int(time() * 1e6) - POSTGRES_EPOCH_US)
        assert stream.router.lag_seconds() > YEAR
        stream.ledger.save(Lsn(110))
        assert stream.router.lag_seconds() < YEAR
        stream.ledger.save(Lsn(120))
        assert stream.router.lag_seconds() == 0.0

    def test_transaction_that_is_still_arriving(self) -> None:
        """A transaction counts from its first change on: its rows are worked off at once."""
        stream = Stream(lane("blog"))
        stream.router.route(Begin(7, Lsn(109), LONG_AGO))
        assert stream.router.lag_seconds() == 0.0
        stream.router.route(delete(1))
        assert stream.router.lag_seconds() > YEAR

    def test_replay(self) -> None:
        """Transactions that the lanes have are no lag."""
        stream = Stream(lane("blog"), applied={"blog": 120})
        stream.transaction(110, delete(1), committed=LONG_AGO)
        assert stream.router.lag_seconds() == 0.0


def test_transactions_are_counted_by_span() -> None:
    """A span counts the transactions that ask for something and end with it."""
    stream = Stream(lane("blog"))
    stream.ledger.open_span("blog")
    stream.transaction(110, delete(1))
    stream.transaction(120, delete(1, "page"))
    stream.router.note_keepalive(Lsn(125))
    stream.transaction(130, delete(2))
    first = stream.ledger.transactions("blog")
    stream.ledger.open_span("blog")
    stream.transaction(140, delete(3))
    stream.ledger.finish("blog", 1)
    assert (first, stream.ledger.transactions("blog")) == (2, 1)


def test_refetch_reaches_the_lane() -> None:
    """An update without its large text is one to be read again."""
    blog = lane("blog")
    Stream(blog).transaction(110, Change("update", Lsn(1), "public", "blog", {"id": "1"}, {"id": "1"}))
    assert blog.told == [(("1",), REFETCH)]


class TestUntil:
    """A place at which the stream ends, for one attachment."""

    def test_what_ends_there_is_planned_and_what_comes_later_is_not(self) -> None:
        """The border is between two transactions, one of which may begin where the other ends."""
        blog = lane("blog")
        stream = Stream(blog, until=120)
        stream.transaction(120, delete(1))
        stream.transaction(121, delete(2))
        stream.transaction(130, delete(3))
        assert blog.told == [(("1",), DELETE)]
        assert stream.ledger.planned == Lsn(120)

    def test_progress_ends_there(self) -> None:
        """Neither a keepalive from later on nor a later transaction takes the checkpoint past it."""
        stream = Stream(lane("blog"), until=120)
        stream.router.note_keepalive(Lsn(110))
        assert stream.ledger.planned == Lsn(110)
        stream.router.note_keepalive(Lsn(500))
        assert stream.ledger.planned == Lsn(120)
        stream.transaction(510)
        stream.router.note_keepalive(Lsn(600))
        assert stream.ledger.planned == Lsn(120)

    def test_a_landmark_past_it_is_not_missed(self) -> None:
        """The commit that the checkpoint covers comes later, so it does not count as gone."""
        stream = Stream(lane("blog"), landmark=Landmark(7, Lsn(200)), until=120)
        stream.router.note_keepalive(Lsn(500))
        stream.transaction(300, xid=9)
