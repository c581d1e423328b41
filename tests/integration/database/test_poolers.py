"""A connection pooler is refused before anything is left on a shared session."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from tests.fix_pooler import Pooler
from tests.fix_sidecar import Sidecar
from walvec.cli.app import app
from walvec_slots.errors import PoolerInBetween
from walvec_slots.stream import ReplicationStream

COMMANDS = [
    "check --offline",
    "check --estimate",
    "setup",
    "run --once",
    "run",
    "status",
    "status --watch",
    "search blog words",
    "backfill blog",
    "resync --yes",
    "dead-letter list",
    "dead-letter retry --all",
    "slots list",
    "slots create other",
    "teardown --yes",
]


@pytest.fixture(scope="module")
def blog(shared_sidecar: Sidecar) -> Sidecar:
    """Return a table that is embedded through a direct connection."""
    shared_sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    shared_sidecar.source.execute("INSERT INTO blog VALUES (1, 'one')")
    shared_sidecar.follow()
    shared_sidecar.setup()
    shared_sidecar.once()
    return shared_sidecar


def ends_with(words: str, path: Path) -> str:
    """Run a command that must be refused because of a pooler; return its message."""
    result = CliRunner().invoke(app, ["--config", str(path), *words.split()])
    if words == "check --offline":
        assert result.exit_code == 3
        return result.output
    assert isinstance(result.exception, PoolerInBetween), result.output
    assert result.exception.exit_code == 3
    return str(result.exception)


@pytest.fixture(params=["source", "target"])
def side(request: pytest.FixtureRequest, blog: Sidecar) -> Iterator[str]:
    """Return the side whose connection string is altered for one test."""
    before = {name: dict(section) for name, section in blog.settings.items()}
    blog.settings.setdefault("target", {"dsn": before["source"]["dsn"]})
    yield request.param
    blog.settings.clear()
    blog.settings.update(before)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_refuses_a_pooler_and_leaves_nothing_behind(blog: Sidecar, words: str) -> None:
    """The application finds the session that it shares as it left it, and can write."""
    direct = blog.settings["source"]["dsn"]
    with Pooler(direct) as pooler:
        blog.settings["source"]["dsn"] = pooler.dsn
        try:
            said = ends_with(words, blog.path)
        finally:
            blog.settings["source"]["dsn"] = direct
        assert "pooler" in said
        assert pooler.left_behind() == []
        with psycopg.connect(pooler.dsn, autocommit=True) as application:
            application.execute("UPDATE blog SET body = body")


@pytest.mark.parametrize("kind", ["honest", "strict"])
def test_other_poolers(blog: Sidecar, side: str, kind: str) -> None:
    """The mark finds out a pooler that passes on the right process id.

    A strict pooler is known by its own message.
    """
    with Pooler(blog.settings[side]["dsn"], honest=kind == "honest", strict=kind == "strict") as pooler:
        blog.settings[side]["dsn"] = pooler.dsn
        with pytest.raises(PoolerInBetween):
            blog.once()
        assert pooler.left_behind() == []


async def test_the_stream_refuses_one_too(blog: Sidecar) -> None:
    """A walsender's session is checked as well: newer poolers pass on replication."""
    with Pooler(blog.settings["source"]["dsn"]) as pooler:
        with pytest.raises(PoolerInBetween):
            await ReplicationStream.connect(pooler.dsn, on_notice=lambda *_: None)
        assert pooler.left_behind() == []


def test_a_proxy_that_passes_everything_on_is_no_pooler(blog: Sidecar) -> None:
    """A session of its own is accepted, whatever options its connection string has."""
    dsn = blog.settings["source"]["dsn"]
    blog.settings["source"]["dsn"] = make_conninfo(dsn, options="-c work_mem=8MB -c search_path=public")
    try:
        result = CliRunner().invoke(app, ["--config", str(blog.path), "run", "--once"])
    finally:
        blog.settings["source"]["dsn"] = dsn
    assert result.exit_code == 0
