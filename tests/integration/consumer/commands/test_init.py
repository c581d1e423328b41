import tomllib
from pathlib import Path

import psycopg

from consumer.config import Config
from tests.integration.consumer.commands.conftest import Walvec

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
    assert (result.code, result.stderr) == (0, "wrote walvec.toml; look it over, then: walvec check\n")
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
    assert result.stderr.startswith("walvec: there is no table public.nobody\n")


def test_prints_on_request(source: psycopg.Connection, walvec: Walvec, tmp_path: Path) -> None:
    """For a look, or to add to a file that exists."""
    source.execute(BLOG)
    result = walvec("init", "blog", "--output", "-")
    assert 'name = "blog"' in result.stdout
    assert list(tmp_path.iterdir()) == []
