"""Whether the service accepts anything at all: one probe asks for everybody.

The probe is a text that any service accepts. `dispatch` sends it when a failure may be the service's or the
texts' fault; while nothing is answered, only the probe is sent.
"""

import asyncio
import time

from walvec.embed.errors import EmbeddingError
from walvec.embed.service import Service

# The text that any service accepts.
PROBE = "walvec"


class Recovery:
    """Probes one service, and waits until it answers."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._probing, self._waiting = asyncio.Lock(), asyncio.Lock()
        # When the latest probe began, by time.monotonic(), and what it failed with.
        self._probed: tuple[float, EmbeddingError | None] = float("-inf"), None

    async def probe(self) -> EmbeddingError | None:
        """Send the probe; return what it fails with.

        One probe serves all who wait for one.
        """
        asked = time.monotonic()
        async with self._probing:
            began, failure = self._probed
            if began < asked:
                began, failure = time.monotonic(), None
                try:
                    await self._service.send([PROBE])
                except EmbeddingError as error:
                    failure = error.bare()
                self._probed = began, failure
        return failure

    async def wait_after(self, failure: EmbeddingError) -> None:
        """Wait until the service answers anybody. Of all who wait, one sends the probe."""
        answers = self._service.answers
        async with self._waiting:
            attempt = 0
            while self._service.answers == answers:
                attempt += 1
                await asyncio.sleep(self._service.seconds_to_wait(failure, attempt))
                failure = await self.probe() or failure
