"""The process: attach, run, and attach anew after whatever passes; until told to stop.

What stops and what passes is `policy`'s to say. Between tries it waits longer and longer, with jitter, and
says what for.
"""

import asyncio
import gc
import random
import signal
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext, suppress
from time import monotonic

import structlog

from walvec.attach import attach
from walvec.config.load import Config
from walvec.database.fence import OwnSessions
from walvec.embed.dispatch import Dispatcher
from walvec.embed.protocol import open_embedder
from walvec.errors import Interrupted
from walvec.observe.bars import display
from walvec.observe.health import routes, serving_in_turn
from walvec.observe.telemetry import Telemetry, Trace
from walvec.pipeline import Pipeline
from walvec.policy import Rule, explain_failure, rule_for, worst
from walvec_slots.errors import PreconditionFailed, SlotActive
from walvec_slots.lsn import Lsn

FIRST_WAIT, LONGEST_WAIT = 0.2, 30.0  # seconds between tries
HEALTHY_AFTER = 60.0  # seconds of work after which the next wait is the first one again

_log = structlog.get_logger(__name__)


async def supervise(
    config: Config,
    *,
    once: bool,
    wait: bool,
    give_up_after: float | None,
    trace: Trace = lambda _: None,
    stop_at: Lsn | None = None,
) -> None:
    """Keep the target in step until a signal says stop; with `once`, until it is, or has come to `stop_at`.

    `wait`: whether to wait while another process holds the slot. `give_up_after`: seconds of failing in a row
    after which the failure is raised; None to try for ever. `trace` is called with every committed batch.

    Raises whatever stops the process, as a WalvecError where it is foreseen.
    """
    telemetry = Telemetry(config.embedder.provider, trace)
    embedder = open_embedder(config.embedder)
    dispatcher = Dispatcher(
        embedder, config.embedder, on_retry=telemetry.retried, on_answer=telemetry.answered
    )
    telemetry.follow(dispatcher)
    stop = asyncio.Event()
    try:
        with _signals(stop):
            async with _server(config, telemetry, stop, once=once):
                supervisor = Supervisor(
                    config, dispatcher, telemetry, stop, once=once, wait=wait, stop_at=stop_at
                )
                await supervisor.run(give_up_after)
    finally:
        await dispatcher.aclose()


def _server(
    config: Config, telemetry: Telemetry, stop: asyncio.Event, *, once: bool
) -> AbstractAsyncContextManager[None]:
    """Return the server for probes and metrics.

    Work with an end has nobody to probe it, and may be done beside a process that has the port.
    """
    address = None if once else config.http.address
    if address is None:
        return nullcontext()
    return serving_in_turn(address, routes(telemetry, stop, max_lag=config.http.max_lag))


class Supervisor:
    """Attaches again and again."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        telemetry: Telemetry,
        stop: asyncio.Event,
        *,
        once: bool,
        wait: bool,
        stop_at: Lsn | None = None,
    ) -> None:
        """Take what `supervise` describes; `stop` ends the work in order, `telemetry` is told how it goes."""
        self._config = config
        self._dispatcher = dispatcher
        self._telemetry = telemetry
        self._stop = stop
        self._once = once
        self._wait = wait
        self._stop_at = stop_at
        self._show = display(config.log)
        self._own = OwnSessions(telemetry.detached)
        self._attached = False  # ever: what cannot be bound later is paused, not refused

    async def run(self, give_up_after: float | None) -> None:
        """Work to the end, through every failure that passes.

        Raises Interrupted where the work has an end and is stopped before.
        """
        delay, failing_since = FIRST_WAIT, None
        while not self._stop.is_set():
            began = monotonic()
            try:
                if await self._attempt():
                    return
                break
            except Exception as group:
                error = worst(group)
                rule = rule_for(error)
            if monotonic() - began > HEALTHY_AFTER:
                delay, failing_since = FIRST_WAIT, None
            failing_since = failing_since or monotonic()
            given_up = give_up_after is not None and monotonic() - failing_since > give_up_after
            if rule.verdict == "stop" or given_up or (isinstance(error, SlotActive) and not self._wait):
                raise explain_failure(error) or error
            self._telemetry.failed(error)
            if self._stop.is_set():
                _log.warning(
                    "stopped before everything in flight was finished; it comes again", why=_what(error)
                )
                break
            if rule.verdict == "again":
                self._telemetry.detached(f"attaching anew: {error}")
                _log.info("attaching anew", why=str(error))
            else:
                await self._pause(error, rule, delay)
                delay = min(delay * 2, LONGEST_WAIT)
            # It leads to all that was in memory when it was raised, as cancelled tasks do, in cycles. The
            # step that this is may still hold some of it, so that the loop collects once it is over.
            del error
            asyncio.get_running_loop().call_soon(gc.collect)
        if self._once:
            raise Interrupted

    async def _attempt(self) -> bool:
        """Attach and work to the end, or to a failure; return whether all is done that was to be done."""
        async with AsyncExitStack() as stack:
            attaching = asyncio.create_task(
                attach(self._config, stack, self._own, wait=self._wait, starting=not self._attached)
            )
            await _first(attaching, self._stop)
            if self._stop.is_set():
                return False
            attachment = attaching.result()
            self._attached = True
            _log.info(
                "streaming",
                slot=self._config.source.slot,
                checkpoint=str(attachment.checkpoint.lsn),
                vectorizers=len(attachment.vectorizers.bindings),
                paused=len(attachment.vectorizers.paused),
            )
            pipeline = Pipeline(
                attachment,
                self._dispatcher,
                once=self._once,
                committed=self._telemetry.committed,
                stop_at=self._stop_at,
            )
            self._telemetry.attached(pipeline.vitals)
            stack.callback(self._telemetry.detached, "attaching anew")
            async with self._show(pipeline.standing):
                await pipeline.run(self._stop)
            _log.info("stopped", slot=self._config.source.slot)
            if self._once and pipeline.is_at_end and attachment.vectorizers.paused:
                names = ", ".join(attachment.vectorizers.paused)
                raise PreconditionFailed(
                    f"all is embedded but for {names}", hint="`walvec status` says why it is paused"
                )
            return pipeline.is_at_end

    async def _pause(self, error: BaseException, rule: Rule, delay: float) -> None:
        """Say what failed and what is waited for, and wait; or until told to stop."""
        seconds = random.uniform(delay / 2, delay)  # noqa: S311 -- jitter, no secret
        shown, what = explain_failure(error), _what(error)
        self._telemetry.detached(f"trying again: {what}")
        _log.warning(
            "trying again",
            what=what,
            hint=(shown.hint if shown else None) or rule.hint,
            seconds=round(seconds, 1),
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


def _what(error: BaseException) -> str:
    """Say what failed, without anything of a row."""
    shown = explain_failure(error)
    return shown.what if shown else type(error).__name__


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
