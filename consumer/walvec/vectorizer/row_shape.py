"""What planning needs to know about a table; the rest of its binding is `bind`'s."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowShape:
    """What planning needs to know about a vectorizer's table."""

    key: tuple[str, ...]
    used: tuple[str, ...]  # the columns that the expressions use
    published: frozenset[str]  # of insert, update, delete, truncate
    by_image: bool  # whether the expressions can be evaluated on a row image
