"""The pages on managed databases say the same things in the same places, and where they have them from."""

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
    """Whoever knows one finds their way on the others; each says that it was not tried, and its sources."""
    page = path.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == SECTIONS
    assert "\nNot tried on the service; see [where this comes from](#where-this-comes-from).\n" in page
    assert re.search(r"\*[^*]+\*", page.split("\n## Where this comes from\n")[1])


def test_every_page_is_in_the_table_and_no_other() -> None:
    """A row for each."""
    rows = re.findall(r"^\| \[[^\]]+\]\(([\w-]+\.md)\) \|", INDEX, re.MULTILINE)
    assert sorted(rows) == [path.name for path in PAGES]
