"""A report as a table, at most 100 columns wide and in colour on a terminal."""

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from walvec.commands.status.reading import Report, SlotStatus, VectorizerStatus
from walvec.commands.status.trend import Motion, Trend, sparkline
from walvec.commands.status.verdict import Verdict
from walvec.commands.status.words import behind, catch_up_words, newest_commit, process_of, state_of
from walvec.observe.visible import visible
from walvec.units import byte_size, duration

WIDTH = 100  # columns
_SPARK = 40  # columns of a sparkline

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def console() -> Console:
    """Return a console on stdout that uses at most WIDTH columns."""
    found = Console(highlight=False, markup=False)
    return Console(
        highlight=False, markup=False, width=min(found.width, WIDTH) if found.is_terminal else WIDTH
    )


def render_unread(verdict: Verdict, last: Report | None) -> RenderableType:
    """Lay out that nothing can be read now, and what was read last."""
    sentence = Text(visible(verdict.text), style=_STYLES[verdict.level])
    if last is None:
        return sentence
    return Group(
        sentence, "", f"As it was at {last.at:%H:%M:%S} UTC:", "", _slot(last.slot), "", _vectorizers(last)
    )


def render_report(report: Report, verdict: Verdict, trend: Trend | None = None) -> RenderableType:
    """Lay out the sentence, the slot, the vectorizers and, with a trend, the rates."""
    parts: list[RenderableType] = [Text(visible(verdict.text), style=_STYLES[verdict.level]), ""]
    parts += [_slot(report.slot), "", _vectorizers(report)]
    parts += [
        Text(visible(f"{each.name} is paused: {each.paused}"), style="red")
        for each in report.vectorizers
        if each.paused and verdict.state != "paused"
    ]
    parts += [
        f"{visible(each.name)}: {each.rows_without_text:,} rows have no text: it is NULL or blank, or "
        "`where` excludes them"
        for each in report.vectorizers
        if each.rows_without_text
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
    """Lay out what is known of the slot; unknown columns are left out."""
    process = process_of(slot)
    style = {"streaming": "green", "starting": "yellow"}.get(process, "bold red")
    limit = "no limit" if slot.safe_wal_bytes is None else byte_size(slot.safe_wal_bytes)
    cells: dict[str, Text | str | None] = {
        "slot": visible(slot.name),
        "process": Text(process, style=style),
        "WAL kept": None if slot.retained_bytes is None else byte_size(slot.retained_bytes),
        "until lost": limit if slot.exists else None,
        "behind": None if slot.lag_seconds is None else behind(slot),
        "newest commit": newest_commit(slot),
        "checkpoint": slot.checkpoint_lsn or "none",
    }
    known = {column: cell for column, cell in cells.items() if cell is not None}
    table = _table(*known)
    table.add_row(*known.values())
    return table


def _vectorizers(report: Report) -> RenderableType:
    if not report.vectorizers:
        return Text("No vectorizer is set up.")
    table = _table("vectorizer", "table", "target", "state")
    for column in ("rows", "chunks", "parked"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in report.vectorizers:
        about = "~" if each.estimated else ""
        table.add_row(
            visible(each.name),
            visible(each.source_table),
            visible(each.target_table),
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
    table.add_row("caught up", catch_up_words(report.slot, moving), "")
    return table


def _lag_words(slot: SlotStatus, moving: Motion) -> str:
    if slot.lag_seconds == 0:
        return "none"
    if moving.lag_seconds is None:
        return byte_size(slot.lag_bytes)
    more = "more than " if moving.lag_seconds_at_least else ""
    return f"{byte_size(slot.lag_bytes)}, {more}{duration(moving.lag_seconds)}"
