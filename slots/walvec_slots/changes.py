"""What comes with the stream, whichever output plugin sends it.

A value is the text of its type's output function, or None for NULL. A column is missing where the plugin
could not give its value: an unchanged value that is stored out of line (TOAST), one that is too long to be
carried along, or one that the plugin cannot write exactly. Read the row by its key then.

These are NamedTuples, not frozen dataclasses: together with the frame's, that saves 1 us of 8 a row.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from walvec_slots.lsn import Lsn

Text = str | None
ChangeKind = Literal["insert", "update", "delete"]
Table = tuple[str, str]

# A value of more bytes than this is left out of its change.
LARGE_VALUE: Final = 1 << 20

_NOTHING: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


class StreamedColumn(NamedTuple):
    """A column whose values are wanted. `type_name` is SQL text with modifiers."""

    name: str
    type_oid: int
    type_name: str


class StreamedTable(NamedTuple):
    """A table whose changes are wanted, as the catalog has it when the stream starts.

    A plugin that sends oids is matched by oid, whatever the relation's name is by then; one that does not,
    by name. Changes come under this name, with these columns alone.
    """

    oid: int
    schema: str
    name: str
    columns: tuple[StreamedColumn, ...]


class Begin(NamedTuple):
    """A transaction begins; everything up to its Commit belongs to it.

    `lsn` is where its commit record starts. `xid` has 32 bits, without the epoch. `committed_at` is in
    microseconds since 2000-01-01 UTC.
    """

    xid: int
    lsn: Lsn
    committed_at: int


class Commit(NamedTuple):
    """The transaction is complete.

    `xid` and `lsn` are its Begin's. `next_lsn` is where its commit record ends: what is confirmed once the
    transaction is done.
    """

    xid: int
    lsn: Lsn
    next_lsn: Lsn


class Change(NamedTuple):
    """One row event.

    `columns` is the new row; empty for a delete. `identity` is the old row's replica identity: all columns
    under REPLICA IDENTITY FULL. It is empty for an insert, and may be for an update that left it unchanged.
    `lsn` is shared by the rows of one COPY, and not ordered across transactions.
    """

    kind: ChangeKind
    lsn: Lsn
    schema: str
    table: str
    columns: dict[str, Text]
    identity: dict[str, Text]
    # Columns that are missing because the plugin writes one word for several values, with these values.
    unclear: Mapping[str, tuple[str, ...]] = _NOTHING


class Truncate(NamedTuple):
    """All rows of these tables are gone.

    The tables of one statement come together, or one by one with the same LSN.
    """

    lsn: Lsn
    tables: tuple[Table, ...]


class Message(NamedTuple):
    """What somebody gave to pg_logical_emit_message().

    A transactional one comes between Begin and Commit, any other one outside. Bytes of `content` that are
    not UTF-8 are replaced.
    """

    lsn: Lsn
    transactional: bool
    prefix: str
    content: str


Event = Begin | Commit | Change | Truncate | Message
