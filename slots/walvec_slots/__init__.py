"""An asyncio client of logical replication: bytes in, confirmations out.

It knows nothing of embeddings. These twelve lines follow a slot of either output plugin, print what happens
to the rows of a table, and confirm each transaction once all of it is printed:

    import asyncio
    import walvec_slots as ws

    async def follow(dsn: str, slot: str, plugin: ws.Plugin, publication: str, table: str) -> None:
        async with await ws.ReplicationStream.connect(dsn, on_notice=print) as stream:
            relation = await ws.describe(stream.session, "public", table)
            decoder = await stream.start(slot, plugin, publication, relation.streamed())
            done = ws.Lsn(0)
            while True:
                for frame in await stream.read():
                    if isinstance(frame, ws.XLogData):
                        print(event := decoder.decode(frame.payload, frame.start))
                        if isinstance(event, ws.Commit):
                            done = event.next_lsn
                await stream.send(ws.StandbyStatus.through(done))

    asyncio.run(follow("dbname=blog", "posts", ws.PGOUTPUT, "posts", "posts"))

`create_slot` and `create_publication` make what it follows. Where the work is slower than the stream, run
`feedback` as a task beside it, so that the server hears from this side meanwhile, and let a `Ledger` decide
what is safe to confirm.

The modules, in the order in which to read them:

    lsn           a position in the WAL
    errors        what can go wrong, and what to do about it

    settle        how a session is opened, with every setting pinned that shapes values
    walsender     the replication socket: connect, run a command, copy in both directions
    protocol      frames: bytes to values, values to bytes; pure
    stream        start a slot, read frames, send standby status
    changes       the messages that a stream brings, whichever plugin sends them
    plugin        the two output plugins behind one interface
    wal2json      the one: JSON to messages; pure
    pgoutput      the other: bytes to messages; pure
    ack           which LSN is safe to confirm; pure

    manage        slots: list, find, create, drop, advance, copy
    failover      slots of which a standby keeps a copy
    relation      a table as the stream sees it: columns, key, partitions
    identity      what identifies a row: replica identity and unique indexes
    publication   what a publication lets through of a table
    choice        which plugin a slot has, or is to have
    rights        what the role may do, and the statements that let it
    known_faults  minor releases with a known fault of logical decoding; pure
    probe         every precondition of all this, each with its remedy

    sqlstates     what the server's refusals mean
    catalog       how the system catalog is read
    queries       SQL by name, from the files of `sql/`

A name below is imported with its module on first use, so `import walvec_slots` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from walvec_slots.ack import Ledger, Span
    from walvec_slots.changes import (
        Begin,
        Change,
        Commit,
        Event,
        Message,
        StreamedColumn,
        StreamedTable,
        Truncate,
    )
    from walvec_slots.choice import choose_plugin, require_plugin
    from walvec_slots.errors import (
        ConnectionLost,
        MalformedMessage,
        NotUtf8,
        PoolerInBetween,
        PreconditionFailed,
        PublicationMissing,
        SlotActive,
        SlotBlocked,
        SlotLost,
        SlotWedged,
        WalvecError,
    )
    from walvec_slots.lsn import Lsn
    from walvec_slots.manage import (
        Slot,
        advance_slot,
        copy_slot,
        create_slot,
        drop_slot,
        find_slot,
        list_slots,
    )
    from walvec_slots.plugin import PGOUTPUT, PLUGINS, WAL2JSON, Decoder, Plugin
    from walvec_slots.protocol import Keepalive, StandbyStatus, XLogData
    from walvec_slots.publication import create_publication, drop_publication
    from walvec_slots.relation import Relation, describe
    from walvec_slots.settle import open_session
    from walvec_slots.stream import ReplicationStream, feedback
    from walvec_slots.walsender import Notice

__all__ = [
    "PGOUTPUT",
    "PLUGINS",
    "WAL2JSON",
    "Begin",
    "Change",
    "Commit",
    "ConnectionLost",
    "Decoder",
    "Event",
    "Keepalive",
    "Ledger",
    "Lsn",
    "MalformedMessage",
    "Message",
    "NotUtf8",
    "Notice",
    "Plugin",
    "PoolerInBetween",
    "PreconditionFailed",
    "PublicationMissing",
    "Relation",
    "ReplicationStream",
    "Slot",
    "SlotActive",
    "SlotBlocked",
    "SlotLost",
    "SlotWedged",
    "Span",
    "StandbyStatus",
    "StreamedColumn",
    "StreamedTable",
    "Truncate",
    "WalvecError",
    "XLogData",
    "advance_slot",
    "choose_plugin",
    "copy_slot",
    "create_publication",
    "create_slot",
    "describe",
    "drop_publication",
    "drop_slot",
    "feedback",
    "find_slot",
    "list_slots",
    "open_session",
    "require_plugin",
]

# The module of each name; the imports above say the same to type checkers and readers.
_HOMES = {
    name: module
    for module, names in {
        "ack": "Ledger Span",
        "changes": "Begin Change Commit Event Message StreamedColumn StreamedTable Truncate",
        "choice": "choose_plugin require_plugin",
        "errors": "ConnectionLost MalformedMessage NotUtf8 PoolerInBetween PreconditionFailed "
        "PublicationMissing SlotActive SlotBlocked SlotLost SlotWedged WalvecError",
        "lsn": "Lsn",
        "manage": "Slot advance_slot copy_slot create_slot drop_slot find_slot list_slots",
        "plugin": "PGOUTPUT PLUGINS WAL2JSON Decoder Plugin",
        "protocol": "Keepalive StandbyStatus XLogData",
        "publication": "create_publication drop_publication",
        "relation": "Relation describe",
        "settle": "open_session",
        "stream": "ReplicationStream feedback",
        "walsender": "Notice",
    }.items()
    for name in names.split()
}


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


# With this a type checker would take every name for defined.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name with its module."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
