"""`walvec replay`: goes back to where a copy of the slot begins, and replays.

A slot can neither be renamed nor go back, so the present one is dropped and the copy is copied under its
name. The checkpoint goes back first. From then on a crash leaves a slot past the checkpoint, or none at all:
`run` refuses both and names this command. Once the copy has the slot's name, `run` continues from there. The
original copy is kept, so all of this can be repeated.

Changes that were applied before are applied again from their images, which may be older than what the target
holds. Later changes follow, up to the present state of the row. Whatever lies before an epoch's horizon is
read by key, as always.
"""

from dataclasses import dataclass

import psycopg

from walvec.commands.output import confirm, say
from walvec.commands.slots import find_idle, parse_lsn
from walvec.config.load import Config
from walvec.database.checkpoint import load_checkpoint, set_back
from walvec.database.connect import connect_source, connect_source_for_changes, connect_target
from walvec.database.continuity import Server, look_at_server, require_same_history, was_promoted
from walvec.database.fence import fenced, only_command
from walvec.database.migrate import require_schema
from walvec.database.ownership import announce, require_own_schema
from walvec.database.slot_making import make_copy
from walvec.errors import UsageInvalid
from walvec.failpoint import failpoint
from walvec.supervise import supervise
from walvec.units import byte_size
from walvec.vectorizer.preconditions import survey
from walvec_slots import manage
from walvec_slots.choice import require_plugin
from walvec_slots.errors import PreconditionFailed, SlotActive, SlotLost
from walvec_slots.lsn import Lsn
from walvec_slots.manage import Slot
from walvec_slots.plugin import WAL2JSON
from walvec_slots.probe import require
from walvec_slots.relation import describe
from walvec_slots.settle import Connection, require_readable, require_utf8
from walvec_slots.wal2json import changes_only, wal2json_options

# The most WAL whose row changes are counted in advance.
COUNTED_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Way:
    """Where a replay begins and ends.

    `own` is the configured slot, which will be dropped; None if it no longer exists. `checkpoint` is how far
    the target is now, `begin` how far it is set back to, and `end` where the WAL ends or where to stop.
    """

    copy: Slot
    own: Slot | None
    checkpoint: Lsn
    begin: Lsn
    end: Lsn
    stops: bool


async def replay(config: Config, copy: str, *, begin: str | None, stop_at: str | None, sure: bool) -> None:
    """Put the copy in the slot's place and replay from there, or from `begin`.

    With `stop_at`, only what commits before it is applied. Can be interrupted and repeated at any point.
    Raises SlotActive while another process follows the slot, PreconditionFailed, SlotLost, UsageInvalid,
    ConfigInvalid.
    """
    name = config.source.slot
    if copy == name:
        raise UsageInvalid(
            f"{name} is the slot itself, which cannot go back", hint="name a copy: walvec slots list"
        )
    first = parse_lsn(begin) if begin else None
    last = parse_lsn(stop_at) if stop_at else None
    async with (
        await connect_target(config, role="replay") as target,
        await connect_source_for_changes(config) as source,
        only_command(target),
    ):
        require_utf8(target, "target")
        await require_own_schema(target)
        await require_schema(target)
        async with fenced(target, name, hint="stop it, then run walvec replay again"):
            async with await connect_source(config, role="replay") as catalog:
                require(await survey(config, catalog, target, replaces_slot=True))
            way = await _find_way(config, source, target, copy, first, last)
            confirm(await _consequences(config, source, way), sure=sure)
            await _go_back(config, source, target, way)
    await _apply(config, last)


async def _find_way(
    config: Config, source: Connection, target: Connection, name: str, begin: Lsn | None, stop_at: Lsn | None
) -> Way:
    """Return where to begin and end. Refuses a choice that would skip changes."""
    checkpoint = await load_checkpoint(target, config.source.slot)
    if checkpoint is None:
        raise PreconditionFailed(
            f'Slot "{config.source.slot}" has no checkpoint in the target', hint="run: walvec resync"
        )
    server = await look_at_server(source)
    copy = await find_idle(source, name)
    if was_promoted(checkpoint, server):
        raise PreconditionFailed(
            "The source was promoted since the last checkpoint, and walvec has not followed it yet",
            hint="run: walvec run; once it streams, stop it and run walvec replay again",
        )
    require_same_history(config.source.slot, checkpoint, server)
    place = _place_of(copy, config, source)
    if place > checkpoint.lsn:
        raise PreconditionFailed(
            f"{name} begins at {place}, after the checkpoint {checkpoint.lsn}: changes between them would be "
            "skipped",
            hint="name an older copy (walvec slots list), or run: walvec resync",
        )
    own = await manage.find_slot(source, config.source.slot)
    if own and own.active:
        raise SlotActive(
            f'Process {own.active_pid} reads slot "{own.name}"', hint="stop it, then run walvec replay again"
        )
    begin = place if begin is None else begin
    _require_order(begin, stop_at, place, checkpoint.lsn, server)
    end = server.position if stop_at is None else stop_at
    return Way(copy, own, checkpoint.lsn, begin, end, stop_at is not None)


def _place_of(copy: Slot, config: Config, source: Connection) -> Lsn:
    """Return where a copy begins. Raises PreconditionFailed if it is unusable."""
    require_readable(source, require_plugin(copy, config.source.plugin))
    if copy.database != source.info.dbname:
        how = f"belongs to database {copy.database}"
    elif copy.is_lost or copy.confirmed_flush_lsn is None:
        how = "was invalidated: its WAL is gone"
    else:
        return copy.confirmed_flush_lsn
    raise PreconditionFailed(
        f'Slot "{copy.name}" {how}, so replay cannot use it',
        hint="choose another: walvec slots list",
    )


def _require_order(begin: Lsn, stop_at: Lsn | None, place: Lsn, checkpoint: Lsn, server: Server) -> None:
    """Raise UsageInvalid unless the positions are in order.

    The order is: copy, --from, checkpoint; and --from before --stop-at.
    """
    if begin < place:
        raise UsageInvalid(f"--from {begin} lies before {place}, where the copy begins")
    if begin > checkpoint:
        raise UsageInvalid(
            f"--from {begin} lies past the checkpoint {checkpoint}: changes between them would be skipped",
            hint=f"choose {checkpoint} or earlier",
        )
    if stop_at is not None and stop_at <= begin:
        raise UsageInvalid(f"--stop-at {stop_at} does not lie after the beginning, {begin}")
    if stop_at is not None and stop_at > server.position:
        raise UsageInvalid(f"--stop-at {stop_at} has not been written yet: the WAL ends at {server.position}")


async def _consequences(config: Config, source: Connection, way: Way) -> str:
    """Say what is read again, what is dropped, and what searches find meanwhile."""
    name, copy = config.source.slot, way.copy
    changes = await _count_changes(config, source, way)
    rows = "" if changes is None else f", about {changes:,} row changes"
    wal = byte_size(way.end - way.begin)
    lines = [f"This applies the changes from {way.begin} to {way.end} again ({wal} of WAL{rows}):"]
    lines += [f"  {vectorizer.table}, to {vectorizer.target}" for vectorizer in config.vectorizers]
    if way.begin < way.checkpoint:
        lines.append(
            f"The target holds everything up to {way.checkpoint} now. Until then, searches "
            "find rows as they were in between, some of them deleted since."
        )
        lines.append(
            "A text that has stayed the same is not embedded again. One that was changed, deleted or "
            "truncated in between may be, both as it was and as it is."
        )
    if way.stops:
        lines.append(
            f"It ends at {way.end}, and `walvec run` continues from there. Whatever has to be read by key "
            "(a large value that an update left alone; a change from before the present epoch) is read as it "
            "is now."
        )
    if way.end < way.checkpoint:
        lines.append(f"Rows that change only after {way.end} stay as they are now.")
    if way.own:
        lines.append(
            f"Slot {name}, at {way.own.confirmed_flush_lsn}, is dropped and created from {copy.name}."
        )
    else:
        lines.append(f"Slot {name}, which no longer exists, is created from {copy.name}.")
    return "\n".join([*lines, f"{copy.name} is kept."])


async def _count_changes(config: Config, source: Connection, way: Way) -> int | None:
    """Count the row changes that come again; None if that takes too long or fails."""
    copy, place = way.copy, way.copy.confirmed_flush_lsn or way.begin
    if copy.plugin != WAL2JSON.name or way.end - place > COUNTED_BYTES:
        return None
    relations = [await describe(source, *vectorizer.table) for vectorizer in config.vectorizers]
    tables = sorted({(leaf.schema, leaf.name) for relation in relations for leaf in relation.leaves})
    options = changes_only(wal2json_options(tables))
    try:
        return await manage.count_messages(source, copy.name, way.end, options)
    except psycopg.Error:
        return None


async def _go_back(config: Config, source: Connection, target: Connection, way: Way) -> None:
    """Set the target back, then put the copy in the slot's place.

    The module's docstring says why a crash is safe in this order.
    """
    name = config.source.slot
    await set_back(target, name, way.begin)
    failpoint("replay-checkpoint")
    await announce(target, name, "slot", name)
    if way.own:
        await manage.drop_slot(source, name)
    failpoint("replay-drop")
    reached = await make_copy(config, source, way.copy.name, name)
    failpoint("replay-copy")
    if reached > way.begin:
        raise SlotLost(
            f"{way.copy.name} was moved to {reached} meanwhile, past {way.begin}", hint="run: walvec resync"
        )
    say(f"slot {name} stands at {reached}, the target at {way.begin}")


async def _apply(config: Config, stop_at: Lsn | None) -> None:
    """Apply the changes like `walvec run --once`. Raises Interrupted on a signal."""
    say("applying changes again; if you interrupt this, `walvec run` continues from there")
    try:
        await supervise(config, once=True, wait=False, give_up_after=None, stop_at=stop_at)
    except SlotActive:
        if stop_at:
            raise
        say("another walvec has taken over the slot and continues; see: walvec status")
        return
    if stop_at:
        say(f"everything committed before {stop_at} is applied; `walvec run` continues from there")
    else:
        say("source and target are in step; start: walvec run")
