import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.commands.status.conftest import Reported
from walvec.commands.status.trend import WINDOW, Trend, TrendPoint, catch_up, lag_seconds, motion, sparkline

numbers = st.none() | st.floats(min_value=0, max_value=1e15)


def sample(
    at: float, source: int | None, confirmed: int | None, *, chunks: int | None = None, rows: int = 0
) -> TrendPoint:
    """What was read at `at`; behind unless the slot is at the source's end."""
    lag = None if source is None or confirmed is None else source - confirmed
    return TrendPoint(at, source, confirmed, lag, behind=lag != 0, chunks=chunks, rows=rows)


class TestRates:
    """Growth a second, over the last minute."""

    def test_of_everything_that_moves(self) -> None:
        """WAL written and worked off, chunks and rows."""
        moving = motion([sample(0, 0, 0, chunks=5), sample(10, 1000, 400, chunks=25, rows=70)])
        found = moving.wal_bytes, moving.confirmed_bytes, moving.chunks, moving.backfill_rows
        assert found == (100.0, 40.0, 2.0, 7.0)

    def test_only_the_window_counts(self) -> None:
        """What was an hour ago says nothing of now."""
        samples = [sample(0, 0, 0), sample(1000, 10_000, 0), sample(1000 + WINDOW, 10_000, 600)]
        assert motion(samples).confirmed_bytes == 10.0

    def test_one_sample_has_none(self) -> None:
        """Nothing is claimed that was not measured."""
        assert motion([sample(0, 10, 5)]).wal_bytes is None
        assert motion([]).wal_bytes is None

    def test_a_count_that_fell_is_none(self) -> None:
        """Statistics that were reset, a backfill that began again."""
        moving = motion([sample(0, 9, 9, chunks=9, rows=9), sample(1, 9, 9, chunks=1, rows=1)])
        assert (moving.chunks, moving.backfill_rows) == (None, None)


class TestCatchUp:
    """From lag and measured rates."""

    def test_is_the_lag_by_what_is_gained(self) -> None:
        """100 bytes behind, 20 a second written, 30 worked off."""
        assert catch_up(100, 20.0, 30.0) == 10.0

    @pytest.mark.parametrize("confirmed", [10.0, 20.0])
    def test_not_at_this_rate(self, confirmed: float) -> None:
        """A lag that grows, or stays."""
        assert catch_up(100, 20.0, confirmed) is None

    def test_nothing_to_catch_up(self) -> None:
        """Whatever the rates are."""
        assert catch_up(0, None, None) == 0.0

    @pytest.mark.parametrize("unknown", [(None, 1.0, 2.0), (1, None, 2.0), (1, 1.0, None)])
    def test_unknown(self, unknown: tuple[int | None, float | None, float | None]) -> None:
        """Where a part of it is."""
        assert catch_up(*unknown) is None


class TestLagSeconds:
    """How long ago the source was where the slot is now."""

    def test_between_two_samples(self) -> None:
        """At 500 it was half-way from the first sample to the second."""
        samples = [sample(0, 0, 0), sample(10, 1000, 0), sample(20, 1000, 500)]
        assert lag_seconds(samples) == (15.0, False)

    def test_from_before_the_first_sample(self) -> None:
        """It can only be said that it is more."""
        assert lag_seconds([sample(0, 1000, 100), sample(5, 2000, 200)]) == (5.0, True)

    def test_caught_up(self) -> None:
        """The newest sample is where the slot is."""
        assert lag_seconds([sample(0, 0, 0), sample(5, 700, 700)]) == (0.0, False)

    def test_without_the_source(self) -> None:
        """Nothing is known while it is away; a gap in between is passed over."""
        assert lag_seconds([sample(0, None, None)]) == (None, False)
        assert lag_seconds([sample(0, 0, 0), sample(5, None, None), sample(10, 100, 0)]) == (10.0, False)


class TestSparkline:
    """Values as blocks."""

    def test_grows_with_the_values(self) -> None:
        """The greatest is a full block."""
        assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"

    def test_shows_the_last_ones(self) -> None:
        """Within its width, scaled by what it shows."""
        assert sparkline([1000, 1, 2], 2) == "▅█"

    def test_a_little_is_not_nothing(self) -> None:
        """Any lag shows, and a gap is a space."""
        assert sparkline([0, None, 1, 1_000_000], 10) == "▁ ▂█"

    @given(st.lists(numbers, max_size=80), st.integers(min_value=0, max_value=50))
    def test_keeps_its_width(self, values: list[float | None], width: int) -> None:
        """Whatever the values are."""
        assert len(sparkline(values, width)) == min(len(values), width)


class TestTrend:
    """The samples of one watch."""

    def test_follows_reports(self, reported: Reported) -> None:
        """Lags as far as anything waits, rates between them."""
        trend = Trend()
        trend.add(reported(vectorizer={"chunks_written": 10}))
        trend.add(reported(after=2, vectorizer={"chunks_written": 30}, lag_bytes=99, lag_seconds=6.0))
        assert (trend.lags(), trend.rates()) == ([0, 99], [10.0])

    def test_idling_is_caught_up(self, reported: Reported) -> None:
        """What walvec itself writes is no lag."""
        trend = Trend()
        trend.add(reported())
        moving = trend.motion()
        assert (moving.lag_seconds, moving.catch_up_seconds) == (0.0, 0.0)

    def test_a_clock_set_back_begins_anew(self, reported: Reported) -> None:
        """No rate is made of it."""
        trend = Trend()
        trend.add(reported(after=100))
        trend.add(reported(after=50))
        assert len(trend.samples) == 1
