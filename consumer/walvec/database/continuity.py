"""Whether slot, checkpoint and server still belong together.

A backup can be restored, a standby promoted, a slot dropped or moved. Where they do not fit, changes may be
missing, so this is refused before anything is read. If a copy of the slot begins at or before the checkpoint,
it still has the changes, and `walvec replay` applies them. Otherwise only `walvec resync` can find out which
they are.

One case cannot be seen here: a server that went back in time and has since written past the checkpoint.
`stages.landmark` sees it in the stream.

walvec follows a promoted standby that kept a copy of the slot (a failover slot) and left the old primary's
timeline at or past the checkpoint. Then it has everything that was embedded from the stream, and the slot has
the rest.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from walvec.config.sections import SourceSettings
from walvec.database.checkpoint import Checkpoint
from walvec.database.snapshot import Snapshot
from walvec_slots.errors import ConnectionLost, SlotLost
from walvec_slots.lsn import Lsn
from walvec_slots.manage import Slot
from walvec_slots.plugin import PLUGINS
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("source.sql")

_RESYNC = "run: walvec resync"


@dataclass(frozen=True, slots=True)
class Server:
    """The source's server: which one it is, on which timeline, and how far it has got.

    A promotion or a restore begins a new timeline. Everything that was committed before the server was asked
    lies before `position`.
    """

    system_identifier: int
    timeline: int
    position: Lsn


async def look_at_server(connection: Connection) -> Server:
    """Ask the source which server it is."""
    cursor = await connection.execute(_QUERIES["position"], {})
    ((system_identifier, timeline, position),) = await cursor.fetchall()
    return Server(system_identifier, timeline, Lsn.parse(position))


async def require_one_server(side: str, connections: Iterable[Connection]) -> None:
    """Raise ConnectionLost unless a side's sessions are on one server and timeline.

    During a failover, a name or a list of hosts may lead to the old primary and to the new one.
    """
    found = set()
    for connection in connections:
        cursor = await connection.execute(_QUERIES["server"])
        found.add(await cursor.fetchone())
    if len(found) > 1:
        raise ConnectionLost(
            f"Sessions of the {side} have reached different servers, as during a failover",
            hint=f"trying again; if this persists, let the {side} DSN lead to one primary only",
        )


async def read_horizon(connection: Connection) -> Lsn:
    """Return the source's WAL insert position.

    Whatever is visible by now ends at or before it.
    """
    cursor = await connection.execute(_QUERIES["horizon"])
    ((position,),) = await cursor.fetchall()
    return Lsn.parse(position)


async def read_next_xid(connection: Connection) -> int:
    """Return a transaction id past every open transaction of the source."""
    cursor = await connection.execute(_QUERIES["open_transactions"])
    ((snapshot, xids),) = await cursor.fetchall()
    return Snapshot.parse(snapshot).id_past(xids)


def is_old_primary(checkpoint: Checkpoint, server: Server) -> bool:
    """Whether a server is on an earlier timeline: a failover left it behind."""
    same = checkpoint.system_identifier == server.system_identifier
    return same and server.timeline < checkpoint.timeline


def require_present_primary(name: str, checkpoint: Checkpoint, server: Server) -> None:
    """Raise SlotLost where the source is on an earlier timeline than what is embedded."""
    if is_old_primary(checkpoint, server):
        raise SlotLost(
            f"The source is on timeline {server.timeline}, older than the {checkpoint.timeline} of slot "
            f'"{name}": it is an old primary that came back after a failover, or a backup of one',
            hint="let [source] dsn lead to the present primary; to follow this one instead, and set the "
            "target back to what it holds: walvec resync --from-old-primary",
        )


def find_copy(slots: Iterable[Slot], source: SourceSettings, database: str, lsn: Lsn) -> Slot | None:
    """Return a slot with all changes from `lsn` on that can replace the own one.

    Where there are several, it is the one nearest to `lsn`.
    """
    fit = [
        slot
        for slot in slots
        if slot.name != source.slot
        and slot.plugin in (PLUGINS if source.plugin == "auto" else {source.plugin})
        and slot.database == database
        and not (slot.is_lost or slot.temporary or slot.active)
        and slot.confirmed_flush_lsn is not None
        and slot.confirmed_flush_lsn <= lsn
    ]
    return max(fit, key=lambda slot: slot.confirmed_flush_lsn or Lsn(0), default=None)


def replay_from(copy: Slot, lsn: Lsn) -> str:
    """Return the command that applies all changes from `lsn` on, read from a copy."""
    return f"walvec replay --slot {copy.name} --from {lsn}"


def was_promoted(checkpoint: Checkpoint, server: Server) -> bool:
    """Whether a server is on a later timeline, by a promotion or a restore."""
    same = checkpoint.system_identifier == server.system_identifier
    return same and server.timeline > checkpoint.timeline


def require_same_history(
    name: str,
    checkpoint: Checkpoint,
    server: Server,
    *,
    slot: Slot | None = None,
    fork: Lsn | None = None,
) -> None:
    """Raise SlotLost where the source is not the checkpoint's server, in its history.

    `slot` is the source's own, and `fork` is where a promoted server left the checkpoint's timeline.
    """
    if checkpoint.system_identifier != server.system_identifier:
        raise SlotLost(f'The checkpoint of slot "{name}" is of another server than the source', hint=_RESYNC)
    require_present_primary(name, checkpoint, server)
    if was_promoted(checkpoint, server):
        require_same_beginning(name, checkpoint, server, slot, fork)
    if checkpoint.lsn > server.position:
        raise SlotLost(
            f'The checkpoint {checkpoint.lsn} of slot "{name}" lies past the source\'s last LSN '
            f"{server.position}: the source was restored to an earlier state",
            hint=_RESYNC,
        )


def require_same_beginning(
    name: str, checkpoint: Checkpoint, server: Server, slot: Slot | None, fork: Lsn | None
) -> None:
    """Raise SlotLost unless a promoted server has the slot and the WAL it needs."""
    what = (
        f'The checkpoint of slot "{name}" is of timeline {checkpoint.timeline}, the source is on '
        f"{server.timeline}: it was promoted or restored"
    )
    if slot is None:
        raise SlotLost(f"{what}, and it kept no copy of the slot", hint=_RESYNC)
    if not slot.came_along:
        raise SlotLost(
            f'{what}, and its slot "{slot.name}" is not a copy that a standby kept in step', hint=_RESYNC
        )
    if fork is None:
        raise SlotLost(
            f"{what}, and no longer knows where it left timeline {checkpoint.timeline}", hint=_RESYNC
        )
    if checkpoint.lsn > fork:
        raise SlotLost(
            f"{what}. It left the old primary's timeline at {fork}, before the checkpoint {checkpoint.lsn}, "
            "so changes were embedded that it never had",
            hint=f"{_RESYNC}; to prevent this, name the standby's slot in synchronized_standby_slots",
        )


def require_continuity(
    source: SourceSettings,
    database: str,
    slots: Iterable[Slot],
    checkpoint: Checkpoint,
    server: Server,
    *,
    fork: Lsn | None = None,
) -> Slot:
    """Return the source's own slot, which begins at or before the checkpoint.

    `slots` are all of the server's, and `fork` is where a promoted server left the checkpoint's timeline.
    Raises SlotLost where checkpoint, slot and server do not belong together, so that changes may be missing.
    The hint names a copy that has them, if there is one.
    """
    name = source.slot
    by_name = {slot.name: slot for slot in slots}
    slot = by_name.get(name)
    require_same_history(name, checkpoint, server, slot=slot, fork=fork)
    if slot is None:
        what = f'Slot "{name}" does not exist on the source; changes since {checkpoint.lsn} are missing'
    elif slot.is_lost or slot.confirmed_flush_lsn is None:
        reason = slot.invalidation_reason or "its WAL was removed"
        what = f'Slot "{name}" was invalidated ({reason}); changes since {checkpoint.lsn} are missing'
    elif slot.confirmed_flush_lsn > checkpoint.lsn:
        why = "somebody else moved it or recreated it"
        if was_promoted(checkpoint, server):
            why = "the target lost its last commits with the old primary"
        what = (
            f'Slot "{name}" stands at {slot.confirmed_flush_lsn}, past the checkpoint {checkpoint.lsn}: '
            f"{why}, and the changes between are missing"
        )
    else:
        return slot
    copy = find_copy(by_name.values(), source, database, checkpoint.lsn)
    if copy is None:
        raise SlotLost(what, hint=_RESYNC)
    raise SlotLost(
        what, hint=f"run: {replay_from(copy, checkpoint.lsn)}; or walvec resync, which compares all rows"
    )
