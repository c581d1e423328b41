"""What planning needs to know about a table, apart from the rest of its binding."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowShape:
    """What planning needs to know about a vectorizer's table.

    `used` names the columns that the expressions read; `published` holds those of insert, update, delete and
    truncate that the publication lets through. `by_image`: the expressions can be evaluated on a row image.
    """

    key: tuple[str, ...]
    used: tuple[str, ...]
    published: frozenset[str]
    by_image: bool
