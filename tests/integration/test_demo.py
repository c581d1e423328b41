import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fix_postgres import CHECKOUT, drop_database

pytestmark = pytest.mark.slow

Demo = Callable[..., subprocess.CompletedProcess[str]]
NAME = f"walvec_demo_{os.getpid()}"  # of database, slot and publication

_LEFT = """
SELECT datname FROM pg_database WHERE datname = %(name)s
UNION ALL
SELECT slot_name FROM pg_replication_slots WHERE slot_name = %(name)s
"""


def show(dsn: str, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Show the demo on a server, as `make demo` does where stdout is no terminal."""
    words = ["--dsn", dsn, "--database", NAME, "--directory", str(directory), *options]
    return subprocess.run(
        [sys.executable, "-m", "compose.demo", *words],
        cwd=CHECKOUT,
        env={name: value for name, value in os.environ.items() if name != "MISTRAL_API_KEY"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def demo(server: str, tmp_path: Path) -> Iterator[Demo]:
    """Shows the demo on the tests' server; what a failure leaves running is ended."""
    yield lambda *options: show(server, tmp_path, *options)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((tmp_path / "walvec.pid").read_text()), signal.SIGKILL)
    with psycopg.connect(server, autocommit=True) as admin:
        if admin.execute(_LEFT, {"name": NAME}).fetchall():
            drop_database(admin, NAME)


def test_shows_every_part_and_leaves_nothing_behind(demo: Demo, server: str) -> None:
    """It tells of every kind of edit, answers questions, proves the target after a crash, and cleans up."""
    shown = demo()
    assert (shown.returncode, shown.stderr) == (0, "")
    texts = dict(re.findall(r"^   (\w+(?: \w+)?) {2,}.* ms +(\d+)$", shown.stdout, re.MULTILINE))
    assert texts.keys() == {"insert", "edit", "new title", "unpublish", "publish", "delete", "category"}
    assert {kind for kind, count in texts.items() if count == "0"} == {"unpublish", "delete", "category"}
    assert (texts["edit"], texts["new title"]) == ("1", "1")
    assert shown.stdout.count("$ walvec search blog") == 3
    assert "0 missing, 0 stale, 0 orphaned" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100
    with psycopg.connect(server) as admin:
        assert admin.execute(_LEFT, {"name": NAME}).fetchall() == []


def test_keeps_running_when_asked_until_the_next_one(demo: Demo, tmp_path: Path) -> None:
    """A walvec that was left running goes on; the next demo stops it first."""
    shown = demo("--keep")
    assert (shown.returncode, shown.stderr) == (0, "")
    kept = int((tmp_path / "walvec.pid").read_text())
    os.kill(kept, 0)
    assert demo().returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(kept, 0)
    assert not (tmp_path / "walvec.pid").exists()


def test_says_in_one_line_that_the_server_is_away(tmp_path: Path) -> None:
    """A failure is one line and an exit code, no stack trace."""
    shown = show(f"postgresql://postgres@/postgres?host={tmp_path}", tmp_path)
    assert (shown.returncode, len(shown.stderr.splitlines())) == (1, 1)
