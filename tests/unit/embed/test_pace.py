import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec.embed.pace import PACE_FIRST, PACE_MAX, Pace


def starts(pace: Pace, count: int) -> list[float]:
    """Return when `count` requests start, if each starts as soon as it may."""
    now, times = 1000.0, []
    for _ in range(count):
        now += pace.delay(now)
        pace.started(now)
        times.append(now - 1000.0)
    return times


def test_without_a_rate_requests_start_at_once() -> None:
    """A rate of 0 means no limit."""
    assert starts(Pace(0), 3) == [0, 0, 0]


def test_a_rate_spaces_requests() -> None:
    """Four requests a second start a quarter of a second apart, without a burst."""
    assert starts(Pace(4), 4) == pytest.approx([0, 0.25, 0.5, 0.75])


def test_retry_after_holds_everybody_back() -> None:
    """No request starts before the time that the service asked for."""
    pace = Pace(0)
    pace.limited(1000.0, retry_after=3.0)
    assert starts(pace, 2) == [3.0, 3.0]


def test_an_earlier_retry_after_does_not_shorten_a_later_one() -> None:
    """The latest time counts, not the newest header."""
    pace = Pace(0)
    pace.limited(1000.0, retry_after=3.0)
    pace.limited(1000.5, retry_after=1.0)
    assert starts(pace, 1) == [3.0]


def test_refusals_that_come_together_slow_down_once() -> None:
    """Eight requests that are refused together slow the pace down once."""
    pace = Pace(0)
    for _ in range(8):
        pace.limited(1000.0, None)
    assert pace.interval == PACE_FIRST


def test_refusal_after_refusal_slows_down_to_a_limit_and_answers_speed_up_again() -> None:
    """Refusals slow the pace down to its limit, and answers speed it up again."""
    pace, now = Pace(0), 1000.0
    for _ in range(20):
        now += 20
        pace.limited(now, None)
    slowest = pace.interval
    for _ in range(100):
        pace.answered()
    assert (slowest, pace.interval) == (PACE_MAX, 0.0)


@given(st.lists(st.sampled_from(["limited", "answered"]), max_size=50))
def test_the_configured_rate_is_never_exceeded(events: list[str]) -> None:
    """A learned pace never allows more than the configured rate."""
    pace, now = Pace(10), 0.0
    for event in events:
        now += 1
        pace.limited(now, None) if event == "limited" else pace.answered()
    assert pace.interval >= 0.1
