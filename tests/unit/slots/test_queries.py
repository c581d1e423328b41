from pathlib import Path

import pytest

from walvec_slots import queries


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder in place of sql/."""
    monkeypatch.setattr(queries, "FOLDER", tmp_path)
    queries.load_sql.cache_clear()
    return tmp_path


def test_names_each_statement(folder: Path) -> None:
    """A block runs from its name to the next, without leading comments.

    Its semicolon is dropped too.
    """
    (folder / "two.sql").write_text(
        "-- About the file.\n\n-- name: one\n-- 100 % {sure}.\nSELECT 1;\n\n"
        "-- name: two\n\nSELECT\n    -- inner\n    2\n"
    )
    assert queries.load_sql("two.sql") == {"one": "SELECT 1", "two": "SELECT\n    -- inner\n    2"}


@pytest.mark.parametrize(
    "text", ["-- name: a\nSELECT 1\n-- name: a\nSELECT 2\n", "-- name: a\n-- only a comment\n"]
)
def test_refuses_a_file_that_says_too_much_or_nothing(folder: Path, text: str) -> None:
    """A name that occurs twice, and a block without a statement, are refused."""
    (folder / "bad.sql").write_text(text)
    with pytest.raises(ValueError, match=r"sql/bad\.sql: a"):
        queries.load_sql("bad.sql")


def test_every_file_of_the_project_loads() -> None:
    """Each statement that a file names is there to be found, in the order of the file."""
    queries.load_sql.cache_clear()
    named = {
        path.name: [
            line.removeprefix("-- name: ")
            for line in path.read_text().splitlines()
            if line.startswith("-- name: ")
        ]
        for path in queries.FOLDER.glob("*.sql")
    }
    assert {file: list(queries.load_sql(file)) for file in named} == named
    assert {"metadata.sql", "source.sql", "target.sql"} <= named.keys()
    assert all(named.values())
