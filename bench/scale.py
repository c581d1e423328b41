"""Whether a row costs the same in a large table as in a small one: a backfill of each size, 128 dimensions.

What the process takes from its start until it has found nothing to do is measured by itself and subtracted,
so that start-up does not make small tables look dear. One round.
"""

from bench import contest
from bench.child import Timing
from bench.lab import Lab
from bench.report import Result, main

PART = "scale"
SIZES = (20_000, 200_000, 1_000_000)
QUICK = (200, 2_000)
REACH = 1.25  # times the cost of a row in the smallest table
DIMENSIONS = 128


def measure(lab: Lab) -> list[Result]:
    """Measure every size by itself."""
    sizes = lab.pick(SIZES, QUICK)
    idle = _backfill(lab, 0)
    timings = [_backfill(lab, count) for count in sizes]
    costs = [(timing.seconds - idle.seconds) / count for count, timing in zip(sizes, timings, strict=True)]
    return [
        _result(count, cost, sizes[0], costs[0], timing)
        for count, cost, timing in zip(sizes[1:], costs[1:], timings[1:], strict=True)
    ]


def _backfill(lab: Lab, count: int) -> Timing:
    with (
        lab.service(dimensions=DIMENSIONS) as service,
        contest.walvec(lab, PART, count, service) as ours,
    ):
        return ours.backfill(count)


def _result(count: int, cost: float, small: int, least: float, timing: Timing) -> Result:
    return Result(
        part=PART,
        what=f"a row of {count:,}",
        beside=f"a row of {small:,}",
        ours=f"{cost * 1e6:,.0f} µs",
        theirs=f"{least * 1e6:,.0f} µs",
        ratio=cost / least,
        target=f"<= {REACH}",
        reached=cost / least <= REACH,
        note=f"{timing.seconds:.0f} s, {timing.peak_rss_bytes / 2**20:.0f} MiB at most",
    )


if __name__ == "__main__":
    main(measure)
