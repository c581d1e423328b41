"""`walvec status`: in one sentence whether all is well, and how far everything is, from the databases alone.

rich is imported for eyes only.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import psycopg
import typer

from consumer.commands.output import print_json
from consumer.config import Config
from consumer.policy import explain
from consumer.status.reading import Reader, Report
from consumer.status.trend import Trend
from consumer.status.verdict import judge
from consumer.status.words import document, line
from slots.errors import ConnectionLost


async def status(config: Config, *, as_json: bool) -> None:
    """Print verdict, slot and vectorizers once.

    Raises PreconditionFailed where nothing is set up.
    """
    async with Reader(config) as reader:
        report = await reader.read()
    if reader.source_failure:
        typer.echo(f"walvec: {reader.source_failure}", err=True)
    if as_json:
        print_json(document(report, judge(report)))
    else:
        from consumer.status import view

        view.console().print(view.render(report, judge(report)))


def watch(config: Config, *, interval: float, as_json: bool) -> None:
    """Show it again every `interval` seconds until Ctrl-C: live on a terminal, otherwise a line each time.

    Raises PreconditionFailed where nothing is set up. A database that goes away is waited for.
    """
    show = _as_json if as_json else (_live if sys.stdout.isatty() else _as_lines)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(show(config, interval))
    except BrokenPipeError:
        # Whoever read the lines has enough of them; Python's own flush at exit must not fail on it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _live(config: Config, interval: float) -> None:
    from rich.live import Live

    from consumer.status import view

    trend = Trend()
    with Live(console=view.console(), auto_refresh=False, vertical_overflow="visible") as live:
        async for report in _reports(config, interval, live.console.print):
            trend.add(report)
            live.update(view.render(report, judge(report), trend), refresh=True)


async def _as_lines(config: Config, interval: float) -> None:
    trend = Trend()
    async for report in _reports(config, interval, _complain):
        trend.add(report)
        print(line(report, judge(report), trend), flush=True)  # noqa: T201 -- on stdout, at once


async def _as_json(config: Config, interval: float) -> None:
    trend = Trend()
    async for report in _reports(config, interval, _complain):
        trend.add(report)
        text = json.dumps(document(report, judge(report), trend), ensure_ascii=False)
        print(text, flush=True)  # noqa: T201 -- on stdout, at once


async def _reports(
    config: Config, interval: float, complain: Callable[[str], object]
) -> AsyncIterator[Report]:
    """Read every `interval` seconds; after the first time, a database that is away is told and waited for."""
    first = True
    async with Reader(config) as reader:
        while True:
            try:
                report = await reader.read()
            except (psycopg.OperationalError, ConnectionLost) as error:
                if first:
                    raise
                shown = explain(error)
                complain(f"walvec: {shown.what if shown else type(error).__name__}")
            else:
                first = False
                yield report
            await asyncio.sleep(interval)


def _complain(words: str) -> None:
    typer.echo(words, err=True)
