"""An application's load: pgbench with scripts of its own, and what it says of itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import programs
from bench.report import BenchFailed

_SCRIPTS = Path(__file__).parent / "pgbench"
_LATENCY = re.compile(r"^latency average = ([0-9.]+) ms$", re.MULTILINE)
_RATE = re.compile(r"^tps = ([0-9.]+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Load:
    """What pgbench says it has done."""

    rate: float  # transactions a second
    latency: float  # seconds on average; with a rate given, from when each transaction was due


def pgbench(
    dsn: str,
    scripts: Sequence[str],
    *,
    seconds: float,
    clients: int,
    rate: float = 0.0,
    variables: Mapping[str, int] | None = None,
) -> Load:
    """Run scripts of `pgbench/`, each as often as the others, as fast as it goes or at so many a second."""
    arguments = [
        "--no-vacuum",
        "--protocol=prepared",
        f"--time={seconds:.0f}",
        f"--client={clients}",
        *(f"--file={_SCRIPTS / script}.sql" for script in scripts),
        *(f"--define={name}={value}" for name, value in (variables or {}).items()),
        *([f"--rate={rate:.0f}"] if rate else []),
        dsn,
    ]
    output = programs.run("pgbench", *arguments)
    latency, achieved = _LATENCY.search(output), _RATE.search(output)
    if latency is None or achieved is None:
        raise BenchFailed("pgbench says neither a latency nor a rate")
    return Load(float(achieved[1]), float(latency[1]) / 1000)
