"""What the expressions of a vectorizer call, and whether they are functions of the row alone."""

from consumer.config import Vectorizer
from consumer.database import Connection
from slots.queries import load

_QUERIES = load("expressions.sql")


async def called_functions(connection: Connection, vectorizer: Vectorizer) -> tuple[tuple[int, int], ...]:
    """Return oid and version of every function, not PostgreSQL's, that text and where may reach.

    Too many rather than too few, in the order of their oids. One that is replaced, dropped or added makes
    another list.
    """
    text = f"{vectorizer.text}\n{vectorizer.where or ''}"
    cursor = await connection.execute(_QUERIES["called_functions"], {"text": text})
    return tuple([(oid, version) for oid, version in await cursor.fetchall()])
