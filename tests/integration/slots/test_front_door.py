"""The program in the docstring of walvec_slots, taken from there and run."""

import ast
import textwrap
from types import CodeType
from typing import Any

import psycopg
import pytest

import walvec_slots as ws
from tests.integration.slots.conftest import running, until


def program() -> tuple[ast.AsyncFunctionDef, CodeType]:
    """Return the docstring's function, and its program without the last call."""
    text = (ws.__doc__ or "").partition("    import asyncio\n")
    lines = textwrap.dedent(text[1] + text[2].partition("\n\n`create_slot`")[0])
    tree = ast.parse(lines)
    start = tree.body.pop()
    assert ast.unparse(start).startswith("asyncio.run(follow(")
    [function] = (node for node in tree.body if isinstance(node, ast.AsyncFunctionDef))
    return function, compile(tree, "walvec_slots.__doc__", "exec")


def test_the_program_has_twelve_lines() -> None:
    """The docstring says so, and the function it shows is that short."""
    function, _ = program()
    assert (function.end_lineno or 0) - function.lineno + 1 == 12


@pytest.mark.parametrize("name", [pytest.param("wal2json", marks=pytest.mark.needs("wal2json")), "pgoutput"])
async def test_the_program_follows_a_slot(
    name: str,
    database: str,
    source: psycopg.Connection,
    conn: psycopg.AsyncConnection,
    slot_name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The program prints a row that is written, and confirms its transaction."""
    source.execute("CREATE TABLE posts (id int PRIMARY KEY, title text)")
    await ws.create_publication(conn, "posts", [await ws.describe(conn, "public", "posts")])
    plugin = ws.PLUGINS[name]
    await ws.create_slot(conn, slot_name, plugin.name, time_limit=10)
    names: dict[str, Any] = {}
    exec(program()[1], names)
    source.execute("INSERT INTO posts VALUES (1, 'one')")
    [[written]] = source.execute("SELECT pg_current_wal_flush_lsn()::text").fetchall()
    printed: list[str] = []

    async def is_confirmed() -> bool:
        printed.append(capsys.readouterr().out)
        slot = await ws.find_slot(conn, slot_name)
        return slot is not None and (slot.confirmed_flush_lsn or 0) >= ws.Lsn.parse(written)

    async with running(names["follow"](database, slot_name, plugin, "posts", "posts")) as following:
        confirmed = await until(is_confirmed)
        if following.done():
            following.result()
    assert confirmed
    change = "kind='insert', lsn=Lsn('"
    columns = "schema='public', table='posts', columns={'id': '1', 'title': 'one'}"
    assert change in "".join(printed)
    assert columns in "".join(printed)
