"""CPU that walvec uses while there is nothing to do, and while only tables it does not follow are written.

The second load is 1,000 commits/s of pgbench: each of them reaches walvec as an empty transaction. The
figure is the kernel's account of the walvec process, with the HTTP server on. What PostgreSQL's walsender
uses to decode for it stands beside.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import make_conninfo

from bench import rows
from bench.lab import Lab
from bench.load import pgbench
from bench.proc import cpu_seconds, server_cpu
from bench.report import Result, main, middle, side_by_side

RATE = 1_000  # commits/s
CLIENTS = 4
SETTLE = 3.0  # seconds after the start that are not counted
TARGETS = (("idle", 0.01), (f"{RATE:,} commits/s to unpublished tables", 0.1))  # of a core

_OTHER = "CREATE TABLE other (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text)"


@dataclass(frozen=True, slots=True)
class Use:
    """Shares of a core."""

    walvec: float
    walsender: float


def measure(lab: Lab) -> list[Result]:
    """Watch one walvec without and with the load, in turn."""
    seconds = lab.pick(20.0, 2.0)
    dsn = lab.database("idle")
    # No flush for each commit, so that a slow disk does not hold the rate down.
    others = make_conninfo(dsn, options="-c synchronous_commit=off")
    with psycopg.connect(dsn, autocommit=True) as application, lab.service() as service:
        rows.create(application)
        rows.fill(application, 1_000)
        application.execute(_OTHER)
        sidecar = lab.sidecar(dsn, rows.TABLE, service=service, listen="127.0.0.1:0")
        sidecar.setup()
        process = sidecar.start()
        sidecar.caught_up(application)
        time.sleep(SETTLE)
        rates: list[float] = []

        def load() -> None:
            rates.append(pgbench(others, ["other"], seconds=seconds, clients=CLIENTS, rate=RATE).rate)

        uses = side_by_side(
            lab.rounds,
            lambda: _use(dsn, process.pid, lambda: time.sleep(seconds)),
            lambda: _use(dsn, process.pid, load),
        )
        sidecar.stop()
    notes = "", f"{middle(rates):,.0f} commits/s were made"
    return [
        _result(what, allowed, use, note)
        for (what, allowed), use, note in zip(TARGETS, uses, notes, strict=True)
    ]


def _use(dsn: str, pid: int, run: Callable[[], None]) -> Use:
    """Return the shares of a core that were used while something ran."""
    with server_cpu(dsn) as server:
        began, used = time.perf_counter(), cpu_seconds(pid)
        run()
        seconds = time.perf_counter() - began
        used = cpu_seconds(pid) - used
    return Use(used / seconds, server.get("walsender", 0.0) / seconds)


def _result(what: str, allowed: float, uses: list[Use], note: str) -> Result:
    walvec, walsender = (middle([getattr(use, name) for use in uses]) for name in ("walvec", "walsender"))
    return Result(
        part="idle",
        what=f"CPU of walvec, {what}",
        beside="the walsender",
        ours=_percent(walvec),
        theirs=_percent(walsender),
        ratio=walvec / allowed,
        target=f"< {allowed:.0%} of a core",
        reached=walvec < allowed,
        note=note,
    )


def _percent(share: float) -> str:
    return f"{share:.2%}"


if __name__ == "__main__":
    main(measure)
