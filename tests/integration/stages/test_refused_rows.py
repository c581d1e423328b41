"""A row that the target refuses is parked; all others of its batch are written."""

from typing import Any, LiteralString

import pytest

from tests.fix_sidecar import Sidecar

# Fits an index of the key alone, not one with chunk_seq.
LONG = "(SELECT left('kkk' || string_agg(md5(g::text), ''), 2692) FROM generate_series(1, 90) AS g)"


@pytest.fixture
def word(sidecar: Sidecar) -> Sidecar:
    """A followed table with a text for its key, embedded already."""
    sidecar.source.execute("CREATE TABLE word (name text PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO word SELECT 'w' || g, 'body ' || g FROM generate_series(1, 20) AS g")
    sidecar.follow("word", key=("name",), index="none")
    sidecar.setup()
    return sidecar


def parked(sidecar: Sidecar) -> list[tuple[Any, ...]]:
    """Key, stage and class of the rows that are parked."""
    query = "SELECT left(key[1], 3), stage, error_class FROM walvec.dead_letter ORDER BY key"
    return sidecar.target.execute(query).fetchall()


def all_but(sidecar: Sidecar, *names: str) -> dict[tuple[str, ...], list[str]]:
    """What the target has to hold without these rows."""
    return {key: chunks for key, chunks in sidecar.expected()["word"].items() if key[0][:3] not in names}


@pytest.mark.parametrize("way", ["backfill", "stream"])
def test_key_too_long_for_the_targets_index_is_parked_alone(word: Sidecar, way: str) -> None:
    """The rows beside it are written, its LSN is confirmed, and a restart goes on."""
    if way == "stream":
        word.once()
    word.source.execute(f"INSERT INTO word VALUES ({LONG}, 'long'), ('x', 'after'), ('a', 'before')".encode())
    word.once()
    word.source.execute("UPDATE word SET body = 'later' WHERE name = 'w7'")
    word.once()
    assert word.actual()["word"] == all_but(word, "kkk")
    assert parked(word) == [("kkk", "write", "ProgramLimitExceeded (54000)")]


@pytest.mark.parametrize(
    ("rule", "error_class"),
    [
        ("ALTER TABLE word_embedding ADD CHECK (name <> 'w7')", "CheckViolation (23514)"),
        ("CREATE INDEX ON word_embedding ((1 / (name <> 'w7')::int))", "DivisionByZero (22012)"),
    ],
)
def test_rule_of_the_targets_owner_parks_the_row_it_refuses(
    word: Sidecar, rule: LiteralString, error_class: str
) -> None:
    """A constraint or an index that cannot take one row keeps no other out."""
    word.once()
    word.target.execute("TRUNCATE word_embedding")
    word.target.execute(rule)
    word.source.execute(
        "UPDATE word SET body = 'body7' WHERE name = 'w7'; UPDATE word SET body = body || ' again'"
    )
    word.once()
    assert word.actual()["word"] == all_but(word, "w7")
    [(name, stage, kind)] = parked(word)
    assert (name, stage) == ("w7", "write")
    assert kind.startswith(error_class)


def test_refused_row_that_changes_is_taken_out_of_the_dead_letters(word: Sidecar) -> None:
    """Once the target takes it, nothing is left of its refusal."""
    word.target.execute("ALTER TABLE word_embedding ADD CHECK (chunk <> 'body 7')")
    word.once()
    assert [row[0] for row in parked(word)] == ["w7"]
    word.source.execute("UPDATE word SET body = 'fine' WHERE name = 'w7'")
    word.once()
    assert (parked(word), word.actual()) == ([], word.expected())


@pytest.mark.parametrize(("setting", "kept"), [("remove", 0), ("keep", 1)])
def test_refused_row_keeps_its_last_vectors_only_if_it_is_to(word: Sidecar, setting: str, kept: int) -> None:
    """parked_vectors decides for a row that the target refuses, as for any other that is parked."""
    word.settings["pipeline"] = {"parked_vectors": setting}
    word.once()
    word.target.execute("ALTER TABLE word_embedding ADD CHECK (chunk <> 'bad')")
    word.source.execute("UPDATE word SET body = 'bad' WHERE name = 'w7'")
    word.once()
    count = "SELECT count(*) FROM word_embedding WHERE name = 'w7'"
    assert word.target.execute(count).fetchone() == (kept,)


def test_many_refused_rows_are_found_among_many(word: Sidecar) -> None:
    """Each row that is refused is parked, and no other."""
    word.source.execute("INSERT INTO word SELECT 'b' || g, 'bad ' || g FROM generate_series(1, 50) AS g")
    word.source.execute("INSERT INTO word SELECT 'g' || g, 'good ' || g FROM generate_series(1, 500) AS g")
    word.target.execute("ALTER TABLE word_embedding ADD CHECK (chunk NOT LIKE 'bad%')")
    word.once()
    assert len(parked(word)) == 50
    assert word.actual()["word"].keys() == {key for key in word.expected()["word"] if key[0][0] != "b"}


def test_key_that_the_targets_types_lack_is_parked_and_leaves_with_its_row(distant_sidecar: Sidecar) -> None:
    """A label of an enum that only the source has keeps nothing up, and its deletion deletes nothing."""
    sidecar = distant_sidecar
    sidecar.source.execute("CREATE TYPE mood AS ENUM ('sad', 'glad', 'new')")
    sidecar.target.execute("CREATE TYPE mood AS ENUM ('sad', 'glad')")
    sidecar.source.execute("CREATE TABLE day (mood mood PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO day VALUES ('sad', 'one'), ('new', 'two'), ('glad', 'three')")
    sidecar.follow("day", key=("mood",), index="none")
    sidecar.setup()
    sidecar.once()
    letters = "SELECT key[1], stage FROM walvec.dead_letter"
    assert sidecar.target.execute(letters).fetchall() == [("new", "write")]
    assert sidecar.actual()["day"].keys() == {("sad",), ("glad",)}
    sidecar.source.execute("UPDATE day SET body = 'again'")
    sidecar.once()
    assert sidecar.target.execute(letters).fetchall() == [("new", "write")]
    sidecar.source.execute("DELETE FROM day WHERE mood = 'new'")
    sidecar.once()
    assert sidecar.target.execute(letters).fetchall() == []
    assert sidecar.actual() == sidecar.expected()
