"""How commands print: tables for eyes, JSON for programs; both on stdout."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from consumer.errors import UsageInvalid

PIPE_WIDTH = 1000  # columns; a table takes no more of them than it needs


def print_json(document: Any) -> None:
    """Print one JSON document; what JSON has no form for (an LSN, a time) is printed as its text."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows under their columns, or the words for none. On a pipe lines are not cut to a width."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(width=width, highlight=False, markup=False)
    if not rows:
        console.print(empty)
        return
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console.print(table)


def byte_size(count: int | None) -> str:
    """Spell a number of bytes with three digits and a unit, `?` where it is unknown."""
    if count is None:
        return "?"
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:  # noqa: PLR2004 -- three digits
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.1f} TB"


def confirm(loss: str, *, sure: bool) -> None:
    """Say what would be lost and ask; `sure` is --yes.

    Raises UsageInvalid where nobody can be asked, typer's Abort where the answer is no.
    """
    import typer

    typer.echo(loss, err=True)
    if sure:
        return
    if not sys.stdin.isatty():
        raise UsageInvalid("nobody is there to confirm this", hint="--yes confirms it")
    typer.confirm("Go on?", abort=True, err=True)
