"""Embedding rows that were there before, from the process's start to its end, beside pgai 0.12.1.

walvec asks the embedding service over HTTP. pgai is measured in two ways, both at its best settings (with
more tasks its advisory lock a row runs out of shared memory):

- *the same service*: the requests go over HTTP to the same process, by its Ollama provider, which is the
  fastest of its providers.
- *vectors for nothing*: its embedder is replaced by a function in its own process that has the vectors
  already. No service can be faster, so this is the most that pgai could do; walvec is not given the same.

At its default settings (batches of 50, one task) pgai's rate is that of 5,000 rows, with vectors for
nothing.
"""

from bench import contest, pgai
from bench.lab import Lab
from bench.report import Result, main, rate, side_by_side
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
    return [*results, _defaults(lab)]


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


def _defaults(lab: Lab) -> Result:
    """Compare rates in 50 ms, walvec's at its largest size, with pgai as it comes."""
    count, few = lab.pick(max(REACH), max(QUICK)), lab.pick(DEFAULTS_ROWS, 100)
    with (
        lab.service(latency=SLOW) as service,
        contest.walvec(lab, PART, count, service) as ours,
        contest.other(lab, PART, few) as (dsn, connection),
    ):
        theirs = contest.Other(lab.pgai(dsn, TABLE, settings=pgai.DEFAULTS, latency=SLOW), connection)
        first, second = side_by_side(1, lambda: ours.backfill(count), lambda: theirs.backfill(few))
    mine, other = count / first[0].seconds, few / second[0].seconds
    return Result(
        part=PART,
        what=f"rate, {_named(SLOW)}",
        beside="pgai at its default settings",
        ours=rate(count, first[0].seconds),
        theirs=rate(few, second[0].seconds),
        ratio=mine / other,
        target=f">= {DEFAULTS_REACH:.0f}",
        reached=mine / other >= DEFAULTS_REACH,
        note=f"{count:,} and {few:,} rows, one round",
    )


def _named(latency: float) -> str:
    return f"service in {latency * 1000:.0f} ms" if latency else "service at once"


if __name__ == "__main__":
    main(measure)
