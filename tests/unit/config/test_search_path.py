import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec.config.search_path import schemas, search_path, spell_path


@pytest.mark.parametrize(
    ("text", "names", "path"),
    [
        ("pg_catalog", ["pg_catalog"], "pg_catalog, pg_temp"),
        ("public", ["public"], 'pg_catalog, "public", pg_temp'),
        ("pg_catalog,public", ["pg_catalog", "public"], 'pg_catalog, "public", pg_temp'),
        (' App , "My ""own"", x" ', ["app", 'My "own", x'], 'pg_catalog, "app", "My ""own"", x", pg_temp'),
        ("pg_temp, app", ["pg_temp", "app"], 'pg_catalog, "app", pg_temp'),
    ],
)
def test_a_path_has_postgresql_s_own_names_first_and_temporary_ones_last(
    text: str, names: list[str], path: str
) -> None:
    """Bare names are folded to lower case, and nothing comes before pg_catalog."""
    assert (schemas(text), search_path(text)) == (names, path)


@pytest.mark.parametrize(
    "text", ["", " ", "a b", "a,,b", '"', '"a" b', "a;b,", "public, pg_catalog", 'a, "pg_catalog"']
)
def test_what_is_no_path_is_refused(text: str) -> None:
    """A list that does not parse is refused, and one that puts others' names first."""
    with pytest.raises(ValueError, match=r"is not a list|must begin"):
        schemas(text)


@given(st.lists(st.text(min_size=1).filter(lambda name: name not in ("pg_catalog", "pg_temp"))))
def test_any_names_can_be_spelt(names: list[str]) -> None:
    """The path that init writes is read as the same schemas."""
    assert schemas(spell_path(names)) == ["pg_catalog", *names]
