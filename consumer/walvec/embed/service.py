"""The embedding service: sends requests in turn, and keeps count of the answers.

Requests start at the pace that `pace` allows; answers are checked. It also knows since when nothing has been
answered. It decides nothing: `dispatch` decides whether to send a request again, and whose fault a failure
is.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from walvec.embed.backoff import backoff
from walvec.embed.errors import EmbeddingError, RateLimited
from walvec.embed.pace import Pace
from walvec.embed.protocol import Answer, Embedder
from walvec.embed.vectors import check_vectors

# Seconds between two log lines about waiting for the service.
LOG_EVERY = 10.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetryWait:
    """A failed request that will be sent again in `seconds`."""

    provider: str
    error: EmbeddingError
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why nothing is answered: the latest failure, and the time of the first.

    `since` is in time.monotonic(): the first failure after the last answer.
    """

    what: str
    hint: str | None
    since: float


@dataclass(slots=True)
class Usage:
    """What was sent to the service since the start, for metrics and to show costs.

    `failures` are requests that brought no vectors. `texts` counts a text again each time it is sent again;
    `tokens` are those that the service counted.
    """

    requests: int = 0
    failures: int = 0
    texts: int = 0
    tokens: int = 0

    def count_request(self, texts: int) -> None:
        """Count a request of that many texts."""
        self.requests += 1
        self.texts += texts

    def count_failure(self) -> None:
        """Count a request that brought no vectors."""
        self.failures += 1

    def count_tokens(self, tokens: int | None) -> None:
        """Add the tokens of an answer, if the service counts them."""
        self.tokens += tokens or 0


OnRetry = Callable[[RetryWait], None]
OnAnswer = Callable[[float, str, int], None]


async def ask(embedder: Embedder, texts: Sequence[str]) -> Answer:
    """Send one request and check the answer, without any retry. Raises EmbeddingError."""
    answer = await embedder.embed(texts)
    check_vectors(answer.vectors, len(texts), embedder.dimensions)
    return answer


class Service:
    """The service behind one embedder, for any number of tasks of one event loop.

    `on_retry` is called for every wait; `on_answer` for every request, with its seconds, its outcome (ok, or
    the error's class) and its number of texts.
    """

    def __init__(
        self,
        embedder: Embedder,
        requests_per_second: float,
        *,
        on_retry: OnRetry | None = None,
        on_answer: OnAnswer | None = None,
    ) -> None:
        self.embedder = embedder
        self.usage = Usage()
        self.in_flight = 0
        self.answers = 0
        self.failure: Failure | None = None
        self._pace = Pace(requests_per_second)
        # Locks are fair: without one, a request that keeps failing could starve the others.
        self._turn = asyncio.Lock()
        self._on_retry = on_retry
        self._on_answer = on_answer
        self._logged = float("-inf")

    async def send(self, texts: Sequence[str]) -> Answer:
        """Send one request when its turn comes, and count it. Raises EmbeddingError."""
        await self._wait_for_turn()
        self.usage.count_request(len(texts))
        self.in_flight += 1
        # The outcome stays None if the request is cancelled, which is not an answer.
        began, outcome = time.monotonic(), None
        try:
            answer = await ask(self.embedder, texts)
            outcome = "ok"
        except EmbeddingError as error:
            outcome = type(error).__name__
            self.usage.count_failure()
            if isinstance(error, RateLimited):
                self._pace.limited(time.monotonic(), error.retry_after)
            raise
        finally:
            self.in_flight -= 1
            if self._on_answer is not None and outcome is not None:
                self._on_answer(time.monotonic() - began, outcome, len(texts))
        self.usage.count_tokens(answer.tokens)
        self._note_answer()
        return answer

    def seconds_to_wait(self, error: EmbeddingError, attempt: int) -> float:
        """Return how long to wait after a failure of the service, and report the wait."""
        seconds = backoff(error, attempt)
        self._note_failure(RetryWait(self.embedder.name, error, attempt, seconds))
        return seconds

    async def _wait_for_turn(self) -> None:
        async with self._turn:
            # The delay may have grown during the sleep, so it is computed again.
            while delay := self._pace.delay(time.monotonic()):  # noqa: ASYNC110
                await asyncio.sleep(delay)
            self._pace.started(time.monotonic())

    def _note_failure(self, waiting: RetryWait) -> None:
        now, error = time.monotonic(), waiting.error
        since = self.failure.since if self.failure else now
        self.failure = Failure(error.what, error.hint, since)
        if self._on_retry is not None:
            self._on_retry(waiting)
        if now - self._logged < LOG_EVERY:
            return
        self._logged = now
        _log.warning(
            "embedder.waiting",
            provider=waiting.provider,
            error=type(error).__name__,
            what=error.what,
            hint=error.hint,
            attempt=waiting.attempt,
            retry_in=round(waiting.seconds, 1),
            failing_for=round(now - since, 1),
        )

    def _note_answer(self) -> None:
        self.answers += 1
        self._pace.answered()
        if self.failure is None:
            return
        failed_for = time.monotonic() - self.failure.since
        self.failure = None
        if failed_for >= LOG_EVERY:
            _log.info("embedder.recovered", provider=self.embedder.name, after=round(failed_for, 1))
