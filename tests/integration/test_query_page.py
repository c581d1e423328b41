"""docs/query.md: every statement is run against a blog that walvec has embedded, and does what it says."""

import asyncio
import os
import random
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.documents import Block, blocks, section
from tests.fix_postgres import databases
from tests.fix_process import IMPATIENT, Process
from walvec.embed.hashing import HashingEmbedder

PAGE = "docs/query.md"
BLOCKS = [block for block in blocks() if block.page == PAGE]
DIMENSIONS = 1024
AUTHOR, RARE_AUTHOR = "ada", "grace"

SETTINGS = f"""
[source]
slot = "walvec_test_query"

[embedder]
provider = "hashing"
dimensions = {DIMENSIONS}

[[vectorizer]]
name = "blog"
table = "public.blog"
text = "contents"
target = "public.blog_embedding"
chunk = {{ size = 60, overlap = 0 }}
"""
TABLE = "CREATE TABLE public.blog (id bigint PRIMARY KEY, title text, contents text, author text)"
WORDS = (
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heath",
    "inlet",
    "jetty",
    "knoll",
    "ledge",
    "marsh",
    "north",
    "ocean",
    "pines",
)

CHOICE = random.Random(42)


def post() -> str:
    """Write five sentences that begin alike, so that the chunks of a post are near each other."""
    theme = CHOICE.choices(WORDS, k=4)
    return " ".join(" ".join(theme + CHOICE.choices(WORDS, k=3)) + "." for _ in range(5))


POSTS = {number: post() for number in range(1, 301)}
QUESTION = POSTS[42].partition(".")[0]  # so post 42 is the nearest

Rows = list[dict[str, Any]]


def author_of(number: int) -> str:
    """Return the author of a post: one of fifty is the rare author's."""
    return RARE_AUTHOR if number % 50 == 0 else AUTHOR if number % 2 == 0 else "alan"


@pytest.fixture(scope="module")
def embedded(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give a database with a blog that walvec has embedded; its posts have several chunks each."""
    folder = tmp_path_factory.mktemp("query")
    (folder / "walvec.toml").write_text(SETTINGS)
    with databases(server, template) as create:
        dsn = create()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(TABLE)
            connection.cursor().executemany(
                "INSERT INTO public.blog VALUES (%s, %s, %s, %s)",
                [(number, f"Post {number}", text, author_of(number)) for number, text in POSTS.items()],
            )
        for words in (["setup"], ["run", "--once"]):
            process = Process(words, folder, {**os.environ, "WALVEC_SOURCE__DSN": dsn}, IMPATIENT)
            try:
                assert process.wait() == 0, process.log
            finally:
                process.close()
        yield dsn


@pytest.fixture
def blog(embedded: str) -> Iterator[psycopg.Connection]:
    """Give a session of an application. What a test creates beside the blog is dropped."""
    with psycopg.connect(embedded, autocommit=True) as connection:
        yield connection
        connection.execute("DROP INDEX IF EXISTS blog_embedding_half")


def vector_of(text: str) -> list[float]:
    """Embed a question as the target's texts were."""
    (vector,) = asyncio.run(HashingEmbedder("hashing", DIMENSIONS).embed([text])).vectors
    return list(vector)


def values(author: str = AUTHOR, furthest: float = 0.9) -> dict[str, object]:
    """Return the parameters of the page's statements."""
    return {
        "question": str(vector_of(QUESTION)),
        "author": author,
        "furthest": furthest,
        "id": 42,
        "words": QUESTION,
    }


def run(connection: psycopg.Connection, block: Block, **parameters: Any) -> Rows:
    """Run a block's statements one by one; return the rows of the one that has any."""
    rows: Rows = []
    for statement in re.split(r";\s*(?:\n|$)", block.text):
        if statement.strip():
            bound = values(**parameters) if "%(" in statement else None
            with connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute(statement.encode(), bound)
                rows = cursor.fetchall() if cursor.description else rows
    return rows


def under(heading: str) -> list[Block]:
    """Return the SQL of a section."""
    text = section(PAGE, heading)
    return [block for block in BLOCKS if block.language == "sql" and block.text in text]


def distances(rows: Rows) -> list[float]:
    """Return how far the rows are."""
    return [row["distance"] for row in rows]


def best_of(connection: psycopg.Connection, *authors: str) -> dict[int, float]:
    """Compute the smallest distance of each of the authors' rows, without an index."""
    with connection.transaction():
        connection.execute("SET LOCAL enable_indexscan = off")
        found = connection.execute(
            """
            SELECT e.id, min(e.embedding <=> %(question)s::vector) FROM blog_embedding AS e
            JOIN blog AS b ON b.id = e.id WHERE b.author = ANY (%(authors)s) GROUP BY e.id
            """,
            {**values(), "authors": list(authors)},
        ).fetchall()
    return dict(found)


def test_every_statement_runs(blog: psycopg.Connection) -> None:
    """All SQL of the page, from its top to its end, is valid and finds something."""
    sql = [block for block in BLOCKS if block.language == "sql"]
    assert len(sql) >= 10
    for block in sql:
        rows = run(blog, block)
        assert rows or block.text.startswith("CREATE INDEX"), block


@pytest.mark.parametrize(
    "heading", ["Nearest chunks", "With the rows", "One result for each row", "How many", "Filters"]
)
def test_nearest_come_first(blog: psycopg.Connection, heading: str) -> None:
    """The rows are sorted by distance, and the row that the question names is the first."""
    for block in under(heading):
        rows = run(blog, block)
        assert distances(rows) == sorted(distances(rows))
        assert rows[0]["id"] == 42


def test_ef_search_limits_how_many_are_found(blog: psycopg.Connection) -> None:
    """With ef_search set, the index returns the 100 rows of the LIMIT; without it, 40."""
    blog.execute("SET enable_seqscan = off")
    (block,) = under("How many")
    assert len(run(blog, block)) == 100
    unset = Block(PAGE, 0, "sql", block.text.replace("SET LOCAL hnsw.ef_search = 100;\n", ""))
    assert len(run(blog, unset)) == 40


def test_a_row_comes_once(blog: psycopg.Connection) -> None:
    """Each row comes once, with the smallest distance of its chunks."""
    (block,) = under("One result for each row")
    rows = run(blog, block)
    expected = sorted(best_of(blog, AUTHOR, RARE_AUTHOR, "alan").values())[:10]
    assert distances(rows) == pytest.approx(expected)
    assert len({row["id"] for row in rows}) == 10


def test_filters_find_enough(blog: psycopg.Connection) -> None:
    """Both ways of filtering give ten chunks of a rare author, who has few of the nearest 40."""
    blog.execute("SET enable_seqscan = off; SET enable_sort = off; SET enable_hashjoin = off")
    iterative, exact, _ = under("Filters")
    for block in (iterative, exact):
        rows = run(blog, block, author=RARE_AUTHOR)
        assert len(rows) == 10
        assert {row["id"] % 50 for row in rows} == {0}
    assert min(distances(run(blog, exact, author=RARE_AUTHOR))) == pytest.approx(
        min(best_of(blog, RARE_AUTHOR).values())
    )


def test_a_limit_on_the_distance_keeps_rows_out(blog: psycopg.Connection) -> None:
    """Rows past it are left out, even where nothing else is found."""
    *_, limited = under("Filters")
    assert run(blog, limited, furthest=0.0001) == []
    assert max(distances(run(blog, limited, furthest=0.9))) < 0.9


def test_more_like_this_is_another_row(blog: psycopg.Connection) -> None:
    """The row itself is left out."""
    (block,) = under("More like this row")
    rows = run(blog, block)
    assert rows
    assert 42 not in {row["id"] for row in rows}


def test_words_count_beside_meaning(blog: psycopg.Connection) -> None:
    """What both rankings have first is first."""
    _, search = under("Words and meaning")
    assert run(blog, search)[0]["id"] == 42


def test_halfvec_gives_the_same_rows(blog: psycopg.Connection) -> None:
    """An index over the cast serves the search, which finds the same row first."""
    index, search = under("halfvec")
    run(blog, index)
    blog.execute("SET enable_seqscan = off")
    assert run(blog, search)[0]["id"] == 42
    assert "blog_embedding_half" in plan(blog, search.text)


@pytest.mark.parametrize("heading", ["Nearest chunks", "With the rows", "One result", "More like", "Is the"])
def test_the_index_serves(blog: psycopg.Connection, heading: str) -> None:
    """PostgreSQL can use walvec's index for the statement as it is written."""
    blog.execute("SET enable_seqscan = off; SET enable_sort = off")
    (block,) = under(heading)
    assert "blog_embedding_embedding_idx" in plan(blog, block.text.removeprefix("EXPLAIN\n"))


def plan(connection: psycopg.Connection, statement: str) -> str:
    """Return the plan of a statement."""
    explain = f"EXPLAIN {statement.strip().rstrip(';')}"
    return "\n".join(line for (line,) in connection.execute(explain.encode(), values()).fetchall())


def test_the_python_example_searches(blog: psycopg.Connection) -> None:
    """The function that the page shows finds each of an author's rows once, the nearest ones first."""
    (block,) = [block for block in BLOCKS if block.language == "python"]
    shown: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), shown)
    question = vector_of(QUESTION)
    rows = shown["nearest_rows"](blog, question, AUTHOR, 5)
    assert rows[0]["id"] == 42
    assert len({row["id"] for row in rows}) == 5
    expected = best_of(blog, AUTHOR)
    assert distances(rows) == pytest.approx([expected[row["id"]] for row in rows])
    assert {row["title"] for row in rows} == {f"Post {row['id']}" for row in rows}
