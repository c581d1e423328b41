"""Clears away what a demo leaves, however the demo ended.

    python -I -S watchdog.py FOLDER

Its stdin is a pipe whose other end only the demo holds. When the demo is gone, by itself or by `kill -9`, the
pipe ends: walvec and PostgreSQL are stopped and the folder is removed. If the demo wrote "keep", all of it
stays until this process gets SIGTERM.

A process is signalled only if its command line names the folder: its id may be another one's by now. Of
imports it has the standard library alone, so that it starts at once.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

KEEP = b"keep"
SIDECAR_PID = "walvec.pid"
POSTMASTER_PID = "postgres/data/postmaster.pid"

# Seconds for a process to heed a signal.
_PATIENCE = 10.0
_INTERVAL = 0.01  # seconds between two looks

# The gentlest first; PostgreSQL's are its fast and its immediate shutdown.
_SIGNALS = {
    SIDECAR_PID: (signal.SIGTERM, signal.SIGKILL),
    POSTMASTER_PID: (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL),
}


def watch_over(folder: Path) -> None:
    """Wait until the demo is gone, and clear the folder.

    A demo that is kept is gone when this process gets SIGTERM.
    """
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if sys.stdin.buffer.read() == KEEP:
        signal.sigwait({signal.SIGTERM})
    clear(folder)


def clear(folder: Path) -> None:
    """End the processes whose ids the folder holds, and remove it."""
    for name, signals in _SIGNALS.items():
        try:
            pid = int((folder / name).read_text(encoding="utf-8").split()[0])
        except (OSError, ValueError, IndexError):
            continue
        _end(pid, str(folder), signals)
    # An initdb that was killed may be about to write one more file.
    deadline = time.monotonic() + _PATIENCE
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_INTERVAL)


def _end(pid: int, name: str, signals: tuple[signal.Signals, ...]) -> None:
    for each in signals:
        deadline = time.monotonic() + _PATIENCE
        if name not in command_line(pid):
            return
        os.kill(pid, each)
        while name in command_line(pid) and time.monotonic() < deadline:
            time.sleep(_INTERVAL)


def command_line(pid: int) -> str:
    """Return a process's command line; "" where it has ended."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            return ""
    ps = ["ps", "-o", "args=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    watch_over(Path(sys.argv[1]))
