"""How many bytes may be in memory, as changes that arrive and as what they become.

The two are counted apart because one waits for the other: a change leaves memory only once it has been worked
on, so there must be room to work when there is no room for more changes.
"""

import asyncio
from collections.abc import Callable


class ByteBudget:
    """Bytes taken and given back, for changes that arrive.

    Taking never fails or waits: a task waits for room before it brings more. So the budget is overrun by what
    one read brings, at most, and a row larger than all of it still passes.
    """

    def __init__(self, limit: int) -> None:
        """Allow `limit` bytes."""
        self._limit = limit
        self._room = asyncio.Event()
        self._room.set()
        self.used = 0

    def take(self, size: int) -> None:
        """Count `size` bytes as in memory."""
        self.used += size
        if self.used >= self._limit:
            self._room.clear()

    def give(self, size: int) -> None:
        """Count `size` bytes as gone."""
        self.used -= size
        if self.used < self._limit:
            self._room.set()

    @property
    def has_room(self) -> bool:
        """Whether there is room for more."""
        return self._room.is_set()

    async def wait_for_room(self) -> None:
        """Wait until there is room for more."""
        await self._room.wait()


class Workspace:
    """Bytes that a lane's segments in flight may take while they are worked on.

    The oldest segment never waits, because the younger ones give nothing back before it is committed. So the
    younger ones leave it room for two slices: one being written, and one being prepared.
    """

    def __init__(self, limit: int) -> None:
        """Allow `limit` bytes."""
        # Bytes that one slice should not pass.
        self.slice = max(limit // 5, 1)
        self._for_the_younger = limit - 2 * self.slice
        self._changed = asyncio.Event()
        self.used = 0

    async def take(self, size: int, *, is_oldest: Callable[[], bool]) -> None:
        """Count `size` bytes as in use, once there is room or `is_oldest` holds."""
        while self.used and self.used + size > self._for_the_younger and not is_oldest():
            self._changed.clear()
            await self._changed.wait()
        self.used += size

    def give(self, size: int) -> None:
        """Count `size` bytes as gone."""
        self.used -= size
        self.look_again()

    def look_again(self) -> None:
        """Let the segments that wait see whether they are the oldest now."""
        self._changed.set()
