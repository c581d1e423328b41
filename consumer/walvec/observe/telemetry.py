"""What `/metrics` tells: every metric's name and meaning, and the counts that no stage keeps for itself.

The stages report what they have done once a batch or a request, as plain additions; everything else is read
off them when somebody asks. Only `walvec.observe.prometheus` needs prometheus_client.

Labels are the settings' vectorizers and provider and closed sets of words: never keys, texts or LSNs.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

from walvec.embed.dispatch import Dispatcher
from walvec.embed.service import RetryWait
from walvec.stages.committed import Committed
from walvec.stages.timing import STAGES
from walvec.stages.vitals import Vitals

MetricKind = Literal["counter", "gauge", "histogram"]
Trace = Callable[[Committed], None]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it is exported. `unit` is of its value; docs/metrics.md says what to make of it."""

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    unit: str
    meaning: str


_BY_VECTORIZER, _BY_PROVIDER = ("vectorizer",), ("provider",)

ATTACHED: Final = Metric("walvec_attached", "gauge", (), "0 or 1", "Whether the stream is attached")
RECONNECTS: Final = Metric(
    "walvec_reconnects_total",
    "counter",
    ("error",),
    "attachments",
    "Attachments, or attempts at one, that failed and were made anew, by the error's class",
)
CHECKPOINT: Final = Metric(
    "walvec_checkpoint_lsn", "gauge", (), "LSN, a number", "Everything before it is embedded and committed"
)
CONFIRMED: Final = Metric(
    "walvec_confirmed_lsn", "gauge", (), "LSN, a number", "What the slot was told last: it may forget it"
)
RECEIVED: Final = Metric("walvec_received_lsn", "gauge", (), "LSN, a number", "How far the source has sent")
LAG: Final = Metric(
    "walvec_lag_bytes", "gauge", (), "bytes", "WAL received and not covered by the checkpoint"
)
LAG_SECONDS: Final = Metric(
    "walvec_lag_seconds",
    "gauge",
    (),
    "seconds",
    "Age of the oldest commit that is received and not yet embedded and committed",
)
STALL: Final = Metric(
    "walvec_stall_seconds", "gauge", (), "seconds", "How long the checkpoint has waited for work in flight"
)
WRITABLE: Final = Metric(
    "walvec_target_writable", "gauge", (), "0 or 1", "Whether the last try to write the target succeeded"
)
RETAINED: Final = Metric("walvec_slot_retained_bytes", "gauge", (), "bytes", "WAL that the slot keeps back")
UNCONFIRMED: Final = Metric(
    "walvec_slot_unconfirmed_bytes", "gauge", (), "bytes", "WAL from the confirmed LSN to the source's end"
)
SAFE: Final = Metric(
    "walvec_slot_safe_bytes", "gauge", (), "bytes", "WAL that may be written before the slot is in danger"
)
SLOT_STATUS: Final = Metric(
    "walvec_slot_wal_status", "gauge", ("status",), "0 or 1", "1 for the slot's state by pg_replication_slots"
)
ROWS: Final = Metric(
    "walvec_rows_total",
    "counter",
    ("vectorizer", "outcome"),
    "rows",
    "Rows committed, by what became of them",
)
TEXTS: Final = Metric(
    "walvec_texts_total",
    "counter",
    ("vectorizer", "outcome"),
    "texts",
    "Texts (chunks) of committed rows, by what became of them",
)
BATCH_ROWS: Final = Metric(
    "walvec_batch_rows", "histogram", _BY_VECTORIZER, "rows", "Rows written in one transaction"
)
STAGE_SECONDS: Final = Metric(
    "walvec_stage_seconds", "histogram", ("stage",), "seconds", "What a committed batch's time went into"
)
IN_FLIGHT: Final = Metric(
    "walvec_segments_in_flight", "gauge", _BY_VECTORIZER, "segments", "Segments begun and not committed"
)
QUEUED: Final = Metric(
    "walvec_segments_queued", "gauge", _BY_VECTORIZER, "segments", "Segments gathered and not begun"
)
BUFFER: Final = Metric(
    "walvec_buffer_bytes", "gauge", (), "bytes", "Changes in memory, with their texts and vectors, about"
)
DEAD_LETTERS: Final = Metric(
    "walvec_dead_letters", "gauge", _BY_VECTORIZER, "rows", "Rows that are parked at present"
)
PAUSED: Final = Metric(
    "walvec_vectorizer_paused", "gauge", _BY_VECTORIZER, "0 or 1", "Whether it cannot follow its table"
)
BACKFILL_ROWS: Final = Metric(
    "walvec_backfill_rows", "gauge", _BY_VECTORIZER, "rows", "Rows that its backfill has committed"
)
BACKFILL_ESTIMATED: Final = Metric(
    "walvec_backfill_rows_estimated", "gauge", _BY_VECTORIZER, "rows", "Rows of its table, by statistics"
)
BACKFILL_PHASE: Final = Metric(
    "walvec_backfill_phase", "gauge", ("vectorizer", "phase"), "0 or 1", "1 for the phase its backfill is in"
)
REQUESTS: Final = Metric(
    "walvec_embedder_requests_total",
    "counter",
    ("provider", "outcome"),
    "requests",
    "Requests answered: ok, or the error's class",
)
RETRIES: Final = Metric(
    "walvec_embedder_retries_total",
    "counter",
    ("provider", "error"),
    "requests",
    "Waits before a request was sent again, by the error's class",
)
REQUEST_SECONDS: Final = Metric(
    "walvec_embedder_request_seconds", "histogram", _BY_PROVIDER, "seconds", "Time to a request's answer"
)
REQUEST_TEXTS: Final = Metric(
    "walvec_embedder_request_texts", "histogram", _BY_PROVIDER, "texts", "Texts in an answered request"
)
REQUESTS_IN_FLIGHT: Final = Metric(
    "walvec_embedder_requests_in_flight", "gauge", _BY_PROVIDER, "requests", "Requests sent and not answered"
)
SENT: Final = Metric(
    "walvec_embedder_texts_total", "counter", _BY_PROVIDER, "texts", "Texts sent, and sent again"
)
TOKENS: Final = Metric(
    "walvec_embedder_tokens_total", "counter", _BY_PROVIDER, "tokens", "Tokens, as the service counted them"
)
FAILING: Final = Metric(
    "walvec_embedder_failing_seconds",
    "gauge",
    _BY_PROVIDER,
    "seconds",
    "Time since it began to fail; 0: well",
)

_ROW_BOUNDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
_TEXT_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048)
_STAGE_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SECOND_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Tally:
    """How many values fell where: a histogram."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Count by upper `bounds`, each included, in rising order; what is above all of them too."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Yield each bound and how many values are not above it; +Inf last."""
        bounds = (*map(float, self._bounds), float("inf"))
        for bound, count in zip(bounds, accumulate(self._counts), strict=True):
            yield ("+Inf" if bound == float("inf") else str(bound)), count


class Telemetry:
    """The process's counts, across its attachments, and where the present one is to be looked at."""

    def __init__(self, provider: str, trace: Trace = lambda _: None) -> None:
        """Begin at nought, with nothing attached; `trace` is called with every committed batch."""
        self.provider = provider
        self.dispatcher: Dispatcher | None = None  # for its own counts
        self.vitals: Callable[[], Vitals] | None = None  # of the attachment, while there is one
        self.why_detached = "not attached to the slot yet"
        self.reconnects: Counter[str] = Counter()  # by error class
        self.rows: Counter[tuple[str, str]] = Counter()  # by vectorizer and outcome
        self.texts: Counter[tuple[str, str]] = Counter()
        self.batch_rows: dict[str, Tally] = {}  # by vectorizer
        self.requests: Counter[str] = Counter()  # by outcome
        self.retries: Counter[str] = Counter()  # by error class
        self.request_seconds = Tally(_SECOND_BOUNDS)
        self.request_texts = Tally(_TEXT_BOUNDS)
        self.stage_seconds = {stage: Tally(_STAGE_BOUNDS) for stage in STAGES}
        self._trace = trace

    def attached(self, vitals: Callable[[], Vitals]) -> None:
        """Note that an attachment has begun, and how to look at it."""
        self.vitals = vitals

    def detached(self, why: str) -> None:
        """Note that nothing is attached, and why. Says nothing that a log line would not."""
        self.vitals = None
        self.why_detached = why

    def failed(self, error: BaseException) -> None:
        """Count a failure after which the process attaches anew."""
        self.reconnects[type(error).__name__] += 1

    def committed(self, done: Committed) -> None:
        """Count and trace a batch; once it is committed, so a repeat counts too."""
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
        for stage, began, ended in batch.stages.spans():
            self.stage_seconds[stage].add(ended - began)
        self._trace(done)

    def answered(self, seconds: float, outcome: str, texts: int) -> None:
        """Count a request of so many texts to the service: `outcome` is ok, or the error's class."""
        self.requests[outcome] += 1
        self.request_seconds.add(seconds)
        self.request_texts.add(texts)

    def retried(self, waiting: RetryWait) -> None:
        """Count a wait before a request is sent again."""
        self.retries[type(waiting.error).__name__] += 1
