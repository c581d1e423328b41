"""How far the backfills are, as bars on the terminal; log lines go on above them.

Only where somebody looks: stderr is a terminal and the log is for eyes too. The bars are there while there is
something to show, and leave no trace. They look at `Pipeline.standing` from outside: nothing of the work
knows of them, and nothing waits for them.
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

LOOK_INTERVAL: Final = 0.125  # seconds between two looks


CurrentStanding = Callable[[], Standing]
Show = Callable[[CurrentStanding], AbstractAsyncContextManager[None]]


def display(log: LogSettings) -> Show:
    """Return what shows an attachment's standing for as long as it lasts: bars, or nothing at all."""
    if log.format != "json" and sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True, highlight=False, markup=False)
        if not console.is_dumb_terminal:
            above = cast("TextIO", _Above(console))
            return lambda look: _shown(console, above, look)
    return lambda _: nullcontext()


@asynccontextmanager
async def _shown(console: "Console", above: TextIO, look: CurrentStanding) -> AsyncIterator[None]:
    looking = asyncio.create_task(_keep_looking(console, look), name="progress")
    try:
        with logs.diverted(above):
            yield
            looking.cancel()
            await asyncio.wait({looking})
    finally:
        looking.cancel()


async def _keep_looking(console: "Console", look: CurrentStanding) -> None:
    bars: Bars | None = None
    try:
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            standing = look()
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
    """One line: a backfill in one of its phases, or the stream. Without a total the bar only pulses."""

    name: str
    phase: str
    total: int | None


class Bars:
    """The lines on the terminal, from the first that is needed to the last."""

    def __init__(self, console: "Console") -> None:
        """Draw on `console`."""
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
        self._whole = 0  # bytes that the stream was behind at most
        self._progress.start()
        # rich hides it; a second signal ends the process without a chance to bring it back.
        console.show_cursor(True)

    def show(self, standing: Standing) -> None:
        """Draw what is left to do: the backfills, and once there is none the stream's way to its end."""
        self._whole = max(self._whole, standing.behind)
        bars = {
            Bar(name, each.phase, each.estimated if each.phase == "rows" else None): each.rows
            for name, each in standing.backfills.items()
            if each.phase != "done"
        }
        bars = bars or {Bar("changes", "stream", self._whole): self._whole - standing.behind}
        for bar in self._drawn.keys() - bars.keys():
            self._progress.remove_task(self._drawn.pop(bar))
        for bar, done in bars.items():
            self._draw(bar, done)
        self._progress.refresh()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def _draw(self, bar: Bar, done: int) -> None:
        if bar not in self._drawn:
            self._drawn[bar] = self._progress.add_task(
                bar.name, total=bar.total, completed=done, visible=False, phase=bar.phase, figures=""
            )
        drawn = self._drawn[bar]
        self._progress.update(drawn, completed=done)
        task = next(task for task in self._progress.tasks if task.id == drawn)
        self._progress.update(drawn, visible=True, figures=_figures(bar, done, task))


def _figures(bar: Bar, done: int, task: "Task") -> str:
    """Say in words and numbers what the bar shows."""
    from walvec.units import byte_size

    match bar.phase:
        case "rows":
            about = "" if bar.total is None else f" of about {bar.total:,}"
            rate = f"  {task.speed:,.0f} rows/s" if task.speed else ""
            return f"{done:,}{about} rows{rate}{_left(task)}"
        case "sweep":
            return "looking for rows that are gone"
        case "index":
            return "building the vector index"
        case _:
            return f"{byte_size((bar.total or 0) - done)} of WAL to go{_left(task)}"


def _left(task: "Task") -> str:
    """The time left at the present rate, where that means anything: estimates may fall short."""
    if not task.time_remaining:
        return ""
    return f"  {timedelta(seconds=round(task.time_remaining))} left"


class _Above:
    """A stream for log lines, whole ones at a time: they come out above the bars, just as they are."""

    def __init__(self, console: "Console") -> None:
        self._console = console

    def write(self, text: str) -> int:
        """Print a line; the bars are drawn anew below it."""
        self._console.out(text.removesuffix("\n"), highlight=False)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""
