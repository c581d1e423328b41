"""walvec's schema in the target: created, migrated, and checked for its version."""

from collections.abc import Iterator
from typing import LiteralString

import psycopg
from psycopg import sql

from walvec_slots.errors import PreconditionFailed
from walvec_slots.queries import FOLDER, load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("metadata.sql")
_OWNERSHIP = load_sql("ownership.sql")
_MIGRATIONS = FOLDER / "migrations"


async def migrate(connection: Connection) -> list[int]:
    """Create walvec's schema or bring it up to date; return what was applied now."""
    done = []
    async with connection.transaction():
        if not await _is_true(connection, "schema_exists"):
            await connection.execute(_QUERIES["create_schema"])
        if not await _is_true(connection, "migration_table_exists"):
            await connection.execute(_QUERIES["create_migration_table"])
        applied = await _applied_versions(connection)
        for version, statements in _read_migrations():
            if version not in applied:
                await _apply_migration(connection, statements)
                await connection.execute(_QUERIES["record_migration"], {"version": version})
                done.append(version)
    return done


async def _apply_migration(connection: Connection, statements: LiteralString) -> None:
    try:
        await connection.execute(statements)
    except psycopg.errors.UniqueViolation as error:
        # Version 1 allowed two vectorizers with one target.
        raise PreconditionFailed(
            f"Tables in schema walvec cannot be brought up to date: {error.diag.message_detail}",
            hint="a target belongs to one vectorizer; for the other: "
            "DELETE FROM walvec.vectorizer WHERE name = 'NAME'",
        ) from error


async def require_schema(connection: Connection) -> None:
    """Raise PreconditionFailed unless walvec's schema exists and is this version's."""
    try:
        old = await is_outdated(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        role = connection.info.user
        raise PreconditionFailed(
            f"Role {role} may not use schema walvec in the target database",
            hint=sql.SQL(_OWNERSHIP["grant_all"]).format(role=sql.Identifier(role)).as_string(),
        ) from error
    if old:
        raise PreconditionFailed(
            "Tables in schema walvec of the target database are missing or of an older version",
            hint="run: walvec setup",
        )


async def is_migrated(connection: Connection) -> bool:
    """Whether walvec's tables exist, in any version."""
    return await _is_true(connection, "migration_table_exists")


async def is_outdated(connection: Connection) -> bool:
    """Whether walvec's tables lack a migration.

    Raises PreconditionFailed where they are of a newer version.
    """
    applied = await _applied_versions(connection) if await is_migrated(connection) else set()
    known = {version for version, _ in _read_migrations()}
    if applied - known:
        raise PreconditionFailed(
            "Tables in schema walvec of the target database are of a newer version than this program",
            hint="upgrade the program: pip install --upgrade walvec",
        )
    return bool(known - applied)


async def _is_true(connection: Connection, question: LiteralString) -> bool:
    cursor = await connection.execute(_QUERIES[question])
    return await cursor.fetchone() == (True,)


async def _applied_versions(connection: Connection) -> set[int]:
    cursor = await connection.execute(_QUERIES["applied_migrations"])
    return {version for (version,) in await cursor.fetchall()}


def _read_migrations() -> Iterator[tuple[int, LiteralString]]:
    """Yield version and statements of every migration, oldest first.

    They are files of the package.
    """
    for path in sorted(_MIGRATIONS.glob("*.sql")):
        yield int(path.stem.split("_")[0]), path.read_text(encoding="utf-8")
