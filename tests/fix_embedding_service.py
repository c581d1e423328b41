"""A scriptable embedding service on loopback, with Mistral's and OpenAI's API.

It runs in a thread of the test's process, so that a subprocess can use it while the test scripts its faults
and looks at the requests:

    service.script(Status(429, retry_after="1"), Reset())    # the next two requests
    service.always = Status(503)                               # every request, until it is None again
    service.refuse = "POISON"                                  # a 400 for a request with such a text
    assert service.texts == ["..."]                            # all texts that it was sent, in order
"""

import contextlib
import hashlib
import json
import socket
import struct
import threading
import time
from array import array
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

import orjson
import pytest

from walvec.embed.protocol import Vector

# vLLM's words.
_ONE_SIZE = 'Model "m" does not support matryoshka representation, changing output dimensions will not help'

# What becomes of an option that the service does not know: refused in words, by a path only (pydantic's
# servers), by a 404 (OpenRouter), by a crash, or by a 200 with nothing or too little in it (a model with
# floats only).
Support = Literal["honours", "ignores", "refuses", "points", "routes", "crashes", "empties", "thins"]


def vector_of(text: str, dimensions: int) -> Vector:
    """Return the vector that the service gives for a text; it depends on nothing else."""
    numbers = array("i")
    numbers.frombytes(hashlib.shake_128(text.encode()).digest(4 * dimensions))
    return array("f", [number / 2**31 for number in numbers])


@dataclass(frozen=True, slots=True)
class Status:
    """An error of the service, in the words that real ones use."""

    status: int
    message: str = "Service is unwell"
    code: str | None = None
    retry_after: str | None = None
    nested: bool = True


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer with exactly this body."""

    status: int
    body: bytes
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """A connection that is reset before anything is answered."""


@dataclass(frozen=True, slots=True)
class Silent:
    """No answer for `seconds`; then the connection is closed."""

    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Slow:
    """A right answer, after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Trickle:
    """A right answer, `size` bytes at a time, each after `seconds`."""

    seconds: float = 0.05
    size: int = 1


@dataclass(frozen=True, slots=True)
class Spoiled:
    """An answer with something wrong in it."""

    how: Literal[
        "count",
        "order",
        "first index",
        "index",
        "dimensions",
        "nan",
        "large",
        "no data",
        "null",
        "nothing",
        "not json",
        "html",
        "huge",
    ]


Fault = Status | Raw | Reset | Silent | Slow | Trickle | Spoiled


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came, and its status; 0 if it got no answer.

    `at` is in time.monotonic().
    """

    inputs: tuple[str, ...]
    body: dict[str, Any]
    authorization: str | None
    at: float
    status: int


class EmbeddingService:
    """The service, a context manager that starts and stops it.

    Its attributes may be set at any time.
    """

    def __init__(self, dimensions: int = 8) -> None:
        self.dimensions = dimensions
        # Seconds before every answer, and in addition for each text of a request.
        self.latency = 0.0
        self.seconds_per_text = 0.0
        self.always: Fault | None = None
        # Texts that contain `refuse` get `poison`, or a 400.
        self.refuse: str | None = None
        self.poison: Fault | None = None
        self.max_inputs: int | None = None
        # In tokens as this service counts them: characters / 4.
        self.max_tokens: int | None = None
        # The limit of a minute, which a single request must not exceed.
        self.max_tokens_a_minute: int | None = None
        # Whether a refusal names the limit.
        self.names_limits = True
        # The requests that it accepts in a second; the others get a 429 without Retry-After.
        self.per_second: float | None = None
        # The only key that it accepts.
        self.key: str | None = None
        self.base64: Support = "honours"
        # The options `dimensions` and `output_dimension`.
        self.own_size: Support = "honours"
        self._script: deque[Fault | None] = deque()
        self._received: list[Received] = []
        self._lock = threading.Lock()
        self._in_flight = 0
        # When `per_second` lets the next request pass, in time.monotonic().
        self._free_at = 0.0
        self.most_in_flight = 0
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def root(self) -> str:
        """The server's root: `base_url` for mistral."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The API's root, which ends in /v1: `base_url` for openai."""
        return f"{self.root}/v1"

    @property
    def requests(self) -> list[Received]:
        """All requests, in the order in which they were answered or abandoned."""
        with self._lock:
            return list(self._received)

    @property
    def texts(self) -> list[str]:
        """All texts that it was sent, in the order of `requests`."""
        return [text for request in self.requests for text in request.inputs]

    @property
    def in_flight(self) -> int:
        """How many requests it has not answered yet."""
        with self._lock:
            return self._in_flight

    @property
    def embedded(self) -> list[str]:
        """The texts whose vectors it returned."""
        return [text for request in self.requests if request.status == 200 for text in request.inputs]

    def script(self, *faults: Fault | None) -> None:
        """Decide the fate of the next requests, one each; None means a right answer."""
        self._script.extend(faults)

    def forget(self) -> None:
        """Forget the requests received."""
        with self._lock:
            self._received.clear()

    def vector(self, text: str) -> Vector:
        """Return the vector that it gives for a text."""
        return vector_of(text, self.dimensions)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Count a request as in flight."""
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def next_fault(self, inputs: list[str]) -> Fault | None:
        """Return the fault for this request; None means a right answer."""
        with self._lock:
            scripted = self._script.popleft() if self._script else self.always
        if scripted is not None:
            return scripted
        if self._too_fast():
            return Status(429, "Requests rate limit exceeded", "1300")
        if self.refuse is not None and any(self.refuse in text for text in inputs):
            return self.poison or Status(400, f"Input is not acceptable: {inputs[0]}", "1234")
        return self._too_large(inputs)

    def _too_fast(self) -> bool:
        if self.per_second is None:
            return False
        with self._lock:
            now = time.monotonic()
            if now < self._free_at:
                return True
            self._free_at = now + 1 / self.per_second
            return False

    def _too_large(self, inputs: list[str]) -> Fault | None:
        if self.max_inputs is not None and len(inputs) > self.max_inputs:
            words = f"batch size {len(inputs)} > maximum allowed batch size {self.max_inputs}"
            unnamed = "Too many inputs in request, split into more batches."
            return Status(400, words if self.names_limits else unnamed, "3210")
        count = self.count(inputs)
        if self.max_tokens is not None and count > self.max_tokens:
            words = f"Too many tokens in batch. Max is {self.max_tokens} got {count}"
            unnamed = "Too many tokens overall, split into more batches."
            return Status(400, words if self.names_limits else unnamed, "3210")
        if self.max_tokens_a_minute is not None and count > self.max_tokens_a_minute:
            words = (
                "Request too large for text-embedding-3-small in organization org-1 on tokens per min (TPM): "
                f"Limit {self.max_tokens_a_minute}, Requested {count}. The input must be reduced."
            )
            return Status(429, words, "rate_limit_exceeded")
        return None

    @staticmethod
    def count(inputs: list[str]) -> int:
        """Return the texts' tokens, as this service counts them."""
        return sum(max(1, len(text) // 4) for text in inputs)

    def record(self, request: Received) -> None:
        """Note a request and its status."""
        with self._lock:
            self._received.append(request)

    def pause(self, seconds: float) -> None:
        """Sleep, but not past the end of the service."""
        self._stopping.wait(seconds)


def _unsupported(support: Support, name: str, words: str) -> Fault | None:
    """Return how a service refuses an option; None if it accepts it."""
    where = [{"type": "value_error", "loc": ["body", name], "msg": "Input should be absent"}]
    faults: dict[Support, Fault] = {
        "refuses": Status(400, words),
        "points": Raw(422, orjson.dumps({"detail": where})),
        "routes": Status(404, "No endpoints found that can serve this request"),
        "crashes": Status(500, "Internal Server Error"),
        "empties": Spoiled("no data"),
        "thins": Spoiled("count"),
    }
    return faults.get(support)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, service: EmbeddingService) -> None:
        self.service = service
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that go away, since some tests do that."""


class _Handler(BaseHTTPRequestHandler):
    """One connection; `_body` and `_inputs` are those of the current request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write nothing."""

    def do_POST(self) -> None:
        """Answer one request."""
        self._body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        given = self._body.get("input", [])
        self._inputs = [given] if isinstance(given, str) else list(given)
        with self.server.service.serving():
            service = self.server.service
            service.pause(service.latency + service.seconds_per_text * len(self._inputs))
            self._act(self._refusal() or self.server.service.next_fault(self._inputs))

    def _refusal(self) -> Fault | None:
        service, key = self.server.service, self.headers["authorization"]
        if self.path != "/v1/embeddings":
            return Status(404, "no such path")
        if service.key is not None and key != f"Bearer {service.key}":
            return Status(401, f"Incorrect API key provided: {key}")
        if "encoding_format" in self._body:
            refusal = _unsupported(service.base64, "encoding_format", "encoding_format is not supported")
            if refusal:
                return refusal
        if self._wanted_size is not None:
            name = "dimensions" if "dimensions" in self._body else "output_dimension"
            return _unsupported(service.own_size, name, _ONE_SIZE)
        return None

    def _act(self, fault: Fault | None) -> None:
        match fault:
            case Status():
                self._fail(fault)
            case Raw(status, body, retry_after):
                self._reply(status, body, retry_after=retry_after)
            case Reset():
                self._record(0)
                # Closing with a linger of 0 sends RST.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            case Silent(seconds):
                self._record(0)
                self.server.service.pause(seconds)
                self.close_connection = True
            case Spoiled(how):
                self._reply(200, *self._spoiled(how))
            case Trickle(seconds, size):
                self._reply(200, orjson.dumps(self._embeddings()), each=seconds, size=size)
            case Slow() | None:
                self.server.service.pause(fault.seconds if fault else 0)
                self._reply(200, orjson.dumps(self._embeddings()))

    @property
    def _wanted_size(self) -> int | None:
        size = self._body.get("dimensions", self._body.get("output_dimension"))
        return size if isinstance(size, int) else None

    def _encoded(self, vector: Vector) -> object:
        coded = self._body.get("encoding_format") == "base64" and self.server.service.base64 == "honours"
        return b64encode(vector.tobytes()).decode() if coded else list(vector)

    def _embeddings(self) -> dict[str, Any]:
        service = self.server.service
        size = (service.own_size == "honours" and self._wanted_size) or service.dimensions
        data = [
            {"object": "embedding", "index": index, "embedding": self._encoded(vector_of(text, size))}
            for index, text in enumerate(self._inputs)
        ]
        count = service.count(self._inputs)
        usage = {"prompt_tokens": count, "completion_tokens": 0, "total_tokens": count}
        return {"id": "1", "object": "list", "model": self._body.get("model"), "data": data, "usage": usage}

    def _spoiled(self, how: str) -> tuple[bytes, str]:
        answer, size = self._embeddings(), self.server.service.dimensions
        match how:
            case "count":
                answer["data"].pop()
            case "order":
                # This is not a fault: each carries its index.
                answer["data"].reverse()
            case "first index":
                # This is not a fault: protobuf leaves a 0 out.
                del answer["data"][0]["index"]
            case "index":
                answer["data"][0]["index"] = 7_000
            case "no data":
                answer["data"] = []
            case "null":
                answer["data"][0]["embedding"] = None
            case "dimensions" | "nan" | "large":
                wrong = {"nan": [float("nan")] * size, "large": [70_000.0] * size}.get(
                    how, [0.5] * (size + 1)
                )
                answer["data"][0]["embedding"] = self._encoded(array("f", wrong))
            case "html":
                return b"<html>Welcome to the proxy</html>", "text/html"
        body = {"nothing": b"", "not json": b'{"data": [', "huge": b" " * 4_000_000}.get(how)
        # json and not orjson: it writes NaN, as Python's servers do.
        return (json.dumps(answer).encode() if body is None else body), "application/json"

    def _fail(self, failure: Status) -> None:
        error = {
            "message": failure.message,
            "type": "invalid_request_error",
            "param": None,
            "code": failure.code,
        }
        # Mistral's errors are flat, OpenAI's nested; both providers have to read both.
        document = {"error": error} if failure.nested else error
        self._reply(failure.status, orjson.dumps(document), retry_after=failure.retry_after)

    def _record(self, status: int) -> None:
        """Note the request before it is answered, so that a client finds it noted."""
        received = Received(
            tuple(self._inputs), self._body, self.headers["authorization"], time.monotonic(), status
        )
        self.server.service.record(received)

    def _reply(
        self,
        status: int,
        body: bytes,
        kind: str = "application/json",
        *,
        retry_after: str | None = None,
        each: float = 0.0,
        size: int = 1_000_000,
    ) -> None:
        self._record(status)
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if retry_after is not None:
                self.send_header("Retry-After", retry_after)
            self.end_headers()
            for start in range(0, len(body), size):
                self.server.service.pause(each)
                self.wfile.write(body[start : start + size])
        except OSError:  # the client is gone
            self.close_connection = True


@pytest.fixture
def embedding_service() -> Iterator[EmbeddingService]:
    """Yield a running service of 8 dimensions."""
    with EmbeddingService() as service:
        yield service
