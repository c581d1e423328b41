"""The statements that read a vectorizer's table, filled in for it. Pure.

What is asked stands in `sql/source.sql` and `sql/estimate.sql`; who asks is `bind`, `stages.evaluate` and the
estimate of `walvec check`.
"""

from psycopg import sql

from walvec.database.keys import (
    cast_keys,
    identifier,
    key_columns,
    key_equals,
    key_follows,
    key_names,
    key_order,
    literal_sql,
    type_name,
    unnest_keys,
)
from walvec.vectorizer.binding import Binding
from walvec_slots.queries import load_sql

_QUERIES = load_sql("source.sql")

# Statements over images, which are in no partition.
_WITHOUT_ROWS = {"evaluate_images", "used_columns"}


def source_query(binding: Binding, name: str, *, file: str = "source.sql") -> sql.Composed:
    """Fill one of the named statements over the source with a vectorizer's table.

    It is to be executed with parameters. `file` is the one in `sql/` that holds it.
    """
    table = binding.vectorizer.table
    row_filter: sql.Composable = literal_sql(binding.published.row_filter or "true")
    if name not in _WITHOUT_ROWS and binding.published.leaves != binding.relation.leaves:
        row_filter = _within_published(binding, row_filter)
    return sql.SQL(load_sql(file)[name]).format(
        table=identifier(*table),
        alias=identifier(table.name),
        only=sql.SQL("ONLY" if binding.relation.kind == "r" else ""),
        key=key_columns(binding.key, table.name),
        embed=_embed_expression(binding, row_filter),
        is_embedded=_is_embedded(binding, row_filter),
        image=_image_columns(binding),
        image_values=unnest_keys(binding.image_columns, "c"),
        image_names=key_names(binding.image_columns, "c"),
        wanted=key_equals(binding.key, table.name, "walvec_wanted"),
        keys=unnest_keys(binding.key),
        names=key_names(binding.key),
        typed=cast_keys(binding.key, "walvec_wanted"),
        follows=key_follows(binding.key, table.name),
        key_order=key_order(binding.key, table.name),
        name_order=key_order(binding.key),
    )


def _image_columns(binding: Binding) -> sql.Composed:
    """Compose a row image's columns from their texts, domains as their base types."""
    return sql.SQL(", ").join(
        sql.SQL("{}::{}{} AS {}").format(
            sql.Identifier("walvec_image", f"c{i}"),
            type_name(column),
            literal_sql(f" COLLATE {column.collation}" if column.collation else ""),
            identifier(column.name),
        )
        for i, column in enumerate(binding.image_columns)
    )


def _within_published(binding: Binding, row_filter: sql.Composable) -> sql.Composed:
    """Leave out rows of unpublished partitions: no event reports their changes."""
    return sql.SQL("({}\n) AND {} OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.oid[])").format(
        row_filter,
        identifier(binding.vectorizer.table.name, "tableoid"),
        sql.SQL(", ").join(leaf.oid for leaf in binding.published.leaves),
    )


def _embed_expression(binding: Binding, row_filter: sql.Composable) -> sql.Composed:
    """Compose the expression whose value is what to embed."""
    return sql.SQL(_QUERIES["embed_expression"]).format(
        is_embedded=_is_embedded(binding, row_filter), text=literal_sql(binding.vectorizer.text)
    )


def _is_embedded(binding: Binding, row_filter: sql.Composable) -> sql.Composed:
    """Compose the condition under which a row is embedded, if it has a text."""
    where = literal_sql(binding.vectorizer.where or "true")
    return sql.SQL(_QUERIES["is_embedded"]).format(filter=row_filter, where=where)
