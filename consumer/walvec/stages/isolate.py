"""Which of many items a failure is about: all are tried at once, then halves.

Pure but for what it is given to try.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Failure = TypeVar("_Failure", bound=Exception)


async def isolate_failures(
    items: Sequence[_Item],
    attempt: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]],
    failure: type[_Failure],
    concerns_items: Callable[[_Failure], bool] = lambda _: True,
) -> list[_Result | _Failure]:
    """Return each item's result, or the failure that it has by itself.

    An attempt may fail with `failure`. A failure that concerns no item is raised, as is any other error.
    """
    if not items:
        return []
    try:
        return list(await attempt(items))
    except failure as error:
        if not concerns_items(error):
            raise
        if len(items) == 1:
            return [error]
    middle = len(items) // 2
    return [
        *await isolate_failures(items[:middle], attempt, failure, concerns_items),
        *await isolate_failures(items[middle:], attempt, failure, concerns_items),
    ]
