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
        (keys.key_columns(KEY, "t"), '"t"."id", "t"."a ""b"" 100%%"'),
        (keys.key_names(KEY), '"k0", "k1"'),
        (keys.key_arrays(KEY), "%(k0)s::pg_catalog.text[], %(k1)s::pg_catalog.text[]"),
        (keys.key_arrays(KEY, "g"), "%(g0)s::pg_catalog.text[], %(g1)s::pg_catalog.text[]"),
        (
            keys.key_follows(KEY, "t"),
            (
                '("t"."id", "t"."a ""b"" 100%%") OPERATOR(pg_catalog.>) '
                '(%(k0)s::pg_catalog.text::bigint, %(k1)s::pg_catalog.text::public."my %%type")'
            ),
        ),
        (
            keys.key_follows((ID, CITEXT), "t"),
            (
                '("t"."id" OPERATOR(pg_catalog.>=) %(k0)s::pg_catalog.text::bigint AND '
                '("t"."id" OPERATOR(pg_catalog.>) %(k0)s::pg_catalog.text::bigint OR '
                '"t"."id" OPERATOR(pg_catalog.=) %(k0)s::pg_catalog.text::bigint AND '
                '"t"."slug" OPERATOR(e.>) %(k1)s::pg_catalog.text::e.citext))'
            ),
        ),
        (
            keys.key_order((ID, CITEXT), "t"),
            '"t"."id" USING OPERATOR(pg_catalog.<), "t"."slug" USING OPERATOR(e.<)',
        ),
        (
            keys.unnest_keys(KEY),
            (
                "ROWS FROM (pg_catalog.unnest(%(k0)s::pg_catalog.text[]), "
                "pg_catalog.unnest(%(k1)s::pg_catalog.text[]))"
            ),
        ),
        (keys.key_order((ID,)), '"k0" USING OPERATOR(pg_catalog.<)'),
        (keys.cast_keys(KEY, "s"), '"s"."k0"::bigint, "s"."k1"::public."my %%type"'),
        (
            keys.key_equals(KEY, "t", "s"),
            (
                '"t"."id" OPERATOR(pg_catalog.=) "s"."k0"::bigint AND '
                '"t"."a ""b"" 100%%" OPERATOR(pg_catalog.=) "s"."k1"::public."my %%type"'
            ),
        ),
        (keys.identifier("a.b", "c%d"), '"a.b"."c%%d"'),
    ],
)
def test_sql(composed: sql.Composable, text: str) -> None:
    """Names are quoted and percent signs doubled, for statements with parameters."""
    assert composed.as_string() == text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([("1", "a"), ("2", "b")], {"k0": ["1", "2"], "k1": ["a", "b"]}),
        ([], {"k0": [], "k1": []}),
    ],
)
def test_array_parameters(given: list[tuple[str, ...]], expected: dict[str, list[str]]) -> None:
    """There is one list for each key column, and all are equally long."""
    assert keys.array_parameters(given, KEY) == expected


def test_key_parameters() -> None:
    """One key's parts get the names that `key_follows` gives them."""
    assert keys.key_parameters(("1", "a")) == {"k0": "1", "k1": "a"}
