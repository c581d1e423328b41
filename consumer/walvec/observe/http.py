"""The HTTP server behind `health`: aiohttp's, with limits against crowds.

A connection carries one request and one answer. It ends at its time limit in any case, and the oldest one
ends when one more opens than are allowed: so clients that connect and send nothing make room for those that
ask. It is imported late, because a command that serves nothing should not pay for it.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import LineTooLong

from walvec.observe.health import HttpResponse, plain

# Bytes of the request line, and of any header.
MAX_LINE = 4_096
MAX_HEADERS = 32
# Seconds that a request's body, which is ignored, has to end.
LINGERING = 0.5

_HEADERS = {"Cache-Control": "no-store", "Connection": "close", "Server": "walvec"}


class Conversation(web.RequestHandler):
    """One connection; bytes that are not a request are refused and never logged."""

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answer a request that the parser refuses."""
        if isinstance(exc, LineTooLong):
            return _to_response(plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request is too long"))
        return _to_response(_refusal_of(HTTPStatus(status)))


class Crowd(web.Server):
    """All connections, oldest first.

    `answer` takes a request's method and target. At most `most` connections are open, for at most `seconds`.
    """

    def __init__(self, answer: Callable[[str, str], HttpResponse], *, most: int, seconds: float) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.version not in (HttpVersion10, HttpVersion11):
                return _to_response(_refusal_of(HTTPStatus.BAD_REQUEST))
            return _to_response(answer(request.method, request.raw_path))

        super().__init__(handle)
        self._most, self._seconds = most, seconds
        self._ends: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._handlers: dict[web.RequestHandler, asyncio.Transport] = {}

    def __call__(self) -> web.RequestHandler:
        """Return the handler of the next connection."""
        return Conversation(
            self,
            loop=asyncio.get_running_loop(),
            # aiohttp's documentation allows None here, its annotations do not.
            access_log=None,  # type: ignore[arg-type]
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            lingering_time=LINGERING,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Accept a connection; end the oldest one if that is one too many."""
        super().connection_made(handler, transport)
        while len(self._ends) >= self._most:
            self._cut(next(iter(self._ends)))
        self._handlers[handler] = transport
        self._ends[transport] = asyncio.get_running_loop().call_later(self._seconds, self._cut, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection that has ended."""
        super().connection_lost(handler, exc)
        if transport := self._handlers.pop(handler, None):
            self._forget(transport)

    def cut_all(self) -> None:
        """End every connection at once."""
        for transport in list(self._ends):
            self._cut(transport)

    def _cut(self, transport: asyncio.Transport) -> None:
        self._forget(transport)
        transport.abort()

    def _forget(self, transport: asyncio.Transport) -> None:
        if end := self._ends.pop(transport, None):
            end.cancel()


def _refusal_of(status: HTTPStatus) -> HttpResponse:
    return plain(status, "Not an HTTP/1 request")


def _to_response(answer: HttpResponse) -> web.Response:
    """Return the answer as aiohttp has it; the connection ends after it."""
    headers = {"Content-Type": answer.content_type, **_HEADERS}
    if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = "GET"
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    response.force_close()
    return response
