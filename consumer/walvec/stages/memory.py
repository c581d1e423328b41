"""How many bytes may be in memory: as changes that arrive, and apart from these as what they become.

The two are apart because one waits for the other: a change leaves memory only once it has been worked on, so
there must be room to work when there is none for more changes.
"""

import asyncio
from collections.abc import Callable


class ByteBudget:
    """Bytes taken and given back. Taking never fails or waits; whoever brings more waits for room first.

    So it is overrun by what one read brings, at most, and a row larger than all of it still passes.
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

    async def room(self) -> None:
        """Wait until there is room for more."""
        await self._room.wait()


class Workspace:
    """Bytes that a lane's segments in flight may take while they are worked on.

    The oldest segment never waits, because the younger ones give nothing back before it is committed. So they
    leave it room for two slices: one that is being written, and one that is being prepared.
    """

    def __init__(self, limit: int) -> None:
        """Allow `limit` bytes."""
        self.slice = max(limit // 5, 1)  # bytes that one slice should not pass
        self._for_the_younger = limit - 2 * self.slice
        self._changed = asyncio.Event()
        self.used = 0

    async def take(self, size: int, *, is_oldest: Callable[[], bool]) -> None:
        """Count `size` bytes as in use, once there is room for them or `is_oldest` holds."""
        while self.used and self.used + size > self._for_the_younger and not is_oldest():
            self._changed.clear()
            await self._changed.wait()
        self.used += size

    def give(self, size: int) -> None:
        """Count `size` bytes as gone."""
        self.used -= size
        self.look_again()

    def look_again(self) -> None:
        """Let those who wait see whether they are the oldest now."""
        self._changed.set()
