"""What a part hands in, how it is shown and where it is kept; and the way a part runs by itself."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NoReturn, TypeVar

import orjson
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from bench.lab import Lab

CHECKOUT = Path(__file__).parent.parent
WIDTH = 150  # columns of the table where there is no terminal
INTERRUPTED = 130  # exit code, as a shell gives for SIGINT

T = TypeVar("T")


class BenchFailed(Exception):
    """What went wrong, in one line."""


class Skipped(Exception):
    """Why a part cannot be measured on this machine, in one line; the others can."""


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    part: str
    what: str
    beside: str  # what it is compared with
    ours: str
    theirs: str
    ratio: float  # as the target counts it: ours to theirs, or theirs to ours
    target: str
    reached: bool
    note: str = ""


@dataclass(frozen=True)
class Record:
    """A part's results as they are saved, with how they came about."""

    part: str
    results: list[Result]
    skipped: str  # why there are none; empty: there are
    rounds: int
    quick: bool
    date: str
    commit: str


def directory() -> Path:
    """Return where results and scratch files lie; BENCH_DIRECTORY names another place."""
    path = Path(os.environ.get("BENCH_DIRECTORY", CHECKOUT / ".local/bench"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def say(words: str) -> None:
    """Tell on stderr what is being done."""
    print(words, file=sys.stderr, flush=True)


def side_by_side(rounds: int, *runs: Callable[[], T]) -> list[list[T]]:
    """Run all of them in turn, A B A B, and return each one's results of all rounds."""
    results: list[list[T]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, into in zip(runs, results, strict=True):
            into.append(run())
    return results


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return float(median(values))


def rate(rows: int, seconds: float) -> str:
    """Spell rows a second."""
    return f"{rows / seconds:,.0f} rows/s"


def run_part(part: str, measure: "Callable[[Lab], list[Result]]", lab: "Lab") -> Record:
    """Measure a part, show its table and save it."""
    say(f"-- {part}")
    results: list[Result] = []
    skipped = ""
    try:
        results = measure(lab)
    except Skipped as reason:
        skipped = str(reason)
        say(f"{part} is skipped: {skipped}")
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    record = Record(part, results, skipped, lab.rounds, lab.quick, now, commit())
    save(record)
    if results:
        show([record])
    return record


def save(record: Record) -> None:
    """Keep a part's results, in the place of its earlier ones; those of QUICK=1 beside the real ones."""
    text = orjson.dumps(asdict(record), option=orjson.OPT_INDENT_2)
    into = directory() / "quick" if record.quick else directory()
    into.mkdir(exist_ok=True)
    (into / f"{record.part}.json").write_bytes(text)


def saved(part: str) -> Record | None:
    """Return a part's results as they were saved last."""
    try:
        fields = orjson.loads((directory() / f"{part}.json").read_bytes())
    except FileNotFoundError:
        return None
    return Record(**fields | {"results": [Result(**each) for each in fields["results"]]})


def show(records: Sequence[Record]) -> None:
    """Print results as a table."""
    table = Table(show_edge=False, pad_edge=False)
    for title in ("part", "what", "walvec", "beside", "it", "ratio", "to reach", ""):
        table.add_column(title, justify="right" if title in ("walvec", "it", "ratio") else "left")
    for result in (each for record in records for each in record.results):
        table.add_row(
            result.part,
            result.what,
            result.ours,
            result.beside,
            result.theirs,
            f"{result.ratio:.2f}",
            result.target,
            ("yes" if result.reached else "[bold red]no[/]") if result.target else "",
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(table)


def commit() -> str:
    """Return walvec's commit, with a mark if the tree differs from it."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    result = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def machine() -> dict[str, str]:
    """Describe the machine, by what the page calls each thing."""
    return {
        "CPU": f"{_cpu()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Python": platform.python_version(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown")


def main(measure: "Callable[[Lab], list[Result]]") -> NoReturn:
    """Run one part by itself: the last lines of every part's module."""
    from bench.lab import Lab

    module = sys.modules[measure.__module__]
    part = Path(str(module.__file__)).stem

    def run() -> int:
        with Lab() as lab:
            run_part(part, measure, lab)
        return 0

    sys.exit(guarded(run))


def guarded(run: Callable[[], int]) -> int:
    """Run and return the exit code: SIGTERM and Ctrl-C unwind, and a failure becomes one line."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell lets what is in the background ignore SIGINT
        signal.signal(number, _interrupt)
    try:
        return run()
    except BenchFailed as failure:
        say(f"bench: {failure}")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
