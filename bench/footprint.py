"""The application's own latency with walvec at work, beside the same without a slot.

pgbench inserts rows into the followed table and updates texts in it, at half of the rate that it reaches
there without a slot. With a rate given, pgbench counts latency from when a transaction was due, waiting for
a free session included; the second line counts from when it began. Turn by turn the table is made anew, with
a slot and a walvec in step, or with neither; the figures are the medians of the turns' means. Application,
PostgreSQL, target, walvec and the embedding service share the cores of one machine, which is as bad as it
gets.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from bench import rows
from bench.lab import Lab
from bench.load import Load, pgbench
from bench.proc import cpu_seconds, server_cpu
from bench.report import Result, main, middle, side_by_side
from bench.sidecar import Sidecar

TARGET = 0.05  # of the mean latency
TURNS = 3  # a round, of each side
SERVICE_LATENCY = 0.02  # seconds
CLIENTS = 4
SCRIPTS = ("insert", "update")

_SEQUENCE = "CREATE SEQUENCE doc_ids START WITH 1000000"  # past the rows that are there


@dataclass(frozen=True, slots=True)
class Turn:
    """What a run of the load took, with walvec and without."""

    load: Load
    walvec: float = 0.0  # cores that it used
    walsender: float = 0.0  # likewise
    behind: float = 0.0  # seconds that walvec needed afterwards to catch up


class Application:
    """The table, and the load on it."""

    def __init__(self, admin: psycopg.Connection[Any], dsn: str, *, there: int, seconds: float) -> None:
        """Load a table that holds `there` rows to begin with, for so many seconds at a time."""
        self._admin = admin
        self._dsn = dsn
        self._there = there
        self._seconds = seconds
        admin.execute(_SEQUENCE)

    def highest_rate(self) -> float:
        """Return how many transactions a second there can be."""
        self._renew()
        return self._load(0.0).rate

    def alone(self, rate: float) -> Turn:
        """Run the load without a slot."""
        self._renew()
        return Turn(self._load(rate))

    def followed(self, rate: float, sidecar: Sidecar) -> Turn:
        """Run the load with a walvec in step."""
        self._renew()
        sidecar.setup()
        process = sidecar.start()
        sidecar.caught_up(self._admin)
        with server_cpu(self._dsn) as server:
            used = cpu_seconds(process.pid)
            load = self._load(rate)
            used = cpu_seconds(process.pid) - used
        behind = sidecar.caught_up(self._admin)
        sidecar.stop()
        sidecar.teardown()
        return Turn(load, used / self._seconds, server.get("walsender", 0.0) / self._seconds, behind)

    def _renew(self) -> None:
        """Make the table anew, and leave no work of its making for later."""
        self._admin.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(rows.TABLE)))
        rows.create(self._admin)
        rows.fill(self._admin, self._there)
        self._admin.execute("CHECKPOINT")

    def _load(self, rate: float) -> Load:
        there = {"rows": self._there}
        return pgbench(self._dsn, SCRIPTS, seconds=self._seconds, clients=CLIENTS, rate=rate, variables=there)


def measure(lab: Lab) -> list[Result]:
    """Find the highest rate, then load the table at half of it, with walvec and without in turn."""
    dsn = lab.database("footprint")
    with psycopg.connect(dsn, autocommit=True) as admin, lab.service(latency=SERVICE_LATENCY) as service:
        application = Application(admin, dsn, there=lab.pick(20_000, 500), seconds=lab.pick(10.0, 2.0))
        sidecar = lab.sidecar(dsn, rows.TABLE, service=service)
        rate = application.highest_rate() / 2
        followed, alone = side_by_side(
            lab.rounds * lab.pick(TURNS, 1),
            lambda: application.followed(rate, sidecar),
            lambda: application.alone(rate),
        )
    return _results(rate, followed, alone)


def _results(rate: float, followed: list[Turn], alone: list[Turn]) -> list[Result]:
    at_rate = f"mean latency of pgbench at {rate:,.0f} transactions/s, half of its highest rate"
    walvec, walsender, behind = (
        middle([getattr(turn, name) for turn in followed]) for name in ("walvec", "walsender", "behind")
    )
    note = (
        f"meanwhile walvec used {walvec:.2f} cores and the walsender {walsender:.2f}; {behind:.1f} s after "
        "the last transaction all were embedded"
    )
    due = [[turn.load.latency for turn in turns] for turns in (followed, alone)]
    begun = [[turn.load.latency - turn.load.lag for turn in turns] for turns in (followed, alone)]
    return [
        _result(at_rate, *map(middle, due), allowed=1 + TARGET, note=note),
        _result("the same from when each began", *map(middle, begun), allowed=None),
    ]


def _result(what: str, ours: float, theirs: float, *, allowed: float | None, note: str = "") -> Result:
    return Result(
        part="footprint",
        what=what,
        beside="the same without a slot",
        ours=f"{ours * 1000:.3f} ms",
        theirs=f"{theirs * 1000:.3f} ms",
        ratio=ours / theirs,
        target=f"<= {allowed:.2f}" if allowed else "",
        reached=allowed is None or ours <= theirs * allowed,
        note=note,
    )


if __name__ == "__main__":
    main(measure)
