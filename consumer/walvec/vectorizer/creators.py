"""Who may create objects in the schemas where expressions look up names.

Such a role could plant a function or an operator that an expression then calls as walvec's role.
"""

import json

from psycopg import sql

from walvec.config.search_path import schemas, spell_path
from walvec_slots.probe import Finding
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("check.sql")


async def look_for_creators(connection: Connection, path: str) -> list[Finding]:
    """Warn of schemas in the search path that are missing, or that others may fill."""
    named = schemas(path)
    cursor = await connection.execute(_QUERIES["creators"], {"schemas": named})
    return [
        _open_to(schema, creators) if exists else _missing(schema, named)
        for schema, exists, creators in await cursor.fetchall()
        if not exists or creators
    ]


def _missing(schema: str, named: list[str]) -> Finding:
    rest = spell_path(name for name in named if name not in (schema, "pg_catalog"))
    return Finding(
        f"search path: {schema}",
        "warning",
        "there is no such schema on the source",
        f"[source] search_path = {json.dumps(rest, ensure_ascii=False)}",
    )


def _open_to(schema: str, creators: list[str]) -> Finding:
    grantees = sql.SQL(", ").join(
        sql.SQL("PUBLIC") if name == "PUBLIC" else sql.Identifier(name) for name in creators
    )
    remedy = sql.SQL(_QUERIES["revoke_create"]).format(schema=sql.Identifier(schema), roles=grantees)
    return Finding(
        f"search path: {schema}",
        "warning",
        f"{', '.join(creators)} may create objects there, such as a function with the name of one that an "
        "expression calls, which would then run as walvec's role",
        remedy.as_string(),
    )
