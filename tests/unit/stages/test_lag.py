from datetime import UTC, datetime, timedelta

import pytest

from walvec.stages import lag
from walvec.stages.lag import Awaited, commit_age
from walvec_slots.lsn import Lsn


def test_nothing_is_awaited() -> None:
    """A stream that is caught up has no lag, and not an unknown one."""
    assert Awaited().oldest(Lsn(100)) is None
    assert commit_age(None) == 0.0


def test_the_oldest_past_the_checkpoint_counts() -> None:
    """A commit is awaited until the checkpoint is at its end."""
    awaited = Awaited()
    for end, committed in ((110, 1), (120, 2)):
        awaited.add(Lsn(end), committed, Lsn(100))
    assert [awaited.oldest(Lsn(saved)) for saved in (100, 109, 110, 119, 120)] == [
        1,
        1,
        2,
        2,
        None,
    ]


@pytest.mark.parametrize("count", [lag._LIMIT - 1, lag._LIMIT, 10 * lag._LIMIT + 3])
def test_memory_is_bounded_and_no_age_is_understated(count: int) -> None:
    """The age reported is never that of a newer commit, and none is forgotten early."""
    awaited = Awaited()
    for end in range(1, count + 1):
        awaited.add(Lsn(end), end, Lsn(0))
        assert len(awaited._entries) < lag._LIMIT
    told = [awaited.oldest(Lsn(saved)) or 0 for saved in range(count)]
    assert told[0] == 1
    assert all(0 < oldest <= saved + 1 for saved, oldest in enumerate(told))
    assert told == sorted(told)
    assert awaited.oldest(Lsn(count)) is None


def test_what_the_checkpoint_has_passed_takes_no_room() -> None:
    """A stream that is kept up with takes no room, whether anybody asks or not."""
    awaited = Awaited()
    for end in range(1, 100):
        awaited.add(Lsn(end), 0, Lsn(end - 1))
    assert len(awaited._entries) == 1


def ago(span: timedelta) -> int:
    """A time as the stream has it."""
    return (datetime.now(UTC) - span - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_age() -> None:
    """The age is that by this machine's clock."""
    assert commit_age(ago(timedelta(hours=1))) == pytest.approx(3_600, abs=30)


def test_clock_that_is_ahead_gives_no_negative_age() -> None:
    """The source's clock is not walvec's."""
    assert commit_age(ago(-timedelta(hours=1))) == 0.0
