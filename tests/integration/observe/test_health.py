"""What `[http] listen` answers while walvec does its work, waits, or fails."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fix_embedding_service import Status
from tests.fix_process import Run, until
from tests.fix_sidecar import Sidecar
from walvec.observe import health
from walvec.stages.stopwatch import STAGES
from walvec_slots.lsn import Lsn

ROW, KEY, API = "canary-in-a-row", "canary-in-a-key", "canary-in-the-api"


class Probe:
    """A client of the server of the sidecar's run."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._log = sidecar.log

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that the log names."""
        line = until(self._listens, "http.listening")
        return line["host"], line["port"]

    def _listens(self) -> dict[str, Any] | None:
        lines = [line for line in self._log if line["event"] == "http.listening"]
        return lines[-1] if lines else None

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body."""
        connection = HTTPConnection(*self.address, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def ready(self) -> bool:
        """Whether /readyz says so."""
        return self.get("/readyz") == (200, "ready\n")

    def unready(self, why: str) -> bool:
        """Whether /readyz says no, in one line that includes `why`."""
        status, body = self.get("/readyz")
        return status == 503 and why in body and body.count("\n") == 1

    def metric(self, name: str, **labels: str) -> float | None:
        """Return one value; None if there is none."""
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return None


@pytest.fixture
def served(sidecar: Sidecar) -> Sidecar:
    """Return a sidecar of three rows, set up and not embedded yet, on a free port."""
    sidecar.settings["http"]["listen"] = "127.0.0.1:0"
    sidecar.source.execute("CREATE TABLE blog (id text PRIMARY KEY, body text)")
    sidecar.source.execute(
        "INSERT INTO blog SELECT %s || i, %s || i FROM generate_series(1, 3) AS i", [KEY, ROW]
    )
    sidecar.follow()
    sidecar.setup()
    return sidecar


@pytest.fixture
def probe(served: Sidecar) -> Probe:
    """Return a client of its server."""
    return Probe(served)


@pytest.fixture
def run(served: Sidecar, probe: Probe) -> Iterator[Run]:
    """Yield a run that has embedded everything."""
    with served.running() as run:
        until(probe.ready, "ready")
        served.in_step()
        yield run
        served.service.always = None


def test_ready_once_attached(served: Sidecar, probe: Probe, run: Run) -> None:
    """A process that is attached is ready, and exports the state of the slot."""
    assert probe.get("/livez") == (200, "alive\n")
    assert probe.metric("walvec_attached") == 1
    assert until(lambda: probe.metric("walvec_slot_retained_bytes"), "the watch has looked")
    assert probe.metric("walvec_slot_wal_status", status="reserved") == 1


def test_figures_agree_with_what_was_done(served: Sidecar, probe: Probe, run: Run) -> None:
    """Rows, texts, requests, dead letters and the backfill are counted correctly."""
    served.source.execute("INSERT INTO blog VALUES ('a', 'new'), ('b', 'POISON')")
    served.service.refuse = "POISON"
    served.in_step()
    served.source.execute("UPDATE blog SET body = body WHERE id = 'a'")
    served.source.execute("DELETE FROM blog WHERE id = %s", [f"{KEY}1"])
    served.in_step()
    rows = {
        outcome: probe.metric("walvec_rows_total", vectorizer="blog", outcome=outcome)
        for outcome in ("embedded", "unchanged", "deleted", "parked")
    }
    assert rows == {"embedded": 4, "unchanged": 1, "deleted": 1, "parked": 1}
    texts = {
        outcome: probe.metric("walvec_texts_total", vectorizer="blog", outcome=outcome)
        for outcome in ("embedded", "reused", "refused")
    }
    assert texts == {"embedded": 4, "reused": 1, "refused": 1}
    assert probe.metric("walvec_backfill_rows", vectorizer="blog") == 3
    assert probe.metric("walvec_backfill_phase", vectorizer="blog", phase="done") == 1
    assert until(lambda: probe.metric("walvec_dead_letters", vectorizer="blog"), "counted") == 1
    assert probe.metric("walvec_embedder_texts_total", provider="openai") == len(served.service.texts)
    answered = probe.metric("walvec_embedder_requests_total", outcome="ok")
    refused = probe.metric("walvec_embedder_requests_total", outcome="InputRefused")
    seconds = probe.metric("walvec_embedder_request_seconds_count")
    assert answered
    assert refused
    assert seconds == answered + refused
    assert probe.metric("walvec_embedder_request_texts_count") == seconds
    assert probe.metric("walvec_embedder_request_texts_sum") == len(served.service.texts)
    assert probe.metric("walvec_embedder_requests_in_flight", provider="openai") == 0
    batches = probe.metric("walvec_batch_rows_count", vectorizer="blog")
    for stage in STAGES:
        assert probe.metric("walvec_stage_seconds_count", stage=stage) == batches
    assert probe.metric("walvec_segments_in_flight", vectorizer="blog") == 0
    assert probe.metric("walvec_buffer_bytes") == 0


def test_checkpoint_and_confirmed_lsn_are_the_databases(served: Sidecar, probe: Probe, run: Run) -> None:
    """LSNs are exported as the numbers that PostgreSQL has."""
    row = served.target.execute("SELECT lsn::text FROM walvec.checkpoint WHERE slot = %s", [served.slot])
    ((saved,),) = row.fetchall()
    assert (probe.metric("walvec_checkpoint_lsn") or 0) >= Lsn.parse(saved)

    def confirmed() -> bool:
        query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
        ((lsn,),) = served.source.execute(query, [served.slot]).fetchall()
        return probe.metric("walvec_confirmed_lsn") == Lsn.parse(lsn)

    assert until(lambda: confirmed() or None, "the exported LSN is the one that the slot has")


def test_not_ready_while_the_service_fails(
    served: Sidecar, probe: Probe, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason says how long the service fails; its next answer makes it ready."""
    monkeypatch.setattr(health, "STALL_LIMIT", 0.2)
    served.service.always = Status(503)
    served.source.execute("INSERT INTO blog VALUES ('a', 'new')")
    assert until(lambda: probe.unready("the embedding service fails for") or None, "not ready")
    assert (probe.metric("walvec_stall_seconds") or 0) > 0.2
    assert probe.metric("walvec_segments_in_flight", vectorizer="blog") == 1
    assert probe.get("/livez")[0] == 200
    assert until(lambda: probe.metric("walvec_embedder_retries_total", error="ServiceUnavailable"), "a retry")
    served.service.always = None
    assert until(probe.ready, "ready again")
    assert probe.metric("walvec_stall_seconds") == 0


def test_not_ready_past_the_lag_that_is_allowed(served: Sidecar, probe: Probe) -> None:
    """The process is not ready while a commit waits longer than max_lag allows."""
    served.settings["http"]["max_lag"] = 0.2
    with served.running():
        until(probe.ready, "ready")
        served.in_step()
        until(lambda: probe.metric("walvec_lag_seconds") == 0 or None, "caught up")
        served.service.always = Status(503)
        served.source.execute("INSERT INTO blog VALUES ('a', 'new')")
        assert until(lambda: probe.unready("[http] max_lag") or None, "not ready")
        assert (probe.metric("walvec_lag_seconds") or 0) > 0.2
        served.source.execute("CREATE TABLE other ()")
        served.service.always = None
        assert until(probe.ready, "ready again")
        served.in_step()
        until(lambda: probe.metric("walvec_lag_seconds") == 0 or None, "caught up again")


def test_not_ready_while_the_database_is_away(served: Sidecar, probe: Probe, run: Run) -> None:
    """The server outlives the attachment, and /readyz says what is waited for."""
    served.source.execute("UPDATE pg_database SET datallowconn = false WHERE datname = current_database()")
    served.source.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'walvec%'"
    )
    assert until(lambda: probe.unready("trying again") or None, "not ready")
    assert probe.metric("walvec_attached") == 0
    assert probe.metric("walvec_lag_bytes") is None
    served.source.execute("UPDATE pg_database SET datallowconn = true WHERE datname = current_database()")
    assert until(probe.ready, "ready again")


def test_nothing_private_is_told(served: Sidecar, probe: Probe, run: Run) -> None:
    """Neither metrics nor reasons hold row text, key values or the service's key."""
    served.service.script(Status(401, f"Incorrect API key {API}"), Status(500, f"cannot embed {ROW}"))
    served.service.refuse = "POISON"
    served.source.execute("INSERT INTO blog VALUES (%s, %s)", [f"{KEY}-4", f"{ROW} POISON"])
    served.source.execute("INSERT INTO blog VALUES (%s, %s)", [f"{KEY}-5", f"{ROW} five"])
    served.in_step()
    answers = probe.get("/metrics")[1] + probe.get("/readyz")[1]
    assert "canary" not in answers


def test_port_in_use_is_waited_for(served: Sidecar) -> None:
    """The work goes on meanwhile, and the server starts once the port is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        served.settings["http"]["listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        process = served.start("run")
        process.wait_for("http.port_in_use")
        process.wait_for("stream.attached")
    process.wait_for("http.listening")
    assert process.stop() == 0


def test_run_with_an_end_needs_no_port(served: Sidecar) -> None:
    """`run --once` works beside a process that has the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        served.settings["http"]["listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        served.once()
    assert served.actual() == served.expected()
