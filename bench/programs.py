"""PostgreSQL's own programs: pgbench and pg_recvlogical."""

import shutil
import subprocess

from bench.report import CHECKOUT, BenchFailed, Skipped

_LIBRARIES = ("usr/lib/*-linux-gnu*", "lib/*-linux-gnu*")


def run(name: str, *arguments: str) -> str:
    """Run one of the programs to its end, and return what it printed."""
    process = start(name, *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = process.communicate()
    if process.returncode:
        raise BenchFailed(f"{name} ended with exit code {process.returncode}: {output.strip()[-500:]}")
    return output


def start(
    name: str, *arguments: str, stdout: int = subprocess.DEVNULL, stderr: int | None = None
) -> "subprocess.Popen[str]":
    """Start one of the programs: the private server's, or else the one on PATH.

    Raises Skipped where there is neither.
    """
    private = CHECKOUT / ".local/postgres"
    found = [*private.glob(f"usr/lib/postgresql/*/bin/{name}")]
    program = str(found[0]) if found else shutil.which(name)
    if program is None:
        raise Skipped(f"there is no {name} here: install PostgreSQL's client programs")
    libraries = [str(path) for pattern in _LIBRARIES for path in private.glob(pattern)]
    command = [program, *arguments]
    if found and libraries:  # unpacked packages: the libraries that came with them
        command = ["env", f"LD_LIBRARY_PATH={':'.join(libraries)}", *command]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True)
