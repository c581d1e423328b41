"""Keys in SQL: typed columns in the table, text in walvec. Pure.

A statement about many keys takes one text array a key column, `%(k0)s, %(k1)s, …`, unnests them to columns
`k0, k1, …` and casts these to the columns' types. The functions here compose the parts of such statements;
each docstring shows what is composed for the key `(id bigint, part text)`.

Every percent sign in a name is doubled, so the statements must be executed with parameters, `{}` where they
have none.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import AsyncCursor, sql

from walvec_slots.relation import Column

# The text of the key columns, in the key's order, as PostgreSQL's output functions give it.
Key = tuple[str, ...]

_COMMA = sql.SQL(", ")


def identifier(*names: str) -> sql.SQL:
    """Quote a name, each percent sign in it doubled: psycopg sees a placeholder else."""
    return literal_sql(sql.Identifier(*names).as_string())


def literal_sql(text: str) -> sql.SQL:
    """Take text of the settings or the catalog as SQL.

    Its author may write anything that a SELECT may hold.
    """
    return sql.SQL(text.replace("%", "%%"))


def type_name(column: Column) -> sql.SQL:
    """Return the column's type as PostgreSQL spells it; of a domain, its base type.

    A domain's CHECK is its owner's code, and would run as walvec's role.
    """
    return literal_sql(column.base_type_name)


def key_columns(key: Sequence[Column], alias: str) -> sql.Composed:
    """Compose `alias.id, alias.part`, the key's columns themselves."""
    return _COMMA.join(identifier(alias, column.name) for column in key)


def key_names(key: Sequence[Column], prefix: str = "k") -> sql.Composed:
    """Compose `k0, k1`, the names of the key's columns as text."""
    return _COMMA.join(sql.Identifier(f"{prefix}{i}") for i in range(len(key)))


def key_arrays(key: Sequence[Column], prefix: str = "k") -> sql.Composed:
    """Compose `%(k0)s::pg_catalog.text[], …`, one parameter a key column."""
    return _COMMA.join(
        sql.SQL("{}::pg_catalog.text[]").format(sql.Placeholder(f"{prefix}{i}")) for i in range(len(key))
    )


def unnest_keys(key: Sequence[Column], prefix: str = "k") -> sql.Composed:
    """Compose `ROWS FROM (pg_catalog.unnest(%(k0)s::pg_catalog.text[]), …)`.

    It gives many keys, a row each. Only an unnest written without its schema takes several arrays.
    """
    return sql.SQL("ROWS FROM ({})").format(
        _COMMA.join(
            sql.SQL("pg_catalog.unnest({}::pg_catalog.text[])").format(sql.Placeholder(f"{prefix}{i}"))
            for i in range(len(key))
        )
    )


def key_order(key: Sequence[Column], alias: str | None = None) -> sql.Composed:
    """Compose `alias.id USING OPERATOR(pg_catalog.<), …`, the key's index order.

    It goes into ORDER BY. Without an alias, it is of the columns as `key_names` names them.
    """
    return _COMMA.join(
        sql.SQL("{} USING {}").format(
            sql.Identifier(f"k{i}") if alias is None else identifier(alias, column.name),
            literal_sql(column.operators.less),
        )
        for i, column in enumerate(key)
    )


def key_follows(key: Sequence[Column], alias: str) -> sql.Composed:
    """Compose `(alias.id, …) > (%(k0)s::bigint, …)`, in the order of the key's index."""
    mine = [identifier(alias, column.name) for column in key]
    theirs = [
        sql.SQL("{}::pg_catalog.text::{}").format(sql.Placeholder(f"k{i}"), type_name(column))
        for i, column in enumerate(key)
    ]
    if len({column.operators.greater for column in key}) == 1:
        return sql.SQL("({}) {} ({})").format(
            _COMMA.join(mine), literal_sql(key[0].operators.greater), _COMMA.join(theirs)
        )
    return _follows_part_by_part(key, mine, theirs)


def _follows_part_by_part(
    key: Sequence[Column], mine: Sequence[sql.Composable], theirs: Sequence[sql.Composable]
) -> sql.Composed:
    """Write out the comparison of two rows.

    A row comparison can name only one operator, and these are of several schemas.
    """
    first = key[0].operators
    after = sql.SQL("{} {} {}").format(mine[0], literal_sql(first.greater), theirs[0])
    if len(key) == 1:
        return after
    return sql.SQL("({} {} {} AND ({} OR {} {} {} AND {}))").format(
        *(mine[0], literal_sql(first.greater_equal), theirs[0]),
        after,
        *(mine[0], literal_sql(first.equal), theirs[0]),
        _follows_part_by_part(key[1:], mine[1:], theirs[1:]),
    )


def cast_keys(key: Sequence[Column], alias: str) -> sql.Composed:
    """Compose `alias.k0::bigint, alias.k1::text`, the keys back in their types."""
    return _COMMA.join(
        sql.SQL("{}::{}").format(sql.Identifier(alias, f"k{i}"), type_name(column))
        for i, column in enumerate(key)
    )


def key_equals(key: Sequence[Column], table: str, text: str) -> sql.Composed:
    """Compose `table.id = text.k0::bigint AND …`, to join a table to keys as text."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} {}::{}").format(
            identifier(table, column.name),
            literal_sql(column.operators.equal),
            sql.Identifier(text, f"k{i}"),
            type_name(column),
        )
        for i, column in enumerate(key)
    )


def array_parameters(keys: Iterable[Key], key: Sequence[Column], prefix: str = "k") -> dict[str, list[str]]:
    """Return the parameters of `key_arrays`, each as long as `keys`."""
    transposed = list(zip(*keys, strict=True)) or [()] * len(key)
    return {f"{prefix}{i}": list(part) for i, part in enumerate(transposed)}


def read_keys(cursor: AsyncCursor[Any]) -> list[Key]:
    """Return the keys that a statement gave, as the server printed them."""
    result = cursor.pgresult
    if result is None:
        return []
    width = range(result.nfields)
    return [
        tuple((result.get_value(row, column) or b"").decode() for column in width)
        for row in range(result.ntuples)
    ]


def key_parameters(key: Key) -> dict[str, str]:
    """Return the parameters of `key_follows`."""
    return {f"k{i}": part for i, part in enumerate(key)}
