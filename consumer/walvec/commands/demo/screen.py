"""What the demo prints: at most 100 columns, in colour on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from walvec_slots.errors import WalvecError

SCREEN_WIDTH = 100
# Seconds between two lines of progress where there is no terminal.
PIPE_INTERVAL = 1.0


class DemoFailed(WalvecError):
    """The demo cannot go on, or its proof fails."""


class ReportDone(Protocol):
    """Takes how much is done."""

    def __call__(self, done: int) -> None:
        """Show it."""


class Screen:
    """Prints the demo's lines.

    Each is flushed at once, because commands write to the same place.
    """

    def __init__(self) -> None:
        terminal = sys.stdout.isatty()
        self._console = Console(highlight=False, markup=True, width=None if terminal else SCREEN_WIDTH)
        self._chapters = 0

    def title(self, words: str, details: str) -> None:
        """Begin."""
        self._print(f"[bold]{words}[/]  [dim]{details}[/]")

    def chapter(self, words: str) -> None:
        """Begin a part, numbered."""
        self._chapters += 1
        self._print(f"\n[bold cyan]{self._chapters}  {words}[/]")

    def fact(self, name: str, words: str) -> None:
        """Print one thing that is so."""
        self._print(f"   [dim]{name:<10}[/] {words}")

    def line(self, words: str) -> None:
        """Print a line of a table or a remark, in rich's markup."""
        self._print(f"   {words}")

    def command(self, words: str) -> None:
        """Print a command as it is typed; its own output follows."""
        self._print(f"\n[bold green]$[/] [bold]{words}[/]")

    def end(self, words: str, *, well: bool = True) -> None:
        """Print how it ended."""
        self._print(f"\n[bold {'green' if well else 'red'}]{words}[/]")

    def suggestion(self, command: str, words: str) -> None:
        """Print a command that may be typed next, and what it does."""
        self._print(f"   [bold]{escape(f'{command:<34}')}[/] [dim]{words}[/]")

    @contextmanager
    def progress(self, words: str, total: int) -> Iterator[ReportDone]:
        """Show how much is done, as the body reports it.

        A bar on a terminal, a line a second elsewhere.
        """
        if not self._console.is_terminal:
            yield self._lines(words, total)
            return
        columns = (TextColumn(f"   [dim]{words:<10}[/]"), BarColumn(40), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self._console) as progress:
            task = progress.add_task(words, total=total)
            yield lambda done: progress.update(task, completed=done)

    def _lines(self, words: str, total: int) -> ReportDone:
        shown, next_at = -1, 0.0

        def report(done: int) -> None:
            nonlocal shown, next_at
            if done != shown and (done == total or monotonic() >= next_at):
                shown, next_at = done, monotonic() + PIPE_INTERVAL
                self.fact(words, f"{done} of {total}")

        return report

    def _print(self, words: str) -> None:
        self._console.print(words, soft_wrap=True)
        sys.stdout.flush()
