import io
import json
import sys
from datetime import UTC, datetime

import pytest
import typer

from walvec.commands.output import confirm, print_json, print_table
from walvec.errors import UsageInvalid
from walvec.units import byte_size


class Terminal(io.StringIO):
    """A stdin with somebody before it."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 kB"),
        (16 * 2**20, "16 MB"),
        (3 * 2**40, "3.0 TB"),
        (2**53, "8,192.0 TB"),
    ],
)
def test_bytes_have_three_digits_and_a_unit(count: int | None, text: str) -> None:
    """Numbers that an operator can compare at a glance."""
    assert byte_size(count) == text


def test_a_table_on_a_pipe_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A program may read it line by line, markup in values included."""
    print_table(("one", "two"), [("x" * 200, None), ("[bold]", 3)], empty="nothing")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("x" * 200) for line in lines)
    assert any(line.split() == ["[bold]", "3"] for line in lines)


def test_no_rows_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    """A head without a body would look like a mistake."""
    print_table(("one",), [], empty="nothing")
    assert capsys.readouterr().out == "nothing\n"


def test_json_has_text_for_what_it_knows_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a command finds can be printed."""
    print_json({"name": "é", "since": datetime(2024, 6, 17, tzinfo=UTC)})
    assert json.loads(capsys.readouterr().out) == {"name": "é", "since": "2024-06-17 00:00:00+00:00"}


def test_yes_needs_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """What is lost is said all the same."""
    confirm("all is lost", sure=True)
    assert capsys.readouterr().err == "all is lost\n"


def test_nobody_cannot_confirm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script has to say --yes."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(UsageInvalid, match="pass --yes"):
        confirm("all is lost", sure=False)


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_no_is_no(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """The answer that costs nothing is the default."""
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    with pytest.raises(typer.Abort):
        confirm("all is lost", sure=False)


def test_yes_is_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the command goes on."""
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    confirm("all is lost", sure=False)
