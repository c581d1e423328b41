"""`walvec status`: whether all is well, and the progress of everything.

Everything comes from the databases. rich is imported only where a table is shown.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import UTC, datetime

import psycopg

from walvec.commands.output import print_json, say
from walvec.commands.status.reading import Reader, Report
from walvec.commands.status.trend import Trend
from walvec.commands.status.verdict import Verdict, judge, unreadable
from walvec.commands.status.words import document, line, unread_document, unread_line
from walvec.config.load import Config
from walvec.observe.visible import visible
from walvec.policy import explain_failure
from walvec_slots.errors import ConnectionLost

# Seconds without an answer before `--watch` says so; with much to count, an answer takes 3.
ANSWER_LIMIT = 10.0


async def status(config: Config, *, as_json: bool) -> None:
    """Print verdict, slot and vectorizers once.

    Raises PreconditionFailed if nothing is set up.
    """
    async with Reader(config) as reader:
        report = await reader.read()
    if reader.source_failure:
        say(f"walvec: {reader.source_failure}", err=True)
    if as_json:
        print_json(document(report, judge(report)))
    else:
        from walvec.commands.status import view

        view.console().print(view.render_report(report, judge(report)))


def watch(config: Config, *, interval: float, as_json: bool) -> None:
    """Show the status every `interval` seconds until Ctrl-C.

    On a terminal it is a live table, otherwise a line each time. Raises PreconditionFailed if nothing is set
    up. A database that goes away is waited for.
    """
    show = _as_json if as_json else (_live if sys.stdout.isatty() else _as_lines)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(show(config, interval))
    except BrokenPipeError:
        # The reader of the pipe has closed it; Python's own flush at exit must not fail on that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _live(config: Config, interval: float) -> None:
    from rich.live import Live

    from walvec.commands.status import view

    trend, last = Trend(), None
    with Live(console=view.console(), auto_refresh=False, vertical_overflow="visible") as live:
        async for report in reports(config, interval):
            if isinstance(report, Verdict):
                live.update(view.render_unread(report, last), refresh=True)
            else:
                last = report
                trend.add(report)
                live.update(view.render_report(report, judge(report), trend), refresh=True)


async def _as_lines(config: Config, interval: float) -> None:
    trend = Trend()
    async for report in reports(config, interval):
        if isinstance(report, Verdict):
            _print(visible(unread_line(datetime.now(UTC), report)))
        else:
            trend.add(report)
            _print(visible(line(report, judge(report), trend)))


async def _as_json(config: Config, interval: float) -> None:
    trend = Trend()
    async for report in reports(config, interval):
        if isinstance(report, Verdict):
            found = unread_document(datetime.now(UTC), report)
        else:
            trend.add(report)
            found = document(report, judge(report), trend)
        _print(json.dumps(found, ensure_ascii=False))


async def reports(config: Config, interval: float) -> AsyncGenerator[Report | Verdict, None]:
    """Yield a report every `interval` seconds, or a verdict if none could be read.

    A failure of the first read is raised, because then the settings are probably wrong.
    """
    first = True
    async with Reader(config) as reader:
        while True:
            reading = asyncio.create_task(reader.read())
            try:
                while not await _ends(reading, ANSWER_LIMIT):
                    yield unreadable(f"The databases have not answered for {ANSWER_LIMIT:.0f} s")
                yield reading.result()
                first = False
            except (psycopg.OperationalError, ConnectionLost) as error:
                if first:
                    raise
                shown = explain_failure(error)
                yield unreadable(_sentence(shown.what if shown else type(error).__name__))
            finally:
                reading.cancel()
            await asyncio.sleep(interval)


async def _ends(task: "asyncio.Task[Report]", seconds: float) -> bool:
    """Wait for the task's end, and return whether it came."""
    done, _ = await asyncio.wait({task}, timeout=seconds)
    return bool(done)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _print(words: str) -> None:
    print(words, flush=True)  # noqa: T201 -- on stdout, at once
