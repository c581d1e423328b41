"""Where a promoted server left the timeline of the server before it.

A promotion begins a new timeline. Its history file says where each earlier one was left: both servers have
what lies before that place, and the new one lacks what the old primary wrote after it.
https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
"""

import re

import psycopg

from walvec.config.load import Config
from walvec.database.checkpoint import Checkpoint
from walvec.database.connect import conninfo
from walvec_slots.failover import read_history
from walvec_slots.lsn import Lsn
from walvec_slots.settle import Connection
from walvec_slots.stream import ReplicationStream

_LINE = re.compile(r"^\s*(\d+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)", re.MULTILINE)


def parse_history(content: str) -> dict[int, Lsn]:
    """Return where each timeline in a history file was left."""
    return {int(timeline): Lsn.parse(place) for timeline, place in _LINE.findall(content)}


async def find_fork(walsender: Connection, checkpoint: Checkpoint, timeline: int) -> Lsn | None:
    """Return where the server, now on `timeline`, left the checkpoint's timeline.

    `walsender` is a session of the replication protocol that is not streaming yet. Returns None if the server
    does not know.
    """
    try:
        content = await read_history(walsender, timeline)
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        return None
    return parse_history(content).get(checkpoint.timeline)


async def look_for_fork(config: Config, checkpoint: Checkpoint, timeline: int) -> Lsn | None:
    """Open a session for `find_fork`. Raises PreconditionFailed, ConnectionLost."""
    dsn = conninfo(config.source_dsn, "history")
    stream = await ReplicationStream.connect(dsn, on_notice=lambda _: None)
    try:
        return await find_fork(stream.session, checkpoint, timeline)
    finally:
        await stream.session.close()
