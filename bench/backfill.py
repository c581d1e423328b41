"""Embedding rows that were there before, from the process's start to its end, beside pgai 0.12.1.

Both are at their best settings (with more tasks pgai's advisory lock a row runs out of shared memory), in two
ways:

- *the same service*: both send their requests over HTTP to the same process; pgai by its Ollama provider,
  which is the fastest of those that can be given a server's address.
- *no service*: the embedder of either is a function in its own process that has the vectors already. No
  service can be faster, so this is the most that either could do.

At its default settings (batches of 50, one task) pgai's rate is that of 5,000 rows.
"""

from bench import contest, pgai
from bench.embedder import SLOW
from bench.lab import Lab
from bench.report import Result, main
from bench.rows import TABLE

PART = "backfill"
REACH = {20_000: 1.5, 100_000: 2.0}
QUICK = {200: 1.5}
DEFAULTS_ROWS = 5_000
DEFAULTS_REACH = 30.0


def measure(lab: Lab) -> list[Result]:
    """Measure each size: with a service, and without one at once and in 50 ms."""
    pgai.require()
    results = []
    for count, reach in lab.pick(REACH, QUICK).items():
        with contest.other(lab, PART, count) as (dsn, connection):
            with lab.service() as service, contest.walvec(lab, PART, count, service) as ours:
                theirs = lab.pgai(dsn, TABLE, service=service)
                results += _compare(lab, count, "service at once", reach, ours, theirs, connection)
            for slow in (False, True):
                with contest.in_process(lab, PART, count, slow=slow) as ours:
                    theirs = lab.pgai(dsn, TABLE, latency=SLOW if slow else 0.0)
                    what = f"{contest.IN_PROCESS}, vectors {_named(slow=slow)}"
                    results += _compare(lab, count, what, reach, ours, theirs, connection)
    return results + _defaults(lab)


def _compare(
    lab: Lab,
    count: int,
    what: str,
    reach: float,
    ours: contest.Walvec,
    theirs: pgai.Pgai,
    connection: contest.Connection,
) -> list[Result]:
    others = {"pgai": contest.Other(theirs, connection).backfill}
    return contest.compare(PART, f"{count:,} rows, {what}", count, lab.rounds, reach, ours.backfill, others)


def _defaults(lab: Lab) -> list[Result]:
    """Compare rates in 50 ms, walvec's at its largest size, with pgai as it comes. One round."""
    count, few = lab.pick(max(REACH), max(QUICK)), lab.pick(DEFAULTS_ROWS, 100)
    with (
        lab.service(latency=SLOW) as service,
        contest.walvec(lab, PART, count, service) as ours,
        contest.other(lab, PART, few) as (dsn, connection),
    ):
        mine = count / ours.backfill(count).seconds
        theirs = contest.Other(lab.pgai(dsn, TABLE, settings=pgai.DEFAULTS, service=service), connection)
        rate = few / theirs.backfill(few).seconds
        note = f"{count:,} and {few:,} rows, one round"
        return [_rates("pgai by default, the same service", mine, rate, DEFAULTS_REACH, note)]


def _rates(beside: str, ours: float, theirs: float, reach: float, note: str) -> Result:
    """Compare rows a second."""
    return Result(
        part=PART,
        what=f"rate, service {_named(slow=True)}",
        beside=beside,
        ours=f"{ours:,.0f} rows/s",
        theirs=f"{theirs:,.0f} rows/s",
        ratio=ours / theirs,
        target=f">= {reach:.0f}",
        reached=ours / theirs >= reach,
        note=note,
    )


def _named(*, slow: bool) -> str:
    return f"in {SLOW * 1000:.0f} ms" if slow else "at once"


if __name__ == "__main__":
    main(measure)
