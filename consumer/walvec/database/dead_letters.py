"""Dead letters, as the target keeps them.

`stages.write` parks rows and removes their dead letters again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from walvec.database.keys import Key
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("metadata.sql")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A parked row that is to be tried again; `attempts` have failed."""

    vectorizer: str
    key: Key
    attempts: int


async def load_retries(connection: Connection, vectorizers: Sequence[str], *, limit: int) -> list[DeadLetter]:
    """Return at most `limit` parked rows that are to be tried again now.

    Those that an operator asked for come first.
    """
    values = {"vectorizers": list(vectorizers), "limit": limit}
    cursor = await connection.execute(_QUERIES["load_retries"], values)
    return [DeadLetter(name, tuple(key), attempts) for name, key, attempts in await cursor.fetchall()]


async def count_parked(connection: Connection) -> dict[str, int]:
    """Return the number of dead letters by vectorizer."""
    cursor = await connection.execute(_QUERIES["count_parked"])
    return dict(await cursor.fetchall())


async def count_retried(connection: Connection) -> dict[str, int]:
    """Return, by vectorizer, how many dead letters are tried again by themselves."""
    cursor = await connection.execute(_QUERIES["count_retried"])
    return dict(await cursor.fetchall())
