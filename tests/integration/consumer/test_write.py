"""What a batch's transaction depends on: where that is no longer so, nothing of the batch is written."""

from array import array

import pytest
from psycopg import sql

from consumer.actions import Chunk
from consumer.config import Config
from consumer.database import connect_target
from consumer.errors import BackfillRestarted, CatalogChanged
from consumer.target import find_target, register_vectors
from consumer.write import Batch, Position, Progress, Writer
from slots.errors import WalvecError
from slots.lsn import Lsn
from tests.fix_walvec import Sidecar

FAR = Lsn(2**62)


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """An empty table that is followed."""
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    sidecar.follow("blog")
    sidecar.setup()
    return sidecar


async def write(config: Config, batch: Batch, position: Position) -> None:
    """Write one row's chunk, with what the batch and the position ask for besides."""
    (vectorizer,) = config.vectorizers
    vector = array("f", [0.5] * config.embedder.dimensions)
    batch.chunks = [(("1",), 0, Chunk("text", b"hash"), vector)]
    async with await connect_target(config, role="test") as target:
        await register_vectors(target)
        table = await find_target(target, vectorizer, config.embedder.dimensions)
        await table.create_staging(target)
        await Writer(target, config.source.slot, Lsn(1)).write("blog", table, batch, position)


def written(sidecar: Sidecar) -> int:
    """How many chunks the target holds."""
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*sidecar.followed["blog"].target))
    ((count,),) = sidecar.target.execute(query).fetchall()
    return int(count)


@pytest.mark.parametrize(
    ("batch", "position", "error"),
    [
        (Batch(), Position(Lsn(2), Lsn(2), []), CatalogChanged),
        (Batch(progress=Progress(7, "rows", ("1",), 1)), Position(Lsn(0), Lsn(0), []), BackfillRestarted),
    ],
    ids=["a checkpoint that somebody moved on", "a backfill that begins again"],
)
async def test_what_is_no_longer_so_takes_all_of_the_batch_back(
    blog: Sidecar, batch: Batch, position: Position, error: type[WalvecError]
) -> None:
    """The checkpoint is past what is to be saved; the progress is that of another generation."""
    blog.target.execute("UPDATE walvec.checkpoint SET lsn = %s", [str(FAR)])
    with pytest.raises(error):
        await write(blog.config, batch, position)
    assert written(blog) == 0


async def test_what_is_so_is_written(blog: Sidecar) -> None:
    """Chunks, progress and checkpoint together."""
    await write(blog.config, Batch(progress=Progress(1, "rows", ("1",), 1)), Position(FAR, FAR, []))
    assert written(blog) == 1
    assert blog.target.execute(
        "SELECT checkpoint.lsn::text, last_key FROM walvec.checkpoint, walvec.vectorizer"
    ).fetchall() == [(str(FAR), ["1"])]
