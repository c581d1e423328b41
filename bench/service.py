"""An embedding service that costs next to nothing: a process of its own that answers with ready-made bytes.

It speaks what both products ask: /v1/embeddings (base64 or lists, as asked) and Ollama's /api/embed. The
texts of a request are counted and forgotten; an answer is made once for each number of texts, and kept.

    python -m bench.service --dimensions 384 --latency 0.05     prints its port, and ends with its stdin
"""

import argparse
import asyncio
import random
import subprocess
import sys
import time
from array import array
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.client import HTTPConnection
from typing import Any

import orjson

from bench.report import CHECKOUT

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
HIGH_WATER = 64 * 1024 * 1024  # bytes of answers that may wait for a client: none is ever held up
KEPT_ANSWERS = 64


class Answers:
    """Bodies for any number of texts, all with the same vector of random numbers."""

    def __init__(self, dimensions: int) -> None:
        numbers = random.Random(dimensions)
        vector = array("f", (numbers.gauss(0, dimensions**-0.5) for _ in range(dimensions)))
        self._coded = b'"%s"' % b64encode(vector.tobytes())
        # As many digits as services print.
        self._list = b"[%s]" % ",".join(f"{number:.9g}" for number in vector).encode()
        self.openai = lru_cache(KEPT_ANSWERS)(self._openai)
        self.ollama = lru_cache(KEPT_ANSWERS)(self._ollama)

    def _openai(self, count: int, coded: bool) -> bytes:  # noqa: FBT001 -- the key of a cache
        vector = self._coded if coded else self._list
        data = b",".join(
            b'{"object":"embedding","index":%d,"embedding":%s}' % (index, vector) for index in range(count)
        )
        return (
            b'{"object":"list","model":"bench","data":[%s],"usage":{"prompt_tokens":%d,"total_tokens":%d}}'
            % (data, count * 75, count * 75)
        )

    def _ollama(self, count: int) -> bytes:
        vectors = b",".join([self._list] * count)
        return b'{"model":"bench","embeddings":[%s],"total_duration":1,"prompt_eval_count":%d}' % (
            vectors,
            count * 75,
        )


class Server:
    """What all connections share: the answers, the latency in seconds, and what was counted."""

    def __init__(self, dimensions: int, latency: float) -> None:
        self.answers = Answers(dimensions)
        self.latency = latency
        self.texts = 0
        self.requests = 0
        self.in_flight = 0
        self.most_in_flight = 0

    def answer(self, path: bytes, body: bytes) -> tuple[bytes, float]:
        """Return the body to send for a request's, and after how many seconds."""
        match path:
            case b"/v1/embeddings":
                request = orjson.loads(body)
                count = self._count(request)
                return self.answers.openai(count, request.get("encoding_format") == "base64"), self.latency
            case b"/api/embed":
                return self.answers.ollama(self._count(orjson.loads(body))), self.latency
            case b"/api/show":  # Ollama's client asks whether the model is there
                return b'{"model_info":{"general.architecture":"bench","bench.context_length":8192}}', 0.0
            case _:
                return orjson.dumps(self.counts()), 0.0

    def _count(self, request: dict[str, Any]) -> int:
        given = request["input"]
        count = 1 if isinstance(given, str) else len(given)
        self.texts += count
        self.requests += 1
        return count

    def counts(self) -> dict[str, float]:
        """What was asked so far, and the CPU seconds that it took."""
        return {
            "texts": self.texts,
            "requests": self.requests,
            "most_in_flight": self.most_in_flight,
            "busy": time.process_time(),
        }


class Connection(asyncio.Protocol):
    """One client's connection, kept alive; its requests come one after the other."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = bytearray()
        self._need = 0  # bytes of head and body that a request has; 0: not known yet
        self._path = b""
        self._body_at = 0
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a client."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(HIGH_WATER)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Gather a request, and answer it once it is whole."""
        self._received += data
        if not self._need:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._read_head(bytes(self._received[:end]), end + 4)
        if len(self._received) >= self._need:
            body = bytes(self._received[self._body_at : self._need])
            del self._received[: self._need]
            self._need = 0
            self._serve(body)

    def _read_head(self, head: bytes, size: int) -> None:
        self._path = head.split(b" ", 2)[1]
        self._body_at = size
        _, _, rest = head.lower().partition(b"content-length:")
        self._need = size + int(rest.split(b"\r\n", 1)[0] or 0)
        if b"100-continue" in head:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _serve(self, body: bytes) -> None:
        answer, latency = self._server.answer(self._path, body)
        if latency:
            self._server.in_flight += 1
            self._server.most_in_flight = max(self._server.most_in_flight, self._server.in_flight)
            self._loop.call_later(latency, self._send_late, answer)
        else:
            self._send(answer)

    def _send_late(self, answer: bytes) -> None:
        self._server.in_flight -= 1
        self._send(answer)

    def _send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.writelines([HEAD % len(answer), answer])


async def serve(dimensions: int, latency: float) -> None:
    """Print the port, and serve until stdin ends: with whoever started this process."""
    loop = asyncio.get_running_loop()
    server = Server(dimensions, latency)
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=256)
    print(listening.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


class Service:
    """A running service, as a part of the suite sees it."""

    def __init__(self, port: int, dimensions: int, latency: float) -> None:
        self._port = port
        self.dimensions = dimensions
        self.latency = latency  # seconds
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"

    @property
    def texts(self) -> int:
        """Texts that were sent to it so far."""
        return int(self._counts()["texts"])

    @property
    def requests(self) -> int:
        """Requests for embeddings so far."""
        return int(self._counts()["requests"])

    @property
    def most_in_flight(self) -> int:
        """Requests that it held at the same time, at most; 0 where it answers at once."""
        return int(self._counts()["most_in_flight"])

    @property
    def busy(self) -> float:
        """CPU seconds that it has used so far."""
        return self._counts()["busy"]

    def _counts(self) -> dict[str, float]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", "/counts")
            counts: dict[str, float] = orjson.loads(connection.getresponse().read())
            return counts
        finally:
            connection.close()


@contextmanager
def running(dimensions: int, latency: float) -> Iterator[Service]:
    """Start a service for the length of a block; `latency` in seconds."""
    words = ["--dimensions", str(dimensions), "--latency", str(latency)]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.service", *words],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the suite, which then closes the pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Service(int(process.stdout.readline()), dimensions, latency)
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def main(run: Callable[..., None] = asyncio.run) -> None:
    """Serve, as told on the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.service")
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    options = parser.parse_args()
    run(serve(options.dimensions, options.latency))


if __name__ == "__main__":
    main()
