"""Real failovers of PostgreSQL 18, with slots that standbys keep copies of, and without them.

The target is a server of its own, so that it may hold what a promoted standby has never had.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.crash.observe import committed_texts, follow_blog, insert
from tests.fix_embedding_service import EmbeddingService
from tests.fix_failover import VERSION, Application, Pair, cluster_of, failover_pair, on
from tests.fix_postgres import Cluster, StopMode
from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec.commands import resync
from walvec.commands.replay import replay
from walvec.commands.slots import copy, create
from walvec.commands.status.reading import Reader
from walvec.commands.status.verdict import Verdict, judge
from walvec.vectorizer.preconditions import examine
from walvec_slots.errors import ConnectionLost, SlotLost

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def targets() -> Iterator[Cluster]:
    """Give the server of all targets."""
    with cluster_of(VERSION) as own:
        yield own


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Give a primary and a standby that follows it plainly."""
    with failover_pair() as own:
        yield own


@pytest.fixture
def followed(
    pair: Pair,
    targets: Cluster,
    tmp_path: Path,
    embedding_service: EmbeddingService,
    log: list[dict[str, Any]],
) -> Iterator[Sidecar]:
    """Give a walvec on the pair that is not set up yet; its [source] dsn names both servers."""
    target = targets.create_database()
    with closing(Sidecar(pair.dsn(), target, tmp_path, embedding_service, log)) as own:
        own.target.execute("CREATE EXTENSION vector")
        yield own


def warned(sidecar: Sidecar, words: str) -> None:
    """Wait until the running walvec logs a warning with these words."""
    until(lambda: any(words in f"{line}" for line in sidecar.log if line["log_level"] == "warning"), words)


def is_failover(sidecar: Sidecar, slot: str) -> bool:
    """Whether the primary's slot is one that standbys keep a copy of."""
    query = "SELECT failover FROM pg_replication_slots WHERE slot_name = %s"
    return sidecar.source.execute(query, [slot]).fetchone() == (True,)


def run_resync(sidecar: Sidecar) -> None:
    """`walvec resync --yes`."""
    asyncio.run(resync.resync(sidecar.config, time_limit=30.0, compare=True, sure=True))


def gaps_found(sidecar: Sidecar) -> dict[str, str]:
    """What `walvec check` says of failovers that is not in order, with what fixes it."""
    found = asyncio.run(examine(sidecar.config, offline=True))
    about = ("failover", "server ", "slot", "synchronized", "sync_", "primary_slot", "hot_standby")
    return {
        each.subject: each.remedy or ""
        for each in found
        if each.level == "warning" and each.subject.startswith(about)
    }


def verdict_on(sidecar: Sidecar) -> Verdict:
    """What `walvec status` says."""

    async def ask() -> Verdict:
        async with Reader(sidecar.config) as reader:
            return judge(await reader.read())

    return asyncio.run(ask())


@pytest.mark.parametrize("stop", ["immediate", "fast"])
def test_promotion_under_load_is_followed(pair: Pair, followed: Sidecar, stop: StopMode) -> None:
    """Walvec goes on by itself: nothing is lost, and no text that the target held is embedded again."""
    pair.prepare()
    follow_blog(followed)
    insert(followed, 1, 200)
    assert is_failover(followed, followed.slot)
    with followed.running(), Application(pair.dsn()).writing() as application:
        pair.wait_for_copy(followed.slot)
        application.has_written(200)
        pair.primary.stop(stop)
        warned(followed, "stream.retrying")
        held = committed_texts(followed)
        pair.standby.promote()
        application.has_written(200)
        warned(followed, "stream.promoted")
        followed.reconnect()
        followed.in_step()
        application.has_written(50)
    followed.reconnect()
    followed.once()
    assert followed.actual() == followed.expected()
    sent = Counter(followed.service.texts)
    assert {text for text in held if sent[text] > 1} == set()
    assert len(held) > 200


def test_standby_without_a_copy_of_the_slot_is_refused(pair: Pair, followed: Sidecar) -> None:
    """A promoted standby that copied no slots is refused by run and check alike; resync follows it."""
    follow_blog(followed)
    insert(followed, 1, 20)
    followed.once()
    pair.standby.caught_up(pair.primary)
    pair.fail_over()
    followed.reconnect()
    insert(followed, 21, 5)
    refusal = followed.refusal(followed.once)
    assert isinstance(refusal, SlotLost)
    assert refusal.hint == "run: walvec resync"
    found = asyncio.run(examine(followed.config, offline=True))
    assert refusal.what in [each.detail for each in found if each.level == "failed"]
    assert verdict_on(followed).state == "other_server"
    sent = len(followed.service.texts)
    run_resync(followed)
    assert followed.actual() == followed.expected()
    assert len(followed.service.texts) == sent + 5
    assert is_failover(followed, followed.slot)


def test_standby_that_lacks_what_is_embedded_is_refused(pair: Pair, followed: Sidecar) -> None:
    """Without synchronized_standby_slots the target may be ahead of a promoted standby, slot or not."""
    pair.prepare()
    follow_blog(followed)
    with followed.running():
        insert(followed, 1, 20)
        followed.in_step()
        pair.wait_for_copy(followed.slot)
        pair.primary.set("synchronized_standby_slots", "")
        pair.standby.stop("fast")
        insert(followed, 21, 20)
        followed.in_step()
    pair.primary.stop("immediate")
    pair.standby.start()
    pair.standby.promote()
    followed.reconnect()
    refusal = followed.refusal(followed.once)
    assert isinstance(refusal, SlotLost)
    assert "synchronized_standby_slots" in str(refusal.hint)
    run_resync(followed)
    assert followed.actual() == followed.expected()
    assert len(followed.actual_of("blog")) == 20


def test_rows_that_only_the_old_primary_had_leave_the_target(pair: Pair, followed: Sidecar) -> None:
    """A backfill may read what no standby has yet; after a promotion all rows are compared."""
    pair.prepare()
    follow_blog(followed)
    with followed.running():
        insert(followed, 1, 20)
        followed.in_step()
        pair.wait_for_copy(followed.slot)
        pair.standby.stop("fast")
        until(lambda: not pair.is_following(), "the standby is gone")
        insert(followed, 21, 5)
        followed.backfill()
        until(lambda: len(followed.actual_of("blog")) == 25, "the backfill reads what is not replicated")
        pair.primary.stop("immediate")
        pair.standby.start()
        pair.standby.promote()
        warned(followed, "stream.promoted")
        followed.reconnect()
        followed.in_step()
    assert followed.actual() == followed.expected()
    assert len(followed.actual_of("blog")) == 20


def test_stream_waits_for_a_standby_that_is_away(pair: Pair, followed: Sidecar) -> None:
    """Nothing is embedded that the standby lacks; status and check name it, and what lets walvec go on."""
    pair.prepare()
    follow_blog(followed)
    with followed.running():
        insert(followed, 1, 5)
        followed.in_step()
        pair.standby.stop("fast")
        until(lambda: not pair.is_following(), "the standby is gone")
        insert(followed, 6, 5)
        until(lambda: verdict_on(followed).state == "standby_away", "the standby is missed")
        assert "standby1" in verdict_on(followed).text
        remedy = gaps_found(followed)["synchronized_standby_slots"]
        assert len(followed.actual_of("blog")) == 5
        carry_out(pair, remedy.partition("or run: ")[2])
        followed.in_step()
    assert followed.actual() == followed.expected()


def carry_out(pair: Pair, remedy: str) -> None:
    """Run the statements of a remedy: on the primary, and from "there:" or "on the standby:" on, there."""
    where: Cluster = pair.primary
    for part in remedy.split("; "):
        place, _, statement = part.rpartition(": ")
        where = pair.standby if place else where
        on(where, statement)


def is_fixed(sidecar: Sidecar, subject: str, remedy: str) -> bool:
    """Whether check no longer gives this remedy."""
    return gaps_found(sidecar).get(subject) != remedy


def test_check_leads_to_a_pair_that_can_fail_over(pair: Pair, followed: Sidecar) -> None:
    """Each finding has the statements that fix it; carried out, nothing is left to find."""
    followed.settings["source"]["failover"] = False
    follow_blog(followed)
    del followed.settings["source"]["failover"]
    pair.name_database()
    with followed.running():
        insert(followed, 1, 5)
        followed.in_step()
        done = []
        for _ in range(12):
            found = gaps_found(followed)
            subject = next((each for each in found if not found[each].startswith(("stop", "wait"))), None)
            if subject is None:
                break
            done.append(subject.partition(" ")[0])
            carry_out(pair, found[subject])
            until(partial(is_fixed, followed, subject, found[subject]), f"{subject} is fixed")
    assert done == ["primary_slot_name", "synchronized_standby_slots", "sync_replication_slots"]
    assert f'failover of slot "{followed.slot}"' in gaps_found(followed)
    assert not is_failover(followed, followed.slot)
    followed.setup()
    assert is_failover(followed, followed.slot)
    with followed.running():
        pair.wait_for_copy(followed.slot)
    assert gaps_found(followed) == {}

    pair.standby.set("sync_replication_slots", "off")
    pair.standby.set("hot_standby_feedback", "off")
    of_standby = [subject.partition(" on ") for subject in gaps_found(followed) if " on " in subject]
    assert [setting for setting, _, _ in of_standby] == ["sync_replication_slots", "hot_standby_feedback"]
    for remedy in gaps_found(followed).values():
        carry_out(pair, remedy)
    assert gaps_found(followed).keys() <= {"sync_replication_slots"}


def test_every_command_makes_failover_slots_or_none(pair: Pair, followed: Sidecar) -> None:
    """setup, resync, replay and `walvec slots` follow the setting, and setup alters a slot that differs."""
    follow_blog(followed)
    asyncio.run(copy(followed.config, followed.slot, f"{followed.slot}_copy"))
    asyncio.run(create(followed.config, f"{followed.slot}_new", 30.0))
    asyncio.run(replay(followed.config, f"{followed.slot}_copy", begin=None, stop_at=None, sure=True))
    for slot in ("", "_copy", "_new"):
        assert is_failover(followed, followed.slot + slot)
    run_resync(followed)
    assert is_failover(followed, followed.slot)
    followed.settings["source"]["failover"] = False
    followed.setup()
    assert not is_failover(followed, followed.slot)
    asyncio.run(copy(followed.config, followed.slot, f"{followed.slot}_plain"))
    assert not is_failover(followed, f"{followed.slot}_plain")
    run_resync(followed)
    assert not is_failover(followed, followed.slot)


def test_dsn_of_a_standby_alone_says_why_it_will_not_do(pair: Pair, followed: Sidecar) -> None:
    """PostgreSQL 18 could decode there; walvec waits for a primary, and names the reason."""
    follow_blog(followed)
    pair.standby.caught_up(pair.primary)
    followed.settings["source"]["dsn"] = pair.standby.dsn(pair.database)
    for command in (followed.once, lambda: run_resync(followed), followed.setup):
        refusal = followed.refusal(command)
        assert isinstance(refusal, ConnectionLost)
        assert "a slot that is created there is lost with it" in str(refusal.hint)
    with pytest.raises(psycopg.Error, match="cannot enable failover"):
        on(pair.standby, "SELECT pg_create_logical_replication_slot('s', 'pgoutput', false, false, true)")
