"""Decode only: from the slot to typed messages, beside `pg_recvlogical` to /dev/null.

Both read the same WAL, each time from a copy of one slot made for that reading: `pg_recvlogical` confirms
what it has read when it ends. Each begins with connecting and ends at the same LSN; what Python takes to
start is for the part `startup`. The option that older plugins do not know is given to neither.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from bench import programs
from bench.collector import as_walvec_has_it
from bench.lab import Lab
from bench.report import BenchFailed, Result, main, middle, rate, side_by_side
from walvec_slots.changes import Change, StreamedColumn, StreamedTable
from walvec_slots.lsn import Lsn
from walvec_slots.plugin import WAL2JSON, Decoder
from walvec_slots.protocol import Keepalive
from walvec_slots.stream import ReplicationStream

TARGET = 0.9  # of pg_recvlogical's rows/s
TRANSACTION = 1_000  # rows

_SLOT, _COPY = "bench_decode", "bench_decode_copy"
_COLUMNS = {"id": 20, "title": 25, "published": 1184, "body": 25}  # with the oids of their types
_DOCUMENT = StreamedTable(
    0, "public", "document", tuple(StreamedColumn(name, oid, "") for name, oid in _COLUMNS.items())
)
_OPTIONS = WAL2JSON.options("", [_DOCUMENT])
_TABLE = "CREATE TABLE document (id bigint PRIMARY KEY, title text, published timestamptz, body text)"
# 28 lines of 33 bytes: with the other columns, about 1 kB of data a row.
_INSERT = """
INSERT INTO document
SELECT number, 'Document ' || number, now(), repeat(md5(number::text) || E'\\n', 28)
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS number
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What it took to read all rows."""

    seconds: float
    cpu_seconds: float  # of the process that reads
    rows: int  # as it counted them


def measure(lab: Lab) -> list[Result]:
    """Read the same WAL with both in turn."""
    rows = lab.pick(200_000, 5_000)
    dsn = lab.database("decode")
    with psycopg.connect(dsn, autocommit=True) as source:
        end = _fill(source, rows)

        def ours() -> Reading:
            with _slot(source), as_walvec_has_it():
                return asyncio.run(_decode(dsn, end))

        def theirs() -> Reading:
            with _slot(source):
                return _receive(dsn, end)

        with _slot(source):
            counted = _count(dsn, end)
        readings = side_by_side(lab.rounds, ours, theirs)
        source.execute("SELECT pg_drop_replication_slot(%s)", [_SLOT])
    if {counted, *(reading.rows for reading in readings[0])} != {rows}:
        raise BenchFailed(f"of {rows} rows not all were read")
    return [_result(rows, *readings)]


def _fill(source: psycopg.Connection[Any], rows: int) -> Lsn:
    """Make the table, the slot and what it will tell; return the LSN that ends it."""
    source.execute(_TABLE)
    source.execute("SELECT pg_create_logical_replication_slot(%s, 'wal2json')", [_SLOT])
    for first in range(1, rows + 1, TRANSACTION):
        source.execute(_INSERT, {"first": first, "last": min(first + TRANSACTION - 1, rows)})
    ((end,),) = source.execute("SELECT pg_logical_emit_message(false, 'walvec', 'end')::text").fetchall()
    return Lsn.parse(end)


@contextmanager
def _slot(source: psycopg.Connection[Any]) -> Iterator[None]:
    """Copy the slot for one reading."""
    source.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", [_SLOT, _COPY])
    yield
    source.execute("SELECT pg_drop_replication_slot(%s)", [_COPY])


async def _decode(dsn: str, end: Lsn) -> Reading:
    """Read and decode as the pipeline does, and count the rows."""
    began, cpu = time.perf_counter(), time.process_time()
    stream = await ReplicationStream.connect(dsn, on_notice=lambda *_: None)
    try:
        await stream.start_with(_COPY, WAL2JSON.name, _OPTIONS, {})
        rows = await _count_changes(stream, WAL2JSON.decoder([_DOCUMENT]), end)
    finally:
        await stream.close()
    return Reading(time.perf_counter() - began, time.process_time() - cpu, rows)


async def _count_changes(stream: ReplicationStream, decoder: Decoder, end: Lsn) -> int:
    decode = decoder.decode
    rows = 0
    while True:
        for frame in await stream.read():
            if isinstance(frame, Keepalive):
                if frame.wal_end >= end:
                    return rows
            elif isinstance(decode(frame.payload, frame.start), Change):
                rows += 1
            elif frame.start >= end:
                return rows


def _receive(dsn: str, end: Lsn) -> Reading:
    """Read with pg_recvlogical."""
    began, cpu = time.perf_counter(), _children_cpu()
    programs.run("pg_recvlogical", *_arguments(dsn, end), "--file=/dev/null")
    return Reading(time.perf_counter() - began, _children_cpu() - cpu, 0)


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _count(dsn: str, end: Lsn) -> int:
    """Count the rows that pg_recvlogical writes."""
    process = programs.start("pg_recvlogical", *_arguments(dsn, end), "--file=-", stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as lines:
        rows = sum(line.startswith('{"action":"I"') for line in lines)
    process.wait()
    return rows


def _arguments(dsn: str, end: Lsn) -> list[str]:
    options = [f"--option={name}={value}" for name, value in _OPTIONS.items()]
    return ["--start", f"--slot={_COPY}", f"--dbname={dsn}", f"--endpos={end}", "--no-loop", *options]


def _result(rows: int, ours: list[Reading], theirs: list[Reading]) -> Result:
    seconds, their_seconds = (middle([each.seconds for each in side]) for side in (ours, theirs))
    ratio = their_seconds / seconds
    return Result(
        part="decode",
        what=f"slot to typed messages, {rows:,} rows of 1 kB",
        beside="pg_recvlogical to /dev/null",
        ours=rate(rows, seconds),
        theirs=rate(rows, their_seconds),
        ratio=ratio,
        target=f">= {TARGET}",
        reached=ratio >= TARGET,
        note=f"CPU of the reading process: {_cpu(rows, ours)} beside {_cpu(rows, theirs)}",
    )


def _cpu(rows: int, readings: list[Reading]) -> str:
    return f"{middle([each.cpu_seconds for each in readings]) / rows * 1e6:.1f} us a row"


if __name__ == "__main__":
    main(measure)
