import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walvec.vectorizer.deparsed import Call, joined_columns, read_printed

STRINGS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).map(
    lambda text: "'" + text.replace("'", "''") + "'"
)
NAMES = st.one_of(
    st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).map(lambda name: (name, name)),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map(
        lambda name: (name, '"' + name.replace('"', '""') + '"')
    ),
)


@pytest.mark.parametrize(
    ("printed", "calls"),
    [
        ("now()", [("", "now", 0)]),
        ("f(1)", [("", "f", 1)]),
        ("f(1, g(2, h()), ARRAY[3, 4])", [("", "f", 3), ("", "g", 2), ("", "h", 0)]),
        ("f((1), (2, 3))", [("", "f", 2)]),
        ('app."Odd (n"(x)', [("app", "Odd (n", 1)]),
        ('"A""b".c(x)', [('A"b', "c", 1)]),
        ("((a)::numeric(10,2))::text", []),
        ("COALESCE(a, 'f(1)'::text)", []),
        ("'it''s now()'::text", []),
        ('"now()"', []),
        ("a.now", []),
        ("(x AT TIME ZONE 'f()'::text)", []),
    ],
)
def test_calls(printed: str, calls: list[tuple[str, str, int]]) -> None:
    """A function is a name directly followed by a parenthesis, outside of quotes."""
    assert read_printed([printed]).calls == {Call(*call) for call in calls}


@settings(deadline=None)
@given(name=NAMES, schema=NAMES, constants=st.lists(STRINGS, max_size=3))
def test_no_constant_hides_a_call(
    name: tuple[str, str], schema: tuple[str, str], constants: list[str]
) -> None:
    """A call is found whatever its constants hold, and none is found within them."""
    printed = f"{schema[1]}.{name[1]}({', '.join(constants)})"
    assert read_printed([printed]).calls == {Call(schema[0], name[0], len(constants))}


@settings(deadline=None)
@given(STRINGS)
def test_a_constant_says_nothing(constant: str) -> None:
    """Nothing within a constant is taken for syntax, a type or an operator."""
    reading = read_printed([constant])
    assert not reading.calls | reading.syntax | reading.types | reading.operators


@settings(deadline=None)
@given(column=NAMES, alias=NAMES)
def test_a_joined_column_is_found_by_any_name(column: tuple[str, str], alias: tuple[str, str]) -> None:
    """A column is found on either side of ||, whatever it and its table are called."""
    printed = f"{alias[1]}.{column[1]}"
    for expression in (f"({printed} || 'x'::text)", f"('x'::text || {printed})"):
        assert [each.name for each in joined_columns(expression, alias[0])] == [column[0]]
