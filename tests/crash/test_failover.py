"""Standbys and failovers, with real ones: what answers is the primary that is meant, or it is waited for.

Source and target are one database on one pair of servers, as a rule; the pair is made for each test.
"""

import asyncio
import json
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.crash.observe import follow_blog, insert
from tests.fix_postgres import Cluster, own_cluster
from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from tests.fix_standby import Standby, either, standby_of
from walvec.commands import resync
from walvec.commands.search import search
from walvec.database.continuity import require_one_server
from walvec.vectorizer.preconditions import examine
from walvec_slots.errors import ConnectionLost, SlotLost


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Give the primary of all tests of this module that leave it one."""
    with own_cluster() as own:
        yield own


@pytest.fixture
def followed(on_cluster: Callable[[], Sidecar]) -> Sidecar:
    """Give a walvec that was in step and has stopped."""
    sidecar = on_cluster()
    follow_blog(sidecar)
    insert(sidecar, 1, 5)
    sidecar.once()
    return sidecar


@pytest.fixture
def standby(cluster: Cluster, followed: Sidecar) -> Iterator[Standby]:
    """Give a standby of the primary that has all of the walvec's rows."""
    with standby_of(cluster) as own:
        own.caught_up(cluster)
        yield own


def lead_to(sidecar: Sidecar, dsn: str) -> None:
    """Let source and target be another server's from now on, for walvec."""
    sidecar.settings["source"]["dsn"] = dsn


def database_of(sidecar: Sidecar, cluster: Cluster) -> str:
    """Give the connection string of the sidecar's database on another server."""
    return cluster.dsn(sidecar.source.info.dbname)


def mend(sidecar: Sidecar, *, from_old_primary: bool = False) -> None:
    """`walvec resync --yes`."""
    command = resync.resync(
        sidecar.config, time_limit=30.0, compare=True, sure=True, from_old_primary=from_old_primary
    )
    asyncio.run(command)


def failures(sidecar: Sidecar) -> list[str]:
    """What `walvec check` says that fails."""
    findings = asyncio.run(examine(sidecar.config, offline=True))
    return [f"{each.detail} {each.remedy}" for each in findings if each.level == "failed"]


def warned(sidecar: Sidecar, words: str) -> None:
    """Wait until a warning of the running walvec holds these words."""
    until(lambda: any(words in f"{line}" for line in sidecar.log if line["log_level"] == "warning"), words)


@pytest.mark.parametrize("order", ["primary first", "standby first"])
def test_a_standby_beside_the_primary_is_passed_by(
    cluster: Cluster, standby: Standby, followed: Sidecar, order: str
) -> None:
    """Of several hosts the primary is taken; while it restarts, the standby is not taken for it."""
    pair = (cluster, standby) if order == "primary first" else (standby, cluster)
    lead_to(followed, either(followed.settings["source"]["dsn"], *pair))
    with followed.running():
        followed.in_step()
        cluster.stop("fast")
        warned(followed, "hot standby mode")
        cluster.start()
        followed.reconnect()
        insert(followed, 6, 5)
        followed.in_step()
    assert followed.actual() == followed.expected()


def test_a_name_that_leads_to_a_standby_is_waited_for(standby: Standby, followed: Sidecar) -> None:
    """A standby in place of the primary has lost nothing, so walvec waits for it."""
    primary = followed.settings["source"]["dsn"]
    lead_to(followed, database_of(followed, standby))
    assert isinstance(followed.refusal(followed.once), ConnectionLost)
    error = followed.refusal(lambda: mend(followed))
    assert isinstance(error, ConnectionLost)
    assert any("hot standby mode" in failure for failure in failures(followed))
    lead_to(followed, primary)
    insert(followed, 6, 5)
    followed.once()
    assert followed.actual() == followed.expected()


def test_a_standby_of_the_target_answers_searches(
    standby: Standby, followed: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    """A search needs no primary: the standby finds what the primary has committed."""
    lead_to(followed, database_of(followed, standby))
    asyncio.run(search(followed.config, "blog", "body 3", limit=5, as_json=True))
    assert {found["key"]["id"] for found in json.loads(capsys.readouterr().out)} == {1, 2, 3, 4, 5}


def test_sessions_on_two_servers_are_refused(cluster: Cluster, followed: Sidecar) -> None:
    """Nothing begins unless one side's sessions are all on one server and timeline."""
    with own_cluster() as other:

        async def ask() -> None:
            async with (
                await psycopg.AsyncConnection.connect(cluster.dsn()) as one,
                await psycopg.AsyncConnection.connect(cluster.dsn()) as another,
                await psycopg.AsyncConnection.connect(other.dsn()) as third,
            ):
                await require_one_server("source", (one, another))
                await require_one_server("source", (one, another, third))

        with pytest.raises(ConnectionLost, match="different servers"):
            asyncio.run(ask())


def test_failover(cluster: Cluster, standby: Standby, followed: Sidecar) -> None:
    """After a promotion `check` says what `run` says; resync follows the new primary, and no old one.

    The old primary that comes back has rows that were never on the new one.
    """
    old = followed.settings["source"]["dsn"]
    new = database_of(followed, standby)
    standby.promote()
    lead_to(followed, new)
    refusal = followed.refusal(followed.once)
    assert isinstance(refusal, SlotLost)
    assert "it was promoted or restored" in refusal.what
    assert [f"{refusal.what} {refusal.hint}"] == failures(followed)
    mend(followed)
    with psycopg.connect(new, autocommit=True) as application:
        application.execute("UPDATE blog SET body = 'newer'")
        followed.once()
        assert committed(application) == {"newer"}

        lead_to_source(followed, old, target=new)
        refusal = followed.refusal(followed.once)
        assert isinstance(refusal, SlotLost)
        assert "old primary" in refusal.what
        assert "--from-old-primary" in str(refusal.hint)
        assert [f"{refusal.what} {refusal.hint}"] == failures(followed)
        assert followed.refusal(lambda: mend(followed)).what == refusal.what
        assert committed(application) == {"newer"}

        mend(followed, from_old_primary=True)
        assert committed(application) == {f"row {n}" for n in range(1, 6)}


def lead_to_source(sidecar: Sidecar, dsn: str, *, target: str) -> None:
    """Let the source alone be another server's, for walvec."""
    sidecar.settings["source"]["dsn"] = dsn
    sidecar.settings["target"] = {"dsn": target}


def committed(connection: psycopg.Connection) -> set[str]:
    """The texts that a target holds."""
    return {chunk for (chunk,) in connection.execute("SELECT chunk FROM blog_embedding").fetchall()}
