import asyncio

from hypothesis import given
from hypothesis import strategies as st

from walvec.stages.memory import ByteBudget


async def test_room_is_waited_for() -> None:
    """A task that asks for room waits until enough is given back."""
    budget = ByteBudget(10)
    budget.take(12)
    waiting = asyncio.create_task(budget.wait_for_room())
    await asyncio.sleep(0)
    before = waiting.done()
    budget.give(1)
    await asyncio.sleep(0)
    still = waiting.done()
    budget.give(2)
    await waiting
    assert (before, still) == (False, False)


async def test_a_row_larger_than_all_of_it_passes() -> None:
    """Taking never fails: the limit holds back what comes next."""
    budget = ByteBudget(10)
    budget.take(1_000)
    budget.give(1_000)
    await budget.wait_for_room()
    assert budget.used == 0


@given(st.integers(1, 50), st.lists(st.integers(0, 30)))
def test_there_is_room_below_the_limit_only(limit: int, sizes: list[int]) -> None:
    """There is room below the limit, whatever was taken and given back before."""
    budget, taken, rooms = ByteBudget(limit), list[int](), list[bool]()
    for size in sizes:
        if size % 3 == 0 and taken:
            budget.give(taken.pop())
        else:
            taken.append(size)
            budget.take(size)
        rooms.append(budget.has_room == (sum(taken) < limit))
    assert all(rooms)
