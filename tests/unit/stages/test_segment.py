"""How much of a lane's work may be in memory, and when a segment takes no more of it."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from walvec.stages.actions import DELETE
from walvec.stages.segment import MAX_IN_FLIGHT, Segment, SegmentLimits, share_limits
from walvec_slots.ack import Span
from walvec_slots.lsn import Lsn


def limits_of(size: int, rows: int, concurrency: int, inputs: int, lanes: int) -> SegmentLimits:
    """Share `size` bytes among lanes, for settings of which nothing else matters."""
    pipeline: Any = SimpleNamespace(max_buffer_bytes=size, batch_rows=rows, batch_delay=0.0)
    embedder: Any = SimpleNamespace(concurrency=concurrency, max_batch_inputs=inputs)
    return share_limits(pipeline, embedder, lanes)


LIMITS = SegmentLimits(rows=2, size=10_000, delay=0.0, depth=4, flight=1_000, work=1_000)


@given(
    size=st.integers(2**16, 2**34),
    rows=st.integers(1, 10_000),
    concurrency=st.integers(1, 64),
    inputs=st.integers(1, 2_048),
    lanes=st.integers(0, 60),
)
def test_all_lanes_together_stay_within_the_buffer(
    size: int, rows: int, concurrency: int, inputs: int, lanes: int
) -> None:
    """What arrives, half of it in flight, and the work of every lane fit into max_buffer_bytes."""
    limits = limits_of(size, rows, concurrency, inputs, lanes)
    arriving = size // 4
    assert lanes * limits.flight <= arriving / 2
    assert arriving + lanes * limits.work <= size
    assert 2 < limits.depth <= MAX_IN_FLIGHT


def test_there_is_enough_in_flight_to_keep_the_service_busy() -> None:
    """Segments in flight have as many rows as all requests together have texts, and two besides."""
    assert limits_of(2**26, 100, concurrency=4, inputs=128, lanes=1).depth == 2 + 6


def test_a_segment_is_full_by_rows() -> None:
    """An action that supersedes another one is no further row."""
    segment = Segment(Span(Lsn(1)))
    sealed = []
    for key in ("1", "1", "2"):
        segment.add((key,), DELETE)
        segment.seal_if_full(LIMITS)
        sealed.append(segment.sealed)
    assert sealed == [False, False, True]


def test_a_segment_is_full_by_bytes() -> None:
    """What an action takes counts even where it is superseded, as memory was taken for it."""
    segment = Segment(Span(Lsn(1)))
    taken = 0
    while not segment.sealed:
        taken += segment.add(("1",), DELETE)
        segment.seal_if_full(LIMITS)
    assert taken == segment.size >= LIMITS.size


def test_a_truncate_supersedes_the_actions_before_it() -> None:
    """Only what comes after a truncate is left in the segment."""
    segment = Segment(Span(Lsn(1)))
    segment.add(("1",), DELETE)
    segment.clear()
    segment.add(("2",), DELETE)
    assert (segment.truncate, list(segment.actions)) == (True, [("2",)])
