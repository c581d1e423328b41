"""`[http] listen`: /livez, /readyz and /metrics, for probes and Prometheus.

Only GET is answered, once for each connection; `http` limits the size and time of a request and the number of
connections. There is no authentication, so nothing here may reveal more than a log line may. The server lives
as long as the process, across attachments: `supervise` starts it.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from walvec.database.waiting import held_up
from walvec.observe.logs import masked
from walvec.observe.telemetry import Telemetry
from walvec_slots.errors import PreconditionFailed

if TYPE_CHECKING:
    from walvec.observe.http import Crowd

# Seconds that the checkpoint may wait for work in flight before the process is not ready.
STALL_LIMIT = 60.0
# Seconds from a connection's start to its end.
TIME_LIMIT = 5.0
# Seconds between two attempts at a port that is in use.
PORT_INTERVAL = 1.0
# Connections open at once; one more ends the oldest.
MAX_CONNECTIONS = 64
# Connections that the system queues until they are accepted.
BACKLOG = 128
# Seconds for an answer that is under way when the process ends.
SHUTDOWN = 0.1
PLAIN = "text/plain; charset=utf-8"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The answer to a request."""

    status: HTTPStatus
    body: bytes
    content_type: str = PLAIN


Routes = Mapping[str, Callable[[], HttpResponse]]


def routes(telemetry: Telemetry, stop: asyncio.Event, *, max_lag: float = 0.0) -> Routes:
    """Return the answer to each path.

    `stop` is set once the process is stopping; for `max_lag` see `why_not_ready`.
    """
    from walvec.observe.prometheus import CONTENT_TYPE, Exposition

    exposition = Exposition(telemetry)

    def readiness() -> HttpResponse:
        why = "stopping" if stop.is_set() else why_not_ready(telemetry, max_lag)
        return plain(HTTPStatus.SERVICE_UNAVAILABLE, why) if why else plain(HTTPStatus.OK, "ready")

    return {
        "/livez": lambda: plain(HTTPStatus.OK, "alive"),
        "/readyz": readiness,
        "/metrics": lambda: HttpResponse(HTTPStatus.OK, exposition.text(), CONTENT_TYPE),
    }


def why_not_ready(telemetry: Telemetry, max_lag: float = 0.0) -> str | None:
    """Return in one line why the target is not kept in step; None if it is.

    `max_lag` is how many seconds the oldest commit that is not embedded may have waited; 0.0 means any.
    """
    if reason := held_up.reason():
        return reason
    if telemetry.vitals is None:
        return " ".join(masked(telemetry.why_detached).split())
    vitals = telemetry.vitals()
    if vitals.write_failure:
        return f"the target refuses writes: {vitals.write_failure}"
    if 0 < max_lag < (lag := vitals.lag_seconds or 0.0):
        why = f"the oldest commit that is not embedded is {lag:.0f} s old; [http] max_lag is {max_lag:g} s"
    elif vitals.stalled_for > STALL_LIMIT:
        why = f"the checkpoint has been waiting for work in flight for {vitals.stalled_for:.0f} s"
    else:
        return None
    failure = telemetry.dispatcher.failure if telemetry.dispatcher else None
    return f"{why}; the embedding service fails for {monotonic() - failure.since:.0f} s" if failure else why


@asynccontextmanager
async def serving_in_turn(address: tuple[str, int], answers: Routes) -> AsyncIterator[None]:
    """Serve on `address` for the length of a block, as soon as the port is free.

    A process that has the port is usually the walvec for which this one stands by. Raises PreconditionFailed
    if it cannot listen for another reason.
    """
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(serving(address, answers))
        except PreconditionFailed as error:
            if not _is_in_use(error):
                raise
            _log.warning("http.port_in_use", what=error.what, hint=error.hint)
            waiting = asyncio.create_task(_take_over(address, answers), name="http server")
            stack.push_async_callback(_end_task, waiting)
        yield


async def _take_over(address: tuple[str, int], answers: Routes) -> None:
    """Serve as soon as the port is free; never return.

    Another obstacle is logged once; waiting goes on.
    """
    logged = ""
    while True:
        await asyncio.sleep(PORT_INTERVAL)
        try:
            async with serving(address, answers):
                await asyncio.Event().wait()
        except PreconditionFailed as error:
            if not _is_in_use(error) and error.what != logged:
                logged = error.what
                _log.error("http.cannot_listen", what=error.what, hint=error.hint)


def _is_in_use(error: PreconditionFailed) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE


async def _end_task(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def serving(address: tuple[str, int], answers: Routes) -> AsyncIterator[tuple[str, int]]:
    """Serve on `address` for the length of a block; yield the host and port in use.

    Port 0 takes a free one. Raises PreconditionFailed if it cannot listen there.
    """
    loop, (host, port) = asyncio.get_running_loop(), address
    crowd: Crowd | None = None

    def connected() -> asyncio.BaseProtocol:
        nonlocal crowd
        crowd = crowd or _make_crowd(answers)
        return crowd()

    try:
        server = await loop.create_server(connected, host, port, backlog=BACKLOG)
    except OSError as error:
        raise PreconditionFailed(
            f"Cannot listen on {host}:{port}: {_reason_for(error)}",
            hint='set [http] listen to another address; port 0 takes a free port, "" turns the server off',
        ) from error
    # Importing takes as long as connecting to the databases, and happens at the same time.
    loading = loop.run_in_executor(None, import_module, "walvec.observe.http")
    try:
        host, port = server.sockets[0].getsockname()[:2]
        _log.info("http.listening", host=host, port=port)
        yield host, port
    finally:
        server.close()
        await loading
        if crowd:
            crowd.cut_all()
            await crowd.shutdown(SHUTDOWN)


def _make_crowd(answers: Routes) -> "Crowd":
    from walvec.observe.http import Crowd

    return Crowd(partial(_answer_request, answers), most=MAX_CONNECTIONS, seconds=TIME_LIMIT)


def _reason_for(error: OSError) -> str:
    """Name the error's kind, because asyncio's message repeats the address."""
    known = {errno.EADDRINUSE: "port in use", errno.EACCES: "permission denied"}
    return known.get(error.errno or 0) or errno.errorcode.get(error.errno or 0) or type(error).__name__


def _answer_request(answers: Routes, method: str, target: str) -> HttpResponse:
    """Answer a request by its method and target."""
    path = target.partition("?")[0]
    answer = answers.get(path)
    if answer is None:
        return plain(HTTPStatus.NOT_FOUND, f"Not found; the paths are {', '.join(answers)}")
    if method != "GET":
        return plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET only")
    try:
        return answer()
    except Exception as error:
        _log.warning("http.request_failed", path=path, what=type(error).__name__)
        return plain(HTTPStatus.INTERNAL_SERVER_ERROR, "failed")


def plain(status: HTTPStatus, line: str) -> HttpResponse:
    """Return an answer of one line of text."""
    return HttpResponse(status, f"{line}\n".encode())
