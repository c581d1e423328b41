"""A primary, a standby that can copy slots, and an application that keeps writing.

with failover_pair() as pair:
    pair.prepare()     slots are copied, and the stream waits for the standby
    pair.fail_over()   the primary crashes, the standby is promoted
    pair.dsn()         leads to the one that is the primary
"""

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.fix_postgres import Cluster
from tests.fix_process import until
from tests.fix_servers import programs_of, why_missing
from tests.fix_standby import Standby, either, standby_of

# A version of PostgreSQL with failover slots.
VERSION = 18
STANDBY_SLOT = "standby1"

_numbers = itertools.count()


@contextmanager
def cluster_of(version: int) -> Iterator[Cluster]:
    """Give a server of that version, and remove it. Skips if the machine has none."""
    if missing := why_missing(version):
        pytest.skip(missing)
    own = Cluster(f"test-{os.getpid()}-failover-{next(_numbers)}", programs_of(version))
    yield own
    own.drop()


@dataclass
class Pair:
    """A primary and its standby, with one database of the test's own on both."""

    primary: Cluster
    standby: Standby
    database: str

    def dsn(self) -> str:
        """Give a connection string that leads to the one that is the primary."""
        both = either(self.primary.dsn(self.database), self.primary, self.standby)
        return make_conninfo(both, target_session_attrs="primary", connect_timeout=2)

    def follow_by_slot(self) -> None:
        """Let the standby follow through a slot of the primary."""
        on(self.primary, f"SELECT pg_create_physical_replication_slot('{STANDBY_SLOT}')")
        self.standby.set("primary_slot_name", STANDBY_SLOT)
        self.standby.set("hot_standby_feedback", "on")
        until(self.is_following, "the standby follows by its slot")

    def is_following(self) -> bool:
        """Whether the standby is connected by its slot."""
        query = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{STANDBY_SLOT}'"
        return on(self.primary, query) == [(True,)]

    def name_database(self) -> None:
        """Add a database to the standby's primary_conninfo, which copying slots needs."""
        [(conninfo,)] = on(self.standby, "SELECT setting FROM pg_settings WHERE name = 'primary_conninfo'")
        self.standby.set("primary_conninfo", f"{conninfo} dbname=postgres")

    def prepare(self) -> None:
        """Set up everything that a failover needs except for walvec's slot."""
        self.follow_by_slot()
        self.name_database()
        self.standby.set("sync_replication_slots", "on")
        self.primary.set("synchronized_standby_slots", STANDBY_SLOT)
        until(self.is_following, "the standby follows again")

    def wait_for_copy(self, slot: str) -> None:
        """Wait until the standby has a complete copy of a slot, whose reader must be running."""

        def is_complete() -> bool:
            # On an idle server the record that the copy has to reach is rarely written.
            on(self.primary, "SELECT pg_log_standby_snapshot()")
            emit = "SELECT pg_logical_emit_message(true, 'tests', repeat('.', 70000))"
            on(self.primary, emit, self.database)
            query = "SELECT synced AND NOT temporary FROM pg_replication_slots WHERE slot_name = %s"
            with psycopg.connect(self.standby.dsn()) as connection:
                found = connection.execute(query, [slot]).fetchone() == (True,)
            if not found:
                time.sleep(0.2)
            return found

        until(is_complete, "a complete copy of the slot", timeout=60)

    def fail_over(self) -> None:
        """Crash the primary and promote the standby."""
        self.primary.stop("immediate")
        self.standby.promote()


@contextmanager
def failover_pair() -> Iterator[Pair]:
    """Give a primary and a standby that follows it without a slot, and remove them."""
    with cluster_of(VERSION) as primary:
        database = str(psycopg.conninfo.conninfo_to_dict(primary.create_database())["dbname"])
        with standby_of(primary) as standby:
            yield Pair(primary, standby, database)


def on(cluster: Cluster, query: str, database: str = "postgres") -> list[tuple[object, ...]]:
    """Run a statement as a superuser; return its rows."""
    with psycopg.connect(cluster.dsn(database), autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


class Application:
    """Writes to the blog without pause, on the server that accepts it."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._main, name="application", daemon=True)
        self.committed = 0  # transactions

    @contextmanager
    def writing(self) -> Iterator["Application"]:
        """Write until the block ends."""
        self._thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._thread.join()

    def has_written(self, more: int) -> None:
        """Wait until that many more transactions are committed."""
        wanted = self.committed + more
        until(lambda: self.committed >= wanted, f"{more} more transactions")

    def _main(self) -> None:
        numbers = itertools.count(1000)
        while not self._ended.is_set():
            with suppress(psycopg.Error), psycopg.connect(self._dsn, autocommit=True) as connection:
                while not self._ended.is_set():
                    number = next(numbers)
                    connection.execute("INSERT INTO blog VALUES (%s, 'written ' || %s)", [number, number])
                    connection.execute(
                        "UPDATE blog SET body = 'updated ' || %s WHERE id = %s", [number, number - 7]
                    )
                    connection.execute("DELETE FROM blog WHERE id = %s", [number - 50])
                    self.committed += 3
