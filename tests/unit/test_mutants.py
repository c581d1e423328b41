"""The mutants of tests/mutants fit the code as it is; `make mutants` runs them."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.catalogue import GUARANTEES, Misplaced, Mutant, load_mutants
from tests.mutants.page import PAGE, with_table

ROOT = Path(__file__).parents[2]
MUTANTS = load_mutants()


@cache
def text_of(file: str) -> str:
    """Read a file of the checkout."""
    return (ROOT / file).read_text(encoding="utf-8")


@cache
def node_ids(file: str) -> frozenset[str]:
    """Return the tests of a file and their classes, as the end of a node id has them."""
    found = {""}
    for statement in ast.parse(text_of(file)).body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(statement.name)
        if isinstance(statement, ast.ClassDef):
            found |= {
                f"{statement.name}::{inner.name}"
                for inner in statement.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return frozenset(found)


def complaint(mutant: Mutant) -> str | None:
    """Say why a mutant cannot be tried out; None if it can."""
    try:
        changed = mutant.apply(text_of(mutant.file))
    except (Misplaced, FileNotFoundError) as error:
        return str(error)
    if changed == text_of(mutant.file):
        return f"{mutant.name} changes nothing"
    if mutant.file.endswith(".py"):
        try:
            ast.parse(changed)
        except SyntaxError as error:
            return f"{mutant.name}: {error}"
    return None


def test_each_mutant_changes_one_place() -> None:
    """Code that goes takes no mutant along: each `old` is in its file exactly once."""
    assert [said for mutant in MUTANTS if (said := complaint(mutant))] == []


def test_each_mutant_changes_code() -> None:
    """Comments and docstrings stay out: they are edited more often than the code."""
    assert [
        mutant.name
        for mutant in MUTANTS
        for line in mutant.old.splitlines()
        if '"""' in line or line.strip().startswith(("# ", "-- "))
    ] == []


def test_each_mutant_has_tests_that_exist() -> None:
    """A test that was renamed or moved would leave nothing to see the mistake."""
    named = [(mutant.name, *test.partition("::")[::2]) for mutant in MUTANTS for test in mutant.tests]
    assert [row for row in named if not (ROOT / row[1]).is_file() or row[2] not in node_ids(row[1])] == []
    assert [mutant.name for mutant in MUTANTS if not mutant.tests] == []


def test_there_are_mutants_of_every_guarantee() -> None:
    """At least a hundred in all and five of each, and every name is given once."""
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1
    counts = Counter(mutant.guarantee for mutant in MUTANTS)
    assert set(counts) == set(GUARANTEES)
    assert (counts.total() >= 100, min(counts.values()) >= 5) == (True, True)


def test_the_page_has_the_table() -> None:
    """docs/architecture.md says what `python -m tests.mutants --page` writes."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page)


@pytest.mark.parametrize(
    ("old", "text"),
    [("b = 1", "a = 1\n"), ("a = 1", "a = 1\na = 1\n"), ("a\nb", "a\n  b\n"), ("a\nb", " a\n b\n\na\nb\n")],
)
def test_a_mutant_without_its_one_place_is_misplaced(old: str, text: str) -> None:
    """None, two, or lines of another shape."""
    mutant = Mutant("m", 1, "", "a.py", old, "c", (), "room")
    with pytest.raises(Misplaced):
        mutant.apply(text)


def test_lines_are_found_at_any_indentation() -> None:
    """The mistake gets the indentation of what it replaces; an empty one takes it out."""
    text = "if x:\n    a\n    if b:\n        c\nd\n"
    mutant = Mutant("m", 1, "", "a.py", "a\nif b:\n    c", "e\nf", (), "room")
    assert mutant.apply(text) == "if x:\n    e\n    f\nd\n"
    assert Mutant("m", 1, "", "a.py", "if b:\n    c", "", (), "room").apply(text) == "if x:\n    a\nd\n"
