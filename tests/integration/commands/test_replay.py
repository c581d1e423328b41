"""Back to a place that a copy of the slot has kept, and everything since applied again."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.crash.observe import checkpoint, slot_lsn, wal_end
from tests.fix_postgres import CHECKOUT
from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec.commands import replay, slots
from walvec.errors import UsageInvalid
from walvec_slots.errors import PreconditionFailed, SlotActive, SlotLost
from walvec_slots.lsn import Lsn

CATALOG_CHANGES = {
    "rewritten": "ALTER TABLE blog ALTER body TYPE text USING upper(body)",
    "another column": """
        ALTER TABLE blog ADD COLUMN note text;
        ALTER TABLE blog RENAME body TO old;
        ALTER TABLE blog ADD COLUMN body text;
        UPDATE blog SET body = old || '!'""",
    "another table": """
        CREATE TABLE next (id bigint PRIMARY KEY, body text);
        INSERT INTO next VALUES (2, 'other'), (9, 'nine');
        ALTER PUBLICATION {publication} ADD TABLE next;
        DROP TABLE blog;
        ALTER TABLE next RENAME TO blog""",
}
FAILPOINTS = ["replay-checkpoint", "replay-drop", "replay-copy", "after-commit", "before-confirm"]


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """Three rows, followed and embedded, and a copy of the slot from then."""
    begin(sidecar)
    return sidecar


def begin(sidecar: Sidecar) -> None:
    """Embed three rows and keep the place."""
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO blog VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    sidecar.follow("blog", index="none")
    sidecar.setup()
    sidecar.once()
    asyncio.run(slots.copy(sidecar.config, sidecar.slot, copy_of(sidecar)))


def copy_of(sidecar: Sidecar) -> str:
    """The copy's name."""
    return f"{sidecar.slot}_copy"


def go_back(
    sidecar: Sidecar,
    *,
    copy: str | None = None,
    begin: str | None = None,
    stop_at: str | None = None,
    sure: bool = True,
) -> None:
    """`walvec replay`."""
    work = replay.replay(sidecar.config, copy or copy_of(sidecar), begin=begin, stop_at=stop_at, sure=sure)
    asyncio.run(work)


def change_everything(sidecar: Sidecar) -> None:
    """Commit every kind of change, some keys more than once."""
    source = sidecar.source
    source.execute("UPDATE blog SET body = 'TWO' WHERE id = 2")
    source.execute("DELETE FROM blog WHERE id = 3")
    source.execute("INSERT INTO blog VALUES (4, 'four'), (5, 'five'), (6, 'six')")
    source.execute("UPDATE blog SET id = 7, body = 'seven' WHERE id = 4")
    source.execute("UPDATE blog SET body = 'SIX' WHERE id = 6")
    source.execute("DELETE FROM blog WHERE id = 5")


def drop_slot(sidecar: Sidecar) -> None:
    """What an operator does by mistake."""
    sidecar.source.execute("SELECT pg_drop_replication_slot(%s)", [sidecar.slot])


def put_copy_back(sidecar: Sidecar) -> None:
    """What an operator does who takes the slot for all there is."""
    drop_slot(sidecar)
    sidecar.source.execute(
        "SELECT pg_copy_logical_replication_slot(%s, %s)", [copy_of(sidecar), sidecar.slot]
    )


def lose(sidecar: Sidecar, *keys: int) -> None:
    """Delete rows from the target, as somebody may by mistake."""
    sidecar.target.execute("DELETE FROM blog_embedding WHERE id = ANY (%s)", [list(keys)])


def place(sidecar: Sidecar) -> Lsn:
    """Where the copy begins."""
    query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
    ((lsn,),) = sidecar.source.execute(query, [copy_of(sidecar)]).fetchall()
    return Lsn.parse(lsn)


class TestApplies:
    """What was committed since, again."""

    def test_only_what_is_missing_is_embedded(self, blog: Sidecar) -> None:
        """Rows that the target lost come back, and no other text is sent to the service."""
        blog.source.execute("INSERT INTO blog SELECT n, 'row ' || n FROM generate_series(10, 99) AS n")
        blog.once()
        lose(blog, 20, 30)
        blog.service.forget()
        go_back(blog)
        assert blog.actual() == blog.expected()
        assert sorted(blog.service.embedded) == ["row 20", "row 30"]

    def test_every_kind_of_change(self, blog: Sidecar) -> None:
        """What was changed, moved and deleted since ends as it is now, whatever images come on the way."""
        for _ in range(2):
            change_everything(blog)
            blog.once()
            blog.source.execute("INSERT INTO blog VALUES (3, 'three') ON CONFLICT DO NOTHING")
            blog.source.execute("DELETE FROM blog WHERE id > 5")
        blog.once()
        go_back(blog)
        assert blog.actual() == blog.expected()

    @pytest.mark.parametrize("plugin", ["wal2json", "pgoutput"])
    def test_goes_on_from_there(self, sidecar: Sidecar, plugin: str) -> None:
        """The slot is one to follow: changes that came while it was away, and those that come after."""
        sidecar.settings["source"]["plugin"] = plugin
        begin(sidecar)
        change_everything(sidecar)
        go_back(sidecar)
        assert sidecar.actual() == sidecar.expected()
        with sidecar.running():
            sidecar.source.execute("INSERT INTO blog VALUES (50, 'later')")
            sidecar.in_step()
        assert sidecar.actual() == sidecar.expected()

    def test_truncate_in_between(self, blog: Sidecar) -> None:
        """A truncate empties the target once more, and what came after it is there again at the end."""
        change_everything(blog)
        blog.source.execute("TRUNCATE blog")
        blog.source.execute("INSERT INTO blog VALUES (1, 'another'), (8, 'eight')")
        blog.once()
        go_back(blog)
        assert blog.actual() == blog.expected()

    def test_rows_of_a_backfill_in_between(self, blog: Sidecar) -> None:
        """A key that a backfill wrote and that was deleted later does not stay, nor an older image of one."""
        change_everything(blog)
        blog.backfill()
        blog.once()
        blog.source.execute("DELETE FROM blog WHERE id = 7")
        blog.source.execute("UPDATE blog SET body = 'SIX!' WHERE id = 6")
        blog.once()
        go_back(blog)
        assert blog.actual() == blog.expected()

    def test_a_backfill_that_is_not_done(self, blog: Sidecar) -> None:
        """It goes on where it was, beside older changes of the rows that it has read."""
        change_everything(blog)
        blog.once()
        blog.backfill()
        blog.source.execute("UPDATE blog SET body = 'edited' WHERE id = 1")
        blog.target.execute("UPDATE walvec.vectorizer SET last_key = '{6}', rows_done = 4")
        go_back(blog)
        assert blog.actual() == blog.expected()

    @pytest.mark.parametrize("change", CATALOG_CHANGES)
    @pytest.mark.parametrize("applied", [True, False], ids=["in its epoch", "epoch not begun"])
    def test_another_catalog_in_between(self, blog: Sidecar, change: str, applied: bool) -> None:  # noqa: FBT001
        """The epoch's horizon stays: what was written before is read by key, not taken by its image."""
        change_everything(blog)
        blog.once()
        publication = blog.config.source.publication
        blog.source.execute(CATALOG_CHANGES[change].format(publication=publication).encode())
        blog.source.execute("UPDATE blog SET body = 'and more' WHERE id = 2")
        if applied:
            blog.once()
        go_back(blog)
        assert blog.actual() == blog.expected()

    def test_large_values_that_updates_left_alone(self, blog: Sidecar) -> None:
        """A change without the value is read by key again, and the newest text stays."""
        blog.source.execute("ALTER TABLE blog ALTER body SET STORAGE EXTERNAL, ADD note text")
        blog.source.execute("INSERT INTO blog VALUES (40, repeat('long ', 2000))")
        blog.once()
        asyncio.run(slots.drop(blog.config, copy_of(blog), sure=True))
        asyncio.run(slots.copy(blog.config, blog.slot, copy_of(blog)))
        blog.source.execute("UPDATE blog SET note = 'n' WHERE id = 40")
        blog.source.execute("UPDATE blog SET body = repeat('longer ', 2000) WHERE id = 40")
        blog.source.execute("UPDATE blog SET note = 'm' WHERE id = 40")
        blog.once()
        go_back(blog)
        assert blog.actual() == blog.expected()

    def test_parked_rows(self, blog: Sidecar) -> None:
        """A row that was parked in between is parked again, and one that is well by now is not."""
        blog.service.refuse = "bad"
        blog.source.execute("INSERT INTO blog VALUES (8, 'bad'), (9, 'bad too')")
        blog.once()
        blog.source.execute("UPDATE blog SET body = 'good' WHERE id = 8")
        blog.once()
        go_back(blog)
        assert blog.target.execute("SELECT key FROM walvec.dead_letter").fetchall() == [(["9"],)]

    def test_a_lane_that_was_ahead(self, blog: Sidecar) -> None:
        """What one vectorizer had applied past the checkpoint is applied again too."""
        blog.source.execute("INSERT INTO blog VALUES (8, 'eight')")
        blog.once()
        blog.target.execute("UPDATE walvec.vectorizer SET lsn = %s", [str(wal_end(blog))])
        lose(blog, 8)
        go_back(blog)
        assert blog.actual() == blog.expected()

    def test_without_the_slot(self, blog: Sidecar) -> None:
        """A slot that was dropped is made from its copy, and nothing is missed."""
        change_everything(blog)
        drop_slot(blog)
        error = blog.refusal(blog.once)
        assert isinstance(error, SlotLost)
        assert f"walvec replay --slot {copy_of(blog)} --from {checkpoint(blog)}" in str(error.hint)
        go_back(blog, begin=str(checkpoint(blog)))
        assert blog.actual() == blog.expected()

    def test_again_and_again(self, blog: Sidecar) -> None:
        """The copy is kept, so that a replay can be repeated."""
        for n in range(3):
            change_everything(blog)
            kept = place(blog)
            go_back(blog)
            assert place(blog) == kept
            assert blog.actual() == blog.expected(), n
            blog.source.execute("DELETE FROM blog WHERE id > 3")


class TestFrom:
    """A later beginning."""

    def test_passes_over_what_comes_before(self, blog: Sidecar) -> None:
        """A row that was lost before it stays lost."""
        blog.source.execute("INSERT INTO blog VALUES (10, 'ten')")
        later = wal_end(blog)
        blog.source.execute("INSERT INTO blog VALUES (11, 'eleven')")
        blog.once()
        lose(blog, 10, 11)
        go_back(blog, begin=str(later))
        assert blog.expected()["blog"].keys() - blog.actual()["blog"].keys() == {("10",)}

    def test_refused_out_of_order(self, blog: Sidecar) -> None:
        """Neither before the copy's place, nor past the checkpoint: changes would be passed over."""
        change_everything(blog)
        blog.once()
        before = slot_lsn(blog), checkpoint(blog)
        for begin, stop_at in (
            (str(Lsn(place(blog) - 8)), None),
            (str(Lsn(checkpoint(blog) + 8)), None),
            (None, str(place(blog))),
            (None, str(Lsn(wal_end(blog) + (1 << 30)))),
            ("nonsense", None),
        ):
            error = blog.refusal(partial(go_back, blog, begin=begin, stop_at=stop_at))
            assert isinstance(error, UsageInvalid)
        assert (slot_lsn(blog), checkpoint(blog)) == before


class TestStopAt:
    """An earlier end."""

    @pytest.mark.parametrize("plugin", ["wal2json", "pgoutput"])
    def test_shows_the_source_as_it_was(self, sidecar: Sidecar, plugin: str) -> None:
        """A target that is older than the place becomes f(source at that place); `run` goes on from there."""
        sidecar.settings["source"]["plugin"] = plugin
        begin(sidecar)
        change_everything(sidecar)
        then, stop_at = sidecar.expected(), wal_end(sidecar)
        sidecar.source.execute("UPDATE blog SET body = 'later ' || id")
        sidecar.source.execute("DELETE FROM blog WHERE id = 1")

        go_back(sidecar, stop_at=str(stop_at))

        assert sidecar.actual() == then
        assert slot_lsn(sidecar) <= checkpoint(sidecar) == stop_at
        sidecar.once()
        assert sidecar.actual() == sidecar.expected()

    def test_a_target_that_was_past_it(self, blog: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
        """Rows that changed on the way are as they were there; others stay as they are, which is said."""
        blog.source.execute("UPDATE blog SET body = 'in between' WHERE id IN (1, 2)")
        stop_at = wal_end(blog)
        blog.source.execute("DELETE FROM blog WHERE id = 1")
        blog.source.execute("UPDATE blog SET body = 'later' WHERE id > 1")
        blog.once()

        go_back(blog, stop_at=str(stop_at))

        assert blog.actual_of("blog") == {("1",): ["in between"], ("2",): ["in between"], ("3",): ["later"]}
        assert f"Rows that change only after {stop_at} stay as they are now" in capsys.readouterr().err
        blog.once()
        assert blog.actual() == blog.expected()

    def test_a_commit_is_the_border(self, blog: Sidecar) -> None:
        """A transaction is applied that ends there, and none that began before and ends later."""
        with psycopg.connect(blog.settings["source"]["dsn"]) as application:
            application.execute("INSERT INTO blog VALUES (10, 'begun before')")
            blog.source.execute("INSERT INTO blog VALUES (11, 'ended before')")
            stop_at = wal_end(blog)
            application.commit()
        go_back(blog, stop_at=str(stop_at))
        assert blog.expected()["blog"].keys() - blog.actual()["blog"].keys() == {("10",)}

    def test_backfill_is_left_to_run(self, blog: Sidecar) -> None:
        """It would read rows as they are now."""
        stop_at = wal_end(blog)
        blog.source.execute("UPDATE blog SET body = 'later ' || id")
        blog.backfill()
        then = blog.actual()
        go_back(blog, stop_at=str(stop_at))
        assert blog.actual() == then
        blog.once()
        assert blog.actual() == blog.expected()


class TestSays:
    """What is done, before it is."""

    def test_what_comes_again(self, blog: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
        """The places, the WAL in bytes and the changes; without an answer nothing is done."""
        blog.source.execute("INSERT INTO blog SELECT n, 'row ' || n FROM generate_series(10, 99) AS n")
        blog.once()
        before = slot_lsn(blog), checkpoint(blog)
        with pytest.raises(UsageInvalid):
            go_back(blog, sure=False)
        said = capsys.readouterr().err
        assert f"changes from {place(blog)} to " in said
        assert "B of WAL" in said
        assert "about 90 row changes" in said
        assert f"{copy_of(blog)} is kept" in said
        assert (slot_lsn(blog), checkpoint(blog)) == before

    def test_run_says_what_it_passes_over(self, blog: Sidecar) -> None:
        """A slot that was put back by hand: what the checkpoint covers is not applied again."""
        change_everything(blog)
        blog.once()
        lose(blog, 2)
        put_copy_back(blog)
        applied = checkpoint(blog)
        blog.log.clear()
        blog.once()
        [line] = [line for line in blog.log if line["event"] == "stream.skipping_applied"]
        assert (line["slot_begins_at"], line["checkpoint"]) == (str(place(blog)), str(applied))
        assert line["passed_over_bytes"] == applied - place(blog)
        assert "walvec replay --slot" in line["hint"]


class TestRefused:
    """Nothing is dropped for a copy that will not do."""

    def refused(self, sidecar: Sidecar, copy: str | None = None) -> Exception:
        """Fail, and leave slot and checkpoint where they are."""
        before = slot_lsn(sidecar), checkpoint(sidecar)
        error = sidecar.refusal(lambda: go_back(sidecar, copy=copy))
        assert (slot_lsn(sidecar), checkpoint(sidecar)) == before
        return error

    def test_no_such_copy(self, blog: Sidecar) -> None:
        """A name that no slot bears."""
        assert isinstance(self.refused(blog, "nowhere"), PreconditionFailed)

    def test_the_slot_itself(self, blog: Sidecar) -> None:
        """It cannot go back."""
        assert isinstance(self.refused(blog, blog.slot), UsageInvalid)

    @pytest.mark.parametrize("create", ["logical", "physical"])
    def test_a_slot_of_another_kind(self, blog: Sidecar, create: str) -> None:
        """Whose plugin is none of walvec's, or that has none."""
        name = f"{blog.slot}_other"
        if create == "logical":
            blog.source.execute("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", [name])
        else:
            blog.source.execute("SELECT pg_create_physical_replication_slot(%s)", [name])
        try:
            assert isinstance(self.refused(blog, name), PreconditionFailed)
        finally:
            blog.source.execute("SELECT pg_drop_replication_slot(%s)", [name])

    def test_a_copy_past_the_checkpoint(self, blog: Sidecar) -> None:
        """What lies between would be missing."""
        change_everything(blog)
        blog.source.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [copy_of(blog)])
        error = self.refused(blog)
        assert isinstance(error, PreconditionFailed)
        assert "would be skipped" in str(error)

    def test_another_process_follows(self, blog: Sidecar) -> None:
        """Exit 5, and that one goes on undisturbed."""
        with blog.running():
            blog.in_step()
            assert isinstance(blog.refusal(lambda: go_back(blog)), SlotActive)
            blog.source.execute("INSERT INTO blog VALUES (6, 'six')")
            blog.in_step()
        assert blog.actual() == blog.expected()

    def test_another_history(self, blog: Sidecar) -> None:
        """LSNs of another server or timeline say nothing."""
        blog.target.execute("UPDATE walvec.checkpoint SET timeline = timeline + 1")
        assert isinstance(self.refused(blog), SlotLost)


class TestCrash:
    """A kill anywhere loses nothing."""

    @pytest.mark.parametrize("failpoint", FAILPOINTS)
    def test_it_can_be_repeated(self, blog: Sidecar, failpoint: str) -> None:
        """Whatever was done and not done before the kill, the next one does."""
        change_everything(blog)
        blog.once()
        lose(blog, 7)
        killed_at(blog, failpoint)
        change_everything_else(blog)
        go_back(blog)
        assert blog.actual() == blog.expected()

    @pytest.mark.parametrize("failpoint", FAILPOINTS)
    def test_nothing_is_passed_over(self, blog: Sidecar, failpoint: str) -> None:
        """`run` refuses what was left half done, naming the command, or completes it."""
        change_everything(blog)
        blog.once()
        lose(blog, 7)
        killed_at(blog, failpoint)
        change_everything_else(blog)
        process = blog.start("run", "--once")
        if process.wait():
            assert process.code == SlotLost.exit_code
            assert failpoint in {"replay-checkpoint", "replay-drop"}
            assert f"walvec replay --slot {copy_of(blog)}" in process.log[-1]["event"]
            go_back(blog)
        assert blog.actual() == blog.expected()

    def test_an_attachment_from_before_writes_nothing(self, blog: Sidecar) -> None:
        """What it still has to write would be newer than the checkpoint: it finds another holder."""
        assert blog.state_is("holder IS NOT NULL")
        killed_at(blog, "replay-checkpoint")
        assert blog.state_is("holder IS NULL AND lsn = %s::pg_lsn", str(place(blog)))


def killed_at(sidecar: Sidecar, failpoint: str) -> None:
    """Start a replay that is killed there, and wait until the server has noticed."""
    words = ("replay", "--slot", copy_of(sidecar), "--yes")
    assert sidecar.start(*words, env={"WALVEC_FAILPOINT": failpoint}).wait() == -9
    sessions = """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'walvec%'"""
    until(lambda: not sidecar.source.execute(sessions).fetchall(), "the end of its sessions")


def change_everything_else(sidecar: Sidecar) -> None:
    """What the application does meanwhile."""
    sidecar.source.execute("UPDATE blog SET body = 'two again' WHERE id = 2")
    sidecar.source.execute("INSERT INTO blog VALUES (60, 'sixty')")


class TestRestoredTarget:
    """A target that was restored from its own backup is older than the slot."""

    @pytest.mark.parametrize("follow", [True, False], ids=["as the hint says", "from the copy's place"])
    def test_is_caught_up(
        self,
        distant_sidecar: Sidecar,
        tmp_path: Path,
        create_database: Callable[[], str],
        follow: bool,  # noqa: FBT001
    ) -> None:
        """With a dump of the target from before: no resync, and only what came since is embedded."""
        sidecar = distant_sidecar
        begin(sidecar)
        sidecar.source.execute("INSERT INTO blog VALUES (10, 'ten')")
        sidecar.once()
        backup = tmp_path / "target.dump"
        dsn = sidecar.settings["target"]["dsn"]
        client("pg_dump", "--format=custom", f"--file={backup}", f"--dbname={dsn}")
        kept = checkpoint(sidecar)
        change_everything(sidecar)
        sidecar.once()

        restored = create_database()
        client("pg_restore", "--clean", "--if-exists", "--exit-on-error", f"--dbname={restored}", str(backup))
        sidecar.settings["target"]["dsn"] = restored
        sidecar.target.close()
        sidecar.target = psycopg.connect(restored, autocommit=True)
        assert checkpoint(sidecar) == kept
        error = sidecar.refusal(sidecar.once)
        assert isinstance(error, SlotLost)
        command = f"walvec replay --slot {copy_of(sidecar)} --from {kept}"
        assert command in str(error.hint)
        sidecar.service.forget()
        if follow:
            words = command.split()[1:]
            assert sidecar.start(*words, "--yes").wait() == 0
        else:
            go_back(sidecar)

        assert sidecar.actual() == sidecar.expected()
        assert not {"one", "two", "three", "ten"} & set(sidecar.service.embedded)
        sidecar.source.execute("INSERT INTO blog VALUES (70, 'seventy')")
        sidecar.once()
        assert sidecar.actual() == sidecar.expected()

    def test_without_a_copy_that_is_old_enough(self, blog: Sidecar) -> None:
        """Nothing but a resync is advised."""
        blog.target.execute("UPDATE walvec.checkpoint SET lsn = lsn - 100000")
        error = blog.refusal(blog.once)
        assert isinstance(error, SlotLost)
        assert error.hint == "run: walvec resync"

    def test_the_nearest_copy_is_named(self, blog: Sidecar) -> None:
        """Of several, the one with the least to read; none that is later, and none of another plugin."""
        change_everything(blog)
        blog.once()
        kept = checkpoint(blog)
        names = [f"{blog.slot}_{n}" for n in range(2)]
        asyncio.run(slots.copy(blog.config, blog.slot, names[0]))
        blog.source.execute("INSERT INTO blog VALUES (80, 'eighty')")
        blog.once()
        asyncio.run(slots.copy(blog.config, blog.slot, names[1]))
        blog.target.execute("UPDATE walvec.checkpoint SET lsn = %s", [str(kept)])
        error = blog.refusal(blog.once)
        assert f"walvec replay --slot {names[0]} --from {kept}" in str(error.hint)


class TestRoutine:
    """A copy a day, by a timer."""

    @pytest.fixture
    def day(self, blog: Sidecar, tmp_path: Path) -> Callable[[int], int]:
        """Give the routine of one day, which returns its exit code."""
        programs = tmp_path / "programs"
        programs.mkdir()
        main = "from walvec.cli.app import main; main()"
        (programs / "walvec").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{main}" "$@"\n')
        (programs / "date").write_text("#!/bin/sh\necho $((DAY * 86400 + 3600))\n")
        for program in programs.iterdir():
            program.chmod(0o755)
        env = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "WALVEC_CONFIG": str(blog.path),
        }

        def run(day: int) -> int:
            words = [str(CHECKOUT / "compose/systemd/walvec-copy.sh"), blog.slot, "2"]
            return subprocess.run(words, env=env | {"DAY": str(day)}, check=False, timeout=60).returncode

        return run

    def copies(self, sidecar: Sidecar) -> dict[str, Lsn]:
        """Where the copies stand that the routine has made."""
        query = """
            SELECT slot_name, confirmed_flush_lsn::text FROM pg_replication_slots
            WHERE starts_with(slot_name, %s) ORDER BY slot_name"""
        found = sidecar.source.execute(query, [f"{sidecar.slot}_copy_"]).fetchall()
        return {str(name): Lsn.parse(lsn) for name, lsn in found}

    def test_the_oldest_is_dropped(self, blog: Sidecar, day: Callable[[int], int]) -> None:
        """There are as many copies as days, and one can be gone back to."""
        stood = []
        for n in range(3):
            blog.source.execute("INSERT INTO blog VALUES (%s, 'row')", [100 + n])
            blog.once()
            stood.append(slot_lsn(blog))
            assert day(n) == 0
        first, second = f"{blog.slot}_copy_0", f"{blog.slot}_copy_1"
        assert self.copies(blog) == {first: stood[2], second: stood[1]}
        lose(blog, 102)
        go_back(blog, copy=second)
        assert blog.actual() == blog.expected()

    def test_nothing_is_dropped_where_the_slot_is_gone(
        self, blog: Sidecar, day: Callable[[int], int]
    ) -> None:
        """The copies are what is left then, and it fails, so that somebody looks."""
        assert (day(0), day(1)) == (0, 0)
        kept = self.copies(blog)
        drop_slot(blog)
        assert day(2) == PreconditionFailed.exit_code
        assert self.copies(blog) == kept


def client(program: str, *words: str) -> None:
    """Run one of PostgreSQL's own programs, of the server's version."""
    own, system = CHECKOUT / ".local/postgres/usr/lib/postgresql", Path("/usr/lib/postgresql")
    found = sorted(own.glob(f"*/bin/{program}")) or sorted(system.glob(f"*/bin/{program}"))
    if not found:
        pytest.skip(f"{program} is not here")
    subprocess.run([found[-1], *words], check=True, env=os.environ, timeout=60)
