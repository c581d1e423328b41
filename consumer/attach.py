"""Everything that has to be so before the stream may start: connections, the fence, the checkpoint, the
bindings.

An attachment is made anew after every loss of a connection. It trusts nothing that it remembers from before:
what the target has committed is where it goes on.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from consumer import metadata
from consumer.bind import Binding, bind
from consumer.config import Config, fingerprint
from consumer.database import Connection, connect_source, connect_target, conninfo
from consumer.metadata import Checkpoint, VectorizerState
from consumer.route import streamed_tables
from consumer.target import TargetTable, register_vectors
from slots.errors import PreconditionFailed, SlotActive, SlotLost
from slots.lsn import Lsn
from slots.manage import Slot, inspect
from slots.queries import load
from slots.stream import ReplicationStream
from slots.wal2json import OPTIONAL, wal2json_options

_FENCE_INTERVAL = 0.5  # seconds between tries for the lock that another process holds

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attachment:
    """Open sessions and what was found through them. The stream is started."""

    config: Config
    stream: ReplicationStream
    writer: Connection  # holds the fence; nothing else writes
    images: Connection  # source: what the stream asks
    rows: Connection  # source: what the backfill reads
    catalog: Connection  # source: whether tables and publication are still as bound
    lookups: Connection  # target: what it holds
    backfill: Connection  # target: keys to sweep, the vector index
    checkpoint: Checkpoint
    position: Lsn  # everything committed before the attachment lies before it
    bindings: Mapping[str, Binding]
    states: Mapping[str, VectorizerState]
    tables: Mapping[str, TargetTable]


async def attach(config: Config, stack: AsyncExitStack, *, wait: bool) -> Attachment:
    """Connect, become the one writer, and start the stream at the checkpoint. `stack` closes what was opened.

    With `wait`, waits while another process is the writer; otherwise raises SlotActive.
    Raises PreconditionFailed, ConfigInvalid, SlotLost, ConnectionLost.
    """
    writer = await _open(stack, connect_target(config, role="writer"))
    await metadata.require_schema(writer)
    await _fence(writer, config.source.slot, wait=wait)
    await register_vectors(writer)
    images = await _open(stack, connect_source(config, role="evaluate"))
    rows = await _open(stack, connect_source(config, role="backfill"))
    catalog = await _open(stack, connect_source(config, role="catalog"))
    lookups = await _open(stack, connect_target(config, role="lookup"))
    backfill = await _open(stack, connect_target(config, role="backfill"))
    system_identifier, position = await source_position(catalog)
    checkpoint = await _agreed_checkpoint(config, writer, catalog, system_identifier, position)
    bindings = {
        each.name: await bind(catalog, each, config.source.publication) for each in config.vectorizers
    }
    tables = {name: TargetTable(binding, config.embedder.dimensions) for name, binding in bindings.items()}
    for table in tables.values():
        await table.require(writer)
        await table.create_staging(writer)
    states = await _agreed_states(config, writer, bindings)
    stream = await ReplicationStream.connect(conninfo(config.source_dsn, "stream"), on_notice=_on_notice)
    stack.push_async_callback(stream.close)
    await start(stream, config.source.slot, bindings)
    return Attachment(
        config,
        stream,
        writer,
        images,
        rows,
        catalog,
        lookups,
        backfill,
        checkpoint,
        position,
        bindings,
        states,
        tables,
    )


async def source_position(connection: Connection) -> tuple[int, Lsn]:
    """Return the source's system identifier, and an LSN that everything committed before now lies before."""
    cursor = await connection.execute(load("source.sql")["position"], {})
    ((system_identifier, lsn),) = await cursor.fetchall()
    return system_identifier, Lsn.parse(lsn)


async def start(stream: ReplicationStream, slot: str, bindings: Mapping[str, Binding]) -> None:
    """Start the stream for the tables that the vectorizers need, and no others of the publication."""
    tables = sorted({table for binding in bindings.values() for table in streamed_tables(binding)})
    await stream.start(slot, wal2json_options(tables), OPTIONAL)


async def _open(stack: AsyncExitStack, opening: Coroutine[object, object, Connection]) -> Connection:
    connection = await opening
    stack.push_async_callback(connection.close)
    return connection


async def _fence(writer: Connection, slot: str, *, wait: bool) -> None:
    """Take the lock that makes this session the slot's one writer in the target."""
    waiting = False
    while True:
        cursor = await writer.execute(load("metadata.sql")["try_fence"], {"slot": slot})
        if await cursor.fetchone() == (True,):
            return
        if not wait:
            raise SlotActive(
                f'another walvec writes for slot "{slot}"', hint="stop it, or run without --no-wait"
            )
        if not waiting:
            waiting = True
            _log.info("waiting for another walvec to let go of the slot", slot=slot)
        await asyncio.sleep(_FENCE_INTERVAL)


async def _agreed_checkpoint(
    config: Config, writer: Connection, catalog: Connection, system_identifier: int, position: Lsn
) -> Checkpoint:
    checkpoint = await metadata.load_checkpoint(writer, config.source.slot)
    slot = await inspect(catalog, config.source.slot)
    if checkpoint is None:
        raise PreconditionFailed(
            f'slot "{config.source.slot}" has no checkpoint in the target', hint="run: walvec setup"
        )
    agree(config.source.slot, slot, checkpoint, system_identifier, position)
    return checkpoint


def agree(
    name: str, slot: Slot | None, checkpoint: Checkpoint, system_identifier: int, position: Lsn
) -> None:
    """Raise SlotLost where checkpoint, slot and server do not belong together: changes may be missing."""
    mend = "run: walvec resync"
    if checkpoint.system_identifier != system_identifier:
        raise SlotLost(f'the checkpoint of slot "{name}" is of another server than the source', hint=mend)
    if slot is None:
        raise SlotLost(
            f'slot "{name}" does not exist on the source; changes since {checkpoint.lsn} are missing',
            hint=mend,
        )
    if slot.invalidation_reason or slot.wal_status == "lost" or slot.confirmed_flush_lsn is None:
        reason = slot.invalidation_reason or "its WAL was removed"
        raise SlotLost(
            f'slot "{name}" was invalidated ({reason}); changes since {checkpoint.lsn} are missing', hint=mend
        )
    if slot.confirmed_flush_lsn > checkpoint.lsn:
        raise SlotLost(
            f'slot "{name}" stands at {slot.confirmed_flush_lsn}, past the checkpoint {checkpoint.lsn}: '
            "somebody else moved it or made it anew, and the changes between are missing",
            hint=mend,
        )
    if checkpoint.lsn > position:
        raise SlotLost(
            f"the checkpoint {checkpoint.lsn} lies past the source's last LSN {position}: the source was "
            "restored to an earlier state",
            hint=mend,
        )


async def _agreed_states(
    config: Config, writer: Connection, bindings: Mapping[str, Binding]
) -> dict[str, VectorizerState]:
    """Hold the configured vectorizers against those that the target knows; let the ones begin again that
    must.
    """
    slot = config.source.slot
    known = await metadata.load_vectorizers(writer)
    for name, state in known.items():
        if state.slot == slot and name not in bindings:
            await metadata.remove_vectorizer(writer, name)
            _log.warning(
                "vectorizer is no longer configured; its target is kept as it is and follows no changes",
                vectorizer=name,
                target=state.target_table,
                hint=f"DROP TABLE {state.target_table} when it is of no more use",
            )
    for name, binding in bindings.items():
        wanted = fingerprint(binding.vectorizer, config.embedder)
        state = require_fingerprint(known.get(name), name, slot, wanted)
        if state.source_state and state.source_state != binding.state():
            _log.warning(
                "the source table or its publication has changed; all rows are compared again",
                vectorizer=name,
            )
            await metadata.restart_backfill(writer, name, slot, wanted)
    known = await metadata.load_vectorizers(writer)
    return {name: known[name] for name in bindings}


def require_fingerprint(
    state: VectorizerState | None, name: str, slot: str, wanted: Mapping[str, str]
) -> VectorizerState:
    """Return the vectorizer's state if its vectors were made as the settings say.

    Raises PreconditionFailed where it is not set up, is another slot's, or was made otherwise.
    """
    if state is None:
        raise PreconditionFailed(f'vectorizer "{name}" is not set up', hint="run: walvec setup")
    if state.slot != slot:
        raise PreconditionFailed(
            f'vectorizer "{name}" belongs to slot "{state.slot}"',
            hint="give it another name or set [source] slot",
        )
    changed = [key for key, value in wanted.items() if state.fingerprint.get(key) != value]
    if changed:
        raise PreconditionFailed(
            f'vectorizer "{name}": {" and ".join(changed)} changed since {state.target_table} was embedded',
            hint=f"run: walvec backfill {name} (every row is embedded anew), or set it back",
        )
    return state


def _on_notice(severity: str, message: str) -> None:
    """Pass on what the plugin has to leave out: the message names a table, never a row."""
    if severity == "WARNING":
        _log.warning("the output plugin warns", message=message)
