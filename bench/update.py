"""An update of a column that is not embedded, of all rows in one statement, while the product runs.

The time is from the start of the statement until all is caught up; walvec decodes the rows, compares and
sends nothing. pgai 0.12.1 queues all rows again and embeds them again, here without a service (see
*backfill*); its worker asks for work without a pause.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import contest, pgai
from bench.lab import Lab
from bench.report import Result, main, middle, side_by_side
from bench.rows import TABLE
from bench.service import Service

PART = "update"
REACH = 3.0
ROWS = 50_000

_UPDATE = "UPDATE doc SET views = views + 1"


@dataclass(frozen=True)
class Turn:
    """One update: seconds of the statement, seconds until all is caught up, texts that were embedded."""

    statement: float
    all: float
    texts: int


def measure(lab: Lab) -> list[Result]:
    """Measure what is sent, and the time to be caught up."""
    pgai.require()
    count = lab.pick(ROWS, 500)
    with (
        lab.service() as service,
        contest.walvec(lab, PART, count, service) as ours,
        contest.other(lab, PART, count) as (dsn, connection),
    ):
        ours.sidecar.setup()
        ours.sidecar.once()
        theirs = contest.Other(lab.pgai(dsn, TABLE), connection)
        theirs.pgai.create(connection)
        theirs.pgai.once()
        try:
            turns = side_by_side(lab.rounds, lambda: _walvec(ours, service), lambda: _pgai(theirs))
        finally:
            theirs.pgai.end()
    return _results(count, *turns)


def _walvec(side: contest.Walvec, service: Service) -> Turn:
    contest.settle(side.connection)
    before = service.texts
    side.sidecar.start()
    side.sidecar.caught_up(side.connection)
    statement, seconds = _timed(side.connection, lambda: side.sidecar.caught_up(side.connection))
    side.sidecar.stop()
    return Turn(statement, seconds, service.texts - before)


def _pgai(side: contest.Other) -> Turn:
    contest.settle(side.connection)
    side.pgai.start()
    statement, seconds = _timed(side.connection, lambda: side.pgai.caught_up(side.connection))
    side.pgai.stop()
    return Turn(statement, seconds, side.pgai.texts)


def _timed(connection: contest.Connection, caught_up: Callable[[], object]) -> tuple[float, float]:
    """Update all rows; return the seconds of the statement, and those until all is caught up."""
    began = time.perf_counter()
    connection.execute(_UPDATE)
    statement = time.perf_counter() - began
    caught_up()
    return statement, time.perf_counter() - began


def _results(count: int, ours: list[Turn], theirs: list[Turn]) -> list[Result]:
    texts = [max(turn.texts for turn in turns) for turns in (ours, theirs)]
    mine, other = (middle([turn.all for turn in turns]) for turns in (ours, theirs))
    alone = [middle([turn.statement for turn in turns]) for turns in (ours, theirs)]
    what = f"{count:,} rows, unrelated column"
    return [
        Result(
            part=PART,
            what=f"{what}: texts sent",
            beside="pgai",
            ours=f"{texts[0]:,}",
            theirs=f"{texts[1]:,}",
            ratio=texts[0] / max(texts[1], 1),
            target="0 texts",
            reached=texts[0] == 0,
        ),
        Result(
            part=PART,
            what=f"{what}: caught up",
            beside="pgai",
            ours=f"{mine:.2f} s",
            theirs=f"{other:.2f} s",
            ratio=other / mine,
            target=f">= {REACH}",
            reached=other / mine >= REACH,
            note=f"of which the statement {alone[0]:.2f} s and {alone[1]:.2f} s",
        ),
    ]


if __name__ == "__main__":
    main(measure)
