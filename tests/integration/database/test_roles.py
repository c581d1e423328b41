"""walvec works with the rights of sql/roles, and no others."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from secrets import token_hex

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fix_postgres import CHECKOUT
from tests.fix_sidecar import Sidecar
from tests.integration.commands.conftest import Walvec, walvec  # noqa: F401  a fixture
from walvec_slots.errors import PreconditionFailed

PSQL = next((CHECKOUT / ".local/postgres").glob("usr/lib/postgresql/*/bin/psql"), None) or shutil.which(
    "psql"
)


@pytest.fixture
def roles(server: str) -> Iterator[tuple[str, str]]:
    """Return a role for the source and one for the target.

    They are dropped once their databases are gone.
    """
    names = (f"walvec-source-{os.getpid()}", f"walvec-target-{os.getpid()}")
    yield names
    with psycopg.connect(server, autocommit=True) as admin:
        for name in names:
            admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


@pytest.fixture
def restricted(roles: tuple[str, str], distant_sidecar: Sidecar) -> Sidecar:
    """Return two databases, each entered under its own role, and a table with a row."""
    sidecar = distant_sidecar
    sidecar.source.execute('CREATE SCHEMA app; CREATE TABLE app."Blog" (id bigint PRIMARY KEY, body text)')
    sidecar.source.execute("""INSERT INTO app."Blog" VALUES (1, 'one')""")
    sidecar.target.execute("CREATE SCHEMA embeddings")
    sidecar.follow("blog", table='app."Blog"', target="embeddings.blog")
    source, target = (sidecar.settings[section] for section in ("source", "target"))
    grant("source", source["dsn"], roles[0], schemas="app", tables='app."Blog"', publication="walvec")
    grant("target", target["dsn"], roles[1], schema="embeddings")
    source["dsn"] = enter(source["dsn"], roles[0])
    target["dsn"] = enter(target["dsn"], roles[1])
    return sidecar


def grant(file: str, dsn: str, role: str, **variables: str) -> None:
    """Run a file of sql/roles as its head says."""
    if PSQL is None:
        pytest.skip("there is no psql")
    words = [f"--set={name}={value}" for name, value in {"role": role, **variables}.items()]
    path = CHECKOUT / f"sql/roles/{file}.sql"
    for _ in range(2):  # safe to repeat
        subprocess.run([PSQL, "-X", "-q", "-d", dsn, "-f", path, *words], check=True)


def enter(dsn: str, role: str) -> str:
    """Give a role a password, and return the connection string for it."""
    password = token_hex()
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(password))
        )
    return make_conninfo(dsn, user=role, password=password)


def test_the_rights_are_enough(restricted: Sidecar) -> None:
    """Setup, backfill, stream, index and search need no further right."""
    restricted.setup()
    restricted.once()
    with restricted.running():
        restricted.source.execute("""UPDATE app."Blog" SET body = 'two'""")
        restricted.in_step()
    assert restricted.actual() == restricted.expected()


def test_every_command_works(
    restricted: Sidecar,
    walvec: Walvec,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No command fails under these rights, and no warning of `check` is due to them."""
    monkeypatch.delenv("WALVEC_SOURCE__DSN")
    restricted.path.chmod(0o600)
    words = ["setup", "run --once", "status", "search blog one", "slots list", "dead-letter list"]
    words += ["check --estimate", "config show", "backfill blog", "resync --yes", "check --json"]
    outcomes = {line: walvec(*line.split()) for line in words}
    assert {line: outcome.code for line, outcome in outcomes.items()} == dict.fromkeys(words, 0), outcomes
    findings = json.loads(outcomes["check --json"].stdout)["findings"]
    assert {each["subject"] for each in findings if each["level"] != "ok"} <= {"max_slot_wal_keep_size"}


def test_the_source_is_read_and_nothing_else(restricted: Sidecar) -> None:
    """The role can write neither this table nor another, nor the target."""
    with psycopg.connect(restricted.settings["source"]["dsn"], autocommit=True) as connection:
        for statement in (
            """INSERT INTO app."Blog" VALUES (2, 'x')""",
            """DELETE FROM app."Blog" """,
            "CREATE TABLE app.t ()",
            "CREATE SCHEMA s",
            "ALTER PUBLICATION walvec SET (publish = 'insert')",
            "SELECT * FROM pg_authid",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_a_table_that_only_its_owner_can_publish(restricted: Sidecar, roles: tuple[str, str]) -> None:
    """Setup names the statement that the owner has to run."""
    restricted.source.execute("CREATE TABLE app.page (id bigint PRIMARY KEY, body text)")
    reader = sql.Identifier(roles[0])
    restricted.source.execute(sql.SQL("GRANT SELECT ON app.page TO {}").format(reader))
    restricted.follow("page", table="app.page", target="embeddings.page")
    error = restricted.refusal(restricted.setup)
    assert isinstance(error, PreconditionFailed)
    assert 'ALTER PUBLICATION "walvec" ADD TABLE "app"."page"' in str(error.hint)
