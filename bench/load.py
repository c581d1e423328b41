"""An application's load: pgbench with scripts of its own, and what it says of itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import programs
from bench.report import BenchFailed

_SCRIPTS = Path(__file__).parent / "pgbench"
# One line a second; the lag is there where a rate is given.
_SECOND = re.compile(
    r"^progress: [0-9.]+ s, ([0-9.]+) tps, lat ([0-9.]+) ms .*?(?:lag ([0-9.]+) ms)?$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Load:
    """What pgbench says it has done, the first second left out, in which its sessions come up."""

    rate: float  # transactions a second
    latency: float  # seconds on average; with a rate given, from when each transaction was due
    lag: float  # seconds of that, on average, before it began


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
        "--progress=1",
        f"--time={seconds + 1:.0f}",
        f"--client={clients}",
        *(f"--file={_SCRIPTS / script}.sql" for script in scripts),
        *(f"--define={name}={value}" for name, value in (variables or {}).items()),
        *([f"--rate={rate:.0f}"] if rate else []),
        dsn,
    ]
    output = programs.run("pgbench", *arguments)
    found = [tuple(float(figure or 0) for figure in second) for second in _SECOND.findall(output)][1:]
    total = sum(rate for rate, _, _ in found)
    if not total:
        raise BenchFailed("pgbench says nothing of what it has done")
    latency, lag = (sum(second[0] * second[which] for second in found) / total for which in (1, 2))
    return Load(total / len(found), latency / 1000, lag / 1000)
