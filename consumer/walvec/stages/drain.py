"""The orderly end of an attachment: what is in flight is finished within limits.

What is not finished stays with the slot, which sends it again. So nothing waits for a service that fails, and
nothing keeps the server from shutting down, which waits until the clients of its walsenders have gone.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from time import monotonic

import structlog

from walvec.stages.confirm import Confirmation
from walvec.stages.timing import Timing
from walvec_slots.errors import WalvecError
from walvec_slots.protocol import Keepalive
from walvec_slots.stream import ReplicationStream

# Requests for a status, while nothing is read, from which the server must be shutting down.
SHUTDOWN_REQUESTS = 3

_log = structlog.get_logger(__name__)


async def drain(
    tasks: asyncio.TaskGroup,
    working: Collection[asyncio.Task[None]],
    stream: ReplicationStream,
    confirmation: Confirmation,
    waits_for: Callable[[], str | None],
    timing: Timing,
) -> None:
    """Let `working` end by itself while that helps, then tell the slot what is saved.

    `waits_for` says what is known to keep it from ending, if anything is.
    """
    listening = tasks.create_task(_until_shutdown(stream, confirmation), name="listen")
    late, deadline = set(working), monotonic() + timing.drain_limit
    failing = None
    while late and not listening.done() and monotonic() < deadline:
        failing = waits_for() and (failing or monotonic())
        if failing and monotonic() - failing > timing.failing_limit:
            break
        _, late = await asyncio.wait(late, timeout=timing.look_interval)
    if late:
        why = "the server is shutting down" if listening.done() else waits_for()
        _log.warning("run.stopped_early", lanes=len(late), why=why)
    with suppress(WalvecError):
        await stream.send(confirmation.status())


async def _until_shutdown(stream: ReplicationStream, confirmation: Confirmation) -> None:
    """Ignore what the server sends, until it shuts down or ends the stream.

    A server that shuts down asks for a status over and over.
    """
    requests = 0
    while requests < SHUTDOWN_REQUESTS:
        try:
            frames = await stream.read()
        except WalvecError:
            return
        for frame in frames:
            if isinstance(frame, Keepalive) and frame.reply_requested:
                requests += 1
                confirmation.poke.set()
