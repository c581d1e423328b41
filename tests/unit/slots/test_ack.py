from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec_slots.ack import Ledger
from walvec_slots.lsn import Lsn

LANES = ("blog", "page")
STEPS = st.lists(
    st.sampled_from(["act", "seal", "commit", "keepalive", "begin", "finish", "idle"]),
    min_size=1,
    max_size=80,
)


@dataclass
class World:
    """A stream with two lanes, and what a crash may take from them.

    `open` holds, lane by lane, the spans in flight, each with the ends of the transactions that acted in it;
    `before` how far the stream was planned when each of them was opened.
    """

    ledger: Ledger = field(default_factory=lambda: Ledger(Lsn(100), dict.fromkeys(LANES, Lsn(100))))
    position: int = 100
    transaction: int | None = None  # its commit's end
    open: dict[str, list[set[int]]] = field(default_factory=lambda: {lane: [] for lane in LANES})
    before: dict[str, list[Lsn]] = field(default_factory=lambda: {lane: [] for lane in LANES})
    sealed: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(LANES, True))

    def take(self, step: str, random: Random) -> None:
        """Let the stream or a lane take a step, if it can."""
        lane = random.choice(LANES)
        match step:
            case "begin" if self.transaction is None:
                self.transaction = self.position + random.randint(2, 9)
            case "act" if self.transaction is not None:
                if self.sealed[lane]:
                    self.ledger.open_span(lane)
                    self.open[lane].append(set())
                    self.before[lane].append(self.ledger.planned)
                    self.sealed[lane] = False
                self.open[lane][-1].add(self.transaction)
            case "seal":
                self.sealed[lane] = True
            case "finish" if self.transaction is not None:
                self.position = self.transaction
                self.ledger.complete(Lsn(self.transaction))
                self.transaction = None
            case "keepalive" if self.transaction is None:
                self.position += random.randint(1, 9)
                self.ledger.complete(Lsn(self.position))
            case "commit" if self.open[lane]:
                checkpoint = self.ledger.checkpoint(lane, finishing=1)
                self.open[lane].pop(0)
                self.before[lane].pop(0)
                self.sealed[lane] = self.sealed[lane] or not self.open[lane]
                self.ledger.finish(lane, 1)
                self.save(checkpoint)
            case "idle" if self.ledger.idle:
                self.save(self.ledger.checkpoint())

    def save(self, checkpoint: Lsn) -> None:
        """Commit a checkpoint, which covers all that is done and nothing else."""
        before = self.ledger.saved
        self.ledger.save(checkpoint)
        pending = {end for spans in self.open.values() for span in spans for end in span}
        assert before <= self.ledger.saved == checkpoint <= self.position
        assert all(checkpoint < end for end in pending)
        assert self.transaction is None or checkpoint < self.transaction
        assert checkpoint == max(before, min(map(self.reached, LANES)))

    def reached(self, lane: str) -> Lsn:
        """Return how far the stream was planned before the lane's oldest open span.

        With none open, that is how far it is planned now.
        """
        return next(iter(self.before[lane]), self.ledger.planned)


@given(STEPS, st.integers(0, 1000))
def test_a_checkpoint_covers_nothing_that_a_crash_could_lose(steps: list[str], seed: int) -> None:
    """The checkpoint covers nothing that is in flight, and never goes back.

    That holds whatever the lanes and the stream do, in whatever order.
    """
    world, random = World(), Random(seed)
    for step in steps:
        world.take(step, random)


@given(STEPS, st.integers(0, 1000))
def test_all_is_covered_once_all_is_committed(steps: list[str], seed: int) -> None:
    """With nothing in flight and no open transaction, it is where the stream is."""
    world, random = World(), Random(seed)
    for step in [*steps, "finish"]:
        world.take(step, random)
    while any(world.open.values()):
        world.take("commit", random)
    world.take("idle", random)
    assert world.ledger.saved == world.position


def test_a_lane_that_holds_keeps_the_checkpoint() -> None:
    """What a lane abandoned is not covered, though the other lane has finished."""
    ledger = Ledger(Lsn(100), {"blog": Lsn(100), "page": Lsn(100)})
    let_go = ledger.open_span("blog")
    ledger.complete(Lsn(110))
    ledger.abandon_from("blog", let_go)
    ledger.complete(Lsn(120))
    assert (ledger.checkpoint(), ledger.applied("page"), ledger.idle) == (Lsn(100), Lsn(120), False)


def test_a_lane_that_was_further_is_not_set_back() -> None:
    """A lane keeps its own LSN when the stream restarts at an older checkpoint."""
    ledger = Ledger(Lsn(100), {"blog": Lsn(100), "page": Lsn(150)})
    ledger.complete(Lsn(120))
    assert (ledger.applied("page"), ledger.checkpoint()) == (Lsn(150), Lsn(120))


class TestTwoLanes:
    """Two lanes, each with one transaction in its first span and one in its second."""

    @pytest.fixture
    def ledger(self) -> Ledger:
        """Give the ledger: transactions end at 110 and 120, with a span each."""
        ledger = Ledger(Lsn(100), dict.fromkeys(LANES, Lsn(100)))
        for end in (110, 120):
            for lane in LANES:
                ledger.open_span(lane)
            ledger.complete(Lsn(end))
        return ledger

    def test_a_lane_reaches_the_end_of_what_it_committed(self, ledger: Ledger) -> None:
        """A lane's first span ends where the first transaction does.

        So a lane that is never empty moves on all the same.
        """
        ledger.finish("blog", 1)
        assert (ledger.applied("blog"), ledger.applied("page")) == (Lsn(110), Lsn(100))

    def test_the_checkpoint_is_the_least_advanced_lane(self, ledger: Ledger) -> None:
        """The checkpoint moves with the slower lane, though neither is ever empty."""
        ledger.finish("blog", 1)
        alone = ledger.checkpoint()
        with_the_other = ledger.checkpoint("page", finishing=1)
        ledger.finish("page", 1)
        assert (alone, with_the_other, ledger.checkpoint()) == (Lsn(100), Lsn(110), Lsn(110))

    def test_what_a_commit_would_allow_is_what_it_allows(self, ledger: Ledger) -> None:
        """The checkpoint asked for before a commit is the one that holds after it."""
        ledger.finish("page", 2)
        asked, found = [], []
        for _ in range(2):
            asked.append(ledger.checkpoint("blog", finishing=1))
            ledger.finish("blog", 1)
            found.append(ledger.checkpoint())
        assert asked == found == [Lsn(110), Lsn(120)]

    def test_a_lane_that_is_through_is_as_far_as_the_stream(self, ledger: Ledger) -> None:
        """A lane with nothing open does not wait for what other lanes have planned."""
        ledger.finish("blog", 2)
        ledger.complete(Lsn(130))
        assert (ledger.applied("blog"), ledger.checkpoint()) == (Lsn(130), Lsn(100))


def test_a_span_that_stops_inside_a_transaction_ends_before_it() -> None:
    """Committing part of a transaction does not move the checkpoint past it."""
    ledger = Ledger(Lsn(100), {"blog": Lsn(100)})
    ledger.open_span("blog")
    ledger.complete(Lsn(110))
    ledger.open_span("blog")
    ledger.open_span("blog")
    ledger.complete(Lsn(120))
    reached = []
    for _ in range(3):
        ledger.finish("blog", 1)
        reached.append(ledger.checkpoint())
    assert reached == [Lsn(110), Lsn(110), Lsn(120)]


def test_an_action_of_a_transaction_that_is_still_arriving_keeps_the_checkpoint() -> None:
    """What was planned before the action may be saved; a later keepalive may not."""
    ledger = Ledger(Lsn(100), {"blog": Lsn(100)})
    ledger.complete(Lsn(110))
    ledger.open_span("blog")
    ledger.complete(Lsn(105))
    assert (ledger.checkpoint(), ledger.idle) == (Lsn(110), False)
    ledger.finish("blog", 1)
    assert (ledger.checkpoint(), ledger.idle) == (Lsn(110), True)


def test_a_replay_moves_nothing() -> None:
    """An end behind `planned` moves neither the stream nor an open span."""
    ledger = Ledger(Lsn(100), {"blog": Lsn(100)})
    ledger.open_span("blog")
    ledger.complete(Lsn(120), transactions=1)
    ledger.complete(Lsn(110), transactions=1)
    ledger.open_span("blog")
    transactions = ledger.transactions("blog")
    ledger.finish("blog", 1)
    assert (ledger.planned, ledger.checkpoint(), transactions) == (Lsn(120), Lsn(120), 1)


def test_what_is_saved_never_goes_back() -> None:
    """An older checkpoint that is saved late leaves the newer one as it is."""
    ledger = Ledger(Lsn(100), {"blog": Lsn(100)})
    ledger.save(Lsn(120))
    ledger.save(Lsn(110))
    assert (ledger.saved, ledger.checkpoint()) == (Lsn(120), Lsn(120))
