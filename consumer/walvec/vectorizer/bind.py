"""Bind a vectorizer: describe its table, and prove that it can be followed.

This happens once before the stream starts, and again where the catalog has changed (`admission`, `watch`).
`walvec check` and `walvec setup` bind what is not published yet.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import psycopg
from psycopg import sql

from walvec.config.load import Vectorizer
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.expressions import called_functions, require_fit
from walvec.vectorizer.readable import require_rights
from walvec.vectorizer.source_sql import source_query
from walvec_slots.errors import PreconditionFailed
from walvec_slots.publication import Published, published
from walvec_slots.queries import load_sql
from walvec_slots.relation import Relation, describe
from walvec_slots.settle import Connection

_QUERIES, _REMEDIES = load_sql("source.sql"), load_sql("check.sql")

# Columns that every target has beside the key's.
_COMPOSED = {"chunk_seq", "chunk", "embedding", "input_hash", "embedded_at"}


async def bind(connection: Connection, vectorizer: Vectorizer, publication: str) -> Binding:
    """Bind a vectorizer to its table as it is and as it is published.

    Everything is read from one snapshot: a table that is replaced meanwhile is seen either as it was or as it
    is.

    Raises PreconditionFailed where table, replica identity or publication do not allow it, Unreadable where
    the rows cannot be read, ConfigInvalid where an expression is not valid, or not a function of the row.
    """
    async with connection.transaction():
        relation = await describe(connection, *vectorizer.table)
        listing = await published(connection, publication, relation)
        async with connection.transaction(force_rollback=True):
            await resolve_expressions(connection, local=True)
            try_it = source_query(Binding(vectorizer, relation, listing, ()), "try_to_read")
            await require_rights(connection, vectorizer, relation, try_it)
        return await bind_to(connection, vectorizer, relation, listing, publication)


async def bind_to(
    connection: Connection,
    vectorizer: Vectorizer,
    relation: Relation,
    listing: Published,
    publication: str,
) -> Binding:
    """Bind a vectorizer to a table as it is described; raises as `bind` does."""
    binding = Binding(vectorizer, relation, listing, ())
    async with connection.transaction(force_rollback=True):
        search_path = await resolve_expressions(connection, local=True)
        await require_fit(connection, vectorizer)
        used, by_column = await _find_used_columns(connection, binding)
        _refuse_unpublished(binding, used, publication)
        _refuse_taken_names(binding)
        bound = replace(binding, used=used, search_path=search_path)
        by_image = by_column and await _is_valid(connection, bound) and await _reads_back(connection, bound)
    functions = await called_functions(connection, vectorizer)
    return replace(bound, by_image=by_image, functions=functions)


async def resolve_expressions(connection: Connection, *, local: bool) -> str:
    """Have the session, or with `local` its transaction, resolve the user's names.

    Returns the search path. From then on every other statement on the session must name its schemas.
    """
    cursor = await connection.execute(_QUERIES["resolve_expressions"], {"local": local})
    ((search_path,),) = await cursor.fetchall()
    return str(search_path)


async def _is_valid(connection: Connection, binding: Binding) -> bool:
    """Whether the expressions can be evaluated on the columns of a row image alone."""
    try:
        async with connection.transaction():
            await connection.execute(source_query(binding, "evaluate_images"), binding.image_parameters([]))
    except psycopg.ProgrammingError:
        return False
    return True


async def _reads_back(connection: Connection, binding: Binding) -> bool:
    """Whether casts from text read the used columns as input functions do."""
    oids = [column.base_type_oid for column in binding.image_columns]
    cursor = await connection.execute(_QUERIES["reads_back"], {"oids": oids})
    return await cursor.fetchone() == (True,)


async def _find_used_columns(connection: Connection, binding: Binding) -> tuple[tuple[str, ...], bool]:
    """Ask the planner which columns the expressions use, in the table's order.

    Also returns whether these are all: f(blog) and to_jsonb(blog) take the row as a whole, and then every
    column counts.
    """
    every = tuple(column.name for column in binding.relation.columns)
    try:
        async with connection.transaction():
            cursor = await connection.execute(source_query(binding, "used_columns"), {})
    except psycopg.ProgrammingError:
        return every, False
    ((plans,),) = await cursor.fetchall()
    *outputs, whole = _innermost_output(plans[0]["Plan"]) or [""]
    if len(outputs) != len(every) or not whole.startswith("NULL::"):
        return every, False
    used = (name for name, output in zip(every, outputs, strict=True) if not output.startswith("NULL::"))
    return tuple(used), True


def _innermost_output(plan: Mapping[str, object]) -> list[str]:
    """Return what the innermost scan of a plan gives: an expression for each column."""
    while "Plans" in plan:
        plan = cast("list[Mapping[str, object]]", plan["Plans"])[0]
    return cast("list[str]", plan.get("Output", []))


def _refuse_unpublished(binding: Binding, used: tuple[str, ...], publication: str) -> None:
    """Raise PreconditionFailed where the publication leaves out a needed column."""
    listed = binding.published.columns
    if listed is None:
        return
    missing = sorted({*used, *binding.relation.key} - listed)
    if missing:
        raise PreconditionFailed(
            f'Vectorizer "{binding.name}" uses {", ".join(missing)}, which the publication leaves out',
            hint=_publish_columns(binding, listed | {*missing}, publication),
        )


def _publish_columns(binding: Binding, names: frozenset[str], publication: str) -> str:
    """Write out the statements that publish these columns; a row filter stays."""
    row_filter = binding.published.row_filter
    return (
        sql.SQL(_REMEDIES["publish_columns"])
        .format(
            publication=sql.Identifier(publication),
            table=sql.Identifier(*binding.vectorizer.table),
            columns=sql.SQL(", ").join(
                sql.Identifier(column.name) for column in binding.relation.columns if column.name in names
            ),
            filter=sql.SQL(f" WHERE ({row_filter})" if row_filter else ""),
        )
        .as_string()
    )


def _refuse_taken_names(binding: Binding) -> None:
    """Raise PreconditionFailed where a key column is named like one of the target's."""
    taken = sorted(_COMPOSED & set(binding.relation.key))
    if taken:
        raise PreconditionFailed(
            f'Vectorizer "{binding.name}": key column {taken[0]} has the name of a column of every target',
            hint="choose a unique index on other columns: "
            f"ALTER TABLE {binding.vectorizer.table} REPLICA IDENTITY USING INDEX …",
        )
