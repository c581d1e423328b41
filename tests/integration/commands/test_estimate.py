"""`walvec check --estimate`: what embedding takes, before the first call is made."""

import json
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from tests.fix_sidecar import Sidecar
from tests.integration.commands.conftest import Walvec
from walvec.commands.estimate import sampling

SETTINGS = """
[embedder]
provider = "python"
model = "no_such_module:embed"
dimensions = 100
max_batch_inputs = 10
concurrency = 2
[[vectorizer]]
name = "blog"
table = "public.blog"
text = "body"
where = "id > 0"
target = "public.blog_embedding"
chunk = {{ size = 30, overlap = 0 }}
{more}
"""


@pytest.fixture
def blog(source: psycopg.Connection, tmp_path: Path) -> psycopg.Connection:
    """A table of 200 rows, half of which have a text of 24 characters; settings without an embedder."""
    source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    source.execute(
        "INSERT INTO blog SELECT g - 100, 'twenty-four characters ' || g % 10 FROM generate_series(1, 200) g"
    )
    (tmp_path / "walvec.toml").write_text(SETTINGS.format(more=""))
    return source


def estimated(walvec: Walvec, *words: str) -> dict[str, Any]:
    """What the command prints for programs."""
    outcome = walvec("check", "--estimate", "--json", *words)
    assert outcome.code == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert isinstance(document, dict)
    return document


@pytest.mark.usefixtures("blog")
def test_counts_a_small_table(walvec: Walvec) -> None:
    """Exactly, before setup, without a word to the embedder."""
    document = estimated(walvec, "--price", "2", "--latency", "3")
    (found,) = document["vectorizers"]
    assert found["basis"] == "counted"
    assert found["left"] == {"rows": 100, "chunks": 100, "characters": 2400, "tokens": 900}
    assert found["rows_without_text"] == 100
    assert (found["requests"], found["seconds"], found["vector_bytes"]) == (10, 15.0, 100 * 408)
    assert (found["cost"], document["left"]["cost"]) == (0.0018, 0.0018)


@pytest.mark.usefixtures("blog")
def test_for_eyes(walvec: Walvec) -> None:
    """A line a vectorizer, and what the figures rest on."""
    lines = walvec("check", "--estimate", "--price", "2").stdout.splitlines()
    assert lines[2].split() == [
        "blog",
        "100",
        "100",
        "2,400",
        "100",
        "900",
        "10",
        "2",
        "s",
        "39.8",
        "kB",
        "0.00",
    ]
    without = "100 rows have no text: it is NULL or blank, or `where` excludes them"
    assert f"blog: every row read, counted; {without}" in lines
    assert "total: 10 requests, 2 s with 2 in flight, assuming 0.5 s for each (--latency)" in lines


@pytest.mark.parametrize(("statement", "basis"), [("ANALYZE blog", "statistics"), ("SELECT 1", "sampled")])
def test_samples_a_large_table(
    blog: psycopg.Connection,
    walvec: Walvec,
    monkeypatch: pytest.MonkeyPatch,
    statement: LiteralString,
    basis: str,
) -> None:
    """Some pages of it, carried on to all rows; says by what."""
    blog.execute(
        "INSERT INTO blog SELECT g, 'twenty-four characters ' || g % 10 FROM generate_series(101, 20000) g"
    )
    blog.execute(statement)
    monkeypatch.setattr(sampling, "SAMPLE_PAGES", 20)
    monkeypatch.setattr(sampling, "SAMPLE_ROWS", 2000)
    (found,) = estimated(walvec)["vectorizers"]
    assert (found["basis"], found["rows_read"] < 10_000) == (basis, True)
    assert found["left"]["rows"] == pytest.approx(20_000, rel=0.6)  # by chance, but the same pages each time
    if basis == "statistics":
        assert found["table_rows"] == 20_100


def test_a_sample_is_bounded_in_bytes(
    blog: psycopg.Connection, walvec: Walvec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the texts are: it stops reading."""
    monkeypatch.setattr(sampling, "SAMPLE_BYTES", 1000)
    blog.execute("ANALYZE blog")
    (found,) = estimated(walvec)["vectorizers"]
    assert (found["basis"], found["table_rows"], found["rows_read"] < 200) == ("statistics", 200, True)


def test_a_row_on_which_an_expression_fails_is_told(
    blog: psycopg.Connection, walvec: Walvec, tmp_path: Path
) -> None:
    """It will be parked; the others are counted."""
    path = tmp_path / "walvec.toml"
    path.write_text(path.read_text().replace('"body"', '"body || (1 / (id - 7))"'))
    (found,) = estimated(walvec)["vectorizers"]
    assert (found["rows_failing"], found["left"]["rows"]) == (1, 99)


def test_rows_without_text_are_counted(blog: psycopg.Connection, walvec: Walvec) -> None:
    """A row whose text is NULL, blank or kept out by the condition is told from those that are embedded."""
    blog.execute("UPDATE blog SET body = CASE id % 3 WHEN 0 THEN NULL WHEN 1 THEN E' \\t' ELSE body END")
    (found,) = estimated(walvec)["vectorizers"]
    assert (found["all"]["rows"], found["rows_without_text"]) == (33, 167)
    assert "167 rows have no text" in walvec("check", "--estimate").stdout


def test_an_expression_that_always_fails_is_an_error(
    blog: psycopg.Connection, walvec: Walvec, tmp_path: Path
) -> None:
    """There is nothing to estimate, and no row is quoted."""
    path = tmp_path / "walvec.toml"
    path.write_text(path.read_text().replace('"body"', '"(body::int)::text"'))
    outcome = walvec("check", "--estimate")
    assert (outcome.code, "InvalidTextRepresentation" in outcome.stderr) == (3, True)
    assert "twenty" not in outcome.stderr


def test_a_statement_that_takes_long_is_given_up(
    blog: psycopg.Connection, walvec: Walvec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application's database is not kept busy for an estimate."""
    monkeypatch.setattr(sampling, "STATEMENT_LIMIT", 50)
    blog.execute(
        "CREATE FUNCTION slowly(text) RETURNS text IMMUTABLE LANGUAGE plpgsql "
        "AS 'BEGIN PERFORM pg_sleep(0.1); RETURN $1; END'"
    )
    path = tmp_path / "walvec.toml"
    path.write_text(path.read_text().replace('"body"', '"public.slowly(body)"'))
    outcome = walvec("check", "--estimate")
    assert (outcome.code, "could not read a sample" in outcome.stderr) == (3, True)


def test_only_what_is_left_is_sent(sidecar: Sidecar) -> None:
    """Chunks whose vectors the target holds are no work."""
    sidecar.source.execute("CREATE TABLE blog (id bigint, part numeric, body text, PRIMARY KEY (id, part))")
    sidecar.source.execute("INSERT INTO blog SELECT g, 1.0, 'post ' || g FROM generate_series(1, 50) AS g")
    sidecar.follow(key=("id", "part"))
    sidecar.setup()
    sidecar.once()
    sidecar.source.execute("UPDATE blog SET body = body || '!' WHERE id <= 3")
    document = json.loads(sidecar.start("check", "--estimate", "--json").output())
    (found,) = document["vectorizers"]
    assert (found["all"]["rows"], found["left"]["rows"], found["requests"]) == (50, 3, 1)
