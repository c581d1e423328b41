r"""The messages of wal2json, format 2: options out, JSON in, typed messages out.

https://github.com/eulerto/wal2json

Pure: `stream.py` sends the options and brings the payloads, and the stream's reader decodes them here.

What the plugin gives as a value, by the column's type:

- `bool` as true or false; `bytea` as hexadecimal digits without the leading `\x`;
- smallint to bigint, oid, real, double precision and numeric as bare numbers, NaN and infinity as null; or,
  where the plugin knows `numeric-data-types-as-string` (2.6), all of them as text;
- everything else, domains over the types above included, as its output function's text.

wal2json ignores publications, so its options list the tables; partitions come under their own names.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

from walvec_slots.changes import (
    LARGE_VALUE,
    Begin,
    Change,
    ChangeKind,
    Commit,
    Event,
    Message,
    StreamedTable,
    Table,
    Text,
    Truncate,
)
from walvec_slots.errors import MalformedMessage
from walvec_slots.lsn import Lsn

# Options that an older plugin does not know. It does not tell its version, so the stream tries them.
OPTIONAL: Final[Mapping[str, str]] = {"numeric-data-types-as-string": "1"}

# Only messages with this prefix are asked for: other programs' may hold any bytes, not only text.
MESSAGE_PREFIX: Final = "walvec"

_KINDS: Final[Mapping[str, ChangeKind]] = {"I": "insert", "U": "update", "D": "delete"}
_VALUE: Final = re.compile(rb'"value":"(?:[^"\\]++|\\.)*+"', re.DOTALL)
# Stands for a long value: no column's value is an object.
_LEFT_OUT: Final[object] = {}
# A float's value, which JSON parsers take for the integer 0.
_NEGATIVE_ZERO: Final = b":-0}"

_BYTEA: Final = 17
_NOT_FINITE: Final = ("NaN", "Infinity", "-Infinity")
_NUMERIC, _FLOAT4, _FLOAT8 = 1700, 700, 701

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LONG_AGO, _FAR_AHEAD = -(2**63), 2**63 - 1  # microseconds


class _Wanted(NamedTuple):
    """What is wanted of one table, and how the plugin writes it.

    `bytea` names the columns that come as bare hexadecimal digits, which those of a domain do not. `unclear`
    names the columns whose null may stand for one of these values.
    """

    names: frozenset[str]
    bytea: tuple[str, ...]
    unclear: Mapping[str, tuple[str, ...]]


class Wal2jsonDecoder:
    """Reads payloads.

    Unknown fields are ignored: the plugin adds some from version to version.
    """

    def __init__(self, tables: Iterable[StreamedTable]) -> None:
        """Decode changes of these tables, and of no others."""
        self._wanted = {(table.schema, table.name): _wanted(table) for table in tables}

    def decode(self, payload: bytes | memoryview, lsn: Lsn) -> Event | None:
        """Return the message; None for one that is not about a wanted table.

        `lsn` is the start of its frame. A value of more than LARGE_VALUE bytes is left out. Anything else
        raises MalformedMessage, which does not quote the payload.
        """
        try:
            message = _without_long_values(payload) if len(payload) > LARGE_VALUE else bytes(payload)
            try:
                fields = orjson.loads(message)
            except orjson.JSONDecodeError:
                fields = _parse_exactly(message)
            return self._event(fields, message, lsn)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            # "from None", because the cause's text may quote the payload.
            raise MalformedMessage("is not one of wal2json's format 2", lsn=lsn) from None

    def _event(self, fields: dict[str, Any], payload: bytes, lsn: Lsn) -> Event | None:
        action = fields["action"]
        if (kind := _KINDS.get(action)) is not None:
            return self._change(kind, fields, payload, lsn)
        match action:
            case "B":
                return Begin(
                    _xid(fields), Lsn.parse(fields["lsn"]), _committed_at(_text(fields["timestamp"]))
                )
            case "C":
                return Commit(_xid(fields), Lsn.parse(fields["lsn"]), Lsn.parse(fields["nextlsn"]))
            case "T":
                table = _table(fields)
                return Truncate(lsn, (table,)) if table in self._wanted else None
            case "M":
                prefix, content = _text(fields["prefix"]), _text(fields["content"])
                return Message(lsn, fields["transactional"] is True, prefix, content)
            case _:
                raise ValueError(action)

    def _change(self, kind: ChangeKind, fields: dict[str, Any], payload: bytes, lsn: Lsn) -> Change | None:
        table = _table(fields)
        if (wanted := self._wanted.get(table)) is None:
            return None
        columns, identity = _images(kind, fields, wanted.names)
        types = {*map(type, columns.values()), *map(type, identity.values())}
        has_zero = int in types and (0 in columns.values() or 0 in identity.values())
        if float in types or (has_zero and _NEGATIVE_ZERO in payload):
            columns, identity = _images(kind, _parse_exactly(payload), wanted.names)
        unclear = {
            name: values
            for name, values in wanted.unclear.items()
            if (name in columns and columns[name] is None) or (name in identity and identity[name] is None)
        }
        # The frame's LSN is the change's own. The message's field has the same one and need not be parsed.
        return Change(kind, lsn, *table, _texts(columns, wanted), _texts(identity, wanted), unclear)


def wal2json_options(add_tables: Iterable[Table], *, message_prefix: str = MESSAGE_PREFIX) -> dict[str, str]:
    """Return the options of START_REPLICATION for exactly these tables (schema, name).

    For none of them, no rows come. Partitions come under their own names, so name the leaves.
    """
    return {
        "format-version": "2",
        # wal2json 2.5 does not escape the names of some types.
        "include-types": "0",
        "include-lsn": "1",
        "include-xids": "1",
        "include-timestamp": "1",
        "add-tables": ",".join(f"{_escape(schema)}.{_escape(table)}" for schema, table in add_tables),
        "add-msg-prefixes": message_prefix,
    }


def changes_only(options: Mapping[str, str]) -> dict[str, str]:
    """Return the options with which only row changes come, one message each."""
    return {**options, "include-transaction": "0", "actions": "insert,update,delete"}


def _escape(part: str) -> str:
    """Escape what add-tables takes for a separator, a wildcard or an escape character."""
    return re.sub(r"""([\s'",.*\\])""", r"\\\1", part, flags=re.ASCII)


def _wanted(table: StreamedTable) -> _Wanted:
    """Work out what the plugin does to the columns.

    Values of a domain come as text, unchanged.
    """
    return _Wanted(
        names=frozenset(column.name for column in table.columns),
        bytea=tuple(column.name for column in table.columns if column.type_oid == _BYTEA),
        unclear={
            # A numeric with a precision holds no infinity.
            column.name: _NOT_FINITE[:1] if "(" in column.type_name else _NOT_FINITE
            for column in table.columns
            if column.type_oid in {_NUMERIC, _FLOAT4, _FLOAT8}
        },
    )


def _xid(fields: Mapping[str, object]) -> int:
    xid = fields["xid"]
    if type(xid) is not int:
        raise TypeError
    return xid


def _table(fields: Mapping[str, object]) -> Table:
    return _text(fields["schema"]), _text(fields["table"])


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _committed_at(timestamp: str) -> int:
    """Read timestamptz text as microseconds since 2000.

    A year outside Python's range is as far away as 64 bits allow.
    """
    try:
        return (datetime.fromisoformat(timestamp) - _EPOCH) // _MICROSECOND
    except ValueError:
        return _LONG_AGO if timestamp.endswith("BC") else _FAR_AHEAD


def _images(
    kind: ChangeKind, fields: Mapping[str, Any], names: frozenset[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return columns and identity.

    Only the identity may be missing, and only an update's (wal2json#283).
    """
    columns = {} if kind == "delete" else _image(fields["columns"], names)
    match kind:
        case "insert":
            return columns, {}
        case "update":
            return columns, _image(fields.get("identity", ()), names)
        case "delete":
            return columns, _image(fields["identity"], names)


def _image(items: Iterable[Mapping[str, Any]], names: frozenset[str]) -> dict[str, Any]:
    """Return the wanted columns with their JSON values."""
    return {name: item["value"] for item in items if (name := item["name"]) in names}


def _texts(image: dict[str, Any], wanted: _Wanted) -> dict[str, Text]:
    """Write values as PostgreSQL does, without those that the plugin did not give."""
    texts: dict[str, Text] = {}
    for name, value in image.items():
        if value is None:
            if name not in wanted.unclear:
                texts[name] = None
        elif type(value) is str:
            texts[name] = value
        elif type(value) is bool:
            texts[name] = "t" if value else "f"
        elif type(value) is int:
            texts[name] = str(value)
        elif value != _LEFT_OUT:
            raise TypeError
    for name in wanted.bytea:
        if (digits := texts.get(name)) is not None:
            texts[name] = f"\\x{digits}"
    return texts


def _without_long_values(payload: bytes | memoryview) -> bytes:
    """Replace every long value by an empty object.

    A quote inside a JSON string is escaped, so the pattern never matches part of a value.
    """
    parts: list[bytes | memoryview] = []
    end = 0
    for value in _VALUE.finditer(payload):
        if value.end() - value.start() > LARGE_VALUE:
            parts += [payload[end : value.start()], b'"value":{}']
            end = value.end()
    return b"".join([*parts, payload[end:]])


def _parse_exactly(payload: bytes) -> Any:
    """Parse with numbers kept as text. Raises ValueError for anything but JSON.

    A Message may hold bytes that are not UTF-8, and only there they are replaced. In a row they would mean
    that the database is not in UTF-8, and a guess would be embedded.
    """
    errors = "replace" if payload.startswith(b'{"action":"M"') else "strict"
    fields = json.loads(
        payload.decode(errors=errors), parse_float=str, parse_int=_integer, parse_constant=_refuse
    )
    # Raises for lone surrogates, which json accepts.
    orjson.dumps(fields)
    return fields


def _integer(text: str) -> int | str:
    if text == "-0" or len(text) > len("-9223372036854775808"):
        return text
    number = int(text)
    return number if -(2**63) <= number < 2**63 else text


def _refuse(constant: str) -> None:
    """Refuse NaN and Infinity, which are not JSON but which json accepts."""
    raise ValueError(constant)
