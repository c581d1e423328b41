"""What comes with the stream, whichever output plugin sends it.

A value is the text of its type's output function, or None for NULL. A column that the plugin could not give
is missing: an unchanged value that is stored out of line (TOAST), one that is too long to be carried along,
or one that the plugin cannot write exactly. Read the row by its key then.

These are NamedTuples, not frozen dataclasses: together with the frame's, that saves 1 us of 8 a row.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from walvec_slots.lsn import Lsn

Text = str | None
ChangeKind = Literal["insert", "update", "delete"]
Table = tuple[str, str]

LARGE_VALUE: Final = 1 << 20  # bytes of one value, past which it is left out

_NOTHING: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


class StreamedColumn(NamedTuple):
    """A column whose values are wanted. `type_name` is SQL text with modifiers."""

    name: str
    type_oid: int
    type_name: str


class StreamedTable(NamedTuple):
    """A table whose changes are wanted, as the catalog has it when the stream is started.

    Changes are of the relation with this oid where the plugin tells it, whatever its name is by then, and of
    the table with this name where it does not. They come under this name, with these columns alone.
    """

    oid: int
    schema: str
    name: str
    columns: tuple[StreamedColumn, ...]


class Begin(NamedTuple):
    """A transaction begins: all that follows up to its Commit is its own."""

    xid: int  # 32 bits, without epoch
    lsn: Lsn  # where its commit record starts
    committed_at: int  # microseconds since 2000-01-01 UTC


class Commit(NamedTuple):
    """The transaction is complete."""

    xid: int  # its Begin's
    lsn: Lsn  # its Begin's
    next_lsn: Lsn  # where its commit record ends: what is confirmed once the transaction is done


class Change(NamedTuple):
    """One row event.

    `columns` is the new row; empty for a delete. `identity` is the old row's replica identity: all columns
    under REPLICA IDENTITY FULL. It is empty for an insert, and may be for an update that left it unchanged.
    """

    kind: ChangeKind
    lsn: Lsn  # shared by rows of one COPY, and not ordered across transactions
    schema: str
    table: str
    columns: dict[str, Text]
    identity: dict[str, Text]
    # Columns that are missing because the plugin writes one word for several values, with these values.
    unclear: Mapping[str, tuple[str, ...]] = _NOTHING


class Truncate(NamedTuple):
    """All rows of these tables are gone. Those of one statement come together, or share their LSN."""

    lsn: Lsn
    tables: tuple[Table, ...]


class Message(NamedTuple):
    """What somebody gave to pg_logical_emit_message; outside Begin and Commit unless transactional."""

    lsn: Lsn
    transactional: bool
    prefix: str
    content: str  # bytes that are no UTF-8 are replaced


Event = Begin | Commit | Change | Truncate | Message
