"""What operators are told to ask a server for is SQL that a server answers."""

import re
from pathlib import Path

import psycopg
import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```sql\n(.+?)^```$", re.MULTILINE | re.DOTALL)
LOOKS_ONLY = re.compile(r"\s*(--.*\n\s*)*(SELECT|SHOW)\b(?!\s+pg_(drop|create|reload|terminate))")


def questions() -> list[str]:
    """Return the statements of the pages for operators that only look at something."""
    pages = [DOCS / "operations.md", DOCS / "deploy.md", *sorted((DOCS / "providers").glob("*.md"))]
    blocks = [block for page in pages for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    statements = [statement.strip() for block in blocks for statement in block.split(";\n")]
    return [each.split("\n;")[0] for each in statements if LOOKS_ONLY.match(each)]


@pytest.mark.parametrize("statement", questions())
def test_a_statement_is_answered(statement: str, source: psycopg.Connection) -> None:
    """It runs as it stands."""
    assert source.execute(statement.encode()).description is not None


def test_statements_are_found() -> None:
    """The slot, open transactions, locks, what is left: all are on the pages."""
    assert len(questions()) >= 8
