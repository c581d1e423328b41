"""A committed batch makes a line and a trace; a healthy day makes no warning."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.documents import section
from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec.stages.stopwatch import STAGES

ROW, KEY = "canary-in-a-row", "canary-in-a-key"


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """Return a sidecar of three rows, set up and not embedded yet."""
    sidecar.source.execute("CREATE TABLE blog (id text PRIMARY KEY, body text)")
    sidecar.source.execute(
        "INSERT INTO blog SELECT %s || i, %s || i FROM generate_series(1, 3) AS i", [KEY, ROW]
    )
    sidecar.follow()
    sidecar.setup()
    return sidecar


def batches(sidecar: Sidecar) -> list[dict[str, Any]]:
    """Return the lines of all batches with rows."""
    return [line for line in sidecar.log if line["event"] == "batch.committed" and line["rows"]]


class TestLine:
    """Each committed batch has one line with everything about it."""

    def test_counts(self, blog: Sidecar) -> None:
        """The line counts transactions, rows and texts of its batch alone."""
        blog.once()
        blog.log.clear()
        with blog.source.transaction():
            blog.source.execute("INSERT INTO blog VALUES ('a', 'new'), ('b', 'POISON'), ('c', '')")
            blog.source.execute("UPDATE blog SET id = 'd' WHERE id = %s", [f"{KEY}1"])
            blog.source.execute("DELETE FROM blog WHERE id = %s", [f"{KEY}2"])
        blog.source.execute("UPDATE blog SET body = body WHERE id = %s", [f"{KEY}3"])
        blog.service.refuse = "POISON"
        blog.once()
        lines = batches(blog)
        totals = {name: sum(line[name] for line in lines) for name in lines[0] if name.endswith("ed")}
        assert totals == {"rows_parked": 1, "texts_embedded": 2, "texts_reused": 1}
        assert sum(line["rows"] for line in lines) == 7
        assert sum(line["rows_without_embedding"] for line in lines) == 4
        assert sum(line["transactions"] for line in lines) == 2

    def test_stages_are_in_order_and_add_up(self, blog: Sidecar) -> None:
        """The line has the milliseconds of each stage, and their total."""
        blog.once()
        [line] = batches(blog)
        taken = [line[f"{stage}_ms"] for stage in STAGES]
        assert min(taken) >= 0
        assert line["total_ms"] == pytest.approx(sum(taken), abs=0.1 * len(taken))
        assert line["embed_ms"] > 0

    def test_fields_are_the_pages(self, blog: Sidecar) -> None:
        """The page explains the fields that are logged and no others; none is masked."""
        blog.once()
        [line] = batches(blog)
        explained = section("docs/operations/log.md", "The line of a batch")
        rows = re.findall(r"^\| (`.*?) \|(.*)\|$", explained, re.MULTILINE)
        fields = set(line) - {"event", "level", "log_level"}
        assert {name for first, _ in rows for name in re.findall(r"`(\w+)`", first)} <= fields
        assert fields <= {name for row in rows for cell in row for name in re.findall(r"`(\w+)`", cell)}
        assert "***" not in line.values()

    def test_masking_leaves_it_whole(self, blog: Sidecar) -> None:
        """The process masks none of the line's fields."""
        process = blog.start("run", "--once")
        assert process.wait() == 0
        line = process.logged("batch.committed", rows=3)
        assert line
        assert "***" not in line.values()
        assert "canary" not in str(process.log)


def test_healthy_day_is_silent_at_warning(blog: Sidecar) -> None:
    """No ordinary work, idling or stop logs a warning."""
    blog.settings["log"]["level"] = "warning"
    blog.settings["http"]["listen"] = "127.0.0.1:0"
    process = blog.start("run")
    blog.in_step()
    for statement in (
        "INSERT INTO blog VALUES ('a', 'one'), ('b', 'two')",
        "UPDATE blog SET body = 'three' WHERE id = 'a'",
        "UPDATE blog SET id = 'c' WHERE id = 'b'",
        "DELETE FROM blog WHERE id = 'a'",
        "TRUNCATE blog",
        "INSERT INTO blog VALUES ('d', 'four')",
        "CREATE TABLE other AS SELECT generate_series(1, 10) AS id",
    ):
        blog.source.execute(statement)
        blog.in_step()
    assert blog.actual() == blog.expected()
    idle(blog)
    assert process.stop() == 0
    assert process.log == []


def idle(sidecar: Sidecar) -> None:
    """Wait until progress without rows has been saved."""
    ((end,),) = sidecar.source.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
    sidecar.source.execute("CREATE TABLE another ()")
    until(lambda: sidecar.state_is("lsn > %s::pg_lsn", end), "idle progress is saved")


class Collector:
    """A server that accepts spans over OTLP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()

    def take(self, body: bytes) -> None:
        """Read a request."""
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            self.services |= {
                attribute.value.string_value
                for attribute in resource.resource.attributes
                if attribute.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans += scope.spans

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Yield its address for the length of a block."""
        take = self.take

        class Handler(BaseHTTPRequestHandler):
            """The handler of one request."""

            def do_POST(self) -> None:
                """Accept spans."""
                assert self.path == "/v1/traces"
                take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()


class TestTraces:
    """The standard variable turns tracing on."""

    def test_a_batch_is_a_trace(self, blog: Sidecar) -> None:
        """At the end the collector has every batch, and nothing private."""
        collector = Collector()
        with collector.listening() as endpoint:
            process = blog.start("run", "--once", env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
            assert process.wait() == 0
        lines = [line for line in process.log if line["event"] == "batch.committed"]
        roots = [span for span in collector.spans if not span.parent_span_id]
        assert len(roots) == len(lines)
        assert len(collector.spans) == len(lines) * (1 + len(STAGES))
        values = [{pair.key: pair.value for pair in span.attributes} for span in roots]
        assert [
            (root["walvec.lsn"].string_value, root["walvec.texts_embedded"].int_value) for root in values
        ] == [(line["lsn"], line["texts_embedded"]) for line in lines]
        assert collector.services == {"walvec"}
        assert process.logged("tracing.started")
        assert "canary" not in str(collector.spans)

    def test_collector_that_is_away_harms_nothing(self, blog: Sidecar) -> None:
        """Everything is embedded, the exporter logs the failure, and the process stops."""
        away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "10"}
        process = blog.start("run", env=away)
        blog.in_step()
        until(
            lambda: [line for line in process.log if line.get("logger", "").startswith("opentelemetry")],
            "a line of the exporter's",
        )
        assert blog.actual() == blog.expected()
        assert process.stop() == 0
