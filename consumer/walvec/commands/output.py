"""How commands print: tables for eyes, JSON for programs; both on stdout."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from walvec.errors import UsageInvalid
from walvec.observe.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 1000  # columns; a table takes no more of them than it needs


def print_json(document: Any) -> None:
    """Print one JSON document; what JSON has no form for (an LSN, a time) is printed as its text."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows under their columns, or the words for none. On a pipe lines are not cut to a width."""
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
    """Return a console on stdout that takes words as they are: no markup, nothing coloured by itself."""
    from rich.console import Console

    return Console(width=width, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)


def say(words: str, *, err: bool = False) -> None:
    """Print a line; what comes from rows or catalogs in it cannot drive the terminal."""
    import typer

    typer.echo(visible(words), err=err)


def confirm(loss: str, *, sure: bool) -> None:
    """Say what would be lost and ask; `sure` is --yes.

    Raises UsageInvalid where nobody can be asked, typer's Abort where the answer is no.
    """
    import typer

    for line in loss.split("\n"):
        say(line, err=True)
    if sure:
        return
    if not sys.stdin.isatty():
        raise UsageInvalid("nobody is there to confirm this", hint="--yes confirms it")
    typer.confirm("Go on?", abort=True, err=True)
