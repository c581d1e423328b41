"""A report as text: cells of a table, a line for a log, a JSON document. Pure."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from walvec.commands.status.reading import Report, SlotStatus, VectorizerStatus
from walvec.commands.status.trend import Motion, Trend
from walvec.commands.status.verdict import Verdict
from walvec.units import byte_size, duration


def process_of(slot: SlotStatus) -> str:
    """Return the state of the slot in a word or two."""
    if slot.exists is None:
        return "source unreachable"
    if not slot.exists:
        return "slot does not exist"
    if slot.wal_status == "lost":
        return "slot is lost"
    return "streaming" if slot.active else ("starting" if slot.writer else "not running")


def behind(slot: SlotStatus) -> str:
    """Return how far the slot is behind, in bytes and seconds."""
    if slot.lag_bytes is None or slot.lag_seconds is None:
        return "unknown"
    return f"{byte_size(slot.lag_bytes)}, {duration(slot.lag_seconds)}" if slot.lag_seconds else "no"


def newest_commit(slot: SlotStatus) -> str | None:
    """Return the age of the newest commit; None without commit timestamps."""
    newest = slot.newest_commit_seconds
    return None if newest is None else f"{duration(newest)} ago"


def state_of(each: VectorizerStatus) -> str:
    """Return the state of a vectorizer. The reason of a pause is shown elsewhere."""
    if each.paused:
        return "paused"
    if each.phase != "rows":
        return {"sweep": "backfill: sweeping", "index": "building the index", "done": "in step"}[each.phase]
    if each.rows_estimated is None:
        return "backfill: waiting"
    left = f", {duration(each.seconds_left)} left" if each.seconds_left is not None else ""
    return f"backfill: {each.rows_done:,} of ~{each.rows_estimated:,}{left}"


def catch_up_words(slot: SlotStatus, moving: Motion) -> str:
    """Return when the lag will be gone at the present rates."""
    if moving.catch_up_seconds is not None:
        return f"in {duration(moving.catch_up_seconds)}" if moving.catch_up_seconds else "now"
    if moving.wal_bytes is None or moving.confirmed_bytes is None or slot.lag_bytes is None:
        return "not known yet"
    return "not at this rate"


def line(report: Report, verdict: Verdict, trend: Trend) -> str:
    """Return everything in one line, for a log or a pipe."""
    moving = trend.motion()
    rate = "?" if moving.chunks is None else f"{moving.chunks:,.1f}"
    slot = report.slot
    behind_by = "no" if slot.lag_seconds == 0 else byte_size(slot.lag_bytes)
    return (
        f"{_time(report.at)} {verdict.level} {verdict.state} behind={behind_by} "
        f"kept={byte_size(slot.retained_bytes)} chunks/s={rate} caught up: {catch_up_words(slot, moving)}; "
        f"{verdict.text}"
    )


def unread_line(at: datetime, verdict: Verdict) -> str:
    """Return a line that says that nothing could be read."""
    return f"{_time(at)} {verdict.level} {verdict.state}; {verdict.text}"


def unread_document(at: datetime, verdict: Verdict) -> dict[str, Any]:
    """Return a JSON document that says that nothing could be read."""
    return {"at": at.isoformat(), "verdict": asdict(verdict), "slot": None, "vectorizers": []}


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def document(report: Report, verdict: Verdict, trend: Trend | None = None) -> dict[str, Any]:
    """Return the report for JSON."""
    found: dict[str, Any] = {
        "at": report.at.isoformat(),
        "verdict": asdict(verdict),
        "slot": asdict(report.slot),
        "vectorizers": [asdict(each) for each in report.vectorizers],
    }
    if trend is not None:
        found["motion"] = asdict(trend.motion())
    return found
