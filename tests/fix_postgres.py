"""PostgreSQL for the tests: a private cluster for the session, a fresh database for each test that asks.

`WALVEC_TEST_DSN` names a server to use instead (a superuser's connection string): it must have wal2json and
pgvector, and `wal_level = logical`. Tests that stop, kill or reconfigure a server take `cluster`, which is
always one of their own.
"""

import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

CHECKOUT = Path(__file__).parent.parent
SCRIPT = CHECKOUT / "compose/local/cluster.sh"
SLOT_RELEASE_TIMEOUT = 10.0  # seconds for a killed walsender to let go of its slot

StopMode = Literal["smart", "fast", "immediate"]


class Cluster:
    """A PostgreSQL server of the tests' own, without fsync: it survives its own crash, not the machine's.

    `programs` is the directory of the programs that make it, one that `programs_of` gave; None for those of
    `make postgres`.
    """

    def __init__(self, name: str, programs: Path | None = None) -> None:
        self.name = name
        self._programs = programs
        self._altered: set[str] = set()
        self._databases: list[str] = []
        self._run("up", "fsync=off")
        self._dsn = self._run("dsn")

    def _run(self, command: str, *arguments: str) -> str:
        result = subprocess.run(
            [SCRIPT, command, self.name, *arguments],
            env=os.environ | ({"WALVEC_PROGRAMS": str(self._programs)} if self._programs else {}),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if result.returncode:
            pytest.fail(f"cluster.sh {command} {self.name}: exit code {result.returncode}", pytrace=False)
        return result.stdout.strip()

    def dsn(self, dbname: str = "postgres") -> str:
        """Give the superuser's connection string to one of the cluster's databases."""
        return make_conninfo(self._dsn, dbname=dbname)

    @property
    def pid(self) -> int:
        """The running postmaster's process id."""
        return int(self._run("pid"))

    def start(self) -> None:
        """Start the server if it is down, and wait until it answers."""
        self._run("up")

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server; `immediate` is a crash, with recovery at the next start."""
        self._run("down", mode)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start the server, on the same port."""
        self.stop(mode)
        self.start()

    def set(self, name: str, value: str) -> None:
        """Change a setting for good (ALTER SYSTEM and reload), and wait until new sessions have it.

        Some take effect at the next restart only.
        """
        self._altered.add(name)
        self._alter(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))

    def create_database(self) -> str:
        """Create a database and give its connection string."""
        name = _own_name("walvec-test")
        with psycopg.connect(self.dsn(), autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self._databases.append(name)
        return self.dsn(name)

    def restore(self) -> None:
        """Let it run as it was made: the settings that were changed, the databases with their slots."""
        self.start()
        while self._altered:
            self._alter(sql.SQL("RESET {}").format(sql.Identifier(self._altered.pop())))
        with psycopg.connect(self.dsn(), autocommit=True) as admin:
            while self._databases:
                drop_database(admin, self._databases.pop())

    def _alter(self, what: sql.Composable) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER SYSTEM {}").format(what))
            ((reloaded_at, _),) = connection.execute("SELECT clock_timestamp(), pg_reload_conf()").fetchall()
        while not self._was_loaded_since(reloaded_at):
            time.sleep(0.005)

    def _was_loaded_since(self, moment: datetime) -> bool:
        """Whether a session that begins now has the settings that were in force then, or newer ones."""
        with psycopg.connect(self.dsn()) as connection:
            loaded = connection.execute("SELECT pg_conf_load_time() >= %s", [moment]).fetchone()
        return loaded == (True,)

    def drop(self) -> None:
        """Stop the server and remove its files."""
        self._run("drop")


_numbers = itertools.count()


def _own_name(kind: str) -> str:
    """Make a name that no other session of tests, at work at the same time, makes too."""
    return f"{kind}-{os.getpid()}-{next(_numbers)}"


def _drop_abandoned_clusters() -> None:
    """Remove what sessions that were killed left behind."""
    for path in (CHECKOUT / ".local/clusters").glob("test-*-*/"):
        try:
            os.kill(int(path.name.split("-")[1]), 0)
        except ProcessLookupError:
            subprocess.run([SCRIPT, "drop", path.name], check=False)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Give the connection string of a superuser on the session's server."""
    if given := os.environ.get("WALVEC_TEST_DSN"):
        yield given
        return
    _drop_abandoned_clusters()
    own = Cluster(_own_name("test"))
    yield own.dsn()
    own.drop()


@contextmanager
def own_cluster() -> Iterator[Cluster]:
    """Give a server of the test's own (about a second to make), and remove it."""
    if "WALVEC_TEST_DSN" in os.environ and not (CHECKOUT / ".local/postgres.done").exists():
        pytest.skip("WALVEC_TEST_DSN is not ours to stop, and `make postgres` has not made a server that is")
    own = Cluster(_own_name("test"))
    yield own
    own.drop()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Give a server that the test may stop, kill and reconfigure."""
    with own_cluster() as own:
        yield own


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """Give the name of a database with pgvector, to copy from: quicker than CREATE EXTENSION."""
    name = _own_name("walvec-template")
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with psycopg.connect(make_conninfo(server, dbname=name), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
    yield name
    with psycopg.connect(server, autocommit=True) as admin:
        drop_database(admin, name)


@contextmanager
def databases(server: str, template: str) -> Iterator[Callable[[], str]]:
    """Give a function that makes a fresh database with pgvector and returns its connection string.

    They are dropped at the end, with their slots.
    """
    made: list[str] = []
    with psycopg.connect(server, autocommit=True) as admin:

        def create() -> str:
            name = _own_name("walvec-test")
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
            made.append(name)
            return make_conninfo(server, dbname=name)

        yield create
        for name in made:
            drop_database(admin, name)


@pytest.fixture
def create_database(server: str, template: str) -> Iterator[Callable[[], str]]:
    """Give a function that makes a fresh database for the test."""
    with databases(server, template) as create:
        yield create


@pytest.fixture
def database(create_database: Callable[[], str]) -> str:
    """Give the connection string of a fresh database with pgvector; its slots are dropped with it."""
    return create_database()


@pytest.fixture
def source(database: str) -> Iterator[psycopg.Connection]:
    """Give an autocommit connection to `database`, as the application that writes there."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def drop_database(admin: psycopg.Connection, name: str) -> None:
    """Drop a database with its slots, whoever still uses them."""
    deadline = time.monotonic() + SLOT_RELEASE_TIMEOUT
    while slots := admin.execute(
        "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s", [name]
    ).fetchall():
        for slot, active_pid in slots:
            try:
                if active_pid is not None:
                    admin.execute("SELECT pg_terminate_backend(%s)", [active_pid])
                admin.execute("SELECT pg_drop_replication_slot(%s)", [slot])
            except (psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
                assert time.monotonic() < deadline, f"the slot {slot} is not let go of"
                time.sleep(0.01)
    admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
