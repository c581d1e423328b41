"""A process that is measured: started, waited for, ended, and what it took."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import BenchFailed

LIMIT = 1200.0  # seconds after which what is waited for will not come any more
LOOK_INTERVAL = 0.002  # seconds
STOP_LIMIT = 40.0  # seconds; walvec takes at most 30 to finish what is in flight


@dataclass(frozen=True)
class Timing:
    """What a process took, from its start to its end."""

    seconds: float
    cpu_seconds: float
    # By the kernel's account, which begins with what the parent held: keep rows out of this process.
    peak_rss_bytes: int


def wait_for(process: subprocess.Popen[Any], began: float) -> Timing:
    """Wait for a child's end; `began` is the time.perf_counter() of its start."""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    scale = 1 if sys.platform == "darwin" else 1024
    return Timing(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale)


def until(
    condition: Callable[[], object], what: str, *, limit: float = LIMIT, interval: float = LOOK_INTERVAL
) -> float:
    """Ask again and again until it is so; return the seconds that took."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > limit:
            raise BenchFailed(f"not within {limit:.0f} s: {what}")
        time.sleep(interval)
    return time.perf_counter() - began


class Child:
    """One process at a time of a program called `name`; what it prints goes to `log`."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self._began = 0.0

    def start(self, words: Sequence[str | Path], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start it in the log's directory; the log begins anew."""
        if self.process is not None:
            raise BenchFailed(f"this {self.name} runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._began = time.perf_counter()
            self.process = subprocess.Popen(
                words,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the suite, which then stops it in order
            )
        return self.process

    def finish(self) -> Timing:
        """Wait for its end. Raises BenchFailed unless that is a good one."""
        process = self.process
        assert process is not None
        timing = wait_for(process, self._began)
        self.process = None
        if process.returncode:
            raise BenchFailed(f"{self.name} ended with exit code {process.returncode}; see {self.log}")
        return timing

    def stop(self) -> Timing:
        """Stop it in order; what it took from its start."""
        assert self.process is not None
        self.process.terminate()
        return self.finish()

    def end(self) -> None:
        """End it if it still runs, however that goes."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def lives(self) -> bool:
        """Return True, to be asked while something is waited for. Raises BenchFailed once it has ended."""
        if self.process is None or self.process.poll() is not None:
            raise BenchFailed(f"{self.name} has ended; see {self.log}")
        return True
