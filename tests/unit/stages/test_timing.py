import pytest

from walvec.stages import timing as stages
from walvec.stages.timing import STAGES, Stages


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times that the clock will tell, in turn."""
    times: list[float] = []
    monkeypatch.setattr(stages, "monotonic", lambda: times.pop(0))
    return times


def test_stages_follow_each_other_without_a_gap(clock: list[float]) -> None:
    """One begins where the one before ended, so they add up to the whole."""
    clock += [11.0, 13.5]
    record = Stages(10.0)
    record.done("queue")
    record.done("evaluate")
    assert list(record.spans()) == [("queue", 10.0, 11.0), ("evaluate", 11.0, 13.5)]
    assert record.milliseconds() == {"queue_ms": 1000.0, "evaluate_ms": 2500.0, "total_ms": 3500.0}


def test_stage_that_is_tried_again_goes_on(clock: list[float]) -> None:
    """A write that fails comes to its turn again: the failed try is part of the wait."""
    clock += [11.0, 15.0, 16.0]
    record = Stages(10.0)
    for stage in ("turn", "turn", "write"):
        record.done(stage)
    assert list(record.spans()) == [("turn", 10.0, 15.0), ("write", 15.0, 16.0)]


def test_record_of_nothing() -> None:
    """Takes no time."""
    record = Stages()
    assert (list(record.spans()), record.milliseconds()) == ([], {"total_ms": 0.0})


def test_every_stage_has_a_field() -> None:
    """In their order, and the total behind them."""
    record = Stages()
    for stage in STAGES:
        record.done(stage)
    assert list(record.milliseconds()) == [*(f"{stage}_ms" for stage in STAGES), "total_ms"]
