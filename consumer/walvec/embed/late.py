"""A provider with an HTTP client, imported on the first request.

Importing the mistralai SDK takes longer than the rest of a start, and aiohttp a quarter of that. The stream
does not have to wait for either.
"""

import asyncio
from collections.abc import Callable, Sequence

from walvec.embed.api_key import api_key
from walvec.embed.protocol import Answer, Embedder, Settings


class LateEmbedder:
    """The provider that `settings` name, mistral or openai.

    Raises PreconditionFailed at once if the key's variable is required and not set.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = settings.provider
        self.model = settings.model
        self.dimensions = settings.dimensions
        self._settings = settings
        self._embedder: Embedder | None = None
        self._importing = asyncio.Lock()
        api_key(settings)

    async def embed(self, texts: Sequence[str]) -> Answer:
        """Send one request; see `Embedder`."""
        if self._embedder is None:
            async with self._importing:
                # Another request may have imported it in the meantime.
                if self._embedder is None:
                    provider = await asyncio.to_thread(_import_provider, self.name)
                    self._embedder = provider(self._settings)
        return await self._embedder.embed(texts)

    async def aclose(self) -> None:
        """Close the connections, if any were opened."""
        if self._embedder is not None:
            await self._embedder.aclose()


def _import_provider(name: str) -> Callable[[Settings], Embedder]:
    if name == "mistral":
        from walvec.embed.mistral import MistralEmbedder

        return MistralEmbedder
    from walvec.embed.openai import OpenAIEmbedder

    return OpenAIEmbedder
