r"""The messages of wal2json, format 2: options in, JSON in, typed messages out.

https://github.com/eulerto/wal2json

Pure: `stream.py` sends the options and brings the payloads, whoever reads the stream decodes them here.

What the plugin gives as a value, by the column's type:

- `bool` as true or false; `bytea` as hexadecimal digits without the leading `\x`;
- smallint to bigint, oid, real, double precision and numeric as bare numbers, or, where the plugin knows
  `numeric-data-types-as-string` (2.6), as text; NaN and infinity become null in bare form;
- everything else, domains over the types above included, as its output function's text.

Messages are NamedTuples, not frozen dataclasses: together with the frame's, that saves 1 us of 8 a row.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

import orjson

from slots.errors import MalformedMessage
from slots.lsn import Lsn

Value = bool | int | float | str | None
Kind = Literal["insert", "update", "delete"]

# Options that an older plugin does not know; there is no version to ask for, so the stream tries.
OPTIONAL: Final[Mapping[str, str]] = {"numeric-data-types-as-string": "1"}

# Other programs' messages may hold anything, bytes that are no text included; these are ours.
MESSAGE_PREFIX: Final = "walvec"


class Begin(NamedTuple):
    """A transaction begins: all that follows up to its Commit is its own."""

    xid: int  # 32 bits, without epoch
    lsn: Lsn  # where its commit record starts
    next_lsn: Lsn  # where its commit record ends: what is confirmed once the transaction is done
    timestamp: str  # of the commit, as timestamptz text in UTC


class Commit(NamedTuple):
    """The transaction is complete. The same fields as its Begin's."""

    xid: int
    lsn: Lsn
    next_lsn: Lsn
    timestamp: str


class Change(NamedTuple):
    """One row event.

    `columns` is the new row without what an update left unchanged out of line (TOAST); empty for a delete.
    `identity` is the old row's replica identity: all columns under REPLICA IDENTITY FULL. It is empty for an
    insert, and at times for an update that left it unchanged.
    """

    kind: Kind
    lsn: Lsn  # shared by rows of one COPY, and not ordered across transactions
    schema: str
    table: str
    columns: dict[str, Value]
    identity: dict[str, Value]


class Truncate(NamedTuple):
    """All rows of a table are gone. A partitioned table gives one for itself and one for every leaf."""

    lsn: Lsn
    schema: str
    table: str


class Message(NamedTuple):
    """What somebody gave to pg_logical_emit_message; outside Begin and Commit unless transactional."""

    lsn: Lsn
    transactional: bool
    prefix: str
    content: str  # bytes that are no UTF-8 are replaced


Event = Begin | Commit | Change | Truncate | Message

_KINDS: Final[Mapping[str, Kind]] = {"I": "insert", "U": "update", "D": "delete"}
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_NAMES: Final = frozenset({str})
LONG: Final = 1 << 20  # bytes of JSON in one value, past which it is not decoded

_VALUE: Final = re.compile(rb'"value":"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NEGATIVE_ZERO: Final = b":-0}"  # a float's, which JSON's readers take for the integer 0
_EMPTY: Final[tuple[dict[str, Any], ...]] = ()


class Decoder:
    """Reads payloads. Unknown fields are passed over: the plugin adds some from version to version."""

    def __init__(self, exact: Collection[tuple[str, str]] = ()) -> None:
        """Keep the numbers of `exact` tables (schema, name) as PostgreSQL wrote them, which floats would not.

        Meant for tables with a column of type numeric: scale, digits and range survive, at the price of a
        second parse of the messages concerned. A message with a number past any float's range is read so
        whatever its table.
        """
        self._exact = frozenset(exact)

    def decode(self, payload: bytes | memoryview, lsn: Lsn) -> Event:
        """Return the message; `lsn` is the start of its frame.

        A value of more than LONG bytes is left out of columns and identity, as an unchanged TOAST value is:
        it would be copied several times over, and whoever needs it can read it by the row's key.

        Raises MalformedMessage, which does not quote the payload, for anything that is no such message.
        """
        try:
            message = _without_long_values(payload) if len(payload) > LONG else bytes(payload)
            try:
                fields = orjson.loads(message)
            except orjson.JSONDecodeError:
                fields = _parse_exactly(message)
            return self._event(fields, message, lsn)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            # "from None": the cause's text may quote what it stumbled over.
            raise MalformedMessage("is none of wal2json's format 2", lsn=lsn) from None

    def _event(self, fields: dict[str, Any], payload: bytes, lsn: Lsn) -> Event:
        action = fields["action"]
        if (kind := _KINDS.get(action)) is not None:
            return self._change(kind, fields, payload, lsn)
        match action:
            case "B":
                return Begin(*_transaction(fields))
            case "C":
                return Commit(*_transaction(fields))
            case "T":
                return Truncate(lsn, _text(fields["schema"]), _text(fields["table"]))
            case "M":
                prefix, content = _text(fields["prefix"]), _text(fields["content"])
                return Message(lsn, fields["transactional"] is True, prefix, content)
            case _:
                raise ValueError(action)

    def _change(self, kind: Kind, fields: dict[str, Any], payload: bytes, lsn: Lsn) -> Change:
        schema, table = _text(fields["schema"]), _text(fields["table"])
        columns, identity = _images(kind, fields)
        inexact = (schema, table) in self._exact and (_has_float(columns) or _has_float(identity))
        has_zero = 0 in columns.values() or 0 in identity.values()
        if inexact or (has_zero and _NEGATIVE_ZERO in payload):
            columns, identity = _images(kind, _parse_exactly(payload))
        # The frame's LSN is the change's own; the message's field says the same and need not be parsed.
        return Change(kind, lsn, schema, table, columns, identity)


def wal2json_options(
    add_tables: Iterable[tuple[str, str]], *, message_prefix: str = MESSAGE_PREFIX
) -> dict[str, str]:
    """Return the options of START_REPLICATION for exactly these tables (schema, name); for none, no rows.

    Partitions arrive under their own names, so name the leaves, and the root for its Truncate.
    """
    return {
        "format-version": "2",
        "include-types": "0",  # 2.5 does not escape the names of some types
        "include-lsn": "1",
        "include-xids": "1",
        "include-timestamp": "1",
        "add-tables": ",".join(f"{_escape(schema)}.{_escape(table)}" for schema, table in add_tables),
        "add-msg-prefixes": message_prefix,
    }


def _escape(part: str) -> str:
    """Escape what add-tables takes for a separator, a wildcard or an escape."""
    return re.sub(r"""([\s'",.*\\])""", r"\\\1", part, flags=re.ASCII)


def _transaction(fields: dict[str, Any]) -> tuple[int, Lsn, Lsn, str]:
    xid = fields["xid"]
    if type(xid) is not int:
        raise TypeError
    return xid, Lsn.parse(fields["lsn"]), Lsn.parse(fields["nextlsn"]), _text(fields["timestamp"])


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _images(kind: Kind, fields: dict[str, Any]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Return columns and identity. Only the latter, and only of an update, may be missing where it is due."""
    columns = {} if kind == "delete" else _image(fields["columns"])
    match kind:
        case "insert":
            return columns, {}
        case "update":
            return columns, _image(fields.get("identity", _EMPTY))
        case "delete":
            return columns, _image(fields["identity"])


def _image(items: Iterable[dict[str, Any]]) -> dict[str, Value]:
    image = {item["name"]: item["value"] for item in items}
    if _NAMES.issuperset(map(type, image)) and _SCALARS.issuperset(map(type, image.values())):
        return image
    shortened = {name: value for name, value in image.items() if value != {}}
    if len(shortened) == len(image):
        raise TypeError
    return _image([{"name": name, "value": value} for name, value in shortened.items()])


def _without_long_values(payload: bytes | memoryview) -> bytes:
    """Put an empty object, which no column's value is, in the place of every long one.

    A quote inside a JSON string is escaped, so what the pattern finds is never part of a value.
    """
    parts: list[bytes | memoryview] = []
    end = 0
    for value in _VALUE.finditer(payload):
        if value.end() - value.start() > LONG:
            parts += [payload[end : value.start()], b'"value":{}']
            end = value.end()
    return b"".join([*parts, payload[end:]])


def _has_float(image: dict[str, Value]) -> bool:
    """Whether a number may have lost digits: orjson gives integers beyond 64 bits as floats, too."""
    return float in map(type, image.values())


def _parse_exactly(payload: bytes) -> Any:
    """Parse with numbers as their text, except integers of 64 bits. Raises ValueError for what is no JSON.

    A Message may hold bytes that are no text, and only there they are replaced: in a row they would mean
    that the database is not in UTF-8, and a guess would be embedded.
    """
    errors = "replace" if payload.startswith(b'{"action":"M"') else "strict"
    fields = json.loads(
        payload.decode(errors=errors), parse_float=str, parse_int=_integer, parse_constant=_refuse
    )
    orjson.dumps(fields)  # raises for lone surrogates, which json lets pass
    return fields


def _integer(text: str) -> int | str:
    if text == "-0" or len(text) > len("-9223372036854775808"):
        return text
    number = int(text)
    return number if -(2**63) <= number < 2**63 else text


def _refuse(constant: str) -> None:
    """Refuse NaN and Infinity, which are no JSON but which json takes."""
    raise ValueError(constant)
