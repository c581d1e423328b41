"""The process's counts, across attachments, and how to read the current one.

The stages report what they have done once a batch or a request, as plain additions; everything else is read
when somebody asks. `metrics` says what each count means; only `prometheus` needs prometheus_client.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from walvec.embed.dispatch import Dispatcher
from walvec.embed.service import RetryWait
from walvec.stages.batch import Committed
from walvec.stages.stopwatch import STAGES
from walvec.stages.vitals import Vitals

Trace = Callable[[Committed], None]

# Upper bounds of the histograms' buckets.
_ROW_BOUNDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
_TEXT_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048)
_STAGE_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SECOND_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Tally:
    """A histogram: how many values fell below each bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Count by upper `bounds`, each included, in rising order.

        One more bucket has no bound.
        """
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Yield each bound with the number of values up to it; the last bound is +Inf."""
        bounds = (*map(float, self._bounds), float("inf"))
        for bound, count in zip(bounds, accumulate(self._counts), strict=True):
            yield ("+Inf" if bound == float("inf") else str(bound)), count


class Telemetry:
    """The process's counts, across its attachments, and a way to read the current one.

    `trace` is called with every committed batch.
    """

    def __init__(self, provider: str, trace: Trace = lambda _: None) -> None:
        self.provider = provider
        # The dispatcher has counts too; None until `follow` is called.
        self.dispatcher: Dispatcher | None = None
        # Reads the attachment, while there is one.
        self.vitals: Callable[[], Vitals] | None = None
        self.why_detached = "not attached to the slot yet"
        # By error class.
        self.reconnects: Counter[str] = Counter()
        # By vectorizer and outcome.
        self.rows: Counter[tuple[str, str]] = Counter()
        self.texts: Counter[tuple[str, str]] = Counter()
        # By vectorizer.
        self.batch_rows: dict[str, Tally] = {}
        # By outcome.
        self.requests: Counter[str] = Counter()
        # By error class.
        self.retries: Counter[str] = Counter()
        self.request_seconds = Tally(_SECOND_BOUNDS)
        self.request_texts = Tally(_TEXT_BOUNDS)
        self.stage_seconds = {stage: Tally(_STAGE_BOUNDS) for stage in STAGES}
        self._trace = trace

    def follow(self, dispatcher: Dispatcher) -> None:
        """Read a dispatcher's counts from now on."""
        self.dispatcher = dispatcher

    def attached(self, vitals: Callable[[], Vitals]) -> None:
        """Note that an attachment has begun; `vitals` reads how it does."""
        self.vitals = vitals

    def detached(self, why: str) -> None:
        """Note that nothing is attached, and why, in words that a log line may have."""
        self.vitals = None
        self.why_detached = why

    def failed(self, error: BaseException) -> None:
        """Count a failure after which the process attaches again."""
        self.reconnects[type(error).__name__] += 1

    def committed(self, done: Committed) -> None:
        """Count and trace a batch after its commit; a batch that is repeated counts again."""
        name, batch = done.vectorizer, done.batch
        parked = {row.key for row in batch.parked}
        embedded = len({key for key, _, _, vector in batch.chunks if vector is not None})
        deleted = len(set(batch.gone) - parked)
        rows = self.rows
        rows[name, "embedded"] += embedded
        rows[name, "deleted"] += deleted
        rows[name, "parked"] += len(parked)
        rows[name, "unchanged"] += len(batch.settled) - embedded - deleted
        counts = done.counts()
        self.texts[name, "embedded"] += counts["texts_embedded"]
        self.texts[name, "refused"] += batch.refused
        self.texts[name, "reused"] += counts["texts_reused"]
        self.batch_rows.setdefault(name, Tally(_ROW_BOUNDS)).add(counts["rows"])
        for stage, began, ended in done.times.spans():
            self.stage_seconds[stage].add(ended - began)
        self._trace(done)

    def answered(self, seconds: float, outcome: str, texts: int) -> None:
        """Count a request to the service; `outcome` is ok, or the error's class."""
        self.requests[outcome] += 1
        self.request_seconds.add(seconds)
        self.request_texts.add(texts)

    def retried(self, waiting: RetryWait) -> None:
        """Count a wait before a request is sent again."""
        self.retries[type(waiting.error).__name__] += 1
