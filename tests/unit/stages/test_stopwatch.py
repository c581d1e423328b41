from walvec.stages.stopwatch import STAGES, StageTimes


def times_of(*moments: float) -> StageTimes:
    """Return a record that began at 10 s, by a clock that tells these moments in turn."""
    return StageTimes(10.0, clock=iter(moments).__next__)


def test_stages_follow_each_other_without_a_gap() -> None:
    """Each stage begins where the one before ended, so they add up to the whole."""
    times = times_of(11.0, 13.5)
    times.done("queue")
    times.done("evaluate")
    assert list(times.spans()) == [("queue", 10.0, 11.0), ("evaluate", 11.0, 13.5)]
    assert times.milliseconds() == {"queue_ms": 1000.0, "evaluate_ms": 2500.0, "total_ms": 3500.0}


def test_stage_that_is_tried_again_goes_on() -> None:
    """A write that fails waits for its turn again, and the failed try is part of that wait."""
    times = times_of(11.0, 15.0, 16.0)
    for stage in ("turn", "turn", "write"):
        times.done(stage)
    assert list(times.spans()) == [("turn", 10.0, 15.0), ("write", 15.0, 16.0)]


def test_record_of_nothing() -> None:
    """A batch that went through no stage took no time."""
    times = StageTimes()
    assert (list(times.spans()), times.milliseconds()) == ([], {"total_ms": 0.0})


def test_every_stage_has_a_field() -> None:
    """The log has a field for each stage, in their order, and one for the total behind them."""
    times = StageTimes()
    for stage in STAGES:
        times.done(stage)
    assert list(times.milliseconds()) == [*(f"{stage}_ms" for stage in STAGES), "total_ms"]
