"""walvec's schema in the target database: made, brought up to date, and checked for its version."""

from collections.abc import Iterator
from typing import LiteralString

import psycopg

from walvec_slots.errors import PreconditionFailed
from walvec_slots.queries import FOLDER, load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("metadata.sql")
_MIGRATIONS = FOLDER / "migrations"


async def migrate(connection: Connection) -> list[int]:
    """Create walvec's schema or bring it up to date; return the versions applied now."""
    done = []
    async with connection.transaction():
        if not await _holds(connection, "schema_exists"):
            await connection.execute(_QUERIES["create_schema"])
        if not await _holds(connection, "migration_table_exists"):
            await connection.execute(_QUERIES["create_migration_table"])
        applied = await _applied(connection)
        for version, statements in _migrations():
            if version not in applied:
                await _apply(connection, statements)
                await connection.execute(_QUERIES["record_migration"], {"version": version})
                done.append(version)
    return done


async def _apply(connection: Connection, statements: LiteralString) -> None:
    try:
        await connection.execute(statements)
    except psycopg.errors.UniqueViolation as error:
        # A target of two vectorizers was no error in version 1.
        raise PreconditionFailed(
            f"walvec's tables cannot be brought up to date: {error.diag.message_detail}",
            hint="a target belongs to one vectorizer: DELETE the other FROM walvec.vectorizer",
        ) from error


async def require_schema(connection: Connection) -> None:
    """Raise PreconditionFailed unless walvec's schema is there and is this version's."""
    try:
        old = await outdated(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise PreconditionFailed(
            "walvec's role may not use schema walvec in the target database",
            hint="GRANT USAGE ON SCHEMA walvec and ALL ON ALL TABLES IN SCHEMA walvec to it",
        ) from error
    if old:
        raise PreconditionFailed(
            "walvec's tables in the target database are missing or of an older version",
            hint="run: walvec setup",
        )


async def is_migrated(connection: Connection) -> bool:
    """Whether walvec's tables are there, of whichever version."""
    return await _holds(connection, "migration_table_exists")


async def outdated(connection: Connection) -> bool:
    """Whether walvec's tables lack a migration. Raises PreconditionFailed where they are newer."""
    applied = await _applied(connection) if await is_migrated(connection) else set()
    known = {version for version, _ in _migrations()}
    if applied - known:
        raise PreconditionFailed(
            "walvec's tables in the target database are of a newer version than this program",
            hint="upgrade walvec: pip install --upgrade walvec",
        )
    return bool(known - applied)


async def _holds(connection: Connection, question: LiteralString) -> bool:
    cursor = await connection.execute(_QUERIES[question])
    return await cursor.fetchone() == (True,)


async def _applied(connection: Connection) -> set[int]:
    cursor = await connection.execute(_QUERIES["applied_migrations"])
    return {version for (version,) in await cursor.fetchall()}


def _migrations() -> Iterator[tuple[int, LiteralString]]:
    """Yield version and statements of every migration, oldest first. They ship with the package."""
    for path in sorted(_MIGRATIONS.glob("*.sql")):
        yield int(path.stem.split("_")[0]), path.read_text(encoding="utf-8")
