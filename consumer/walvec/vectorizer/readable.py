"""Whether the rows of a vectorizer's table can be read by walvec's role: that is their owner's to grant.

He may revoke it at any time, or hide rows by a policy. That concerns this vectorizer and no other: it is
paused, and goes on once the right is back.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from walvec.config.load import Vectorizer
from walvec.errors import CatalogChanged, Unreadable
from walvec_slots.relation import Relation
from walvec_slots.rights import hindrance
from walvec_slots.settle import Connection


async def require_rights(
    connection: Connection, vectorizer: Vectorizer, relation: Relation, try_it: sql.Composed
) -> None:
    """Raise Unreadable where a statement like those that read the rows is refused for want of a right.

    Whatever else is wrong with it is for others to say.
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
    _, remedy = await hindrance(connection, relation) or ("", None)
    raise Unreadable(
        f'vectorizer "{vectorizer.name}": the rows of {vectorizer.table} cannot be read: {said}',
        hint=remedy or "give walvec's role the right that is missing",
    )


@contextmanager
def noticing_rights(name: str) -> Iterator[None]:
    """Have a vectorizer bound again where a read is refused: that finds out which right is missing.

    Not where a function that the expressions call was refused something: that says nothing of the table.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        if error.diag.context:
            raise
        raise CatalogChanged(f'vectorizer "{name}": its rows cannot be read any more') from error
