"""What keeps a role from reading the rows of a table that the stream carries whole."""

from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from walvec_slots.catalog import QUERIES, statement
from walvec_slots.relation import Relation


async def hindrance(conn: psycopg.AsyncConnection[Any], relation: Relation) -> tuple[str, str] | None:
    """Return what hinders this session's role, and the statement that lets it read; None: nothing."""
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
