"""The demo's database on a server, made afresh each time."""

import time
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from walvec.commands.demo.screen import DemoFailed
from walvec.database.connect import connection_error
from walvec_slots.errors import PreconditionFailed
from walvec_slots.queries import load_sql

MARK: Final = "made by walvec demo, which replaces and drops it"
# Seconds that a walsender may take to let go of its slot.
RELEASE_LIMIT: Final = 10.0
RELEASE_INTERVAL: Final = 0.02  # seconds between two tries

Client = psycopg.Connection[Any]

STATEMENTS: Final = load_sql("demo.sql")


def create_database(server: str, name: str) -> str:
    """Make an empty database and return its connection string.

    One that an earlier demo made is replaced.

    Raises PreconditionFailed where somebody else's database has the name.
    """
    with _connect(server) as admin:
        found = admin.execute(STATEMENTS["find_database"], {"name": name, "mark": MARK}).fetchone()
    if found == (False,):
        raise PreconditionFailed(
            f'The server has a database "{name}" that walvec demo did not make',
            hint="choose another name with --database",
        )
    drop_database(server, name)
    with _connect(server) as admin:
        for statement in ("create_database", "mark_database"):
            admin.execute(_compose(statement, name))
    return make_conninfo(server, dbname=name)


def drop_database(server: str, name: str) -> None:
    """Drop a database with its slots, if it is there."""
    with _connect(server) as admin:
        deadline = time.monotonic() + RELEASE_LIMIT
        while not _drop_slots(admin, name):
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f'A slot of the database "{name}" is still in use',
                    hint="stop the walvec that an earlier demo left running",
                )
            time.sleep(RELEASE_INTERVAL)
        admin.execute(_compose("drop_database", name))


def _connect(server: str) -> Client:
    try:
        return psycopg.connect(server, autocommit=True)
    except psycopg.OperationalError as error:
        explained = connection_error("given", error, "source")
        raise type(explained)(explained.what, hint="look at --dsn") from error


def _compose(statement: str, name: str) -> sql.Composed:
    return sql.SQL(STATEMENTS[statement]).format(database=sql.Identifier(name), mark=sql.Literal(MARK))


def _drop_slots(admin: Client, database: str) -> bool:
    """Drop the database's idle slots, and return whether none is left."""
    try:
        for (slot,) in admin.execute(STATEMENTS["idle_slots"], {"name": database}).fetchall():
            admin.execute(STATEMENTS["drop_slot"], {"slot": slot})
    except psycopg.errors.ObjectInUse:
        return False
    return admin.execute(STATEMENTS["has_no_slots"], {"name": database}).fetchone() == (True,)
