"""Which of several items a failure is about."""

from collections.abc import Sequence

import pytest

from walvec.stages.isolate import isolate_failures


class Refused(Exception):
    """What an item is refused with."""


class Attempts:
    """Takes any items but the bad ones, and notes what it was asked to take together."""

    def __init__(self, *bad: int) -> None:
        self.bad = set(bad)
        self.asked: list[Sequence[int]] = []

    async def __call__(self, items: Sequence[int]) -> list[str]:
        """Return a result for each item, or fail for all of them."""
        self.asked.append(items)
        if self.bad.intersection(items):
            raise Refused
        return [f"took {item}" for item in items]


@pytest.mark.parametrize("bad", [(), (0,), (6,), (2, 3), (0, 1, 2, 3, 4, 5, 6)])
async def test_each_item_has_its_own_outcome(bad: tuple[int, ...]) -> None:
    """Only the bad items fail, wherever they are; the results are in the items' order."""
    outcomes = await isolate_failures(range(7), Attempts(*bad), Refused)
    assert [isinstance(outcome, Refused) for outcome in outcomes] == [item in bad for item in range(7)]
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == [
        f"took {item}" for item in range(7) if item not in bad
    ]


async def test_what_is_about_no_item_is_raised() -> None:
    """A connection that broke is held against no row, and nothing is tried in halves."""
    attempts = Attempts(3)
    with pytest.raises(Refused):
        await isolate_failures(range(7), attempts, Refused, lambda _: False)
    assert attempts.asked == [range(7)]


async def test_another_error_is_raised() -> None:
    """Only the failure that is named is looked into."""
    with pytest.raises(Refused):
        await isolate_failures(range(7), Attempts(3), ZeroDivisionError)


async def test_nothing_is_asked_about_nothing() -> None:
    """No items, no attempt."""
    attempts = Attempts()
    assert (await isolate_failures([], attempts, Refused), attempts.asked) == ([], [])
