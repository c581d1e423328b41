"""The table that is embedded, filled on the server: its rows never pass through the measuring process."""

from typing import Any

import psycopg
from psycopg import sql

TABLE = "doc"
LENGTH = 300  # characters of a text

_CREATE = "CREATE TABLE {table} (id bigint PRIMARY KEY, body text NOT NULL, views bigint NOT NULL DEFAULT 0)"

# md5 in hexadecimal, eight characters a word: every text is another one.
_FILL = """
INSERT INTO {table} (id, body)
SELECT number, left(repeat(regexp_replace(md5(number::text), '(.{{8}})', '\\1 ', 'g'), %(times)s), %(length)s)
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS number
"""


def create(connection: psycopg.Connection[Any], table: str = TABLE) -> None:
    """Make the table: a key, a text, and a column that is not embedded."""
    connection.execute(sql.SQL(_CREATE).format(table=sql.Identifier(table)))


def fill(
    connection: psycopg.Connection[Any],
    count: int,
    *,
    first: int = 1,
    length: int = LENGTH,
    table: str = TABLE,
    each: int | None = None,
) -> None:
    """Insert `count` rows with keys from `first` up, and gather statistics.

    `each` of them make a transaction; without it all do.
    """
    each = each or max(count, 1)
    for start in range(first, first + count, each):
        last = min(start + each, first + count) - 1
        values = {"times": length // 36 + 1, "length": length, "first": start, "last": last}
        connection.execute(sql.SQL(_FILL).format(table=sql.Identifier(table)), values)
    connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))
