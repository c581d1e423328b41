"""Connections to both databases, with the settings that the guarantees rest on.

Every session prints values as the replication session does (PostgreSQL documentation, "Client Connection
Defaults"), so that a key read here and the same key from the stream are equal as text.
"""

import os
import re

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from walvec.config.load import Config
from walvec.config.search_path import search_path
from walvec.database.pgvector import find_vectors
from walvec.database.silence import PATIENCE, Patience, Session
from walvec.errors import ConfigInvalid
from walvec_slots.errors import ConnectionLost, PreconditionFailed
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection, open_session, standby_hint, startup

_QUERIES = load_sql("session.sql")

# A lock that another session holds is tried for this long and then tried again, so that other work on the
# session gets its turn in between.
LOCK_TIMEOUT = "2s"

# Most statements are executed thousands of times: they are prepared at the second.
_PREPARE_THRESHOLD = 2

_OURS = {
    # A statement is planned once and then used for months. If it was planned while the table was small, it
    # would go on to read the whole table for every batch. Each of these statements has an index to use.
    "enable_seqscan": "off",
    "jit": "off",
    # When walvec's host vanishes, its lock in the target must not stay for the kernel's two hours.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
    "client_connection_check_interval": "10s",
}

# Sessions on the source only read, with one snapshot a transaction. A row-level policy that would hide rows
# raises an error instead of hiding them silently.
_SOURCE = {
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "repeatable read",
    "row_security": "off",
    "lock_timeout": LOCK_TIMEOUT,
}

# Writability is not set here: a provider makes a database read-only where its disk is nearly full, and that
# must stay in force.
_TARGET = {"default_transaction_isolation": "read committed", "lock_timeout": LOCK_TIMEOUT}

# Sessions that create and drop slots and publications on the source.
_CHANGES = {"default_transaction_isolation": "read committed"}

# They notice a dead peer within about 30 s, where the operating system would take hours.
_KEEPALIVES = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}


async def connect_source(config: Config, *, role: str, patience: Patience = PATIENCE) -> Connection:
    """Open a read-only autocommit session on the source.

    Raises ConnectionLost where the server does not answer, PreconditionFailed where it refuses the session or
    a pooler is in between, ConfigInvalid where the DSN cannot be used.
    """
    settings = _SOURCE | {"walvec.search_path": search_path(config.source.search_path)}
    return await _connect("source", config.source_dsn, role, settings, patience=patience)


async def connect_target(
    config: Config, *, role: str, standby: bool = False, patience: Patience = PATIENCE
) -> Connection:
    """Open an autocommit session on the target whose commits are durable on return.

    With `standby`, which is for reading alone, a hot standby of the target is accepted too. Raises as
    `connect_source` does.
    """
    own = config.target.dsn is not None and config.target.dsn.get_secret_value()
    connection = await _connect(
        "target",
        config.target_dsn,
        role,
        _TARGET,
        setting="target" if own else "source",
        standby=standby,
        patience=patience,
    )
    try:
        # The checkpoint must survive a crash of the server before it is confirmed to the slot.
        await connection.execute(_QUERIES["durable_commits"])
        await find_vectors(connection)
    # Being cancelled closes it too.
    except BaseException:
        await connection.close()
        raise
    return connection


async def connect_source_for_changes(config: Config) -> Connection:
    """Open an autocommit session that may change the source.

    It is for commands that create or drop a slot or a publication. Raises as `connect_source` does.
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
    """Complete a connection string with keepalives and a name.

    Operators see the name in `pg_stat_activity`: `walvec` and the session's role in the process.
    """
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
    patience: Patience = PATIENCE,
) -> Connection:
    """Open a session; `which` names the database, `setting` the dsn's section."""
    settings = _OURS | settings
    try:
        connection = await open_session(
            Session,
            conninfo(dsn, role),
            settings,
            standby=standby,
            prepare_threshold=_PREPARE_THRESHOLD,
        )
    except psycopg.ProgrammingError as error:
        raise ConfigInvalid(f"The {which} DSN cannot be read", hint=f"correct [{setting}] dsn") from error
    except psycopg.OperationalError as error:
        raise connection_error(which, error, setting) from error
    question = startup(conninfo(dsn, f"{role} (is it still there?)"), settings, standby=standby)
    connection.ask_through(question, patience)
    return connection


def connection_error(
    which: str, error: psycopg.OperationalError, setting: str
) -> ConnectionLost | PreconditionFailed | ConfigInvalid:
    """Turn libpq's error into one of walvec's.

    It is ConnectionLost where the server is away, which waiting may help; PreconditionFailed where it refuses
    the session, with its words; ConfigInvalid where libpq cannot use a parameter, whose value is not shown.
    """
    message = _connection_message(str(error))
    if impossible := _IMPOSSIBLE.search(message):
        return ConfigInvalid(
            f"The {which} DSN has an impossible {impossible.lastgroup}", hint=f"correct [{setting}] dsn"
        )
    if any(words in message for words in _REFUSALS):
        return PreconditionFailed(
            f"The {which} database refuses the connection: {message}", hint=f"check [{setting}] dsn"
        )
    hint = standby_hint(message) if which == "source" else None
    return ConnectionLost(f"The {which} database cannot be reached: {message}", hint=hint)


def _connection_message(message: str) -> str:
    """Make one line of libpq's message: what failed, for each host that was tried.

    The questions that libpq adds ("Is the server running …?") are left out.
    """
    lines = [line for line in message.splitlines() if line and not line.startswith("\t")]
    tries = [line.partition("connection ")[2] for line in lines if line.startswith("- host:")]
    words = [f"connection {attempt}" for attempt in tries] or lines[:1]
    return "; ".join(re.sub(r"^connection (failed|is bad): ", "", line) for line in dict.fromkeys(words))


# How libpq complains about a parameter that it cannot use, before it asks a server.
_IMPOSSIBLE = re.compile(
    r"(?P<port>invalid port number|Servname not supported|could not match \d+ port numbers)"
    r"|(?P<service>definition of service .* not found|service file .* not found)"
    r"|(?P<address>could not parse network address|could not match \d+ host (?:names|addresses))"
    r'|(?P<parameter>invalid (?:\w+|"\w+") value: |invalid integer value .* for connection option)'
)

# How a server, or libpq for it, refuses a session; waiting does not help.
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
