import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fix_lacks import default_plugin
from tests.integration.commands.conftest import Walvec
from walvec_slots.lsn import Lsn


@pytest.fixture
def slot(tmp_path: Path) -> str:
    """The name of walvec's own slot in the settings; slots are the server's, not the database's."""
    name = f"own_{os.getpid()}"
    (tmp_path / "walvec.toml").write_text(f'[source]\nslot = "{name}"\n')
    return name


@pytest.fixture
def plugin(server: str) -> str:
    """The plugin of a slot that walvec makes on this server."""
    return default_plugin(server)


@pytest.fixture
def spare(slot: str) -> str:
    """The name of another slot."""
    return f"{slot}_spare"


def position(source: psycopg.Connection, slot: str) -> Lsn | None:
    """Where a slot stands; None where there is none."""
    row = source.execute(
        "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s", [slot]
    ).fetchone()
    return Lsn.parse(row[0]) if row else None


@pytest.fixture
def created(walvec: Walvec, slot: str) -> str:
    """A slot made by the command."""
    result = walvec("slots", "create")
    assert result.code == 0, result.stderr
    return slot


def test_create_makes_the_configured_slot(source: psycopg.Connection, walvec: Walvec, slot: str) -> None:
    """Without a name it is walvec's own, and its beginning is told."""
    result = walvec("slots", "create")
    assert result.stdout == f"created {slot}, which keeps every change from {position(source, slot)} on\n"


def test_create_names_what_it_waits_for(source: psycopg.Connection, walvec: Walvec, spare: str) -> None:
    """An open transaction is in the way: exit 3, with the statement that ends it."""
    with source.transaction():
        source.execute("CREATE TABLE t ()")
        result = walvec("slots", "create", spare, "--timeout", "1")
    assert result.code == 3
    assert f"pg_terminate_backend({source.info.backend_pid})" in result.stderr
    assert position(source, spare) is None


def test_list_shows_all(walvec: Walvec, created: str, plugin: str) -> None:
    """A line a slot, whole on a pipe."""
    (line,) = [line for line in walvec("slots", "list").stdout.splitlines() if created in line]
    assert line.split()[:2] == [created, plugin]
    assert line.rstrip().endswith("reserved")


def test_list_for_programs(walvec: Walvec, created: str, plugin: str) -> None:
    """Positions are written as PostgreSQL writes them."""
    (found,) = [
        each for each in json.loads(walvec("slots", "list", "--json").stdout) if each["name"] == created
    ]
    expected: dict[str, Any] = {"plugin": plugin, "active": False, "wal_status": "reserved"}
    assert {name: found[name] for name in expected} == expected
    assert Lsn.parse(found["confirmed_flush_lsn"])


def test_copy_begins_where_the_other_stands(
    source: psycopg.Connection, walvec: Walvec, created: str, spare: str
) -> None:
    """The copy is good for a second reader."""
    assert walvec("slots", "copy", created, spare).code == 0
    assert position(source, spare) == position(source, created)


def test_drop_wants_a_yes(source: psycopg.Connection, walvec: Walvec, created: str) -> None:
    """With nobody to ask it refuses, and says what would be lost."""
    result = walvec("slots", "drop", created)
    assert result.code == 2
    assert "has not confirmed are lost" in result.stderr
    assert "--yes" in result.stderr
    assert position(source, created) is not None


def test_drop_with_yes(source: psycopg.Connection, walvec: Walvec, created: str) -> None:
    """Then it is gone."""
    assert walvec("slots", "drop", created, "--yes").code == 0
    assert position(source, created) is None


def test_drop_of_none(walvec: Walvec, spare: str) -> None:
    """A slot that isn't there is a precondition that fails."""
    result = walvec("slots", "drop", spare, "--yes")
    assert (result.code, result.stderr.splitlines()[0]) == (3, f'walvec: Slot "{spare}" does not exist')


def test_advance_moves_forward(source: psycopg.Connection, walvec: Walvec, created: str) -> None:
    """The reader goes on at the place given."""
    source.execute("CREATE TABLE t ()")
    (end,) = source.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone() or ("",)
    result = walvec("slots", "advance", created, end, "--yes")
    assert result.code == 0, result.stderr
    assert "will never see what was committed" in result.stderr
    assert position(source, created) == Lsn.parse(end)


@pytest.mark.parametrize(("place", "says"), [("0/1", "is at"), ("here", "is not an LSN")])
def test_advance_refuses_what_is_no_place_ahead(walvec: Walvec, created: str, place: str, says: str) -> None:
    """There is no way back."""
    result = walvec("slots", "advance", created, place, "--yes")
    assert (result.code, says in result.stderr) == (2, True)


def test_a_slot_that_is_read_is_left_alone(
    source: psycopg.Connection, database: str, walvec: Walvec, created: str, plugin: str
) -> None:
    """Exit 5: another process holds it."""
    reader = psycopg.connect(database, autocommit=True, replication="database")
    with closing(reader):
        options = "" if plugin == "wal2json" else "(proto_version '1', publication_names 'none')"
        reader.pgconn.exec_(f'START_REPLICATION SLOT "{created}" LOGICAL 0/0 {options}'.encode())
        for command in (["drop", created, "--yes"], ["advance", created, "FFFFFFFF/0", "--yes"]):
            result = walvec("slots", *command)
            assert result.code == 5
            assert f"Process {reader.info.backend_pid} reads slot" in result.stderr
