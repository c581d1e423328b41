"""The messages of pgoutput, PostgreSQL's own output plugin.

Options out, bytes in, typed messages out:
https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html

Protocol version 1, text format, without streaming and two-phase commit. The server applies the publication,
as the catalog was when the WAL was written: row filters turn updates into inserts and deletes, columns
outside a column list do not exist, and every table of the publication comes.

Pure: `stream.py` sends the options and brings the payloads, and the stream's reader decodes them here.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from walvec_slots.changes import LARGE_VALUE, Begin, Change, Commit, Event, StreamedTable, Text, Truncate
from walvec_slots.errors import MalformedMessage
from walvec_slots.lsn import Lsn

# Start of the commit record, commit time, xid.
_BEGIN: Final = struct.Struct("!xQqI")
# Flags, start and end of the commit record, commit time.
_COMMIT: Final = struct.Struct("!xBQQq")
# Number of tables, options.
_TRUNCATE: Final = struct.Struct("!xIB")
# Type oid, type modifier.
_COLUMN_TAIL: Final = struct.Struct("!Ii")
_UINT: Final = struct.Struct("!I")
_USHORT: Final = struct.Struct("!H")

# A column's flag.
_IN_KEY: Final = 1
# Before a tuple: the new row, the old row's key, the whole old row.
_NEW, _KEY, _OLD = b"NKO"
# Before a value: NULL, an unchanged value that is not sent, text.
_NULL, _UNCHANGED, _TEXT = b"nut"

Payload = bytes | memoryview


class _Announced(NamedTuple):
    """A wanted relation, as its newest Relation message describes it.

    `columns` are in the order of its tuples, None for one that is not wanted. `key` is the same for a key
    tuple, with None also for the columns outside the key, which that has as null.
    """

    table: StreamedTable
    columns: tuple[str | None, ...]
    key: tuple[str | None, ...]


class PgoutputDecoder:
    """Reads the payloads of one stream from its start.

    Each stream announces a relation before its first row.
    """

    def __init__(self, tables: Iterable[StreamedTable]) -> None:
        """Decode changes of these tables, and of no others."""
        self._wanted = {table.oid: table for table in tables}
        self._announced: dict[int, _Announced | None] = {}
        self._begun: Begin | None = None
        self._readers: Mapping[int, Callable[[Payload, Lsn], Event | None]] = {
            ord("B"): self._begin,
            ord("C"): self._commit,
            ord("R"): self._relation,
            ord("I"): self._insert,
            ord("U"): self._update,
            ord("D"): self._delete,
            ord("T"): self._truncate,
            ord("Y"): _pass_over,
            ord("O"): _pass_over,
        }

    def decode(self, payload: Payload, lsn: Lsn) -> Event | None:
        """Return the message; None for one that is not about a wanted table.

        `lsn` is the start of its frame. A value of more than LARGE_VALUE bytes is left out. Anything else
        raises MalformedMessage, which does not quote the payload.
        """
        try:
            return self._readers[payload[0]](payload, lsn)
        except (ValueError, LookupError, struct.error):
            # "from None", because the cause's text may quote the payload.
            raise MalformedMessage("is not one of pgoutput's version 1", lsn=lsn) from None

    def _begin(self, payload: Payload, _: Lsn) -> Begin:
        start, committed_at, xid = _BEGIN.unpack(payload)
        self._begun = Begin(xid, Lsn(start), committed_at)
        return self._begun

    def _commit(self, payload: Payload, _: Lsn) -> Commit:
        _flags, start, end, _time = _COMMIT.unpack(payload)
        begun, self._begun = self._begun, None
        if begun is None or begun.lsn != start:
            raise ValueError
        return Commit(begun.xid, begun.lsn, Lsn(end))

    def _relation(self, payload: Payload, _: Lsn) -> None:
        """Note a relation.

        It comes before the relation's first row, and again whenever its catalog entry changes.
        """
        message = bytes(payload)
        (oid,) = _UINT.unpack_from(message, 1)
        _schema, at = _string(message, 5)
        _name, at = _string(message, at)
        (count,) = _USHORT.unpack_from(message, at + 1)
        at += 3
        described: list[tuple[str, int]] = []
        for _column in range(count):
            name, end = _string(message, at + 1)
            described.append((name, message[at]))
            _COLUMN_TAIL.unpack_from(message, end)
            at = end + _COLUMN_TAIL.size
        _require_end(message, at)
        table = self._wanted.get(oid)
        self._announced[oid] = table and _announced(table, described)

    def _insert(self, payload: Payload, lsn: Lsn) -> Change | None:
        relation = self._relation_of(payload)
        if relation is None:
            return None
        columns, at = _new_row(payload, 5, relation)
        _require_end(payload, at)
        return Change("insert", lsn, relation.table.schema, relation.table.name, columns, {})

    def _update(self, payload: Payload, lsn: Lsn) -> Change | None:
        relation = self._relation_of(payload)
        if relation is None:
            return None
        identity: dict[str, Text] = {}
        at = 5
        if payload[at] != _NEW:
            identity, at = _old_row(payload, at, relation)
        columns, at = _new_row(payload, at, relation)
        _require_end(payload, at)
        return Change("update", lsn, relation.table.schema, relation.table.name, columns, identity)

    def _delete(self, payload: Payload, lsn: Lsn) -> Change | None:
        relation = self._relation_of(payload)
        if relation is None:
            return None
        identity, at = _old_row(payload, 5, relation)
        _require_end(payload, at)
        return Change("delete", lsn, relation.table.schema, relation.table.name, {}, identity)

    def _truncate(self, payload: Payload, lsn: Lsn) -> Truncate | None:
        count, _options = _TRUNCATE.unpack_from(payload)
        _require_end(payload, _TRUNCATE.size + count * _UINT.size)
        oids = (oid for (oid,) in _UINT.iter_unpack(payload[_TRUNCATE.size :]))
        relations = [self._announced[oid] for oid in oids]
        tables = tuple((relation.table.schema, relation.table.name) for relation in relations if relation)
        return Truncate(lsn, tables) if tables else None

    def _relation_of(self, payload: Payload) -> _Announced | None:
        """Return the row's relation, None for an unwanted table.

        Raises KeyError if it was not announced.
        """
        (oid,) = _UINT.unpack_from(payload, 1)
        return self._announced[oid]


def pgoutput_options(publication: str) -> dict[str, str]:
    """Return the options of START_REPLICATION.

    The publication's name is an identifier within the option's value.
    """
    quoted = publication.replace('"', '""')
    return {"proto_version": "1", "publication_names": f'"{quoted}"'}


def _pass_over(payload: Payload, _: Lsn) -> None:
    """Ignore what is not about rows: a type's name, or a transaction's origin."""


def _announced(table: StreamedTable, described: Iterable[tuple[str, int]]) -> _Announced:
    wanted = {column.name for column in table.columns}
    names = [(name if name in wanted else None, flags) for name, flags in described]
    return _Announced(
        table,
        columns=tuple(name for name, _ in names),
        key=tuple(name if flags & _IN_KEY else None for name, flags in names),
    )


def _new_row(payload: Payload, at: int, relation: _Announced) -> tuple[dict[str, Text], int]:
    if payload[at] != _NEW:
        raise ValueError
    return _row(payload, at + 1, relation.columns)


def _old_row(payload: Payload, at: int, relation: _Announced) -> tuple[dict[str, Text], int]:
    """Read the old row, whole or its key alone.

    A key tuple has every other column as null, and those are left out.
    """
    if payload[at] == _KEY:
        return _row(payload, at + 1, relation.key)
    if payload[at] == _OLD:
        return _row(payload, at + 1, relation.columns)
    raise ValueError


def _row(payload: Payload, at: int, names: tuple[str | None, ...]) -> tuple[dict[str, Text], int]:
    """Return the wanted values of a tuple, and where it ends.

    That is past the payload's end if the payload is cut short.
    """
    (count,) = _USHORT.unpack_from(payload, at)
    if count != len(names):
        raise ValueError
    at += _USHORT.size
    image: dict[str, Text] = {}
    for name in names:
        kind = payload[at]
        at += 1
        if kind == _TEXT:
            (size,) = _UINT.unpack_from(payload, at)
            begin = at + _UINT.size
            at = begin + size
            if name is not None and size <= LARGE_VALUE:
                image[name] = bytes(payload[begin:at]).decode()
        elif kind == _NULL:
            if name is not None:
                image[name] = None
        elif kind != _UNCHANGED:
            raise ValueError
    return image, at


def _string(message: bytes, at: int) -> tuple[str, int]:
    """Return a string up to its zero byte, and where the next field begins."""
    end = message.index(b"\0", at)
    return message[at:end].decode(), end + 1


def _require_end(payload: Payload, at: int) -> None:
    if at != len(payload):
        raise ValueError
