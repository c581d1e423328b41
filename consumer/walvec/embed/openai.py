"""Any server with OpenAI's /v1/embeddings.

Examples are OpenAI, vLLM, TEI, Ollama and LiteLLM's proxy. The API is small enough to use without an SDK. The
body is read here because servers that can send vectors in base64, which is several times cheaper to read than
numbers in JSON. https://platform.openai.com/docs/api-reference/embeddings
"""

import sys
import time
from array import array
from binascii import Error as NotBase64
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson
from pybase64 import b64decode

from walvec.embed.api_key import api_key
from walvec.embed.errors import BadAnswer
from walvec.embed.http_answer import HttpAnswer, error_from_answer, service_at, timed_out, unreachable
from walvec.embed.own_options import Options, OwnOptions
from walvec.embed.protocol import Answer, Settings, Vector
from walvec.embed.vectors import as_vector, in_order

OPENAI_SERVER = "https://api.openai.com/v1"
# The most bytes of an answer that are buffered before they are read.
READ_BYTES = 1 << 20
# The most bytes of an answer besides its vectors.
ANSWER_MAX = 1_048_576
# The most bytes of one number in JSON.
NUMBER_MAX = 32
# Vectors of this length are read even if fewer dimensions are configured, so that the error can give both.
DIMENSIONS_MAX = 8_192


class OpenAIEmbedder:
    """Sends requests to the server at `base_url`, or to OpenAI.

    `dimensions` and base64 are requested until the server refuses them. A server other than OpenAI's may
    need no key; without one, no Authorization header is sent.
    """

    name = "openai"

    def __init__(self, settings: Settings) -> None:
        self.model = settings.model
        self.dimensions = settings.dimensions
        url = (settings.base_url or OPENAI_SERVER).rstrip("/")
        self._url = f"{url}/embeddings"
        self._service = service_at(url)
        self._timeout = settings.timeout
        own = {"encoding_format": "base64", "dimensions": settings.dimensions}
        self._own_options = OwnOptions(own, settings.dimensions)
        # `dispatch` limits the requests in flight, so the connector does not.
        self._http = aiohttp.ClientSession(
            headers=_request_headers(settings),
            timeout=aiohttp.ClientTimeout(settings.timeout),
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BYTES,
            # Use the proxies that the environment names.
            trust_env=True,
        )

    async def embed(self, texts: Sequence[str]) -> Answer:
        """Send one request; see `Embedder`."""
        return await self._own_options.ask(texts, self._send_request)

    async def _send_request(self, texts: Sequence[str], options: Options) -> Answer:
        answer = await self._post({"model": self.model, "input": list(texts)} | dict(options))
        if answer.status == HTTPStatus.OK and (document := _parse_answer(answer.body)) is not None:
            return _read_answer(document, len(texts))
        raise error_from_answer(answer, time.time())

    async def _post(self, request: dict[str, Any]) -> HttpAnswer:
        most = ANSWER_MAX + len(request["input"]) * max(self.dimensions, DIMENSIONS_MAX) * NUMBER_MAX
        try:
            async with self._http.post(
                self._url, data=orjson.dumps(request), allow_redirects=False
            ) as response:
                body = await _read_body(response, most)
        except TimeoutError:
            raise timed_out(self._service, self._timeout) from None
        except aiohttp.ClientError as error:
            raise unreachable(self._service, error) from None
        return HttpAnswer(self._service, response.status, response.headers.get("retry-after"), body)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close()


def _request_headers(settings: Settings) -> dict[str, str]:
    key = api_key(settings)
    content = {"Content-Type": "application/json", "Accept": "application/json"}
    return content | ({"Authorization": f"Bearer {key}"} if key else {})


async def _read_body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Read the answer. Raises BadAnswer once it is longer than `most` bytes."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise BadAnswer(f"The answer is longer than {most} bytes")
    return b"".join(pieces)


def _parse_answer(body: bytes) -> dict[str, Any] | None:
    """Parse an answer; return None if it holds no embeddings."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) and isinstance(document.get("data"), list) else None


def _read_answer(document: dict[str, Any], texts: int) -> Answer:
    try:
        vectors = [_decode_vector(item["embedding"]) for item in document["data"]]
        positions = [item.get("index") for item in document["data"]]
    except (LookupError, TypeError, AttributeError):
        raise BadAnswer("The answer is not a list of embeddings", hint="check [embedder] base_url") from None
    usage = document.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return Answer(in_order(vectors, positions, texts), tokens if isinstance(tokens, int) else None)


def _decode_vector(embedding: object) -> Vector:
    if isinstance(embedding, list):
        return as_vector(embedding)
    if not isinstance(embedding, str):
        raise BadAnswer("An embedding is neither a list nor base64")
    vector = array("f")
    try:
        vector.frombytes(b64decode(embedding, validate=True))
    except (NotBase64, ValueError):
        raise BadAnswer("An embedding is not base64 of float32") from None
    # Servers send little-endian numbers.
    if sys.byteorder == "big":
        vector.byteswap()
    return vector
