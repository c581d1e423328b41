import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!Who |---)(.+?) \| (.*?) \| (.*?) ?\| (.*) \|$", PAGE, re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w./]+)(?:::(\w+))?`")


@pytest.mark.parametrize(("who", "held"), [(who, held) for who, _, _, held in ROWS])
def test_each_line_is_held_by_tests_that_are_there(who: str, held: str) -> None:
    """A line names its tests, or says that nothing guards against it."""
    tests = NAMED.findall(held)
    assert tests or held.startswith("not guarded"), who
    for path, test in tests:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not test or re.search(rf"^ *(async )?def {test}\(", text, re.MULTILINE), test


def test_every_line_is_looked_at() -> None:
    """The table has a row for each of those who might do harm."""
    assert len(ROWS) == PAGE.count("\n| ") - 2 >= 12


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_page_can_be_found(page: str) -> None:
    """The pages that are read first lead to it."""
    assert "security.md)" in (ROOT / page).read_text(encoding="utf-8")
