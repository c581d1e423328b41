"""What this session's role may do, and the statements that let it."""

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from walvec_slots.catalog import QUERIES, statement
from walvec_slots.relation import Relation

# The output plugins that a server allows where output_plugin_libraries was never set.
DEFAULT_LIBRARIES: Final = ("pgoutput", "test_decoding")


async def hindrance(conn: psycopg.AsyncConnection[Any], relation: Relation) -> tuple[str, str] | None:
    """Return what keeps the role from reading all rows of a table; None: nothing.

    With it comes the statement that lets the role read them.
    """
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["read_rights"], {"oid": relation.oid})
        rights = await cursor.fetchone() or {}
    role = conn.info.user
    grantee = sql.Identifier(role)
    if not rights.get("may_select"):
        table = sql.Identifier(relation.schema, relation.name)
        schema = sql.Identifier(relation.schema)
        return f"{role} may not read them", statement("grant_read", schema=schema, table=table, role=grantee)
    if rights["row_security"]:
        return f"row security hides some from {role}", statement("see_all_rows", role=grantee)
    return None


def grant_replication(role: str) -> str:
    """Return the statement, a superuser's, that lets a role replicate."""
    return statement("grant_replication", role=sql.Identifier(role))


def allow_libraries(libraries: Sequence[str]) -> str:
    """Return the statements that make these libraries, and no others, output plugins."""
    alter = statement("allow_libraries", libraries=sql.SQL(", ").join(map(sql.Literal, libraries)))
    return f"{alter}; {QUERIES['reload']}"


def allow_plugin(plugin: str) -> str:
    """Return the statements that allow one library besides those allowed by default."""
    return allow_libraries(list(dict.fromkeys((plugin, *DEFAULT_LIBRARIES))))
