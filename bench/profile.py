"""Where the CPU goes while 100,000 rows are embedded, by the stream and by a backfill: the largest costs.

Each is run three times over: by itself, for the CPU of every process that takes part (walvec, PostgreSQL's
sessions by whom they serve, the service), and twice under py-spy, for the shares of walvec's own stages and
for a flame graph, `.local/bench/flame-stream.svg` and `flame-backfill.svg`. What a stage costs in walvec and
in the processes that work for it is added up. With few cores the machine's CPU is the limit, so these are
the costs that bound the rate.
"""

import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import orjson
import psycopg

from bench import rows
from bench.child import Timing
from bench.lab import Lab
from bench.proc import server_cpu
from bench.report import Result, Skipped, directory, main
from bench.service import Service
from bench.sidecar import WALVEC, Sidecar
from bench.stacks import OTHER, Share, shares

SAMPLES = 250  # a second
LARGEST = 3
TRANSACTION = 10_000  # rows

Kind = Literal["stream", "backfill"]

# Which stage a session of PostgreSQL works for, by its application_name or what it is.
_SESSIONS = {
    "walvec stream": "read",
    "walsender": "read",
    "walvec evaluate": "evaluate",
    "walvec lookup": "look-up",
    "walvec backfill": "backfill",
    "walvec write": "write",
    "walwriter": "write",
    "background writer": "write",
    "checkpointer": "write",
}

_LIFTS = {
    "read": "PostgreSQL decodes WAL and prints JSON: a leaner output plugin (pgoutput) would lift it.",
    "decode": "JSON becomes messages: a binary format, or decoding outside of Python, would lift it.",
    "plan and order": "Python's work on each row: planning batches of rows at once would lift it.",
    "evaluate": "Rows go to PostgreSQL as texts and come back as one: an expression that is a plain column "
    "could be taken from the image.",
    "chunk and hash": "A text is cut and hashed in compiled code, in a loop of Python's.",
    "look-up": "Hashes are compared with the target's: an empty target needs no look-up.",
    "embed": "HTTP, JSON and base64 on both sides: larger requests and a leaner client would lift it.",
    "write": "Vectors go by COPY into a staging table, from there into the target, and into the WAL: "
    "halfvec would halve the bytes.",
    "backfill": "Rows are read in key order: larger steps would lift it.",
    "event loop": "asyncio between the stages: uvloop would lift part of it.",
    "start-up": "Imports and connecting, once a process: it weighs less the more rows there are.",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of one stage."""

    stage: str
    walvec: float  # seconds in walvec
    others: float  # seconds in the processes that work for it

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self.walvec + self.others


@dataclass(frozen=True, slots=True)
class Account:
    """A run by itself."""

    timing: Timing
    processes: dict[str, float]  # CPU seconds of the others, by what they are


def measure(lab: Lab) -> list[Result]:
    """Run both kinds, and save what is known of each."""
    count = lab.pick(100_000, 3_000)
    known: dict[str, object] = {}
    results: list[Result] = []
    with lab.service() as service:
        kinds: tuple[Kind, ...] = ("stream", "backfill")
        for kind in kinds:
            account, stages = _run(kind, lab, service, count)
            costs = _costs(account, stages)
            known[kind] = _known(count, account, stages, costs)
            results += _results(kind, count, costs)
    (_place(lab) / "profile-stages.json").write_bytes(orjson.dumps(known, option=orjson.OPT_INDENT_2))
    return results


def _run(kind: Kind, lab: Lab, service: Service, count: int) -> tuple[Account, list[Share]]:
    """Do the same work three times."""
    sidecar = _prepare(kind, lab, service, count)
    busy = service.busy
    with server_cpu(sidecar.dsn) as server:
        timing = sidecar.once()
    account = Account(timing, {**server, "service": service.busy - busy})
    raw, graph = _place(lab) / f"stacks-{kind}.txt", _place(lab) / f"flame-{kind}.svg"
    for form, path in (("raw", raw), ("flamegraph", graph)):
        _spy(_prepare(kind, lab, service, count), form, path)
    return account, shares(raw.read_text(encoding="utf-8").splitlines())


def _place(lab: Lab) -> Path:
    """Return where what is found is kept."""
    place = directory() / "quick" if lab.quick else directory()
    place.mkdir(exist_ok=True)
    return place


def _prepare(kind: Kind, lab: Lab, service: Service, count: int) -> Sidecar:
    """Make a walvec with rows that are to be embedded: they wait in the slot, or stand in the table."""
    dsn = lab.database("profile")
    sidecar = lab.sidecar(dsn, rows.TABLE, service=service)
    with psycopg.connect(dsn, autocommit=True) as admin:
        rows.create(admin)
        if kind == "stream":
            sidecar.setup()
            sidecar.once()
        for first in range(1, count + 1, TRANSACTION):
            rows.fill(admin, min(TRANSACTION, count - first + 1), first=first)
        if kind == "backfill":
            sidecar.setup()
        admin.execute("CHECKPOINT")
    return sidecar


def _spy(sidecar: Sidecar, form: str, path: Path) -> None:
    """Run walvec to the end of its work under py-spy."""
    spy = Path(sys.executable).with_name("py-spy")
    recording = ["record", "--format", form, "--rate", str(SAMPLES), "--output", str(path), "--function"]
    with sidecar.log.open("wb") as log:
        code = subprocess.run(
            [spy, *recording, "--", sys.executable, WALVEC, "run", "--once"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "WALVEC_CONFIG": str(sidecar.config)},
            check=False,
        ).returncode
    if code:  # walvec by itself has just done the same
        raise Skipped(
            f"py-spy cannot record walvec here, see {sidecar.log.name} of {sidecar.log.parent.name}"
        )


def _costs(account: Account, stages: list[Share]) -> list[Cost]:
    """Add up what each stage costs in all processes; the largest first."""
    walvec: dict[str, float] = defaultdict(float)
    others: dict[str, float] = defaultdict(float)
    for share in stages:
        walvec[share.stage] += share.own * account.timing.cpu_seconds
    for name, seconds in account.processes.items():
        others["embed" if name == "service" else _SESSIONS.get(name, OTHER)] += seconds
    costs = [Cost(stage, walvec[stage], others[stage]) for stage in walvec.keys() | others.keys()]
    return sorted(costs, key=lambda cost: cost.total, reverse=True)


def _known(count: int, account: Account, stages: list[Share], costs: list[Cost]) -> dict[str, object]:
    return {
        "rows": count,
        "seconds": account.timing.seconds,
        "cores": os.cpu_count(),
        "cpu_seconds": {"walvec": account.timing.cpu_seconds, **account.processes},
        "walvec_stages": [asdict(share) for share in stages],
        "costs": [asdict(cost) for cost in costs],
    }


def _results(kind: Kind, count: int, costs: list[Cost]) -> list[Result]:
    total = sum(cost.total for cost in costs)

    def a_row(seconds: float) -> str:
        return f"{seconds / count * 1e6:.0f} us"

    return [
        Result(
            part="profile",
            what=f"{kind}: {cost.stage}",
            beside="all CPU, a row",
            ours=f"{cost.total / total:.0%} of all CPU, {a_row(cost.walvec)} a row in walvec and "
            f"{a_row(cost.others)} in the processes that work for it",
            theirs=a_row(total),
            ratio=cost.total / total,
            target="",
            reached=True,
            note=_LIFTS.get(cost.stage, ""),
        )
        for cost in costs[:LARGEST]
    ]


if __name__ == "__main__":
    main(measure)
