"""`walvec setup`: publication, slot, schema and target tables, in an order that a crash anywhere leaves
repeatable.

The publication comes before the slot, because a slot decodes with the catalog of its time; the slot comes
before the first checkpoint, which says where it begins; the backfill, which `run` does, covers everything
before that.
"""

import psycopg

from consumer import metadata
from consumer.admission import require_fingerprint
from consumer.bind import bind
from consumer.commands.output import say
from consumer.config import Config, fingerprint
from consumer.continuity import look_at_server
from consumer.database import Connection, connect_source, connect_source_for_changes, connect_target
from consumer.failpoint import failpoint
from consumer.metadata import Checkpoint
from consumer.pgvector import find_vectors, require_vectors
from consumer.target import TargetTable
from consumer.visibility import Snapshot
from slots import manage, publication
from slots.errors import PreconditionFailed, SlotLost
from slots.lsn import Lsn
from slots.queries import load
from slots.relation import Relation, describe
from slots.settle import require_utf8


async def setup(config: Config, *, time_limit: float) -> None:
    """Create what is missing; safe to repeat. Waits for open write transactions up to `time_limit` seconds.

    Raises PreconditionFailed with the statement that mends it, SlotLost where slot and checkpoint do not fit.
    """
    async with (
        await connect_source_for_changes(config) as source,
        await connect_target(config, role="setup") as target,
    ):
        require_utf8(source, "source")
        require_utf8(target, "target")
        relations = [await describe(source, *vectorizer.table) for vectorizer in config.vectorizers]
        await publish(config, source, relations)
        failpoint("setup-publication")
        await _prepare_target(target)
        await _create_slot(config, source, target, time_limit)
        failpoint("setup-checkpoint")
        await create_targets(config, target)
    say("set up; run: walvec run")


async def publish(config: Config, source: Connection, relations: list[Relation]) -> None:
    """Let the publication hold every table. One without a usable replica identity was refused before."""
    name = config.source.publication
    if not await publication.exists(source, name):
        await publication.create(source, name, relations)
        say(f"created publication {name}")
        return
    for relation in relations:
        try:
            await publication.published(source, name, relation)
        except publication.NotPublished:
            await publication.add_table(source, name, relation)
            say(f"added {relation.schema}.{relation.name} to publication {name}")


async def _prepare_target(target: Connection) -> None:
    if not await find_vectors(target):
        try:
            await target.execute(load("target.sql")["create_extension"])
        except psycopg.Error as error:
            raise PreconditionFailed(
                f"extension vector cannot be created in the target: {error.diag.message_primary}",
                hint="install pgvector; then, as a superuser: CREATE EXTENSION vector SCHEMA public",
            ) from error
        await find_vectors(target)
        say("created extension vector")
    await require_vectors(target)
    for version in await metadata.migrate(target):
        say(f"created schema walvec, version {version}")


async def _create_slot(config: Config, source: Connection, target: Connection, time_limit: float) -> None:
    """Make the slot and its first checkpoint, which belong together."""
    name = config.source.slot
    checkpoint = await metadata.load_checkpoint(target, name)
    slot = await manage.inspect(source, name)
    if slot is None and checkpoint is not None:
        raise SlotLost(
            f'slot "{name}" is gone; changes since {checkpoint.lsn} are missing', hint="run: walvec resync"
        )
    if slot is None:
        await manage.create(source, name, config.source.plugin, time_limit=time_limit)
        say(f"created slot {name}")
        slot = await manage.inspect(source, name)
    failpoint("setup-slot")
    if slot is None or slot.confirmed_flush_lsn is None:
        raise PreconditionFailed(
            f'slot "{name}" is no logical slot', hint="set [source] slot to another name"
        )
    if slot.plugin != config.source.plugin:
        raise PreconditionFailed(
            f'slot "{name}" is of plugin {slot.plugin}',
            hint="set [source] slot to another name, or drop that slot",
        )
    if checkpoint is None:
        await begin(config, source, target, slot.confirmed_flush_lsn)


async def begin(config: Config, source: Connection, target: Connection, lsn: Lsn) -> None:
    """Save a new slot's first checkpoint. Whatever was embedded under an earlier one is compared again.

    A transaction that committed before the slot's beginning, but is not visible yet, would be in neither the
    stream nor a read: so the reads wait for all that are in progress now.
    """
    name = config.source.slot
    server = await look_at_server(source)
    checkpoint = Checkpoint(server.system_identifier, server.timeline, lsn, await _in_progress(source))
    async with target.transaction():
        await metadata.delete_checkpoint(target, name)
        await metadata.begin_checkpoint(target, name, checkpoint)
        for state in (await metadata.load_vectorizers(target)).values():
            if state.slot == name:
                await metadata.begin_epoch(target, state.name, name, state.fingerprint)


async def _in_progress(source: Connection) -> tuple[int, ...]:
    cursor = await source.execute(load("source.sql")["current_snapshot"])
    ((snapshot,),) = await cursor.fetchall()
    return Snapshot.parse(snapshot).running


async def create_targets(config: Config, target: Connection) -> None:
    """Create the target tables and enter the vectorizers, as far as they are missing."""
    known = await metadata.load_vectorizers(target)
    async with await connect_source(config, role="setup") as source:
        for vectorizer in config.vectorizers:
            binding = await bind(source, vectorizer, config.source.publication)
            wanted = fingerprint(vectorizer, config.embedder)
            if vectorizer.name in known:
                require_fingerprint(known[vectorizer.name], vectorizer.name, config.source.slot, wanted)
            async with target.transaction():
                table = TargetTable(vectorizer, binding.key, config.embedder.dimensions)
                if not await table.columns(target):
                    say(f"created table {vectorizer.target}")
                await table.create(target)
                if vectorizer.name not in known:
                    await metadata.add_vectorizer(target, vectorizer.name, config.source.slot, wanted)
                    say(f"added vectorizer {vectorizer.name}; its existing rows are embedded by: walvec run")
            failpoint("setup-target")
