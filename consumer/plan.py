"""What a change asks of one vectorizer: changes in, actions by key out.

The stage between the stream and PostgreSQL's evaluation of the expressions. It looks at columns only to tell
which row a change is about and whether the stream carries all that the expressions need; where it does not,
or could not carry it exactly, the row is read again.

Pure: values in, values out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from sys import getsizeof

import orjson

from consumer.actions import DELETE, REFETCH, Action, Key, Upsert
from slots.wal2json import Change, Value

LARGE_IMAGE = 1 << 20  # bytes


class Unidentified(Exception):
    """A change does not carry the key columns: the replica identity was another one when it was written."""


@dataclass(frozen=True, slots=True)
class RowShape:
    """What planning needs to know about a vectorizer's table."""

    key: tuple[str, ...]
    used: tuple[str, ...]  # the columns that the expressions use
    published: frozenset[str]  # of insert, update, delete, truncate
    bytea: frozenset[str]  # columns, not of a domain, that wal2json gives as bare hex
    json: frozenset[str]  # columns that must not be quoted a second time
    lossy_null: frozenset[str]  # columns where wal2json's null may stand for NaN or infinity
    lossy_key: Mapping[str, tuple[str, ...]]  # such columns of the key, with what the null may stand for


def plan(change: Change, shape: RowShape) -> list[tuple[Key, Action]]:
    """Return the actions of one change, in order. A change of key is a Delete and an Upsert.

    Raises Unidentified where the change does not carry the key.
    """
    if change.kind not in shape.published:
        return []
    try:
        return _actions(change, shape)
    except Unidentified:
        return [(key, REFETCH) for key in _possible_keys(change, shape)]


def plan_refetch(change: Change, shape: RowShape) -> list[tuple[Key, Action]]:
    """Return a Refetch of every row that a change may be about, by its old key and by its new one.

    For a change that is older than the epoch: it may be of another table of that name, or of another shape.
    Raises Unidentified where the change does not carry the key.
    """
    if change.kind not in shape.published:
        return []
    return [(key, REFETCH) for key in dict.fromkeys(_possible_keys(change, shape))]


def _actions(change: Change, shape: RowShape) -> list[tuple[Key, Action]]:
    columns, identity = change.columns, change.identity
    if change.kind == "delete":
        return [(_key(shape, identity, columns), DELETE)]
    key = _key(shape, columns, identity)
    upsert = key, _upsert(change, shape)
    if identity and (old := _key(shape, identity, columns)) != key:
        return [(old, DELETE), upsert]
    return [upsert]


def _key(shape: RowShape, first: Mapping[str, Value], second: Mapping[str, Value]) -> Key:
    """Return the key's text; a column that `first` lacks, an unchanged one, is taken from `second`."""
    return tuple(
        [_key_text(name, first[name] if name in first else second.get(name), shape) for name in shape.key]
    )


def _possible_keys(change: Change, shape: RowShape) -> Iterator[Key]:
    """Yield every key, old and new, that a change with NaN or infinity in its key may be about.

    Raises Unidentified where a part of the key is missing altogether.
    """
    images = [(change.identity, change.columns), (change.columns, change.identity)]
    for first, second in [pair for pair in images if pair[0]] or images:
        yield from product(*(_possible_texts(name, first, second, shape) for name in shape.key))


def _possible_texts(
    name: str, first: Mapping[str, Value], second: Mapping[str, Value], shape: RowShape
) -> tuple[str, ...]:
    value = first.get(name, second.get(name))
    if value is None and name in shape.lossy_key and (name in first or name in second):
        return shape.lossy_key[name]
    return (_key_text(name, value, shape),)


def _key_text(name: str, value: Value, shape: RowShape) -> str:
    if isinstance(value, str):
        return f"\\x{value}" if name in shape.bytea else value
    if isinstance(value, bool):
        return "t" if value else "f"
    if value is None:
        raise Unidentified
    return str(value)


def _upsert(change: Change, shape: RowShape) -> Action:
    """Return the row image, or Refetch where the stream has none that PostgreSQL would read back exactly."""
    columns, identity = change.columns, change.identity
    image: dict[str, object] = {}
    size = 0
    for name in shape.used:
        if name in columns:
            value = columns[name]
        elif name in identity:
            value = identity[name]  # unchanged TOAST: the old value, where the replica identity carries it
        else:
            return REFETCH
        if isinstance(value, str):
            size += getsizeof(value)
            if name in shape.json and _is_altered_by_nesting(value):
                return REFETCH
            image[name] = _as_json(name, value, shape)
        elif value is None and name in shape.lossy_null:
            return REFETCH
        else:
            image[name] = value
    # An image so large is not worth holding and copying: the row is read by its key.
    return Upsert(image, size) if size <= LARGE_IMAGE else REFETCH


def _is_altered_by_nesting(value: str) -> bool:
    """Whether a json column's text would not survive within another: null would be SQL's NULL there."""
    return value == "null" or value != value.strip()


def _as_json(name: str, text: str, shape: RowShape) -> object:
    """Return what stands for a column's text in the image's JSON."""
    if name in shape.bytea:
        return f"\\x{text}"
    if name in shape.json:
        return orjson.Fragment(text)
    return text
