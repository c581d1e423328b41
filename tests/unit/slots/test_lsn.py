import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec_slots.lsn import Lsn

positions = st.integers(min_value=0, max_value=2**64 - 1)


@given(positions)
def test_text_names_one_position(position: int) -> None:
    """Formatting and parsing an LSN give the same position back."""
    assert Lsn.parse(str(Lsn(position))) == position


@given(positions, positions)
def test_order_is_the_order_of_the_wal(one: int, other: int) -> None:
    """LSNs compare as byte positions, not as text."""
    assert (Lsn(one) < Lsn(other)) == (one < other)


@pytest.mark.parametrize(
    ("text", "position"),
    [("0/0", 0), ("16/B374D848", 0x16B374D848), ("ffffffff/ffffffff", 2**64 - 1), ("1/0", 2**32)],
)
def test_reads_postgresqls_form(text: str, position: int) -> None:
    """Two hexadecimal halves are read, in either case."""
    assert Lsn.parse(text) == position


@pytest.mark.parametrize(
    "text",
    ["", "0", "/", "0/", "/0", "0/0/0", "0x1/0", "1/100000000", " 0/0", "0/0\n", "-1/0", "1_0/0"],
)
def test_refuses_anything_else(text: str) -> None:
    """What PostgreSQL would not write is refused, though int() might read it."""
    with pytest.raises(ValueError, match="not an LSN"):
        Lsn.parse(text)


def test_shows_its_text() -> None:
    """An LSN in a log or a failed assertion looks as it does in PostgreSQL."""
    assert repr(Lsn(0x16B374D848)) == "Lsn('16/B374D848')"
