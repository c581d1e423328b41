"""What a publication lets through. wal2json ignores publications, so walvec applies them itself.

https://www.postgresql.org/docs/current/logical-replication-publication.html
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import psycopg
from psycopg import errors, sql

from walvec_slots.catalog import QUERIES, reading, statement
from walvec_slots.errors import PreconditionFailed
from walvec_slots.relation import Leaf, Relation, quoted

PublishAction = Literal["insert", "update", "delete", "truncate"]

_ACTIONS: Final[tuple[PublishAction, ...]] = ("insert", "update", "delete", "truncate")
_FIRST_WITH_FILTERS: Final = 150000


@dataclass(frozen=True, slots=True)
class Published:
    """A table's part in a publication."""

    columns: frozenset[str] | None  # the column list; None publishes every column, also later ones
    row_filter: str | None  # SQL over the row, its functions' schemas named
    actions: frozenset[PublishAction]
    leaves: tuple[Leaf, ...]  # the relation's leaves that are published; the others' rows stay out
    via_root: bool = False  # partitions' rows come as their root's, where the publication is applied
    # Differs once the publication, or the table's part in it, was altered.
    version: str = field(default="", compare=False)


class NotPublished(PreconditionFailed):
    """The publication is there and the table is not in it."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication that is there: which one, and whose."""

    oid: int
    owner: str
    may_alter: bool  # this role has its owner's rights


async def find_publication(conn: psycopg.AsyncConnection[Any], publication: str) -> Publication | None:
    """Look a publication up by its name."""
    async with reading(conn) as cursor:
        await cursor.execute(QUERIES["publication"], {"publication": publication})
        row = await cursor.fetchone()
    return Publication(row["oid"], row["owner"], row["may_alter"]) if row else None


async def published(conn: psycopg.AsyncConnection[Any], publication: str, relation: Relation) -> Published:
    """Read what the publication lets through of a table.

    Raises PreconditionFailed if there is no such publication, NotPublished if the table is not in it, or if
    partitions of one table are published with different row filters or column lists.
    """
    # A partitioned table that has no leaf yet is looked up by its own name.
    oids = [leaf.oid for leaf in relation.leaves] or [relation.oid]
    filtered = conn.info.server_version >= _FIRST_WITH_FILTERS
    async with reading(conn) as cursor:
        await cursor.execute(QUERIES["publication"], {"publication": publication})
        publication_row = await cursor.fetchone()
        if publication_row is None:
            raise _missing(publication, relation)
        actions = frozenset(action for action in _ACTIONS if publication_row[action])
        await cursor.execute(
            QUERIES["published_leaves" if filtered else "published_leaves_14"],
            {"publication": publication, "oids": oids},
        )
        rows = await cursor.fetchall()
    shapes = {(row["row_filter"], row["columns"] and frozenset(row["columns"])) for row in rows}
    if len(shapes) != 1:
        raise _ambiguous(publication, relation) if shapes else _unpublished(publication, relation)
    [(row_filter, columns)] = shapes
    leaves = {row["leaf"] for row in rows}
    versions = [publication_row["version"], *sorted({row["membership"] for row in rows})]
    return Published(
        columns=columns,
        row_filter=row_filter,
        actions=actions,
        via_root=publication_row["via_root"],
        leaves=tuple(leaf for leaf in relation.leaves if leaf.oid in leaves),
        version=" ".join(versions),
    )


def require_leaves(listing: Published, publication: str) -> None:
    """Raise PreconditionFailed where pgoutput would send partitions as their root, and no TRUNCATE of one."""
    if listing.via_root:
        raise PreconditionFailed(
            f'the publication "{publication}" has publish_via_partition_root, under which pgoutput does not '
            "send TRUNCATE of a partition",
            hint=statement("publish_via_leaves", publication=sql.Identifier(publication)),
        )


async def create_publication(
    conn: psycopg.AsyncConnection[Any], publication: str, tables: Sequence[Relation]
) -> None:
    """Create a publication of these tables, or of none yet: all columns, rows and actions.

    It takes Relations because a published table that has no replica identity refuses its application's own
    UPDATE and DELETE. Raises PreconditionFailed if the publication exists or the role may not create it.
    """
    if not tables:
        await _execute(conn, "create_empty_publication", publication=sql.Identifier(publication))
        return
    names = sql.SQL(", ").join(sql.Identifier(table.schema, table.name) for table in tables)
    await _execute(conn, "create_publication", publication=sql.Identifier(publication), tables=names)


def creation(publication: str, tables: Sequence[Relation]) -> str:
    """Write out the statement that `create` runs, for whoever may run it."""
    if not tables:
        return statement("create_empty_publication", publication=sql.Identifier(publication))
    names = sql.SQL(", ").join(sql.Identifier(table.schema, table.name) for table in tables)
    return statement("create_publication", publication=sql.Identifier(publication), tables=names)


async def add_table(conn: psycopg.AsyncConnection[Any], publication: str, table: Relation) -> None:
    """Publish one more table. Raises PreconditionFailed as `create` does."""
    name = sql.Identifier(table.schema, table.name)
    await _execute(conn, "add_to_publication", publication=sql.Identifier(publication), table=name)


async def drop_publication(conn: psycopg.AsyncConnection[Any], publication: str) -> None:
    """Drop a publication, if it is there. Raises PreconditionFailed if the role does not own it."""
    await _execute(conn, "drop_publication", publication=sql.Identifier(publication))


async def _execute(conn: psycopg.AsyncConnection[Any], name: str, **identifiers: sql.Composable) -> None:
    try:
        await conn.execute(sql.SQL(QUERIES[name]).format(**identifiers))
    except errors.InsufficientPrivilege as error:
        owner = "as the tables' owner, who may CREATE in the database"
        raise PreconditionFailed(
            _said(error), hint=f"run {owner}: {statement(name, **identifiers)}"
        ) from error
    except (errors.DuplicateObject, errors.UndefinedObject, errors.UndefinedTable) as error:
        raise PreconditionFailed(_said(error)) from error


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)


def _missing(publication: str, relation: Relation) -> PreconditionFailed:
    tables = sql.Identifier(relation.schema, relation.name)
    hint = statement("create_publication", publication=sql.Identifier(publication), tables=tables)
    return PreconditionFailed(f'there is no publication "{publication}"', hint=hint)


def _unpublished(publication: str, relation: Relation) -> NotPublished:
    table = sql.Identifier(relation.schema, relation.name)
    return NotPublished(
        f'the publication "{publication}" does not publish {quoted(relation.schema, relation.name)}',
        hint=statement("add_to_publication", publication=sql.Identifier(publication), table=table),
    )


def _ambiguous(publication: str, relation: Relation) -> PreconditionFailed:
    return PreconditionFailed(
        f'the publication "{publication}" has different row filters or column lists for partitions of '
        f"{quoted(relation.schema, relation.name)}",
        hint=statement("publish_via_root", publication=sql.Identifier(publication)),
    )
