"""What a change asks of the target.

Actions are kept by key, the newest one only: `dict[Key, Action]`. A key is the text of the key columns as
PostgreSQL's output functions give it, in the key's order. A truncate concerns no key: it is a mark on the
lane's segment, ahead of the actions in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Upsert(NamedTuple):
    """The row is as its image says.

    The image has the columns that the expressions use, as PostgreSQL prints them.
    """

    image: Mapping[str, str | None]

    # Bytes that its texts take in memory.
    size: int


@dataclass(frozen=True, slots=True)
class Refetch:
    """The row has changed, and the stream does not carry all of it.

    It is read by its key, under the visibility rule.
    """


class Found(NamedTuple):
    """The row was read from the source.

    `text` is what to embed; None if the row has no embedding, or does not exist any more.
    """

    text: str | None


@dataclass(frozen=True, slots=True)
class Delete:
    """The row is gone."""


Action = Upsert | Refetch | Found | Delete

DELETE = Delete()
REFETCH = Refetch()
