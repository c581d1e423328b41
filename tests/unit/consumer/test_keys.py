import pytest
from psycopg import sql

from consumer import keys
from slots.relation import Column

ID = Column("id", 1, 0, "", 20, 20, "bigint", not_null=True, generated=False)
ODD = Column('a "b" 100%', 2, 0, "", 25, 25, 'public."my %type"', not_null=True, generated=False)
KEY = (ID, ODD)


@pytest.mark.parametrize(
    ("composed", "text"),
    [
        (keys.columns(KEY, "t"), '"t"."id", "t"."a ""b"" 100%%"'),
        (keys.names(KEY), '"k0", "k1"'),
        (keys.arrays(KEY), "%(k0)s::text[], %(k1)s::text[]"),
        (keys.arrays(KEY, "g"), "%(g0)s::text[], %(g1)s::text[]"),
        (keys.values(KEY), '%(k0)s::text::bigint, %(k1)s::text::public."my %%type"'),
        (keys.casts(KEY, "s"), '"s"."k0"::bigint, "s"."k1"::public."my %%type"'),
        (
            keys.equal(KEY, "t", "s"),
            '("t"."id", "t"."a ""b"" 100%%") = ("s"."k0"::bigint, "s"."k1"::public."my %%type")',
        ),
        (keys.identifier("a.b", "c%d"), '"a.b"."c%%d"'),
    ],
)
def test_sql(composed: sql.Composable, text: str) -> None:
    """Names are quoted, and percent signs doubled, since a statement with keys has parameters."""
    assert composed.as_string() == text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([("1", "a"), ("2", "b")], {"k0": ["1", "2"], "k1": ["a", "b"]}),
        ([], {"k0": [], "k1": []}),
    ],
)
def test_parameters(given: list[tuple[str, ...]], expected: dict[str, list[str]]) -> None:
    """One list a key column, all equally long."""
    assert keys.parameters(given, KEY) == expected


def test_parameter() -> None:
    """One key's parts under the names that `values` gives them."""
    assert keys.parameter(("1", "a")) == {"k0": "1", "k1": "a"}
