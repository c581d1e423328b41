"""Failover slots: a standby keeps a copy, and has it once it is promoted.

They exist from PostgreSQL 17 on:
https://www.postgresql.org/docs/current/logical-replication-failover.html
"""

from typing import Final, Literal

import psycopg
from psycopg import sql

from walvec_slots.catalog import statement
from walvec_slots.errors import PreconditionFailed
from walvec_slots.settle import Connection
from walvec_slots.sqlstates import change_refused
from walvec_slots.walsender import Notice, Walsender

# Values of [source] failover. With auto, slots are failover slots wherever the server has them.
FailoverSetting = Literal["auto", True, False]

# The first server version with failover slots.
FIRST_VERSION: Final = 170000

# How long the server waits for an answer before it ends the session.
_TIME_LIMIT: Final = 10.0  # seconds


def failover_wanted(setting: FailoverSetting, version: int) -> bool:
    """Return whether slots on a server of this version are to be failover slots.

    Raises PreconditionFailed if the setting demands them and the server has none.
    """
    if setting is True and version < FIRST_VERSION:
        raise PreconditionFailed(
            f"[source] failover is true, but PostgreSQL {version // 10000} has no failover slots",
            hint='set failover = "auto", which uses them from PostgreSQL 17 on',
        )
    return setting is not False and version >= FIRST_VERSION


async def set_failover(conninfo: str, slot: str, *, failover: bool) -> None:
    """Turn a permanent slot into a failover slot, or back into an ordinary one.

    Only the replication protocol has a command for this. Raises SlotActive while a process holds the slot,
    PreconditionFailed, ConnectionLost.
    """
    walsender = await Walsender.connect(conninfo, on_notice=_ignore, sender_timeout=_TIME_LIMIT)
    value = sql.SQL("true" if failover else "false")
    try:
        await walsender.session.execute(statement("alter_slot", slot=sql.Identifier(slot), failover=value))
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        message = error.diag.message_primary or str(error)
        raise change_refused(slot, error.sqlstate, message, walsender.session.info.user) from error
    finally:
        await walsender.session.close()


def _ignore(_: Notice) -> None:
    """Ignore a notice of the server."""


async def read_history(walsender: Connection, timeline: int) -> str:
    """Return the history file of a timeline; every timeline but the first has one.

    `walsender` is a session of the replication protocol. Raises psycopg.Error if the file was removed.
    """
    cursor = await walsender.execute(statement("timeline_history", timeline=sql.Literal(timeline)))
    ((_, content),) = await cursor.fetchall()
    return content.decode() if isinstance(content, bytes) else str(content)
