"""The pages on managed databases have the same sections, and name their sources."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PROVIDERS = DOCS / "providers"
INDEX = (PROVIDERS / "README.md").read_text(encoding="utf-8")
PAGES = sorted(PROVIDERS.glob("[!R]*.md"))

SECTIONS = [
    "Switch on",
    "Role",
    "wal2json and pgvector",
    "Connection",
    "Slot and WAL",
    "Failover",
    "What it lacks",
    "Where this comes from",
]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_answers_every_question(path: Path) -> None:
    """Each page has the same sections, says that it was not tried, and has sources."""
    page = path.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == SECTIONS
    assert "\nNot tried on the service; see [where this comes from](#where-this-comes-from).\n" in page
    assert re.search(r"\*[^*]+\*", page.split("\n## Where this comes from\n")[1])


def test_every_page_is_in_the_table_and_no_other() -> None:
    """The index has a row for each page."""
    rows = re.findall(r"^\| \[[^\]]+\]\(([\w-]+\.md)\) \|", INDEX, re.MULTILINE)
    assert sorted(rows) == [path.name for path in PAGES]
