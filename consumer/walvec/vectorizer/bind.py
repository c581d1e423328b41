"""A vectorizer held against the catalog: what its table is, which columns it uses, the SQL that reads it.

Everything that depends on how the source's tables are made is worked out here, once, before the stream
starts; the stages after it work by what a `Binding` says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import psycopg
from psycopg import sql

from walvec.config.load import Vectorizer
from walvec.database import keys as key_sql
from walvec.vectorizer.expressions import called_functions, require_fit
from walvec.vectorizer.readable import require_rights
from walvec.vectorizer.row_shape import RowShape
from walvec_slots.changes import StreamedColumn, StreamedTable, Text
from walvec_slots.errors import PreconditionFailed
from walvec_slots.publication import Published, published
from walvec_slots.queries import load_sql
from walvec_slots.relation import Column, Relation, describe
from walvec_slots.settle import Connection

_QUERIES = load_sql("source.sql")

_WITHOUT_ROWS = {"evaluate_images", "used_columns"}  # statements over images, which are in no partition
_COMPOSED = {"chunk_seq", "chunk", "embedding", "input_hash", "embedded_at"}


@dataclass(frozen=True, slots=True)
class Binding:
    """A vectorizer and the table it is bound to."""

    vectorizer: Vectorizer
    relation: Relation
    published: Published
    used: tuple[str, ...]
    functions: tuple[tuple[int, int], ...] = ()  # of the user's own that the expressions call: oid, version
    search_path: str = ""  # in which the expressions' names are looked up
    by_image: bool = False  # whether the expressions can be evaluated on what the stream has of a row

    @property
    def name(self) -> str:
        """The vectorizer's name, which is its lane's too."""
        return self.vectorizer.name

    @property
    def key(self) -> tuple[Column, ...]:
        """The columns that identify a row, in the key's order."""
        columns = {column.name: column for column in self.relation.columns}
        return tuple(columns[name] for name in self.relation.key)

    @property
    def tables(self) -> tuple[tuple[str, str], ...]:
        """The tables whose changes arrive in the stream: the table, or its published partitions."""
        return tuple((leaf.schema, leaf.name) for leaf in self.published.leaves)

    def streamed(self) -> list[StreamedTable]:
        """Return the tables whose changes are needed, with the columns that are: the key's and those used."""
        wanted = {*self.used, *self.relation.key}
        columns = tuple(
            StreamedColumn(column.name, column.type_oid, column.type_name)
            for column in self.relation.columns
            if column.name in wanted
        )
        return [StreamedTable(leaf.oid, leaf.schema, leaf.name, columns) for leaf in self.published.leaves]

    @property
    def image_columns(self) -> tuple[Column, ...]:
        """The columns of a row image: those used, or one of the key where none is."""
        names = self.used or self.relation.key[:1]
        return tuple(column for column in self.relation.columns if column.name in names)

    def image_parameters(self, images: Sequence[Mapping[str, Text]]) -> dict[str, list[Text]]:
        """Return the parameters of `evaluate_images`: the texts of each column."""
        return {
            f"c{i}": [image.get(column.name) for image in images]
            for i, column in enumerate(self.image_columns)
        }

    def shape(self) -> RowShape:
        """Return what the planner needs to know."""
        return RowShape(
            key=self.relation.key,
            used=self.used,
            published=self.published.actions,
            by_image=self.by_image,
        )

    def identity(self) -> dict[str, object]:
        """Describe all of the catalog that a row's text, and the events that bring it, rest on.

        Where it differs a new epoch begins, and every row is compared. It goes by what the catalog itself
        calls a thing (oid, attnum) and by when its entry was written, so that a column renamed and another
        given its name, or a table swapped for another and back, do not pass for the same. What TRUNCATE,
        VACUUM FULL and CLUSTER change is not part of it: the stream tells of the first, and the others leave
        the rows as they are.
        """
        relation, listing = self.relation, self.published
        return {
            "table": [relation.oid, relation.version],
            "key": list(relation.key),
            "columns": [
                [
                    column.number,
                    column.name,
                    column.type_oid,
                    column.type_name,
                    column.collation_oid,
                    column.version,
                ]
                for column in relation.columns
                if column.name in self.used or column.name in relation.key
            ],
            "leaves": [[leaf.oid, leaf.schema, leaf.name, leaf.version] for leaf in listing.leaves],
            "publication": listing.version,
            "row_filter": listing.row_filter,
            "published": sorted(listing.actions),
            "functions": [list(function) for function in self.functions],
            "search_path": self.search_path,
        }


async def bind(connection: Connection, vectorizer: Vectorizer, publication: str) -> Binding:
    """Look a vectorizer's table up and prove that its expressions can be evaluated on what is published.

    All of it is read from one snapshot: a table that is replaced in between is seen as it was, or as it is.

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
        return await bind_to(connection, vectorizer, relation, listing)


async def bind_to(
    connection: Connection, vectorizer: Vectorizer, relation: Relation, listing: Published
) -> Binding:
    """Bind a vectorizer to a table as it is described and published; raises as `bind` does."""
    binding = Binding(vectorizer, relation, listing, ())
    async with connection.transaction(force_rollback=True):
        search_path = await resolve_expressions(connection, local=True)
        await require_fit(connection, vectorizer)
        used, by_column = await _used_columns(connection, binding)
        _refuse_unpublished(binding, used)
        _refuse_taken_names(binding)
        bound = replace(binding, used=used, search_path=search_path)
        by_image = by_column and await _is_valid(connection, bound) and await _reads_back(connection, bound)
    functions = await called_functions(connection, vectorizer)
    return replace(bound, by_image=by_image, functions=functions)


async def resolve_expressions(connection: Connection, *, local: bool) -> str:
    """Let a session, or with `local` its transaction, look names up as the expressions are to have it.

    Returns the search path. Every other statement on the session must name its schemas from then on.
    """
    cursor = await connection.execute(_QUERIES["resolve_expressions"], {"local": local})
    ((search_path,),) = await cursor.fetchall()
    return str(search_path)


async def _is_valid(connection: Connection, binding: Binding) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(source_query(binding, "evaluate_images"), binding.image_parameters([]))
    except psycopg.ProgrammingError:
        return False
    return True


async def _reads_back(connection: Connection, binding: Binding) -> bool:
    """Whether a cast from text reads every used column as its type's input function does."""
    oids = [column.base_type_oid for column in binding.image_columns]
    cursor = await connection.execute(_QUERIES["reads_back"], {"oids": oids})
    return await cursor.fetchone() == (True,)


async def _used_columns(connection: Connection, binding: Binding) -> tuple[tuple[str, ...], bool]:
    """Ask the planner which columns the expressions use, in the table's order.

    Also whether that is all they use: f(blog) and to_jsonb(blog) take the row as a whole, and every column
    counts.
    """
    every = tuple(column.name for column in binding.relation.columns)
    try:
        async with connection.transaction():
            cursor = await connection.execute(source_query(binding, "used_columns"), {})
    except psycopg.ProgrammingError:
        return every, False
    ((plans,),) = await cursor.fetchall()
    *outputs, whole = _function_scan(plans[0]["Plan"]) or [""]
    if len(outputs) != len(every) or not whole.startswith("NULL::"):
        return every, False
    used = (name for name, output in zip(every, outputs, strict=True) if not output.startswith("NULL::"))
    return tuple(used), True


def _function_scan(plan: Mapping[str, object]) -> list[str]:
    """Find the innermost scan's output list, one expression a column of the table."""
    while "Plans" in plan:
        plan = cast("list[Mapping[str, object]]", plan["Plans"])[0]
    return cast("list[str]", plan.get("Output", []))


def _refuse_unpublished(binding: Binding, used: tuple[str, ...]) -> None:
    listed = binding.published.columns
    if listed is None:
        return
    missing = sorted({*used, *binding.relation.key} - listed)
    if missing:
        raise PreconditionFailed(
            f'vectorizer "{binding.name}" uses {", ".join(missing)}, which the publication leaves out',
            hint=f"ALTER PUBLICATION … SET TABLE {binding.vectorizer.table}, with them or without a list",
        )


def _refuse_taken_names(binding: Binding) -> None:
    taken = sorted(_COMPOSED & set(binding.relation.key))
    if taken:
        raise PreconditionFailed(
            f'vectorizer "{binding.name}": key column {taken[0]} is named like a column of every target',
            hint=f"ALTER TABLE {binding.vectorizer.table} REPLICA IDENTITY USING INDEX one of other columns",
        )


def source_query(binding: Binding, name: str, *, file: str = "source.sql") -> sql.Composed:
    """Fill one of the named statements over the source with the vectorizer's table, key and expressions.

    To be executed with parameters. `file` is the one in `sql/` that holds it.
    """
    table = binding.vectorizer.table
    row_filter: sql.Composable = key_sql.literal_sql(binding.published.row_filter or "true")
    if name not in _WITHOUT_ROWS and binding.published.leaves != binding.relation.leaves:
        row_filter = _within_published(binding, row_filter)
    return sql.SQL(load_sql(file)[name]).format(
        table=key_sql.identifier(*table),
        alias=key_sql.identifier(table.name),
        only=sql.SQL("ONLY" if binding.relation.kind == "r" else ""),
        key=key_sql.columns(binding.key, table.name),
        embed=_embed(binding, row_filter),
        is_embedded=_is_embedded(binding, row_filter),
        image=_image(binding),
        image_values=key_sql.unnested(binding.image_columns, "c"),
        image_names=key_sql.names(binding.image_columns, "c"),
        wanted=key_sql.equal(binding.key, table.name, "walvec_wanted"),
        keys=key_sql.unnested(binding.key),
        names=key_sql.names(binding.key),
        typed=key_sql.casts(binding.key, "walvec_wanted"),
        follows=key_sql.follows(binding.key, table.name),
        key_order=key_sql.order(binding.key, table.name),
        name_order=key_sql.order(binding.key),
    )


def _image(binding: Binding) -> sql.Composed:
    """Compose the columns of a row image, from the text of each: in the types under their domains."""
    return sql.SQL(", ").join(
        sql.SQL("{}::{}{} AS {}").format(
            sql.Identifier("walvec_image", f"c{i}"),
            key_sql.type_name(column),
            key_sql.literal_sql(f" COLLATE {column.collation}" if column.collation else ""),
            key_sql.identifier(column.name),
        )
        for i, column in enumerate(binding.image_columns)
    )


def _within_published(binding: Binding, row_filter: sql.Composable) -> sql.Composed:
    """Keep rows of partitions out that are not published: nobody would hear of their changes."""
    return sql.SQL("({}\n) AND {} OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.oid[])").format(
        row_filter,
        key_sql.identifier(binding.vectorizer.table.name, "tableoid"),
        sql.SQL(", ").join(leaf.oid for leaf in binding.published.leaves),
    )


def _embed(binding: Binding, row_filter: sql.Composable) -> sql.Composed:
    """Compose the expression whose value is what to embed."""
    return sql.SQL(_QUERIES["embed_expression"]).format(
        is_embedded=_is_embedded(binding, row_filter), text=key_sql.literal_sql(binding.vectorizer.text)
    )


def _is_embedded(binding: Binding, row_filter: sql.Composable) -> sql.Composed:
    """Compose the condition under which a row is embedded, if it has a text."""
    where = key_sql.literal_sql(binding.vectorizer.where or "true")
    return sql.SQL(_QUERIES["is_embedded"]).format(filter=row_filter, where=where)
