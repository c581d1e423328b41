"""What README.md and docs/ show works: page by page, its SQL and its `walvec` lines are run in their order.

On a server of the test's own, verbatim but for this: `walvec run` gets --once, what asks gets --yes, --watch
looks once, and the settings are the README's with the hashing embedder. What a line needs to have come before
it (setup, a parked row) is done first where the page leaves it out.
"""

import asyncio
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests import fix_servers
from tests.documents import Block, Command, blocks, commands
from tests.fix_postgres import CHECKOUT, Cluster, drop_database, own_cluster
from tests.integration.commands.conftest import Walvec, walvec  # noqa: F401  a fixture

PSQL = fix_servers.client("psql")

TABLE = """
CREATE EXTENSION vector;
CREATE TABLE public.blog (
    id bigint PRIMARY KEY, title text NOT NULL, contents text NOT NULL, published_time timestamptz
);
INSERT INTO public.blog
SELECT g, 'Post ' || g, 'How to raise number ' || g, now() FROM generate_series(1, 20) AS g;
"""
PARKED = """
INSERT INTO walvec.dead_letter (vectorizer, key, stage, error_class, error_message)
VALUES ('blog', '{17}', 'embed', 'InputRefused', 'the service refuses it') ON CONFLICT DO NOTHING
"""
VENDOR_ROLES = ("rds_replication", "cloudsqlsuperuser", "azure_pg_admin", "alloydbsuperuser")

ASKS = ("resync", "replay", "teardown", "dead-letter discard", "slots drop", "slots advance")
BEFORE_SETUP = (
    "init",
    "check",
    "setup",
    "config",
    "--version",
    "--help",
    "--install-completion",
    "--show-completion",
)

# Statements that this server cannot run, and why.
UNRUN = {
    "rds.": "Amazon's own setting",
    "azure.": "Azure's own setting",
    "cloudsql.": "Google's own setting",
    "alloydb.": "Google's own setting",
}

# Pages whose statements have parameters: their own test runs them.
ELSEWHERE = {"docs/query.md": "tests/integration/test_query_page.py"}


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A server whose roles, slots and settings are the pages' to change."""
    with own_cluster() as made:
        with psycopg.connect(made.dsn(), autocommit=True) as admin:
            for role in VENDOR_ROLES:
                admin.execute(f"CREATE ROLE {role}".encode())
        yield made


@pytest.fixture
def app(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The connection string of a database as the pages have it: `app`, with a blog in it."""
    with psycopg.connect(own.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE app")
        with psycopg.connect(own.dsn("app"), autocommit=True) as connection:
            connection.execute(TABLE)
        yield own.dsn("app")
        drop_database(admin, "app")
        admin.execute("DROP ROLE IF EXISTS walvec")
        admin.execute("ALTER SYSTEM RESET ALL")


class Reader:
    """Somebody who types a page from its top to its end."""

    def __init__(self, dsn: str, walvec: Walvec, folder: Path, settings: str) -> None:  # noqa: F811
        self._dsn, self._walvec, self._folder, self._settings = dsn, walvec, folder, settings
        self._ready = False

    def type(self, block: Block) -> None:
        """Run a block."""
        if block.language == "sql":
            self._sql(block)
        for command in commands(block) if block.language in ("sh", "bash", "console") else ():
            if command.program == "walvec":
                self._run(command)
            elif command.program == "psql" and "-f" in command.words and PSQL:
                self._psql(command)

    def _sql(self, block: Block) -> None:
        """Run its statements as psql would: one by one, each committed."""
        if "walvec." in block.text or "'walvec'" in block.text or "blog_embedding" in block.text:
            self._prepare("")
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            for statement in statements(block.text):
                if any(name in statement for name in UNRUN):
                    continue
                try:
                    connection.execute(statement.encode())
                except psycopg.Error as error:
                    pytest.fail(f"{block}: {statement}\n{error}", pytrace=False)
        if re.search(r"pg_drop_replication_slot\('walvec'\)|DROP SCHEMA walvec", block.text):
            self._ready = False

    def _psql(self, command: Command) -> None:
        """Run a file as a superuser."""
        given = conninfo_to_dict(self._dsn)
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
        env = {variable: str(given[name]) for name, variable in names.items() if given.get(name)}
        result = subprocess.run(
            [PSQL or "psql", "-X", "-q", *command.words[1:]],
            cwd=CHECKOUT,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stderr}"
        if "sql/roles/target.sql" in command.words:
            # The commands of the page run as this superuser, not as the role that was made for them.
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                connection.execute("ALTER SCHEMA walvec OWNER TO CURRENT_USER")

    def _run(self, command: Command) -> None:
        words = list(command.words[1:])
        line = " ".join(words)
        if line.startswith("demo"):
            return  # by test_demo.py
        self._prepare(line)
        if "--config" in words:
            words[words.index("--config") + 1] = "walvec.toml"
        if line.startswith("run") and "--once" not in words:
            words.append("--once")
        if line.startswith(ASKS) and "--yes" not in words:
            words.append("--yes")
        with pytest.MonkeyPatch.context() as patch:
            if "--watch" in words:
                patch.setattr(asyncio, "sleep", _interrupted)
            outcome = self._walvec(*words)
        assert outcome.code == 0, f"{command}: exit {outcome.code}\n{outcome.stderr}"
        if line.startswith(("setup", "run")):
            self._ready = line.startswith("run")
        elif line.startswith("teardown"):
            self._ready = False

    def _prepare(self, line: str) -> None:
        """See to what the line needs to have come before it."""
        file = self._folder / "walvec.toml"
        if line.startswith("init"):
            file.unlink(missing_ok=True)
            return
        if not file.exists():
            file.write_text(self._settings)
        if line.startswith((*BEFORE_SETUP, "run")) and line:
            if not line.startswith("run"):
                return
            assert self._walvec("setup").code == 0
            return
        if not self._ready:
            for words in (["setup"], ["run", "--once"]):
                outcome = self._walvec(*words)
                assert outcome.code == 0, outcome.stderr
            self._ready = True
        if line.startswith("dead-letter"):
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                connection.execute(PARKED)


async def _interrupted(seconds: float) -> None:
    """Be Ctrl-C while waiting."""
    raise KeyboardInterrupt


def statements(text: str) -> list[str]:
    """Split at the semicolons that end a statement; comments go."""
    code = re.sub(r"--.*", "", text)
    return [each.strip() for each in re.split(r";\s*(?:\n|$)", code) if each.strip()]


def settings() -> str:
    """The README's walvec.toml."""
    return next(block.text for block in blocks() if (block.page, block.language) == ("README.md", "toml"))


def runs(block: Block) -> bool:
    """Whether there is anything in a block to be run here."""
    if block.page in ELSEWHERE:
        return False
    return block.language == "sql" or (
        block.language in ("sh", "bash", "console")
        and any(command.program in ("walvec", "psql") for command in commands(block))
    )


@pytest.mark.parametrize("page", sorted({block.page for block in blocks() if runs(block)}))
def test_a_page_can_be_typed(
    page: str,
    app: str,
    walvec: Walvec,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From its top to its end, nothing fails."""
    monkeypatch.setenv("WALVEC_SOURCE__DSN", app)
    for name, value in {"PROVIDER": "hashing", "MODEL": "hashing", "DIMENSIONS": "384"}.items():
        monkeypatch.setenv(f"WALVEC_EMBEDDER__{name}", value)
    reader = Reader(app, walvec, tmp_path, settings())
    for block in blocks():
        if block.page == page and runs(block):
            reader.type(block)
