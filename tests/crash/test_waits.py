"""What keeps a statement of walvec waiting is said within seconds, by a session that does not hang itself."""

import asyncio
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import psycopg
import pytest

from tests.crash.observe import follow_blog, insert
from tests.fix_postgres import Cluster
from tests.fix_process import Process, until
from tests.fix_sidecar import Sidecar
from walvec.commands.status.reading import Reader
from walvec.commands.status.verdict import Verdict, judge

SOON = 5.0  # seconds within which it has to be said
LOAD = 3.0  # times as long on a machine that is busy with other tests


def verdict(sidecar: Sidecar) -> Verdict:
    """What `walvec status` says."""

    async def read() -> Verdict:
        async with Reader(sidecar.config) as reader:
            return judge(await reader.read())

    return asyncio.run(read())


def listen(sidecar: Sidecar) -> str:
    """Let it serve probes; return the address of the one for readiness."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sidecar.settings["http"] = {"listen": f"127.0.0.1:{port}"}
    return f"http://127.0.0.1:{port}/readyz"


def why_not_ready(url: str) -> str:
    """What the probe says; nothing while it is ready."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        return str(error.read().decode())
    except urllib.error.URLError:
        return "not there yet"


def says_so(sidecar: Sidecar, process: Process, url: str, *words: str) -> None:
    """Wait until log, probe and status say it, which must be soon."""
    began = time.monotonic()
    until(lambda: all(word in why_not_ready(url) for word in words), "the probe", timeout=SOON * LOAD)
    line = process.wait_for("statement.held_up", session="walvec writer", timeout=SOON * LOAD)
    assert all(word in line["what"] for word in words)

    def said() -> bool:
        found = verdict(sidecar)
        return found.state == "stalled" and all(word in found.text for word in words)

    until(said, "the status", timeout=SOON * LOAD)
    assert time.monotonic() - began < SOON * LOAD


@pytest.mark.parametrize("moment", ["at work", "at the start"])
def test_a_synchronous_standby_that_is_away(
    cluster: Cluster, on_cluster: Callable[[], Sidecar], moment: str
) -> None:
    """A commit that waits for a standby is named by the server's own word for it."""
    sidecar = on_cluster()
    sidecar.source.execute("SET synchronous_commit = local")
    follow_blog(sidecar)
    url = listen(sidecar)
    process = sidecar.start("run")
    sidecar.in_step()
    if moment == "at the start":
        assert process.stop() == 0
    cluster.set("synchronous_standby_names", "ghost")
    insert(sidecar, 1, 5)
    if moment == "at the start":
        process = sidecar.start("run")
    says_so(sidecar, process, url, "SyncRep", "synchronous_standby_names")
    cluster.set("synchronous_standby_names", "")
    sidecar.in_step()
    until(lambda: not why_not_ready(url), "it is ready")
    assert verdict(sidecar).level == "ok"
    assert process.stop() == 0
    assert sidecar.actual() == sidecar.expected()


def test_a_lock_with_who_holds_it(sidecar: Sidecar) -> None:
    """The session that locks a target table is named, though no try waits for long."""
    follow_blog(sidecar)
    url = listen(sidecar)
    process = sidecar.start("run")
    sidecar.in_step()
    dsn = sidecar.settings["source"]["dsn"]
    with psycopg.connect(dsn, application_name="a migration") as somebody:
        somebody.execute("LOCK TABLE blog_embedding IN SHARE MODE")
        insert(sidecar, 1, 5)
        says = f"session {somebody.info.backend_pid}", "a migration"
        until(lambda: all(word in why_not_ready(url) for word in says), "the probe", timeout=SOON * LOAD)
        line = process.wait_for("statement.held_up", timeout=SOON * LOAD)
        assert all(word in line["what"] for word in says)
        until(lambda: all(word in verdict(sidecar).text for word in says), "the status", timeout=30)
    sidecar.in_step()
    until(lambda: not why_not_ready(url), "it is ready")
    assert sidecar.actual() == sidecar.expected()
