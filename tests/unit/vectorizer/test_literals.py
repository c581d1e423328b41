import pytest

from walvec.vectorizer.literals import find_literals, point_out, without_clock


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("body", []),
        ("'a' || 'it''s'", ["'a'", "'it''s'"]),
        (r"E'it\'s' || 'b'", [r"E'it\'s'", "'b'"]),
        (r"e'\\' || 'b'", [r"e'\\'", "'b'"]),
        (r"'\' || 'b'", [r"'\'", "'b'"]),
        ("U&'to\\0064ay'", ["U&'to\\0064ay'"]),
        ("U&'to!0064ay' UESCAPE '!'", ["U&'to!0064ay' UESCAPE '!'"]),
        ("$$it's$$ || $x$ $$ $x$", ["$$it's$$", "$x$ $$ $x$"]),
        ("'to'\n 'day'", ["'to'\n 'day'"]),
        ("'a' 'b'", ["'a'", "'b'"]),
        ("\"it's\" || 'b'", ["'b'"]),
        ("-- it's\n'b'", ["'b'"]),
        ("/* it's */ 'b'", ["'b'"]),
        ("date'today'", ["'today'"]),
        ("name'today'", ["'today'"]),
        ("a$1$b || 'c'", ["'c'"]),
    ],
)
def test_constants(written: str, found: list[str]) -> None:
    """Constants are found however they are quoted, but not in comments and names."""
    assert [written[begin:end] for begin, end in find_literals(written)] == found


@pytest.mark.parametrize("value", ["now", "NOW", " today ", "{today,now}", "[tomorrow,)", "yesterday 04:05"])
def test_a_word_of_the_clock_is_replaced(value: str) -> None:
    """A word such as today is replaced by one that no date has."""
    assert "walvec" in (without_clock(value) or "")


@pytest.mark.parametrize("value", ["", "2020-01-01", "nowhere", "snow", "epoch", "infinity", "allballs"])
def test_other_words_stay(value: str) -> None:
    """A constant that means the same at any time is left alone."""
    assert without_clock(value) is None


@pytest.mark.parametrize(
    ("position", "shown"),
    [
        (-1, "wrong"),
        (0, "wrong\n    ab\n    ^"),
        (1, "wrong\n    ab\n     ^"),
        (3, "wrong\n    cd\n    ^"),
        (99, "wrong\n    cd\n      ^"),
    ],
)
def test_the_mark_stands_under_the_place(position: int, shown: str) -> None:
    """A mark stands under the place in its line, or at the end for what lies past it."""
    assert point_out("wrong", "ab\ncd", position) == shown
