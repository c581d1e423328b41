"""`walvec` as its users run it, but within the tests' process: the imports are paid for once."""

import io
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
import structlog

from walvec.cli.app import main


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


class Walvec(Protocol):
    """Runs `walvec` with these words, without a terminal, and returns how it ended."""

    def __call__(self, *words: str) -> Outcome:
        """Run it to its end."""


@pytest.fixture
def walvec(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Walvec]:
    """Give the command, with `database` as its source and `tmp_path` as its directory."""
    for name in [name for name in os.environ if name.startswith("WALVEC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WALVEC_SOURCE__DSN", database)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["walvec", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        code = exit_.value.code
        return Outcome(code if isinstance(code, int) else 0, *capsys.readouterr())

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield run
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
