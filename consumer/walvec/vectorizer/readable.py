"""Whether walvec's role may read the rows of a vectorizer's table.

The table's owner grants that, may revoke it at any time, and may hide rows by a policy. It concerns that
vectorizer alone: it is paused, and goes on once the right is back.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from walvec.config.load import Vectorizer
from walvec.errors import CatalogChanged, Unreadable
from walvec_slots.queries import load_sql
from walvec_slots.relation import Relation
from walvec_slots.rights import hindrance
from walvec_slots.settle import Connection

_QUERIES = load_sql("expressions.sql")

# The name comes bare: without quotes, and without its schema.
_DENIED = re.compile(r"permission denied for (?:materialized |foreign )?(?P<kind>\w+) (?P<name>.+)")


async def write_grants(connection: Connection, message: str) -> str:
    """Write out the statements that grant what PostgreSQL's message says it denied."""
    grants = []
    if denied := _DENIED.fullmatch(message):
        cursor = await connection.execute(_QUERIES["missing_grants"], denied.groupdict())
        grants = [grant for (grant,) in await cursor.fetchall()]
    return "; ".join(grants) or f"grant role {connection.info.user} the missing right"


async def require_rights(
    connection: Connection, vectorizer: Vectorizer, relation: Relation, try_it: sql.Composed
) -> None:
    """Raise Unreadable where this role lacks a right to read the rows.

    `try_it` is a statement like those that read them. Whatever else is wrong with it is reported elsewhere.
    """
    try:
        async with connection.transaction():
            await connection.execute(try_it)
    except psycopg.errors.InsufficientPrivilege as error:
        said = error.diag.message_primary or "permission denied"
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        return
    else:
        return
    _, remedy = await hindrance(connection, relation) or ("", await write_grants(connection, said))
    raise Unreadable(
        f'Vectorizer "{vectorizer.name}": the rows of {vectorizer.table} cannot be read: {said}',
        hint=remedy,
    )


@contextmanager
def noticing_rights(name: str) -> Iterator[None]:
    """Turn a refused read into CatalogChanged: binding again finds the missing right.

    A refusal inside a function that the expressions call stays as it is: it says nothing of the table.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        if error.diag.context:
            raise
        raise CatalogChanged(f'Vectorizer "{name}": its rows can no longer be read') from error
