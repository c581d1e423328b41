"""The place where all is measured: a private cluster, databases, embedding services and sidecars.

    with Lab() as lab:
        dsn = lab.database("stream")
        with lab.service(latency=0.05) as service:
            sidecar = lab.sidecar(dsn, "doc", service=service)
            sidecar.setup()
            timing = sidecar.once()

QUICK=1 asks for a small version that shows no more than that all parts work; ROUNDS= says how often each
side is measured. BENCH_DSN names a server to use in place of the private one (a superuser's way in).
"""

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Self, TypeVar

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bench import service
from bench.pgai import VERSION, Pgai
from bench.report import CHECKOUT, BenchFailed, directory, say
from bench.sidecar import Sidecar

CLUSTER = "bench"
SETTINGS = {  # production-like: fsync and synchronous_commit stay on
    "wal_level": "logical",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
}
RELEASE_LIMIT = 30.0  # seconds that a walsender may take to let go of its slot
RELEASE_INTERVAL = 0.02  # seconds between two tries
ROUNDS = 3

T = TypeVar("T")


class Lab:
    """The cluster, for the length of a block; all that was made or started there ends with it."""

    def __init__(self) -> None:
        self.quick = os.environ.get("QUICK", "") not in ("", "0")
        self.rounds = int(os.environ.get("ROUNDS") or (1 if self.quick else ROUNDS))
        self._made = ExitStack()
        self._databases: list[str] = []
        self._sidecars = 0

    def __enter__(self) -> Self:
        forget_settings()
        with ExitStack() as made:
            made.enter_context(_only_one())
            self._server = os.environ.get("BENCH_DSN") or _start_cluster()
            if "BENCH_DSN" not in os.environ:
                made.callback(_cluster, "down")
            made.callback(self._drop_databases)
            self._made = made.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()

    def pick(self, full: T, quick: T) -> T:
        """Choose a size: the real one, or the one of QUICK=1."""
        return quick if self.quick else full

    def dsn(self, dbname: str = "postgres") -> str:
        """Return the superuser's connection string to a database."""
        return make_conninfo(self._server, dbname=dbname)

    def database(self, name: str) -> str:
        """Make a fresh database with pgvector, in the place of one of that name; return its dsn."""
        full = f"bench_{name}"
        with psycopg.connect(self._server, autocommit=True) as admin:
            drop_database(admin, full)
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(full)))
        self._databases.append(full)
        with psycopg.connect(self.dsn(full), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
        return self.dsn(full)

    def service(self, dimensions: int = 384, latency: float = 0.0) -> AbstractContextManager[service.Service]:
        """Run an embedding service for the length of a block; `latency` in seconds."""
        return service.running(dimensions, latency)

    def sidecar(self, dsn: str, table: str, **settings: Any) -> Sidecar:
        """Make a walvec for a table, in a directory of its own; see `Sidecar` for the settings.

        It is stopped at the block's end at the latest.
        """
        self._sidecars += 1
        sidecar = Sidecar(directory() / f"sidecar-{self._sidecars}", dsn, table, **settings)
        self._made.callback(sidecar.end)
        return sidecar

    def pgai(self, dsn: str, table: str, **settings: Any) -> Pgai:
        """Make a pgai for a table; see `Pgai` for the settings. It is stopped like a sidecar."""
        pgai = Pgai(dsn, table, **settings)
        self._made.callback(pgai.end)
        return pgai

    def versions(self) -> dict[str, str]:
        """Return the versions of what was measured, by name."""
        with psycopg.connect(self._server) as admin:
            shown = """
                SELECT split_part(current_setting('server_version'), ' ', 1), default_version
                FROM pg_available_extensions WHERE name = 'vector'
            """
            ((server, vector),) = admin.execute(shown).fetchall()
        return {
            "PostgreSQL": server,
            "wal2json": _wal2json(server),
            "pgvector": vector,
            "psycopg": psycopg.__version__,
            "pgai": VERSION,
        }

    def _drop_databases(self) -> None:
        with psycopg.connect(self._server, autocommit=True) as admin:
            for name in self._databases:
                drop_database(admin, name)


def _wal2json(server: str) -> str:
    """Return the plugin's version by its package: the plugin itself tells none."""
    package = f"postgresql-{server.partition('.')[0]}-wal2json"
    words = ["dpkg-query", "--show", "--showformat=${Version}", package]
    try:
        result = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not told"
    return result.stdout or "not told"


def forget_settings() -> None:
    """Drop what is meant for the user's own walvec and PostgreSQL."""
    for name in list(os.environ):
        if name.startswith(("WALVEC_", "PG")):
            del os.environ[name]


def drop_database(admin: psycopg.Connection[Any], name: str) -> None:
    """Drop a database with its slots, if it is there, whoever still uses them."""
    deadline = time.monotonic() + RELEASE_LIMIT
    while slots := admin.execute(
        "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s", [name]
    ).fetchall():
        for slot, active_pid in slots:
            try:
                if active_pid is not None:
                    admin.execute("SELECT pg_terminate_backend(%s)", [active_pid])
                admin.execute("SELECT pg_drop_replication_slot(%s)", [slot])
            except (psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
                if time.monotonic() > deadline:
                    raise BenchFailed(f"the slot {slot} is not let go of") from None
                time.sleep(RELEASE_INTERVAL)
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def _only_one() -> Iterator[None]:
    """Hold the directory: two at once would measure each other."""
    with (directory() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is measuring in this checkout; waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_cluster() -> str:
    """Start the cluster, made anew if its settings are others; return its superuser's dsn."""
    wanted = [f"{name}={value}" for name, value in SETTINGS.items()]
    marked = directory() / "settings"
    if not marked.exists() or marked.read_text(encoding="utf-8").split() != wanted:
        _cluster("drop")
    _cluster("up", *wanted)
    marked.write_text("\n".join(wanted), encoding="utf-8")
    return _cluster("dsn").strip()


def _cluster(command: str, *settings: str) -> str:
    script = CHECKOUT / "compose/local/cluster.sh"
    result = subprocess.run(
        [script, command, CLUSTER, *settings], stdout=subprocess.PIPE, text=True, check=False
    )
    if result.returncode:
        raise BenchFailed(f"compose/local/cluster.sh {command} {CLUSTER} failed, as said above")
    return result.stdout
