import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from walvec.embed.dispatch import Dispatcher
from walvec.embed.protocol import Answer
from walvec.embed.vectors import as_vector


class Lengths:
    """An embedder whose vectors are the texts' lengths."""

    name, model, dimensions = "lengths", "lengths", 1

    async def embed(self, texts: Sequence[str]) -> Answer:
        """Answer after other tasks have had a turn."""
        await asyncio.sleep(0)
        return Answer([as_vector([len(text)]) for text in texts], None)

    async def aclose(self) -> None:
        """Do nothing."""


async def test_workers_that_come_too_late_find_nothing_left() -> None:
    """A worker that waited for its place ends if the others have taken every text."""
    settings: Any = SimpleNamespace(
        concurrency=4, requests_per_second=0.0, max_batch_inputs=2, max_batch_tokens=1000
    )
    dispatcher = Dispatcher(Lengths(), settings)
    texts = ["a", "bb", "ccc"]
    assert await dispatcher.embed(texts, dispatcher.share(4)) == [as_vector([n]) for n in (1, 2, 3)]
    assert dispatcher.usage.requests == 2
