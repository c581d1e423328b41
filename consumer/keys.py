"""Keys in SQL: typed columns on one side, text on ours, whatever their number and types.

A statement about many keys takes one text array a key column, `%(k0)s, %(k1)s, …`, unnests them to columns
`k0, k1, …` and casts these to the columns' types.

Names are written for statements that are executed with parameters, `{}` where they have none.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import AsyncCursor, sql

from consumer.actions import Key
from slots.relation import Column

_COMMA = sql.SQL(", ")


def identifier(*names: str) -> sql.SQL:
    """Quote a name; a percent sign in it is doubled, because psycopg would take it for a placeholder's."""
    return literal_sql(sql.Identifier(*names).as_string())


def literal_sql(text: str) -> sql.SQL:
    """Take words of the configuration or the catalog as SQL: their author may say anything a SELECT may."""
    return sql.SQL(text.replace("%", "%%"))


def type_name(column: Column) -> sql.SQL:
    """Return the column's type as PostgreSQL spells it."""
    return literal_sql(column.type_name)


def columns(key: Sequence[Column], alias: str) -> sql.Composed:
    """`alias.id, alias.part`: the key's columns themselves."""
    return _COMMA.join(identifier(alias, column.name) for column in key)


def names(key: Sequence[Column]) -> sql.Composed:
    """`k0, k1`: the key's columns as text."""
    return _COMMA.join(sql.Identifier(f"k{i}") for i in range(len(key)))


def arrays(key: Sequence[Column], prefix: str = "k") -> sql.Composed:
    """`%(k0)s::text[], %(k1)s::text[]`: one parameter a key column."""
    return _COMMA.join(sql.SQL("{}::text[]").format(sql.Placeholder(f"{prefix}{i}")) for i in range(len(key)))


def values(key: Sequence[Column]) -> sql.Composed:
    """`%(k0)s::bigint, %(k1)s::text`: one key."""
    return _COMMA.join(
        sql.SQL("{}::text::{}").format(sql.Placeholder(f"k{i}"), type_name(column))
        for i, column in enumerate(key)
    )


def casts(key: Sequence[Column], alias: str) -> sql.Composed:
    """`alias.k0::bigint, alias.k1::text`: the key's columns, back in their types."""
    return _COMMA.join(
        sql.SQL("{}::{}").format(sql.Identifier(alias, f"k{i}"), type_name(column))
        for i, column in enumerate(key)
    )


def equal(key: Sequence[Column], table: str, text: str) -> sql.Composed:
    """`(table.id, …) = (text.k0::bigint, …)`: the join of a table to unnested or staged keys."""
    return sql.SQL("({}) = ({})").format(columns(key, table), casts(key, text))


def parameters(keys: Iterable[Key], key: Sequence[Column], prefix: str = "k") -> dict[str, list[str]]:
    """Return the arrays for `arrays`, all as long as `keys`."""
    transposed = list(zip(*keys, strict=True)) or [()] * len(key)
    return {f"{prefix}{i}": list(part) for i, part in enumerate(transposed)}


def read(cursor: AsyncCursor[Any]) -> list[Key]:
    """Return the keys that a statement gave, as the server printed them and not as Python has them."""
    result = cursor.pgresult
    if result is None:
        return []
    width = range(result.nfields)
    return [
        tuple((result.get_value(row, column) or b"").decode() for column in width)
        for row in range(result.ntuples)
    ]


def parameter(key: Key) -> dict[str, str]:
    """Return the parameters for `values`."""
    return {f"k{i}": part for i, part in enumerate(key)}
