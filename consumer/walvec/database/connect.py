"""Connections to the two databases, with the settings that walvec's guarantees rest on.

Every session prints values the way the replication session does (PostgreSQL documentation, "Client Connection
Defaults"), so that a key read here and one from the stream are the same text.
"""

import os
import re

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from walvec.config.load import Config
from walvec.config.search_path import search_path
from walvec.database.pgvector import find_vectors
from walvec.database.silence import Session
from walvec.errors import ConfigInvalid
from walvec_slots.errors import ConnectionLost, PreconditionFailed
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection, open_session, standby_hint, startup

_QUERIES = load_sql("session.sql")

# A lock that somebody holds is asked for again and again: in between, others get their turn on the session.
LOCK_TIMEOUT = "2s"

_OURS = {
    # A statement is planned once and serves for months: planned over a table that was small then, it would
    # read all of it for every batch. Every one of ours has an index to go by.
    "enable_seqscan": "off",
    "jit": "off",
    # When walvec's host vanishes, its lock on the target must not stay for the kernel's two hours.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
    "client_connection_check_interval": "10s",
}

# Reads only; one snapshot a transaction; a row-level policy that would hide rows from us is an error, not a
# silence.
_SOURCE = {
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "repeatable read",
    "row_security": "off",
    "lock_timeout": LOCK_TIMEOUT,
}

# A database that was made read-only stays so: a provider does that where the disk is nearly full.
_TARGET = {"default_transaction_isolation": "read committed", "lock_timeout": LOCK_TIMEOUT}

# Slots and publications are made and dropped there.
_CHANGES = {"default_transaction_isolation": "read committed"}

# Notices a dead peer within about 30 s where the operating system would take hours.
_KEEPALIVES = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}


async def connect_source(config: Config, *, role: str) -> Connection:
    """Open a read-only autocommit session on the source.

    Raises ConnectionLost where the server does not answer, PreconditionFailed where it refuses or a pooler is
    in between.
    """
    settings = _SOURCE | {"walvec.search_path": search_path(config.source.search_path)}
    return await _connect("source", config.source_dsn, role, settings)


async def connect_target(config: Config, *, role: str, standby: bool = False) -> Connection:
    """Open an autocommit session on the target whose commits are durable when they return.

    With `standby`, for reading alone, a hot standby of the target will do.
    Raises ConnectionLost where the server does not answer, PreconditionFailed where it refuses or a pooler is
    in between.
    """
    own = config.target.dsn is not None and config.target.dsn.get_secret_value()
    connection = await _connect(
        "target",
        config.target_dsn,
        role,
        _TARGET,
        setting="target" if own else "source",
        standby=standby,
    )
    try:
        # The checkpoint must survive a crash of the server before the slot is told of it.
        await connection.execute(_QUERIES["durable_commits"])
        await find_vectors(connection)
    except BaseException:  # being cancelled too
        await connection.close()
        raise
    return connection


async def connect_source_for_changes(config: Config) -> Connection:
    """Open an ordinary autocommit session on the source, for commands that create or drop a slot or a
    publication.
    """
    settings = _CHANGES | {"walvec.search_path": search_path(config.source.search_path)}
    return await _connect("source", config.source_dsn, "setup", settings)


async def connect_source_host(dsn: str) -> Connection:
    """Open a session on one host of [source] dsn, which may be a standby.

    Raises as `connect_source` does.
    """
    return await _connect("source", dsn, "check", _SOURCE, standby=True)


def single_hosts(dsn: str) -> list[tuple[str, str]]:
    """Return each host of a connection string, with a string that leads to it alone.

    Returns nothing if there is only one host.
    """
    given = conninfo_to_dict(dsn)
    names = str(given.get("host") or os.environ.get("PGHOST", "")).split(",")
    addresses = str(given.get("hostaddr") or os.environ.get("PGHOSTADDR", "")).split(",")
    hosts = max(len(names), len(addresses))
    ports = str(given.get("port") or os.environ.get("PGPORT", "")).split(",")
    if hosts == 1:
        return []
    found = []
    for number in range(hosts):
        own = {
            "host": names[number] if len(names) == hosts else "",
            "hostaddr": addresses[number] if len(addresses) == hosts else "",
            "port": ports[number] if len(ports) == hosts else ports[0],
        }
        place = f"{own['host'] or own['hostaddr']}:{own['port'] or 5432}"
        found.append((place, make_conninfo("", **{**given, **own, "target_session_attrs": "any"})))
    return found


def conninfo(dsn: str, role: str) -> str:
    """Complete a connection string with keepalives and a name that operators see in `pg_stat_activity`."""
    given = conninfo_to_dict(dsn)
    defaults = {**_KEEPALIVES, "connect_timeout": "10", "application_name": f"walvec {role}"}
    return make_conninfo("", **{**defaults, **given})


async def _connect(
    which: str,
    dsn: str,
    role: str,
    settings: dict[str, str],
    *,
    setting: str = "source",
    standby: bool = False,
) -> Connection:
    settings = _OURS | settings
    try:
        connection = await open_session(Session, conninfo(dsn, role), settings, standby=standby)
    except psycopg.ProgrammingError as error:
        raise ConfigInvalid(f"the {which} DSN cannot be read", hint=f"look at [{setting}] dsn") from error
    except psycopg.OperationalError as error:
        raise connection_error(which, error, setting) from error
    connection.conninfo = startup(conninfo(dsn, f"{role} (is it still there?)"), settings, standby=standby)
    # Most statements come back thousands of times.
    connection.prepare_threshold = 2
    return connection


def connection_error(
    which: str, error: psycopg.OperationalError, setting: str
) -> ConnectionLost | PreconditionFailed | ConfigInvalid:
    """Tell a server that is away (wait for it) from one that says no (say what it says).

    A parameter that libpq cannot use is neither: its value stays unsaid.
    """
    message = _connection_message(str(error))
    if impossible := _IMPOSSIBLE.search(message):
        return ConfigInvalid(
            f"the {which} DSN has an impossible {impossible.lastgroup}", hint=f"look at [{setting}] dsn"
        )
    if any(words in message for words in _REFUSALS):
        return PreconditionFailed(
            f"the {which} database refuses the connection: {message}", hint=f"look at [{setting}] dsn"
        )
    hint = standby_hint(message) if which == "source" else None
    return ConnectionLost(f"the {which} database cannot be reached: {message}", hint=hint)


def _connection_message(message: str) -> str:
    """Make one line of libpq's words: what failed, for every host that was tried, without its questions."""
    lines = [line for line in message.splitlines() if line and not line.startswith("\t")]
    tries = [line.partition("connection ")[2] for line in lines if line.startswith("- host:")]
    words = [f"connection {each}" for each in tries] or lines[:1]
    return "; ".join(re.sub(r"^connection (failed|is bad): ", "", each) for each in dict.fromkeys(words))


# What libpq says of a parameter that it cannot use, before it asks a server.
_IMPOSSIBLE = re.compile(
    r"(?P<port>invalid port number|Servname not supported|could not match \d+ port numbers)"
    r"|(?P<service>definition of service .* not found|service file .* not found)"
    r"|(?P<address>could not parse network address|could not match \d+ host (?:names|addresses))"
    r'|(?P<parameter>invalid (?:\w+|"\w+") value: |invalid integer value .* for connection option)'
)

_REFUSALS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "does not exist",
    "is not permitted to log in",
    "permission denied for database",
    "does not support SSL",
    "certificate",
)
