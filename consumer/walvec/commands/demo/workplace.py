"""The folder of a demo's processes, and the watchdog that clears it away.

The watchdog holds the folder's lock as well: a folder whose lock is free has lost both, as after a power
failure, and the next demo clears it.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from walvec.commands.demo import watchdog

FOLDER_PREFIX: Final = "walvec-demo-"
LOCK: Final = "lock"
# Bytes of a path, below which a socket's path stays within the 104 that systems allow.
LONGEST: Final = 60

_PR_SET_PDEATHSIG: Final = 1  # <sys/prctl.h>


class Workplace:
    """A folder with its watchdog."""

    def __init__(self, folder: Path, guard: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._guard = guard

    def keep(self) -> int:
        """Let all of it stay, and return the watchdog's process id.

        On SIGTERM the watchdog clears it away.
        """
        assert self._guard.stdin is not None
        self._guard.stdin.write(watchdog.KEEP)
        self._guard.stdin.close()
        return self._guard.pid

    def clear(self) -> None:
        """End what runs in the folder and remove it, unless it is kept."""
        assert self._guard.stdin is not None
        if not self._guard.stdin.closed:
            self._guard.stdin.close()
            self._guard.wait()


@contextmanager
def open_workplace() -> Iterator[Workplace]:
    """Make a folder that is cleared at the end, whatever ends this process.

    Only its owner can list it.
    """
    above = _temporary()
    _clear_abandoned(above)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=above))
    # PostgreSQL may be another user, who has to pass through.
    folder.chmod(0o711)
    lock = os.open(folder / LOCK, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            pass_fds=[lock],
        )
        place = Workplace(folder, guard)
        try:
            yield place
        finally:
            place.clear()
    finally:
        os.close(lock)


def _temporary() -> Path:
    """Return the system's folder for temporary files; /tmp where that will not do.

    A socket's path may grow too long in it, or the user that PostgreSQL has in root's place may not pass.
    """
    usual = Path(tempfile.gettempdir())
    passable = os.geteuid() != 0 or all(above.stat().st_mode & 0o001 for above in (usual, *usual.parents))
    return usual if passable and len(os.fsencode(usual)) <= LONGEST else Path("/tmp")


def _clear_abandoned(above: Path) -> None:
    """Clear what this user's earlier demos left.

    Only where neither they nor their watchdogs are alive.
    """
    for folder in above.glob(f"{FOLDER_PREFIX}*/"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            with (folder / LOCK).open("r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        watchdog.clear(folder)


def die_with_this(sent: signal.Signals) -> Callable[[], None] | None:
    """Return what makes a child get this signal when its parent dies.

    The child calls it before it becomes another program.

    Linux alone has that; None elsewhere, where the watchdog has to do.
    """
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(sent), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask
