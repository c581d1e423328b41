"""What a change asks of one vectorizer: changes in, actions by key out.

This stage lies between the stream and PostgreSQL's evaluation of the expressions. It looks at columns only to
tell which row a change is about, and whether the stream carries all that the expressions need. Where it does
not, the row is read again.

Pure: values in, values out.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from sys import getsizeof

from walvec.database.keys import Key
from walvec.stages.actions import DELETE, REFETCH, Action, Upsert
from walvec.vectorizer.row_shape import RowShape
from walvec_slots.changes import Change, Text

LARGE_IMAGE = 1 << 20  # bytes


class Unidentified(Exception):
    """A change does not carry the key columns.

    The replica identity was another one when it was written.
    """


def plan_change(change: Change, shape: RowShape) -> list[tuple[Key, Action]]:
    """Return the actions of one change, in order.

    A change of key is a Delete and an Upsert. Raises Unidentified where the change does not carry the key.
    """
    if change.kind not in shape.published:
        return []
    if any(name in change.unclear for name in shape.key):
        return [(key, REFETCH) for key in dict.fromkeys(_possible_keys(change, shape))]
    return _actions(change, shape)


def plan_refetch(change: Change, shape: RowShape) -> list[tuple[Key, Action]]:
    """Return a Refetch of every row that a change may be about, by old and new key.

    This is for a change that is older than the epoch: it may be of another table of that name, or of another
    shape. Raises Unidentified where the change does not carry the key.
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


def _key(shape: RowShape, first: Mapping[str, Text], second: Mapping[str, Text]) -> Key:
    """Return the key's text; a column that `first` lacks is unchanged in `second`."""
    return tuple([_key_text(first[name] if name in first else second.get(name)) for name in shape.key])


def _key_text(value: Text) -> str:
    if value is None:
        raise Unidentified
    return value


def _possible_keys(change: Change, shape: RowShape) -> Iterator[Key]:
    """Yield every key that a change may be about, old and new.

    Its unclear columns may stand for several values. Raises Unidentified where a part of the key is
    missing.
    """
    for first, second in ((change.identity, change.columns), (change.columns, change.identity)):
        yield from product(*(_possible_texts(name, first, second, change) for name in shape.key))


def _possible_texts(
    name: str, first: Mapping[str, Text], second: Mapping[str, Text], change: Change
) -> tuple[str, ...]:
    value, unclear = first.get(name, second.get(name)), change.unclear.get(name, ())
    return unclear if value is None and unclear else (*unclear, _key_text(value))


def _upsert(change: Change, shape: RowShape) -> Action:
    """Return the row image; Refetch where the stream has no whole one or it is no use."""
    if not shape.by_image:
        return REFETCH
    columns, identity = change.columns, change.identity
    image: dict[str, Text] = {}
    size = 0
    for name in shape.used:
        if name in columns:
            value = columns[name]
        elif name in identity:
            # This is an unchanged value, stored out of line, that the replica identity carries.
            value = identity[name]
        else:
            return REFETCH
        image[name] = value
        size += getsizeof(value) if value else 0
    # A larger image is not worth holding and copying: the row is read by its key.
    return Upsert(image, size) if size <= LARGE_IMAGE else REFETCH
