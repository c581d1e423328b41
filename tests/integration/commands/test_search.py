"""`walvec search`: k nearest chunks are k chunks, whatever the index would give by itself."""

import json
from collections.abc import Iterator
from typing import Any, LiteralString

import pytest

from tests.fix_sidecar import Sidecar, new_sidecar

ROWS = 600


@pytest.fixture(scope="module")
def blog(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A table with more rows than an index looks at by default, embedded and indexed."""
    with new_sidecar(server, template, tmp_path_factory.mktemp("search")) as sidecar:
        sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
        sidecar.source.execute(
            "INSERT INTO blog SELECT g, 'post ' || g FROM generate_series(1, %s) AS g", [ROWS]
        )
        sidecar.follow()
        sidecar.setup()
        sidecar.once()
        # No vacuum takes the dead out of the index while the tests are at work.
        sidecar.target.execute("ALTER TABLE blog_embedding SET (autovacuum_enabled = off)")
        yield sidecar


def found(sidecar: Sidecar, count: int) -> list[dict[str, Any]]:
    """What `walvec search --json` prints for one and the same question."""
    hits = json.loads(sidecar.start("search", "blog", "post 2", "-k", str(count), "--json").output())
    assert isinstance(hits, list)
    return hits


def nearest(sidecar: Sidecar, count: int) -> list[int]:
    """The ids of the nearest rows, by comparing all of them."""
    ((vector,),) = sidecar.target.execute(
        "SELECT embedding::text FROM blog_embedding WHERE id = 2"
    ).fetchall()
    rows = sidecar.target.execute(
        "SELECT id FROM blog_embedding ORDER BY embedding::real[]::vector <=> %s::vector, id LIMIT %s",
        [vector, count],
    )
    return [id_ for (id_,) in rows.fetchall()]


@pytest.mark.parametrize("count", [1, 41, 100, ROWS])
def test_search_gives_as_many_as_asked_for(blog: Sidecar, count: int) -> None:
    """An HNSW index looks at 40 candidates unless it is set to look at more."""
    assert len(found(blog, count)) == count


def test_search_gives_all_where_there_are_fewer(blog: Sidecar) -> None:
    """A number past the last row is no error."""
    assert len(found(blog, 1000)) == ROWS


def test_search_gives_the_nearest_in_order(blog: Sidecar) -> None:
    """What is found past the index's usual limit is as near as what comparing every row finds."""
    distances = [hit["distance"] for hit in found(blog, 100)]
    assert distances == sorted(distances)
    assert len({hit["key"]["id"] for hit in found(blog, 100)} & set(nearest(blog, 100))) >= 95


@pytest.mark.parametrize(
    "index",
    [
        "CREATE INDEX other ON blog_embedding USING ivfflat (embedding vector_cosine_ops) WITH (lists = 100)",
        "CREATE INDEX other ON blog_embedding USING hnsw (embedding vector_l2_ops)",
    ],
    ids=["ivfflat", "another metric"],
)
def test_search_gives_as_many_whatever_the_index(blog: Sidecar, index: LiteralString) -> None:
    """An ivfflat index looks into one of its lists; one for other operators serves nothing."""
    blog.target.execute("ALTER INDEX blog_embedding_embedding_idx RENAME TO kept")
    blog.target.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'kept'::regclass")
    blog.target.execute(index)
    try:
        assert len(found(blog, 100)) == 100
    finally:
        blog.target.execute("DROP INDEX other")
        blog.target.execute("UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'kept'::regclass")
        blog.target.execute("ALTER INDEX kept RENAME TO blog_embedding_embedding_idx")


def test_search_passes_over_the_dead(blog: Sidecar) -> None:
    """Rows that were deleted stay in the index until a vacuum, and count as candidates."""
    ((vector,),) = blog.target.execute("SELECT embedding::text FROM blog_embedding WHERE id = 2").fetchall()
    blog.target.execute(
        "DELETE FROM blog_embedding WHERE id IN (SELECT id FROM blog_embedding "
        "ORDER BY embedding <=> %s::vector LIMIT %s)",
        [vector, ROWS - 50],
    )
    assert len(found(blog, 50)) == 50
