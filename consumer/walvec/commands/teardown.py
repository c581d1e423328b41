"""`walvec teardown`: drops what setup recorded, and nothing else.

It first says what that is. The target's part is one transaction, which commits once slot and publication are
gone. If something cannot be dropped, everything stays; a crash in between leaves the records, so teardown can
be repeated.
"""

from dataclasses import dataclass, field

import psycopg

from walvec.commands.output import confirm, say
from walvec.config.load import Config, TableName
from walvec.database.checkpoint import delete_checkpoint, load_checkpoint
from walvec.database.connect import connect_source_for_changes, connect_target
from walvec.database.fence import fenced, only_command
from walvec.database.migrate import is_migrated, require_schema
from walvec.database.ownership import (
    OwnedKind,
    Ownership,
    drop_records,
    drop_table,
    find_relation,
    forget_slot,
    load_ledger,
    require_own_schema,
)
from walvec.database.registry import load_vectorizers, remove_vectorizer
from walvec_slots import manage, publication
from walvec_slots.errors import PreconditionFailed, SlotActive
from walvec_slots.settle import Connection

_KEPT_WITHOUT_TABLES: tuple[OwnedKind, ...] = ("slot", "publication")
_WITH_TABLES: tuple[OwnedKind, ...] = (*_KEPT_WITHOUT_TABLES, "table", "index")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is dropped, and what is kept because setup did not create it."""

    slot: bool
    # Whether walvec's records mention the slot.
    known: bool
    vectorizers: list[str]
    publications: list[str] = field(default_factory=list)
    tables: list[TableName] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


async def teardown(config: Config, *, tables: bool, sure: bool) -> None:
    """Drop slot and publication, and with `tables` the tables in the target too.

    Raises SlotActive while a process uses the slot, PreconditionFailed if something cannot be dropped.
    """
    name = config.source.slot
    async with (
        await connect_source_for_changes(config) as source,
        await connect_target(config, role="teardown") as target,
        only_command(target),
    ):
        if not await require_own_schema(target) or not await is_migrated(target):
            say(f"Nothing is set up for slot {name} in this target. Nothing was dropped.")
            return
        await require_schema(target)
        async with fenced(target, name, hint="stop it, then run walvec teardown again"):
            plan = await _plan(config, source, target, tables=tables)
            for kept in plan.kept:
                say(f"kept: {kept}, which setup did not make for slot {name}")
            if not plan.known:
                say(f"Nothing is set up for slot {name} in this target. Nothing was dropped.")
                return
            confirm("\n".join(["This drops:", *(f"  {loss}" for loss in _losses(name, plan))]), sure=sure)
            await _drop(name, source, target, plan, tables=tables)


async def _plan(config: Config, source: Connection, target: Connection, *, tables: bool) -> _Plan:
    """Find out which of the recorded things still exist."""
    name, ledger = config.source.slot, await load_ledger(target)
    states = await load_vectorizers(target)
    vectorizers = [state.name for state in states.values() if state.slot == name]
    kinds = {entry.kind for entry in ledger.entries if entry.slot == name} - {"schema"}
    recorded = kinds if tables else kinds - {"table", "index"}
    known = bool(vectorizers or await load_checkpoint(target, name) or recorded)
    slot = await manage.find_slot(source, name)
    is_own = bool(slot and slot.database == source.info.dbname and ledger.maker("slot", name) is not None)
    if slot and is_own and slot.active:
        raise SlotActive(
            f'Process {slot.active_pid} reads slot "{name}"', hint="stop it, then run walvec teardown again"
        )
    plan = _Plan(is_own, known, vectorizers)
    if slot and not is_own:
        plan.kept.append(f"slot {name}")
    await _plan_publications(config, source, ledger, plan)
    if tables:
        others = {state.target_table for state in states.values() if state.slot != name}
        await _plan_tables(config, target, ledger, others, plan)
    return plan


async def _plan_publications(config: Config, source: Connection, ledger: Ownership, plan: _Plan) -> None:
    slot, configured = config.source.slot, config.source.publication
    names = dict.fromkeys([*(entry.name for entry in ledger.made_for(slot, "publication")), configured])
    for name in names:
        existing = await publication.find_publication(source, name)
        if existing is None:
            continue
        if ledger.maker("publication", name, existing.oid) == slot:
            plan.publications.append(name)
        else:
            plan.kept.append(f"publication {name}")


async def _plan_tables(
    config: Config, target: Connection, ledger: Ownership, others: set[str], plan: _Plan
) -> None:
    slot = config.source.slot
    configured = [str(vectorizer.target) for vectorizer in config.vectorizers]
    for name in dict.fromkeys([*(entry.name for entry in ledger.made_for(slot, "table")), *configured]):
        table = TableName.parse(name)
        oid = await find_relation(target, table)
        if oid is None:
            continue
        if ledger.maker("table", name, oid) == slot and name not in others:
            plan.tables.append(table)
        else:
            plan.kept.append(f"table {name}")


def _losses(slot: str, plan: _Plan) -> list[str]:
    losses = [f"slot {slot}: changes from now on are not followed"] if plan.slot else []
    losses += [f"publication {name}" for name in plan.publications]
    losses += [f"table {table} with its vectors" for table in plan.tables]
    return [*losses, "walvec's records of this slot: checkpoint, vectorizers and dead letters"]


async def _drop(name: str, source: Connection, target: Connection, plan: _Plan, *, tables: bool) -> None:
    try:
        async with target.transaction():
            for table in plan.tables:
                await drop_table(target, table)
            for vectorizer in plan.vectorizers:
                await remove_vectorizer(target, vectorizer)
            await delete_checkpoint(target, name)
            await forget_slot(target, name, _WITH_TABLES if tables else _KEPT_WITHOUT_TABLES)
            records = await drop_records(target) if tables else None
            async with source.transaction():
                for published in plan.publications:
                    await publication.drop_publication(source, published)
                if plan.slot:
                    await manage.drop_slot(source, name)
    except psycopg.errors.DependentObjectsStillExist as error:
        raise PreconditionFailed(
            f"Nothing was dropped: {error.diag.message_primary}",
            hint=f"first drop what depends on it: {error.diag.message_detail}",
        ) from error
    done = [f"slot {name}"] if plan.slot else []
    done += [f"publication {dropped}" for dropped in plan.publications]
    done += [f"table {table}" for table in plan.tables]
    done += [records] if records else []
    for dropped in done:
        say(f"dropped {dropped}")
    say(f"slot {name} is forgotten")
