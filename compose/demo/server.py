"""The demo's own PostgreSQL and its database, made afresh each time."""

import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from compose.demo.screen import DemoFailed

CHECKOUT = Path(__file__).parent.parent.parent
CLUSTER = "demo"
RELEASE_LIMIT = 10.0  # seconds that a walsender may take to let go of its slot
RELEASE_INTERVAL = 0.02  # seconds between two tries

Connection = psycopg.Connection[Any]


def start_cluster() -> str:
    """Start the demo's private cluster and return its superuser's connection string."""
    _cluster("up")
    return _cluster("dsn").strip()


def stop_cluster() -> None:
    """Stop it; its files stay, so that the next start is quick."""
    _cluster("down")


def _cluster(command: str) -> str:
    script = CHECKOUT / "compose/local/cluster.sh"
    result = subprocess.run([script, command, CLUSTER], stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise DemoFailed(f"compose/local/cluster.sh {command} {CLUSTER} failed, as said above")
    return result.stdout


def create_database(server: str, name: str) -> str:
    """Make an empty database, in place of one of that name, and return its connection string."""
    drop_database(server, name)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return make_conninfo(server, dbname=name)


def drop_database(server: str, name: str) -> None:
    """Drop a database with its slots, if it is there."""
    with psycopg.connect(server, autocommit=True) as admin:
        deadline = time.monotonic() + RELEASE_LIMIT
        while not _drop_slots(admin, name):
            if time.monotonic() > deadline:
                raise DemoFailed(f"a slot of the database {name} is still in use: is another walvec running?")
            time.sleep(RELEASE_INTERVAL)
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _drop_slots(admin: Connection, database: str) -> bool:
    """Drop the database's slots, as far as nobody uses them, and return whether all are gone."""
    slots = "SELECT slot_name FROM pg_replication_slots WHERE database = %s AND NOT active"
    try:
        for (slot,) in admin.execute(slots, [database]).fetchall():
            admin.execute("SELECT pg_drop_replication_slot(%s)", [slot])
    except psycopg.errors.ObjectInUse:
        return False
    left = "SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE database = %s)"
    return admin.execute(left, [database]).fetchone() == (True,)
