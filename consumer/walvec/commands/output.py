"""How commands print to stdout: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from walvec.errors import UsageInvalid
from walvec.observe.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

# Columns of a table on a pipe, at most.
PIPE_WIDTH = 1000


def print_json(document: Any) -> None:
    """Print one JSON document; LSNs and times are printed as text."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows under their columns, or `empty`. On a pipe no line is cut."""
    from rich import box
    from rich.table import Table

    console = terminal(None if sys.stdout.isatty() else PIPE_WIDTH)
    if not rows:
        console.print(empty)
        return
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*("" if value is None else visible(str(value)) for value in row))
    console.print(table)


def terminal(width: int | None = None, *, soft_wrap: bool = False) -> "Console":
    """Return a console on stdout without markup or automatic highlighting."""
    from rich.console import Console

    return Console(width=width, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)


def say(words: str, *, err: bool = False) -> None:
    """Print a line, with control characters made visible."""
    import typer

    typer.echo(visible(words), err=err)


def confirm(loss: str, *, sure: bool) -> None:
    """Say what would be lost, and ask; `sure` is --yes.

    Raises UsageInvalid if there is no terminal to ask on, typer's Abort if the answer is no.
    """
    import typer

    for line in loss.split("\n"):
        say(line, err=True)
    if sure:
        return
    if not sys.stdin.isatty():
        raise UsageInvalid("This needs confirmation, and there is no terminal", hint="pass --yes")
    typer.confirm("Go on?", abort=True, err=True)
