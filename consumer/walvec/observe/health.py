"""`[http] listen`: /livez, /readyz and /metrics, for probes and Prometheus.

GET alone, and one answer a connection. A request is bounded in size and time, connections in number (`web`);
without authentication, so nothing here may tell what a log line may not.
It lives as long as the process, across attachments: `supervise` starts it.
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

STALL_LIMIT = 60.0  # seconds that the checkpoint may wait for work in flight before the process is not ready
TIME_LIMIT = 5.0  # seconds for a connection, from its start to its end
PORT_INTERVAL = 1.0  # seconds between two tries for a port that somebody has
MAX_CONNECTIONS = 64  # at once; one more ends the oldest
BACKLOG = 128  # connections that the system takes in before they are looked at
SHUTDOWN = 0.1  # seconds for an answer that is being given when the process ends
PLAIN = "text/plain; charset=utf-8"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What a request gets."""

    status: HTTPStatus
    body: bytes
    content_type: str = PLAIN


Routes = Mapping[str, Callable[[], HttpResponse]]


def routes(telemetry: Telemetry, stop: asyncio.Event, *, max_lag: float = 0.0) -> Routes:
    """Return what answers each path. `stop` is set once the process ends in order; see `why_not_ready`."""
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
    """Return in one line why the target is not being kept in step; None if it is.

    `max_lag`: seconds that the oldest commit which is not embedded may have waited; 0.0: any.
    """
    if reason := held_up.reason():
        return reason
    if telemetry.vitals is None:
        return " ".join(masked(telemetry.why_detached).split())
    vitals = telemetry.vitals()
    if vitals.write_failure:
        return f"the target does not take what is written: {vitals.write_failure}"
    if 0 < max_lag < (lag := vitals.lag_seconds or 0.0):
        why = f"the oldest commit that is not embedded is {lag:.0f} s old, more than [http] max_lag allows"
    elif vitals.stalled_for > STALL_LIMIT:
        why = f"the checkpoint has been waiting for work in flight for {vitals.stalled_for:.0f} s"
    else:
        return None
    failure = telemetry.dispatcher.failure if telemetry.dispatcher else None
    return f"{why}; the embedding service fails for {monotonic() - failure.since:.0f} s" if failure else why


@asynccontextmanager
async def serving_in_turn(address: tuple[str, int], answers: Routes) -> AsyncIterator[None]:
    """Serve on `address` for the length of a block; where somebody listens there, once they have gone.

    On one machine that is the walvec that this one waits for, as a rule.
    Raises PreconditionFailed where the address cannot be had for another reason.
    """
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(serving(address, answers))
        except PreconditionFailed as error:
            if not _is_in_use(error):
                raise
            _log.warning("http server waits for its port", what=error.what, hint=error.hint)
            waiting = asyncio.create_task(_take_over(address, answers), name="http server")
            stack.push_async_callback(_end, waiting)
        yield


async def _take_over(address: tuple[str, int], answers: Routes) -> None:
    """Serve as soon as the port is free; never return. What else is in the way is logged once, and passes."""
    said = ""
    while True:
        await asyncio.sleep(PORT_INTERVAL)
        try:
            async with serving(address, answers):
                await asyncio.Event().wait()
        except PreconditionFailed as error:
            if not _is_in_use(error) and error.what != said:
                said = error.what
                _log.error("http server cannot listen yet", what=error.what, hint=error.hint)


def _is_in_use(error: PreconditionFailed) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def serving(address: tuple[str, int], answers: Routes) -> AsyncIterator[tuple[str, int]]:
    """Serve on `address` for the length of a block; give the host and port that are listened on.

    Port 0 takes a free one. Raises PreconditionFailed where the address cannot be had.
    """
    loop, (host, port) = asyncio.get_running_loop(), address
    crowd: Crowd | None = None

    def connected() -> asyncio.BaseProtocol:
        nonlocal crowd
        crowd = crowd or _crowd(answers)
        return crowd()

    try:
        server = await loop.create_server(connected, host, port, backlog=BACKLOG)
    except OSError as error:
        raise PreconditionFailed(
            f"[http] listen: {host}:{port} cannot be listened on ({_reason(error)})",
            hint='set another address; port 0 takes any free one, "" turns the server off',
        ) from error
    # It takes as long as connecting to the databases does, and goes on beside that.
    loading = loop.run_in_executor(None, import_module, "walvec.observe.http")
    try:
        host, port = server.sockets[0].getsockname()[:2]
        _log.info("http server listens", host=host, port=port)
        yield host, port
    finally:
        server.close()
        await loading
        if crowd:
            crowd.cut_all()
            await crowd.shutdown(SHUTDOWN)


def _crowd(answers: Routes) -> "Crowd":
    from walvec.observe.http import Crowd

    return Crowd(partial(_answer, answers), most=MAX_CONNECTIONS, seconds=TIME_LIMIT)


def _reason(error: OSError) -> str:
    """Name the error's kind: asyncio's own text repeats the address."""
    known = {errno.EADDRINUSE: "the port is in use", errno.EACCES: "permission denied"}
    return known.get(error.errno or 0) or errno.errorcode.get(error.errno or 0) or type(error).__name__


def _answer(answers: Routes, method: str, target: str) -> HttpResponse:
    """Answer a request by its first line."""
    path = target.partition("?")[0]
    answer = answers.get(path)
    if answer is None:
        return plain(HTTPStatus.NOT_FOUND, f"there is {', '.join(answers)}")
    if method != "GET":
        return plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET only")
    try:
        return answer()
    except Exception as error:
        _log.warning("http request failed", path=path, what=type(error).__name__)
        return plain(HTTPStatus.INTERNAL_SERVER_ERROR, "failed")


def plain(status: HTTPStatus, line: str) -> HttpResponse:
    """Return an answer of one line."""
    return HttpResponse(status, f"{line}\n".encode())
