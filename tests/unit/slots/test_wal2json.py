import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec_slots.changes import (
    LARGE_VALUE,
    Begin,
    Change,
    ChangeKind,
    Commit,
    Event,
    Message,
    StreamedColumn,
    StreamedTable,
    Text,
    Truncate,
)
from walvec_slots.errors import MalformedMessage
from walvec_slots.lsn import Lsn
from walvec_slots.wal2json import Wal2jsonDecoder, wal2json_options

AT = Lsn(0x16B374D848)

TEXT, BIGINT, BOOL, BYTEA, FLOAT8, NUMERIC = 25, 20, 16, 17, 701, 1700

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=63)
texts = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
images = st.dictionaries(names, texts, max_size=5)
lsns = st.integers(min_value=0, max_value=2**64 - 1).map(Lsn)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SCALARS = {str, type(None)}


def decoder(columns: dict[str, int], schema: str = "public", table: str = "t") -> Wal2jsonDecoder:
    """Return a decoder of one table; `columns` has the type's oid of each column."""
    wanted = tuple(StreamedColumn(name, type_oid, "…") for name, type_oid in columns.items())
    return Wal2jsonDecoder([StreamedTable(1, schema, table, wanted)])


def read(value: str, type_oid: int) -> Text:
    """Return the text that a column's value is decoded to."""
    event = decoder({"n": type_oid}).decode(row(value), AT)
    assert isinstance(event, Change)
    return event.columns["n"]


def dump(**fields: object) -> bytes:
    """Write a message as wal2json does, with a field of a later version."""
    return json.dumps({**fields, "later": {"version": 3}}, ensure_ascii=False).encode()


def columns(image: dict[str, Any]) -> list[dict[str, object]]:
    """Write a row image as wal2json does."""
    return [{"name": name, "value": value} for name, value in image.items()]


def row(number: str) -> bytes:
    """Write an insert into public.t with a number exactly as PostgreSQL has it."""
    return (
        b'{"action":"I","schema":"public","table":"t","columns":[{"name":"n","value":%s}]}' % number.encode()
    )


@given(st.integers(0, 2**32 - 1), lsns, lsns)
def test_transaction_borders_round_trip(xid: int, lsn: Lsn, next_lsn: Lsn) -> None:
    """B has xid, commit start and time; C has xid, commit start and commit end."""
    fields = {"xid": xid, "lsn": str(lsn), "nextlsn": str(next_lsn), "timestamp": "2000-01-01 00:00:01.5+00"}
    begin, commit = (decoder({}).decode(dump(action=action, **fields), AT) for action in "BC")
    assert (begin, commit) == (Begin(xid, lsn, 1_500_000), Commit(xid, lsn, next_lsn))
    assert (type(begin), type(commit)) == (Begin, Commit)


@pytest.mark.parametrize("text", ["0044-03-15 00:00:00+00 BC", "12026-01-01 00:00:00+00"])
def test_clock_outside_python_s_years_is_no_error(text: str) -> None:
    """A time outside Python's years is as far away as can be."""
    begin = decoder({}).decode(dump(action="B", xid=1, lsn="0/1", nextlsn="0/2", timestamp=text), AT)
    assert isinstance(begin, Begin)
    assert abs(begin.committed_at) > 2**62


@given(st.sampled_from([("I", "insert"), ("U", "update"), ("D", "delete")]), names, names, images, images)
def test_changes_round_trip(
    kind: tuple[str, ChangeKind], schema: str, table: str, new: dict[str, Text], old: dict[str, Text]
) -> None:
    """A change has its row images as they were.

    An insert has no old one, a delete no new one.
    """
    payload = dump(action=kind[0], schema=schema, table=table, columns=columns(new), identity=columns(old))
    new, old = ({} if kind[1] == "delete" else new), ({} if kind[1] == "insert" else old)
    read_by = decoder(dict.fromkeys((*new, *old), TEXT), schema, table)
    assert read_by.decode(payload, AT) == Change(kind[1], AT, schema, table, new, old)


def test_what_nobody_wants_is_left_out() -> None:
    """Neither unwanted columns come, nor changes and truncates of other tables."""
    some = decoder({"id": BIGINT})
    image = columns({"id": 1, "other": 1.5})
    inserts = [dump(action="I", schema="public", table=table, columns=image) for table in ("t", "x")]
    truncates = [dump(action="T", schema="public", table=table) for table in ("t", "x")]
    assert [some.decode(message, AT) for message in (*inserts, *truncates)] == [
        Change("insert", AT, "public", "t", {"id": "1"}, {}),
        None,
        Truncate(AT, (("public", "t"),)),
        None,
    ]


@given(st.booleans(), st.text(st.characters(exclude_categories=["Cs"])))
def test_messages_round_trip(transactional: bool, content: str) -> None:  # noqa: FBT001
    """M has prefix and content; outside a transaction its xid is null."""
    payload = dump(action="M", xid=None, transactional=transactional, prefix="walvec", content=content)
    assert decoder({}).decode(payload, AT) == Message(AT, transactional, "walvec", content)


def test_message_bytes_that_are_no_text_are_replaced() -> None:
    """Another program's binary message does not stop the stream."""
    payload = b'{"action":"M","transactional":false,"prefix":"other","content":"a\xff"}'
    assert decoder({}).decode(payload, AT) == Message(
        AT, transactional=False, prefix="other", content="a\ufffd"
    )


def test_row_bytes_that_are_no_text_are_refused() -> None:
    """A row in another encoding is refused, not guessed at."""
    with pytest.raises(MalformedMessage):
        decoder({"n": TEXT}).decode(row('"\xe9"').decode().encode("latin-1"), AT)


@pytest.mark.parametrize("around", ["", '\\"value\\":\\"x\\"', "\\\\"], ids=["plain", "quotes", "backslash"])
def test_long_value_is_left_out_as_unchanged_toast_is(around: str) -> None:
    """A long value is left out, whatever it holds; the columns beside it are whole."""
    long = around + "x" * LARGE_VALUE + around
    payload = (
        '{"action":"I","schema":"public","table":"blog","columns":[{"name":"id","value":1},'
        f'{{"name":"body","value":"{long}"}},{{"name":"title","value":"{around}"}}]}}'
    ).encode()
    blog = decoder({"id": BIGINT, "body": TEXT, "title": TEXT}, table="blog")
    change = blog.decode(memoryview(payload), AT)
    assert change == Change(
        "insert", AT, "public", "blog", {"id": "1", "title": json.loads(f'"{around}"')}, {}
    )


def test_update_may_lack_its_identity() -> None:
    """An update without identity is read by its columns (wal2json#283)."""
    payload = dump(action="U", schema="public", table="t", columns=columns({"id": 1}))
    assert decoder({"id": BIGINT}).decode(payload, AT) == Change("update", AT, "public", "t", {"id": "1"}, {})


@pytest.mark.parametrize(
    ("value", "type_oid", "text"),
    [
        ("1.50", NUMERIC, "1.50"),
        ("1e400", NUMERIC, "1e400"),
        ("12345678901234567890123", NUMERIC, "12345678901234567890123"),
        ("-9223372036854775809", NUMERIC, "-9223372036854775809"),
        ("0.1000000000000000000000000001", NUMERIC, "0.1000000000000000000000000001"),
        ("1" + "0" * 400, NUMERIC, "1" + "0" * 400),
        ("-0", FLOAT8, "-0"),
        ("1e+22", FLOAT8, "1e+22"),
        ("9223372036854775807", BIGINT, "9223372036854775807"),
        ("7", BIGINT, "7"),
        ("true", BOOL, "t"),
        ("false", BOOL, "f"),
        ('"00ff"', BYTEA, r"\x00ff"),
        ('""', BYTEA, "\\x"),
        ('"00ff"', TEXT, "00ff"),
        ("null", BYTEA, None),
        ("null", BIGINT, None),
    ],
)
def test_values_are_what_postgresql_prints(value: str, type_oid: int, text: Text) -> None:
    """Scale, digits and range survive where a float or 64 bits would lose them."""
    assert read(value, type_oid) == text


@pytest.mark.parametrize("kind", ["U", "D"])
def test_numbers_of_the_old_row_keep_their_digits(kind: str) -> None:
    """A numeric in the old row has the text that it had, not a float's."""
    old = '[{"name":"id","value":1.50}]'
    payload = (
        f'{{"action":"{kind}","schema":"public","table":"t",'
        f'"columns":[{{"name":"id","value":7}}],"identity":{old}}}'
    )
    event = decoder({"id": NUMERIC}).decode(payload.encode(), AT)
    assert isinstance(event, Change)
    assert event.identity == {"id": "1.50"}


@pytest.mark.parametrize("text", ["1", "1.50", "NaN", "-Infinity"])
def test_numbers_as_text(text: str) -> None:
    """Numbers that wal2json 2.6 quotes are kept exactly."""
    assert read(f'"{text}"', NUMERIC) == text


@given(
    st.decimals(allow_nan=False, allow_infinity=False).map("{:f}".format).filter(lambda text: text != "-0")
)
def test_any_decimal_survives(number: str) -> None:
    """Any numeric comes out as the text that went in."""
    assert read(number, NUMERIC) == number


@pytest.mark.parametrize(
    ("type_name", "unclear"),
    [("numeric", ("NaN", "Infinity", "-Infinity")), ("numeric(10,2)", ("NaN",))],
)
def test_null_of_a_number_is_left_out(type_name: str, unclear: tuple[str, ...]) -> None:
    """A number's null is left out, because it may stand for what JSON cannot say.

    That holds for the old row and the new one; a domain's null is a NULL.
    """
    wanted = (StreamedColumn("n", NUMERIC, type_name), StreamedColumn("d", 12345, "price"))
    image = columns({"n": None, "d": None})
    payload = dump(action="U", schema="public", table="t", columns=image, identity=image)
    change = Wal2jsonDecoder([StreamedTable(1, "public", "t", wanted)]).decode(payload, AT)
    assert change == Change("update", AT, "public", "t", {"d": None}, {"d": None}, {"n": unclear})


def outcome(payload: bytes) -> Event | MalformedMessage | None:
    """Decode, and return what MalformedMessage is raised."""
    try:
        return decoder({"n": NUMERIC}).decode(payload, AT)
    except MalformedMessage as error:
        return error


@given(st.binary())
def test_any_bytes_decode_or_are_malformed(payload: bytes) -> None:
    """Any bytes raise MalformedMessage with the frame's LSN, and nothing else."""
    assert getattr(outcome(payload), "lsn", None) == AT


@given(json_values)
def test_any_json_decodes_or_is_malformed(value: object) -> None:
    """JSON that is not a message is malformed too."""
    assert isinstance(outcome(json.dumps(value).encode()), MalformedMessage)


# A message in which every action finds the fields it wants, in the types that it wants.
WELL = {
    "xid": 7,
    "timestamp": "2026-01-01 00:00:00+00",
    "lsn": "16/B374D848",
    "nextlsn": "16/B374D878",
    "schema": "public",
    "table": "t",
    "columns": [{"name": "n", "value": 1}],
    "identity": [{"name": "n", "value": 1}],
    "prefix": "walvec",
    "transactional": True,
    "content": "x",
}
rows = st.lists(
    st.fixed_dictionaries({"name": st.just("n") | names | json_values, "value": json_values}), max_size=2
)
spoils = st.dictionaries(st.sampled_from(list(WELL)), json_values, max_size=2) | st.fixed_dictionaries(
    {}, optional={"columns": rows, "identity": rows}
)


def is_well_typed(field: object) -> bool:
    """Whether an event's field is a scalar or a row of scalars, as its class declares."""
    if isinstance(field, dict):
        return {type(name) for name in field} <= {str} and {*map(type, field.values())} <= {*SCALARS, tuple}
    if isinstance(field, tuple):
        return all({type(name) for name in table} == {str} for table in field)
    return type(field) in {int, str, bool, Lsn}


@given(
    st.sampled_from(["B", "C", "I", "U", "D", "T", "M"]),
    spoils,
    st.sets(st.sampled_from(list(WELL)), max_size=1),
)
def test_any_fields_decode_or_are_malformed(
    action: str, spoiled: dict[str, object], missing: set[str]
) -> None:
    """Wrong types and missing fields never get through as values."""
    fields = {name: value for name, value in {**WELL, **spoiled}.items() if name not in missing}
    event = outcome(json.dumps({"action": action, **fields}).encode())
    assert event is None or isinstance(event, MalformedMessage) or all(map(is_well_typed, event))
    if not spoiled and not missing:
        assert not isinstance(event, MalformedMessage)


@pytest.mark.parametrize(
    ("action", "field", "wrong"),
    [
        ("B", "xid", "7"),
        ("B", "xid", True),
        ("C", "nextlsn", 7),
        ("B", "timestamp", None),
        ("I", "schema", 7),
        ("T", "table", None),
        ("M", "content", ["x"]),
        ("M", "prefix", None),
        ("I", "columns", [{"name": "n", "value": [1]}]),
        ("U", "identity", [{"name": "n", "value": {"a": 1}}]),
        ("D", "identity", [{"name": "n"}]),
        ("D", "identity", 7),
    ],
)
def test_field_of_another_type_is_malformed(action: str, field: str, wrong: object) -> None:
    """One field of a wrong type makes a message malformed."""
    payload = json.dumps({"action": action, **WELL, field: wrong}).encode()
    assert isinstance(outcome(payload), MalformedMessage)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 100_000,
        b'{"action":"I"}',
        b"null",
        b'"B"',
        row("NaN"),
        row("Infinity"),
        row("1e400,"),
        row('"\\ud800"'),
    ],
)
def test_malformed_messages_are_not_quoted(payload: bytes) -> None:
    """The error has the message's LSN, and nothing of its content."""
    with pytest.raises(MalformedMessage) as caught:
        decoder({"n": TEXT}).decode(payload, AT)
    assert (str(caught.value), caught.value.__cause__, caught.value.__suppress_context__) == (
        "The message at 16/B374D848 is not one of wal2json's format 2",
        None,
        True,
    )


def test_options_escape_what_add_tables_takes_for_its_own() -> None:
    """White space, quotes, commas, dots, stars and backslashes are escaped."""
    options = wal2json_options([("public", "blog"), ("My schema", "a.b,c*d\\e'f\"g\th")])
    assert options["add-tables"] == "public.blog,My\\ schema.a\\.b\\,c\\*d\\\\e\\'f\\\"g\\\th"


def test_no_tables_means_no_rows() -> None:
    """The option is sent even when empty: without it, every table would come."""
    assert wal2json_options([])["add-tables"] == ""
