"""How many bytes of changes may be in memory."""

import asyncio


class Budget:
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
