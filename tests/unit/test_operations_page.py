import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import walvec
import walvec_slots
from tests.documents import OPERATIONS, blocks, section
from walvec_slots.errors import WalvecError

ROOT = Path(__file__).parents[2]


def errors(kind: type[WalvecError] = WalvecError) -> Iterator[type[WalvecError]]:
    """Yield every error class of the two packages."""
    yield kind
    for subclass in kind.__subclasses__():
        if subclass.__module__.startswith(("walvec_slots.", "walvec.")):
            yield from errors(subclass)


for package in (walvec_slots, walvec):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        import_module(module.name)


@pytest.mark.parametrize("error", sorted(set(errors()), key=str))
def test_every_error_stands_under_its_exit_code(error: type[WalvecError]) -> None:
    """The page explains each error under its exit code."""
    assert f"`{error.__name__}`" in section("docs/operations/exit-codes.md", f"Exit code {error.exit_code}:")


# What an operator has to be able to see -> the names that a query for it cannot do without.
QUESTIONS = {
    "how much WAL an hour makes": ["pg_current_wal_lsn()", "pg_size_pretty"],
    "what the slot keeps, and how much room is left": [
        "pg_replication_slots",
        "restart_lsn",
        "safe_wal_size",
    ],
    "who holds whom up": ["pg_stat_activity", "pg_blocking_pids"],
    "transactions that stay open": ["pg_stat_activity", "backend_xid", "xact_start"],
    "transactions that were prepared and forgotten": ["pg_prepared_xacts"],
    "what is left of walvec": ["pg_replication_slots", "pg_publication", "pg_namespace", "pg_roles"],
}


@pytest.mark.parametrize("names", QUESTIONS.values(), ids=QUESTIONS)
def test_what_an_operator_has_to_see_can_be_asked(names: list[str]) -> None:
    """A block of SQL on some page answers the question; `test_documents` runs it."""
    asked = [block.text for block in blocks() if block.language == "sql"]
    assert any(all(name in text for name in names) for text in asked)


@pytest.mark.parametrize("page", OPERATIONS, ids=lambda page: page.stem)
def test_files_that_are_named_exist(page: Path) -> None:
    """A path on a page exists in the checkout."""
    named = re.findall(r"`((?:sql|docs|compose|slots|consumer)/[\w./-]+)`", page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []
