"""From a series of reports to rates, lag, time to catch up and sparklines. Pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from walvec.commands.status.reading import Report
from walvec_slots.lsn import Lsn

KEPT = 600  # points
WINDOW = 60.0  # seconds

_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """The changing part of a report, at `at` seconds of one clock.

    `source` is the end of the source's WAL, `confirmed` what the slot was sent, `lag` the bytes between them,
    or 0 if nothing waits. `behind` says whether any of that may be a change that waits. `chunks` were ever
    written to the targets, `rows` were read by the backfills.
    """

    at: float
    source: int | None
    confirmed: int | None
    lag: int | None
    behind: bool
    chunks: int | None
    rows: int


@dataclass(frozen=True, slots=True)
class Motion:
    """Rates per second over the last WINDOW seconds; None if not known yet.

    `lag_seconds` is how long ago the source was where the slot is now; `lag_seconds_at_least` says that it
    was there before the first point. `catch_up_seconds` is 0 once caught up, and None if unknown or never at
    this rate.
    """

    wal_bytes: float | None
    confirmed_bytes: float | None
    chunks: float | None
    backfill_rows: float | None
    lag_seconds: float | None
    lag_seconds_at_least: bool
    catch_up_seconds: float | None


class Trend:
    """The points of one `walvec status --watch`."""

    def __init__(self) -> None:
        self._samples: deque[TrendPoint] = deque(maxlen=KEPT)

    def add(self, report: Report) -> None:
        """Add a report. One that is not later than the last starts over."""
        sample = sample_of(report)
        if self._samples and sample.at <= self._samples[-1].at:
            self._samples.clear()
        self._samples.append(sample)

    @property
    def samples(self) -> Sequence[TrendPoint]:
        """The samples, oldest first."""
        return tuple(self._samples)

    def motion(self) -> Motion:
        """Return the present rates."""
        return motion(self.samples)

    def lags(self) -> list[float | None]:
        """Return the lag in bytes at every point."""
        return [sample.lag for sample in self._samples]

    def rates(self) -> list[float | None]:
        """Return the chunks written per second between neighbouring points."""
        samples = self.samples
        return [
            _rate(before.chunks, after.chunks, after.at - before.at) for before, after in pairwise(samples)
        ]


def sample_of(report: Report) -> TrendPoint:
    """Return the changing part of a report."""
    slot = report.slot
    written = [each.chunks_written for each in report.vectorizers if each.chunks_written is not None]
    return TrendPoint(
        at=report.at.timestamp(),
        source=_position(slot.source_lsn),
        confirmed=_position(slot.confirmed_lsn),
        lag=slot.lag_bytes if slot.lag_seconds or slot.lag_bytes is None else 0,
        behind=slot.lag_seconds != 0,
        chunks=sum(written) if written else None,
        rows=sum(each.rows_done for each in report.vectorizers),
    )


def motion(samples: Sequence[TrendPoint]) -> Motion:
    """Measure the last WINDOW seconds of the points, oldest first."""
    if not samples:
        return Motion(None, None, None, None, None, lag_seconds_at_least=False, catch_up_seconds=None)
    last = samples[-1]
    first = next(each for each in samples if each.at >= last.at - WINDOW)
    seconds = last.at - first.at
    written = _rate(first.source, last.source, seconds)
    confirmed = _rate(first.confirmed, last.confirmed, seconds)
    lag, at_least = lag_seconds(samples) if last.behind else (0.0, False)
    return Motion(
        wal_bytes=written,
        confirmed_bytes=confirmed,
        chunks=_rate(first.chunks, last.chunks, seconds),
        backfill_rows=_rate(first.rows, last.rows, seconds),
        lag_seconds=lag,
        lag_seconds_at_least=at_least,
        catch_up_seconds=catch_up(last.lag, written, confirmed) if last.behind else 0.0,
    )


def lag_seconds(samples: Sequence[TrendPoint]) -> tuple[float | None, bool]:
    """Return how long ago the source was where the slot is now.

    Also returns whether it may be longer. Between two points the source is assumed to write evenly.
    """
    last = samples[-1]
    if last.confirmed is None or last.source is None:
        return None, False
    later = last
    for sample in reversed(samples):
        if sample.source is None:
            continue
        if sample.source <= last.confirmed:
            between = (later.source or 0) - sample.source
            share = (last.confirmed - sample.source) / between if between > 0 else 1.0
            passed = sample.at + min(share, 1.0) * (later.at - sample.at)
            return round(last.at - passed, 1), False
        later = sample
    return round(last.at - later.at, 1), True


def catch_up(lag: int | None, written: float | None, confirmed: float | None) -> float | None:
    """Return the seconds until the lag is gone; None if never or unknown."""
    if lag == 0:
        return 0.0
    if lag is None or written is None or confirmed is None or confirmed <= written:
        return None
    return lag / (confirmed - written)


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Draw the last `width` values, the greatest as a full block, None as a space.

    Everything above 0 shows, however small, because a little lag differs from none.
    """
    shown = list(values)[-width:] if width > 0 else []
    top = max((value for value in shown if value is not None), default=0.0)
    return "".join(_block(value, top) for value in shown)


def _block(value: float | None, top: float) -> str:
    if value is None:
        return " "
    if value <= 0 or top <= 0:
        return _BLOCKS[0]
    return _BLOCKS[max(1, min(len(_BLOCKS) - 1, round(value / top * (len(_BLOCKS) - 1))))]


def _rate(before: int | None, after: int | None, seconds: float) -> float | None:
    """Return the growth per second; None if the count was reset."""
    if before is None or after is None or seconds <= 0 or after < before:
        return None
    return (after - before) / seconds


def _position(lsn: str | None) -> int | None:
    return None if lsn is None else int(Lsn.parse(lsn))
