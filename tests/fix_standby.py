"""A streaming hot standby of a test's own server: real failovers, on the same machine.

with standby_of(cluster) as standby:
standby.caught_up(cluster)          until it has all that the primary has written
cluster.stop("immediate")
standby.promote()
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.fix_postgres import SCRIPT, Cluster
from tests.fix_process import until


class Standby(Cluster):
    """A server that follows another one until it is promoted."""

    def promote(self) -> None:
        """Make it a primary, on a timeline of its own; returns once it is one."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)

    def caught_up(self, primary: Cluster) -> None:
        """Wait until it has replayed all that the primary has written so far."""
        with psycopg.connect(primary.dsn(), autocommit=True) as connection:
            ((end,),) = connection.execute("SELECT pg_current_wal_lsn()::text").fetchall()
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            until(lambda: connection.execute(query, [end]).fetchone() == (True,), f"the standby at {end}")


@contextmanager
def standby_of(primary: Cluster) -> Iterator[Standby]:
    """Give a standby of a running server (about two seconds to make), and remove it."""
    name = f"{primary.name}-standby"
    subprocess.run([SCRIPT, "standby", name, primary.name], check=True)
    own = Standby(name)
    yield own
    own.drop()


def either(dsn: str, *clusters: Cluster) -> str:
    """Give a connection string to the same database on whichever of these servers, the first one first."""
    places = [conninfo_to_dict(each.dsn()) for each in clusters]
    return make_conninfo(
        dsn,
        host=",".join(str(place["host"]) for place in places),
        port=",".join(str(place["port"]) for place in places),
    )
