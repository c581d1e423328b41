"""Many texts -> their vectors, whatever the service does meanwhile. The one place that waits, retries
and splits.

Everybody who needs vectors shares one Dispatcher: the service's limits are for the key, not for a table.
What it does:

- packs texts into requests as `batch` says, several in flight; a caller with much to do never holds up one
  with little;
- asks again without end while the service is at fault, with growing, jittered waits, Retry-After obeyed by
  all; while nothing at all is answered, one probe asks for everybody;
- splits a request that is too large, and remembers the limit;
- splits a request that `blame` finds at fault, down to the text, which is answered by Refused. That takes
  about a second where the service is quick, because all other texts wait for it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import stamina
import structlog
from stamina.instrumentation import set_on_retry_hooks

from walvec.embed.backoff import backoff
from walvec.embed.blame import Trial, may_pass
from walvec.embed.errors import BatchTooLarge, EmbeddingError, RateLimited
from walvec.embed.pace import Pace
from walvec.embed.pack import Lesson, RequestBudget, cut, estimate_tokens, pack, take
from walvec.embed.protocol import Answer, Embedder, Settings, Vector
from walvec.embed.vectors import check_vectors

PROBE = "walvec"  # the text that any service takes
PARTS = 8  # of a request that is split to find a text: few rounds, each of which may last until the time-out
ALONE_AFTER = 6  # attempts without an answer to anybody, after which only the probe asks
LOG_EVERY = 10.0  # seconds between two lines about waiting

log = structlog.get_logger(__name__)

# stamina's own hooks write a line and make a metric's label for every retry there ever is, and an outage
# has thousands.
set_on_retry_hooks(())


@dataclass(frozen=True, slots=True)
class Refused:
    """In a vector's place: the service takes other texts, but not this one.

    Says what it answered, never the text. `passes`: it failed rather than refused, and may take the text
    another time.
    """

    error_class: str
    message: str
    passes: bool


@dataclass(frozen=True, slots=True)
class RetryWait:
    """A request that failed and will be sent again in so many `seconds`."""

    provider: str
    error: EmbeddingError
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why nothing is answered: the newest failure, and since when there has been no answer."""

    what: str
    hint: str | None
    since: float  # time.monotonic() of the first failure after the last answer


@dataclass(slots=True)
class Usage:
    """What was asked of the service since the start; for metrics and for showing what an update cost."""

    requests: int = 0
    failures: int = 0  # requests that brought no vectors
    texts: int = 0  # sent, and sent again
    tokens: int = 0  # as the service counted


async def ask(embedder: Embedder, texts: Sequence[str]) -> Answer:
    """Send one request and check the answer; for whoever wants the failure rather than the wait.

    Raises EmbeddingError.
    """
    answer = await embedder.embed(texts)
    check_vectors(answer.vectors, len(texts), embedder.dimensions)
    return answer


class Dispatcher:
    """Turns texts into vectors through one embedder, for any number of tasks of one event loop.

    `on_retry` is called for every wait, `on_answer` for every request, with its seconds, its outcome (ok, or
    the error's class) and its number of texts, for metrics and status; logging is done here.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: Settings,
        *,
        on_retry: Callable[[RetryWait], None] | None = None,
        on_answer: Callable[[float, str, int], None] | None = None,
    ) -> None:
        self.embedder = embedder
        self.usage = Usage()
        self.in_flight = 0  # requests sent and not answered
        self._failure: Failure | None = None
        self._concurrency = settings.concurrency
        self._places = asyncio.Semaphore(settings.concurrency)
        self._budget = RequestBudget(settings.max_batch_inputs, settings.max_batch_tokens)
        self._pace, self._turn = Pace(settings.requests_per_second), asyncio.Lock()
        self._on_retry = on_retry
        self._on_answer = on_answer
        self._answered = 0
        self._probing, self._recovering = asyncio.Lock(), asyncio.Lock()
        # When the last probe began, by time.monotonic(), and what it failed with.
        self._probed: tuple[float, EmbeddingError | None] = float("-inf"), None
        self._logged = float("-inf")

    @property
    def failure(self) -> Failure | None:
        """What the service fails with; None while it answers."""
        return self._failure

    def share(self, callers: int) -> asyncio.Semaphore:
        """Make one caller's share of the places: all, but for one that each of the other callers is left.

        So a caller whose requests hang, or wait to be sent again, never keeps the others from moving.
        """
        return asyncio.Semaphore(max(1, self._concurrency - callers + 1))

    async def embed(
        self, texts: Sequence[str], share: asyncio.Semaphore | None = None
    ) -> list[Vector | Refused]:
        """The texts' vectors, in their order; Refused for a text that the service won't take.

        Waits for as long as the service is at fault. Cancelling it gives up the requests in flight. Texts
        must not be blank. `share` is the caller's, if there are several.
        """
        job = _Job(texts, [estimate_tokens(text) for text in texts], share or self.share(1))
        if not texts:
            return []
        if take(job.tokens, 0, self._budget.limits).stop == len(texts):
            await self._work(job)
        else:
            # Every worker queues anew for each request, and places are given in the order of asking: so a
            # caller has at most that many requests ahead of somebody who comes later.
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._concurrency, len(texts))):
                    group.create_task(self._work(job))
        return cast("list[Vector | Refused]", job.results)

    async def aclose(self) -> None:
        """Close the embedder."""
        await self.embedder.aclose()

    async def _work(self, job: "_Job") -> None:
        while job.next < len(job.texts):
            async with job.share, self._places:
                # Taken as late as here, so that limits learned meanwhile hold for it.
                if job.next < len(job.texts):
                    request = take(job.tokens, job.next, self._budget.limits)
                    job.next = request.stop
                    await self._settle(job, request)

    async def _settle(self, job: "_Job", request: range) -> None:
        """Send until each text of the request has its vector or its refusal."""
        open_requests = [request]
        before: Lesson | None = None  # what was known of limits when the request was first too large
        while open_requests:
            part = open_requests.pop()
            found = await self._persist(job.texts[part.start : part.stop], suspected=part != request)
            if isinstance(found, Answer):
                self._budget.answered(job.weight(part), found.tokens)
                job.results[part.start : part.stop] = found.vectors
            elif len(part) == 1:
                job.results[part.start] = _refused(found)
                if before and isinstance(found, BatchTooLarge):
                    # It was this text that was too large, and not what it was sent with.
                    self._budget.unlearn(before)
            elif isinstance(found, BatchTooLarge):
                before = before or self._budget.lesson
                open_requests += reversed(self._split(job, part, found))
            else:
                open_requests += reversed(cut(part, PARTS))

    def _split(self, job: "_Job", part: range, error: BatchTooLarge) -> Sequence[range]:
        """Cut a request as the limits just learned allow, and in two at least."""
        known = self._budget.limits
        if error.of == "inputs":
            self._budget.too_many_inputs(len(part), error.limit)
        else:
            self._budget.too_many_tokens(job.weight(part), error.limit, error.counted)
        if (limits := self._budget.limits) != known:
            log.info("embedder.limit_learned", inputs=limits.inputs, estimated_tokens=limits.tokens)
        cuts = list(pack(job.tokens[: part.stop], limits, part.start))
        return cuts if len(cuts) > 1 else cut(part, 2)

    async def _persist(self, texts: Sequence[str], *, suspected: bool) -> Answer | EmbeddingError:
        """Send one request until it is answered; or return the failure that its texts are to blame for.

        stamina's attempts are cycles of objects, which live on until the garbage collector looks: nothing
        that they lead to may hold texts. `trial` does not, and of errors they keep the last one raised.
        """
        trial = Trial(several=len(texts) > 1, suspected=suspected)
        async for attempt in stamina.retry_context(
            on=lambda error: self._wait_before_retry(trial, error), attempts=None, timeout=None
        ):
            with attempt:
                trial.begin(self._answered)
                try:
                    return await self._send(texts)
                except EmbeddingError as error:
                    if await self._is_to_blame(trial, error):
                        return error.bare()
                    raise
        raise AssertionError("stamina gives up only when told to")

    async def _send(self, texts: Sequence[str]) -> Answer:
        """Send one request in its turn, and keep the books."""
        async with self._turn:  # Locks are fair: without one, a request that keeps failing can starve others.
            while delay := self._pace.delay(time.monotonic()):  # noqa: ASYNC110 - it may have grown meanwhile
                await asyncio.sleep(delay)
            self._pace.started(time.monotonic())
        self.usage.requests += 1
        self.usage.texts += len(texts)
        self.in_flight += 1
        began, outcome = time.monotonic(), None
        try:
            answer = await ask(self.embedder, texts)
            outcome = "ok"
        except EmbeddingError as error:
            outcome = type(error).__name__
            self.usage.failures += 1
            if isinstance(error, RateLimited):
                self._pace.limited(time.monotonic(), error.retry_after)
            raise
        finally:
            self.in_flight -= 1
            if self._on_answer is not None and outcome is not None:  # None: given up, which is no answer
                self._on_answer(time.monotonic() - began, outcome, len(texts))
        self.usage.tokens += answer.tokens or 0
        self._note_answer()
        return answer

    async def _is_to_blame(self, trial: Trial, error: EmbeddingError) -> bool:
        """Whether it is these texts that fail; if it is not, and nothing is answered, wait until it is."""
        fault = trial.fault(error, self._answered)
        down: EmbeddingError | None = None
        if fault == "unclear":
            down = await self._probe()
            if down is None:
                return trial.struck(error)
        elif trial.attempts >= ALONE_AFTER and self._answered == trial.answered_first:
            down = error
        if down is not None:
            await self._recovery(down)
            trial.acquit()
        return fault == "texts"

    async def _probe(self) -> EmbeddingError | None:
        """Send the text that any service takes; return what it fails with. One is sent for all who ask."""
        asked = time.monotonic()
        async with self._probing:
            began, failure = self._probed
            if began < asked:
                began, failure = time.monotonic(), None
                try:
                    await self._send([PROBE])
                except EmbeddingError as error:
                    failure = error.bare()
                self._probed = began, failure
        return failure

    async def _recovery(self, failure: EmbeddingError) -> None:
        """Wait until the service answers anybody. Of all who wait, one asks, and only with the probe."""
        answered = self._answered
        async with self._recovering:
            attempt = 0
            while self._answered == answered:
                attempt += 1
                await asyncio.sleep(self._note_wait(failure, attempt))
                failure = await self._probe() or failure

    def _wait_before_retry(self, trial: Trial, error: Exception) -> float | bool:
        """Tell stamina how long to wait, False for errors that aren't the service's; and say so."""
        if not isinstance(error, EmbeddingError):
            return False
        if trial.attempts == 0:
            return 0.0  # it has waited for the service's recovery
        if trial.strikes:
            return backoff(error, trial.strikes, suspected=True)
        return self._note_wait(error, trial.attempts)

    def _note_wait(self, error: EmbeddingError, attempt: int) -> float:
        """Say that the service is waited for; return for how many seconds."""
        seconds = backoff(error, attempt)
        self._note_failure(RetryWait(self.embedder.name, error, attempt, seconds))
        return seconds

    def _note_failure(self, waiting: RetryWait) -> None:
        now = time.monotonic()
        since = self._failure.since if self._failure else now
        self._failure = Failure(waiting.error.what, waiting.error.hint, since)
        if self._on_retry is not None:
            self._on_retry(waiting)
        if now - self._logged < LOG_EVERY:
            return
        self._logged = now
        log.warning(
            "embedder.waiting",
            provider=waiting.provider,
            error=type(waiting.error).__name__,
            what=waiting.error.what,
            hint=waiting.error.hint,
            attempt=waiting.attempt,
            retry_in=round(waiting.seconds, 1),
            failing_for=round(now - since, 1),
        )

    def _note_answer(self) -> None:
        self._answered += 1
        self._pace.answered()
        if self._failure is None:
            return
        failed_for = time.monotonic() - self._failure.since
        self._failure = None
        if failed_for >= LOG_EVERY:
            log.info("embedder.recovered", provider=self.embedder.name, after=round(failed_for, 1))


@dataclass(slots=True)
class _Job:
    """One caller's texts, their estimated tokens, and what has become of them."""

    texts: Sequence[str]
    tokens: list[int]
    share: asyncio.Semaphore
    results: list[Vector | Refused | None] = field(init=False)
    next: int = 0  # the first text that is in no request yet

    def __post_init__(self) -> None:
        self.results = [None] * len(self.texts)

    def weight(self, request: range) -> int:
        """The request's estimated tokens."""
        return sum(self.tokens[request.start : request.stop])


def _refused(error: EmbeddingError) -> Refused:
    return Refused(type(error).__name__, error.what, may_pass(error))
