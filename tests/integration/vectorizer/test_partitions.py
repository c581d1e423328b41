"""Rows of a partitioned table arrive under a leaf's name and belong to the root."""

from collections.abc import Iterator

import pytest

from tests.fix_sidecar import Sidecar, new_sidecar

TABLES = (
    "CREATE TABLE blog (id int, lang text, body text, PRIMARY KEY (id, lang)) PARTITION BY LIST (lang)",
    "CREATE TABLE blog_en PARTITION OF blog FOR VALUES IN ('en')",
    "CREATE TABLE blog_rest PARTITION OF blog DEFAULT PARTITION BY RANGE (id)",
    "CREATE TABLE blog_rest_low PARTITION OF blog_rest FOR VALUES FROM (MINVALUE) TO (1000)",
    "CREATE TABLE blog_rest_high PARTITION OF blog_rest FOR VALUES FROM (1000) TO (MAXVALUE)",
    # A leaf with a history of its own: other columns' order, and one that is gone.
    "CREATE TABLE blog_de (gone int, body text, lang text, id int, PRIMARY KEY (id, lang))",
    "ALTER TABLE blog_de DROP COLUMN gone",
    "ALTER TABLE blog ATTACH PARTITION blog_de FOR VALUES IN ('de')",
)
ROWS = """
    INSERT INTO blog SELECT i * 300, l, l || i
    FROM generate_series(1, 5) AS i, unnest('{en,de,fr}'::text[]) AS l
"""


def follow(sidecar: Sidecar, *, via_root: bool) -> Sidecar:
    """Set up walvec for a table in four leaves, on two levels."""
    publication = f"CREATE PUBLICATION walvec FOR TABLE blog WITH (publish_via_partition_root = {via_root})"
    for statement in (*TABLES, ROWS, publication):
        sidecar.source.execute(statement.encode())
    sidecar.follow(key=("id", "lang"))
    sidecar.setup()
    return sidecar


@pytest.fixture(scope="module", params=[False, True], ids=["by leaf", "via root"])
def followed(
    server: str, template: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Sidecar]:
    """Follow the table while the tests alter its rows, published either way."""
    with new_sidecar(server, template, tmp_path_factory.mktemp("sidecar")) as sidecar:
        follow(sidecar, via_root=request.param)
        with sidecar.running():
            yield sidecar


@pytest.fixture
def partitioned(followed: Sidecar) -> Sidecar:
    """Give the table the same embedded rows for every test."""
    followed.source.execute("DELETE FROM blog")
    followed.source.execute(ROWS.encode())
    followed.in_step()
    return followed


def test_backfill(partitioned: Sidecar) -> None:
    """The rows of every leaf are embedded."""
    assert partitioned.actual() == partitioned.expected()


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("INSERT INTO blog VALUES (7, 'en', 'x'), (7, 'de', 'y'), (7, 'it', 'z')", id="insert"),
        pytest.param("INSERT INTO blog_de (id, lang, body) VALUES (8, 'de', 'x')", id="insert into a leaf"),
        pytest.param("UPDATE blog SET body = body || '!'", id="update"),
        pytest.param("UPDATE blog SET lang = 'en', id = id + 1 WHERE lang = 'de'", id="move to another leaf"),
        pytest.param("UPDATE blog SET id = 2000 - id WHERE lang = 'fr'", id="move in the lower level"),
        pytest.param("DELETE FROM blog WHERE id = 300", id="delete"),
        pytest.param("TRUNCATE blog", id="truncate the root"),
        pytest.param("TRUNCATE blog_de", id="truncate a leaf"),
        pytest.param("TRUNCATE blog_rest", id="truncate a level"),
        pytest.param("TRUNCATE blog_de, blog_en", id="truncate two leaves"),
    ],
)
def test_follows(partitioned: Sidecar, statement: str) -> None:
    """A change of the root or of a leaf reaches the root's target."""
    partitioned.source.execute(statement.encode())
    partitioned.in_step()
    assert partitioned.actual() == partitioned.expected()


def test_truncate_of_a_leaf_then_new_rows(partitioned: Sidecar) -> None:
    """Rows inserted after a truncate stay, in the same transaction and in later ones."""
    with partitioned.source.transaction():
        partitioned.source.execute("TRUNCATE blog_de")
        partitioned.source.execute("INSERT INTO blog VALUES (300, 'de', 'again'), (301, 'de', 'new')")
    partitioned.source.execute("INSERT INTO blog VALUES (302, 'de', 'newer')")
    partitioned.in_step()
    assert partitioned.actual() == partitioned.expected()


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(
            [
                "CREATE TABLE blog_it (LIKE blog INCLUDING ALL)",
                "INSERT INTO blog_it VALUES (1, 'it', 'uno')",
                "ALTER TABLE blog ATTACH PARTITION blog_it FOR VALUES IN ('it')",
                "INSERT INTO blog VALUES (2, 'it', 'due')",
            ],
            id="attached",
        ),
        pytest.param(
            [
                "CREATE TABLE blog_it PARTITION OF blog FOR VALUES IN ('it')",
                "INSERT INTO blog VALUES (2, 'it', 'due')",
            ],
            id="made",
        ),
        pytest.param(["ALTER TABLE blog DETACH PARTITION blog_de"], id="detached"),
        pytest.param(["DROP TABLE blog_de"], id="dropped"),
    ],
)
def test_a_leaf_comes_or_goes(sidecar: Sidecar, statements: list[str]) -> None:
    """A leaf's rows enter or leave the target without an event in the stream."""
    follow(sidecar, via_root=False)
    with sidecar.running():
        sidecar.in_step()
        for statement in statements:
            sidecar.source.execute(statement.encode())
        sidecar.eventually()
    assert sidecar.actual() == sidecar.expected()
