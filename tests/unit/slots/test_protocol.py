import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec_slots.errors import MalformedMessage
from walvec_slots.lsn import Lsn
from walvec_slots.protocol import Keepalive, StandbyStatus, XLogData, decode_frame

words = st.integers(min_value=0, max_value=2**64 - 1)
clocks = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@given(words, words, clocks, st.binary())
def test_xlog_data_carries_its_payload(start: int, end: int, clock: int, payload: bytes) -> None:
    """A frame of kind w has both positions and all bytes after the header."""
    frame = struct.pack("!cQQq", b"w", start, end, clock) + payload
    assert decode_frame(memoryview(frame)) == XLogData(Lsn(start), Lsn(end), payload)


@given(words, clocks, st.booleans())
def test_keepalive_says_whether_it_wants_a_reply(end: int, clock: int, reply: bool) -> None:  # noqa: FBT001
    """A frame of kind k has the end of what was sent, and whether to reply."""
    frame = struct.pack("!cQqB", b"k", end, clock, reply)
    assert decode_frame(memoryview(frame)) == Keepalive(Lsn(end), reply)


@given(st.binary())
def test_other_bytes_are_malformed(data: bytes) -> None:
    """Any bytes are a frame or raise MalformedMessage, and nothing else."""
    try:
        frame: object = decode_frame(data)
    except MalformedMessage as error:
        frame = error
    assert isinstance(frame, XLogData | Keepalive | MalformedMessage)


@pytest.mark.parametrize(
    "data", [b"", b"w", b"w" + bytes(23), b"k" + bytes(16), b"k" + bytes(18), b"x" + bytes(40)]
)
def test_short_and_unknown_frames_are_refused(data: bytes) -> None:
    """A frame cut short is not read as one with an empty payload."""
    with pytest.raises(MalformedMessage, match="replication frame"):
        decode_frame(data)


@given(words, words, words, clocks, st.booleans())
def test_status_is_in_wire_order(
    write: int,
    flush: int,
    apply: int,
    now: int,
    reply: bool,  # noqa: FBT001
) -> None:
    """The status frame is tag, write, flush, apply, clock, reply requested; 34 bytes."""
    status = StandbyStatus(Lsn(write), Lsn(flush), Lsn(apply), reply)
    assert struct.unpack("!cQQQqB", status.encode(now)) == (b"r", write, flush, apply, now, reply)
