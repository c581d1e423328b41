"""`walvec resync`: replaces a lost or moved slot, and compares everything.

Between the old slot and the new one, unknown changes were missed. So every row is read again and every key of
the targets is looked up, as in a backfill. Only what differs is embedded, and what is gone is removed.

Nothing is given up before the new slot exists. It is created as a temporary slot, which vanishes with the
session, and is copied to the slot's name last. A crash before the old slot is dropped changes nothing. A
crash after it leaves no slot, which `run` refuses and from which `resync` can start again.
"""

from contextlib import AsyncExitStack

from psycopg import sql

from walvec.commands import setup
from walvec.commands.output import confirm, say
from walvec.config.load import Config, TableName
from walvec.database.checkpoint import load_checkpoint
from walvec.database.connect import connect_source, connect_source_for_changes, connect_target
from walvec.database.continuity import look_at_server, require_one_server, require_present_primary
from walvec.database.fence import fenced, only_command
from walvec.database.keys import identifier
from walvec.database.migrate import require_schema
from walvec.database.ownership import require_own_schema
from walvec.database.registry import VectorizerState, load_vectorizers
from walvec.failpoint import failpoint
from walvec.supervise import supervise
from walvec.units import byte_size
from walvec.vectorizer.preconditions import survey
from walvec_slots import manage
from walvec_slots.choice import choose_plugin
from walvec_slots.errors import PreconditionFailed, SlotActive
from walvec_slots.manage import Slot
from walvec_slots.plugin import PLUGINS
from walvec_slots.probe import require
from walvec_slots.queries import load_sql
from walvec_slots.relation import Relation, describe
from walvec_slots.settle import Connection, require_utf8


async def resync(
    config: Config, *, time_limit: float, compare: bool, sure: bool, from_old_primary: bool = False
) -> None:
    """Create a new slot and compare every row.

    Without `compare`, the next `walvec run` compares. Waits up to `time_limit` seconds for open write
    transactions. Safe to repeat, even after a crash. `from_old_primary` accepts a source on an earlier
    timeline than what is embedded.
    Raises SlotActive while another process follows the slot, SlotLost for an old primary, PreconditionFailed,
    ConfigInvalid.
    """
    async with (
        await connect_target(config, role="resync") as target,
        await connect_source_for_changes(config) as source,
        only_command(target),
    ):
        require_utf8(target, "target")
        await require_own_schema(target)
        await require_schema(target)
        async with (
            fenced(target, config.source.slot, hint="stop it, then run walvec resync again"),
            await connect_source(config, role="resync") as catalog,
        ):
            slot = await _own_slot(config, source)
            await require_one_server("source", (source, catalog))
            await _look_at_history(config, source, target, from_old_primary=from_old_primary)
            require(await survey(config, catalog, target, replaces_slot=True))
            relations = [await describe(catalog, *vectorizer.table) for vectorizer in config.vectorizers]
            confirm(await _loss(config, source, slot, relations), sure=sure)
            async with AsyncExitStack() as undo:
                site = setup.Site(config, source, target, undo)
                await setup.publish(site, relations)
                await setup.create_targets(site, catalog)
                await _replace_slot(site, slot, time_limit)
                undo.pop_all()
    if compare:
        await _compare(config)
    else:
        say("the next `walvec run` compares every row")


async def _own_slot(config: Config, source: Connection) -> Slot | None:
    """Return the slot to drop; None if there is none. Refuses one of another kind."""
    name = config.source.slot
    slot = await manage.find_slot(source, name)
    if slot is None:
        return None
    if slot.plugin not in PLUGINS:
        raise _foreign(name, f"uses the plugin {slot.plugin}" if slot.plugin else "is a physical slot")
    if slot.database != source.info.dbname:
        raise _foreign(name, f"belongs to database {slot.database}")
    if slot.active:
        raise SlotActive(
            f'Process {slot.active_pid} reads slot "{name}"', hint="stop it, then run walvec resync again"
        )
    return slot


def _foreign(name: str, how: str) -> PreconditionFailed:
    return PreconditionFailed(
        f'Slot "{name}" {how}', hint="it is not walvec's: set [source] slot to another name"
    )


async def _loss(config: Config, source: Connection, slot: Slot | None, relations: list[Relation]) -> str:
    """Say what is dropped, and what is read."""
    name = config.source.slot
    old = f"Slot {name} no longer exists. This creates a new one"
    if slot is not None:
        unread = byte_size(slot.unconfirmed_bytes)
        old = f"This drops slot {name}, with {unread} of WAL that was not read. It creates a new one"
    lines = [f"{old} and compares every row:"]
    for vectorizer, relation in zip(config.vectorizers, relations, strict=True):
        rows = await _estimate(source, relation)
        lines.append(f"  {vectorizer.table}, about {rows:,} rows, with {vectorizer.target}")
    return "\n".join([*lines, "Only what differs is embedded, and what the source no longer has is removed."])


async def _estimate(source: Connection, relation: Relation) -> int:
    oids = [leaf.oid for leaf in relation.leaves]
    cursor = await source.execute(load_sql("source.sql")["row_estimate"], {"oids": oids})
    ((rows,),) = await cursor.fetchall()
    return int(rows)


async def _look_at_history(
    config: Config, source: Connection, target: Connection, *, from_old_primary: bool
) -> None:
    """Refuse an old primary, and say if the source is another server than before.

    If the previous server still runs, its slot retains WAL that nobody will read.
    """
    name = config.source.slot
    checkpoint = await load_checkpoint(target, name)
    if checkpoint is None:
        return
    server = await look_at_server(source)
    if not from_old_primary:
        require_present_primary(name, checkpoint, server)
    if checkpoint.system_identifier != server.system_identifier:
        say(
            f"the source is another server than before; if the previous one still runs, drop slot {name} "
            "there, because it retains WAL"
        )


async def _replace_slot(site: setup.Site, slot: Slot | None, time_limit: float) -> None:
    """Replace slot and checkpoint by new ones.

    The new checkpoint comes before its slot: with the old checkpoint, a source that went back in time could
    skip changes.
    """
    name = site.slot
    trial = f"walvec_resync_{site.source.info.backend_pid}"
    plugin = await choose_plugin(site.source, site.config.source.plugin)
    beginning = await manage.create_slot(
        site.source, trial, plugin.name, time_limit=time_limit, temporary=True
    )
    failpoint("resync-slot")
    if slot is not None:
        await manage.drop_slot(site.source, name)
        say(f"dropped slot {name}")
    failpoint("resync-drop")
    await setup.begin(site, beginning)
    failpoint("resync-begin")
    await setup.rename_slot(site, trial)
    say(f"slot {name} uses the output plugin {plugin.name}")
    failpoint("resync-copy")
    await manage.drop_slot(site.source, trial)
    say(f"slot {name} begins at {beginning}")


async def _compare(config: Config) -> None:
    """Compare everything, like `walvec run --once`. Raises Interrupted on a signal."""
    say("comparing every row; if you interrupt this, `walvec run` continues from there")
    try:
        await supervise(config, once=True, wait=False, give_up_after=None)
    except SlotActive:
        say("another walvec has taken over the slot and continues comparing; see: walvec status")
        return
    async with await connect_target(config, role="resync") as target:
        states = await load_vectorizers(target)
        own = [states[vectorizer.name] for vectorizer in config.vectorizers]
        for state in own:
            written = await _written_since(target, state)
            say(f"{state.name}: {state.rows_done:,} rows compared, {written:,} chunks embedded")
    say("source and target are in step; start: walvec run")


async def _written_since(target: Connection, state: VectorizerState) -> int:
    """Count the chunks embedded since the backfill began."""
    name = identifier(*TableName.parse(state.target_table))
    query = sql.SQL(load_sql("target.sql")["embedded_since"]).format(target=name)
    cursor = await target.execute(query, {"since": state.started_at})
    ((chunks,),) = await cursor.fetchall()
    return int(chunks)
