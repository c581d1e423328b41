"""Everything that has to be so before the stream may start.

That is: sessions, the fence, the checkpoint, the bindings. An attachment is made again after every loss of a
connection. It trusts nothing that it remembers from before: it goes on from what the target has committed.
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
from walvec.database.pool import SessionPool
from walvec.database.promotion import find_fork
from walvec.database.registry import begin_epoch, load_vectorizers
from walvec.database.silence import Patience
from walvec.vectorizer.admission import Vectorizers, admit_vectorizers
from walvec.vectorizer.binding import Binding
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


@dataclass(frozen=True, slots=True)
class Sessions:
    """The open sessions of an attachment, each for one use."""

    # To the source, for replication.
    stream: ReplicationStream

    # Set once the stream says that it has left changes out.
    changes_lost: asyncio.Event

    # To the source: what the stream asks, what the backfill reads, and whether tables and publication are
    # still as they were bound.
    images: Connection
    rows: Connection
    catalog: Connection

    # To the target: the one that holds the fence, those that write batches, what the target holds, and the
    # backfill's sweeps and vector index.
    writer: Connection
    writers: SessionPool
    lookups: Connection
    backfill: Connection


@dataclass(frozen=True, slots=True)
class Attachment:
    """Open sessions and what was found through them. The stream is started."""

    config: Config
    sessions: Sessions
    plugin: Plugin
    decoder: Decoder
    checkpoint: Checkpoint

    # Marks what this attachment writes.
    holder: UUID

    # Where the stream begins, at or before the checkpoint.
    begin: Lsn

    # Everything committed before the attachment lies before it.
    position: Lsn

    vectorizers: Vectorizers


async def attach(
    config: Config,
    stack: AsyncExitStack,
    own: OwnSessions,
    *,
    wait: bool,
    starting: bool,
    patience: Patience,
) -> Attachment:
    """Connect, become the one writer, and start the stream at the checkpoint.

    `stack` closes what was opened.
    `own`: the sessions of this process so far, which are waited for.
    `wait`: another process that is the writer is waited for too; otherwise SlotActive is raised.
    `starting`: the process begins, so a vectorizer that cannot follow its table is an error. Later it is
    paused.

    Raises PreconditionFailed, ConfigInvalid, SlotLost, ConnectionLost.
    """
    sessions = await _open_sessions(config, stack, own, wait=wait, patience=patience)
    writer, catalog = sessions.writer, sessions.catalog
    await require_to_run(config, catalog, writer)
    server = await look_at_server(catalog)
    checkpoint, slot = await _find_checkpoint(config, sessions, server)
    plugin = require_plugin(slot, config.source.plugin)
    require_readable(catalog, plugin)
    holder = uuid4()
    await _take_over(config, writer, checkpoint, server, holder)
    vectorizers = await admit_vectorizers(config, plugin, writer, catalog, starting=starting)
    return Attachment(
        config=config,
        sessions=sessions,
        plugin=plugin,
        decoder=await _start_stream(config, sessions, own, plugin, vectorizers),
        checkpoint=checkpoint,
        holder=holder,
        begin=slot.confirmed_flush_lsn or checkpoint.lsn,
        position=server.position,
        vectorizers=vectorizers,
    )


def streamed_tables(bindings: Iterable[Binding]) -> list[StreamedTable]:
    """Return the tables that the vectorizers need, each with every column needed."""
    tables: dict[tuple[str, str], StreamedTable] = {}
    for table in (table for binding in bindings for table in binding.streamed()):
        known = tables.setdefault((table.schema, table.name), table)
        columns = dict.fromkeys((*known.columns, *table.columns))
        tables[table.schema, table.name] = known._replace(columns=tuple(columns))
    return [tables[name] for name in sorted(tables)]


class Connect(Protocol):
    """Opens a session with settings for its role."""

    async def __call__(self, config: Config, *, role: str, patience: Patience) -> Connection:
        """Connect; see `database.connect`."""


async def _open_sessions(
    config: Config, stack: AsyncExitStack, own: OwnSessions, *, wait: bool, patience: Patience
) -> Sessions:
    """Open the writer and take the fence; then open the other sessions, all at once."""

    def open_as(connect: Connect, role: str) -> asyncio.Task[Connection]:
        return opening.create_task(enter_session(stack, connect, config, role, patience))

    writer = await enter_session(stack, connect_target, config, "writer", patience)
    require_utf8(writer, "target")
    await require_own_schema(writer)
    await require_schema(writer)
    await own.take_fence(writer, config.source.slot, wait=wait)
    await require_vectors(writer)
    async with asyncio.TaskGroup() as opening:
        streaming = opening.create_task(_connect_stream(config, stack))
        images = open_as(connect_source, "evaluate")
        rows = open_as(connect_source, "backfill")
        catalog = open_as(connect_source, "catalog")
        lookups = open_as(connect_target, "lookup")
        backfill = open_as(connect_target, "backfill")
    stream, changes_lost = streaming.result()
    sessions = Sessions(
        stream=stream,
        changes_lost=changes_lost,
        images=images.result(),
        rows=rows.result(),
        catalog=catalog.result(),
        writer=writer,
        writers=_writers(config, stack, writer, patience),
        lookups=lookups.result(),
        backfill=backfill.result(),
    )
    await require_one_server("target", (writer, sessions.lookups, sessions.backfill))
    await require_one_server("source", (sessions.catalog, sessions.images, sessions.rows, stream.session))
    return sessions


def _writers(config: Config, stack: AsyncExitStack, fence: Connection, patience: Patience) -> SessionPool:
    """Return the pool of writing sessions, on the server that has the fence."""

    async def connect() -> Connection:
        session = await connect_target(config, role="write", patience=patience)
        try:
            await require_one_server("target", (fence, session))
        except BaseException:
            await session.close()
            raise
        return session

    pool = SessionPool(connect, config.pipeline.writers)
    stack.push_async_callback(pool.aclose)
    return pool


async def enter_session(
    stack: AsyncExitStack, connect: Connect, config: Config, role: str, patience: Patience
) -> Connection:
    """Open a session that `stack` closes.

    The connection is made here, so that nothing is left unawaited where this never begins.
    """
    connection = await connect(config, role=role, patience=patience)
    stack.push_async_callback(connection.close)
    return connection


async def _connect_stream(config: Config, stack: AsyncExitStack) -> tuple[ReplicationStream, asyncio.Event]:
    changes_lost = asyncio.Event()

    def on_notice(notice: Notice) -> None:
        """Pass on what the plugin leaves out; the message names no row."""
        if notice.severity == "WARNING":
            _log.warning("plugin.warning", message=notice.message)
            if notice.sqlstate == CHANGES_LOST:
                changes_lost.set()

    stream = await ReplicationStream.connect(
        conninfo(config.source_dsn, "stream"),
        on_notice=on_notice,
        decoding_memory=config.source.logical_decoding_work_mem,
    )
    stack.push_async_callback(stream.close)
    return stream, changes_lost


async def _start_stream(
    config: Config, sessions: Sessions, own: OwnSessions, plugin: Plugin, vectorizers: Vectorizers
) -> Decoder:
    """Start the stream, once an older session of this process has let go of the slot."""
    name, publication = config.source.slot, config.source.publication
    tables = streamed_tables(vectorizers.bindings.values())
    stream = sessions.stream
    try:
        decoder = await stream.start(name, plugin, publication, tables)
    except SlotActive as refusal:
        await own.outlive(sessions.catalog, name, refusal)
        decoder = await stream.start(name, plugin, publication, tables)
    await own.add_stream(sessions.catalog, stream.backend_pid)
    return decoder


async def _find_checkpoint(config: Config, sessions: Sessions, server: Server) -> tuple[Checkpoint, Slot]:
    """Return the checkpoint and the slot; refuse two that do not belong together."""
    name = config.source.slot
    checkpoint = await load_checkpoint(sessions.writer, name)
    if checkpoint is None:
        raise PreconditionFailed(f'Slot "{name}" has no checkpoint in the target', hint="run: walvec setup")
    fork = None
    if was_promoted(checkpoint, server):
        fork = await find_fork(sessions.stream.session, checkpoint, server.timeline)
    slots = await list_slots(sessions.catalog)
    database = sessions.catalog.info.dbname
    slot = require_continuity(config.source, database, slots, checkpoint, server, fork=fork)
    begin = slot.confirmed_flush_lsn or checkpoint.lsn
    if begin < checkpoint.lsn:
        _log.info(
            "stream.skipping_applied",
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
            "stream.promoted",
            slot=name,
            timeline=server.timeline,
            before=checkpoint.timeline,
        )
