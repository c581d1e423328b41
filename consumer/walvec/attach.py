"""Everything that has to be so before the stream may start: connections, the fence, the checkpoint, the
bindings.

An attachment is made anew after every loss of a connection. It trusts nothing that it remembers from before:
what the target has committed is where it goes on.
"""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid4

import structlog

from walvec.config.load import Config
from walvec.database.checkpoint import Checkpoint, load_checkpoint, take_over
from walvec.database.connect import connect_source, connect_target, conninfo
from walvec.database.continuity import (
    Server,
    look_at_server,
    require_continuity,
    require_one_server,
    was_promoted,
)
from walvec.database.fence import OwnSessions
from walvec.database.migrate import require_schema
from walvec.database.ownership import require_own_schema
from walvec.database.pgvector import require_vectors
from walvec.database.promotion import find_fork
from walvec.database.registry import begin_epoch, load_vectorizers
from walvec.vectorizer.admission import Vectorizers, admit_vectorizers
from walvec.vectorizer.bind import Binding
from walvec.vectorizer.preconditions import require_to_run
from walvec_slots.changes import StreamedTable
from walvec_slots.choice import require_plugin
from walvec_slots.errors import PreconditionFailed, SlotActive
from walvec_slots.lsn import Lsn
from walvec_slots.manage import Slot, list_slots
from walvec_slots.plugin import Decoder, Plugin
from walvec_slots.settle import Connection, require_readable, require_utf8
from walvec_slots.stream import ReplicationStream
from walvec_slots.walsender import Notice

# The SQLSTATE of the warning with which pgoutput passes over changes, from PostgreSQL 18 on: the publication
# did not exist when they were written.
CHANGES_LOST = "55000"

_log = structlog.get_logger(__name__)


class Connect(Protocol):
    """Opens a session in a role of its own."""

    async def __call__(self, config: Config, *, role: str) -> Connection:
        """Connect; see `database`."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Open sessions and what was found through them. The stream is started."""

    config: Config
    stream: ReplicationStream
    changes_lost: asyncio.Event  # set once the stream says that it has left changes out
    plugin: Plugin
    decoder: Decoder  # of this stream
    writer: Connection  # holds the fence; nothing else writes
    images: Connection  # source: what the stream asks
    rows: Connection  # source: what the backfill reads
    catalog: Connection  # source: whether tables and publication are still as bound
    lookups: Connection  # target: what it holds
    backfill: Connection  # target: keys to sweep, the vector index
    checkpoint: Checkpoint
    holder: UUID  # marks what this attachment writes
    begin: Lsn  # where the stream begins, at or before the checkpoint
    position: Lsn  # everything committed before the attachment lies before it
    vectorizers: Vectorizers


async def attach(
    config: Config, stack: AsyncExitStack, own: OwnSessions, *, wait: bool, starting: bool
) -> Attachment:
    """Connect, become the one writer, and start the stream at the checkpoint. `stack` closes what was opened.

    `own`: the sessions of this process so far, which are waited for. With `wait`, so is another process that
    is the writer; otherwise it raises SlotActive. `starting`: the
    process begins, so a vectorizer that cannot follow its table is an error; later it is paused.
    Raises PreconditionFailed, ConfigInvalid, SlotLost, ConnectionLost.
    """
    writer = await _open(stack, connect_target, config, "writer")
    require_utf8(writer, "target")
    await require_own_schema(writer)
    await require_schema(writer)
    await own.take_fence(writer, config.source.slot, wait=wait)
    await require_vectors(writer)
    async with asyncio.TaskGroup() as opening:  # a session takes longer to open than anything that is asked

        def open_beside(connect: Connect, role: str) -> asyncio.Task[Connection]:
            return opening.create_task(_open(stack, connect, config, role))

        images = open_beside(connect_source, "evaluate")
        rows = open_beside(connect_source, "backfill")
        lookups = open_beside(connect_target, "lookup")
        backfill = open_beside(connect_target, "backfill")
        connecting = opening.create_task(_connect_stream(config, stack))
        catalog = await _open(stack, connect_source, config, "catalog")
        await require_one_server("target", (writer, await lookups, await backfill))
        stream, changes_lost = await connecting
        await require_one_server("source", (catalog, await images, await rows, stream.session))
        await require_to_run(config, catalog, writer)
        server = await look_at_server(catalog)
        checkpoint, slot = await _checkpoint(config, writer, catalog, stream, server)
        plugin = require_plugin(slot, config.source.plugin)
        require_readable(catalog, plugin)
        holder = uuid4()
        await _take_over(config, writer, checkpoint, server, holder)
        vectorizers = await admit_vectorizers(config, plugin, writer, catalog, starting=starting)
        for table in vectorizers.tables.values():
            await table.create_staging(writer)
    name, publication = config.source.slot, config.source.publication
    tables = streamed_tables(vectorizers.bindings.values())
    try:
        decoder = await stream.start(name, plugin, publication, tables)
    except SlotActive as refusal:
        await own.outlive(catalog, name, refusal)
        decoder = await stream.start(name, plugin, publication, tables)
    await own.add_stream(catalog, stream.backend_pid)
    return Attachment(
        config=config,
        stream=stream,
        changes_lost=changes_lost,
        plugin=plugin,
        decoder=decoder,
        writer=writer,
        images=images.result(),
        rows=rows.result(),
        catalog=catalog,
        lookups=lookups.result(),
        backfill=backfill.result(),
        checkpoint=checkpoint,
        holder=holder,
        begin=slot.confirmed_flush_lsn or checkpoint.lsn,
        position=server.position,
        vectorizers=vectorizers,
    )


def streamed_tables(bindings: Iterable[Binding]) -> list[StreamedTable]:
    """Return the tables that the vectorizers need, each with all columns that one of them does."""
    tables: dict[tuple[str, str], StreamedTable] = {}
    for table in (table for binding in bindings for table in binding.streamed()):
        known = tables.setdefault((table.schema, table.name), table)
        columns = dict.fromkeys((*known.columns, *table.columns))
        tables[table.schema, table.name] = known._replace(columns=tuple(columns))
    return [tables[name] for name in sorted(tables)]


async def _connect_stream(config: Config, stack: AsyncExitStack) -> tuple[ReplicationStream, asyncio.Event]:
    changes_lost = asyncio.Event()

    def on_notice(notice: Notice) -> None:
        """Pass on what the plugin has to leave out: the message names a relation, never a row."""
        if notice.severity == "WARNING":
            _log.warning("the output plugin warns", message=notice.message)
            if notice.sqlstate == CHANGES_LOST:
                changes_lost.set()

    stream = await ReplicationStream.connect(
        conninfo(config.source_dsn, "stream"),
        on_notice=on_notice,
        decoding_memory=config.source.logical_decoding_work_mem,
    )
    stack.push_async_callback(stream.close)
    return stream, changes_lost


async def _open(stack: AsyncExitStack, connect: Connect, config: Config, role: str) -> Connection:
    """Open a session; made here, so that none is left unawaited where this never begins."""
    connection = await connect(config, role=role)
    stack.push_async_callback(connection.close)
    return connection


async def _checkpoint(
    config: Config, writer: Connection, catalog: Connection, stream: ReplicationStream, server: Server
) -> tuple[Checkpoint, Slot]:
    """Return the checkpoint and the slot; refuse what does not belong together."""
    name = config.source.slot
    checkpoint = await load_checkpoint(writer, name)
    if checkpoint is None:
        raise PreconditionFailed(f'slot "{name}" has no checkpoint in the target', hint="run: walvec setup")
    fork = None
    if was_promoted(checkpoint, server):
        fork = await find_fork(stream.session, checkpoint, server.timeline)
    slots = await list_slots(catalog)
    slot = require_continuity(config.source, catalog.info.dbname, slots, checkpoint, server, fork=fork)
    begin = slot.confirmed_flush_lsn or checkpoint.lsn
    if begin < checkpoint.lsn:
        _log.info(
            "the slot begins before the checkpoint; what is applied already is passed over",
            slot=name,
            slot_begins_at=str(begin),
            checkpoint=str(checkpoint.lsn),
            passed_over_bytes=checkpoint.lsn - begin,
            hint="to apply it again: walvec replay --slot COPY, of a copy that begins there",
        )
    return checkpoint, slot


async def _take_over(
    config: Config, writer: Connection, checkpoint: Checkpoint, server: Server, holder: UUID
) -> None:
    """Become the attachment that writes, on the server's current timeline.

    After a promotion all rows are compared: what a refetch or a backfill read from the old primary may be
    newer than anything the promoted server has.
    """
    name = config.source.slot
    async with writer.transaction():
        await take_over(writer, name, holder, server.timeline)
        if was_promoted(checkpoint, server):
            for state in (await load_vectorizers(writer)).values():
                # A paused vectorizer is compared when its pause ends.
                if state.slot == name and not state.paused:
                    await begin_epoch(writer, state.name, name, state.fingerprint)
    if was_promoted(checkpoint, server):
        _log.warning(
            "the source was promoted, and its slot came along; all rows are compared",
            slot=name,
            timeline=server.timeline,
            before=checkpoint.timeline,
        )
