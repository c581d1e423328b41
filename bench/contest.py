"""walvec and pgai at the same work, each on a table of its own in a database of its own.

A contestant's `backfill` and `drain` leave its database as it was, so that the next round begins alike.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from bench import rows
from bench.child import Timing
from bench.lab import Lab
from bench.pgai import Pgai
from bench.report import BenchFailed, Result, middle, rate, side_by_side
from bench.service import Service
from bench.sidecar import Sidecar

# What was found to be fastest on 2 cores, for walvec as for pgai (`bench.pgai.BEST`); the page names both.
BEST = {"max_batch_inputs": 1_000, "max_batch_tokens": 1_000_000, "concurrency": 4}
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
    lab: Lab, name: str, count: int, service: Service, embedder: dict[str, Any] | None = None
) -> Iterator[Walvec]:
    """Make walvec's side, with `count` rows; `embedder` in the place of its best settings."""
    with table(lab, f"{name}_walvec", count) as (dsn, connection):
        sidecar = lab.sidecar(dsn, rows.TABLE, service=service, embedder=embedder or BEST)
        yield Walvec(sidecar, connection)


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
