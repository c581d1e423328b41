"""How every session is opened: on the source, on the target, and the walsender's.

What must hold from the first statement on is in the startup packet, so that nothing is ever SET on a session
that another client shares. The first statement proves that no connection pooler is in between: a pooler
shares one server session between clients, who would find each other's settings, locks and temporary tables.

https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
"""

import asyncio
import os
import re
from collections.abc import Mapping
from secrets import token_hex
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb

from walvec_slots.errors import NotUtf8, PoolerInBetween
from walvec_slots.plugin import Plugin
from walvec_slots.queries import load_sql

SEARCH_PATH: Final = "pg_catalog, pg_temp"

# Everything that shapes the text of values, what the catalog's functions print, or the meaning of a literal.
# A key read on one session and one from the stream must be the same text, whatever ALTER DATABASE and ALTER
# ROLE have set. bytea_output is here because wal2json drops two bytes of anything but hex, and
# client_min_messages because debug messages hold row data.
_PRINTED_FORM: Final[Mapping[str, str]] = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "timezone_abbreviations": "Default",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "xmlbinary": "base64",
    "xmloption": "content",
    "default_text_search_config": "pg_catalog.simple",
    "quote_all_identifiers": "off",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "escape_string_warning": "off",
    "client_min_messages": "warning",
}

# No default of the server may end a session that waits, or one that had an error.
_LASTING: Final[Mapping[str, str]] = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "exit_on_error": "off",
}

# These are set once the session is known to be walvec's own. Servers before PostgreSQL 17 refuse an unknown
# name in the startup packet, and libpq puts PGDATESTYLE and PGTZ after `options` there, so that they win.
_SET_LATER: Final = frozenset({"transaction_timeout", "DateStyle", "TimeZone"})

# How poolers refuse such a startup packet: PgBouncer and Odyssey, then Amazon's proxy.
_OF_POOLERS: Final = ("unsupported startup parameter", "RDS Proxy")

_QUERIES = load_sql("session.sql")

Connection = psycopg.AsyncConnection[Any]

_Opened = TypeVar("_Opened", bound=Connection)


async def open_session(
    kind: type[_Opened],
    conninfo: str,
    settings: Mapping[str, str],
    *,
    standby: bool = False,
    **arguments: Any,
) -> _Opened:
    """Connect in autocommit, with every setting pinned.

    The caller's `settings` are pinned besides. With `standby`, a hot standby will do as well. Raises
    PoolerInBetween, and psycopg's errors where no connection can be made.
    """
    mark = token_hex(8)
    try:
        connection = await kind.connect(
            startup(conninfo, {**settings, "walvec.session": mark}, standby=standby),
            autocommit=True,
            **arguments,
        )
    except psycopg.OperationalError as error:
        if any(words in str(error) for words in _OF_POOLERS):
            raise PoolerInBetween from error
        raise
    except asyncio.CancelledError as error:
        # Its traceback would keep a half-made connection open until the garbage collector runs.
        raise error.with_traceback(None) from None
    try:
        await _require_direct(connection, mark)
        later = {name: value for name, value in _pinned(settings).items() if name in _SET_LATER}
        await connection.execute(_QUERIES["pin"], {"settings": Jsonb(later)})
    except BaseException:
        # Cancellation included.
        await connection.close()
        raise
    return connection


def startup(conninfo: str, settings: Mapping[str, str], *, standby: bool = False) -> str:
    """Complete a connection string with the settings that every session begins with.

    They override the string's own. Only a primary will do, unless `standby` allows another: libpq asks each
    host in turn, for the walsender too, and refuses a hot standby, which has none of the slots and is
    behind. `target_session_attrs=read-write` would refuse the source's read-only sessions.
    """
    given = conninfo_to_dict(conninfo)
    server = given.get("target_session_attrs", "any") if standby else "primary"
    options = [str(given.get("options") or os.environ.get("PGOPTIONS", ""))]
    options += [
        f"-c {name}={_escaped(value)}" for name, value in _pinned(settings).items() if name not in _SET_LATER
    ]
    return make_conninfo(
        "",
        **{
            **given,
            "options": " ".join(filter(None, options)),
            "client_encoding": "UTF8",
            "target_session_attrs": server,
        },
    )


def standby_hint(message: str) -> str | None:
    """Return a hint for libpq's message that a host is a hot standby, else None.

    PostgreSQL 16 and later can decode on a standby. But publications are created on the primary, and a slot
    that was created on a standby cannot be a failover slot and is invalidated by conflicts with recovery.
    """
    if "server is in hot standby mode" not in message:
        return None
    return (
        "let [source] dsn lead to the primary too: a publication cannot be created on a standby, and a slot "
        "that is created there is lost with it"
    )


def require_utf8(connection: psycopg.AsyncConnection[Any], side: str) -> None:
    """Raise NotUtf8 unless the database keeps its text in UTF-8.

    `side` is source or target.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise NotUtf8(side, connection.info.dbname, encoding)


def require_readable(source: psycopg.AsyncConnection[Any], plugin: Plugin) -> None:
    """Raise NotUtf8 unless the plugin gives the text in UTF-8.

    A plugin that converts cannot convert from SQL_ASCII, which is not an encoding.
    """
    encoding = source.info.parameter_status("server_encoding")
    if encoding == "SQL_ASCII" or not plugin.converts_encoding:
        require_utf8(source, "source")


async def _require_direct(connection: psycopg.AsyncConnection[Any], mark: str) -> None:
    """Raise PoolerInBetween unless the session that was opened is what answers.

    A pooler shows a process id that it made up. Where that matches by chance, or is passed on, another
    session answers than the one that got the startup packet with this mark.
    """
    cursor = await connection.execute(_QUERIES["who_answers"])
    if await cursor.fetchone() != (connection.info.backend_pid, mark):
        raise PoolerInBetween


def _pinned(settings: Mapping[str, str]) -> Mapping[str, str]:
    return {"search_path": SEARCH_PATH, **_PRINTED_FORM, **_LASTING, **settings}


def _escaped(value: str) -> str:
    """Escape what would end a value in `options`."""
    return re.sub(r"([\\\s])", r"\\\1", value)
