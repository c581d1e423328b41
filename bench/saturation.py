"""How near walvec comes to what the embedding service can give.

The service answers in 50 ms and takes 128 texts a request, 16 of them in flight: 40,960 texts a second by
arithmetic. The machine has a limit of its own, which is the rate of the same backfill with the same
settings and a service that answers at once. The lower of the two is the bound. Start-up is included on both
sides.
"""

from functools import partial

from bench import contest
from bench.child import Timing
from bench.lab import Lab
from bench.report import Result, main, middle, rate, side_by_side

PART = "saturation"
REACH = 0.9
LATENCY = 0.05  # seconds
INPUTS, IN_FLIGHT = 128, 16
SETTINGS = {"max_batch_inputs": INPUTS, "max_batch_tokens": 1_000_000, "concurrency": IN_FLIGHT}


def measure(lab: Lab) -> list[Result]:
    """Measure the rate with the latency, and without it."""
    count = lab.pick(100_000, 500)
    with (
        lab.service(latency=LATENCY) as slow,
        lab.service() as quick,
        contest.walvec(lab, f"{PART}_slow", count, slow, SETTINGS) as waiting,
        contest.walvec(lab, f"{PART}_quick", count, quick, SETTINGS) as bound,
    ):
        ours, at_once = side_by_side(
            lab.rounds, partial(waiting.backfill, count), partial(bound.backfill, count)
        )
        most = slow.most_in_flight
    return [_result(count, _seconds(ours), _seconds(at_once), most)]


def _result(count: int, ours: float, at_once: float, most: int) -> Result:
    arithmetic = INPUTS * IN_FLIGHT / LATENCY
    machine = count / at_once
    limit = min(arithmetic, machine)
    ratio = count / ours / limit
    return Result(
        part=PART,
        what=f"{count:,} rows, service in {LATENCY * 1000:.0f} ms",
        beside="the arithmetic limit" if limit == arithmetic else "the machine's own limit",
        ours=rate(count, ours),
        theirs=f"{limit:,.0f} rows/s",
        ratio=ratio,
        target=f">= {REACH}",
        reached=ratio >= REACH,
        note=f"arithmetic limit {arithmetic:,.0f} rows/s; at most {most} requests were in flight",
    )


def _seconds(timings: list[Timing]) -> float:
    return middle([timing.seconds for timing in timings])


if __name__ == "__main__":
    main(measure)
