"""What Linux's account says of processes: CPU time and peak memory, of walvec and of those who work for it.

https://man7.org/linux/man-pages/man5/proc.5.html
"""

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

INTERVAL = 0.1  # seconds between two looks at the server's processes

_TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
_SESSIONS = """
SELECT pid, CASE WHEN backend_type = 'client backend' THEN application_name ELSE backend_type END
FROM pg_stat_activity
WHERE pid <> pg_backend_pid()
"""


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process, all its threads, has used so far."""
    # The name, in parentheses, may hold anything; utime and stime are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def peak_rss_bytes(pid: int) -> int:
    """Return the most memory that a process has held so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@contextmanager
def server_cpu(dsn: str) -> Iterator[Mapping[str, float]]:
    """Give the CPU seconds of the server's processes over a block, by what they are; complete at its end.

    A client's session is called by its application_name. What a process uses after the last look before its
    end is missed. Empty where the server's processes are not this machine's.
    """
    used: dict[str, float] = defaultdict(float)
    stop = threading.Event()
    with psycopg.connect(dsn, autocommit=True, application_name="bench") as connection:
        watcher = threading.Thread(target=_watch, args=(connection, used, stop.wait), daemon=True)
        watcher.start()
        try:
            yield used
        finally:
            stop.set()
            watcher.join()


def _watch(connection: psycopg.Connection, used: dict[str, float], wait: Callable[[float], bool]) -> None:
    """Add up what every process has used since it was seen first, or since it began."""
    last: dict[int, float] = {}
    for pid, _ in connection.execute(_SESSIONS).fetchall():
        last[pid] = _cpu_or(pid, 0.0)
    while True:
        ended = wait(INTERVAL)
        for pid, name in connection.execute(_SESSIONS).fetchall():
            now = _cpu_or(pid, last.get(pid, 0.0))
            used[name] += now - last.get(pid, 0.0)
            last[pid] = now
        if ended:
            return


def _cpu_or(pid: int, otherwise: float) -> float:
    try:
        return cpu_seconds(pid)
    except FileNotFoundError:
        return otherwise
