"""`walvec setup`: creates publication, slot, schema and target tables.

Everything that could stop it is checked before anything is created. If something fails nevertheless, what
this run created is removed in the opposite order, so that no slot is left behind that retains WAL. After a
crash at any point, setup can be repeated.

The publication comes before the slot, because a slot decodes with the catalog of its time; the slot comes
before the first checkpoint, which says where it begins; the backfill, which `run` does, covers everything
before that. Each thing is recorded in `walvec.made` before it is created, so whatever a crash leaves behind
has an owner.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from walvec.commands.output import say
from walvec.config.load import Config, Vectorizer
from walvec.database.checkpoint import Checkpoint, begin_checkpoint, delete_checkpoint, load_checkpoint
from walvec.database.connect import connect_source, connect_source_for_changes, connect_target
from walvec.database.continuity import look_at_server
from walvec.database.fence import only_command
from walvec.database.migrate import is_migrated, migrate
from walvec.database.ownership import (
    Made,
    OwnedKind,
    announce,
    drop_records,
    find_relation,
    forget,
    hand_over,
    load_ledger,
    record,
    require_own_schema,
    require_own_slot,
    require_own_table,
)
from walvec.database.pgvector import CREATE_EXTENSION, find_vectors, require_vectors
from walvec.database.registry import add_vectorizer, begin_epoch, load_vectorizers, remove_vectorizer
from walvec.database.slot_making import differs_in_failover, make_copy, make_slot, mark_failover
from walvec.database.snapshot import Snapshot
from walvec.failpoint import failpoint
from walvec.vectorizer.bind import bind
from walvec.vectorizer.fingerprint import fingerprint_of, require_fingerprint
from walvec.vectorizer.preconditions import survey
from walvec.vectorizer.target import TargetTable
from walvec_slots import manage, publication
from walvec_slots.choice import choose_plugin
from walvec_slots.errors import PreconditionFailed, WalvecError
from walvec_slots.lsn import Lsn
from walvec_slots.probe import require
from walvec_slots.queries import load_sql
from walvec_slots.relation import Relation, describe
from walvec_slots.settle import Connection, require_utf8

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Site:
    """Where things are created, and the steps that undo it if setup fails."""

    config: Config
    source: Connection
    target: Connection
    undo: AsyncExitStack

    @property
    def slot(self) -> str:
        """The slot that everything is created for."""
        return self.config.source.slot


async def setup(config: Config, *, time_limit: float) -> None:
    """Create what is missing; safe to repeat.

    Waits up to `time_limit` seconds for open write transactions. Raises what `check` reports as failed,
    before anything is created.
    """
    async with (
        await connect_source(config, role="setup") as catalog,
        await connect_source_for_changes(config) as source,
        await connect_target(config, role="setup") as target,
        only_command(target),
    ):
        require_utf8(target, "target")
        await _upgrade(target)
        require(await survey(config, catalog, target))
        relations = [await describe(catalog, *vectorizer.table) for vectorizer in config.vectorizers]
        async with AsyncExitStack() as undo:
            site = Site(config, source, target, undo)
            await _prepare_target(site)
            await publish(site, relations)
            failpoint("setup-publication")
            await _create_slot(site, time_limit)
            failpoint("setup-checkpoint")
            await create_targets(site, catalog)
            undo.pop_all()
    say("setup is complete; start: walvec run")


async def _upgrade(target: Connection) -> None:
    """Bring existing tables of walvec up to date, so that they can be read."""
    if await require_own_schema(target) and await is_migrated(target):
        for version in await migrate(target):
            say(f"updated schema walvec to version {version}")


async def _prepare_target(site: Site) -> None:
    target = site.target
    if not await find_vectors(target):
        try:
            await target.execute(CREATE_EXTENSION)
        except psycopg.Error as error:
            raise PreconditionFailed(
                f"Could not create extension vector in the target: {error.diag.message_primary}",
                hint="install pgvector; then, as a superuser: CREATE EXTENSION vector SCHEMA public",
            ) from error
        await find_vectors(target)
        say("created extension vector")
    await require_vectors(target)
    async with target.transaction():
        existed = await require_own_schema(target)
        done = await migrate(target)
        if not existed:
            await record(target, Made(site.slot, "schema", "walvec", None))
    if done:
        say("created walvec's tables in schema walvec")
        _on_failure(site, "walvec's tables", lambda: drop_records(target))


async def publish(site: Site, relations: list[Relation]) -> None:
    """Add every table to the publication.

    Tables without a usable replica identity were refused before.
    """
    name = site.config.source.publication
    existing = await publication.find_publication(site.source, name)
    if existing is None:
        await _make(
            site,
            "publication",
            name,
            lambda: publication.create_publication(site.source, name, relations),
            lambda: publication.drop_publication(site.source, name),
        )
        existing = await publication.find_publication(site.source, name)
    if existing:
        await _record_oid(site, "publication", name, existing.oid)
    for relation in relations:
        try:
            await publication.published(site.source, name, relation)
        except publication.NotPublished:
            await publication.add_table(site.source, name, relation)
            say(f"added {relation.schema}.{relation.name} to publication {name}")


async def _create_slot(site: Site, time_limit: float) -> None:
    """Create the slot and its first checkpoint, which belong together."""
    slot = await manage.find_slot(site.source, site.slot)
    if slot:
        await _match_failover(site, slot)
    if await load_checkpoint(site.target, site.slot):
        return
    if slot is None:
        beginning = await _make_slot(site, time_limit)
    else:
        # A crash came between the slot and its checkpoint.
        require_own_slot(slot, await load_ledger(site.target))
        _drop_on_failure(site, "slot", site.slot, lambda: manage.drop_slot(site.source, site.slot))
        beginning = slot.confirmed_flush_lsn or Lsn(0)
    failpoint("setup-slot")
    await begin(site, beginning)


async def _match_failover(site: Site, slot: manage.Slot) -> None:
    """Make the slot what [source] failover says, unless a process holds it.

    `check` reports a slot that differs.
    """
    if slot.active or not differs_in_failover(site.config, site.source, slot):
        return
    require_own_slot(slot, await load_ledger(site.target))
    await mark_failover(site.config, slot.name, failover=not slot.failover)
    say(f"slot {slot.name} is now {'an ordinary slot' if slot.failover else 'a failover slot'}")


async def _make_slot(site: Site, time_limit: float) -> Lsn:
    """Create the slot and return where its stream begins."""
    name = site.slot
    plugin = await choose_plugin(site.source, site.config.source.plugin)
    beginning = await _make(
        site,
        "slot",
        name,
        lambda: make_slot(site.config, site.source, name, plugin.name, time_limit=time_limit),
        lambda: manage.drop_slot(site.source, name),
    )
    say(f"slot {name} uses the output plugin {plugin.name}")
    return beginning


async def rename_slot(site: Site, original: str) -> None:
    """Create the slot as a copy of `original`: the nearest to renaming it."""
    name = site.slot
    await _make(
        site,
        "slot",
        name,
        lambda: make_copy(site.config, site.source, original, name),
        lambda: manage.drop_slot(site.source, name),
    )


async def _make(
    site: Site,
    kind: OwnedKind,
    name: str,
    create: Callable[[], Awaitable[_T]],
    drop: Callable[[], Awaitable[None]],
) -> _T:
    """Create one thing, which is recorded first and forgotten again on failure."""
    announced = await announce(site.target, site.slot, kind, name)
    try:
        result = await create()
    except Exception:
        if announced:
            await forget(site.target, site.slot, kind, name)
        raise
    _drop_on_failure(site, kind, name, drop)
    say(f"created {kind} {name}")
    return result


async def _record_oid(site: Site, kind: OwnedKind, name: str, oid: int) -> None:
    """Record the oid of something that setup created, known so far by its name."""
    if (await load_ledger(site.target)).maker(kind, name, oid) == site.slot:
        await record(site.target, Made(site.slot, kind, name, oid))


def _drop_on_failure(site: Site, kind: OwnedKind, name: str, drop: Callable[[], Awaitable[None]]) -> None:
    async def undo() -> None:
        await drop()
        await forget(site.target, site.slot, kind, name)

    _on_failure(site, f"{kind} {name}", undo)


def _on_failure(site: Site, thing: str, undo: Callable[[], Awaitable[object]]) -> None:
    """Undo one thing if a later step fails, and say so."""

    async def attempt() -> None:
        try:
            await undo()
        except (psycopg.Error, WalvecError):
            say(f"could not remove {thing} again; run: walvec teardown", err=True)
        else:
            say(f"removed {thing} again", err=True)

    site.undo.push_async_callback(attempt)


async def begin(site: Site, lsn: Lsn) -> None:
    """Save a new slot's first checkpoint, and begin an epoch of each vectorizer.

    A transaction that committed before the slot's beginning but is not visible yet would be in neither the
    stream nor a read, so reads wait for every transaction that is in progress now.
    """
    target, name = site.target, site.slot
    server = await look_at_server(site.source)
    checkpoint = Checkpoint(server.system_identifier, server.timeline, lsn, await _in_progress(site.source))
    async with target.transaction():
        await delete_checkpoint(target, name)
        await begin_checkpoint(target, name, checkpoint)
        for state in (await load_vectorizers(target)).values():
            if state.slot == name:
                await begin_epoch(target, state.name, name, state.fingerprint)
    _on_failure(site, f"checkpoint of slot {name}", lambda: delete_checkpoint(target, name))


async def _in_progress(source: Connection) -> tuple[int, ...]:
    cursor = await source.execute(load_sql("source.sql")["current_snapshot"])
    ((snapshot,),) = await cursor.fetchall()
    return Snapshot.parse(snapshot).running


async def create_targets(site: Site, catalog: Connection) -> None:
    """Create target tables and register vectorizers, where they are missing."""
    done: list[str] = []
    async with site.target.transaction():
        await _take_over(site, done)
        for vectorizer in site.config.vectorizers:
            await _create_target(site, catalog, vectorizer, done)
            failpoint("setup-target")
    for words in done:
        say(words)


async def _take_over(site: Site, done: list[str]) -> None:
    """Remove unconfigured vectorizers of this slot whose target another one takes."""
    targets = {str(vectorizer.target): vectorizer.name for vectorizer in site.config.vectorizers}
    for state in (await load_vectorizers(site.target)).values():
        configured = site.config.vectorizer(state.name) is not None
        if state.slot == site.slot and not configured and state.target_table in targets:
            await remove_vectorizer(site.target, state.name)
            done.append(f"vectorizer {targets[state.target_table]} takes the target of {state.name}")


async def _create_target(site: Site, catalog: Connection, vectorizer: Vectorizer, done: list[str]) -> None:
    target, name = site.target, vectorizer.name
    binding = await bind(catalog, vectorizer, site.config.source.publication)
    wanted = fingerprint_of(vectorizer, site.config.embedder)
    table = TargetTable(vectorizer, binding.key, site.config.embedder.dimensions)
    ledger = await load_ledger(target)
    oid = await require_own_table(target, ledger, table.name)
    if missing := oid is None:
        await table.create(target)
        oid = await find_relation(target, table.name)
        await record(target, Made(site.slot, "table", str(table.name), oid))
        done.append(f"created table {vectorizer.target}")
    elif ledger.maker("table", str(table.name), oid) == site.slot:
        await record(target, Made(site.slot, "table", str(table.name), oid))
    await table.require_shape(target)
    known = (await load_vectorizers(target)).get(name)
    if known:
        require_fingerprint(known, name, site.slot, wanted)
        if missing:
            # The table that was there before is gone, so its rows are embedded again.
            await begin_epoch(target, name, site.slot, wanted)
        return
    await hand_over(target, site.slot, table.name, oid)
    await add_vectorizer(target, name, site.slot, wanted)
    done.append(f"added vectorizer {name}; `walvec run` embeds its existing rows")
