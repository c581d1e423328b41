"""Whether slot, checkpoint and server still belong together.

A backup can be restored, a standby promoted, a slot dropped or moved. Where they do not fit, changes may be
missing, and nobody but `walvec resync` can find out which: so it is refused before anything is read. What
this cannot see, a server that went back in time and wrote past the checkpoint since, `landmark` sees in the
stream.
"""

from dataclasses import dataclass

from consumer.database import Connection
from consumer.metadata import Checkpoint
from consumer.visibility import Snapshot
from slots.errors import SlotLost
from slots.lsn import Lsn
from slots.manage import Slot
from slots.queries import load

_QUERIES = load("source.sql")
_RESYNC = "run: walvec resync"


@dataclass(frozen=True, slots=True)
class Server:
    """The source's server: which one, since which promotion or restore, and how far it is.

    Everything committed before it was asked lies before `position`.
    """

    system_identifier: int
    timeline: int
    position: Lsn


async def look_at_server(connection: Connection) -> Server:
    """Ask the source which server it is."""
    cursor = await connection.execute(_QUERIES["position"], {})
    ((system_identifier, timeline, position),) = await cursor.fetchall()
    return Server(system_identifier, timeline, Lsn.parse(position))


async def read_horizon(connection: Connection) -> Lsn:
    """Return the source's WAL insert position: what is visible by now ends at or before it."""
    cursor = await connection.execute(_QUERIES["horizon"])
    ((position,),) = await cursor.fetchall()
    return Lsn.parse(position)


async def read_next_xid(connection: Connection) -> int:
    """Return a transaction id that is past every open transaction of the source."""
    cursor = await connection.execute(_QUERIES["open_transactions"])
    ((snapshot, xids),) = await cursor.fetchall()
    return Snapshot.parse(snapshot).past(xids)


def require_continuity(name: str, slot: Slot | None, checkpoint: Checkpoint, server: Server) -> Slot:
    """Return the slot. Raises SlotLost where it, checkpoint and server do not belong together: changes may be
    missing.
    """
    if checkpoint.system_identifier != server.system_identifier:
        raise SlotLost(f'the checkpoint of slot "{name}" is of another server than the source', hint=_RESYNC)
    if checkpoint.timeline != server.timeline:
        raise SlotLost(
            f'the checkpoint of slot "{name}" is of timeline {checkpoint.timeline}, the source is on '
            f"{server.timeline}: it was promoted or restored, and may have other changes than were embedded",
            hint=_RESYNC,
        )
    if slot is None:
        raise SlotLost(
            f'slot "{name}" does not exist on the source; changes since {checkpoint.lsn} are missing',
            hint=_RESYNC,
        )
    if slot.invalidation_reason or slot.wal_status == "lost" or slot.confirmed_flush_lsn is None:
        reason = slot.invalidation_reason or "its WAL was removed"
        raise SlotLost(
            f'slot "{name}" was invalidated ({reason}); changes since {checkpoint.lsn} are missing',
            hint=_RESYNC,
        )
    if slot.confirmed_flush_lsn > checkpoint.lsn:
        raise SlotLost(
            f'slot "{name}" stands at {slot.confirmed_flush_lsn}, past the checkpoint {checkpoint.lsn}: '
            "somebody else moved it or recreated it, and the changes between are missing",
            hint=_RESYNC,
        )
    if checkpoint.lsn > server.position:
        raise SlotLost(
            f'the checkpoint {checkpoint.lsn} of slot "{name}" lies past the source\'s last LSN '
            f"{server.position}: the source was restored to an earlier state",
            hint=_RESYNC,
        )
    return slot
