"""The metrics in Prometheus' text format, read off the process at the moment somebody asks.

Imported only when the server is on: prometheus_client takes a good part of a short command's time.
"""

from collections.abc import Iterable, Iterator, Sequence
from time import monotonic
from typing import Final, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from walvec.database.registry import Phase
from walvec.observe import telemetry as t
from walvec.observe.telemetry import Metric, Tally, Telemetry
from walvec.stages.vitals import Vitals
from walvec_slots.manage import Slot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_WAL_STATUSES: Final = ("reserved", "extended", "unreserved", "lost")

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float | Tally]]


class Exposition(Collector):
    """Everything that is counted, on a registry of its own."""

    def __init__(self, telemetry: Telemetry) -> None:
        """Read off `telemetry`."""
        self._telemetry = telemetry
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """Return all metrics as a scrape gets them."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Family]:
        """Yield every metric, those without a value at present too."""
        for metric, samples in (*_work(self._telemetry), *_embedder(self._telemetry), *_now(self._telemetry)):
            yield _family(metric, samples)


Read = Sequence[tuple[Metric, Samples]]


def _work(telemetry: Telemetry) -> Read:
    return (
        (t.RECONNECTS, [((error,), count) for error, count in telemetry.reconnects.items()]),
        (t.ROWS, telemetry.rows.items()),
        (t.TEXTS, telemetry.texts.items()),
        (t.BATCH_ROWS, [((name,), tally) for name, tally in telemetry.batch_rows.items()]),
        (t.STAGE_SECONDS, [((stage,), tally) for stage, tally in telemetry.stage_seconds.items()]),
    )


def _embedder(telemetry: Telemetry) -> Read:
    provider, dispatcher = telemetry.provider, telemetry.dispatcher
    usage = dispatcher.usage if dispatcher else None
    failure = dispatcher.failure if dispatcher else None
    return (
        (t.REQUESTS, [((provider, outcome), count) for outcome, count in telemetry.requests.items()]),
        (t.RETRIES, [((provider, error), count) for error, count in telemetry.retries.items()]),
        (t.REQUEST_SECONDS, [((provider,), telemetry.request_seconds)]),
        (t.REQUEST_TEXTS, [((provider,), telemetry.request_texts)]),
        (t.REQUESTS_IN_FLIGHT, [((provider,), dispatcher.in_flight if dispatcher else 0)]),
        (t.SENT, [((provider,), usage.texts if usage else 0)]),
        (t.TOKENS, [((provider,), usage.tokens if usage else 0)]),
        (t.FAILING, [((provider,), monotonic() - failure.since if failure else 0.0)]),
    )


def _now(telemetry: Telemetry) -> Read:
    """Read off the attachment; without one, its metrics have no value rather than an old one."""
    vitals = telemetry.vitals() if telemetry.vitals else None
    attached: Read = [(t.ATTACHED, [((), int(vitals is not None))])]
    return [*attached, *_stream(vitals), *_slot(vitals.slot if vitals else None), *_vectorizers(vitals)]


def _stream(vitals: Vitals | None) -> Read:
    values = (
        (
            (t.CHECKPOINT, vitals.saved),
            (t.CONFIRMED, vitals.confirmed),
            (t.RECEIVED, vitals.received),
            (t.LAG, max(vitals.received - vitals.saved, 0)),
            (t.LAG_SECONDS, vitals.lag_seconds),
            (t.STALL, vitals.stalled_for),
            (t.WRITABLE, int(vitals.write_failure is None)),
            (t.BUFFER, vitals.buffered),
        )
        if vitals
        else ()
    )
    given = dict[Metric, float | None](values)
    metrics = (t.CHECKPOINT, t.CONFIRMED, t.RECEIVED, t.LAG, t.LAG_SECONDS, t.STALL, t.WRITABLE, t.BUFFER)
    return [(metric, _single(given.get(metric))) for metric in metrics]


def _slot(slot: Slot | None) -> Read:
    status = slot.wal_status if slot else None
    return (
        (t.RETAINED, _single(slot.retained_bytes if slot else None)),
        (t.UNCONFIRMED, _single(slot.unconfirmed_bytes if slot else None)),
        (t.SAFE, _single(slot.safe_wal_size if slot else None)),
        (t.SLOT_STATUS, [((each,), int(each == status)) for each in _WAL_STATUSES] if status else []),
    )


def _vectorizers(vitals: Vitals | None) -> Read:
    if vitals is None:
        metrics = (
            t.IN_FLIGHT,
            t.QUEUED,
            t.DEAD_LETTERS,
            t.PAUSED,
            t.BACKFILL_ROWS,
            t.BACKFILL_ESTIMATED,
            t.BACKFILL_PHASE,
        )
        return [(metric, []) for metric in metrics]
    backfills = vitals.backfills.items()
    return (
        (t.IN_FLIGHT, [((name,), count) for name, count in vitals.in_flight.items()]),
        (t.QUEUED, [((name,), count) for name, count in vitals.queued.items()]),
        (t.DEAD_LETTERS, [((name,), count) for name, count in (vitals.dead_letters or {}).items()]),
        (t.PAUSED, [((name,), int(name in vitals.paused)) for name in (*vitals.in_flight, *vitals.paused)]),
        (t.BACKFILL_ROWS, [((name,), each.rows) for name, each in backfills]),
        (t.BACKFILL_ESTIMATED, [((name,), each.estimated) for name, each in backfills if each.estimated]),
        (
            t.BACKFILL_PHASE,
            [
                ((name, phase), int(phase == each.phase))
                for name, each in backfills
                for phase in get_args(Phase)
            ],
        ),
    )


def _single(value: float | None) -> Samples:
    return [] if value is None else [((), value)]


def _family(metric: Metric, samples: Samples) -> Family:
    """Build the client's form of a metric."""
    labels = metric.labels
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=labels)
        for values, value in samples:
            if isinstance(value, Tally):
                histogram.add_metric(values, [*value.buckets()], sum_value=value.sum)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.meaning, labels=labels)
    for values, value in samples:
        if not isinstance(value, Tally):
            family.add_metric(values, value)
    return family
