"""The catalogue of metrics: name, type, labels, unit and meaning of each.

`telemetry` counts, `prometheus` exports, and the tables in docs/metrics.md are made from it (`make docs`).
Labels are the settings' vectorizers and provider and closed sets of words: never keys, texts or LSNs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

MetricKind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it is exported.

    `unit` is that of its value. `meaning` is its help text, one sentence without a full stop; `note` is
    Markdown that the page adds.
    """

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    unit: str
    meaning: str
    note: str = ""


_BY_VECTORIZER, _BY_PROVIDER = ("vectorizer",), ("provider",)

ATTACHED: Final = Metric(
    "walvec_attached",
    "gauge",
    (),
    "0 or 1",
    "Whether the stream is attached",
    "0 while walvec starts, tries again, or stands by for another process",
)
RECONNECTS: Final = Metric(
    "walvec_reconnects_total",
    "counter",
    ("error",),
    "attachments",
    "Attachments that failed or could not begin, after which walvec attached again, by the error's class",
    "`CatalogChanged` and `LaneBehind` are part of normal operation",
)
CHECKPOINT: Final = Metric(
    "walvec_checkpoint_lsn",
    "gauge",
    (),
    "LSN, a number",
    "Everything before it is embedded and committed",
    "`16/B374D848` is 0x16B374D848",
)
CONFIRMED: Final = Metric(
    "walvec_confirmed_lsn",
    "gauge",
    (),
    "LSN, a number",
    "The last place confirmed to the slot, which may forget everything before it",
)
RECEIVED: Final = Metric("walvec_received_lsn", "gauge", (), "LSN, a number", "How far the source has sent")
LAG: Final = Metric(
    "walvec_lag_bytes",
    "gauge",
    (),
    "bytes",
    "WAL received and not covered by the checkpoint",
    "Up to 64 kB when idle",
)
LAG_SECONDS: Final = Metric(
    "walvec_lag_seconds",
    "gauge",
    (),
    "seconds",
    "Age of the oldest commit that is received and not yet embedded and committed",
    "0 when caught up. [Lag](#lag) relates it to `walvec_lag_bytes`",
)
STALL: Final = Metric(
    "walvec_stall_seconds",
    "gauge",
    (),
    "seconds",
    "How long the checkpoint has waited for work in flight",
    "0 when it waits for none; over 60 the process is not ready",
)
WRITABLE: Final = Metric(
    "walvec_target_writable", "gauge", (), "0 or 1", "Whether the last write to the target succeeded"
)
BUFFER: Final = Metric(
    "walvec_buffer_bytes",
    "gauge",
    (),
    "bytes",
    "Approximate size of the changes in memory, with their texts and vectors",
    "At most `max_buffer_bytes`",
)
RETAINED: Final = Metric(
    "walvec_slot_retained_bytes",
    "gauge",
    (),
    "bytes",
    "WAL that the slot keeps back",
    "Not only for walvec: an open transaction keeps it too",
)
UNCONFIRMED: Final = Metric(
    "walvec_slot_unconfirmed_bytes", "gauge", (), "bytes", "WAL from the confirmed LSN to the source's end"
)
SAFE: Final = Metric(
    "walvec_slot_safe_bytes",
    "gauge",
    (),
    "bytes",
    "WAL that may be written before the slot is in danger",
    "No value without `max_slot_wal_keep_size`",
)
SLOT_STATUS: Final = Metric(
    "walvec_slot_wal_status",
    "gauge",
    ("status",),
    "0 or 1",
    "1 for the slot's state in pg_replication_slots",
    "The states are `reserved`, `extended`, `unreserved` (about to be lost) and `lost`",
)
ROWS: Final = Metric(
    "walvec_rows_total",
    "counter",
    ("vectorizer", "outcome"),
    "rows",
    "Rows committed, by outcome",
    "Outcomes are `embedded` (a text of it was sent), `unchanged` (no text had to be sent), `deleted` "
    "(deleted, or without an embedding by `where` or a blank text) and `parked`. A truncate counts no rows; "
    "work that is repeated after a failure counts again",
)
TEXTS: Final = Metric(
    "walvec_texts_total",
    "counter",
    ("vectorizer", "outcome"),
    "texts",
    "Texts (chunks) of committed rows, by outcome",
    "Outcomes are `embedded`, `refused` by the service, and `reused` (the target had its vector, or the "
    "same text was sent for another row of the batch)",
)
BATCH_ROWS: Final = Metric(
    "walvec_batch_rows",
    "histogram",
    _BY_VECTORIZER,
    "rows",
    "Rows written in one transaction",
    "0 for one that only saves a backfill's progress",
)
STAGE_SECONDS: Final = Metric(
    "walvec_stage_seconds",
    "histogram",
    ("stage",),
    "seconds",
    "Time of a committed batch in each stage, over all vectorizers",
    "Stages follow each other: `queue` (gathering changes, until the work begins), `evaluate` (`text` and "
    "`where`, by the source), `chunk` (cutting and hashing), `lookup` (what the target holds), `embed` (the "
    "service, waits included), `turn` (until earlier batches are committed and the session is free, with "
    "tries that failed), `write` (the transaction)",
)
IN_FLIGHT: Final = Metric(
    "walvec_segments_in_flight", "gauge", _BY_VECTORIZER, "segments", "Segments begun and not committed"
)
QUEUED: Final = Metric(
    "walvec_segments_queued", "gauge", _BY_VECTORIZER, "segments", "Segments gathered and not begun"
)
DEAD_LETTERS: Final = Metric(
    "walvec_dead_letters", "gauge", _BY_VECTORIZER, "rows", "Parked rows, as of the last look at the target"
)
PAUSED: Final = Metric(
    "walvec_vectorizer_paused",
    "gauge",
    _BY_VECTORIZER,
    "0 or 1",
    "Whether it cannot follow its table",
    "`walvec status` says why",
)
BACKFILL_ROWS: Final = Metric(
    "walvec_backfill_rows", "gauge", _BY_VECTORIZER, "rows", "Rows that its backfill has committed"
)
BACKFILL_ESTIMATED: Final = Metric(
    "walvec_backfill_rows_estimated",
    "gauge",
    _BY_VECTORIZER,
    "rows",
    "Rows of its table, by statistics",
    "No value if the table has none",
)
BACKFILL_PHASE: Final = Metric(
    "walvec_backfill_phase",
    "gauge",
    ("vectorizer", "phase"),
    "0 or 1",
    "1 for the current phase of its backfill",
    "The phases are `rows`, `sweep`, `index` and `done`",
)
REQUESTS: Final = Metric(
    "walvec_embedder_requests_total",
    "counter",
    ("provider", "outcome"),
    "requests",
    "Requests answered, by outcome: ok, or the error's class",
    "[All classes](operations/exit-codes.md#errors-of-the-embedding-service)",
)
RETRIES: Final = Metric(
    "walvec_embedder_retries_total",
    "counter",
    ("provider", "error"),
    "requests",
    "Waits before a request was sent again, by the error's class",
)
REQUEST_SECONDS: Final = Metric(
    "walvec_embedder_request_seconds",
    "histogram",
    _BY_PROVIDER,
    "seconds",
    "Time to a request's answer, errors and timeouts included",
)
REQUEST_TEXTS: Final = Metric(
    "walvec_embedder_request_texts",
    "histogram",
    _BY_PROVIDER,
    "texts",
    "Texts in an answered request, whatever the answer",
    "At most `max_batch_inputs`",
)
REQUESTS_IN_FLIGHT: Final = Metric(
    "walvec_embedder_requests_in_flight",
    "gauge",
    _BY_PROVIDER,
    "requests",
    "Requests sent and not answered",
    "At most `concurrency`, and one more for each that finds out what a service refuses",
)
SENT: Final = Metric(
    "walvec_embedder_texts_total", "counter", _BY_PROVIDER, "texts", "Texts sent, each time they were sent"
)
TOKENS: Final = Metric(
    "walvec_embedder_tokens_total",
    "counter",
    _BY_PROVIDER,
    "tokens",
    "Tokens, as the service counted them",
    "0 if it does not count them",
)
FAILING: Final = Metric(
    "walvec_embedder_failing_seconds",
    "gauge",
    _BY_PROVIDER,
    "seconds",
    "Time since the service began to fail; 0 while it answers",
)

# By the headings of docs/metrics.md, in its order.
SECTIONS: Final[Mapping[str, tuple[Metric, ...]]] = {
    "Process": (ATTACHED, RECONNECTS),
    "Stream": (CHECKPOINT, CONFIRMED, RECEIVED, LAG, LAG_SECONDS, STALL, WRITABLE, BUFFER),
    "Slot": (RETAINED, UNCONFIRMED, SAFE, SLOT_STATUS),
    "Vectorizers": (
        ROWS,
        TEXTS,
        BATCH_ROWS,
        STAGE_SECONDS,
        IN_FLIGHT,
        QUEUED,
        DEAD_LETTERS,
        PAUSED,
        BACKFILL_ROWS,
        BACKFILL_ESTIMATED,
        BACKFILL_PHASE,
    ),
    "Embedder": (
        REQUESTS,
        RETRIES,
        REQUEST_SECONDS,
        REQUEST_TEXTS,
        REQUESTS_IN_FLIGHT,
        SENT,
        TOKENS,
        FAILING,
    ),
}
METRICS: Final = tuple(metric for metrics in SECTIONS.values() for metric in metrics)
