import pytest
from psycopg import sql

from walvec.database import keys
from walvec_slots.relation import Column, KeyOperators

ID = Column("id", 1, 0, "", 20, 20, "bigint", not_null=True, generated=False, base_type_name="bigint")
ODD = Column(
    'a "b" 100%',
    2,
    0,
    "",
    25,
    25,
    'public."my %type"',
    not_null=True,
    generated=False,
    base_type_name='public."my %type"',
)
CITEXT = Column(
    "slug",
    3,
    100,
    "",
    16400,
    16400,
    "e.citext",
    not_null=True,
    generated=False,
    base_type_name="e.citext",
    operators=KeyOperators("OPERATOR(e.=)", "OPERATOR(e.>)", "OPERATOR(e.>=)", "OPERATOR(e.<)"),
)
KEY = (ID, ODD)


@pytest.mark.parametrize(
    ("composed", "text"),
    [
        (keys.columns(KEY, "t"), '"t"."id", "t"."a ""b"" 100%%"'),
        (keys.names(KEY), '"k0", "k1"'),
        (keys.arrays(KEY), "%(k0)s::pg_catalog.text[], %(k1)s::pg_catalog.text[]"),
        (keys.arrays(KEY, "g"), "%(g0)s::pg_catalog.text[], %(g1)s::pg_catalog.text[]"),
        (
            keys.follows(KEY, "t"),
            (
                '("t"."id", "t"."a ""b"" 100%%") OPERATOR(pg_catalog.>) '
                '(%(k0)s::pg_catalog.text::bigint, %(k1)s::pg_catalog.text::public."my %%type")'
            ),
        ),
        (
            keys.follows((ID, CITEXT), "t"),
            (
                '("t"."id" OPERATOR(pg_catalog.>=) %(k0)s::pg_catalog.text::bigint AND '
                '("t"."id" OPERATOR(pg_catalog.>) %(k0)s::pg_catalog.text::bigint OR '
                '"t"."id" OPERATOR(pg_catalog.=) %(k0)s::pg_catalog.text::bigint AND '
                '"t"."slug" OPERATOR(e.>) %(k1)s::pg_catalog.text::e.citext))'
            ),
        ),
        (
            keys.order((ID, CITEXT), "t"),
            '"t"."id" USING OPERATOR(pg_catalog.<), "t"."slug" USING OPERATOR(e.<)',
        ),
        (
            keys.unnested(KEY),
            (
                "ROWS FROM (pg_catalog.unnest(%(k0)s::pg_catalog.text[]), "
                "pg_catalog.unnest(%(k1)s::pg_catalog.text[]))"
            ),
        ),
        (keys.order((ID,)), '"k0" USING OPERATOR(pg_catalog.<)'),
        (keys.casts(KEY, "s"), '"s"."k0"::bigint, "s"."k1"::public."my %%type"'),
        (
            keys.equal(KEY, "t", "s"),
            (
                '"t"."id" OPERATOR(pg_catalog.=) "s"."k0"::bigint AND '
                '"t"."a ""b"" 100%%" OPERATOR(pg_catalog.=) "s"."k1"::public."my %%type"'
            ),
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
    """One key's parts under the names that `follows` gives them."""
    assert keys.parameter(("1", "a")) == {"k0": "1", "k1": "a"}
