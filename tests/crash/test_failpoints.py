"""SIGKILL at every named failpoint, and a restart: nothing is lost, and nothing is paid for twice."""

import itertools
from signal import SIGKILL
from typing import Any, LiteralString

import pytest
from psycopg import sql

from tests.crash.observe import (
    FOREIGN_WORK,
    checkpoint,
    checkpoint_hangs,
    committed_texts,
    confirmed_no_more_than_saved,
    follow_blog,
    hears_a_status,
    insert,
    slot_lsn,
    waits_to_commit,
    wal_end,
)
from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec import failpoint
from walvec_slots.plugin import PLUGINS
from walvec_slots.stream import ReplicationStream

STREAM = [name for name in failpoint.NAMES if name.startswith(("before-", "after-"))]
BACKFILL = [name for name in failpoint.NAMES if name.startswith("backfill-")]
SETUP = [name for name in failpoint.NAMES if name.startswith("setup-")]


def killed_at(sidecar: Sidecar, name: str, time: int, change: LiteralString) -> None:
    """Run, under one more change after the other, until the failpoint kills it."""
    process = sidecar.start("run", env={"WALVEC_FAILPOINT": f"{name}:{time}"})
    changes = itertools.count(1000)

    def is_dead() -> bool:
        sidecar.source.execute(change, {"n": next(changes)})
        return process.code is not None

    until(is_dead, f"{name} for the {time}. time")
    assert process.code == -SIGKILL


def change_everything(sidecar: Sidecar) -> None:
    """Commit every kind of change, in transactions large and small; each text is another."""
    insert(sidecar, 1, 20)
    with sidecar.source.transaction():
        insert(sidecar, 21, 20)
        sidecar.source.execute("UPDATE blog SET body = 'edited ' || id WHERE id < 20 AND id % 3 = 0")
    sidecar.source.execute("DELETE FROM blog WHERE id % 5 = 0")
    sidecar.source.execute("UPDATE blog SET id = id + 100, body = 'moved ' || id WHERE id < 5")
    for each in range(50, 60):
        insert(sidecar, each, 1)


def recovers(sidecar: Sidecar) -> None:
    """After a kill, nothing is confirmed that is not saved.

    The next run makes the target f(source), and pays for no vector twice.
    """
    assert confirmed_no_more_than_saved(sidecar)
    paid = committed_texts(sidecar)
    sidecar.service.forget()
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()
    assert paid.isdisjoint(sidecar.service.texts)


@pytest.mark.parametrize("time", [1, 4])
@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("name", STREAM)
def test_stream_is_resumed_where_it_was_killed(blog: Sidecar, name: str, time: int) -> None:
    """After a kill at any step the target becomes f(source), and no committed vector is asked for again."""
    blog.once()
    change_everything(blog)

    killed_at(blog, name, time, "INSERT INTO blog SELECT %(n)s, 'new ' || %(n)s")

    recovers(blog)


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("name", [*STREAM, *BACKFILL])
def test_backfill_is_resumed_where_it_was_killed(blog: Sidecar, name: str) -> None:
    """A kill at any step of a backfill under changes costs nothing that was committed.

    No row is edited twice: a backfill may have read the second edit ahead of the stream, which then brings
    the first one once more.
    """
    insert(blog, 1, 600)

    killed_at(blog, name, 3, "UPDATE blog SET body = 'edited ' || %(n)s WHERE id = 1 + %(n)s %% 600")

    recovers(blog)


@pytest.mark.parametrize("time", [1, 2])
@pytest.mark.parametrize("name", SETUP)
def test_setup_is_repeatable_wherever_it_was_killed(sidecar: Sidecar, name: str, time: int) -> None:
    """`walvec setup`, killed anywhere and repeated, leaves what one run would have."""
    for table in ("blog", "page"):
        query = sql.SQL("CREATE TABLE {} (id integer PRIMARY KEY, body text)")
        sidecar.source.execute(query.format(sql.Identifier(table)))
        sidecar.follow(table)
    insert(sidecar, 1, 3)

    process = sidecar.start("setup", env={"WALVEC_FAILPOINT": f"{name}:{time}"})
    assert process.wait() == (-SIGKILL if time == 1 or name == "setup-target" else 0)

    assert sidecar.start("setup").wait() == 0
    insert(sidecar, 4, 3)
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_transaction_already_applied_is_skipped(blog: Sidecar) -> None:
    """What was committed and not confirmed comes again, and is known by its commit's end."""
    blog.once()
    insert(blog, 1, 3)
    before = slot_lsn(blog)

    process = blog.start("run", env={"WALVEC_FAILPOINT": "after-commit"})
    assert process.wait() == -SIGKILL

    applied = checkpoint(blog)
    assert applied > before == slot_lsn(blog)
    blog.service.forget()
    process = blog.start("run")
    until(lambda: slot_lsn(blog) >= applied, "the confirmation that was lost")
    insert(blog, 4, 1)
    blog.in_step()
    assert process.stop() == 0
    assert [line["rows"] for line in process.log if line["event"] == "batch.committed" and line["rows"]] == [
        1
    ]
    assert blog.service.texts == ["row 4"]
    assert blog.actual() == blog.expected()


@pytest.mark.slow
def test_huge_transaction_is_worked_off_in_parts(sidecar: Sidecar) -> None:
    """A transaction of 50,000 rows is committed in parts, and the checkpoint moves at its end.

    A kill in the middle costs only what was in flight.
    """
    sidecar.settings["pipeline"] = {"batch_rows": 2000}
    sidecar.settings["embedder"] |= {"max_batch_inputs": 1000, "max_batch_tokens": 1_000_000}
    follow_blog(sidecar)
    sidecar.once()
    insert(sidecar, 1, 50_000)
    end = wal_end(sidecar)

    process = sidecar.start("run", env={"WALVEC_FAILPOINT": "after-commit:8"})
    assert process.wait() == -SIGKILL

    paid = committed_texts(sidecar)
    assert 1_000 < len(paid) < 20_000
    assert confirmed_no_more_than_saved(sidecar)
    assert checkpoint(sidecar) < end
    sidecar.service.forget()
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()
    assert paid.isdisjoint(sidecar.service.texts)
    assert len(sidecar.service.texts) == 50_000 - len(paid)


def test_heavy_segment_takes_its_place_with_its_last_slice(sidecar: Sidecar) -> None:
    """Rows too heavy for one batch come one by one, the checkpoint with the last one."""
    sidecar.settings["pipeline"] = {"max_buffer_bytes": 200_000}
    follow_blog(sidecar, chunk={"size": 10, "overlap": 0})
    sidecar.once()
    insert(sidecar, 1, 3, "word " * 200)
    end = wal_end(sidecar)

    process = sidecar.start("run", env={"WALVEC_FAILPOINT": "after-commit"})
    assert process.wait() == -SIGKILL
    assert len(sidecar.actual()) == 1
    assert checkpoint(sidecar) < end
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a status be sent three times a second, whatever there is to say.

    Two of them come before the target's lock_timeout ends a commit that hangs.
    """
    connect = ReplicationStream.connect

    async def connect_talkative(*arguments: Any, **options: Any) -> ReplicationStream:
        stream = await connect(*arguments, **options)
        stream.status_interval = 0.3
        return stream

    monkeypatch.setattr(ReplicationStream, "connect", connect_talkative)


@pytest.mark.parametrize(
    "change",
    ["INSERT INTO blog VALUES (1, 'row')", FOREIGN_WORK],
    ids=["a batch", "idle progress"],
)
def test_confirmation_never_passes_the_checkpoint(blog: Sidecar, talkative: None, change: str) -> None:
    """The slot is told of a checkpoint only once its commit has returned.

    While the commit hangs, all of its statements are done.
    """
    with blog.running():
        blog.in_step()
        with checkpoint_hangs(blog):
            before = checkpoint(blog)
            blog.source.execute(change.encode())
            until(lambda: waits_to_commit(blog), "a commit that hangs")
            hears_a_status(blog)
            assert slot_lsn(blog) <= checkpoint(blog) == before
        blog.in_step()
        until(lambda: slot_lsn(blog) > before, "the confirmation of what was committed")
    assert blog.actual() == blog.expected()


def test_confirmation_never_passes_the_checkpoint_under_load(blog: Sidecar) -> None:
    """Watched all the while under load, the slot is never told more than the target has committed."""
    blog.service.latency = 0.1
    process = blog.start("run")
    for each in range(150):
        insert(blog, each, 1)
        assert confirmed_no_more_than_saved(blog)
    blog.in_step()
    assert confirmed_no_more_than_saved(blog)
    assert process.stop() == 0
    assert blog.actual() == blog.expected()
