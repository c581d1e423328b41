"""Who may plant something in the schemas in which the user's expressions are looked up."""

from psycopg import sql

from walvec.config.search_path import schemas
from walvec_slots.probe import Finding
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("check.sql")


async def look_for_creators(connection: Connection, path: str) -> list[Finding]:
    """Warn of each schema of `[source] search_path` that is missing, or where others may create."""
    cursor = await connection.execute(_QUERIES["creators"], {"schemas": schemas(path)})
    return [
        _missing(schema) if not exists else _open_to(schema, creators)
        for schema, exists, creators in await cursor.fetchall()
        if not exists or creators
    ]


def _missing(schema: str) -> Finding:
    remedy = "take it out of [source] search_path"
    return Finding(f"search path: {schema}", "warning", "There is no such schema on the source", remedy)


def _open_to(schema: str, creators: list[str]) -> Finding:
    grantees = sql.SQL(", ").join(
        sql.SQL("PUBLIC") if name == "PUBLIC" else sql.Identifier(name) for name in creators
    )
    remedy = sql.SQL(_QUERIES["revoke_create"]).format(schema=sql.Identifier(schema), roles=grantees)
    return Finding(
        f"search path: {schema}",
        "warning",
        f"{', '.join(creators)} may create there, and what they call like a function or an operator of an "
        "expression runs as walvec's role",
        remedy.as_string(),
    )
