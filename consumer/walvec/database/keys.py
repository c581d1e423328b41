"""Keys in SQL: typed columns on one side, text on ours, whatever their number and types.

A statement about many keys takes one text array a key column, `%(k0)s, %(k1)s, …`, unnests them to columns
`k0, k1, …` and casts these to the columns' types.

Names are written for statements that are executed with parameters, `{}` where they have none.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import AsyncCursor, sql

from walvec_slots.relation import Column

# The text of the key columns, in the key's order, as PostgreSQL's output functions give it.
Key = tuple[str, ...]

_COMMA = sql.SQL(", ")


def identifier(*names: str) -> sql.SQL:
    """Quote a name; a percent sign in it is doubled, because psycopg would take it for a placeholder's."""
    return literal_sql(sql.Identifier(*names).as_string())


def literal_sql(text: str) -> sql.SQL:
    """Take words of the configuration or the catalog as SQL: their author may say anything a SELECT may."""
    return sql.SQL(text.replace("%", "%%"))


def type_name(column: Column) -> sql.SQL:
    """Return the column's type as PostgreSQL spells it; of a domain, the type under it, which checks nothing.

    A domain's CHECK is its owner's code, and would run as walvec's role.
    """
    return literal_sql(column.base_type_name)


def columns(key: Sequence[Column], alias: str) -> sql.Composed:
    """`alias.id, alias.part`: the key's columns themselves."""
    return _COMMA.join(identifier(alias, column.name) for column in key)


def names(key: Sequence[Column], prefix: str = "k") -> sql.Composed:
    """`k0, k1`: the key's columns as text."""
    return _COMMA.join(sql.Identifier(f"{prefix}{i}") for i in range(len(key)))


def arrays(key: Sequence[Column], prefix: str = "k") -> sql.Composed:
    """`%(k0)s::pg_catalog.text[], …`: one parameter a key column."""
    return _COMMA.join(
        sql.SQL("{}::pg_catalog.text[]").format(sql.Placeholder(f"{prefix}{i}")) for i in range(len(key))
    )


def unnested(key: Sequence[Column], prefix: str = "k") -> sql.Composed:
    """`ROWS FROM (pg_catalog.unnest(%(k0)s::pg_catalog.text[]), …)`: many keys, a row each.

    Only an unnest without its schema takes several arrays.
    """
    return sql.SQL("ROWS FROM ({})").format(
        _COMMA.join(
            sql.SQL("pg_catalog.unnest({}::pg_catalog.text[])").format(sql.Placeholder(f"{prefix}{i}"))
            for i in range(len(key))
        )
    )


def order(key: Sequence[Column], alias: str | None = None) -> sql.Composed:
    """`alias.id USING OPERATOR(pg_catalog.<), …`: the order of the key's index, for ORDER BY.

    Without an alias, of the columns as `names` calls them.
    """
    return _COMMA.join(
        sql.SQL("{} USING {}").format(
            sql.Identifier(f"k{i}") if alias is None else identifier(alias, column.name),
            literal_sql(column.operators.less),
        )
        for i, column in enumerate(key)
    )


def follows(key: Sequence[Column], alias: str) -> sql.Composed:
    """`(alias.id, …) > (%(k0)s::bigint, …)`: what follows one key in the order of the key's index."""
    mine = [identifier(alias, column.name) for column in key]
    theirs = [
        sql.SQL("{}::pg_catalog.text::{}").format(sql.Placeholder(f"k{i}"), type_name(column))
        for i, column in enumerate(key)
    ]
    if len({column.operators.greater for column in key}) == 1:
        return sql.SQL("({}) {} ({})").format(
            _COMMA.join(mine), literal_sql(key[0].operators.greater), _COMMA.join(theirs)
        )
    return _follows(key, mine, theirs)


def _follows(
    key: Sequence[Column], mine: Sequence[sql.Composable], theirs: Sequence[sql.Composable]
) -> sql.Composed:
    """Write a comparison of rows out: its operators are of several schemas, and it can name one only."""
    first = key[0].operators
    after = sql.SQL("{} {} {}").format(mine[0], literal_sql(first.greater), theirs[0])
    if len(key) == 1:
        return after
    return sql.SQL("({} {} {} AND ({} OR {} {} {} AND {}))").format(
        *(mine[0], literal_sql(first.greater_equal), theirs[0]),
        after,
        *(mine[0], literal_sql(first.equal), theirs[0]),
        _follows(key[1:], mine[1:], theirs[1:]),
    )


def casts(key: Sequence[Column], alias: str) -> sql.Composed:
    """`alias.k0::bigint, alias.k1::text`: the key's columns, back in their types."""
    return _COMMA.join(
        sql.SQL("{}::{}").format(sql.Identifier(alias, f"k{i}"), type_name(column))
        for i, column in enumerate(key)
    )


def equal(key: Sequence[Column], table: str, text: str) -> sql.Composed:
    """`table.id = text.k0::bigint AND …`: the join of a table to unnested or staged keys."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} {}::{}").format(
            identifier(table, column.name),
            literal_sql(column.operators.equal),
            sql.Identifier(text, f"k{i}"),
            type_name(column),
        )
        for i, column in enumerate(key)
    )


def parameters(keys: Iterable[Key], key: Sequence[Column], prefix: str = "k") -> dict[str, list[str]]:
    """Return the arrays for `arrays`, all as long as `keys`."""
    transposed = list(zip(*keys, strict=True)) or [()] * len(key)
    return {f"{prefix}{i}": list(part) for i, part in enumerate(transposed)}


def read_keys(cursor: AsyncCursor[Any]) -> list[Key]:
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
    """Return the parameters for `follows`."""
    return {f"k{i}": part for i, part in enumerate(key)}
