from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.fix_lacks import pytest_terminal_summary


class Reporter:
    """A terminal as pytest has it, which keeps what is written."""

    def __init__(self, *reasons: str) -> None:
        reports = [SimpleNamespace(longrepr=("test_x.py", 1, f"Skipped: {reason}")) for reason in reasons]
        self.stats: dict[str, Any] = {"skipped": reports}
        self.written: list[str] = []

    def section(self, title: str) -> None:
        """Write a heading."""
        self.written.append(title)

    def line(self, text: str) -> None:
        """Write a line."""
        self.written.append(text)


def test_end_counts_the_skips_of_each_lack() -> None:
    """Skips for a lack are counted by server and lack; those for other reasons are not."""
    reporter = Reporter(
        "the server lacks ICU (PostgreSQL 18)",
        "the server lacks wal2json (PostgreSQL 16)",
        "takes minutes: make torture",
        "the server lacks ICU (PostgreSQL 18)",
    )
    pytest_terminal_summary(cast("pytest.TerminalReporter", reporter))
    assert reporter.written == [
        "skipped for what a server lacks",
        "ICU (PostgreSQL 18): 2",
        "wal2json (PostgreSQL 16): 1",
    ]


def test_end_says_nothing_where_nothing_lacked() -> None:
    """A run without such skips has no heading for them."""
    reporter = Reporter("takes minutes: make torture")
    pytest_terminal_summary(cast("pytest.TerminalReporter", reporter))
    assert reporter.written == []
