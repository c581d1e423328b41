from datetime import UTC, datetime, timedelta

import pytest

from consumer import lag
from consumer.lag import Awaited, age
from slots.lsn import Lsn


def test_nothing_is_awaited() -> None:
    """Caught up is no lag, not an unknown one."""
    assert Awaited().oldest(Lsn(100)) is None
    assert age(None) == 0.0


def test_the_oldest_past_the_checkpoint_counts() -> None:
    """Each is awaited until the checkpoint is at its commit's end."""
    awaited = Awaited()
    for end, committed in ((110, "first"), (120, "second")):
        awaited.add(Lsn(end), committed, Lsn(100))
    assert [awaited.oldest(Lsn(saved)) for saved in (100, 109, 110, 119, 120)] == [
        "first",
        "first",
        "second",
        "second",
        None,
    ]


@pytest.mark.parametrize("count", [lag._LIMIT - 1, lag._LIMIT, 10 * lag._LIMIT + 3])
def test_memory_is_bounded_and_no_age_is_understated(count: int) -> None:
    """However many there are, what is told is never newer than the oldest, and none is forgotten early."""
    awaited = Awaited()
    for end in range(1, count + 1):
        awaited.add(Lsn(end), str(end), Lsn(0))
        assert len(awaited._entries) < lag._LIMIT
    told = [int(awaited.oldest(Lsn(saved)) or 0) for saved in range(count)]
    assert told[0] == 1
    assert all(0 < oldest <= saved + 1 for saved, oldest in enumerate(told))
    assert told == sorted(told)
    assert awaited.oldest(Lsn(count)) is None


def test_what_the_checkpoint_has_passed_takes_no_room() -> None:
    """A stream that is kept up with holds nothing, whether anybody asks or not."""
    awaited = Awaited()
    for end in range(1, 100):
        awaited.add(Lsn(end), "then", Lsn(end - 1))
    assert len(awaited._entries) == 1


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S+00", "%Y-%m-%d %H:%M:%S.%f+00"])
def test_age_of_postgresqls_text(form: str) -> None:
    """With microseconds and without them."""
    told = age((datetime.now(UTC) - timedelta(hours=1)).strftime(form))
    assert told
    assert told == pytest.approx(3_600, abs=30)


@pytest.mark.parametrize("digits", ["5", "12", "123", "1234", "12345"])
def test_trailing_zeros_may_be_missing(digits: str) -> None:
    """PostgreSQL writes as many digits as there are."""
    assert age(f"2020-01-01 00:00:00.{digits}+00")


def test_clock_that_is_ahead_gives_no_negative_age() -> None:
    """The source's clock is not walvec's."""
    assert age((datetime.now(UTC) + timedelta(hours=1)).isoformat(" ")) == 0.0


@pytest.mark.parametrize("text", ["0044-03-15 00:00:00+00 BC", "12026-01-01 00:00:00+00", "now", ""])
def test_time_that_cannot_be_told(text: str) -> None:
    """Is no value, and no error of /metrics."""
    assert age(text) is None
