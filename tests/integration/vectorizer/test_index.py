"""The vector index: walvec's own, and the user's."""

import pytest

from tests.fix_sidecar import Sidecar

NAME = "blog_embedding_embedding_idx"


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """Return a table with a row, set up to be followed."""
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO blog VALUES (1, 'one')")
    sidecar.follow("blog")
    sidecar.setup()
    return sidecar


def indexes(sidecar: Sidecar) -> dict[str, str]:
    """Return the names, methods and operator classes of the target's vector indexes."""
    query = """
        SELECT c.relname, am.amname || ' ' || o.opcname
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indexrelid
        JOIN pg_am AS am ON am.oid = c.relam
        JOIN pg_opclass AS o ON o.oid = i.indclass[0]
        WHERE i.indrelid = 'blog_embedding'::regclass AND NOT i.indisprimary AND i.indisvalid
    """
    return dict(sidecar.target.execute(query).fetchall())


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX ON blog_embedding USING hnsw (embedding vector_l2_ops)",
        "CREATE INDEX ON blog_embedding USING ivfflat (embedding vector_cosine_ops) WITH (lists = 1)",
        "CREATE INDEX ON blog_embedding USING hnsw (embedding vector_cosine_ops) WHERE id > 5",
        f"CREATE TABLE {NAME} (id int)",
        f"CREATE SEQUENCE {NAME}",
    ],
)
def test_what_bears_the_name_stays(blog: Sidecar, statement: str) -> None:
    """An object with the index's name stays, and the index gets another one."""
    blog.source.execute(statement.encode())
    kept = indexes(blog)
    blog.once()
    assert indexes(blog) == {**kept, f"{NAME}1": "hnsw vector_cosine_ops"}
    blog.once()
    assert len(indexes(blog)) == len(kept) + 1


def test_fitting_index_of_the_user_is_used(blog: Sidecar) -> None:
    """The user's own index is used if it serves the search, and is never dropped."""
    blog.source.execute("CREATE INDEX mine ON blog_embedding USING hnsw (embedding vector_cosine_ops)")
    blog.once()
    assert indexes(blog) == {"mine": "hnsw vector_cosine_ops"}
    blog.follow("blog", metric="l2")
    blog.once()
    assert indexes(blog) == {"mine": "hnsw vector_cosine_ops", NAME: "hnsw vector_l2_ops"}


def test_own_index_is_replaced_with_the_metric(blog: Sidecar) -> None:
    """Walvec's own index of another metric is dropped when the new one is built."""
    blog.once()
    assert indexes(blog) == {NAME: "hnsw vector_cosine_ops"}
    blog.follow("blog", metric="l2")
    blog.once()
    assert indexes(blog) == {NAME: "hnsw vector_l2_ops"}


def test_half_built_index_of_a_crash_is_built_again(blog: Sidecar) -> None:
    """An invalid index that walvec announced is dropped and built again."""
    blog.once()
    blog.target.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [NAME])
    blog.target.execute("UPDATE walvec.made SET oid = NULL WHERE kind = 'index'")
    blog.once()
    assert indexes(blog) == {NAME: "hnsw vector_cosine_ops"}


def test_invalid_index_of_the_user_stays(blog: Sidecar) -> None:
    """An invalid index that walvec did not build may still be under construction."""
    blog.source.execute("CREATE INDEX mine ON blog_embedding USING hnsw (embedding vector_cosine_ops)")
    blog.target.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass")
    blog.once()
    assert indexes(blog) == {NAME: "hnsw vector_cosine_ops"}
    assert blog.source.execute("SELECT to_regclass('mine') IS NOT NULL").fetchone() == (True,)


def test_another_model_drops_walvecs_index_alone(blog: Sidecar) -> None:
    """Emptying the target for another model keeps the user's index."""
    blog.source.execute("CREATE INDEX mine ON blog_embedding USING hnsw (embedding vector_l2_ops)")
    blog.once()
    blog.settings["embedder"] |= {"model": "other", "dimensions": 12}
    blog.backfill()
    assert indexes(blog) == {"mine": "hnsw vector_l2_ops"}
    blog.once()
    assert indexes(blog) == {"mine": "hnsw vector_l2_ops", NAME: "hnsw vector_cosine_ops"}
