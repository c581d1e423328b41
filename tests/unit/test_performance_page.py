from pathlib import Path

from bench import page
from bench.parts import names
from bench.report import Record, Result

BENCH = Path(__file__).parents[2] / "bench"


def record(part: str, *, reached: bool = True, skipped: str = "") -> Record:
    """What a part has saved: one result, unless it was skipped."""
    result = Result(part, "rows", "a bound", "2 rows/s", "1 rows/s", 2.0, ">= 1", reached, "it is so")
    results = [] if skipped else [result]
    return Record(part, results, skipped, 3, quick=False, date="2026-01-01", commit="abc")


def test_every_part_is_on_the_page() -> None:
    """Each module of bench/ that defines `measure` has a heading, its docstring and its results."""
    parts = {path.stem for path in BENCH.glob("*.py") if "\ndef measure(" in path.read_text()}
    assert parts == set(names())
    text = page.render({name: record(name) for name in names()}, {"CPU": "one"})
    assert {name for name in parts - {page.COSTS} if f"\n### {name}\n" not in text} == set()
    assert text.count("2 rows/s") == len(parts)


def test_the_template_is_filled() -> None:
    """No placeholder is left, measured or not; the page says that it is made."""
    described = {"CPU": "one"}
    for records in ({}, dict.fromkeys(names()), {name: record(name) for name in names()}):
        text = page.render(records, described)
        assert "$" not in text
        assert text.startswith("<!-- Made by `make bench`")
        assert "| CPU | one |" in text


def test_a_target_that_is_not_reached_is_named() -> None:
    """Under its own heading, with the reason."""
    name = names()[0]
    text = page.render({name: record(name, reached=False)}, {})
    assert f"- {name}, rows: 2.00, >= 1 was to be reached. it is so" in text


def test_a_part_that_was_skipped_says_why() -> None:
    """It stays on the page."""
    name = names()[0]
    assert "Not measured: no such program." in page.render(
        {name: record(name, skipped="no such program")}, {}
    )
