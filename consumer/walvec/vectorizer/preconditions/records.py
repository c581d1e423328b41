"""What earlier setups left in the target, and whether the slot still fits it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg

from walvec.config.load import Config
from walvec.database.checkpoint import Checkpoint, load_checkpoint
from walvec.database.continuity import look_at_server, require_continuity, was_promoted
from walvec.database.migrate import is_migrated, is_outdated
from walvec.database.ownership import Ownership, load_ledger, require_own_schema, require_own_slot
from walvec.database.promotion import look_for_fork
from walvec.database.registry import VectorizerState, load_vectorizers
from walvec.vectorizer.preconditions.questions import METADATA_SCHEMA, ask_catalog, write_remedy
from walvec_slots.errors import WalvecError
from walvec_slots.manage import list_slots
from walvec_slots.probe import Finding
from walvec_slots.settle import Connection


@dataclass(frozen=True, slots=True)
class Records:
    """What the target database says of earlier setups; empty before the first.

    Where they cannot be read, `known` is false, and nothing follows from what is missing.
    """

    known: bool = True
    ledger: Ownership = field(default_factory=Ownership)
    vectorizers: Mapping[str, VectorizerState] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None


async def read_records(target: Connection, config: Config) -> tuple[Records, list[Finding]]:
    """Read walvec's own tables, once it is certain that they are its own."""
    subject, unknown = "walvec's records", Records(known=False)
    try:
        if not await require_own_schema(target) or not await is_migrated(target):
            return Records(), []
        if await is_outdated(target):
            return unknown, [Finding(subject, "warning", "of an older version", "walvec setup")]
        checkpoint = await load_checkpoint(target, config.source.slot)
        vectorizers = await load_vectorizers(target)
        return Records(ledger=await load_ledger(target), vectorizers=vectorizers, checkpoint=checkpoint), []
    except psycopg.errors.InsufficientPrivilege as error:
        role = str((await ask_catalog(target, "target_server"))["role"])
        remedy = write_remedy("grant_tables", schema=METADATA_SCHEMA, role=role)
        detail = error.diag.message_primary or "cannot be read"
        return unknown, [Finding(subject, "failed", detail, remedy)]
    except WalvecError as error:
        return unknown, [Finding.of(subject, error)]


async def slot_findings(
    config: Config, source: Connection, records: Records, *, replaced: bool
) -> list[Finding]:
    """Say where the slot is not this walvec's, or does not fit its checkpoint.

    These are the words of `run`. `replaced`: the slot will be dropped, and only its owner matters.
    """
    name, checkpoint = config.source.slot, records.checkpoint
    slots = await list_slots(source)
    own = next((slot for slot in slots if slot.name == name), None)
    subject = f'slot "{name}"'
    try:
        if checkpoint and not replaced:
            server = await look_at_server(source)
            fork = None
            if was_promoted(checkpoint, server):
                fork = await look_for_fork(config, checkpoint, server.timeline)
            require_continuity(config.source, source.info.dbname, slots, checkpoint, server, fork=fork)
        elif own:
            require_own_slot(own, records.ledger)
    except WalvecError as error:
        return [Finding.of(subject, error)]
    return [Finding(subject, "ok", "will be replaced")] if replaced else []
