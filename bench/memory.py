"""One transaction of 300,000 rows: the most memory that walvec holds meanwhile.

walvec runs, in step, when the transaction commits; what it is sent is all in one piece for the slot, and has
to be worked off in parts. The figure is the kernel's for the process (VmHWM), from its start until all is
embedded; beside it stands what it held before.
"""

import psycopg

from bench import rows
from bench.lab import Lab
from bench.proc import peak_rss_bytes
from bench.report import Result, main, rate

LIMIT = 200_000_000  # bytes


def measure(lab: Lab) -> list[Result]:
    """Commit the transaction, and wait until it is embedded."""
    count = lab.pick(300_000, 10_000)
    dsn = lab.database("memory")
    with psycopg.connect(dsn, autocommit=True) as application, lab.service() as service:
        rows.create(application)
        sidecar = lab.sidecar(dsn, rows.TABLE, service=service)
        sidecar.setup()
        process = sidecar.start()
        sidecar.caught_up(application)
        before = peak_rss_bytes(process.pid)
        rows.fill(application, count)
        seconds = sidecar.caught_up(application)
        peak = peak_rss_bytes(process.pid)
        sidecar.stop()
    return [
        Result(
            part="memory",
            what=f"one transaction of {count:,} rows: peak RSS",
            beside="the same process before it",
            ours=_megabytes(peak),
            theirs=_megabytes(before),
            ratio=peak / before,
            target=f"<= {_megabytes(LIMIT)}",
            reached=peak <= LIMIT,
            note=f"embedded at {rate(count, seconds)} after its commit",
        )
    ]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


if __name__ == "__main__":
    main(measure)
