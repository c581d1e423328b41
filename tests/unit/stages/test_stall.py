from walvec.stages.stall import Mark, Stall
from walvec.stages.timing import TIMING


class Clock:
    """A stall, looked at as time goes by; `reason` is what the work waits for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reason: str | None = None
        self.stall = Stall(lambda _: self.reason)

    def after(self, seconds: float, *, idle: bool = False) -> Mark | None:
        """Let the seconds pass and look."""
        self.now += seconds
        return self.stall.next_mark(self.now, idle=idle)


def test_an_idle_process_says_nothing() -> None:
    """Where nothing is in flight there is nothing to wait for."""
    clock = Clock()
    clock.reason = "the service fails"
    assert [clock.after(100, idle=True) for _ in range(3)] == [None] * 3


def test_work_that_takes_its_time_has_no_reason() -> None:
    """The mark says that work is in flight, and gives no reason."""
    clock = Clock()
    assert clock.after(0) is None
    clock.stall.batch_finished(clock.now)
    assert clock.after(TIMING.stall_after) is None
    assert clock.after(1) == Mark(TIMING.stall_after + 1, None)
    assert clock.after(1) is None


def test_a_reason_that_comes_and_goes_is_told() -> None:
    """Each change of the reason is saved once."""
    clock = Clock()
    clock.after(0)
    clock.reason = "the service fails"
    assert clock.after(6) == Mark(6, "the service fails")
    assert clock.after(1) is None
    clock.reason = None
    assert clock.after(1) == Mark(8, None)


def test_nothing_finished_is_a_reason_by_itself() -> None:
    """A request or a statement may hang without an error."""
    clock = Clock()
    clock.after(0, idle=True)
    clock.after(0)
    clock.after(6)
    mark = clock.after(TIMING.silent_after)
    assert mark is not None
    assert mark.waits_for
    clock.stall.batch_finished(clock.now)
    assert clock.after(1) == Mark(TIMING.silent_after + 7, None)


def test_a_checkpoint_takes_it_back() -> None:
    """What a checkpoint has taken back is saved again only after as long a wait."""
    clock = Clock()
    clock.after(0)
    clock.after(6)
    clock.stall.checkpoint_moved()
    assert clock.after(1) is None
    assert clock.after(TIMING.stall_after) is None
    assert clock.after(1) is not None


def test_work_that_ends_without_a_checkpoint_is_taken_back() -> None:
    """A backfill moves no checkpoint where the source is quiet."""
    clock = Clock()
    clock.after(0)
    clock.after(6)
    assert clock.after(1, idle=True) == Mark(None, None)
    assert clock.after(1, idle=True) is None
