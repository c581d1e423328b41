"""One command at a time, whatever a role without rights does to its locks."""

import os
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from walvec.database.fence import only_command
from walvec.database.migrate import migrate
from walvec_slots.errors import SlotActive
from walvec_slots.settle import Connection


async def connect(dsn: str) -> Connection:
    """Open a session in the target."""
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


@pytest.fixture
async def stranger(database: str) -> AsyncIterator[Connection]:
    """Return a session of a role that has nothing but LOGIN."""
    role = f"stranger_{os.getpid()}"
    async with await connect(database) as owner:
        await owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'p'").format(sql.Identifier(role)))
        async with await connect(make_conninfo(database, user=role, password="p")) as stranger:
            yield stranger
        await owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.parametrize("shared", ["", "_shared"])
async def test_a_lock_in_a_stranger_s_hands_is_no_command(
    database: str, stranger: Connection, shared: str
) -> None:
    """Two commands that pass over a stranger's lock still see each other.

    The second names the first.
    """
    async with await connect(database) as first, await connect(database) as second:
        await migrate(first)
        for _ in range(2):
            held = await (await second.execute("SELECT key FROM walvec.fence")).fetchall()
            for key in (0x77616C766563, *(key for (key,) in held)):
                await stranger.execute(f"SELECT pg_advisory_lock{shared}(%s)".encode(), [key])
            async with only_command(first):
                with pytest.raises(SlotActive, match=f"session {first.info.backend_pid} "):
                    async with only_command(second):
                        pass
            async with only_command(second):
                pass


async def test_the_first_setup_is_alone_too(database: str) -> None:
    """One command at a time is admitted where there is no table yet."""
    async with await connect(database) as first, await connect(database) as second:
        async with only_command(first):
            with pytest.raises(SlotActive, match=f"session {first.info.backend_pid} "):
                async with only_command(second):
                    pass
        async with only_command(second):
            pass
