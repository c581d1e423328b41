"""SIGTERM and SIGINT at any moment: what is in flight is finished and confirmed, and the exit code is 0."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.crash.observe import (
    checkpoint,
    checkpoint_hangs,
    committed_texts,
    confirmed_no_more_than_saved,
    follow_blog,
    insert,
    slot_lsn,
    waits_to_commit,
    wal_end,
)
from tests.fix_embedding_service import Silent, Status
from tests.fix_postgres import Cluster
from tests.fix_process import Process, until
from tests.fix_proxy import Proxy
from tests.fix_sidecar import Sidecar

WAITING = "slot.waiting"
STOPPING = "run.stopping"
STOP_LIMIT = 30.0  # seconds
AT_ONCE = 8.0  # seconds, on a machine with much else to do

STOPS = {"SIGTERM": Process.terminate, "SIGINT": Process.interrupt}


def stops(process: Process) -> float:
    """Wait for the end with exit code 0; return how many seconds it took."""
    began = time.monotonic()
    assert process.wait(STOP_LIMIT) == 0
    return time.monotonic() - began


@pytest.mark.parametrize("send", STOPS.values(), ids=STOPS)
def test_idle_process_stops_at_once(blog: Sidecar, send: Callable[[Process], None]) -> None:
    """With nothing in flight there is nothing to wait for, and all that was finished is confirmed."""
    process = blog.start("run")
    insert(blog, 1, 20)
    end = wal_end(blog)
    blog.in_step()

    send(process)

    assert stops(process) < AT_ONCE
    assert checkpoint(blog) >= end
    until(lambda: slot_lsn(blog) == checkpoint(blog), "the confirmation of all that was saved")
    assert blog.actual() == blog.expected()


def test_what_is_in_flight_is_finished(blog: Sidecar) -> None:
    """Requests that are under way when the signal comes are waited for, and their vectors are not lost."""
    process = blog.start("run")
    blog.in_step()
    blog.service.latency = 1.0
    insert(blog, 1, 8)
    end = wal_end(blog)
    until(lambda: blog.service.in_flight, "a request under way")

    process.terminate()

    stops(process)
    assert committed_texts(blog) == {f"row {n}" for n in range(1, 9)}
    assert checkpoint(blog) >= end
    until(lambda: slot_lsn(blog) == checkpoint(blog), "the confirmation of all that was saved")


def test_progress_that_is_being_saved_is_saved_and_confirmed(blog: Sidecar) -> None:
    """A stop waits for progress that is being saved, and the slot hears of it."""
    blog.timing = replace(blog.timing, save_limit=STOP_LIMIT)
    with blog.running() as run:
        blog.in_step()
        with checkpoint_hangs(blog):
            before = checkpoint(blog)
            blog.source.execute("CREATE TABLE of_somebody_else ()")
            until(lambda: waits_to_commit(blog), "progress that is being saved")
            run.begin_to_stop()
            # A process that does not wait is gone by then.
            with suppress(AssertionError):
                until(lambda: not run.alive, timeout=0.5)
        run.join()
    assert checkpoint(blog) > before
    until(lambda: slot_lsn(blog) == checkpoint(blog), "the confirmation of what was saved")


def test_stop_under_load_leaves_no_row_half_written(blog: Sidecar) -> None:
    """After a stop under load every row is whole, and the rest comes later."""
    blog.follow("blog", chunk={"size": 10, "overlap": 0}, index="none")
    blog.backfill()
    blog.once()
    blog.service.latency = 0.02
    blog.source.execute(
        "INSERT INTO blog SELECT id, repeat(id || ' words ', 20) FROM generate_series(1, 400) AS id"
    )
    process = blog.start("run")
    process.wait_for("batch.committed")

    process.terminate()

    assert stops(process) < STOP_LIMIT
    written = blog.actual()["blog"]
    assert 0 < len(written) < 400
    assert written.items() <= blog.expected()["blog"].items()
    assert confirmed_no_more_than_saved(blog)
    blog.service.latency = 0
    blog.once()
    assert blog.actual() == blog.expected()


@pytest.mark.torture
def test_hanging_service_does_not_hold_up_the_stop(blog: Sidecar) -> None:
    """What cannot be finished in time is left to the slot."""
    process = blog.start("run")
    blog.in_step()
    blog.service.always = Silent(120)
    insert(blog, 1, 8)
    until(lambda: blog.service.in_flight, "a request that hangs")

    process.terminate()

    stops(process)
    assert committed_texts(blog) == set()
    blog.service.always = None
    blog.once()
    assert blog.actual() == blog.expected()


def test_what_cannot_be_finished_in_time_comes_again(blog: Sidecar) -> None:
    """The stop gives up on a service that hangs, and the slot keeps what it held up."""
    blog.timing = replace(blog.timing, drain_limit=0.5)
    with blog.running():
        blog.in_step()
        blog.service.always = Silent(120)
        insert(blog, 1, 8)
        until(lambda: blog.service.in_flight, "a request that hangs")
    assert committed_texts(blog) == set()
    blog.service.always = None
    blog.once()
    assert blog.actual() == blog.expected()


def test_second_signal_ends_at_once(blog: Sidecar) -> None:
    """A second signal ends the process at once, and nothing is lost by it."""
    process = blog.start("run")
    blog.in_step()
    blog.service.always = Silent(120)
    insert(blog, 1, 8)
    until(lambda: blog.service.in_flight, "a request that hangs")
    process.terminate()
    process.wait_for(STOPPING)

    process.terminate()

    assert process.wait(AT_ONCE) == -signal.SIGTERM
    blog.service.always = None
    blog.once()
    assert blog.actual() == blog.expected()


def test_failing_service_is_not_waited_for(blog: Sidecar) -> None:
    """Work that waits for a failing service is left to the slot at once."""
    process = blog.start("run")
    blog.in_step()
    blog.service.always = Status(503)
    insert(blog, 1, 8)
    process.wait_for("embedder.waiting")

    process.terminate()

    assert stops(process) < AT_ONCE
    blog.service.always = None
    blog.once()
    assert blog.actual() == blog.expected()


@pytest.mark.parametrize("fault", [Status(503), Silent(120)], ids=["fails", "hangs"])
def test_stopping_process_lets_its_server_stop(
    on_cluster: Callable[..., Sidecar], cluster: Cluster, fault: Status | Silent
) -> None:
    """A server that is shut down while walvec drains does not wait for the embedding service."""
    sidecar = on_cluster()
    follow_blog(sidecar)
    process = sidecar.start("run")
    sidecar.in_step()
    sidecar.service.always = fault
    insert(sidecar, 1, 8)
    until(lambda: sidecar.service.in_flight or process.logged("embedder.waiting"), "a request under way")

    process.terminate()
    process.wait_for(STOPPING)
    began = time.monotonic()
    cluster.stop("fast")

    assert time.monotonic() - began < AT_ONCE
    assert process.wait(AT_ONCE) == 0
    assert not process.logged("stream.retrying")
    cluster.start()
    sidecar.reconnect()
    sidecar.service.always = None
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()


@pytest.mark.parametrize("send", STOPS.values(), ids=STOPS)
def test_work_that_is_not_done_is_no_success(blog: Sidecar, send: Callable[[Process], None]) -> None:
    """`run --once` that a signal ends before it is done ends with exit code 130."""
    blog.service.latency = 1.0
    insert(blog, 1, 100)
    process = blog.start("run", "--once")
    until(lambda: blog.service.in_flight, "a request under way")

    send(process)

    assert process.wait(STOP_LIMIT) == 130
    blog.service.latency = 0
    assert blog.start("run", "--once").wait() == 0
    assert blog.actual() == blog.expected()


def test_work_that_never_began_is_no_success(distant_sidecar: Sidecar, proxies: dict[str, Proxy]) -> None:
    """`run --once` that has only waited for its database ends with exit code 130 too."""
    follow_blog(distant_sidecar)
    proxies["source"].refuse()
    process = distant_sidecar.start("run", "--once")
    process.wait_for("stream.retrying")
    process.terminate()
    assert process.wait(AT_ONCE) == 130


def test_stop_before_anything_is_attached(distant_sidecar: Sidecar, proxies: dict[str, Proxy]) -> None:
    """A process that waits for its database stops at once."""
    follow_blog(distant_sidecar)
    proxies["source"].refuse()
    process = distant_sidecar.start("run")
    process.wait_for("stream.retrying")
    process.terminate()
    assert stops(process) < AT_ONCE


def test_stop_while_waiting_for_another_walvec(blog: Sidecar) -> None:
    """A process that waits for another process stops at once."""
    first, second = blog.start("run"), blog.start("run")
    waiting = until(lambda: next((p for p in (first, second) if p.logged(WAITING)), None), "one that waits")
    waiting.terminate()
    assert stops(waiting) < AT_ONCE


@pytest.mark.torture
@pytest.mark.parametrize("side", ["source", "target"])
def test_silent_database_does_not_hold_up_the_stop(
    distant_sidecar: Sidecar, proxies: dict[str, Proxy], side: str
) -> None:
    """A database that answers nothing is left behind in time."""
    follow_blog(distant_sidecar)
    process = distant_sidecar.start("run")
    distant_sidecar.in_step()
    proxies[side].silence()
    insert(distant_sidecar, 1, 8)
    process.terminate()
    stops(process)
