"""Reports in time -> how they move: rates, lag in seconds, time to catch up, sparklines. Pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from walvec.commands.status.reading import Report
from walvec_slots.lsn import Lsn

KEPT = 600  # samples; the sparklines show the last of them
WINDOW = 60.0  # seconds over which a rate is measured

_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """What of a report moves, at `at` seconds of one clock."""

    at: float
    source: int | None  # LSN of the source's end
    confirmed: int | None  # LSN the slot was told
    lag: int | None  # bytes between the two, 0 where nothing waits
    behind: bool  # whether any of that may be a change that waits
    chunks: int | None  # ever written to the targets, by the servers' count
    rows: int  # read by the backfills so far


@dataclass(frozen=True, slots=True)
class Motion:
    """Rates a second over the last WINDOW seconds, and what follows from them; None: not known (yet)."""

    wal_bytes: float | None  # written by the source
    confirmed_bytes: float | None  # worked off by walvec
    chunks: float | None
    backfill_rows: float | None
    lag_seconds: float | None  # how long ago the source was where the slot is now
    lag_seconds_at_least: bool  # the source was there before the first sample already
    catch_up_seconds: float | None  # 0: caught up; None: unknown, or not at this rate


class Trend:
    """The samples of one `walvec status --watch`."""

    def __init__(self) -> None:
        self._samples: deque[TrendPoint] = deque(maxlen=KEPT)

    def add(self, report: Report) -> None:
        """Take a report in; one that is not after the last, where a clock was set back, begins anew."""
        sample = sample_of(report)
        if self._samples and sample.at <= self._samples[-1].at:
            self._samples.clear()
        self._samples.append(sample)

    @property
    def samples(self) -> Sequence[TrendPoint]:
        """The samples, oldest first."""
        return tuple(self._samples)

    def motion(self) -> Motion:
        """Return how things move now."""
        return motion(self.samples)

    def lags(self) -> list[float | None]:
        """Return the lag in bytes at every sample."""
        return [sample.lag for sample in self._samples]

    def rates(self) -> list[float | None]:
        """Return the chunks written a second between every two samples."""
        samples = self.samples
        return [
            _rate(before.chunks, after.chunks, after.at - before.at) for before, after in pairwise(samples)
        ]


def sample_of(report: Report) -> TrendPoint:
    """Keep of a report what moves."""
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
    """Measure the last WINDOW seconds of the samples, oldest first."""
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
    """Return how long ago the source's end was where the slot is now, and whether it may be longer.

    Between two samples the source is taken to have written evenly.
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
    """Return the seconds until the lag is worked off, at bytes a second; None: never, or unknown."""
    if lag == 0:
        return 0.0
    if lag is None or written is None or confirmed is None or confirmed <= written:
        return None
    return lag / (confirmed - written)


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Draw the last `width` values, the greatest as a full block; a space where there is none.

    All that is above 0 shows, however little: no lag and a little are not the same.
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
    """Return the growth a second; a count that fell was begun anew."""
    if before is None or after is None or seconds <= 0 or after < before:
        return None
    return (after - before) / seconds


def _position(lsn: str | None) -> int | None:
    return None if lsn is None else int(Lsn.parse(lsn))
