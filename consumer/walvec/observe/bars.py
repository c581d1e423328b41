"""Progress of the backfills as bars on a terminal, with log lines above them.

They are shown only if stderr is a terminal and the log is not JSON, only while there is progress to show, and
they leave no trace. They read `Pipeline.standing` from outside: the work knows nothing about them and never
waits for them.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO, cast

from walvec.config.sections import LogSettings
from walvec.observe import logs
from walvec.stages.vitals import Standing

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Task

# Seconds between two updates.
REFRESH_INTERVAL: Final = 0.125

CurrentStanding = Callable[[], Standing]
Show = Callable[[CurrentStanding], AbstractAsyncContextManager[None]]


def display(log: LogSettings) -> Show:
    """Return a context manager that shows an attachment's progress: bars, or nothing."""
    if log.format != "json" and sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True, highlight=False, markup=False)
        if not console.is_dumb_terminal:
            above = cast("TextIO", _Above(console))
            return lambda standing: _show_bars(console, above, standing)
    return lambda _: nullcontext()


@asynccontextmanager
async def _show_bars(
    console: "Console", above: TextIO, current_standing: CurrentStanding
) -> AsyncIterator[None]:
    refreshing = asyncio.create_task(_keep_refreshing(console, current_standing), name="progress")
    try:
        with logs.diverted(above):
            yield
            refreshing.cancel()
            await asyncio.wait({refreshing})
    finally:
        refreshing.cancel()


async def _keep_refreshing(console: "Console", current_standing: CurrentStanding) -> None:
    bars: Bars | None = None
    try:
        while True:
            await asyncio.sleep(REFRESH_INTERVAL)
            standing = current_standing()
            if not standing.finished:
                bars = bars or Bars(console)
                bars.show(standing)
            elif bars:
                bars.close()
                bars = None
    finally:
        if bars:
            bars.close()


class Bar(NamedTuple):
    """One line: a backfill in one of its phases, or the stream.

    Without a total the bar only pulses.
    """

    name: str
    phase: str
    total: int | None


class Bars:
    """The bars on a terminal, drawn through `console` until they are closed."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, Progress, TaskID, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[phase]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._drawn: dict[Bar, TaskID] = {}
        # The most bytes that the stream has been behind.
        self._whole = 0
        self._progress.start()
        # rich hides the cursor, and a second signal ends the process before anything could show it again.
        console.show_cursor(True)

    def show(self, standing: Standing) -> None:
        """Draw the backfills that are left; after them the stream's way to its end."""
        self._whole = max(self._whole, standing.behind)
        bars = {
            Bar(name, backfill.phase, backfill.estimated if backfill.phase == "rows" else None): backfill.rows
            for name, backfill in standing.backfills.items()
            if backfill.phase != "done"
        }
        bars = bars or {Bar("changes", "stream", self._whole): self._whole - standing.behind}
        for bar in self._drawn.keys() - bars.keys():
            self._progress.remove_task(self._drawn.pop(bar))
        for bar, done in bars.items():
            self._draw_bar(bar, done)
        self._progress.refresh()

    def close(self) -> None:
        """Remove the bars from the terminal."""
        self._progress.stop()

    def _draw_bar(self, bar: Bar, done: int) -> None:
        if bar not in self._drawn:
            self._drawn[bar] = self._progress.add_task(
                bar.name, total=bar.total, completed=done, visible=False, phase=bar.phase, figures=""
            )
        drawn = self._drawn[bar]
        self._progress.update(drawn, completed=done)
        task = next(task for task in self._progress.tasks if task.id == drawn)
        self._progress.update(drawn, visible=True, figures=_figures_of(bar, done, task))


def _figures_of(bar: Bar, done: int, task: "Task") -> str:
    """Return the bar's state in words and numbers."""
    from walvec.units import byte_size

    match bar.phase:
        case "rows":
            about = "" if bar.total is None else f" of about {bar.total:,}"
            rate = f"  {task.speed:,.0f} rows/s" if task.speed else ""
            return f"{done:,}{about} rows{rate}{_time_left(task)}"
        case "sweep":
            return "looking for rows that are gone"
        case "index":
            return "building the vector index"
        case _:
            return f"{byte_size((bar.total or 0) - done)} of WAL to go{_time_left(task)}"


def _time_left(task: "Task") -> str:
    """Return the time left at the current rate, if one can be estimated."""
    if not task.time_remaining:
        return ""
    return f"  {timedelta(seconds=round(task.time_remaining))} left"


class _Above:
    """A stream that prints each log line above the bars, unchanged."""

    def __init__(self, console: "Console") -> None:
        self._console = console

    def write(self, text: str) -> int:
        """Print a line; rich draws the bars again below it."""
        self._console.out(text.removesuffix("\n"), highlight=False)
        return len(text)

    def flush(self) -> None:
        """Do nothing: every line is printed at once."""
