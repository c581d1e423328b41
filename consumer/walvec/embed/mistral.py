"""Mistral's embeddings API through its SDK, with the SDK's retries off.

https://docs.mistral.ai/api/endpoint/embeddings
"""

import asyncio
import time
from collections.abc import Sequence

import httpx2
from mistralai.client import Mistral
from mistralai.client.errors import MistralError, NoResponseError
from mistralai.client.models import EmbeddingResponse
from mistralai.client.types import UNSET

from walvec.embed.api_key import api_key
from walvec.embed.errors import BadAnswer
from walvec.embed.http_answer import HttpAnswer, error_from_answer, service_at, timed_out, unreachable
from walvec.embed.own_options import Options, OwnOptions
from walvec.embed.protocol import Answer, Settings
from walvec.embed.vectors import as_vector, in_order

MISTRAL_SERVER = "https://api.mistral.ai"


class _Silence:
    """A debug logger that writes nothing.

    The SDK's own logger writes request bodies once an environment variable turns it on.
    """

    def debug(self, msg: str, *args: object, **kwargs: object) -> None:
        """Write nothing."""


class MistralEmbedder:
    """Sends requests to Mistral, or to another server of the same API at `base_url`.

    Raises PreconditionFailed if the key's variable is not set.
    """

    name = "mistral"

    def __init__(self, settings: Settings) -> None:
        self.model = settings.model
        self.dimensions = settings.dimensions
        server = settings.base_url or MISTRAL_SERVER
        self._service = service_at(server)
        self._timeout = settings.timeout
        # mistral-embed always gives 1,024 dimensions and refuses the option.
        own = {} if self.model.startswith("mistral-embed") else {"output_dimension": self.dimensions}
        self._own_options = OwnOptions(own, self.dimensions)
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
        return await self._own_options.ask(texts, self._send_request)

    async def _send_request(self, texts: Sequence[str], options: Options) -> Answer:
        size = options.get("output_dimension")
        try:
            # The SDK's time-out applies to each read, so a server that sends a byte at a time never meets it.
            async with asyncio.timeout(self._timeout):
                response = await self._client.embeddings.create_async(
                    model=self.model,
                    inputs=list(texts),
                    output_dimension=size if isinstance(size, int) else UNSET,
                )
        except (TimeoutError, httpx2.TimeoutException):
            raise timed_out(self._service, self._timeout) from None
        except (httpx2.RequestError, NoResponseError) as error:
            raise unreachable(self._service, error) from None
        except MistralError as error:
            raise error_from_answer(self._failed_answer(error), time.time()) from None
        return _read_answer(response, len(texts))

    def _failed_answer(self, error: MistralError) -> HttpAnswer:
        wait = error.headers.get("retry-after")
        return HttpAnswer(self._service, error.status_code, wait, error.body.encode())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _read_answer(response: EmbeddingResponse, texts: int) -> Answer:
    if any(item.embedding is None for item in response.data):
        raise BadAnswer("An embedding is missing from the answer")
    vectors = [as_vector(item.embedding or ()) for item in response.data]
    positions = [item.index for item in response.data]
    return Answer(in_order(vectors, positions, texts), response.usage.total_tokens)
