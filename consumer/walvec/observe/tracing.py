"""OpenTelemetry: a span for each committed batch, and one for each of its stages.

The spans are made from the values of the batch's log line. Tracing is on if the standard variables ask for
it; otherwise nothing of OpenTelemetry is imported. The SDK and an exporter come with `walvec[otel]`. walvec
uses a separate tracer provider, unless the process has one already (opentelemetry-instrument): a global one
would also receive the spans that an embedding SDK makes.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final, cast

import structlog

from walvec.observe.telemetry import Trace
from walvec.stages.batch import Committed

# Even importing the API takes 15 ms.
if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import TracerProvider

EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
# Seconds to send the last spans, so that an unreachable collector does not hold up a stop.
_FLUSH_LIMIT = 2.0
_NANOSECONDS = 1_000_000_000

_log = structlog.get_logger(__name__)


def is_asked_for() -> bool:
    """Whether the environment names an exporter or an endpoint for spans."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = os.environ.get(EXPORTER, "").strip()
    return exporter != "none" and any((exporter, *map(os.environ.get, _ENDPOINTS)))


@contextmanager
def tracing() -> Iterator[Trace]:
    """Yield the function that makes a batch's spans; send the last spans at the end.

    That may take up to two seconds, so the block goes around the event loop, never inside it. If tracing is
    requested and unavailable, a warning is logged and nothing is traced: the variables may be set for every
    process of a cluster.
    """
    if not is_asked_for():
        yield lambda _: None
        return
    trace, close = _open_provider()
    try:
        yield trace
    finally:
        # A daemon thread does not outlive the process.
        closing = threading.Thread(target=close, name="tracing: last spans", daemon=True)
        closing.start()
        closing.join(_FLUSH_LIMIT)


def spans_of(provider: "TracerProvider") -> Trace:
    """Return the function that makes a batch's spans through `provider`."""
    from opentelemetry.context import Context
    from opentelemetry.trace import set_span_in_context

    tracer = provider.get_tracer("walvec")

    def trace(done: Committed) -> None:
        stages = done.times
        # Stages have monotonic times, spans have dates.
        offset = time_ns() - int(monotonic() * _NANOSECONDS)

        def date(moment: float) -> int:
            return int(moment * _NANOSECONDS) + offset

        whose = {"walvec.vectorizer": done.vectorizer}
        counts = {f"walvec.{name}": count for name, count in done.counts().items()}
        whole = tracer.start_span(
            "walvec.batch",
            Context(),
            attributes={**whose, "walvec.lsn": str(done.position.applied), **counts},
            start_time=date(stages.began),
        )
        if whole.is_recording():
            context = set_span_in_context(whole, Context())
            for stage, began, ended in stages.spans():
                name = f"walvec.{stage}"
                tracer.start_span(name, context, attributes=whose, start_time=date(began)).end(date(ended))
        whole.end(date(stages.ended))

    return trace


def _open_provider() -> tuple[Trace, Callable[[], None]]:
    """Return the function that makes spans, and the one that sends the last of them."""
    from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

    present = get_tracer_provider()
    if not isinstance(present, ProxyTracerProvider):
        # Its owner closes it.
        return spans_of(present), lambda: None
    try:
        provider, close = _own_provider()
    except Exception as error:
        # A variable's value may lead to any exception, whose message may quote a header.
        _log.warning(
            "tracing.unavailable",
            what=f"{error.name} is not installed" if isinstance(error, ImportError) else type(error).__name__,
            hint=f"run pip install 'walvec[otel]', correct the variables OTEL_*, or set {EXPORTER}=none",
        )
        return lambda _: None, lambda: None
    _log.info("tracing.started")
    return spans_of(provider), close


def _own_provider() -> tuple["TracerProvider", Callable[[], None]]:
    """Make a provider as the standard variables say.

    Raises ImportError if a package is missing.
    """
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "walvec"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for name in (os.environ.get(EXPORTER) or "otlp").split(","):
        provider.add_span_processor(BatchSpanProcessor(_find_exporter(name.strip())()))
    return provider, provider.shutdown


def _find_exporter(name: str) -> Callable[[], "SpanExporter"]:
    """Find an exporter by its name in the variable.

    `otlp` means over HTTP, unless the protocol is gRPC. Raises ImportError if it is not installed.
    """
    from importlib.metadata import entry_points

    if name == "otlp":
        protocol = next(filter(None, map(os.environ.get, _PROTOCOLS)), "http/protobuf")
        name = f"otlp_proto_{protocol.partition('/')[0]}"
    found = tuple(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        raise ImportError(name=name)
    return cast("Callable[[], SpanExporter]", found[0].load())
