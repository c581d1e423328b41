"""The write alone: ready vectors through the writer, beside the same rows by a bare binary COPY.

Both write batches of the pipeline's default size, a commit each, through sessions with the same settings,
into equal tables that are emptied before. Rows are made outside of the time that is measured. Then the
writer writes other vectors over all of its rows, for information.
"""

import asyncio
import random
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import psycopg

from bench import rows
from bench.collector import as_walvec_has_it
from bench.lab import Lab
from bench.report import Result, main, middle, rate
from bench.sidecar import Sidecar
from walvec.config.load import Config, load_config
from walvec.config.sections import PipelineSettings
from walvec.database.checkpoint import load_checkpoint, take_over
from walvec.database.connect import connect_source, connect_target
from walvec.database.keys import Key
from walvec.database.registry import load_vectorizers
from walvec.embed.protocol import Vector
from walvec.stages.batch import Batch, Position
from walvec.stages.chunk import input_hash
from walvec.stages.write import Writer
from walvec.vectorizer.bind import bind
from walvec.vectorizer.target import Chunk, TargetTable
from walvec_slots.lsn import Lsn
from walvec_slots.settle import Connection

TARGET = 0.6  # of the bare COPY's rows/s
DIMENSIONS = 384
BATCH = PipelineSettings().batch_rows

_BARE = "CREATE TABLE bare (LIKE doc_embedding INCLUDING ALL)"
_COPY = "COPY bare (id, chunk_seq, chunk, embedding, input_hash) FROM STDIN (FORMAT binary)"
_TYPES = ["int8", "int4", "text", "vector", "bytea"]

Row = tuple[Key, int, Chunk, Vector | None]
Write = Callable[[list[Row]], Awaitable[None]]


def measure(lab: Lab) -> list[Result]:
    """Write the same rows in each way, in turn."""
    count = lab.pick(50_000, 3_000)
    dsn = lab.database("write")
    with psycopg.connect(dsn, autocommit=True) as admin, lab.service(DIMENSIONS) as service:
        rows.create(admin)
        sidecar = lab.sidecar(dsn, rows.TABLE, service=service)
        sidecar.setup()
        admin.execute(_BARE)
        with as_walvec_has_it():
            new, bare, again = asyncio.run(_measure(admin, sidecar, count, lab.rounds))
    return _results(count, new, bare, again)


async def _measure(
    admin: psycopg.Connection[Any], sidecar: Sidecar, count: int, rounds: int
) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds of each round: new rows by the writer, by the bare COPY, and written again."""
    new: list[float] = []
    bare: list[float] = []
    again: list[float] = []
    async with AsyncExitStack() as stack:
        config = load_config(sidecar.config)
        through_writer = await _writer(stack, config)
        by_copy = await _copier(stack, config)
        for seed in range(rounds):
            admin.execute("TRUNCATE doc_embedding, bare")
            for write, seconds, content in (
                (through_writer, new, 2 * seed),
                (by_copy, bare, 2 * seed),
                (through_writer, again, 2 * seed + 1),
            ):
                admin.execute("CHECKPOINT")
                seconds.append(await _timed(write, count, content))
    return new, bare, again


async def _timed(write: Write, count: int, seed: int) -> float:
    seconds = 0.0
    for batch in _batches(count, seed):
        began = time.perf_counter()
        await write(batch)
        seconds += time.perf_counter() - began
    return seconds


async def _writer(stack: AsyncExitStack, config: Config) -> Write:
    """Open the pipeline's own way into the target: each batch moves the checkpoint, as a stream's does."""
    connection = await _session(stack, config, "writer")
    checkpoint = await load_checkpoint(connection, config.source.slot)
    assert checkpoint is not None
    [vectorizer] = config.vectorizers
    async with await connect_source(config, role="bench") as source:
        binding = await bind(source, vectorizer, config.source.publication)
    table = TargetTable(vectorizer, binding.key, DIMENSIONS)
    holder = uuid4()
    await take_over(connection, config.source.slot, holder, checkpoint.timeline)
    generation = (await load_vectorizers(connection))[vectorizer.name].generation
    writer = Writer(connection, config.source.slot, checkpoint.lsn, holder, {vectorizer.name: generation})
    position = checkpoint.lsn

    async def take_turn() -> Position:
        return Position(position, position, ())

    async def write(batch: list[Row]) -> None:
        nonlocal position
        position = Lsn(position + 1)
        work = Batch(chunks=batch, settled=[key for key, *_ in batch], embedded=len(batch), texts=len(batch))
        await writer.write(connection, vectorizer.name, table, work, take_turn)

    return write


async def _copier(stack: AsyncExitStack, config: Config) -> Write:
    connection = await _session(stack, config, "bare")

    async def write(batch: list[Row]) -> None:
        async with connection.cursor().copy(_COPY) as copy:
            copy.set_types(_TYPES)
            for key, chunk_seq, chunk, vector in batch:
                await copy.write_row((int(key[0]), chunk_seq, chunk.text, vector, chunk.input_hash))

    return write


async def _session(stack: AsyncExitStack, config: Config, role: str) -> Connection:
    return await stack.enter_async_context(await connect_target(config, role=role))


def _batches(count: int, seed: int) -> Iterator[list[Row]]:
    """Make rows of 300 characters with vectors that differ from row to row and from seed to seed."""
    dice = random.Random(seed)
    numbers = array("f", (dice.gauss(0, 0.05) for _ in range(DIMENSIONS + BATCH)))
    for first in range(0, count, BATCH):
        batch: list[Row] = []
        for number in range(first, min(first + BATCH, count)):
            text = f"{seed} {number} ".ljust(rows.LENGTH, "x")
            chunk = Chunk(text, input_hash("bench", DIMENSIONS, text))
            start = number % BATCH
            batch.append(((str(number),), 0, chunk, numbers[start : start + DIMENSIONS]))
        yield batch


def _results(count: int, new: list[float], bare: list[float], again: list[float]) -> list[Result]:
    theirs = middle(bare)
    named = (
        (f"COPY and upsert of {count:,} new rows, {DIMENSIONS} dimensions", middle(new), TARGET),
        ("the same, written over rows that are there", middle(again), None),
    )
    return [
        Result(
            part="write",
            what=what,
            beside="bare COPY into an equal, empty table",
            ours=rate(count, seconds),
            theirs=rate(count, theirs),
            ratio=theirs / seconds,
            target=f">= {target}" if target else "",
            reached=target is None or theirs / seconds >= target,
        )
        for what, seconds, target in named
    ]


if __name__ == "__main__":
    main(measure)
