"""The process: attach, run, and attach anew after whatever passes; until told to stop.

What stops and what passes is `policy`'s to say. Between tries it waits longer and longer, with jitter, and
says what for.
"""

import asyncio
import random
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from time import monotonic

import structlog

from consumer.attach import attach
from consumer.config import Config
from consumer.embed import open_embedder
from consumer.embed.dispatch import Dispatcher
from consumer.pipeline import Pipeline
from consumer.policy import explain, rule_for, worst
from slots.errors import SlotActive

FIRST_WAIT, LONGEST_WAIT = 0.2, 30.0  # seconds between tries
HEALTHY_AFTER = 60.0  # seconds of work after which the next wait is the first one again

_log = structlog.get_logger(__name__)


async def supervise(config: Config, *, once: bool, wait: bool, give_up_after: float | None) -> None:
    """Keep the target in step until a signal says stop; with `once`, until it is.

    `wait`: whether to wait while another process holds the slot. `give_up_after`: seconds of failing in a row
    after which the failure is raised; None to try for ever. Raises whatever stops the process, as a
    WalvecError where it is foreseen.
    """
    dispatcher = Dispatcher(open_embedder(config.embedder), config.embedder)
    stop = asyncio.Event()
    try:
        with _signals(stop):
            await _keep_trying(config, dispatcher, stop, once=once, wait=wait, give_up_after=give_up_after)
    finally:
        await dispatcher.aclose()


async def _keep_trying(
    config: Config,
    dispatcher: Dispatcher,
    stop: asyncio.Event,
    *,
    once: bool,
    wait: bool,
    give_up_after: float | None,
) -> None:
    delay, failing_since = FIRST_WAIT, None
    while not stop.is_set():
        began = monotonic()
        try:
            await _attempt(config, dispatcher, stop, once=once, wait=wait)
        except Exception as group:
            error = worst(group)
            rule = rule_for(error)
            if monotonic() - began > HEALTHY_AFTER:
                delay, failing_since = FIRST_WAIT, None
            failing_since = failing_since or monotonic()
            given_up = give_up_after is not None and monotonic() - failing_since > give_up_after
            if rule.verdict == "stop" or given_up or (isinstance(error, SlotActive) and not wait):
                raise explain(error) or error from None
        else:
            return
        pause = random.uniform(delay / 2, delay)  # noqa: S311 -- jitter, no secret
        shown = explain(error)
        _log.warning(
            "trying again",
            what=shown.what if shown else type(error).__name__,
            hint=(shown.hint if shown else None) or rule.hint,
            seconds=round(pause, 1),
        )
        await _sleep(pause, stop)
        delay = min(delay * 2, LONGEST_WAIT)


async def _attempt(
    config: Config, dispatcher: Dispatcher, stop: asyncio.Event, *, once: bool, wait: bool
) -> None:
    """Attach and work to the end, or to a failure."""
    async with AsyncExitStack() as stack:
        attaching = asyncio.create_task(attach(config, stack, wait=wait))
        await _first(attaching, stop)
        if stop.is_set():
            return
        attachment = attaching.result()
        _log.info(
            "streaming",
            slot=config.source.slot,
            checkpoint=str(attachment.checkpoint.lsn),
            vectorizers=len(attachment.bindings),
        )
        await Pipeline(attachment, dispatcher, once=once).run(stop)
        _log.info("stopped", slot=config.source.slot)


async def _first(attaching: "asyncio.Task[object]", stop: asyncio.Event) -> None:
    """Wait for the attachment, or for being told to stop, which ends it."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({attaching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not attaching.done():
            attaching.cancel()
            await asyncio.wait({attaching})


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Let the first SIGTERM or SIGINT stop the work in order, and the second end the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        _log.info(
            "stopping: what is in flight is finished first; a second signal ends at once", signal=number.name
        )
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
