"""A new slot in place of a lost one, and everything compared."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec.commands import resync
from walvec.errors import UsageInvalid
from walvec_slots import manage
from walvec_slots.errors import PreconditionFailed, SlotActive, SlotBlocked, SlotLost
from walvec_slots.lsn import Lsn

pytestmark = pytest.mark.every_version

FAILPOINTS = ["resync-slot", "resync-drop", "resync-begin", "resync-copy", "backfill-read"]


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """Three rows, followed and embedded."""
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO blog VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    sidecar.follow("blog", index="none")
    sidecar.setup()
    sidecar.once()
    return sidecar


def mend(sidecar: Sidecar, *, time_limit: float = 30.0, compare: bool = True, sure: bool = True) -> None:
    """`walvec resync`."""
    asyncio.run(resync.resync(sidecar.config, time_limit=time_limit, compare=compare, sure=sure))


def drop_slot(sidecar: Sidecar) -> None:
    """What an operator, or max_slot_wal_keep_size, does."""
    sidecar.source.execute("SELECT pg_drop_replication_slot(%s)", [sidecar.slot])


def make_slot(sidecar: Sidecar, plugin: str = "pgoutput") -> None:
    """A slot of walvec's name, of somebody else's making."""
    sidecar.source.execute("SELECT pg_create_logical_replication_slot(%s, %s)", [sidecar.slot, plugin])


def advance_slot(sidecar: Sidecar) -> None:
    """Move the slot past everything."""
    sidecar.source.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [sidecar.slot])


def change_everything(sidecar: Sidecar) -> None:
    """One row edited, one deleted, one new, one left alone."""
    sidecar.source.execute("UPDATE blog SET body = 'TWO' WHERE id = 2")
    sidecar.source.execute("DELETE FROM blog WHERE id = 3")
    sidecar.source.execute("INSERT INTO blog VALUES (4, 'four')")


def recreate_slot(sidecar: Sidecar) -> None:
    """Drop it, and make another of its name."""
    drop_slot(sidecar)
    make_slot(sidecar)


@pytest.mark.parametrize("harm", [drop_slot, advance_slot, recreate_slot])
def test_mends_what_was_missed(blog: Sidecar, harm: Callable[[Sidecar], None]) -> None:
    """`run` refuses with exit 4; `resync` embeds what differs, removes what is gone, and no text more."""
    change_everything(blog)
    harm(blog)
    assert isinstance(blog.refusal(blog.once), SlotLost)
    blog.service.forget()
    mend(blog)
    assert blog.actual() == blog.expected()
    assert sorted(blog.service.embedded) == ["TWO", "four"]


def test_follows_what_comes_after(blog: Sidecar) -> None:
    """The new slot is one to go on with."""
    drop_slot(blog)
    mend(blog)
    with blog.running():
        blog.source.execute("INSERT INTO blog VALUES (5, 'five')")
        blog.in_step()
    assert blog.actual() == blog.expected()


def test_forgets_places_in_the_wal_of_before(blog: Sidecar) -> None:
    """A source restored to an earlier state, or another server: its changes lie before what was applied."""
    blog.target.execute("UPDATE walvec.checkpoint SET lsn = 'FFFFFF/0', unseen_xids = '{7}'")
    blog.target.execute("UPDATE walvec.vectorizer SET lsn = 'FFFFFF/8'")
    assert isinstance(blog.refusal(blog.once), SlotLost)
    mend(blog)
    with blog.running():
        blog.source.execute("UPDATE blog SET body = 'edited'")
        blog.in_step()
    assert blog.actual() == blog.expected()


def test_another_server_is_told(blog: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
    """The old server's slot is nobody's any more, and keeps its WAL back."""
    blog.target.execute("UPDATE walvec.checkpoint SET system_identifier = 1")
    mend(blog)
    assert "the source is another server than before" in capsys.readouterr().out


def test_says_what_it_did(blog: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows read, chunks embedded, and what to do next."""
    change_everything(blog)
    drop_slot(blog)
    mend(blog)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "blog: 3 rows compared, 2 chunks embedded",
        "source and target are in step; start: walvec run",
    ]


def test_says_what_it_will_do(blog: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
    """Unconfirmed and with nobody to ask, it names what would be dropped and read, and does nothing."""
    with pytest.raises(UsageInvalid):
        mend(blog, sure=False)
    said = capsys.readouterr().err
    assert f"This drops slot {blog.slot}" in said
    assert "public.blog, about " in said
    blog.once()


def test_leaves_the_comparison_to_run(blog: Sidecar) -> None:
    """--no-compare makes the slot only."""
    change_everything(blog)
    drop_slot(blog)
    mend(blog, compare=False)
    assert blog.actual() != blog.expected()
    blog.once()
    assert blog.actual() == blog.expected()


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_killed_anywhere_it_can_be_repeated(blog: Sidecar, failpoint: str) -> None:
    """Whatever was done and not done before the kill, the next one mends."""
    change_everything(blog)
    advance_slot(blog)
    process = blog.start("resync", "--yes", env={"WALVEC_FAILPOINT": failpoint})
    assert process.wait() == -9
    mend(blog)
    assert blog.actual() == blog.expected()


@pytest.mark.parametrize("failpoint", FAILPOINTS[1:])
def test_killed_anywhere_nothing_is_passed_over(blog: Sidecar, failpoint: str) -> None:
    """`run` refuses what was left half done, or completes it; `resync` completes it too.

    The source was restored to an earlier state, so that the WAL passes the old checkpoint again.
    """
    blog.target.execute("UPDATE walvec.checkpoint SET lsn = lsn + 1000000")
    assert blog.start("resync", "--yes", env={"WALVEC_FAILPOINT": failpoint}).wait() == -9
    change_everything(blog)
    blog.source.execute("SELECT pg_logical_emit_message(false, '', repeat('x', 2000000))")
    if blog.start("run", "--once").wait():
        mend(blog)
    assert blog.actual() == blog.expected()


def test_killed_before_anything_is_given_up_nothing_has_changed(blog: Sidecar) -> None:
    """The slot made on trial goes with the session; the old one and its checkpoint are as they were."""
    before = kept(blog)
    change_everything(blog)
    process = blog.start("resync", "--yes", env={"WALVEC_FAILPOINT": "resync-slot"})
    assert process.wait() == -9
    until(lambda: kept(blog) == before, "the slot and the checkpoint of before, and no other slot")
    blog.once()
    assert blog.actual() == blog.expected()


@pytest.mark.parametrize("harm", ["a transaction in the way", "no slot free"])
def test_what_cannot_be_made_costs_nothing(
    blog: Sidecar, database: str, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """Where no new slot can be made, the old one and its checkpoint are still there, and good."""
    before = kept(blog)
    with psycopg.connect(database) as application:
        if harm == "no slot free":
            monkeypatch.setattr(manage, "create_slot", _no_slot_free)
        else:
            application.execute("INSERT INTO blog VALUES (7, 'seven')")
        assert isinstance(blog.refusal(lambda: mend(blog, time_limit=1)), PreconditionFailed)
        assert kept(blog) == before
    blog.once()
    assert blog.actual() == blog.expected()


async def _no_slot_free(*_: object, **__: object) -> Lsn:
    raise PreconditionFailed("all replication slots are in use")


def test_no_slot_on_trial_stays(blog: Sidecar) -> None:
    """After a resync there is the one slot, and it is no temporary one."""
    mend(blog)
    query = "SELECT slot_name, temporary FROM pg_replication_slots WHERE database = current_database()"
    assert blog.source.execute(query).fetchall() == [(blog.slot, False)]


def kept(blog: Sidecar) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """The database's slots, and the checkpoint."""
    slots = (
        "SELECT slot_name, confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()"
    )
    return (
        blog.source.execute(slots).fetchall(),
        blog.target.execute("SELECT slot, lsn, timeline FROM walvec.checkpoint").fetchall(),
    )


def test_refused_while_another_process_follows(blog: Sidecar) -> None:
    """Exit 5, and that one goes on undisturbed."""
    with blog.running():
        blog.in_step()
        assert isinstance(blog.refusal(lambda: mend(blog)), SlotActive)
        blog.source.execute("INSERT INTO blog VALUES (6, 'six')")
        blog.in_step()
    assert blog.actual() == blog.expected()


@pytest.mark.needs("test_decoding")
def test_refused_for_a_slot_of_another_plugin(blog: Sidecar) -> None:
    """It is not ours to drop."""
    drop_slot(blog)
    make_slot(blog, "test_decoding")
    error = blog.refusal(lambda: mend(blog))
    assert isinstance(error, PreconditionFailed)
    assert error.what == f'Slot "{blog.slot}" uses the plugin test_decoding'


def test_names_what_the_new_slot_waits_for(blog: Sidecar, database: str) -> None:
    """Exit 3 after the time limit; then it can be repeated."""
    drop_slot(blog)
    with psycopg.connect(database) as application:
        application.execute("INSERT INTO blog VALUES (7, 'seven')")
        error = blog.refusal(lambda: mend(blog, time_limit=1))
        assert isinstance(error, SlotBlocked)
        assert f"pg_terminate_backend({application.info.backend_pid})" in str(error.hint)
    mend(blog)
    assert blog.actual() == blog.expected()


def test_forgets_dead_letters_of_rows_that_are_gone(blog: Sidecar) -> None:
    """A row parked before, and deleted while nobody looked, is no dead letter any more."""
    blog.service.refuse = "bad"
    blog.source.execute("INSERT INTO blog VALUES (8, 'bad'), (9, 'bad too')")
    blog.once()
    drop_slot(blog)
    blog.source.execute("DELETE FROM blog WHERE id = 8")
    mend(blog)
    assert blog.target.execute("SELECT key, attempts FROM walvec.dead_letter").fetchall() == [(["9"], 2)]
