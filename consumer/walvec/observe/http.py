"""The HTTP server behind `health`: aiohttp's, in bounds that a crowd of strangers cannot use up.

A connection is one request and one answer. It ends at its time limit whatever it does, and the oldest ends
where one more comes than may be open: so a crowd that connects and says nothing makes room for those that
ask. Imported late: a command that serves nothing does not pay for it.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import LineTooLong

from walvec.observe.health import HttpResponse, plain

MAX_LINE = 4_096  # bytes of the request line, and of any header
MAX_HEADERS = 32
LINGERING = 0.5  # seconds in which a body that nobody reads may come to its end

_HEADERS = {"Cache-Control": "no-store", "Connection": "close", "Server": "walvec"}


class Conversation(web.RequestHandler):
    """One connection; what is not a request is refused without a word of it in the log."""

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answer what the parser refuses."""
        if isinstance(exc, LineTooLong):
            return _response(plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long"))
        return _response(_refusal(HTTPStatus(status)))


class Crowd(web.Server):
    """All connections, oldest first."""

    def __init__(self, answer: Callable[[str, str], HttpResponse], *, most: int, seconds: float) -> None:
        """Answer by method and target; at most `most` connections are open, for `seconds` at most."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.version not in (HttpVersion10, HttpVersion11):
                return _response(_refusal(HTTPStatus.BAD_REQUEST))
            return _response(answer(request.method, request.raw_path))

        super().__init__(handle)
        self._most, self._seconds = most, seconds
        self._ends: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._handlers: dict[web.RequestHandler, asyncio.Transport] = {}

    def __call__(self) -> web.RequestHandler:
        """Return what talks to the next connection."""
        return Conversation(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # as its documentation has it
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            lingering_time=LINGERING,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take one more in, in the place of the oldest where that is one too many."""
        super().connection_made(handler, transport)
        while len(self._ends) >= self._most:
            self._cut(next(iter(self._ends)))
        self._handlers[handler] = transport
        self._ends[transport] = asyncio.get_running_loop().call_later(self._seconds, self._cut, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget one that has ended."""
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


def _refusal(status: HTTPStatus) -> HttpResponse:
    return plain(status, "this is not a request of HTTP/1")


def _response(answer: HttpResponse) -> web.Response:
    """Return an answer after which the connection ends."""
    headers = {"Content-Type": answer.content_type, **_HEADERS}
    if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = "GET"
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    response.force_close()
    return response
