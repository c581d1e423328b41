"""Embedding rows that were written while nothing ran, from the process's start to its end, beside pgai.

The table is empty and known to both products; then the application inserts the rows, 1,000 to a
transaction. For walvec they wait in the slot as WAL that is decoded now; for pgai its trigger has queued
them. Vectors come at once, in the two ways described under *backfill*, with the settings given there. What
the trigger has cost the application by then is not counted.
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
    with contest.other(lab, PART, 0) as (dsn, connection):
        with lab.service() as service, contest.walvec(lab, PART, 0, service) as ours:
            theirs = lab.pgai(dsn, TABLE, service=service)
            results = _results(lab, count, "the same service", ours, contest.Other(theirs, connection))
        with contest.in_process(lab, PART, 0) as ours:
            theirs = lab.pgai(dsn, TABLE)
            what = contest.IN_PROCESS
            return results + _results(lab, count, what, ours, contest.Other(theirs, connection))


def _results(lab: Lab, count: int, what: str, ours: contest.Walvec, theirs: contest.Other) -> list[Result]:
    named = f"{count:,} rows waiting, {what}"
    return contest.compare(PART, named, count, lab.rounds, REACH, ours.drain, {"pgai": theirs.drain})


if __name__ == "__main__":
    main(measure)
