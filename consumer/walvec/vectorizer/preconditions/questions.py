"""How the preconditions ask the target's catalog, and how they write out a remedy."""

from typing import Final

from psycopg import sql
from psycopg.rows import DictRow, dict_row

from walvec.config.table_name import TableName
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

CATALOG_QUESTIONS: Final = load_sql("check.sql")

# Setup creates it; target tables may be in any other.
METADATA_SCHEMA: Final = "walvec"


async def ask_catalog(connection: Connection, query: str, /, **parameters: str) -> DictRow:
    """Ask one of the questions in `sql/check.sql`; {} where it has no answer."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(CATALOG_QUESTIONS[query], parameters)
        return await cursor.fetchone() or {}


def write_remedy(query: str, /, **names: str | TableName) -> str:
    """Write out a remedy of `sql/check.sql` as an operator would type it."""
    identifiers = {
        part: sql.Identifier(*words) if isinstance(words, TableName) else sql.Identifier(words)
        for part, words in names.items()
    }
    return sql.SQL(CATALOG_QUESTIONS[query]).format(**identifiers).as_string()
