import tomllib
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from tests.integration.commands.conftest import Walvec
from walvec.config.load import Config

BLOG = """
CREATE TABLE blog (
    id serial PRIMARY KEY NOT NULL,
    title text NOT NULL,
    author text NOT NULL,
    contents text NOT NULL,
    category text NOT NULL,
    published_time timestamptz NULL
)
"""


def written(folder: Path) -> Config:
    """Read back what init wrote."""
    return Config(**tomllib.loads((folder / "walvec.toml").read_text()))


def test_proposes_the_columns_that_tell(source: psycopg.Connection, walvec: Walvec, tmp_path: Path) -> None:
    """Title and contents, and neither author nor category."""
    source.execute(BLOG)
    result = walvec("init", "public.blog")
    assert result.code == 0
    assert result.stderr.endswith("wrote walvec.toml; review it, then: walvec check\n")
    assert written(tmp_path).vectorizers[0].text == r"title || E'\n\n' || contents"


def test_the_proposal_is_valid_sql(source: psycopg.Connection, walvec: Walvec, tmp_path: Path) -> None:
    """Odd names are quoted, a NULL in one column leaves the others."""
    source.execute(
        """CREATE TABLE "Odd t" (k text PRIMARY KEY, "Über" text, "order" varchar(9), "a""b" char(3))"""
    )
    assert walvec("init", "Odd t").code == 0
    (vectorizer,) = written(tmp_path).vectorizers
    source.execute("""INSERT INTO "Odd t" VALUES ('k', 'one', NULL, 'two')""")
    row = source.execute(
        f'SELECT {vectorizer.text} FROM "Odd t"'.encode()
    ).fetchone()  # as a user would paste it
    assert row == ("one\n\ntwo",)


def test_a_table_that_is_not_there(walvec: Walvec, tmp_path: Path) -> None:
    """Nothing is written for it."""
    result = walvec("init", "public.nobody")
    assert (result.code, list(tmp_path.iterdir())) == (3, [])
    assert result.stderr.startswith('walvec: Table "public"."nobody" does not exist\n')


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE VIEW odd AS SELECT 1 AS id, 'x'::text AS body", "is a view"),
        ("CREATE MATERIALIZED VIEW odd AS SELECT 1 AS id, 'x'::text AS body", "is a materialized view"),
        ("CREATE SEQUENCE odd", "is a sequence"),
        ("CREATE TABLE odd (id int, body text)", 'ALTER TABLE "public"."odd" ADD PRIMARY KEY'),
        (
            "CREATE UNLOGGED TABLE odd (id int PRIMARY KEY, body text)",
            'ALTER TABLE "public"."odd" SET LOGGED',
        ),
    ],
)
def test_a_table_that_cannot_be_followed_is_refused(
    source: psycopg.Connection, walvec: Walvec, tmp_path: Path, statement: LiteralString, words: str
) -> None:
    """The refusal says why, with the statement that changes it, and no file is written."""
    source.execute(statement)
    result = walvec("init", "odd")
    assert (result.code, list(tmp_path.iterdir())) == (3, [])
    assert words in result.stderr


@pytest.mark.parametrize(
    "dsn",
    [
        "hunter2",
        "postgresql://u:hunter2@h/%zz",
        "host='hunter2",
        "password=hunter2 nonsense",
        "password=hunter2 connect_timeout=soon",
        "password=hunter2 host=localhost port=99999",
        "password=hunter2 host=localhost port=hunter2",
        "password=x host=localhost sslmode=hunter2",
        "password=x host=localhost keepalives=hunter2",
        "password=x host=a,b port=1,2,3",
        "service=hunter2",
    ],
)
@pytest.mark.parametrize("origin", ["--dsn", "WALVEC_SOURCE__DSN"])
def test_a_malformed_dsn_is_refused(
    walvec: Walvec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dsn: str, origin: str
) -> None:
    """The refusal says where the DSN comes from, and shows nothing of it."""
    monkeypatch.setenv("WALVEC_SOURCE__DSN", dsn)
    result = walvec("init", "blog", *(["--dsn", dsn] if origin == "--dsn" else []))
    assert (result.code, list(tmp_path.iterdir())) == (2, [])
    assert (origin in result.stderr, "hunter2" in result.stderr) == (True, False)


@pytest.mark.parametrize("dsn", ["foo", "connect_timeout=soon", "host=localhost sslmode=hunter2"])
@pytest.mark.parametrize("words", [("status",), ("search", "blog", "q"), ("setup",), ("run", "--once")])
def test_a_malformed_dsn_is_refused_by_every_command(
    walvec: Walvec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dsn: str, words: tuple[str, ...]
) -> None:
    """No command takes it for a server that is away, which would be waited for."""
    monkeypatch.setenv("WALVEC_SOURCE__DSN", "host=127.0.0.1 port=1")
    assert walvec("init", "blog", "--output", "walvec.toml", "--provider", "hashing", "--dsn", "").code == 0
    monkeypatch.setenv("WALVEC_SOURCE__DSN", dsn)
    result = walvec(*words)
    assert (result.code, "hunter2" in result.stderr) == (2, False)


def test_prints_on_request(source: psycopg.Connection, walvec: Walvec, tmp_path: Path) -> None:
    """For a look, or to add to a file that exists."""
    source.execute(BLOG)
    result = walvec("init", "blog", "--output", "-")
    assert 'name = "blog"' in result.stdout
    assert list(tmp_path.iterdir()) == []


class TestProposesTables:
    """Without a table's name."""

    def test_with_text_and_a_key(self, source: psycopg.Connection, walvec: Walvec, tmp_path: Path) -> None:
        """Those with the longest texts first; it says why the others are left out."""
        source.execute(BLOG)
        source.execute("CREATE TABLE page (id int PRIMARY KEY, x text, y varchar(9))")
        source.execute("INSERT INTO page VALUES (1, repeat('a', 50000), 'b'), (2, repeat('c', 50000), 'd')")
        source.execute("CREATE TABLE log (message text)")
        source.execute("CREATE TABLE tag (id int PRIMARY KEY, word text)")
        source.execute("CREATE TABLE number (id int PRIMARY KEY)")
        result = walvec("init", "--yes")
        assert result.code == 0, result.stderr
        found = {str(each.table): each.text for each in written(tmp_path).vectorizers}
        assert found == {"public.page": "x", "public.blog": r"title || E'\n\n' || contents"}
        text = (tmp_path / "walvec.toml").read_text()
        assert (
            "# public.page has text in x 50,000 bytes on average; left out: y 1 bytes on average.\n" in text
        )
        assert "#   public.log: " in text
        assert "#   public.tag: its texts are short" in text
        assert "public.number" not in text

    def test_that_are_no_targets(self, source: psycopg.Connection, walvec: Walvec, tmp_path: Path) -> None:
        """What walvec made is not embedded again, nor is a partition beside its table."""
        source.execute(
            "CREATE SCHEMA walvec; CREATE TABLE walvec.dead_letter (id int PRIMARY KEY, body text)"
        )
        source.execute(
            "CREATE TABLE b (id int PRIMARY KEY, chunk_seq int, chunk text, input_hash bytea, body text)"
        )
        source.execute("CREATE TABLE page (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)")
        source.execute("CREATE TABLE page_1 PARTITION OF page FOR VALUES FROM (1) TO (9)")
        assert walvec("init", "--yes").code == 0
        assert [str(each.table) for each in written(tmp_path).vectorizers] == ["public.page"]

    def test_the_file_can_be_checked(
        self, source: psycopg.Connection, walvec: Walvec, tmp_path: Path
    ) -> None:
        """What is proposed passes the preconditions as it is."""
        source.execute(BLOG)
        assert walvec("init", "--yes", "--provider", "hashing").code == 0
        assert walvec("check").code == 0

    def test_where_there_is_none(self, walvec: Walvec, tmp_path: Path) -> None:
        """The frame is written, with an example."""
        assert walvec("init", "--yes").code == 0
        assert written(tmp_path).vectorizers == ()
