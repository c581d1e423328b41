"""Preconditions that hold, and that do not."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fix_postgres import Cluster
from walvec_slots import manage
from walvec_slots.probe import Finding, probe

pytestmark = [pytest.mark.every_version, pytest.mark.needs("wal2json")]


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    """Index findings; each subject has one."""
    assert len({finding.subject for finding in findings}) == len(findings)
    return {finding.subject: finding for finding in findings}


async def test_a_source_in_order(conn: psycopg.AsyncConnection, slot_name: str) -> None:
    """A source in order is ok, but for a limit on the WAL that slots keep.

    No trial slot is left behind.
    """
    await conn.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t")
    await manage.create_slot(conn, slot_name, "wal2json", time_limit=10)
    before = await manage.list_slots(conn)
    findings = await probe(
        conn, slot=slot_name, plugin="wal2json", publication="pub", tables=[("public", "t")]
    )
    levels = {finding.subject: finding.level for finding in findings if finding.level != "ok"}
    after = await manage.list_slots(conn)
    assert levels in ({}, {"max_slot_wal_keep_size": "warning"})
    assert {slot.name for slot in before} >= {slot.name for slot in after if "probe" in slot.name}


async def test_what_setup_makes_is_a_warning(conn: psycopg.AsyncConnection) -> None:
    """Slot and publication are warnings until `walvec setup` has made them."""
    found = by_subject(await probe(conn, slot="none", plugin="wal2json", publication="none", tables=[]))
    missing = [found['slot "none"'], found['publication "none"']]
    assert [(finding.level, finding.remedy) for finding in missing] == [("warning", "walvec setup")] * 2


async def test_tables_are_looked_at_one_by_one(conn: psycopg.AsyncConnection) -> None:
    """A table that is missing, without a key or not published has its own remedy."""
    await conn.execute("""
        CREATE TABLE good (id int PRIMARY KEY); CREATE TABLE keyless (id int);
        CREATE TABLE private (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE good""")
    tables = [("public", name) for name in ("good", "keyless", "private", "missing")]
    found = by_subject(await probe(conn, slot="none", plugin="wal2json", publication="pub", tables=tables))
    assert {subject: finding.remedy for subject, finding in found.items() if finding.level == "failed"} == {
        'table "public"."keyless"': 'ALTER TABLE "public"."keyless" ADD PRIMARY KEY (...)',
        'table "public"."missing"': "spell it exactly, as schema.table",
        '"public"."private" in publication "pub"': 'ALTER PUBLICATION "pub" ADD TABLE "public"."private"',
    }


async def test_an_open_transaction_does_not_hide_the_plugin(
    database: str, conn: psycopg.AsyncConnection
) -> None:
    """An open transaction does not keep the plugin from being tried."""
    with psycopg.connect(database) as writer:
        writer.execute("CREATE TABLE t (id int)")
        found = by_subject(await probe(conn, slot="none", plugin="wal2json", publication="none", tables=[]))
    assert found["output plugin wal2json"] == Finding("output plugin wal2json", "ok", "can be used")


@pytest.fixture
async def stranger(database: str, conn: psycopg.AsyncConnection) -> AsyncIterator[psycopg.AsyncConnection]:
    """Give a connection of a role that has no rights."""
    role = f"{conn.info.dbname} stranger"
    await conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(role)))
    conninfo = make_conninfo(database, user=role, password="secret")
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        yield connection
    await conn.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


async def test_a_role_without_rights(
    conn: psycopg.AsyncConnection, stranger: psycopg.AsyncConnection
) -> None:
    """A role without rights gets every right from the remedies, carried out."""
    await conn.execute("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    remedies: list[str] = []
    findings: list[Finding] = []
    for _ in range(3):
        findings = await probe(
            stranger, slot="none", plugin="wal2json", publication="none", tables=[("public", "t")]
        )
        fixes = [
            finding.remedy
            for finding in findings
            if finding.remedy and finding.subject in {"replication right", 'rows of "public"."t"'}
        ]
        for remedy in fixes:
            await conn.execute(remedy.encode())
        remedies += fixes
    role = f'"{stranger.info.user}"'
    assert remedies == [
        f"ALTER ROLE {role} REPLICATION",
        f'GRANT USAGE ON SCHEMA "public" TO {role}; GRANT SELECT ON "public"."t" TO {role}',
        f"ALTER ROLE {role} BYPASSRLS",
    ]
    assert by_subject(findings)["output plugin wal2json"].level == "ok"


@pytest.mark.slow
async def test_a_server_that_is_not_ready(cluster: Cluster) -> None:
    """Each setting that is in the way fails with the statement that fixes it."""
    async with await psycopg.AsyncConnection.connect(cluster.dsn(), autocommit=True) as conn:
        await conn.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
        for setting in (
            "wal_level = 'replica'",
            "max_replication_slots = 0",
            "max_wal_senders = 0",
            "output_plugin_libraries = 'wal2json, pgoutput'",
        ):
            await conn.execute(sql.SQL("ALTER SYSTEM SET {}").format(sql.SQL(setting)))
    cluster.restart()
    async with await psycopg.AsyncConnection.connect(cluster.dsn("latin"), autocommit=True) as conn:
        findings = await probe(conn, slot="s", plugin="wal2json", publication="p", tables=[])
    assert {finding.subject: finding.remedy for finding in findings if finding.level == "failed"} == {
        "wal_level": "ALTER SYSTEM SET wal_level = 'logical', then restart the server",
        "replication slots": "ALTER SYSTEM SET max_replication_slots = 5, then restart the server",
        "WAL senders": "ALTER SYSTEM SET max_wal_senders = 5, then restart the server",
        "server encoding": 'set [source] plugin = "pgoutput", which converts text, then run: walvec setup '
        "(or resync)",
        "output plugin wal2json": "ALTER SYSTEM SET output_plugin_libraries = 'wal2json', 'pgoutput'; "
        "SELECT pg_reload_conf()",
    }
