"""What a publication lets through.

wal2json ignores publications, so walvec applies them itself.

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
    """A table's part in a publication.

    `columns` is the column list; None publishes every column, later ones too. `row_filter` is SQL over the
    row, with the schemas of its functions. `leaves` are the relation's leaves that are published; rows of
    the others do not come. `via_root`: rows of partitions come as their root's, where the plugin applies the
    publication. `version` differs once the publication, or the table's part in it, was altered.
    """

    columns: frozenset[str] | None
    row_filter: str | None
    actions: frozenset[PublishAction]
    leaves: tuple[Leaf, ...]
    via_root: bool = False
    version: str = field(default="", compare=False)


class NotPublished(PreconditionFailed):
    """The publication exists, but does not publish the table."""


@dataclass(frozen=True, slots=True)
class Publication:
    """An existing publication.

    `may_alter`: this session's role has the owner's rights.
    """

    oid: int
    owner: str
    may_alter: bool


async def find_publication(conn: psycopg.AsyncConnection[Any], publication: str) -> Publication | None:
    """Return the publication of that name, if there is one."""
    async with reading(conn) as cursor:
        await cursor.execute(QUERIES["publication"], {"publication": publication})
        row = await cursor.fetchone()
    return Publication(row["oid"], row["owner"], row["may_alter"]) if row else None


async def published(conn: psycopg.AsyncConnection[Any], publication: str, relation: Relation) -> Published:
    """Read what the publication lets through of a table.

    Raises NotPublished if the table is not in it, PreconditionFailed if there is no such publication or if it
    has different row filters or column lists for partitions of the table.
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
    """Raise PreconditionFailed where pgoutput would send partitions as their root.

    It would then send no TRUNCATE of one partition.
    """
    if listing.via_root:
        raise PreconditionFailed(
            f'Publication "{publication}" has publish_via_partition_root, under which pgoutput sends no '
            "TRUNCATE of a partition",
            hint=statement("publish_via_leaves", publication=sql.Identifier(publication)),
        )


async def create_publication(
    conn: psycopg.AsyncConnection[Any], publication: str, tables: Sequence[Relation]
) -> None:
    """Create a publication of these tables, or of none yet.

    It publishes all columns, rows and actions. It takes Relations because PostgreSQL refuses UPDATE and
    DELETE on a published table without a replica identity, the application's included. Raises
    PreconditionFailed if the publication exists or the role may not create it.
    """
    query, identifiers = _creation(publication, tables)
    await _execute(conn, query, **identifiers)


def creation_statement(publication: str, tables: Sequence[Relation]) -> str:
    """Write out the statement of `create_publication`, for a role that may run it."""
    query, identifiers = _creation(publication, tables)
    return statement(query, **identifiers)


async def add_table(conn: psycopg.AsyncConnection[Any], publication: str, table: Relation) -> None:
    """Publish one more table. Raises PreconditionFailed as `create_publication` does."""
    name = sql.Identifier(table.schema, table.name)
    await _execute(conn, "add_to_publication", publication=sql.Identifier(publication), table=name)


async def drop_publication(conn: psycopg.AsyncConnection[Any], publication: str) -> None:
    """Drop a publication if it exists.

    Raises PreconditionFailed if the role does not own it.
    """
    await _execute(conn, "drop_publication", publication=sql.Identifier(publication))


def _creation(publication: str, tables: Sequence[Relation]) -> tuple[str, dict[str, sql.Composable]]:
    """Return the statement's name in `sql/slots.sql`, and its identifiers."""
    name = sql.Identifier(publication)
    if not tables:
        return "create_empty_publication", {"publication": name}
    names = sql.SQL(", ").join(sql.Identifier(table.schema, table.name) for table in tables)
    return "create_publication", {"publication": name, "tables": names}


async def _execute(conn: psycopg.AsyncConnection[Any], name: str, **identifiers: sql.Composable) -> None:
    try:
        await conn.execute(sql.SQL(QUERIES[name]).format(**identifiers))
    except errors.InsufficientPrivilege as error:
        owner = "the tables' owner, who may CREATE in the database"
        raise PreconditionFailed(
            _said(error), hint=f"run as {owner}: {statement(name, **identifiers)}"
        ) from error
    except (errors.DuplicateObject, errors.UndefinedObject, errors.UndefinedTable) as error:
        raise PreconditionFailed(_said(error)) from error


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)


def _missing(publication: str, relation: Relation) -> PreconditionFailed:
    tables = sql.Identifier(relation.schema, relation.name)
    hint = statement("create_publication", publication=sql.Identifier(publication), tables=tables)
    return PreconditionFailed(f'Publication "{publication}" does not exist', hint=hint)


def _unpublished(publication: str, relation: Relation) -> NotPublished:
    table = sql.Identifier(relation.schema, relation.name)
    return NotPublished(
        f'Publication "{publication}" does not publish {quoted(relation.schema, relation.name)}',
        hint=statement("add_to_publication", publication=sql.Identifier(publication), table=table),
    )


def _ambiguous(publication: str, relation: Relation) -> PreconditionFailed:
    return PreconditionFailed(
        f'Publication "{publication}" has different row filters or column lists for partitions of '
        f"{quoted(relation.schema, relation.name)}",
        hint=statement("publish_via_root", publication=sql.Identifier(publication)),
    )
