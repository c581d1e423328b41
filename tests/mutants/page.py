"""The table of guarantees in docs/architecture.md, from the mutants."""

from collections import Counter
from collections.abc import Sequence

from tests.fix_postgres import CHECKOUT
from tests.mutants.catalogue import GUARANTEES, Mutant, load_mutants

PAGE = CHECKOUT / "docs/architecture.md"
BEGIN = "<!-- from `python -m tests.mutants --page` -->\n"
END = "<!-- end -->\n"
SHOWN = 3  # modules of a guarantee, and tests


def table(mutants: Sequence[Mutant]) -> str:
    """Return one row a guarantee: its mistakes, their files, and the tests that see them.

    What the most mistakes are in, and what sees the most of them, comes first; the rest is counted.
    """
    rows = ["| guarantee | mistakes | kept in | seen by |", "| --- | --- | --- | --- |"]
    for number, name in GUARANTEES.items():
        own = [mutant for mutant in mutants if mutant.guarantee == number]
        files = _most_frequent([mutant.file for mutant in own])
        tests = _most_frequent([test for mutant in own for test in mutant.tests])
        rows.append(f"| {number}. {name} | {len(own)} | {files} | {tests} |")
    return "\n".join(rows) + "\n"


def _most_frequent(names: Sequence[str]) -> str:
    counted = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"`{name}`" for name, _ in counted[:SHOWN])
    return f"{shown}, {len(counted) - SHOWN} more" if len(counted) > SHOWN else shown


def with_table(page: str) -> str:
    """Return the page with the table as the mutants have it."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table(load_mutants()) + END + after


def write_table() -> None:
    """Write the page anew."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
