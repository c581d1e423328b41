"""Spans are as docs/operations/log.md describes them, and off unless asked for."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.documents import section
from walvec.observe import tracing
from walvec.stages.batch import Batch, Committed, Parked, Position
from walvec.stages.stopwatch import STAGES, StageTimes
from walvec_slots.lsn import Lsn

SECTION = section("docs/operations/log.md", "Tracing")


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that the machine itself may have."""
    for name in (tracing.EXPORTER, *tracing._ENDPOINTS, *tracing._PROTOCOLS, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Return where spans go."""
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    """Yield a provider of the SDK that sends its spans to `exporter`."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


def committed() -> Committed:
    """Return a batch of four rows, of which one is deleted and one parked."""
    batch = Batch(
        gone=[("canary-1",)],
        parked=[Parked(("canary-4",), "embed", "InputRefused", "canary")],
        settled=[("canary-1",), ("canary-2",), ("canary-3",)],
        embedded=3,
        refused=1,
        texts=5,
    )
    times = StageTimes()
    for stage in STAGES:
        times.done(stage)
    return Committed("blog", batch, Position(Lsn.parse("0/1A"), Lsn(1), (), transactions=2), times)


def described(column: int) -> list[set[str]]:
    """Return the names in each row of the page's table of spans."""
    rows = re.findall(r"^\| (`walvec\..*?) \| .*? \| (.*) \|$", SECTION, re.MULTILINE)
    return [set(re.findall(r"`(walvec\.\w+)`", row[column])) for row in rows]


def spans_by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return all spans of a batch."""
    return {span.name: span for span in exporter.get_finished_spans()}


class TestSpans:
    """The spans of a committed batch."""

    def test_tree_is_as_documented(self, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
        """A batch has a root span, and a child span for each stage."""
        tracing.spans_of(provider)(committed())
        spans = spans_by_name(exporter)
        root = spans.pop("walvec.batch")
        assert root.parent is None
        assert {span.parent and span.parent.span_id for span in spans.values()} == {root.context.span_id}
        assert {span.context.trace_id for span in spans.values()} == {root.context.trace_id}
        assert [{root.name}, set(spans)] == described(0)

    def test_stages_fill_the_batch(self, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
        """The stages follow each other without a gap, and end now."""
        before = time.time_ns()
        tracing.spans_of(provider)(committed())
        after = time.time_ns()
        spans = spans_by_name(exporter)
        edges = [spans["walvec.batch"].start_time]
        for stage in STAGES:
            assert spans[f"walvec.{stage}"].start_time == edges[-1]
            edges.append(spans[f"walvec.{stage}"].end_time)
        assert edges[-1] == spans["walvec.batch"].end_time
        assert edges == sorted(map(int, map(str, edges)))
        assert before - 10**9 < (edges[0] or 0) <= after

    def test_attributes_are_names_and_numbers(
        self, provider: TracerProvider, exporter: InMemorySpanExporter
    ) -> None:
        """A span has the counts of the log line, and nothing of a row."""
        tracing.spans_of(provider)(committed())
        spans = spans_by_name(exporter)
        attributes = dict(spans.pop("walvec.batch").attributes or {})
        assert attributes == {
            "walvec.vectorizer": "blog",
            "walvec.lsn": "0/1A",
            "walvec.transactions": 2,
            "walvec.rows": 4,
            "walvec.rows_without_embedding": 1,
            "walvec.rows_parked": 1,
            "walvec.texts_embedded": 2,
            "walvec.texts_reused": 2,
            "walvec.chunks_written": 0,
        }
        assert described(1)[0] <= set(attributes)
        assert all(dict(span.attributes or {}) == {"walvec.vectorizer": "blog"} for span in spans.values())
        assert "canary" not in "".join(span.to_json() for span in exporter.get_finished_spans())

    def test_batches_have_traces_of_their_own(
        self, provider: TracerProvider, exporter: InMemorySpanExporter
    ) -> None:
        """Each batch starts a new trace, even inside another span."""
        trace = tracing.spans_of(provider)
        with provider.get_tracer("somebody").start_as_current_span("outer"):
            trace(committed())
            trace(committed())
        spans = exporter.get_finished_spans()
        assert len({span.context.trace_id for span in spans if span.name == "walvec.batch"}) == 2
        assert all(span.parent is None for span in spans if span.name == "walvec.batch")

    def test_batch_that_is_not_sampled(
        self, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The standard variable decides about sampling, and no stage span is wasted."""
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracing.spans_of(provider)(committed())
        assert exporter.get_finished_spans() == ()
        provider.shutdown()


class TestAskedFor:
    """Only the standard variables turn tracing on."""

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({}, False),
            ({"OTEL_SERVICE_NAME": "walvec"}, False),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, True),
            ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}, True),
            ({"OTEL_TRACES_EXPORTER": "console"}, True),
            ({"OTEL_TRACES_EXPORTER": ""}, False),
            ({"OTEL_TRACES_EXPORTER": "none"}, False),
            ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost"}, False),
            ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "True"}, False),
        ],
    )
    def test_variables(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, expected: bool
    ) -> None:
        """An exporter or an endpoint turns tracing on; `none` and the SDK's switch, off."""
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert tracing.is_asked_for() is expected

    def test_nothing_is_imported_unasked(self) -> None:
        """A start without tracing imports nothing of OpenTelemetry."""
        code = (
            "import sys, walvec.supervise, walvec.observe.tracing\n"
            "with walvec.observe.tracing.tracing(): pass\n"
            "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_variables_of_the_code_are_on_the_page(self) -> None:
        """The page names every variable that the code reads."""
        named = {tracing.EXPORTER, *tracing._ENDPOINTS, "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_SDK_DISABLED"}
        assert {name for name in named if f"`{name}`" not in SECTION} == set()


class Collector(SpanExporter):
    """An installed exporter, found by its name."""

    def __init__(self, spans: list[ReadableSpan]) -> None:
        self._spans = spans

    def export(self, spans: Any) -> Any:
        """Keep the spans."""
        self._spans += spans


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[ReadableSpan]:
    """Return the spans sent to an installed exporter, which the variable asks for."""
    spans: list[ReadableSpan] = []
    monkeypatch.setenv(tracing.EXPORTER, "own")
    monkeypatch.setattr(tracing, "_find_exporter", lambda _: lambda: Collector(spans))
    return spans


def resource_of(span: ReadableSpan) -> object:
    """Return the service's name."""
    return span.resource.attributes["service.name"]


class TestProvider:
    """walvec makes a provider if the process has none."""

    def test_last_spans_are_sent_at_the_end(
        self, exported: list[ReadableSpan], log: list[dict[str, Any]]
    ) -> None:
        """The end of the block sends the spans that are left."""
        with tracing.tracing() as trace:
            trace(committed())
        assert len(exported) == 1 + len(STAGES)
        assert {resource_of(span) for span in exported} == {"walvec"}
        assert [line["event"] for line in log] == ["tracing.started"]

    @pytest.mark.parametrize(
        ("variable", "value"),
        [("OTEL_SERVICE_NAME", "mine"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=mine")],
    )
    def test_service_has_the_name_that_it_is_given(
        self,
        exported: list[ReadableSpan],
        variable: str,
        value: str,
        monkeypatch: pytest.MonkeyPatch,
        log: list[dict[str, Any]],
    ) -> None:
        """A name in the environment wins over walvec's."""
        monkeypatch.setenv(variable, value)
        with tracing.tracing() as trace:
            trace(committed())
        assert {resource_of(span) for span in exported} == {"mine"}

    def test_provider_of_the_process_is_used(
        self,
        provider: TracerProvider,
        exporter: InMemorySpanExporter,
        monkeypatch: pytest.MonkeyPatch,
        log: list[dict[str, Any]],
    ) -> None:
        """A provider of the process is used and left open."""
        monkeypatch.setenv(tracing.EXPORTER, "console")
        monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
        with tracing.tracing():
            pass
        with tracing.tracing() as trace:
            trace(committed())
        assert len(exporter.get_finished_spans()) == 1 + len(STAGES)

    def test_collector_that_hangs_does_not_hold_up_the_end(
        self, monkeypatch: pytest.MonkeyPatch, provider: TracerProvider
    ) -> None:
        """The last spans are given up if the collector does not answer."""
        hanging = threading.Event()
        monkeypatch.setenv(tracing.EXPORTER, "own")
        monkeypatch.setattr(tracing, "_FLUSH_LIMIT", 0.01)
        monkeypatch.setattr(tracing, "_open_provider", lambda: (lambda _: None, hanging.wait))
        with tracing.tracing():
            pass
        hanging.set()


class TestMissing:
    """What is unavailable is a warning, and the work goes on untraced."""

    def warned(self, log: list[dict[str, Any]]) -> dict[str, Any]:
        """Trace a batch and return the one line that is logged."""
        with tracing.tracing() as trace:
            trace(committed())
        [line] = log
        assert (line["event"], line["log_level"]) == ("tracing.unavailable", "warning")
        assert "walvec[otel]" in line["hint"]
        return line

    def test_sdk(self, monkeypatch: pytest.MonkeyPatch, log: list[dict[str, Any]]) -> None:
        """The warning names the SDK's package if it is missing."""
        monkeypatch.setenv(tracing.EXPORTER, "console")
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
        assert self.warned(log)["what"] == "opentelemetry.sdk.resources is not installed"

    @pytest.mark.parametrize(
        ("exporter", "protocol", "missing"),
        [
            ("otlp", "grpc", "otlp_proto_grpc"),
            ("console,zipkin", "", "zipkin"),
        ],
    )
    def test_exporter(
        self,
        exporter: str,
        protocol: str,
        missing: str,
        monkeypatch: pytest.MonkeyPatch,
        log: list[dict[str, Any]],
    ) -> None:
        """The warning names the exporter that is missing."""
        monkeypatch.setenv(tracing.EXPORTER, exporter)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        assert self.warned(log)["what"] == f"{missing} is not installed"

    def test_value_is_not_told(self, monkeypatch: pytest.MonkeyPatch, log: list[dict[str, Any]]) -> None:
        """The warning leaves out a variable's value, which may be a secret."""

        def refuse(_: str) -> Callable[[], SpanExporter]:
            raise ValueError("canary")

        monkeypatch.setenv(tracing.EXPORTER, "otlp")
        monkeypatch.setattr(tracing, "_find_exporter", refuse)
        assert self.warned(log)["what"] == "ValueError"
        assert "canary" not in str(log)


@pytest.mark.parametrize("protocol", ["", "http/protobuf"])
def test_otlp_is_over_http(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTLP goes over HTTP by default, which the extra includes."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    made = tracing._find_exporter("otlp")
    assert getattr(made, "__module__", "").startswith("opentelemetry.exporter.otlp.proto.http")
