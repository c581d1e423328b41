"""The metrics in Prometheus' text format, read from the process for each scrape.

It is imported only when the server is on: importing prometheus_client takes a good part of a short command.
"""

from collections.abc import Iterable, Iterator, Sequence
from time import monotonic
from typing import Final, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from walvec.database.registry import Phase
from walvec.observe import metrics as m
from walvec.observe.metrics import Metric
from walvec.observe.telemetry import Tally, Telemetry
from walvec.stages.vitals import Vitals
from walvec_slots.manage import Slot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_WAL_STATUSES: Final = ("reserved", "extended", "unreserved", "lost")

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float | Tally]]


class Exposition(Collector):
    """Everything that `telemetry` counts, on a separate registry."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Family]:
        """Yield every metric, even one that has no value now."""
        for read in (_read_work, _read_embedder, _read_attachment):
            for metric, samples in read(self._telemetry):
                yield _to_family(metric, samples)


Read = Sequence[tuple[Metric, Samples]]


def _read_work(telemetry: Telemetry) -> Read:
    return (
        (m.RECONNECTS, [((error,), count) for error, count in telemetry.reconnects.items()]),
        (m.ROWS, telemetry.rows.items()),
        (m.TEXTS, telemetry.texts.items()),
        (m.BATCH_ROWS, [((name,), tally) for name, tally in telemetry.batch_rows.items()]),
        (m.STAGE_SECONDS, [((stage,), tally) for stage, tally in telemetry.stage_seconds.items()]),
    )


def _read_embedder(telemetry: Telemetry) -> Read:
    provider, dispatcher = telemetry.provider, telemetry.dispatcher
    usage = dispatcher.usage if dispatcher else None
    failure = dispatcher.failure if dispatcher else None
    return (
        (m.REQUESTS, [((provider, outcome), count) for outcome, count in telemetry.requests.items()]),
        (m.RETRIES, [((provider, error), count) for error, count in telemetry.retries.items()]),
        (m.REQUEST_SECONDS, [((provider,), telemetry.request_seconds)]),
        (m.REQUEST_TEXTS, [((provider,), telemetry.request_texts)]),
        (m.REQUESTS_IN_FLIGHT, [((provider,), dispatcher.in_flight if dispatcher else 0)]),
        (m.SENT, [((provider,), usage.texts if usage else 0)]),
        (m.TOKENS, [((provider,), usage.tokens if usage else 0)]),
        (m.FAILING, [((provider,), monotonic() - failure.since if failure else 0.0)]),
    )


def _read_attachment(telemetry: Telemetry) -> Read:
    """Read the attachment; without one its metrics have no value."""
    vitals = telemetry.vitals() if telemetry.vitals else None
    attached: Read = [(m.ATTACHED, [((), int(vitals is not None))])]
    return [
        *attached,
        *_read_stream(vitals),
        *_read_slot(vitals.slot if vitals else None),
        *_read_vectorizers(vitals),
    ]


def _read_stream(vitals: Vitals | None) -> Read:
    values = (
        (
            (m.CHECKPOINT, vitals.saved),
            (m.CONFIRMED, vitals.confirmed),
            (m.RECEIVED, vitals.received),
            (m.LAG, max(vitals.received - vitals.saved, 0)),
            (m.LAG_SECONDS, vitals.lag_seconds),
            (m.STALL, vitals.stalled_for),
            (m.WRITABLE, int(vitals.write_failure is None)),
            (m.BUFFER, vitals.buffered),
        )
        if vitals
        else ()
    )
    given = dict[Metric, float | None](values)
    metrics = (m.CHECKPOINT, m.CONFIRMED, m.RECEIVED, m.LAG, m.LAG_SECONDS, m.STALL, m.WRITABLE, m.BUFFER)
    return [(metric, _single_sample(given.get(metric))) for metric in metrics]


def _read_slot(slot: Slot | None) -> Read:
    status = slot.wal_status if slot else None
    return (
        (m.RETAINED, _single_sample(slot.retained_bytes if slot else None)),
        (m.UNCONFIRMED, _single_sample(slot.unconfirmed_bytes if slot else None)),
        (m.SAFE, _single_sample(slot.safe_wal_size if slot else None)),
        (m.SLOT_STATUS, [((known,), int(known == status)) for known in _WAL_STATUSES] if status else []),
    )


def _read_vectorizers(vitals: Vitals | None) -> Read:
    if vitals is None:
        metrics = (
            m.IN_FLIGHT,
            m.QUEUED,
            m.DEAD_LETTERS,
            m.PAUSED,
            m.BACKFILL_ROWS,
            m.BACKFILL_ESTIMATED,
            m.BACKFILL_PHASE,
        )
        return [(metric, []) for metric in metrics]
    backfills = vitals.backfills.items()
    return (
        (m.IN_FLIGHT, [((name,), count) for name, count in vitals.in_flight.items()]),
        (m.QUEUED, [((name,), count) for name, count in vitals.queued.items()]),
        (m.DEAD_LETTERS, [((name,), count) for name, count in (vitals.dead_letters or {}).items()]),
        (m.PAUSED, [((name,), int(name in vitals.paused)) for name in (*vitals.in_flight, *vitals.paused)]),
        (m.BACKFILL_ROWS, [((name,), standing.rows) for name, standing in backfills]),
        (
            m.BACKFILL_ESTIMATED,
            [((name,), standing.estimated) for name, standing in backfills if standing.estimated],
        ),
        (
            m.BACKFILL_PHASE,
            [
                ((name, phase), int(phase == standing.phase))
                for name, standing in backfills
                for phase in get_args(Phase)
            ],
        ),
    )


def _single_sample(value: float | None) -> Samples:
    return [] if value is None else [((), value)]


def _to_family(metric: Metric, samples: Samples) -> Family:
    """Return the metric as prometheus_client has it."""
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
