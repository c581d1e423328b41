"""Many texts -> their vectors, whatever the service does.

Requests are packed, retried and split here. All tables share one Dispatcher, because the service's limits
apply to the key and not to a table. It

1. packs texts into requests as `pack` says, several in flight; a caller with much to do never holds up one
   with little;
2. retries without end while the service is at fault, with growing, jittered waits, and every request respects
   a Retry-After; while nothing is answered, one probe is sent for all of them (`recovery`);
3. splits a request that is too large, and remembers the limit;
4. splits a request whose texts are to blame (`blame`), down to the single text, which gets Refused in place
   of a vector. With a quick service that takes about a second, because all other texts wait for it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import stamina
import structlog
from stamina.instrumentation import set_on_retry_hooks

from walvec.embed.backoff import backoff
from walvec.embed.blame import Trial, may_pass
from walvec.embed.errors import BatchTooLarge, EmbeddingError
from walvec.embed.pack import Lesson, RequestBudget, RequestLimits, cut, estimate_tokens, pack, take
from walvec.embed.protocol import Answer, Embedder, Settings, Vector
from walvec.embed.recovery import Recovery
from walvec.embed.service import Failure, OnAnswer, OnRetry, Service, Usage

# The parts into which a blamed request is split. Few rounds matter more than few requests, because each round
# may last until the time-out.
PARTS = 8
# Attempts during which nobody was answered, after which only the probe is sent.
ALONE_AFTER = 6

_log = structlog.get_logger(__name__)

# stamina's own hooks log every retry and give it a metric's label; an outage has thousands of retries.
set_on_retry_hooks(())


@dataclass(frozen=True, slots=True)
class Refused:
    """In place of a vector: the service accepts other texts, but not this one.

    It holds what the service answered, never the text. `passes`: the service failed on the text rather than
    refused it, and may accept it another time.
    """

    error_class: str
    message: str
    passes: bool


class Dispatcher:
    """Turns texts into vectors through one embedder.

    Any number of tasks of one event loop may use it. `on_retry` and `on_answer` are those of `Service`.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: Settings,
        *,
        on_retry: OnRetry | None = None,
        on_answer: OnAnswer | None = None,
    ) -> None:
        self.embedder = embedder
        self._service = Service(
            embedder, settings.requests_per_second, on_retry=on_retry, on_answer=on_answer
        )
        self._recovery = Recovery(self._service)
        self._concurrency = settings.concurrency
        self._places = asyncio.Semaphore(settings.concurrency)
        self._budget = RequestBudget(settings.max_batch_inputs, settings.max_batch_tokens)

    @property
    def usage(self) -> Usage:
        """What was sent to the service since the start."""
        return self._service.usage

    @property
    def in_flight(self) -> int:
        """Requests sent and not answered."""
        return self._service.in_flight

    @property
    def failure(self) -> Failure | None:
        """Why the service answers nothing; None while it answers."""
        return self._service.failure

    def share(self, callers: int) -> asyncio.Semaphore:
        """Return one caller's share of the requests in flight.

        It is all of them but one for each of the other callers. So a caller whose requests hang, or wait to
        be sent again, never keeps the others from moving.
        """
        return asyncio.Semaphore(max(1, self._concurrency - callers + 1))

    async def embed(
        self, texts: Sequence[str], share: asyncio.Semaphore | None = None
    ) -> list[Vector | Refused]:
        """Return the texts' vectors in order, with Refused for a text that is refused.

        Texts must not be blank. It waits for as long as the service is at fault; cancelling it gives up the
        requests in flight. `share` is the caller's, if there are several callers.
        """
        job = _Job(texts, [estimate_tokens(text) for text in texts], share or self.share(1))
        if not texts:
            return []
        if take(job.tokens, 0, self._budget.limits).stop == len(texts):
            await self._work_off(job)
        else:
            # A worker queues for every request, and places are given in the order of asking. So a caller has
            # at most `concurrency` requests ahead of one that comes later.
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._concurrency, len(texts))):
                    group.create_task(self._work_off(job))
        return cast("list[Vector | Refused]", job.results)

    async def aclose(self) -> None:
        """Close the embedder."""
        await self.embedder.aclose()

    async def _work_off(self, job: "_Job") -> None:
        """Send one request after another until no text is left."""
        while not job.is_taken:
            async with job.share, self._places:
                # Texts are taken only now, so that limits learned in the meantime apply to them.
                if not job.is_taken:
                    await self._settle_request(job, job.take_request(self._budget.limits))

    async def _settle_request(self, job: "_Job", request: range) -> None:
        """Send until each text of the request has its vector or its refusal."""
        open_requests = [request]
        # What was known about limits when the request was first too large.
        before: Lesson | None = None
        while open_requests:
            part = open_requests.pop()
            found = await self._send_persistently(
                job.texts[part.start : part.stop], suspected=part != request
            )
            if isinstance(found, Answer):
                self._budget.answered(job.weight(part), found.tokens)
                job.results[part.start : part.stop] = found.vectors
            elif len(part) == 1:
                job.results[part.start] = _refused_for(found)
                if before and isinstance(found, BatchTooLarge):
                    # This text was too large, not the request that it was sent with.
                    self._budget.unlearn(before)
            elif isinstance(found, BatchTooLarge):
                before = before or self._budget.lesson
                open_requests += reversed(self._split_request(job, part, found))
            else:
                open_requests += reversed(cut(part, PARTS))

    def _split_request(self, job: "_Job", part: range, error: BatchTooLarge) -> Sequence[range]:
        """Learn from a request that was too large; cut it at least in two."""
        known = self._budget.limits
        if error.of == "inputs":
            self._budget.too_many_inputs(len(part), error.limit)
        else:
            self._budget.too_many_tokens(job.weight(part), error.limit, error.counted)
        if (limits := self._budget.limits) != known:
            _log.info("embedder.limit_learned", inputs=limits.inputs, estimated_tokens=limits.tokens)
        cuts = list(pack(job.tokens[: part.stop], limits, part.start))
        return cuts if len(cuts) > 1 else cut(part, 2)

    async def _send_persistently(self, texts: Sequence[str], *, suspected: bool) -> Answer | EmbeddingError:
        """Send one request until it is answered, or until its texts are to blame.

        Returns the answer, or the failure that the texts are to blame for. stamina's attempts are cycles of
        objects, which live until the garbage collector runs, so nothing that they lead to may hold texts:
        `trial` does not, and they keep only the last error raised.
        """
        trial = Trial(several=len(texts) > 1, suspected=suspected)
        async for attempt in stamina.retry_context(
            on=lambda error: self._wait_before_retry(trial, error), attempts=None, timeout=None
        ):
            with attempt:
                trial.begin(self._service.answers)
                try:
                    return await self._service.send(texts)
                except EmbeddingError as error:
                    if await self._is_to_blame(trial, error):
                        return error.bare()
                    raise
        raise AssertionError("stamina never gives up here")

    async def _is_to_blame(self, trial: Trial, error: EmbeddingError) -> bool:
        """Whether the texts are to blame. While nothing is answered, wait."""
        fault = trial.fault(error, self._service.answers)
        down: EmbeddingError | None = None
        if fault == "unclear":
            down = await self._recovery.probe()
            if down is None:
                return trial.add_strike(error)
        elif trial.attempts >= ALONE_AFTER and self._service.answers == trial.answered_first:
            down = error
        if down is not None:
            await self._recovery.wait_after(down)
            trial.acquit()
        return fault == "texts"

    def _wait_before_retry(self, trial: Trial, error: Exception) -> float | bool:
        """Tell stamina how long to wait; False for an error that is not the service's."""
        if not isinstance(error, EmbeddingError):
            return False
        if trial.attempts == 0:
            # The request has already waited for the service's recovery.
            return 0.0
        if trial.strikes:
            return backoff(error, trial.strikes, suspected=True)
        return self._service.seconds_to_wait(error, trial.attempts)


@dataclass(slots=True)
class _Job:
    """One caller's texts, their estimated tokens, and their results so far."""

    texts: Sequence[str]
    tokens: list[int]
    share: asyncio.Semaphore
    results: list[Vector | Refused | None] = field(init=False)
    # The first text that is not in a request yet.
    _next: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.results = [None] * len(self.texts)

    @property
    def is_taken(self) -> bool:
        """Whether every text is in a request."""
        return self._next >= len(self.texts)

    def take_request(self, limits: RequestLimits) -> range:
        """Take the next request, as large as the limits allow."""
        request = take(self.tokens, self._next, limits)
        self._next = request.stop
        return request

    def weight(self, request: range) -> int:
        """Return the request's estimated tokens."""
        return sum(self.tokens[request.start : request.stop])


def _refused_for(error: EmbeddingError) -> Refused:
    return Refused(type(error).__name__, error.what, may_pass(error))
