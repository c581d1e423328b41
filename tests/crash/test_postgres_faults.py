"""What PostgreSQL and the network may do to a running walvec, which goes on by itself afterwards.

Each test ends in the same way: in step again, f(source) in the target, and still the same run.
"""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.crash.observe import (
    checkpoint,
    committed_texts,
    confirmed_no_more_than_saved,
    follow_blog,
    insert,
    slot_lsn,
    wal_end,
)
from tests.fix_embedding_service import Silent, Slow, Status
from tests.fix_postgres import Cluster, StopMode
from tests.fix_process import until
from tests.fix_proxy import Proxy
from tests.fix_sidecar import Sidecar
from walvec.database.connect import connect_source
from walvec.database.silence import Patience
from walvec_slots.errors import ConnectionLost
from walvec_slots.stream import ReplicationStream

SHUTDOWN_LIMIT = 20.0  # seconds that a fast shutdown may take beside walvec
ROLES = ("stream", "evaluate", "backfill", "catalog", "writer", "lookup")  # of walvec's sessions


@contextmanager
def surviving(sidecar: Sidecar) -> Iterator[None]:
    """Run walvec around a fault: it is in step before, and again, by itself, afterwards."""
    insert(sidecar, 1, 20)
    with sidecar.running():
        sidecar.in_step()
        yield
        insert(sidecar, 1001, 20, "after the fault")
        sidecar.in_step(timeout=60)
        assert confirmed_no_more_than_saved(sidecar)
        assert sidecar.actual() == sidecar.expected()


def waits_for(sidecar: Sidecar, words: str) -> dict[str, Any]:
    """Wait until the log says that walvec waits, and for what."""

    def line() -> dict[str, Any] | None:
        said = (each for each in sidecar.log if each["log_level"] == "warning")
        return next((each for each in said if words in f"{each}" and each.get("hint")), None)

    return until(line, f"a warning about: {words}")


# -- The server ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_server_restarts(cluster: Cluster, on_cluster: Callable[[], Sidecar], mode: StopMode) -> None:
    """After a restart, or a crash, of the server walvec attaches again."""
    sidecar = on_cluster()
    follow_blog(sidecar)
    with surviving(sidecar):
        insert(sidecar, 101, 20)
        cluster.stop(mode)
        waits_for(sidecar, "nothing is lost")
        cluster.start()
        sidecar.reconnect()


@pytest.mark.parametrize("role", ROLES)
def test_backend_is_terminated(sidecar: Sidecar, role: str) -> None:
    """A terminated backend of any session is survived by attaching again."""
    follow_blog(sidecar)
    with surviving(sidecar):
        terminate = """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = %s"""
        assert sidecar.source.execute(terminate, [f"walvec {role}"]).fetchall()
        insert(sidecar, 101, 20)
        # The others are in use all the while.
        if role == "backfill":
            sidecar.backfill()
        until(
            lambda: [each["event"] for each in sidecar.log].count("stream.attached") > 1, "another attachment"
        )


def test_fast_shutdown_is_not_held_up(cluster: Cluster, on_cluster: Callable[[], Sidecar]) -> None:
    """A server that shuts down waits for confirmations, and walvec lets it go at once."""
    sidecar = on_cluster()
    follow_blog(sidecar)
    with surviving(sidecar):
        sidecar.service.always = Silent(120)
        sidecar.service.forget()
        insert(sidecar, 101, 20)
        until(lambda: sidecar.service.in_flight, "a request that hangs")

        began = time.monotonic()
        cluster.stop("fast")

        assert time.monotonic() - began < SHUTDOWN_LIMIT
        waits_for(sidecar, "stream.retrying")
        sidecar.service.always = None
        cluster.start()
        sidecar.reconnect()


def test_slow_service_does_not_end_the_stream(
    cluster: Cluster, on_cluster: Callable[[], Sidecar], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a wal_sender_timeout of 2 s, a request of 5 s ends nothing: status is sent meanwhile."""
    impatient = functools.partial(ReplicationStream.connect, sender_timeout=2.0)
    monkeypatch.setattr(ReplicationStream, "connect", impatient)
    cluster.set("wal_sender_timeout", "2s")
    sidecar = on_cluster()
    follow_blog(sidecar)
    with surviving(sidecar):
        sidecar.service.script(Slow(5))
        insert(sidecar, 101, 20)
    assert [each["event"] for each in sidecar.log].count("stream.attached") == 1


# -- The network ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["reset", "refuse", "silence"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_one_database_fails(
    distant_sidecar: Sidecar, proxies: dict[str, Proxy], side: str, fault: str
) -> None:
    """Source and target fail separately: connections reset, a port closed, a cable cut without a FIN."""
    follow_blog(distant_sidecar)
    with surviving(distant_sidecar):
        getattr(proxies[side], fault)()
        insert(distant_sidecar, 101, 20)
        waits_for(distant_sidecar, "stream.retrying")
        proxies[side].heal()


async def test_statement_that_takes_long_is_not_hung_up(sidecar: Sidecar) -> None:
    """A server at work is not taken for a silent one, however long it takes."""
    sidecar.follow("blog")
    async with await connect_source(sidecar.config, role="test", patience=Patience(answer=0.2)) as connection:
        cursor = await connection.execute("SELECT pg_sleep(1), 'done'")
        assert (await cursor.fetchall())[0][1] == "done"


def test_walvec_gives_up_where_told_to(distant_sidecar: Sidecar, proxies: dict[str, Proxy]) -> None:
    """With --give-up-after the process ends with what failed."""
    follow_blog(distant_sidecar)
    proxies["target"].refuse()
    process = distant_sidecar.start("run", "--give-up-after", "1")
    assert process.wait() == ConnectionLost.exit_code
    assert "target database cannot be reached" in process.log[-1]["event"]


def test_slow_network_is_only_slow(distant_sidecar: Sidecar, proxies: dict[str, Proxy]) -> None:
    """A delay of 20 ms to both databases ends nothing."""
    for proxy in proxies.values():
        proxy.delay = 0.02
    follow_blog(distant_sidecar)
    with surviving(distant_sidecar):
        insert(distant_sidecar, 101, 20)
    assert [each["event"] for each in distant_sidecar.log].count("stream.attached") == 1


# -- The target ----------------------------------------------------------------------------------------------


def test_target_is_read_only(distant_sidecar: Sidecar) -> None:
    """A target that refuses writes, as after a failover, is waited for."""
    sidecar = distant_sidecar
    follow_blog(sidecar)
    name = sql.Identifier(sidecar.target.info.dbname)
    with surviving(sidecar):
        read_only = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on")
        sidecar.target.execute(read_only.format(name))
        end_sessions(sidecar.target)
        insert(sidecar, 101, 20)
        waits_for(sidecar, "read-only")
        sidecar.target.execute("SET default_transaction_read_only = off")
        sidecar.target.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
        end_sessions(sidecar.target)


def end_sessions(connection: psycopg.Connection) -> None:
    """End all other sessions on a connection's database."""
    connection.execute("""
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()""")


def test_lock_on_one_target_holds_up_no_other(sidecar: Sidecar) -> None:
    """A lock on one target table holds up its own rows, and no other vectorizer's."""
    sidecar.source.execute("CREATE TABLE page (id integer PRIMARY KEY, body text)")
    sidecar.follow("page", index="none")
    follow_blog(sidecar)
    with surviving(sidecar), psycopg.connect(sidecar.settings["source"]["dsn"]) as somebody:
        somebody.execute("LOCK TABLE blog_embedding IN ACCESS EXCLUSIVE MODE")
        insert(sidecar, 101, 20)
        end = wal_end(sidecar)
        sidecar.source.execute("INSERT INTO page VALUES (1, 'meanwhile')")
        arrived = "SELECT FROM page_embedding"
        until(lambda: sidecar.target.execute(arrived).fetchall(), "a page beside the locked blog")
        waits_for(sidecar, "lock")
        assert checkpoint(sidecar) < end


@pytest.mark.parametrize(
    ("sqlstate", "words"),
    [
        ("53100", "full"),  # disk_full
        ("53200", "memory"),  # out_of_memory
        ("40001", "in the way"),  # serialization_failure
        ("58030", "file system"),  # io_error
    ],
)
def test_target_fails_to_write(sidecar: Sidecar, sqlstate: str, words: str) -> None:
    """A full disk, and any other error that passes, is waited for and logged."""
    follow_blog(sidecar)
    with surviving(sidecar):
        sidecar.target.execute(
            sql.SQL("""
                CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE 'no' USING ERRCODE = {}; END $$;
                CREATE TRIGGER fail BEFORE INSERT ON blog_embedding EXECUTE FUNCTION fail()
                """).format(sql.Literal(sqlstate))
        )
        insert(sidecar, 101, 20)
        waits_for(sidecar, words)
        sidecar.target.execute("DROP FUNCTION fail CASCADE")


@pytest.mark.parametrize(
    "trigger",
    [
        "TRIGGER fail BEFORE INSERT ON blog_embedding",
        "CONSTRAINT TRIGGER fail AFTER INSERT ON blog_embedding INITIALLY DEFERRED FOR EACH ROW",
    ],
    ids=["its rows", "its commit"],
)
def test_checkpoint_is_saved_by_the_try_that_succeeds(sidecar: Sidecar, trigger: str) -> None:
    """A batch that is written again after a failure saves the checkpoint that is confirmed after it.

    Nothing else saves one: idle progress is put off, and the batch behind it waits for the service.
    """
    sidecar.settings["pipeline"] = {"batch_rows": 1}
    follow_blog(sidecar)
    sidecar.service.refuse, sidecar.service.poison = "held", Status(503)
    sidecar.timing = replace(sidecar.timing, idle_interval=3600.0)
    with sidecar.running() as run:
        until(sidecar.backfilled, "nothing is left to compare")
        sidecar.target.execute(
            f"""
            CREATE SEQUENCE tries;
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM nextval('public.tries'); RAISE 'no' USING ERRCODE = '40001'; END $$;
            CREATE {trigger} EXECUTE FUNCTION fail()""".encode()
        )
        insert(sidecar, 1, 1)
        end = wal_end(sidecar)
        insert(sidecar, 2, 1, "held")
        until(lambda: "held 2" in sidecar.service.texts, "the batch behind it")
        fails_again(sidecar)
        sidecar.target.execute("DROP FUNCTION fail CASCADE")
        until(lambda: committed_texts(sidecar) == {"row 1"}, "the row, written in the end")
        until(lambda: slot_lsn(sidecar) >= end, "its confirmation")
        assert confirmed_no_more_than_saved(sidecar)
        run.abandon()
    sidecar.service.refuse = None
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()


def fails_again(sidecar: Sidecar) -> None:
    """Wait until a write that began after this moment has failed."""

    def tries() -> int:
        ((count,),) = sidecar.target.execute("SELECT last_value FROM tries").fetchall()
        return int(count)

    before = tries()
    until(lambda: tries() > before + 1, "another try that fails")


def test_deadlock_with_another_session(sidecar: Sidecar) -> None:
    """When PostgreSQL ends walvec's transaction to break a deadlock, the batch is written again."""
    follow_blog(sidecar)
    with surviving(sidecar):
        with psycopg.connect(sidecar.settings["source"]["dsn"]) as somebody:
            somebody.execute("SET deadlock_timeout = '1h'")  # so that walvec is the victim
            somebody.execute("UPDATE blog_embedding SET embedded_at = now() WHERE id = 2")
            sidecar.source.execute("UPDATE blog SET body = body || '.'")
            until(lambda: waits_for_a_lock(sidecar), "walvec's write behind the lock")
            somebody.execute("UPDATE blog_embedding SET embedded_at = now() WHERE id = 1")
        waits_for(sidecar, "DeadlockDetected")


def test_somebody_deletes_a_vector_that_is_to_be_moved(sidecar: Sidecar) -> None:
    """A chunk whose vector was looked up, and is gone when it is written, is embedded like a new one.

    Nothing that another session does to the target between two statements of walvec's ends the process.
    """
    follow_blog(sidecar, chunk={"size": 10, "overlap": 0})
    sidecar.source.execute("INSERT INTO blog VALUES (0, 'first one second one')")
    with surviving(sidecar), psycopg.connect(sidecar.settings["source"]["dsn"]) as somebody:
        somebody.execute("LOCK TABLE blog_embedding IN SHARE MODE")
        sidecar.source.execute("UPDATE blog SET body = 'second one' WHERE id = 0")
        until(lambda: waits_for_a_lock(sidecar), "walvec's write behind the lock")
        deleted = somebody.execute("DELETE FROM blog_embedding WHERE id = 0 RETURNING chunk").fetchall()
        somebody.commit()
        waits_for(sidecar, "23502")
        sidecar.in_step()
    assert len(deleted) == 2


def waits_for_a_lock(sidecar: Sidecar) -> bool:
    """Whether the writer waits for somebody's lock."""
    query = (
        "SELECT FROM pg_stat_activity WHERE application_name = 'walvec write' AND wait_event_type = 'Lock'"
    )
    return bool(sidecar.source.execute(query).fetchall())
