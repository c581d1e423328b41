"""Embedding rows that were there before, from the process's start to its end, beside pgai 0.12.1.

walvec asks the embedding service over HTTP. pgai is measured in two ways, both at its best settings (with
more tasks its advisory lock a row runs out of shared memory):

- *the same service*: the requests go over HTTP to the same process, by its Ollama provider, which is the
  fastest of those that can be given a server's address.
- *vectors for nothing*: its embedder is replaced by a function in its own process that has the vectors
  already. No service can be faster, so this is the most that pgai could do; walvec is not given the same.

At its default settings (batches of 50, one task) pgai's rate is that of 5,000 rows.
"""

from bench import contest, pgai
from bench.lab import Lab
from bench.report import Result, main
from bench.rows import TABLE

PART = "backfill"
REACH = {20_000: 1.5, 100_000: 2.0}
QUICK = {200: 1.5}
DEFAULTS_ROWS = 5_000
DEFAULTS_REACH = 30.0
SLOW = 0.05  # seconds that the service takes


def measure(lab: Lab) -> list[Result]:
    """Measure each size, with a service that answers at once and with one that takes 50 ms."""
    pgai.require()
    results = []
    for count, reach in lab.pick(REACH, QUICK).items():
        with contest.other(lab, PART, count) as (dsn, connection):
            for latency in (0.0, SLOW):
                results += _compare(lab, count, latency, reach, dsn, connection)
    return results + _defaults(lab)


def _compare(
    lab: Lab, count: int, latency: float, reach: float, dsn: str, connection: contest.Connection
) -> list[Result]:
    with lab.service(latency=latency) as service, contest.walvec(lab, PART, count, service) as ours:
        others = {"pgai, vectors for nothing": lab.pgai(dsn, TABLE, latency=latency)}
        if not latency:
            others["pgai, the same service"] = lab.pgai(dsn, TABLE, service=service)
        theirs = {name: contest.Other(each, connection).backfill for name, each in others.items()}
        what = f"{count:,} rows, {_named(latency)}"
        return contest.compare(PART, what, count, lab.rounds, reach, ours.backfill, theirs)


def _defaults(lab: Lab) -> list[Result]:
    """Compare rates in 50 ms, walvec's at its largest size, with pgai as it comes. One round."""
    count, few = lab.pick(max(REACH), max(QUICK)), lab.pick(DEFAULTS_ROWS, 100)
    with (
        lab.service(latency=SLOW) as service,
        contest.walvec(lab, PART, count, service) as ours,
        contest.other(lab, PART, few) as (dsn, connection),
    ):
        mine = count / ours.backfill(count).seconds
        others = {
            "the same service": (
                lab.pgai(dsn, TABLE, settings=pgai.DEFAULTS, service=service),
                DEFAULTS_REACH,
            ),
            "vectors for nothing": (lab.pgai(dsn, TABLE, settings=pgai.DEFAULTS, latency=SLOW), 0.0),
        }
        return [
            _rates(
                f"pgai by default, {name}",
                mine,
                few / contest.Other(each, connection).backfill(few).seconds,
                reach,
                f"{count:,} and {few:,} rows, one round",
            )
            for name, (each, reach) in others.items()
        ]


def _rates(beside: str, ours: float, theirs: float, reach: float, note: str) -> Result:
    """Compare rows a second; a `reach` of 0 is no target."""
    return Result(
        part=PART,
        what=f"rate, {_named(SLOW)}",
        beside=beside,
        ours=f"{ours:,.0f} rows/s",
        theirs=f"{theirs:,.0f} rows/s",
        ratio=ours / theirs,
        target=f">= {reach:.0f}" if reach else "",
        reached=ours / theirs >= reach,
        note=note,
    )


def _named(latency: float) -> str:
    return f"service in {latency * 1000:.0f} ms" if latency else "service at once"


if __name__ == "__main__":
    main(measure)
