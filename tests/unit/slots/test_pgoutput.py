import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec_slots.changes import (
    LARGE_VALUE,
    Begin,
    Change,
    Commit,
    Event,
    StreamedColumn,
    StreamedTable,
    Text,
    Truncate,
)
from walvec_slots.errors import MalformedMessage
from walvec_slots.lsn import Lsn
from walvec_slots.pgoutput import PgoutputDecoder, pgoutput_options

AT = Lsn(0x16B374D848)
BLOG, OTHER = 16387, 16394

# What PostgreSQL 15 sent for `blog` (id int PRIMARY KEY, mood an enum, body text EXTERNAL) and another
# table, as pg_logical_slot_peek_binary_changes gives it, with what each message is.
RELATION = (
    "52000040037075626c696300626c6f67006400030169640000000017ffffffff006d6f6f640000004001ffffffff00"
    "626f64790000000019ffffffff"
)
FULL_RELATION = (
    "52000040037075626c696300626c6f67006600030169640000000017ffffffff016d6f6f640000004001ffffffff01"
    "626f64790000000019ffffffff"
)
OTHER_RELATION = "520000400a7075626c6963006f74686572006400010169640000000017ffffffff"
UPDATE_UNDER_FULL = (
    "55000040034f00037400000001347400000005736f2d736f7400000001644e00037400000001347400000005736f2d736f74"
    "0000000165"
)
ORIGIN = "4f0000000000000000656c7365776865726500"
TYPE = "59000040017075626c6963006d6f6f6400"
RECORDED: list[tuple[str, Event | None]] = [
    ("42000000000154313000030419a9886a25000002d8", Begin(728, Lsn(0x1543130), 0x30419A9886A25)),
    (TYPE, None),
    (RELATION, None),
    (
        "49000040034e00037400000001317400000005736f2d736f74000000056669727374",
        Change("insert", AT, "public", "blog", {"id": "1", "mood": "so-so", "body": "first"}, {}),
    ),
    (
        "43000000000001543130000000000154316000030419a9886a25",
        Commit(728, Lsn(0x1543130), Lsn(0x1543160)),
    ),
    ("4200000000015431f800030419a98881f6000002d9", Begin(729, Lsn(0x15431F8), 0x30419A98881F6)),
    # An unchanged value stored out of line.
    (
        "55000040034e00037400000001327400000005736f2d736f75",
        Change("update", AT, "public", "blog", {"id": "2", "mood": "so-so"}, {}),
    ),
    (
        "430000000000015431f8000000000154322800030419a98881f6",
        Commit(729, Lsn(0x15431F8), Lsn(0x1543228)),
    ),
    ("42000000000154330800030419a9888308000002da", Begin(730, Lsn(0x1543308), 0x30419A9888308)),
    # A change of key: the old one comes with nulls in place of all other columns.
    (
        "55000040034b00037400000001326e6e4e00037400000001337400000005736f2d736f75",
        Change("update", AT, "public", "blog", {"id": "3", "mood": "so-so"}, {"id": "2"}),
    ),
    ("44000040034b00037400000001316e6e", Change("delete", AT, "public", "blog", {}, {"id": "1"})),
    (ORIGIN, None),
    # The relation is announced once more, after a TRUNCATE of it or any DDL on it.
    (RELATION, None),
    (OTHER_RELATION, None),
    ("540000000200000040030000400a", Truncate(AT, (("public", "blog"),))),
    (FULL_RELATION, None),
    (
        UPDATE_UNDER_FULL,
        Change(
            "update",
            AT,
            "public",
            "blog",
            {"id": "4", "mood": "so-so", "body": "e"},
            {"id": "4", "mood": "so-so", "body": "d"},
        ),
    ),
    (
        "43000000000001543308000000000154333800030419a9888308",
        Commit(730, Lsn(0x1543308), Lsn(0x1543338)),
    ),
]


def table(*columns: str, oid: int = BLOG, name: str = "blog") -> StreamedTable:
    """Return a table of which these columns are wanted."""
    return StreamedTable(oid, "public", name, tuple(StreamedColumn(column, 25, "text") for column in columns))


WHOLE = table("id", "mood", "body")


def after(*messages: str | bytes, wanted: StreamedTable = WHOLE) -> PgoutputDecoder:
    """Return a decoder that has read these messages."""
    decoder = PgoutputDecoder([wanted])
    for message in messages:
        decoder.decode(bytes.fromhex(message) if isinstance(message, str) else message, Lsn(0))
    return decoder


def test_recorded_stream() -> None:
    """What a server sent is decoded as what was done there."""
    decoder = PgoutputDecoder([WHOLE])
    for message, event in RECORDED:
        decoded = decoder.decode(bytes.fromhex(message), AT)
        assert (type(decoded), decoded) == (type(event), event)


def test_views_are_read_as_bytes_are() -> None:
    """A view of libpq's buffer, as a long frame is, is decoded as bytes are."""
    decoder = PgoutputDecoder([WHOLE])
    assert [decoder.decode(memoryview(bytes.fromhex(message)), AT) for message, _ in RECORDED] == [
        event for _, event in RECORDED
    ]


class TestNames:
    """A table is followed by its oid, under the name that it had at the start."""

    def test_rename(self) -> None:
        """A table that was renamed comes under the name that it had at the start."""
        renamed = RELATION.replace(b"blog".hex(), b"page".hex())
        change = after(renamed).decode(bytes.fromhex(RECORDED[3][0]), AT)
        assert isinstance(change, Change)
        assert change.table == "blog"

    def test_renamed_column(self) -> None:
        """A table that is announced again is read by its newest description."""
        renamed = RELATION.replace(b"mood".hex(), b"tone".hex())
        change = after(RELATION, renamed).decode(bytes.fromhex(RECORDED[3][0]), AT)
        assert isinstance(change, Change)
        assert "id" in change.columns
        assert "mood" not in change.columns

    def test_namesake(self) -> None:
        """Another table that was given the name is not followed."""
        namesake = "52" + "0000400b" + RELATION[10:]
        row = "49" + "0000400b" + RECORDED[3][0][10:]
        assert after(RELATION, namesake).decode(bytes.fromhex(row), AT) is None


class TestWanted:
    """What is not wanted is not decoded."""

    def test_column(self) -> None:
        """A column that is not wanted is left out of the old row and the new one."""
        decoder = after(FULL_RELATION, wanted=table("body"))
        change = decoder.decode(bytes.fromhex(UPDATE_UNDER_FULL), AT)
        assert change == Change("update", AT, "public", "blog", {"body": "e"}, {"body": "d"})

    @pytest.mark.parametrize("kind", [b"I", b"U", b"D"])
    def test_row_of_another_table(self, kind: bytes) -> None:
        """A row of a table that is not followed is not parsed."""
        assert after(OTHER_RELATION).decode(kind + struct.pack("!I", OTHER) + b"\xff\xff", AT) is None

    def test_truncate_of_other_tables(self) -> None:
        """A TRUNCATE of other tables gives no event."""
        truncate = b"T" + struct.pack("!IBI", 1, 0, OTHER)
        assert after(OTHER_RELATION).decode(truncate, AT) is None

    def test_long_value(self) -> None:
        """A long value is left out, and the columns around it are whole."""
        row = tuple_of([b"t1", b"t" + b"x" * (LARGE_VALUE + 1), b"tend"])
        change = after(RELATION).decode(memoryview(b"I" + struct.pack("!I", BLOG) + b"N" + row), AT)
        assert change == Change("insert", AT, "public", "blog", {"id": "1", "body": "end"}, {})


class TestMalformed:
    """Anything else raises MalformedMessage, with the frame's LSN and no payload."""

    @pytest.mark.parametrize(
        "number", [i for i, (message, _) in enumerate(RECORDED) if message not in {TYPE, ORIGIN}]
    )
    def test_cut_short(self, number: int) -> None:
        """A message that was cut short anywhere is refused.

        What is not about rows is not looked into.
        """
        whole = bytes.fromhex(RECORDED[number][0])
        decoder = after(*(message for message, _ in RECORDED[:number]))
        for length in range(len(whole)):
            with pytest.raises(MalformedMessage):
                decoder.decode(whole[:length], AT)

    @pytest.mark.parametrize("message", [message for message, event in RECORDED if event])
    def test_too_long(self, message: str) -> None:
        """A message with a byte too many is refused."""
        decoder = after(RELATION, OTHER_RELATION, RECORDED[0][0])
        with pytest.raises(MalformedMessage):
            decoder.decode(bytes.fromhex(message) + b"\0", AT)

    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"M\0",  # not asked for
            b"S",  # a part of a transaction that is in progress
            b"I" + struct.pack("!I", OTHER) + b"N\0\0",  # a relation that was not announced
            b"T" + struct.pack("!IBI", 1, 0, OTHER),
            b"I" + struct.pack("!I", BLOG) + b"K\0\3nnn",
            b"D" + struct.pack("!I", BLOG) + b"N\0\3nnn",
            b"I" + struct.pack("!I", BLOG) + b"N\0\2nn",
            b"I" + struct.pack("!I", BLOG) + b"N\0\3nnb\0\0\0\1x",
            b"I" + struct.pack("!I", BLOG) + b"N\0\3nnt\0\0\0\1\xff",
            bytes.fromhex(RECORDED[4][0]),  # a Commit without its Begin
        ],
    )
    def test_messages(self, message: bytes) -> None:
        """The error has the message's LSN, and no cause that would quote it."""
        with pytest.raises(MalformedMessage) as caught:
            after(RELATION).decode(message, AT)
        assert (caught.value.lsn, caught.value.__cause__, caught.value.__suppress_context__) == (
            AT,
            None,
            True,
        )

    @given(st.binary(), st.sampled_from([b"", *(bytes([kind]) for kind in b"BCRIUDTYO")]))
    def test_any_bytes(self, payload: bytes, kind: bytes) -> None:
        """No exception but MalformedMessage leaves the decoder."""
        decoder = after(RELATION)
        with suppress(MalformedMessage):
            decoder.decode(kind + payload, AT)

    def test_another_stream(self) -> None:
        """A decoder does not know what another stream has announced."""
        row = bytes.fromhex(RECORDED[3][0])
        assert after(RELATION).decode(row, AT)
        with pytest.raises(MalformedMessage):
            PgoutputDecoder([WHOLE]).decode(row, AT)


# -- Encode, then decode ------------------------------------------------------------------------------------

UNCHANGED = b"u"
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
values = (
    st.none()
    | st.just(UNCHANGED)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
)


class Column(NamedTuple):
    """A column of a made-up table: new and old value, and its part in the stream."""

    name: str
    new: str | bytes | None
    old: str | bytes | None
    in_key: bool
    wanted: bool


columns = st.lists(
    st.builds(Column, names, values, values, st.booleans(), st.booleans()),
    min_size=1,
    max_size=6,
    unique_by=lambda column: column.name,
)


def tuple_of(fields: Sequence[bytes]) -> bytes:
    """Encode a tuple; each field is its kind, then its text."""
    parts = [
        field[:1] + (struct.pack("!I", len(field) - 1) + field[1:] if field[:1] == b"t" else b"")
        for field in fields
    ]
    return struct.pack("!H", len(fields)) + b"".join(parts)


def field(value: str | bytes | None) -> bytes:
    """Encode one value for `tuple_of`."""
    if isinstance(value, bytes):
        return value
    return b"n" if value is None else b"t" + value.encode()


def relation_of(row: Iterable[Column]) -> bytes:
    """Announce a relation of these columns."""
    row = list(row)
    described = (
        bytes([column.in_key]) + column.name.encode() + b"\0" + struct.pack("!Ii", 25, -1) for column in row
    )
    return (
        b"R"
        + struct.pack("!I", BLOG)
        + b"public\0blog\0d"
        + struct.pack("!H", len(row))
        + b"".join(described)
    )


def image(values: Iterable[tuple[Column, str | bytes | None]]) -> dict[str, Text]:
    """Return what a row image has of these values."""
    return {column.name: value for column, value in values if column.wanted and not isinstance(value, bytes)}


@given(columns, st.sampled_from(["", "K", "O"]))
def test_update_round_trips(row: list[Column], old: str) -> None:
    """The new row and the old one, or its key, come out as they went in.

    What is unchanged or not wanted is left out.
    """
    wanted = table(*(column.name for column in row if column.wanted))
    key = [(column, column.old if column.in_key else None) for column in row]
    before = {"K": key, "O": [(column, column.old) for column in row], "": []}[old]
    message = b"U" + struct.pack("!I", BLOG)
    message += old.encode() + tuple_of([field(value) for _, value in before]) if old else b""
    message += b"N" + tuple_of([field(column.new) for column in row])
    identity = image(pair for pair in before if old == "O" or pair[0].in_key)
    assert after(relation_of(row), wanted=wanted).decode(message, AT) == Change(
        "update", AT, "public", "blog", image((column, column.new) for column in row), identity
    )


@given(columns)
def test_insert_and_delete_round_trip(row: list[Column]) -> None:
    """An insert has no old row, a delete no new one."""
    wanted = table(*(column.name for column in row if column.wanted))
    decoder = after(relation_of(row), wanted=wanted)
    new, old = (
        tuple_of([field(column.new) for column in row]),
        tuple_of([field(column.old) for column in row]),
    )
    head = struct.pack("!I", BLOG)
    assert decoder.decode(b"I" + head + b"N" + new, AT) == Change(
        "insert", AT, "public", "blog", image((column, column.new) for column in row), {}
    )
    assert decoder.decode(b"D" + head + b"O" + old, AT) == Change(
        "delete", AT, "public", "blog", {}, image((column, column.old) for column in row)
    )


@pytest.mark.parametrize(
    ("publication", "quoted"),
    [("walvec", '"walvec"'), ("My pub", '"My pub"'), ('a"b', '"a""b"'), ("a,b", '"a,b"'), ("o'x", '"o\'x"')],
)
def test_publication_is_an_identifier_within_the_value(publication: str, quoted: str) -> None:
    """The publication's case, commas and quotes are kept."""
    assert pgoutput_options(publication) == {"proto_version": "1", "publication_names": quoted}
