"""The process: attach, run, and attach again after what passes, until stopped.

`policy` says what stops the process and what passes. Between attempts it waits longer and longer, with
jitter, and says what for.
"""

import asyncio
import gc
import random
import signal
from collections.abc import Callable, Iterator
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
from walvec.pipeline import wire
from walvec.policy import Rule, explain_failure, rule_for, worst
from walvec.stages.timing import TIMING, Timing
from walvec_slots.errors import PreconditionFailed, SlotActive
from walvec_slots.lsn import Lsn

_log = structlog.get_logger(__name__)


async def supervise(
    config: Config,
    *,
    once: bool,
    wait: bool,
    give_up_after: float | None,
    trace: Trace = lambda _: None,
    stop_at: Lsn | None = None,
    stop: asyncio.Event | None = None,
    timing: Timing = TIMING,
    clock: Callable[[], float] = monotonic,
) -> None:
    """Keep the target in step until it is stopped; with `once`, until it is in step.

    `wait`: wait while another process holds the slot.
    `give_up_after`: seconds of failing in a row, after which the failure is raised; None: try without end.
    `trace` is called with every committed batch.
    `stop_at`: with `once`, the place in the WAL where the work ends.
    `stop`: the caller sets it to end the work in order. Without it, SIGTERM and SIGINT do that.
    `clock` gives the seconds in which failing and health are measured.

    Raises what stops the process, as a WalvecError where it is foreseen.
    """
    telemetry = Telemetry(config.embedder.provider, trace)
    embedder = open_embedder(config.embedder)
    dispatcher = Dispatcher(
        embedder, config.embedder, on_retry=telemetry.retried, on_answer=telemetry.answered
    )
    telemetry.follow(dispatcher)
    stopping = _stopped_by_signals() if stop is None else nullcontext(stop)
    try:
        with stopping as stopped:
            supervisor = Supervisor(
                config,
                dispatcher,
                telemetry,
                stopped,
                once=once,
                wait=wait,
                stop_at=stop_at,
                timing=timing,
                clock=clock,
            )
            async with _server(config, telemetry, stopped, once=once):
                await supervisor.run(give_up_after)
    finally:
        await dispatcher.aclose()


def _server(
    config: Config, telemetry: Telemetry, stop: asyncio.Event, *, once: bool
) -> AbstractAsyncContextManager[None]:
    """Return the server for probes and metrics.

    Work that ends by itself is not probed, and may be done beside a process that has the port.
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
        stop_at: Lsn | None,
        timing: Timing,
        clock: Callable[[], float],
    ) -> None:
        """Take what `supervise` describes; report to `telemetry`."""
        self._config = config
        self._dispatcher = dispatcher
        self._telemetry = telemetry
        self._stop = stop
        self._once = once
        self._wait = wait
        self._stop_at = stop_at
        self._timing = timing
        self._clock = clock
        self._show = display(config.log)
        self._own = OwnSessions(telemetry.detached)

        # Whether it ever was: what cannot be bound later is paused, not refused.
        self._attached = False

    async def run(self, give_up_after: float | None) -> None:
        """Work to the end, through every failure that passes.

        Raises Interrupted where the work has an end and is stopped before.
        """
        delay, failing_since = self._timing.first_wait, None
        while not self._stop.is_set():
            began = self._clock()
            try:
                if await self._attempt():
                    return
                break
            except Exception as group:
                if _is_cancelled():
                    # The statement in progress was cancelled too, and its connection closed: that error came
                    # in the place of the cancellation.
                    raise asyncio.CancelledError from group
                error = worst(group)
                rule = rule_for(error)
            if self._clock() - began > self._timing.healthy_after:
                delay, failing_since = self._timing.first_wait, None
            failing_since = failing_since or self._clock()
            given_up = give_up_after is not None and self._clock() - failing_since > give_up_after
            if rule.verdict == "stop" or given_up or (isinstance(error, SlotActive) and not self._wait):
                raise explain_failure(error) or error
            self._telemetry.failed(error)
            if self._stop.is_set():
                _log.warning("run.stopped_early", why=_describe(error))
                break
            if rule.verdict == "again":
                self._telemetry.detached(f"attaching again: {error}")
                _log.info("stream.reattaching", why=str(error))
            else:
                await self._pause(error, rule, delay)
                delay = min(delay * 2, self._timing.longest_wait)
            # The error leads, in cycles, to all that was in memory when it was raised, as cancelled tasks do.
            # This step may still hold some of it, so the loop collects once the step is over.
            del error
            asyncio.get_running_loop().call_soon(gc.collect)
        if self._once:
            raise Interrupted

    async def _attempt(self) -> bool:
        """Attach and work to the end or a failure; return whether all is done."""
        async with AsyncExitStack() as stack:
            attaching = asyncio.create_task(
                attach(
                    self._config,
                    stack,
                    self._own,
                    wait=self._wait,
                    starting=not self._attached,
                    patience=self._timing.patience,
                )
            )
            await _wait_for(attaching, self._stop)
            if self._stop.is_set():
                return False
            attachment = attaching.result()
            self._attached = True
            _log.info(
                "stream.attached",
                slot=self._config.source.slot,
                checkpoint=str(attachment.checkpoint.lsn),
                vectorizers=len(attachment.vectorizers.bindings),
                paused=len(attachment.vectorizers.paused),
            )
            pipeline = wire(
                attachment,
                self._dispatcher,
                once=self._once,
                committed=self._telemetry.committed,
                stop_at=self._stop_at,
                timing=self._timing,
            )
            self._telemetry.attached(pipeline.vitals)
            stack.callback(self._telemetry.detached, "attaching again")
            async with self._show(pipeline.standing):
                await pipeline.run(self._stop)
            _log.info("run.stopped", slot=self._config.source.slot)
            if self._once and pipeline.is_at_end and attachment.vectorizers.paused:
                names = ", ".join(attachment.vectorizers.paused)
                raise PreconditionFailed(
                    f"Everything is embedded except {names}", hint="`walvec status` says why it is paused"
                )
            return pipeline.is_at_end

    async def _pause(self, error: BaseException, rule: Rule, delay: float) -> None:
        """Say what failed and what is waited for; wait, or until stopped."""
        seconds = random.uniform(delay / 2, delay)  # noqa: S311 -- jitter, no secret
        shown, what = explain_failure(error), _describe(error)
        self._telemetry.detached(f"trying again: {what}")
        _log.warning(
            "stream.retrying",
            what=what,
            hint=(shown.hint if shown else None) or rule.hint,
            seconds=round(seconds, 1),
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


def _describe(error: BaseException) -> str:
    """Say what failed, without anything of a row."""
    shown = explain_failure(error)
    return shown.what if shown else type(error).__name__


async def _wait_for(attaching: "asyncio.Task[object]", stop: asyncio.Event) -> None:
    """Wait for the attachment, or for `stop`, which ends it."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({attaching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not attaching.done():
            attaching.cancel()
            await asyncio.wait({attaching})


@contextmanager
def _stopped_by_signals() -> Iterator[asyncio.Event]:
    """Give the event that the first SIGTERM or SIGINT sets.

    The second signal ends the process at once.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        _log.info("run.stopping", signal=number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _is_cancelled() -> bool:
    """Whether the task at work was asked to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
