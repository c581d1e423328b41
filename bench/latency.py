"""Commit to searchable: one row at a time, inserts and updates in turn, with a service that takes 20 ms.

The time runs from the return of the application's COMMIT until another session of the target is told of the
committed vector. It waits without asking: a trigger on the target table sends a notification, which
PostgreSQL delivers when walvec's transaction commits. The service's own time is that of requests of one text
over a connection that is kept open, one after each row; what is over it is walvec's and the databases'.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from statistics import quantiles
from typing import Any

import orjson
import psycopg

from bench import rows
from bench.lab import Lab
from bench.report import BenchFailed, Result, main
from bench.service import Service

SERVICE_LATENCY = 0.02  # seconds
TARGETS = ((50, 0.008), (95, 0.025))  # percentile, and seconds over the service's median
LONGEST_PAUSE = 0.05  # seconds between two rows: what walvec does by the clock falls anywhere among them
LIMIT = 30.0  # seconds

_TRIGGER = """
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('searchable', NEW.id || ' ' || NEW.chunk);
    RETURN NULL;
END
$$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON doc_embedding FOR EACH ROW EXECUTE FUNCTION tell();
"""
_INSERT = "INSERT INTO doc (id, body) VALUES (%(id)s, %(text)s)"
_UPDATE = "UPDATE doc SET body = %(text)s WHERE id = %(id)s"


@dataclass(slots=True)
class _Times:
    """Seconds, a row each."""

    searchable: list[float] = field(default_factory=list)
    service: list[float] = field(default_factory=list)


def measure(lab: Lab) -> list[Result]:
    """Change row after row, and ask the service in between."""
    count, there = lab.pick(600, 30), lab.pick(2_000, 100)
    dsn = lab.database("latency")
    with (
        psycopg.connect(dsn, autocommit=True) as application,
        psycopg.connect(dsn, autocommit=True) as reader,
        lab.service(latency=SERVICE_LATENCY) as service,
    ):
        rows.create(application)
        rows.fill(application, there)
        sidecar = lab.sidecar(dsn, rows.TABLE, service=service)
        sidecar.setup()
        sidecar.start()
        sidecar.caught_up(application)
        reader.execute(_TRIGGER)
        reader.execute("LISTEN searchable")
        times = _change(application, reader, service, count, there)
        sidecar.stop()
    return _results(count, times)


def _change(
    application: psycopg.Connection[Any],
    reader: psycopg.Connection[Any],
    service: Service,
    count: int,
    there: int,
) -> _Times:
    times = _Times()
    dice = random.Random(count)
    direct = HTTPConnection("127.0.0.1", int(service.root.rpartition(":")[2]), timeout=LIMIT)
    for number in range(count):
        row = number // 2 + 1 if number % 2 else there + number + 1
        text = f"change {number} ".ljust(rows.LENGTH, "x")
        application.execute(_UPDATE if number % 2 else _INSERT, {"id": row, "text": text})
        began = time.perf_counter()
        _wait_for(reader, f"{row} {text}")
        times.searchable.append(time.perf_counter() - began)
        times.service.append(_ask(direct, text))
        time.sleep(dice.uniform(0, LONGEST_PAUSE))
    direct.close()
    return times


def _wait_for(reader: psycopg.Connection[Any], expected: str) -> None:
    """Wait until the target has told of this chunk of this row, and of no other."""
    told = [notice.payload for notice in reader.notifies(timeout=LIMIT, stop_after=1)]
    if told != [expected]:
        raise BenchFailed("another row than the one changed became searchable, or none did")


def _ask(service: HTTPConnection, text: str) -> float:
    """Return the seconds that a request for one text takes."""
    body = orjson.dumps({"model": "bench", "input": [text], "encoding_format": "base64"})
    began = time.perf_counter()
    service.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
    service.getresponse().read()
    return time.perf_counter() - began


def _results(count: int, times: _Times) -> list[Result]:
    own = _percentile(times.service, 50)
    results = []
    for percent, allowed in TARGETS:
        ours = _percentile(times.searchable, percent)
        results.append(
            Result(
                part="latency",
                what=f"commit to searchable, p{percent} of {count} rows",
                beside="the service's own time (median)",
                ours=_milliseconds(ours),
                theirs=_milliseconds(own),
                ratio=ours / own,
                target=f"within {allowed * 1000:.0f} ms",
                reached=ours - own <= allowed,
                note=f"{_milliseconds(ours - own)} over it",
            )
        )
    return results


def _percentile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    main(measure)
