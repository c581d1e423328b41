"""What a batch's transaction depends on: where that has changed, nothing is written."""

from array import array
from dataclasses import replace
from typing import LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec.config.load import Config
from walvec.database.checkpoint import take_over
from walvec.database.connect import connect_target
from walvec.database.registry import begin_epoch
from walvec.errors import CatalogChanged, EpochEnded
from walvec.stages.batch import Batch, Position, Progress
from walvec.stages.write import Writer
from walvec.vectorizer.target import Chunk, find_target
from walvec_slots.errors import WalvecError
from walvec_slots.lsn import Lsn
from walvec_slots.queries import load_sql

FAR = Lsn(2**62)
HOLDER = UUID(int=1)


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """An empty table that is followed."""
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    sidecar.follow("blog")
    sidecar.setup()
    sidecar.target.execute("UPDATE walvec.checkpoint SET holder = %s", [HOLDER])
    return sidecar


async def write(config: Config, batch: Batch, position: Position) -> None:
    """Write one row's chunk, with what the batch and the position ask for besides."""
    (vectorizer,) = config.vectorizers
    vector = array("f", [0.5] * config.embedder.dimensions)
    written = replace(batch, chunks=[(("1",), 0, Chunk("text", b"hash"), vector)])
    async with await connect_target(config, role="test") as target:
        table = await find_target(target, vectorizer, config.embedder.dimensions)
        writer = Writer(target, config.source.slot, Lsn(1), HOLDER, {"blog": 0})

        async def take_turn() -> Position:
            return position

        await writer.write(target, "blog", table, written, take_turn)


def written(sidecar: Sidecar) -> int:
    """How many chunks the target holds."""
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*sidecar.followed["blog"].target))
    ((count,),) = sidecar.target.execute(query).fetchall()
    return int(count)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("UPDATE walvec.checkpoint SET lsn = 'FFFFFF/0'", CatalogChanged),
        ("UPDATE walvec.checkpoint SET holder = gen_random_uuid()", EpochEnded),
        ("UPDATE walvec.vectorizer SET generation = generation + 1", EpochEnded),
        ("UPDATE walvec.vectorizer SET slot = 'another'", EpochEnded),
        ("DELETE FROM walvec.vectorizer", EpochEnded),
    ],
)
async def test_what_is_no_longer_so_takes_all_of_the_batch_back(
    blog: Sidecar, change: LiteralString, error: type[WalvecError]
) -> None:
    """A batch is not written once its epoch has ended, or another process writes."""
    blog.target.execute(change)
    with pytest.raises(error):
        await write(blog.config, Batch(progress=Progress("rows", ("1",), 1)), Position(FAR, Lsn(2), []))
    assert written(blog) == 0


async def test_what_is_so_is_written(blog: Sidecar) -> None:
    """Chunks, progress and checkpoint are written together."""
    await write(blog.config, Batch(progress=Progress("rows", ("1",), 1)), Position(FAR, FAR, []))
    assert written(blog) == 1
    assert blog.target.execute(
        "SELECT checkpoint.lsn::text, last_key FROM walvec.checkpoint, walvec.vectorizer"
    ).fetchall() == [(str(FAR), ["1"])]


async def test_command_waits_for_what_is_being_written(blog: Sidecar) -> None:
    """An epoch begins only once a transaction of the one before has ended."""
    config = blog.config
    async with await connect_target(config, role="test") as target:
        values = {"name": "blog", "generation": 0, "slot": config.source.slot, "holder": HOLDER}
        async with target.transaction():
            cursor = await target.execute(load_sql("metadata.sql")["hold_epoch"], values)
            assert cursor.rowcount == 1
            async with await connect_target(config, role="command") as command:
                await command.execute("SET lock_timeout = '50ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    await begin_epoch(command, "blog", config.source.slot, {"table": "public.blog"})
        async with await connect_target(config, role="command") as command:
            await begin_epoch(command, "blog", config.source.slot, {"table": "public.blog"})
        cursor = await target.execute(load_sql("metadata.sql")["hold_epoch"], values)
        assert cursor.rowcount == 0


async def test_a_process_that_takes_over_waits_for_what_is_being_written(blog: Sidecar) -> None:
    """An attachment takes over once no batch of the one before is being written."""
    slot = blog.config.source.slot
    async with (
        await connect_target(blog.config, role="test") as target,
        await connect_target(blog.config, role="next") as successor,
    ):
        await successor.execute("SET lock_timeout = '50ms'")
        values = {"name": "blog", "generation": 0, "slot": slot, "holder": HOLDER}
        async with target.transaction():
            await target.execute(load_sql("metadata.sql")["hold_epoch"], values)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await take_over(successor, slot, UUID(int=2), 1)
        await take_over(successor, slot, UUID(int=2), 1)
        cursor = await target.execute(load_sql("metadata.sql")["hold_epoch"], values)
        assert cursor.rowcount == 0


@pytest.mark.parametrize("phase", ["rows", "sweep", "index", "done"])
async def test_an_epoch_begins_at_the_first_key(blog: Sidecar, phase: str) -> None:
    """Every row is compared, wherever the epoch before was in its backfill and the stream."""
    blog.target.execute(
        "UPDATE walvec.vectorizer SET phase = %s, last_key = '{5}', sweeps = false, lsn = '1/0'", [phase]
    )
    config = blog.config
    async with await connect_target(config, role="test") as target:
        await begin_epoch(target, "blog", config.source.slot, {"table": "public.blog"})
    found = blog.target.execute("SELECT phase, last_key, sweeps, lsn FROM walvec.vectorizer").fetchall()
    assert found == [("rows", None, True, None)]


@pytest.mark.parametrize(
    ("phase", "key"), [("rows", ["5"]), ("sweep", None), ("index", None), ("done", None)]
)
async def test_a_sweep_that_is_asked_for_begins_at_the_first_key(
    blog: Sidecar, phase: str, key: list[str] | None
) -> None:
    """A sweep begins at the first key, even if one is half done.

    Keys may have gone anywhere, so a crash right after this transaction must not let the next process
    continue in the middle. Rows that are being read go on.
    """
    blog.target.execute("UPDATE walvec.vectorizer SET phase = %s, last_key = '{5}'", [phase])
    await write(blog.config, Batch(sweep=True), Position(FAR, FAR, []))
    found = blog.target.execute("SELECT phase, last_key, sweeps FROM walvec.vectorizer").fetchall()
    assert found == [("rows" if phase == "rows" else "sweep", key, True)]


def test_vectors_dead_letters_and_checkpoint_are_one_transaction(blog: Sidecar) -> None:
    """A crash may not tear them: each of the three rows says which transaction wrote it."""
    blog.service.refuse = "POISON"
    blog.timing = replace(blog.timing, idle_interval=3600.0)
    with blog.running():
        until(blog.backfilled, "nothing is left to compare")
        blog.source.execute("INSERT INTO blog VALUES (1, 'good'), (2, 'POISON')")
        until(lambda: blog.target.execute("SELECT FROM walvec.dead_letter").fetchall(), "the dead letter")
        written_by = """
            SELECT (SELECT xmin FROM walvec.dead_letter), (SELECT xmin FROM walvec.checkpoint),
                (SELECT xmin FROM blog_embedding)"""
        ((letter, checkpoint, vector),) = blog.target.execute(written_by).fetchall()
        assert letter == checkpoint == vector


def test_commits_are_durable_whatever_the_database_says(blog: Sidecar) -> None:
    """The slot forgets what a checkpoint covers, so a server's crash may not forget the checkpoint.

    A trigger notes the setting under which each transaction moves it: batches and idle progress. It comes
    once walvec is attached, which refuses tables of its own that have one.
    """
    name = sql.Identifier(blog.target.info.dbname)
    blog.target.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
    trigger = """
        CREATE TABLE noted (setting text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO public.noted VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER UPDATE ON walvec.checkpoint EXECUTE FUNCTION note();
        CREATE TRIGGER note AFTER UPDATE ON walvec.vectorizer EXECUTE FUNCTION note()"""
    blog.source.execute("INSERT INTO blog VALUES (1, 'one')")
    with blog.running():
        blog.in_step()
        blog.target.execute(trigger)
        blog.source.execute("INSERT INTO blog VALUES (2, 'two')")
        blog.in_step()
    assert set(blog.target.execute("SELECT setting FROM noted").fetchall()) == {("on",)}
