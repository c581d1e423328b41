from dataclasses import dataclass, field
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from slots.ack import Ledger
from slots.lsn import Lsn

LANES = ("blog", "page")
STEPS = st.lists(
    st.sampled_from(["act", "seal", "commit", "keepalive", "begin", "finish", "idle"]),
    min_size=1,
    max_size=80,
)


@dataclass
class World:
    """A stream with two lanes, and what a crash may take from them.

    `open` holds, lane by lane, the spans in flight, each with the ends of the transactions that acted in it.
    """

    ledger: Ledger = field(default_factory=lambda: Ledger(Lsn(100), dict.fromkeys(LANES, Lsn(100))))
    position: int = 100
    transaction: int | None = None  # its commit's end
    open: dict[str, list[set[int]]] = field(default_factory=lambda: {lane: [] for lane in LANES})
    sealed: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(LANES, True))

    def take(self, step: str, random: Random) -> None:
        """Let the stream or a lane take a step, where it can."""
        lane = random.choice(LANES)
        match step:
            case "begin" if self.transaction is None:
                self.transaction = self.position + random.randint(2, 9)
            case "act" if self.transaction is not None:
                if self.sealed[lane]:
                    self.ledger.open(lane)
                    self.open[lane].append(set())
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
                self.sealed[lane] = self.sealed[lane] or not self.open[lane]
                self.ledger.finish(lane, 1)
                self.save(checkpoint)
            case "idle" if self.ledger.idle:
                self.save(self.ledger.checkpoint())

    def save(self, checkpoint: Lsn) -> None:
        """Commit a checkpoint, which must not cover what is still in flight or not complete."""
        before = self.ledger.saved
        self.ledger.save(checkpoint)
        pending = {end for spans in self.open.values() for span in spans for end in span}
        assert before <= self.ledger.saved == checkpoint <= self.position
        assert all(checkpoint < end for end in pending)
        assert self.transaction is None or checkpoint < self.transaction


@given(STEPS, st.integers(0, 1000))
def test_a_checkpoint_covers_nothing_that_a_crash_could_lose(steps: list[str], seed: int) -> None:
    """Nor does it ever go back, whatever the lanes and the stream do in whatever order."""
    world, random = World(), Random(seed)
    for step in steps:
        world.take(step, random)


@given(STEPS, st.integers(0, 1000))
def test_all_is_covered_once_all_is_committed(steps: list[str], seed: int) -> None:
    """With nothing in flight and no transaction begun, the checkpoint is where the stream is."""
    world, random = World(), Random(seed)
    for step in [*steps, "finish"]:
        world.take(step, random)
    while any(world.open.values()):
        world.take("commit", random)
    world.take("idle", random)
    assert world.ledger.saved == world.position


def test_a_lane_that_holds_keeps_the_checkpoint() -> None:
    """What it let go of is not covered, though the other lane is through with all."""
    ledger = Ledger(Lsn(100), {"blog": Lsn(100), "page": Lsn(100)})
    let_go = ledger.open("blog")
    ledger.complete(Lsn(110))
    ledger.hold("blog", let_go)
    ledger.complete(Lsn(120))
    assert (ledger.checkpoint(), ledger.applied("page"), ledger.idle) == (Lsn(100), Lsn(120), False)


def test_a_lane_that_was_further_is_not_set_back() -> None:
    """After a restart the stream begins at the checkpoint, behind what that lane has."""
    ledger = Ledger(Lsn(100), {"blog": Lsn(100), "page": Lsn(150)})
    ledger.complete(Lsn(120))
    assert (ledger.applied("page"), ledger.checkpoint()) == (Lsn(150), Lsn(120))
