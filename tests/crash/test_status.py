"""`walvec status` while something is wrong that no process can say."""

import asyncio
from collections.abc import Callable

import pytest

from tests.crash.observe import follow_blog, insert
from tests.fix_postgres import Cluster
from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec.commands.status.reading import Reader, Report
from walvec.commands.status.verdict import Verdict, judge


def verdict(sidecar: Sidecar) -> Verdict:
    """What `walvec status` says."""

    async def read() -> Report:
        async with Reader(sidecar.config) as reader:
            return await reader.read()

    return judge(asyncio.run(read()))


def test_a_commit_that_hangs_is_not_well(
    on_cluster: Callable[..., Sidecar], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that waits for a synchronous standby saves nothing, so its server is asked."""
    monkeypatch.setattr("walvec.commands.status.reading.HELD_UP_AFTER", 0.5)
    sidecar = on_cluster()
    follow_blog(sidecar)
    process = sidecar.start("run")
    sidecar.in_step()
    cluster.set("synchronous_standby_names", "ghost")
    insert_without_waiting(sidecar)

    found = until(
        lambda: next((each for each in [verdict(sidecar)] if each.state == "stalled"), None), "a stall"
    )

    assert "SyncRep" in found.text
    cluster.set("synchronous_standby_names", "")
    sidecar.in_step()
    assert process.stop() == 0
    assert sidecar.actual() == sidecar.expected()


def insert_without_waiting(sidecar: Sidecar) -> None:
    """Commit some rows that no standby has to have."""
    sidecar.source.execute("SET synchronous_commit = local")
    insert(sidecar, 1, 8)


def test_a_process_that_hangs_is_not_well(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped saves no WAL, which shows though it holds slot and lock."""
    monkeypatch.setattr("walvec.commands.status.verdict.PROCESS_SILENT_AFTER", 0.5)
    follow_blog(sidecar)
    process = sidecar.start("run")
    sidecar.in_step()
    process.pause()
    try:
        sidecar.source.execute("CREATE TABLE other AS SELECT repeat('x', 1000) FROM generate_series(1, 500)")
        until(lambda: verdict(sidecar).state == "no_progress", "no progress")
    finally:
        process.resume()
    until(lambda: verdict(sidecar).state == "fine", "all is well")
    assert process.stop() == 0
