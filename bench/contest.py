"""walvec and pgai at the same work, each on a table of its own in a database of its own.

A contestant's `backfill` and `drain` leave its database as it was, so that the next round begins alike.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from bench import embedder, rows
from bench.child import Timing
from bench.lab import Lab
from bench.pgai import Pgai
from bench.report import BenchFailed, Result, middle, rate, side_by_side
from bench.service import Service
from bench.sidecar import Sidecar

# What was found to be fastest on 2 cores, for walvec as for pgai (`bench.pgai.BEST`); the page names both.
BEST = {"max_batch_inputs": 2_000, "max_batch_tokens": 1_000_000, "concurrency": 4}
BEST_PIPELINE = {"batch_rows": 2_000, "max_buffer_bytes": 134_217_728}
IN_PROCESS = "no service"  # what both sides have in place of one, in a result's words
EACH = 1_000  # rows to a transaction of the application

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Walvec:
    """One side: a sidecar and the application's connection to its database."""

    sidecar: Sidecar
    connection: Connection

    def backfill(self, count: int) -> Timing:
        """Embed the table's `count` rows, which were there before."""
        self.sidecar.setup()
        return self._embed(count)

    def drain(self, count: int) -> Timing:
        """Embed `count` rows that wait in the slot; the table was empty before."""
        empty(self.connection)
        self.sidecar.setup()
        self.sidecar.once()
        rows.fill(self.connection, count, each=EACH)
        return self._embed(count)

    def _embed(self, count: int) -> Timing:
        settle(self.connection)
        timing = self.sidecar.once()
        _expect(count, self.connection, self.sidecar.target)
        self.sidecar.teardown()
        return timing


@dataclass(frozen=True)
class Other:
    """The other side."""

    pgai: Pgai
    connection: Connection

    def backfill(self, count: int) -> Timing:
        """Embed the table's `count` rows, which were there before."""
        self.pgai.create(self.connection)
        return self._embed(count)

    def drain(self, count: int) -> Timing:
        """Embed `count` rows that its trigger queued; the table was empty before."""
        empty(self.connection)
        self.pgai.create(self.connection)
        rows.fill(self.connection, count, each=EACH)
        return self._embed(count)

    def _embed(self, count: int) -> Timing:
        settle(self.connection)
        timing = self.pgai.once()
        _expect(count, self.connection, self.pgai.target)
        self.pgai.drop(self.connection)
        return timing


def compare(
    part: str,
    what: str,
    count: int,
    rounds: int,
    reach: float,
    ours: Callable[[int], Timing],
    theirs: Mapping[str, Callable[[int], Timing]],
) -> list[Result]:
    """Let both sides embed `count` rows in turn; a result for each of the others, by its name.

    `reach` is how many times as fast walvec is to be.
    """
    runs = [partial(run, count) for run in (ours, *theirs.values())]
    mine, *rest = side_by_side(rounds, *runs)
    return [
        _result(part, what, beside, count, mine, timings, reach)
        for beside, timings in zip(theirs, rest, strict=True)
    ]


def _result(
    part: str, what: str, beside: str, count: int, mine: list[Timing], others: list[Timing], reach: float
) -> Result:
    ours, theirs = (middle([each.seconds for each in timings]) for timings in (mine, others))
    cpu = [middle([each.cpu_seconds for each in timings]) for timings in (mine, others)]
    return Result(
        part=part,
        what=what,
        beside=beside,
        ours=rate(count, ours),
        theirs=rate(count, theirs),
        ratio=theirs / ours,
        target=f">= {reach}",
        reached=theirs / ours >= reach,
        note=f"{ours:.1f} s beside {theirs:.1f} s; CPU of the process {cpu[0]:.1f} s beside {cpu[1]:.1f} s",
    )


@contextmanager
def table(lab: Lab, name: str, count: int) -> Iterator[tuple[str, Connection]]:
    """Make a database with a table of `count` rows; yields its dsn and the application's connection."""
    dsn = lab.database(name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        rows.create(connection)
        rows.fill(connection, count)
        yield dsn, connection


@contextmanager
def walvec(
    lab: Lab, name: str, count: int, service: Service | None, settings: dict[str, Any] | None = None
) -> Iterator[Walvec]:
    """Make walvec's side, with `count` rows; `settings` of the embedder in the place of the best ones."""
    with table(lab, f"{name}_walvec", count) as (dsn, connection):
        sidecar = lab.sidecar(
            dsn, rows.TABLE, service=service, embedder=settings or BEST, pipeline=BEST_PIPELINE
        )
        yield Walvec(sidecar, connection)


def in_process(lab: Lab, name: str, count: int, *, slow: bool = False) -> AbstractContextManager[Walvec]:
    """Make walvec's side with an embedder in its own process; `slow`: it takes `embedder.SLOW` seconds."""
    function = embedder.slowly if slow else embedder.at_once
    model = f"{embedder.__name__}:{function.__name__}"
    own = {"provider": "python", "model": model, "dimensions": embedder.DIMENSIONS}
    return walvec(lab, name, count, None, BEST | own)


@contextmanager
def other(lab: Lab, name: str, count: int) -> Iterator[tuple[str, Connection]]:
    """Make a database with `count` rows and pgai's schema; yields what a `Pgai` needs."""
    with table(lab, f"{name}_pgai", count) as (dsn, connection):
        lab.pgai(dsn, rows.TABLE).install()
        yield dsn, connection


def settle(connection: Connection) -> None:
    """Begin alike each time: statistics and visibility are there, and no checkpoint is due."""
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")


def empty(connection: Connection) -> None:
    """Remove all rows."""
    connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(rows.TABLE)))


def _expect(count: int, connection: Connection, target: str) -> None:
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(target))
    ((found,),) = connection.execute(query).fetchall()
    if found != count:
        raise BenchFailed(f"{target} holds {found} vectors in place of {count}")
