"""Mistral's embeddings API through its SDK, which is used for one request at a time and asked for no retries.

https://docs.mistral.ai/api/endpoint/embeddings
"""

import asyncio
import re
import time
from collections.abc import Sequence

import httpx2
from mistralai.client import Mistral
from mistralai.client.errors import MistralError, NoResponseError
from mistralai.client.models import EmbeddingResponse

from consumer.embed import Answer, Settings
from consumer.embed.api_key import api_key
from consumer.embed.errors import BadAnswer
from consumer.embed.http_answer import HttpAnswer, explain, mentions, service_at, timed_out, unreachable
from consumer.embed.vectors import as_vector, in_order

SERVER = "https://api.mistral.ai"
_DIMENSION = re.compile("dimension")


class _Silence:
    """The SDK's debug logger writes bodies, and an environment variable turns it on."""

    def debug(self, msg: str, *args: object, **kwargs: object) -> None:
        """Say nothing."""


class MistralEmbedder:
    """Asks Mistral, or another server of the same API at `base_url`.

    Raises PreconditionFailed if the key's variable is not set.
    """

    name = "mistral"

    def __init__(self, settings: Settings) -> None:
        self.model = settings.model
        self.dimensions = settings.dimensions
        server = settings.base_url or SERVER
        self._service = service_at(server)
        self._timeout = settings.timeout
        # mistral-embed has 1,024 dimensions and knows no other number.
        self._output_dimension = None if self.model.startswith("mistral-embed") else self.dimensions
        connections = httpx2.Limits(max_connections=None, max_keepalive_connections=settings.concurrency)
        self._http = httpx2.AsyncClient(limits=connections)
        self._client = Mistral(
            api_key=api_key(settings),
            server_url=server,
            async_client=self._http,
            timeout_ms=int(self._timeout * 1000),
            debug_logger=_Silence(),
        )

    async def embed(self, texts: Sequence[str]) -> Answer:
        """Send one request; see `Embedder`."""
        try:
            # The SDK's time-out is one for each read, which a server that trickles never meets.
            async with asyncio.timeout(self._timeout):
                response = await self._request(list(texts))
        except (TimeoutError, httpx2.TimeoutException):
            raise timed_out(self._service, self._timeout) from None
        except httpx2.RequestError as error:
            raise unreachable(self._service, error) from None
        return _read(response)

    async def _request(self, texts: list[str]) -> EmbeddingResponse:
        wanted = self._output_dimension
        try:
            return await self._create(texts, wanted)
        except MistralError as error:
            answer = self._failed(error)
        except NoResponseError as error:
            raise unreachable(self._service, error) from None
        if wanted is not None and answer.status in (400, 422) and mentions(answer, _DIMENSION):
            self._output_dimension = None  # the model has one size only; whether it is ours, `check` sees
            return await self._request(texts)
        raise explain(answer, time.time()) from None

    async def _create(self, texts: list[str], dimensions: int | None) -> EmbeddingResponse:
        if dimensions is None:
            return await self._client.embeddings.create_async(model=self.model, inputs=texts)
        return await self._client.embeddings.create_async(
            model=self.model, inputs=texts, output_dimension=dimensions
        )

    def _failed(self, error: MistralError) -> HttpAnswer:
        wait = error.headers.get("retry-after")
        return HttpAnswer(self._service, error.status_code, wait, error.body.encode())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _read(response: EmbeddingResponse) -> Answer:
    if any(each.embedding is None for each in response.data):
        raise BadAnswer("an embedding is missing from the answer")
    vectors = [as_vector(each.embedding or ()) for each in response.data]
    return Answer(in_order(vectors, [each.index for each in response.data]), response.usage.total_tokens)
