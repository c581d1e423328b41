"""The table of guarantees in docs/architecture.md, from the mutants."""

from collections import Counter
from collections.abc import Sequence

from tests.fix_postgres import CHECKOUT
from tests.mutants.catalogue import GUARANTEES, Mutant, load_mutants

PAGE = CHECKOUT / "docs/architecture.md"
BEGIN = "<!-- guarantees: made by `python -m tests.mutants --page` -->\n"
END = "<!-- /guarantees -->\n"


def table(mutants: Sequence[Mutant]) -> str:
    """Return one row a guarantee: where it is kept, how many mistakes there were tried, which tests see them."""
    rows = ["| guarantee | kept in | mistakes tried | seen by |", "| --- | --- | --- | --- |"]
    for number, name in GUARANTEES.items():
        own = [mutant for mutant in mutants if mutant.guarantee == number]
        files = _by_number([mutant.file for mutant in own])
        tests = _by_number([test.partition("::")[0] for mutant in own for test in mutant.tests])
        rows.append(f"| {number}. {name} | {files} | {len(own)} | {tests} |")
    return "\n".join(rows) + "\n"


def _by_number(paths: Sequence[str]) -> str:
    """List each path once, the most frequent ones first."""
    counted = sorted(Counter(paths).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"`{path}`" for path, _ in counted)


def with_table(page: str) -> str:
    """Return the page with the table as the mutants have it."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table(load_mutants()) + END + after


def write_table() -> None:
    """Write the page anew."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
