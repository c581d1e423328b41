import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slots.errors import MalformedMessage
from slots.lsn import Lsn
from slots.wal2json import (
    LONG,
    Begin,
    Change,
    Commit,
    Decoder,
    Event,
    Kind,
    Message,
    Truncate,
    Value,
    wal2json_options,
)

AT = Lsn(0x16B374D848)

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=63)
values: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
images = st.dictionaries(names, values, max_size=5)
lsns = st.integers(min_value=0, max_value=2**64 - 1).map(Lsn)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SCALARS = {str, int, float, bool, type(None)}


def dump(**fields: object) -> bytes:
    """Write a message as wal2json does, with a field of some later version."""
    return json.dumps({**fields, "later": {"version": 3}}, ensure_ascii=False).encode()


def columns(image: dict[str, Any]) -> list[dict[str, object]]:
    """Write a row image as wal2json does."""
    return [{"name": name, "value": value} for name, value in image.items()]


def row(number: str) -> bytes:
    """Write an insert into public.t with a number exactly as PostgreSQL's text has it."""
    return (
        b'{"action":"I","schema":"public","table":"t","columns":[{"name":"n","value":%s}]}' % number.encode()
    )


@given(st.sampled_from([("B", Begin), ("C", Commit)]), st.integers(0, 2**32 - 1), lsns, lsns)
def test_transaction_borders_round_trip(
    kind: tuple[str, type[Begin] | type[Commit]], xid: int, lsn: Lsn, next_lsn: Lsn
) -> None:
    """B and C give xid, commit start, commit end and time."""
    payload = dump(
        action=kind[0], xid=xid, lsn=str(lsn), nextlsn=str(next_lsn), timestamp="2026-01-01 00:00:00+00"
    )
    event = Decoder().decode(payload, AT)
    assert (type(event), event) == (kind[1], kind[1](xid, lsn, next_lsn, "2026-01-01 00:00:00+00"))


@given(st.sampled_from([("I", "insert"), ("U", "update"), ("D", "delete")]), names, names, images, images)
def test_changes_round_trip(
    kind: tuple[str, Kind], schema: str, table: str, new: dict[str, Value], old: dict[str, Value]
) -> None:
    """A change gives its row images as they were; an insert has no old one, a delete no new one."""
    payload = dump(action=kind[0], schema=schema, table=table, columns=columns(new), identity=columns(old))
    new, old = ({} if kind[1] == "delete" else new), ({} if kind[1] == "insert" else old)
    assert Decoder().decode(payload, AT) == Change(kind[1], AT, schema, table, new, old)


@given(names, names)
def test_truncates_round_trip(schema: str, table: str) -> None:
    """T names the table."""
    assert Decoder().decode(dump(action="T", schema=schema, table=table), AT) == Truncate(AT, schema, table)


@given(st.booleans(), st.text(st.characters(exclude_categories=["Cs"])))
def test_messages_round_trip(transactional: bool, content: str) -> None:  # noqa: FBT001
    """M gives prefix and content; outside a transaction its xid is null."""
    payload = dump(action="M", xid=None, transactional=transactional, prefix="walvec", content=content)
    assert Decoder().decode(payload, AT) == Message(AT, transactional, "walvec", content)


def test_message_bytes_that_are_no_text_are_replaced() -> None:
    """Another program's binary message does not stop the stream."""
    payload = b'{"action":"M","transactional":false,"prefix":"other","content":"a\xff"}'
    assert Decoder().decode(payload, AT) == Message(
        AT, transactional=False, prefix="other", content="a\ufffd"
    )


def test_row_bytes_that_are_no_text_are_refused() -> None:
    """A database in another encoding is noticed, not guessed at."""
    with pytest.raises(MalformedMessage):
        Decoder().decode(row('"\xe9"').decode().encode("latin-1"), AT)


@pytest.mark.parametrize("around", ["", '\\"value\\":\\"x\\"', "\\\\"], ids=["plain", "quotes", "backslash"])
def test_long_value_is_left_out_as_unchanged_toast_is(around: str) -> None:
    """Whatever it holds, and only it: the columns around it are whole."""
    long = around + "x" * LONG + around
    payload = (
        '{"action":"I","schema":"public","table":"blog","columns":[{"name":"id","value":1},'
        f'{{"name":"body","value":"{long}"}},{{"name":"title","value":"{around}"}}]}}'
    ).encode()
    change = Decoder().decode(memoryview(payload), AT)
    assert change == Change("insert", AT, "public", "blog", {"id": 1, "title": json.loads(f'"{around}"')}, {})


def test_update_may_lack_its_identity() -> None:
    """wal2json#283: the key is then in the columns."""
    payload = dump(action="U", schema="public", table="t", columns=columns({"id": 1}))
    assert Decoder().decode(payload, AT) == Change("update", AT, "public", "t", {"id": 1}, {})


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("1.50", "1.50"),
        ("1e400", "1e400"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("0.1000000000000000000000000001", "0.1000000000000000000000000001"),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("7", 7),
    ],
)
def test_exact_tables_keep_their_numbers(number: str, value: Value) -> None:
    """Scale, digits and range of numeric survive where a float or 64 bits would not hold them."""
    event = Decoder([("public", "t")]).decode(row(number), AT)
    assert event == Change("insert", AT, "public", "t", {"n": value}, {})


@given(
    st.decimals(allow_nan=False, allow_infinity=False).map("{:f}".format).filter(lambda text: text != "-0")
)
def test_exact_tables_keep_any_decimal(number: str) -> None:
    """Whatever numeric holds comes out as the text that went in."""
    event = Decoder([("public", "t")]).decode(row(number), AT)
    assert isinstance(event, Change)
    assert str(event.columns["n"]) == number


@pytest.mark.parametrize("kind", ["U", "D"])
def test_exact_tables_keep_the_numbers_of_the_old_row(kind: str) -> None:
    """A key whose old value is a numeric is looked up by the text it had, not by a float's."""
    old = '[{"name":"id","value":1.50}]'
    payload = (
        f'{{"action":"{kind}","schema":"public","table":"t",'
        f'"columns":[{{"name":"id","value":7}}],"identity":{old}}}'
    )
    event = Decoder([("public", "t")]).decode(payload.encode(), AT)
    assert isinstance(event, Change)
    assert event.identity == {"id": "1.50"}


def test_number_beyond_every_float_is_read_whatever_the_table() -> None:
    """Where orjson refuses the message, the number arrives as text."""
    assert Decoder().decode(row("1" + "0" * 400), AT) == Change(
        "insert", AT, "public", "t", {"n": "1" + "0" * 400}, {}
    )


def test_other_tables_are_parsed_once() -> None:
    """A table that is not exact gets floats, which hold real and double precision exactly."""
    assert Decoder([("public", "other")]).decode(row("1.50"), AT) == Change(
        "insert", AT, "public", "t", {"n": 1.5}, {}
    )


def outcome(payload: bytes) -> Event | MalformedMessage:
    """Decode, with what may be raised as the result."""
    try:
        return Decoder([("public", "t")]).decode(payload, AT)
    except MalformedMessage as error:
        return error


@given(st.binary())
def test_any_bytes_decode_or_are_malformed(payload: bytes) -> None:
    """No other exception leaves the decoder, and the error names the frame's LSN."""
    assert getattr(outcome(payload), "lsn", None) == AT


@given(json_values)
def test_any_json_decodes_or_is_malformed(value: object) -> None:
    """The same for what is JSON and no message."""
    assert isinstance(outcome(json.dumps(value).encode()), MalformedMessage)


# A message in which every action finds the fields it wants, in the types that it wants.
WELL = {
    "xid": 7,
    "timestamp": "2026-01-01 00:00:00+00",
    "lsn": "16/B374D848",
    "nextlsn": "16/B374D878",
    "schema": "public",
    "table": "t",
    "columns": [{"name": "id", "value": 1}],
    "identity": [{"name": "id", "value": 1}],
    "prefix": "walvec",
    "transactional": True,
    "content": "x",
}
rows = st.lists(st.fixed_dictionaries({"name": names | json_values, "value": json_values}), max_size=2)
spoils = st.dictionaries(st.sampled_from(list(WELL)), json_values, max_size=2) | st.fixed_dictionaries(
    {}, optional={"columns": rows, "identity": rows}
)


def is_well_typed(field: object) -> bool:
    """Whether an event's field is a scalar or a row of scalars, as its class declares."""
    if isinstance(field, dict):
        return {type(name) for name in field} <= {str} and {*map(type, field.values())} <= SCALARS
    return type(field) in {int, str, bool, Lsn}


@given(
    st.sampled_from(["B", "C", "I", "U", "D", "T", "M"]),
    spoils,
    st.sets(st.sampled_from(list(WELL)), max_size=1),
)
def test_any_fields_decode_or_are_malformed(
    action: str, spoiled: dict[str, object], missing: set[str]
) -> None:
    """Of what is nearly a message, wrong types and missing fields never get through as values."""
    fields = {name: value for name, value in {**WELL, **spoiled}.items() if name not in missing}
    event = outcome(json.dumps({"action": action, **fields}).encode())
    assert isinstance(event, MalformedMessage) or all(map(is_well_typed, event))
    if not spoiled and not missing:
        assert not isinstance(event, MalformedMessage)


@pytest.mark.parametrize(
    ("action", "field", "wrong"),
    [
        ("B", "xid", "7"),
        ("B", "xid", True),
        ("C", "nextlsn", 7),
        ("C", "timestamp", None),
        ("I", "schema", 7),
        ("T", "table", None),
        ("M", "content", ["x"]),
        ("M", "prefix", None),
        ("I", "columns", [{"name": 7, "value": 1}]),
        ("I", "columns", [{"name": "id", "value": [1]}]),
        ("U", "identity", [{"name": "id", "value": {"a": 1}}]),
        ("D", "identity", [{"name": "id"}]),
        ("D", "identity", 7),
    ],
)
def test_field_of_another_type_is_malformed(action: str, field: str, wrong: object) -> None:
    """One wrong field is enough."""
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
    """What is wrong may be somebody's text, so the error says where it stood and nothing of it."""
    with pytest.raises(MalformedMessage) as caught:
        Decoder().decode(payload, AT)
    assert (str(caught.value), caught.value.__cause__, caught.value.__suppress_context__) == (
        "the message at 16/B374D848 is none of wal2json's format 2",
        None,
        True,
    )


def test_options_escape_what_add_tables_takes_for_its_own() -> None:
    """White space, quotes, commas, dots, stars and backslashes are part of a name when escaped."""
    options = wal2json_options([("public", "blog"), ("My schema", "a.b,c*d\\e'f\"g\th")])
    assert options["add-tables"] == "public.blog,My\\ schema.a\\.b\\,c\\*d\\\\e\\'f\\\"g\\\th"


def test_no_tables_means_no_rows() -> None:
    """The option stands even when empty: without it wal2json would send every table."""
    assert wal2json_options([])["add-tables"] == ""
