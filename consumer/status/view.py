"""A report as a table: at most 100 columns wide, in colour on a terminal."""

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from consumer.commands.output import byte_size
from consumer.status.reading import Report, SlotStatus, VectorizerStatus
from consumer.status.spell import duration
from consumer.status.trend import Motion, Trend, sparkline
from consumer.status.verdict import Verdict
from consumer.status.words import behind, catch_up, process_of, state_of

WIDTH = 100  # columns at most
_SPARK = 40  # columns of a sparkline

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def console() -> Console:
    """Return a console on stdout that uses at most WIDTH columns, terminal or not."""
    found = Console(highlight=False, markup=False)
    return Console(
        highlight=False, markup=False, width=min(found.width, WIDTH) if found.is_terminal else WIDTH
    )


def render(report: Report, verdict: Verdict, trend: Trend | None = None) -> RenderableType:
    """Lay out the sentence, the slot, the vectorizers, and with a trend how things move."""
    parts: list[RenderableType] = [Text(verdict.text, style=_STYLES[verdict.level]), ""]
    parts += [_slot(report.slot), "", _vectorizers(report)]
    parts += [
        Text(f"{each.name} is paused: {each.paused}", style="red")
        for each in report.vectorizers
        if each.paused and verdict.state != "paused"
    ]
    if trend is not None:
        parts += ["", _motion(report, trend)]
    return Group(*parts)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _slot(slot: SlotStatus) -> Table:
    table = _table("slot", "process", "WAL kept", "until lost", "behind", "newest commit", "checkpoint")
    process = process_of(slot)
    style = {"streaming": "green", "starting": "yellow"}.get(process, "bold red")
    newest = slot.newest_commit_seconds
    table.add_row(
        slot.name,
        Text(process, style=style),
        byte_size(slot.retained_bytes),
        "no limit" if slot.safe_wal_bytes is None and slot.exists else byte_size(slot.safe_wal_bytes),
        behind(slot),
        "?" if newest is None else f"{duration(newest)} ago",
        slot.checkpoint_lsn or "none",
    )
    return table


def _vectorizers(report: Report) -> RenderableType:
    if not report.vectorizers:
        return Text("no vectorizer is set up")
    table = _table("vectorizer", "table", "target", "state")
    for column in ("rows", "chunks", "parked"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in report.vectorizers:
        about = "~" if each.estimated else ""
        table.add_row(
            each.name,
            each.source_table,
            each.target_table,
            Text(state_of(each), style=_state_style(each)),
            *(f"{about}{count:,}" if count is not None else "?" for count in _counts(each)),
            Text(_parked(each), style="yellow" if each.dead_letters else ""),
        )
    return table


def _parked(each: VectorizerStatus) -> str:
    retried = f" ({each.dead_letters_retried:,} retried)" if each.dead_letters_retried else ""
    return f"{each.dead_letters:,}{retried}"


def _counts(each: VectorizerStatus) -> tuple[int | None, int | None]:
    return each.embedded_rows, each.embedded_chunks


def _state_style(each: VectorizerStatus) -> str:
    return "bold red" if each.paused else ("green" if each.phase == "done" else "cyan")


def _motion(report: Report, trend: Trend) -> Table:
    moving = trend.motion()
    table = Table.grid(padding=(0, 2))
    table.add_row("lag", Text(sparkline(trend.lags(), _SPARK), style="cyan"), _lag_words(report.slot, moving))
    rate = "?" if moving.chunks is None else f"{moving.chunks:,.1f} chunks/s"
    table.add_row("rate", Text(sparkline(trend.rates(), _SPARK), style="cyan"), rate)
    table.add_row("caught up", catch_up(report.slot, moving), "")
    return table


def _lag_words(slot: SlotStatus, moving: Motion) -> str:
    if moving.lag_seconds is None:
        return byte_size(slot.lag_bytes)
    more = "more than " if moving.lag_seconds_at_least else ""
    return f"{byte_size(slot.lag_bytes)}, {more}{duration(moving.lag_seconds)}"
