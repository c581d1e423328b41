"""From a text to chunks and vectors: only what is new is embedded, and nothing is left over."""

from datetime import datetime

import pytest

from tests.fix_sidecar import Sidecar


def embedded_at(sidecar: Sidecar) -> dict[tuple[int, int], datetime]:
    """When each chunk got its vector."""
    rows = sidecar.target.execute("SELECT id, chunk_seq, embedded_at FROM blog_embedding").fetchall()
    return {(key, chunk_seq): at for key, chunk_seq, at in rows}


def sentences(*numbers: int) -> str:
    """A text that is cut into a chunk a number."""
    return " ".join(f"Sentence number {number:03} {'x' * 70}." for number in numbers)


@pytest.fixture
def chunked(sidecar: Sidecar) -> Sidecar:
    """A row of five chunks, embedded."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text, views int DEFAULT 0)")
    sidecar.source.execute("ALTER TABLE blog ALTER body SET STORAGE EXTERNAL")
    sidecar.source.execute("INSERT INTO blog VALUES (1, %s)", [sentences(1, 2, 3, 4, 5)])
    sidecar.follow(chunk={"size": 100, "overlap": 0})
    sidecar.setup()
    sidecar.once()
    sidecar.service.forget()
    assert len(sidecar.actual_of("blog")["1",]) == 5
    return sidecar


class TestOnlyNewIsSent:
    """What the target holds is not paid for twice."""

    def test_update_of_another_column_of_every_row(self, blog: Sidecar) -> None:
        """Such an update sends nothing and writes nothing: the vectors keep their time."""
        before = embedded_at(blog)
        blog.source.execute("UPDATE blog SET views = views + 1")
        blog.once()
        assert (blog.service.texts, embedded_at(blog)) == ([], before)

    def test_update_beside_a_toasted_text(self, chunked: Sidecar) -> None:
        """It sends nothing where the stream does not even carry the text."""
        chunked.source.execute("UPDATE blog SET body = %s", [sentences(*range(60))])
        chunked.once()
        chunked.service.forget()
        before = embedded_at(chunked)
        chunked.source.execute("UPDATE blog SET views = views + 1")
        chunked.once()
        assert (chunked.service.texts, embedded_at(chunked)) == ([], before)

    @pytest.mark.parametrize(
        ("after", "sent"),
        [
            pytest.param([1, 2, 3, 4, 5], [], id="the same"),
            pytest.param([1, 2, 9, 4, 5], [9], id="one changed"),
            pytest.param([1, 2, 3], [], id="shorter"),
            pytest.param([1, 2, 3, 4, 5, 6, 7], [6, 7], id="longer"),
            pytest.param([2, 3, 4, 5], [], id="first one gone: all others move"),
            pytest.param([0, 1, 2, 3, 4, 5], [0], id="one before: all others move"),
            pytest.param([5, 4, 3, 2, 1], [], id="reversed"),
            pytest.param([1, 1, 2, 2, 1], [], id="repeated"),
            pytest.param([7, 8], [7, 8], id="another text, and shorter"),
            pytest.param([7, 7, 7], [7], id="three times the same, sent once"),
        ],
    )
    def test_update_of_the_text(self, chunked: Sidecar, after: list[int], sent: list[int]) -> None:
        """Only chunks that the row had nowhere are sent; the others keep their vectors."""
        chunked.source.execute("UPDATE blog SET body = %s", [sentences(*after)])
        chunked.once()
        assert (chunked.actual(), sorted(chunked.service.texts)) == (
            chunked.expected(),
            [sentences(number) for number in sent],
        )

    def test_unchanged_chunks_keep_their_time(self, chunked: Sidecar) -> None:
        """embedded_at says when a chunk was embedded, not when its row was updated."""
        before = embedded_at(chunked)
        chunked.source.execute("UPDATE blog SET body = %s", [sentences(1, 2, 3, 9, 5)])
        chunked.once()
        after = embedded_at(chunked)
        assert {place for place in after if after[place] != before[place]} == {(1, 3)}

    def test_text_and_back_in_one_transaction(self, chunked: Sidecar) -> None:
        """Only a transaction's last word counts."""
        with chunked.source.transaction():
            chunked.source.execute("UPDATE blog SET body = 'in between'")
            chunked.source.execute("UPDATE blog SET body = %s", [sentences(1, 2, 3, 4, 5)])
        chunked.once()
        assert chunked.service.texts == []

    def test_equal_texts_of_many_rows(self, blog: Sidecar) -> None:
        """A text that many rows have is sent once a batch."""
        blog.source.execute("INSERT INTO blog SELECT i, 'boilerplate' FROM generate_series(100, 400) AS i")
        blog.once()
        sent = blog.service.texts
        assert (blog.actual(), set(sent), len(sent) < 10) == (blog.expected(), {"boilerplate"}, True)


class TestUnchangedToast:
    """A row is read again where the stream lacks a large text that did not change."""

    @pytest.fixture
    def toasted(self, sidecar: Sidecar) -> Sidecar:
        """Rows with a large text and a title."""
        sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, title text, body text, views int)")
        sidecar.source.execute("ALTER TABLE blog ALTER body SET STORAGE EXTERNAL")
        sidecar.source.execute(
            "INSERT INTO blog SELECT i, 't' || i, repeat('text ' || i, 2000) FROM generate_series(1, 4) AS i"
        )
        sidecar.follow(text="title || body", where="views IS DISTINCT FROM 13")
        sidecar.setup()
        sidecar.once()
        return sidecar

    @pytest.mark.parametrize(
        "statements",
        [
            "UPDATE blog SET title = title || '!'",
            "UPDATE blog SET id = id + 10",
            "UPDATE blog SET id = id + 10, title = 'moved'",
            "UPDATE blog SET views = 13 WHERE id = 2",
            "UPDATE blog SET title = 'x' WHERE id = 2; DELETE FROM blog WHERE id = 2",
            "UPDATE blog SET title = 'x' WHERE id = 2; UPDATE blog SET id = 20 WHERE id = 2",
            "UPDATE blog SET title = 'x'; UPDATE blog SET body = 'short'",
            "UPDATE blog SET id = 20 WHERE id = 2; INSERT INTO blog VALUES (2, 'new', 'new')",
            "UPDATE blog SET title = 'x'; TRUNCATE blog",
        ],
    )
    def test_follows(self, toasted: Sidecar, statements: str) -> None:
        """The target follows, whatever else happens to the row."""
        for statement in statements.split(";"):
            toasted.source.execute(statement.encode())
        toasted.once()
        assert toasted.actual() == toasted.expected()


class TestSize:
    """Large rows pass, whatever memory walvec is allowed."""

    @pytest.mark.parametrize(
        "megabytes", [5, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
    )
    def test_huge_text(self, sidecar: Sidecar, megabytes: int) -> None:
        """A huge text is cut into thousands of chunks, all of them embedded."""
        sidecar.settings["pipeline"] = {"max_buffer_bytes": 1_000_000}
        sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
        sidecar.follow(chunk={"size": 8000, "overlap": 0}, index="none")
        sidecar.setup()
        sidecar.source.execute("INSERT INTO blog VALUES (0, 'before')")
        sidecar.source.execute(
            "INSERT INTO blog SELECT 1, string_agg('word ' || i, ' ') FROM generate_series(1, %s) AS i",
            [megabytes * 100_000],
        )
        sidecar.source.execute("INSERT INTO blog VALUES (2, 'after')")
        sidecar.once(timeout=200)
        assert sidecar.actual() == sidecar.expected()

    def test_huge_transaction(self, sidecar: Sidecar) -> None:
        """A transaction of many times the buffer is worked off in parts."""
        sidecar.settings["pipeline"] = {"max_buffer_bytes": 65_536, "batch_rows": 50}
        sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
        sidecar.follow(index="none")
        sidecar.setup()
        sidecar.once()
        sidecar.source.execute(
            "INSERT INTO blog SELECT i, repeat('text ' || i, 20) FROM generate_series(1, 3000) AS i"
        )
        sidecar.once()
        assert sidecar.actual() == sidecar.expected()


class TestTargetTable:
    """The target's columns and index are as the settings say."""

    COLUMNS = """
        SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = 'blog_embedding'::regclass AND attnum > 0 ORDER BY attnum
    """
    VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'blog_embedding_embedding_idx'::regclass"
    INDEX = "SELECT indexdef FROM pg_indexes WHERE tablename = 'blog_embedding' AND indexdef LIKE '%%hnsw%%'"

    @pytest.fixture
    def empty(self, sidecar: Sidecar) -> Sidecar:
        """A source table without rows."""
        sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
        return sidecar

    def test_columns(self, sidecar: Sidecar) -> None:
        """The target has the key's columns, as the source has them, and those of every target."""
        sidecar.source.execute(
            'CREATE TABLE blog (body text, "B b" numeric(9,2), a uuid, PRIMARY KEY (a, "B b"))'
        )
        sidecar.follow(key=("a", "B b"))
        sidecar.setup()
        assert sidecar.target.execute(self.COLUMNS).fetchall() == [
            ("a", "uuid"),
            ("B b", "numeric(9,2)"),
            ("chunk_seq", "integer"),
            ("chunk", "text"),
            ("embedding", "vector(8)"),
            ("input_hash", "bytea"),
            ("embedded_at", "timestamp with time zone"),
        ]

    @pytest.mark.parametrize(
        ("metric", "operators"),
        [("cosine", "vector_cosine_ops"), ("l2", "vector_l2_ops"), ("ip", "vector_ip_ops")],
    )
    def test_index(self, empty: Sidecar, metric: str, operators: str) -> None:
        """The index has the metric's operator class, and is built after the backfill."""
        empty.follow(metric=metric)
        empty.setup()
        before = empty.target.execute(self.INDEX).fetchall()
        empty.once()
        ((after,),) = empty.target.execute(self.INDEX).fetchall()
        assert (before, f"USING hnsw (embedding {operators})" in after) == ([], True)

    def test_no_index(self, empty: Sidecar) -> None:
        """There is no index where none is asked for."""
        empty.follow(index="none")
        empty.setup()
        empty.once()
        assert empty.target.execute(self.INDEX).fetchall() == []

    @pytest.mark.parametrize(("dimensions", "kind"), [(2000, "vector"), (2001, "halfvec")])
    def test_dimensions(self, empty: Sidecar, dimensions: int, kind: str) -> None:
        """Past 2,000 dimensions the column is halfvec, which the index takes too."""
        empty.settings["embedder"]["dimensions"] = dimensions
        empty.source.execute("INSERT INTO blog VALUES (1, 'one'), (2, 'two')")
        empty.follow()
        empty.setup()
        empty.once()
        empty.source.execute("UPDATE blog SET body = 'three' WHERE id = 2")
        empty.once()
        columns: dict[str, str] = dict(empty.target.execute(self.COLUMNS).fetchall())
        ((index,),) = empty.target.execute(self.INDEX).fetchall()
        assert (empty.actual(), columns["embedding"], f"{kind}_cosine_ops" in index) == (
            empty.expected(),
            f"{kind}({dimensions})",
            True,
        )

    def test_left_half_built(self, empty: Sidecar) -> None:
        """An index that a crash left invalid is built again."""
        empty.source.execute("INSERT INTO blog VALUES (1, 'one')")
        empty.follow()
        empty.setup()
        empty.once()
        index = "'blog_embedding_embedding_idx'::regclass"
        empty.target.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = {index}".encode())
        empty.backfill()
        empty.once()
        assert empty.target.execute(self.VALID).fetchall() == [(True,)]
