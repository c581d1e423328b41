"""Start-up to streaming: from the process's start until the stream is started, beside `python -c pass`.

walvec logs `streaming` once it is attached: the slot is active, and all its sessions stand. Its log is read
from a pipe as it comes. Everything is in step already, so nothing else is done meanwhile. The second line is
what `walvec --version` takes, a command that needs neither settings nor a server.
"""

import os
import subprocess
import sys
import time

import psycopg

from bench import rows
from bench.lab import Lab
from bench.report import BenchFailed, Result, main, middle
from bench.sidecar import WALVEC, Sidecar

TARGET = 0.6  # seconds more than Python's own start
ROUNDS = 7  # starts a round: one takes less than a second, and the first ones read files


def measure(lab: Lab) -> list[Result]:
    """Start each of them again and again, in turn."""
    dsn = lab.database("startup")
    with psycopg.connect(dsn, autocommit=True) as application, lab.service() as service:
        rows.create(application)
        rows.fill(application, 100)
        sidecar = lab.sidecar(dsn, rows.TABLE, service=service, listen="127.0.0.1:0")
        sidecar.setup()
        sidecar.once()
        _seconds_to_streaming(sidecar)
        streaming: list[float] = []
        version: list[float] = []
        python: list[float] = []
        for _ in range(lab.rounds * lab.pick(ROUNDS, 1)):
            streaming.append(_seconds_to_streaming(sidecar))
            version.append(_seconds([str(WALVEC), "--version"]))
            python.append(_seconds([sys.executable, "-c", "pass"]))
    bare = middle(python)
    named = (
        ("start-up to streaming", middle(streaming), TARGET),
        ("walvec --version", middle(version), None),
    )
    return [_result(what, seconds, bare, allowed) for what, seconds, allowed in named]


def _seconds(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def _seconds_to_streaming(sidecar: Sidecar) -> float:
    """Start a walvec, stop it once it streams, and return how long that took it."""
    environment = {**os.environ, "WALVEC_CONFIG": str(sidecar.config)}
    began = time.perf_counter()
    process = subprocess.Popen(
        [WALVEC, "run"], stderr=subprocess.PIPE, env=environment, start_new_session=True
    )
    assert process.stderr is not None
    try:
        with process.stderr as log:
            for line in log:
                if b'"stream.attached"' in line:
                    seconds = time.perf_counter() - began
                    break
            else:
                raise BenchFailed("walvec run ends before it streams")
            process.terminate()
            log.read()
    finally:
        process.terminate()
        process.wait()
    return seconds


def _result(what: str, seconds: float, bare: float, allowed: float | None) -> Result:
    return Result(
        part="startup",
        what=what,
        beside="python -c pass",
        ours=f"{seconds:.3f} s",
        theirs=f"{bare:.3f} s",
        ratio=seconds / bare,
        target=f"<= {allowed} s more" if allowed else "",
        reached=allowed is None or seconds - bare <= allowed,
        note=f"{seconds - bare:.3f} s more",
    )


if __name__ == "__main__":
    main(measure)
