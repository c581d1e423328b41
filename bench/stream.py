"""Embedding rows that were written while nothing ran, from the process's start to its end, beside pgai.

The table is empty and known to both products; then the application inserts the rows, 1,000 to a
transaction. For walvec they wait in the slot as WAL that is decoded now; for pgai its trigger has queued
them. The service answers at once; pgai is measured in the two ways described under *backfill*, and both
have the settings given there.
"""

from bench import contest, pgai
from bench.lab import Lab
from bench.report import Result, main
from bench.rows import TABLE

PART = "stream"
REACH = 2.0


def measure(lab: Lab) -> list[Result]:
    """Measure both sizes."""
    pgai.require()
    return [result for count in lab.pick((20_000, 100_000), (200,)) for result in _compare(lab, count)]


def _compare(lab: Lab, count: int) -> list[Result]:
    with (
        lab.service() as service,
        contest.walvec(lab, PART, 0, service) as ours,
        contest.other(lab, PART, 0) as (dsn, connection),
    ):
        others = {
            "pgai, vectors for nothing": lab.pgai(dsn, TABLE),
            "pgai, the same service": lab.pgai(dsn, TABLE, service=service),
        }
        theirs = {name: contest.Other(each, connection).drain for name, each in others.items()}
        what = f"{count:,} rows waiting"
        return contest.compare(PART, what, count, lab.rounds, REACH, ours.drain, theirs)


if __name__ == "__main__":
    main(measure)
